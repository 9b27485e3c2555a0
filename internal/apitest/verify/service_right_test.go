package verify_test

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// serviceRight cannot fail, whatever the data.
var serviceRight = []service{
	// Foreign keys and joins.
	sq[e, s2]("left join over a NOT NULL key", `select i.number as a, o.name as b from billing.invoices i left join orgs o on o.id = i.org_id`, none),
	sq[e, s2]("left join over a composite key", `select m.role as a, c.body as b from comments c join members m using (org_id, person_id)`, none),
	sq[e, str]("left join over two keys in a row", `select o.name as s from billing.lines l left join billing.invoices i on i.id = l.invoice_id left join orgs o on o.id = i.org_id`, none),
	sq[e, str]("right join over a NOT NULL key", `select o.name as s from orgs o right join billing.invoices i on i.org_id = o.id`, none),
	sq[e, str]("left join using", `select o.slug as s from members m left join (select id as org_id, slug from orgs) o using (org_id)`, none),
	sq[e, str]("left join of a nullable key that is there", `select p.email as s from billing.invoices i left join people p on p.id = i.created_by where i.created_by is not null`, none),
	sq[e, str]("left join with a condition on its table", `select p.email as s from billing.invoices i left join people p on p.id = i.created_by where p.locale = 'en'`, none),
	sq[e, s2]("left join of a left join that must be", `select o.slug as a, p.email as b from orgs o left join members m on m.org_id = o.id left join people p on p.id = m.person_id where p.id > 0`, none),
	sq[e, n64]("natural join", `select org_id as n from members natural join (select id as org_id from orgs) o`, none),
	sq[e, n64]("natural full join of keys", `select org_id as n from (select org_id from members) a natural full join (select org_id from billing.invoices) b`, none),
	sq[e, n64]("full join with coalesce", `select coalesce(a.org_id, b.org_id) as n from members a full join billing.invoices b on a.org_id = b.org_id`, none),
	sq[e, n64]("left join with coalesce of zero", `select coalesce(t.total, 0) as n from orgs o left join org_totals t on t.org_id = o.id`, none),
	sq[e, s2]("self join of a parent", `select c.name as a, p.name as b from orgs c join orgs p on p.id = c.parent_id`, none),
	sq[e, str]("anti join", `select o.slug as s from orgs o left join members m on m.org_id = o.id where m.org_id is null`, none),
	sq[e, sn]("left lateral of an aggregate", `select o.slug as s, c.n from orgs o left join lateral (select count(*) as n from members m where m.org_id = o.id) c on true`, none),
	sq[e, sn]("cross join lateral of values", `select o.slug as s, v.n from orgs o cross join lateral (values (o.id), (coalesce(o.parent_id, 0))) v(n)`, none),
	sq[e, s2]("join of a view with an outer join", `select s.slug as a, s.role as b from seats s where s.person_id is not null`, none),
	sq[e, n64]("join of the nullable keys", `select a.manager_id as n from people a join people b on a.manager_id = b.manager_id`, none),
	// Conditions.
	sq[e, n64]("is distinct from null", `select parent_id as n from orgs where parent_id is distinct from null`, none),
	sq[n64, n64]("is not distinct from a value", `select parent_id as n from orgs where parent_id is not distinct from @n`, n64{1}),
	sq[e, n64]("in a subquery", `select created_by as n from billing.invoices where created_by in (select id from people)`, none),
	sq[e, n64]("not in a list", `select created_by as n from billing.invoices where created_by not in (7, 8)`, none),
	sq[e, n64]("correlated exists", `select i.created_by as n from billing.invoices i where exists (select 1 from people p where p.id = i.created_by and p.locale = 'en')`, none),
	sq[e, tm]("between", `select paid_at as t from billing.invoices where paid_at between '2026-01-01' and now()`, none),
	sq[e, tm]("a check with an implication", `select paid_at as t from billing.invoices where status = 'paid'`, none),
	sq[e, tm]("a check that ties two columns", `select due::timestamptz as t from billing.invoices where issued is not null`, none),
	sq[e, str]("a check of equal conditions", `select worker as s from jobs where state = 'running'`, none),
	sq[e, s2]("row comparison", `select coalesce(sku, '') as a, descr as b from billing.lines where (invoice_id, pos) > (0, 0)`, none),
	sq[e, n64]("keyset pagination of a nullable column", `select parent_id as n from orgs where (parent_id, id) > (0, 0) and parent_id is not null`, none),
	sq[e, str]("boolean of a nullable column", `select name as s from people where (name = 'Ada') is true`, none),
	sq[e, str]("or of the same column", `select name as s from people where name = 'Ada' or name like 'C%'`, none),
	sq[e, s2]("and of or", `select name as a, email as b from people where (name > 'A' or name < 'a') and locale = 'en'`, none),
	sq[e, str]("de Morgan", `select name as s from people where not (name is null or email = '')`, none),
	sq[e, str]("similar to", `select name as s from people where name similar to 'A%'`, none),
	sq[e, str]("array contains", `select worker as s from jobs where array[worker] <@ array['w1', 'w2']`, none),
	sq[struct{ Ids []int64 }, n64]("array position", `select actor as n from events where actor = any(@ids) order by array_position(@ids, actor)`, struct{ Ids []int64 }{[]int64{1, 9}}),
	// Expressions.
	sq[e, str]("coalesce with NOT NULL last", `select coalesce(name, email) as s from people`, none),
	sq[e, str]("CASE that tests", `select case when name is not null then name else email end as s from people`, none),
	sq[e, str]("simple CASE with ELSE", `select case status when 'paid' then 'done' when 'void' then 'gone' else 'todo' end as s from billing.invoices`, none),
	sq[e, n64]("greatest of a nullable and a constant", `select greatest(parent_id, 0) as n from orgs`, none),
	sq[e, str]("nullif within coalesce", `select coalesce(nullif(name, ''), 'x') as s from people`, none),
	sq[e, str]("concat_ws", `select concat_ws(', ', name, email) as s from people`, none),
	sq[e, struct{ T time.Time }]("at time zone", `select (at at time zone 'UTC') as t from events`, none),
	sq[e, n64]("epoch", `select extract(epoch from now() - created_at)::int8 as n from people`, none),
	sq[e, str]("to_char", `select to_char(at, 'YYYY') as s from events`, none),
	sq[e, f64]("double", `select n::float8 / 2 as f from counters`, none),
	sq[e, bl]("is null or", `select deleted_at is null or deleted_at > now() as b from orgs`, none),
	sq[e, bl]("coalesce of a comparison", `select coalesce(plan = 'pro', false) as b from orgs`, none),
	sq[e, bl]("exists in the target list", `select exists (select from members m where m.org_id = o.id) as b from orgs o`, none),
	sq[e, bl]("jsonb has key", `select settings ? 'theme' as b from orgs`, none),
	sq[e, str]("jsonb guarded", `select settings->>'theme' as s from orgs where settings->>'theme' in ('dark', 'light')`, none),
	sq[e, str]("jsonb_typeof", `select jsonb_typeof(settings) as s from orgs`, none),
	sq[e, struct{ J json.RawMessage }]("jsonb_build_object of NULL", `select jsonb_build_object('name', name, 'home', home) as j from people`, none),
	sq[e, struct{ J json.RawMessage }]("row_to_json", `select row_to_json(p) as j from people p`, none),
	sq[e, struct{ J json.RawMessage }]("json_agg of a lateral with coalesce", `select coalesce((select json_agg(l order by pos) from billing.lines l where l.invoice_id = i.id), '[]') as j from billing.invoices i`, none),
	sq[e, str]("key of jsonb_each", `select k.key as s from orgs o cross join lateral jsonb_each_text(o.settings) k`, none),
	sq[e, struct{ V netip.Addr }]("inet", `select host(ip)::inet as v from devices where ip is not null`, none),
	sq[e, str]("an element by any", `select t as s from devices d, unnest(d.tags) t where t <> ''`, none),
	sq[e, arr]("array of a subquery", `select array(select email from people order by id) as a`, none),
	sq[e, arr]("array_remove of array_agg", `select coalesce(array_remove(array_agg(name), null), '{}') as a from people`, none),
	sq[e, arr]("string_to_array", `select string_to_array(email, '@') as a from people`, none),
	sq[e, tm]("lower of a range that is bounded", `select lower(during) as t from prices where lower(during) is not null`, none),
	sq[e, struct {
		R pgtype.Range[pgtype.Timestamptz]
	}]("a range", `select during as r from prices`, none),
	sq[e, n64]("cast to a domain", `select 5::cents as n`, none),
	sq[e, str]("function that coalesces", `select label_of(p) as s from people p`, none),
	sq[e, str]("functional notation", `select p.label_of as s from people p`, none),
	sq[e, str]("function that returns rows", `select role as s from roles(1)`, none),
	// Aggregates, windows, sets.
	sq[e, sn]("count of a left join", `select o.slug as s, count(m.person_id) as n from orgs o left join members m on m.org_id = o.id group by o.id`, none),
	sq[e, n64]("sum in coalesce", `select coalesce(sum(l.qty), 0) as n from orgs o left join billing.invoices i on i.org_id = o.id left join billing.lines l on l.invoice_id = i.id group by o.id`, none),
	sq[e, str]("grouped by its key", `select o.name as s from orgs o join members m on m.org_id = o.id group by o.id having count(*) > 1`, none),
	sq[e, tm]("max of a NOT NULL column in groups", `select max(at) as t from measurements group by device`, none),
	sq[e, sn]("grouping sets with coalesce", `select coalesce(kind, 'all') as s, count(*) as n from events group by rollup (kind)`, none),
	sq[e, n64]("grouping", `select grouping(kind)::int8 as n from events group by cube (kind, org_id)`, none),
	sq[e, str]("CASE on grouping", `select case when grouping(kind) = 1 then 'total' else kind end as s from events group by rollup (kind)`, none),
	sq[e, sn]("window over groups", `select kind as s, sum(count(*)) over (order by kind)::int8 as n from events group by kind`, none),
	sq[e, n64]("running count with a frame", `select count(temp) over (partition by device order by at rows between 2 preceding and 1 preceding) as n from measurements`, none),
	sq[e, tm]("first_value of the key", `select first_value(at) over (partition by device order by at) as t from measurements`, none),
	sq[e, tm]("lag with coalesce", `select coalesce(lag(at) over w, at) as t from measurements window w as (partition by device order by at)`, none),
	sq[e, sn]("distinct on", `select distinct on (org_id) number as s, org_id as n from billing.invoices order by org_id, id desc`, none),
	sq[e, sn]("rank in a subquery", `select s, n from (select number as s, row_number() over (partition by org_id order by id) as n from billing.invoices) x where n = 1`, none),
	sq[e, n64]("filter with coalesce", `select coalesce(sum(total) filter (where status = 'paid'), 0)::int8 as n from billing.invoices group by org_id`, none),
	sq[e, n64]("union of NOT NULL", `select org_id as n from members union select id from people`, none),
	sq[e, n64]("intersect with a nullable one", `select id as n from people intersect select parent_id from orgs`, none),
	sq[e, n64]("except of NOT NULL", `select id as n from people except select manager_id from people`, none),
	sq[e, sn]("VALUES with casts", `select s, n from (values ('a', 1::int8), ('b', 2)) v(s, n)`, none),
	sq[e, sn]("a tree", `with recursive t as (select id, name, 0::int8 as depth from orgs where parent_id is null union all select o.id, o.name, t.depth + 1 from t join orgs o on o.parent_id = t.id) select name as s, depth as n from t`, none),
	sq[e, arr]("a tree with a path", `with recursive t as (select id, array[name] as path from orgs where parent_id is null union all select o.id, t.path || o.name from t join orgs o on o.parent_id = t.id) select path as a from t`, none),
	sq[e, struct {
		T time.Time
		N int64
	}]("days without gaps", `select d as t, count(m.at) as n from generate_series('2026-01-01'::timestamptz, '2026-01-05', '1 day') d left join measurements m on date_trunc('day', m.at) = d group by d`, none),
	sq[struct {
		IDs   []int64
		Names []string
	}, sn]("unnest of several arrays", `select coalesce(name, '') as s, coalesce(id, 0) as n from unnest(@ids::int8[], @names::text[]) as x(id, name)`, struct {
		IDs   []int64
		Names []string
	}{[]int64{1, 2}, []string{"a"}}),
	sq[e, struct {
		S string
		N int64
	}]("ordinality of a split", `select s, n from regexp_split_to_table('a,b', ',') with ordinality x(s, n)`, none),
	sq[e, n32]("generate_subscripts", `select generate_subscripts(tags, 1) as n from devices`, none),
	sq[e, n64]("the last page", `select n from (select count(*) over () as n from people offset 0) x`, none),
	// Views.
	sq[e, sn]("an aggregate view", `select 'x' as s, total as n from org_totals`, none),
	sq[e, str]("a security barrier", `select name as s from directory`, none),
	sq[e, sn]("a partitioned table", `select kind as s, id as n from events where at > '2026-01-01'`, none),
	sq[e, str]("an inherited table", `select body as s from pdfs`, none),
	sq[e, str]("an inherited column", `select title as s from docs`, none),
	sq[e, struct{ Oid uint32 }]("tableoid", `select tableoid as oid from docs`, none),
	sq[e, str]("regclass", `select tableoid::regclass::text as s from docs`, none),
	// Writes.
	sx[struct {
		Slug, Name string
		Plan       *string
	}]("insert with identity", `insert into orgs (slug, name, plan) values (@slug, @name, @plan)`, struct {
		Slug, Name string
		Plan       *string
	}{"x", "X", nil}),
	sq[struct{ Email string }, n64]("insert with overriding", `insert into people (id, email) overriding system value values (77, @email) returning id as n`, struct{ Email string }{"z"}),
	sx[struct{ RowID int64 }]("insert that a trigger fills", `insert into audit (tbl, row_id) values ('x', @row_id)`, struct{ RowID int64 }{1}),
	sx[struct{ Txt *string }]("insert with a default that reads a setting", `insert into notes (txt) values (@txt)`, struct{ Txt *string }{}),
	sq[struct{ Name string }, n64]("upsert of a counter", `insert into counters as c (name, n) values (@name, 1) on conflict (name) do update set n = c.n + excluded.n returning n`, struct{ Name string }{"a"}),
	sq[struct{ Name string }, tm]("upsert that sets a nullable column", `insert into counters (name, seen) values (@name, now()) on conflict (name) do update set seen = excluded.seen returning seen as t`, struct{ Name string }{"a"}),
	sq[e, str]("returning of a claimed job", `update jobs set state = 'running', worker = 'w', started_at = now() where id = (select id from jobs where state = 'ready' order by id limit 1 for update skip locked) returning worker as s`, none),
	sq[e, tm]("returning of now", `update orgs set deleted_at = now() where id = 2 returning deleted_at as t`, none),
	sq[e, str]("returning in a CTE", `with d as (delete from jobs where error is not null returning error) select error as s from d`, none),
	sq[e, sn]("returning with a join", `update billing.invoices i set status = 'void' from orgs o where o.id = i.org_id and i.status = 'draft' returning o.slug as s, i.id as n`, none),
	sx[e]("merge", `merge into counters c using (select 'a'::text as name, 1 as n union all select 'new', 2) s on s.name = c.name when matched then update set n = c.n + s.n when not matched then insert (name, n) values (s.name, s.n)`, none),
	sx[struct {
		ID   int64
		Plan *string
	}]("a pointer to a nullable column", `update orgs set plan = @plan where id = @id`, struct {
		ID   int64
		Plan *string
	}{1, nil}),
	sx[struct {
		Status string `validate:"oneof=draft open void"`
		ID     int64
	}]("oneof of an enum", `update billing.invoices set status = @status where id = @id and paid_at is null`, struct {
		Status string `validate:"oneof=draft open void"`
		ID     int64
	}{"open", 2}),
	sx[struct {
		Qty *int32
	}]("coalesce with the old value", `update billing.lines set qty = coalesce(@qty, qty)`, struct{ Qty *int32 }{}),
	sx[struct{ Qty *int32 }]("coalesce with a default", `insert into billing.lines (invoice_id, pos, descr, qty, unit) values (1, 9, 'x', coalesce(@qty, 1), 1)`, struct{ Qty *int32 }{}),
	sx[struct{ Tags []string }]("array_append", `update devices set tags = array_append(tags, 'x') where tags && @tags`, struct{ Tags []string }{[]string{"x"}}),
	sx[e]("jsonb concatenation", `update orgs set settings = settings || '{"a": 1}'`, none),
	sx[struct{ Name string }]("insert into a view", `insert into active_orgs (slug, name) values ('v', @name)`, struct{ Name string }{"V"}),
	sx[struct{ Label string }]("insert into a table with a rule", `insert into legacy (label) values (@label)`, struct{ Label string }{"l"}),
	sx[struct{ At time.Time }]("insert into a partitioned table", `insert into events (at, kind, payload) values (@at, 'x', '{}')`, struct{ At time.Time }{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}),
	sx[struct{ Name string }]("insert with DEFAULT", `insert into counters values (@name, default, default)`, struct{ Name string }{"dd"}),
	sx[struct{ Total int64 }]("insert into a domain", `insert into billing.invoices (org_id, number, total) values (1, 'N', @total)`, struct{ Total int64 }{1}),
	sx[struct{ Title string }]("insert beside a generated column", `insert into docs (id, title) values (50, @title)`, struct{ Title string }{"t"}),
	sx[struct{ N int32 }]("insert a domain with a default", `insert into devices (id, name, serial) values (9, 'x', 's')`+` on conflict (id) do update set name = 'y' where devices.id = @n`, struct{ N int32 }{1}),
	sc("copy with defaults", pgx.Identifier{"orgs"}, struct{ Slug, Name string }{"c", "C"}),
	sc("copy into a schema", pgx.Identifier{"billing", "lines"}, struct {
		InvoiceID int64
		Pos       int16
		Descr     string
		Unit      pgtype.Numeric
	}{2, 3, "d", pgtype.Numeric{Valid: true}}),
	sc("copy that a trigger fills", pgx.Identifier{"audit"}, struct {
		Tbl   string
		RowID int64
	}{"t", 1}),
	sc("copy of identity by default", pgx.Identifier{"people"}, struct {
		ID    int64
		Email string
		Name  *string
	}{500, "cc", nil}),
	sc("copy of identity always", pgx.Identifier{"counters"}, struct {
		Name string
		Seen *time.Time
	}{"q", nil}),
	sc("copy into a partition", pgx.Identifier{"events"}, struct {
		At      time.Time
		Kind    string
		Payload json.RawMessage
	}{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "k", json.RawMessage("{}")}),
	// Reads.
	read[e, n64]("read with a stable function", `select person_id as n from roles(1)`, none),
	read[e, n64]("read with a lateral function", `select count(*) as n from orgs o, lateral roles(o.id)`, none),
	read[e, str]("read of a setting", `select current_setting('server_version') as s`, none),
	read[e, tm]("read of the clock", `select clock_timestamp() as t`, none),
	read[e, f64]("read of random", `select random() as f`, none),
	// Types.
	sq[struct{ Day time.Time }, n64]("a time as a date", `select id as n from billing.invoices where issued = @day::date`, struct{ Day time.Time }{time.Now()}),
	sq[struct{ Status []string }, n64]("texts as enums", `select id as n from billing.invoices where status = any(@status::text[]::status[])`, struct{ Status []string }{[]string{"paid"}}),
	sq[struct{ Q string }, n64]("ilike", `select id as n from people where name ilike '%' || @q || '%'`, struct{ Q string }{"a"}),
	sq[struct {
		Cursor *int64
		Limit  int32
	}, n64]("an optional cursor", `select id as n from people where (@cursor::int8 is null or id > @cursor) order by id limit @limit`, struct {
		Cursor *int64
		Limit  int32
	}{nil, 5}),
	sq[struct{ J map[string]any }, n64]("contained JSON", `select id as n from orgs where settings @> @j`, struct{ J map[string]any }{map[string]any{"theme": "dark"}}),
	sq[e, struct{ Cfg *json.RawMessage }]("nullable JSON", `select cfg from devices`, none),
	sq[e, struct{ Cfg map[string]any }]("nullable JSON in a map", `select cfg from devices`, none),
	sq[e, struct{ Avatar []byte }]("nullable bytes", `select avatar from people`, none),
	sq[e, struct{ Born pgtype.Date }]("nullable date", `select born from people`, none),
	sq[e, struct{ Labels []*string }]("nullable elements", `select labels from people`, none),
	sq[e, struct{ Tax pgtype.Numeric }]("nullable numeric", `select tax from billing.invoices`, none),
	sq[e, struct {
		Unit string
	}]("numeric as text", `select unit::text from billing.lines`, none),
	sq[e, n64]("sum of int4 is int8", `select coalesce(sum(qty), 0) as n from billing.lines`, none),
	sq[e, struct{ N int16 }]("int2", `select pos as n from billing.lines`, none),
	sq[e, struct{ N int }]("int4 in an int", `select qty as n from billing.lines`, none),
	sq[e, struct{ F float64 }]("float4 in a float64", `select coalesce(hum, 0) as f from measurements`, none),
	// Rules, views, checks and keys.
	sx[struct{ Label *string }]("pointer to a table with an instead rule", `insert into replaced (label) values (@label)`, struct{ Label *string }{}),
	sx[struct{ N *int64 }]("pointer that a trigger fills through a view", `insert into touched_v (tid, num) values (77, @n)`, struct{ N *int64 }{}),
	sx[e]("left out that a trigger fills through a view", `insert into touched_v (tid) values (78)`, none),
	sx[struct{ N *int64 }]("pointer to a view with an instead trigger", `insert into iv (id, n) values (79, @n)`, struct{ N *int64 }{}),
	sx[e]("a default of a view", `insert into active_orgs (slug, name, plan) values ('p1', 'x', default)`, none),
	sx[struct{ Email string }]("a view with a condition on NULL", `insert into named (email) values (@email)`, struct{ Email string }{"p2"}),
	sx[struct {
		Email string
		Name  *string
	}]("a pointer to what a view's condition excludes", `insert into named (email, name) values (@email, @name)`, struct {
		Email string
		Name  *string
	}{"p3", nil}),
	sq[e, tm]("on conflict with a condition on its column", `insert into counters (name, seen) values ('a', now()) on conflict (name) do update set seen = counters.seen where counters.seen is not null returning seen as t`, none),
	sq[e, n64]("update from a left join that must be", `update transfers t set amount = a.balance from accounts a left join people p on p.id = a.owner where a.id = t.src returning p.id as n`, none),
	sx[e]("a sum with coalesce", `update accounts a set balance = (select coalesce(sum(amount), 0) from transfers t where t.dst = a.id)`, none),
	sx[e]("a subquery by a key", `update transfers t set amount = (select balance from accounts a where a.id = t.src)`, none),
	sx[e]("insert select of what is not NULL", `insert into counters (name) select name || 'q' from people where name is not null`, none),
	sx[e]("insert select with a check of both", `insert into counters (name, n) select 'sh' || id, coalesce(circle_id, square_id) from shapes`, none),
	sx[e]("insert of a maximum", `insert into counters (name, n) select 'mx', coalesce(max(n), 0) + 1 from counters`, none),
	sx[struct{ Names []string }]("insert of unnest", `insert into counters (name) select unnest(@names::text[])`, struct{ Names []string }{[]string{"un"}}),
	sx[struct{ J json.RawMessage }]("insert of a record", `insert into counters (name, n) select x.name, coalesce(x.n, 0) from jsonb_to_recordset(@j) x(name text, n int8) where x.name is not null`, struct{ J json.RawMessage }{json.RawMessage(`[{"name":"jr"}]`)}),
	sx[e]("insert of a CASE", `insert into counters (name, n) select 'cs' || id, case when created_by is null then 0 else created_by end from billing.invoices`, none),
	sx[e]("insert of nextval", `insert into counters (name, n) values ('nv', nextval('ticket'))`, none),
	sx[e]("update to a window", `update counters c set n = x.r from (select name, row_number() over () as r from counters) x where x.name = c.name`, none),
	sx[e]("merge of a source with a condition", `merge into counters c using (select name, manager_id from people where name is not null) s on s.name = c.name when matched and s.manager_id is not null then update set n = s.manager_id when not matched then insert (name) values (s.name)`, none),
	sx[e]("on conflict with a condition", `insert into counters (name) values ('a') on conflict (name) do update set n = extract(epoch from counters.seen)::int8 where counters.seen is not null`, none),
	sq[e, sn]("FK from a CTE", `with x as (select * from billing.invoices where total >= 0) select o.slug as s, x.id as n from x left join orgs o on o.id = x.org_id`, none),
	sq[e, sn]("FK from a subquery with a limit", `select o.slug as s, x.id as n from (select * from billing.invoices order by id limit 3) x left join orgs o on o.id = x.org_id`, none),
	sq[e, sn]("FK to a CTE", `with o as materialized (select id, slug from orgs) select o.slug as s, x.id as n from billing.invoices x left join o on o.id = x.org_id`, none),
	sq[e, s2]("two keys to one table", `select p.email as a, q.email as b from transfers t left join accounts s on s.id = t.src left join people p on p.id = s.owner left join accounts d on d.id = t.dst left join people q on q.id = d.owner`, none),
	sq[e, str]("a subquery through two keys", `select (select p.email from accounts a join people p on p.id = a.owner where a.id = t.src) as s from transfers t`, none),
	sq[e, str]("FK and grouped", `select o.slug as s from (select org_id, count(*) from billing.invoices group by org_id) g left join orgs o on o.id = g.org_id`, none),
	sq[e, str]("FK and distinct", `select o.slug as s from (select distinct org_id from billing.invoices) g left join orgs o on o.id = g.org_id`, none),
	sq[e, str]("FK and a window", `select o.slug as s from (select org_id, row_number() over (partition by org_id order by id) as r from billing.invoices) g left join orgs o on o.id = g.org_id where r = 1`, none),
	sq[e, str]("FK with a lateral", `select l.slug as s from billing.invoices i left join lateral (select slug from orgs o where o.id = i.org_id) l on true`, none),
	sq[e, str]("FK with a union", `select o.slug as s from (select org_id from billing.invoices union all select org_id from members) g left join orgs o on o.id = g.org_id`, none),
	sq[e, str]("FK of a view's column", `select o.slug as s from org_totals t left join orgs o on o.id = t.org_id`, none),
	sq[e, str]("a view of joins by its last column", `select email as s from wide where email is not null`, none),
	sq[e, str]("a view of joins by a sister column", `select email as s from wide where locale = 'en'`, none),
	sq[e, str]("a view of joins joined on", `select w.locale as s from wide w join people p on p.email = w.email`, none),
	sq[e, str]("a view of joins in a CASE", `select case when email is null then '' else locale end as s from wide`, none),
	sq[e, str]("a CTE of joins filtered", `with w as (select o.slug, m.role, m.person_id from orgs o left join members m on m.org_id = o.id) select role as s from w where person_id = 1`, none),
	sq[e, n64]("num_nonnulls", `select coalesce(circle_id, square_id) as n from shapes`, none),
	sq[e, n64]("the one of two", `select circle_id as n from shapes where square_id is null`, none),
	sq[e, n64]("CASE of two", `select case when circle_id is not null then circle_id else square_id end as n from shapes`, none),
	sq[e, str]("a partition's own NOT NULL", `select v as s from strictp_eu`, none),
	sq[e, bl]("a domain over bool", `select coalesce(active and model = 'm', false) as b from devices`, none),
	sq[e, struct{ B *bool }]("a domain over bool in a pointer", `select active and model = 'm' as b from devices where active is not false`, none),
	sc("copy of a domain that has a default", pgx.Identifier{"copied"}, struct{ Code string }{"c"}),
	sc("copy that leaves a domain out", pgx.Identifier{"copied"}, struct{ N int64 }{1}),
	sc("copy into a view", pgx.Identifier{"iv"}, struct{ ID int64 }{900}),
	sc("copy of slices", pgx.Identifier{"devices"}, struct {
		ID     int32
		Name   string
		Serial string
		Tags   []string `validate:"required"`
	}{901, "x", "y", []string{}}),
	sq[struct {
		Kinds []string `validate:"dive,oneof=draft open"`
	}, n64]("oneof of elements", `select id as n from billing.invoices where status = any(@kinds::text[]::status[])`, struct {
		Kinds []string `validate:"dive,oneof=draft open"`
	}{[]string{"open"}}),
	sq[struct {
		Kinds []string `validate:"max=3,dive,required"`
	}, n64]("no oneof of elements", `select id as n from billing.invoices where status::text = any(@kinds)`, struct {
		Kinds []string `validate:"max=3,dive,required"`
	}{[]string{"open"}}),
	sq[e, tm]("infinity", `select coalesce(valid_to, 'infinity') as t from spans where id < 0`, none),
	sq[e, struct{ T *time.Time }]("valid now", `select valid_to as t from spans where coalesce(valid_to, 'infinity') > now()`, none),
	sq[e, tm]("valid until", `select valid_to as t from spans where now() between valid_from and valid_to`, none),
	sq[e, struct{ D pgtype.Interval }]("age", `select age(valid_to, valid_from) as d from spans`, none),
	sq[e, n64]("the last of a window", `select last_value(id) over (partition by org_id order by id rows between unbounded preceding and unbounded following) as n from billing.invoices`, none),
	sq[e, f64]("percentile", `select percentile_cont(0.5) within group (order by qty) as f from billing.lines group by invoice_id`, none),
	sq[e, struct{ M map[string]any }]("jsonb_object_agg", `select coalesce(jsonb_object_agg(name, n), '{}') as m from counters`, none),
	sq[e, str]("xml", `select string_agg(distinct role, ',' order by role) as s from members group by org_id`, none),
	sq[struct{ A, B *int64 }, n64]("coalesce of two parameters", `select coalesce(@a::int8, @b, 0) as n`, struct{ A, B *int64 }{}),
	sq[struct{ Page, Size int }, n64]("arithmetic of a page", `select id as n from people offset (@page::int - 1) * @size::int limit @size::int`, struct{ Page, Size int }{1, 5}),
	sq[e, bl]("not exists", `select not exists (select from people where false) as b`, none),
	sq[e, bl]("overlaps", `select (now(), interval '1 day') overlaps (now(), interval '1 hour') as b`, none),
	sq[e, bl]("is json", `select settings @> '{}' as b from orgs`, none),
	sq[e, n64]("correlated count", `select (select count(*) from members m where m.org_id = o.id) as n from orgs o`, none),
	sq[e, n64]("xmax", `select (xmax = 0)::int::int8 as n from orgs`, none),
	sq[e, bl]("xmax of an upsert", `insert into counters (name) values ('a') on conflict (name) do update set n = 1 returning (xmax = 0) as b`, none),
	sq[e, str]("cast of NULL in a union", `select coalesce(s, '') as s from (select null::text as s union all select 'a') x`, none),
	sq[e, n64]("in a VALUES", `select o.id as n from orgs o join (values (1::int8), (2)) v(id) using (id)`, none),
	sq[e, n64]("min over a non-empty VALUES", `select min(x) as n from (values (1::int8), (2)) v(x)`, none),
	sq[e, n64]("max of a series", `select max(x)::int8 as n from generate_series(1, 3) x`, none),
	sq[e, n64]("first row by a lateral", `select l.id as n from orgs o, lateral (select id from billing.invoices i where i.org_id = o.id order by id limit 1) l`, none),
	sq[e, n64]("fetch first with ties", `select id as n from orgs order by name fetch first 2 rows with ties`, none),
	sq[e, sn]("inner join of a left join's table", `select o.slug as s, m.person_id as n from orgs o left join members m on m.org_id = o.id inner join people p on p.id = m.person_id`, none),
	sq[e, str]("semi join", `select p.name as s from people p where (p.name, p.email) in (select name, email from people)`, none),
	sq[e, str]("some", `select name as s from people where name = some (select slug from orgs)`, none),
	sq[e, str]("all", `select name as s from people where name > all (array['A'])`, none),
	sq[e, n64]("count of distinct", `select count(distinct (name, email)) as n from people`, none),
	sq[e, n64]("width_bucket", `select width_bucket(qty, 0, 10, 5)::int8 as n from billing.lines`, none),
	sq[e, arr]("regexp_matches", `select regexp_matches(email, '(.)@', 'g') as a from people`, none),
	sq[e, str]("split_part", `select split_part(email, '@', 2) as s from people`, none),
	sq[e, str]("encode", `select encode(sha256(email::bytea), 'hex') as s from people`, none),
	sq[e, struct{ U pgtype.UUID }]("gen_random_uuid", `select gen_random_uuid() as u`, none),
	sq[e, struct{ D pgtype.Interval }]("difference of times", `select started_at - run_at as d from jobs`, none),
	sq[e, arr]("array_agg of no rows", `select array_agg(email) as a from people where id < 0`, none),
	sc("copy into a domain", pgx.Identifier{"devices"}, struct {
		ID   int32
		Name string
	}{7, "x"}),
	sx[struct{ N *int64 }]("pointer through a view of a view", `update touched_v set num = num + @n`, struct{ N *int64 }{}),
}
