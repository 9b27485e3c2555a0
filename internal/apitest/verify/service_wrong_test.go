package verify_test

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// serviceWrong can fail, on the data or on empty tables.
var serviceWrong = []service{
	// Joins.
	sq[e, str]("left join of a nullable key", `select p.email as s from billing.invoices i left join people p on p.id = i.created_by`, none),
	sq[e, str]("left join over a key in the other direction", `select m.role as s from orgs o left join members m on m.org_id = o.id`, none),
	sq[e, str]("left join over a NOT NULL key with a condition", `select o.name as s from billing.invoices i left join orgs o on o.id = i.org_id and o.deleted_at is not null`, none),
	sq[e, n64]("left join over a composite key that is partly NULL", `select m.org_id as n from comments c left join members m using (org_id, person_id) where c.org_id > 0 and m.role is distinct from 'x'`, none),
	sq[e, str]("right join of a nullable key", `select p.email as s from people p right join billing.invoices i on i.created_by = p.id`, none),
	sq[e, str]("left join that a where keeps", `select p.email as s from billing.invoices i left join people p on p.id = i.created_by where p.locale = 'en' or p.id is null`, none),
	sq[e, n64]("natural full join of other columns", `select i as n from (select org_id, id as i from billing.invoices) a natural full join (select id as org_id from orgs) b`, none),
	sq[e, n64]("full join without coalesce", `select a.org_id as n from members a full join billing.invoices b on a.org_id = b.org_id and false`, none),
	sq[e, n64]("full join with coalesce of a nullable column", `select coalesce(a.invited_by, b.created_by) as n from members a full join billing.invoices b on a.org_id = b.org_id`, none),
	sq[e, n64]("left join of an aggregate view", `select t.total as n from orgs o left join org_totals t on t.org_id = o.id`, none),
	sq[e, str]("self join of a parent that is left", `select p.name as s from orgs c left join orgs p on p.id = c.parent_id`, none),
	sq[e, n64]("anti join of its own column", `select m.org_id as n from orgs o left join members m on m.org_id = o.id where m.org_id is null`, none),
	sq[e, n64]("left lateral with a limit", `select l.id as n from orgs o left join lateral (select id from billing.invoices i where i.org_id = o.id order by id desc limit 1) l on true`, none),
	sq[e, n64]("left lateral of an aggregate with having", `select l.n from orgs o left join lateral (select count(*) as n from members m where m.org_id = o.id having count(*) > 1) l on true`, none),
	sq[e, n64]("left lateral of an aggregate of nothing", `select l.n from orgs o left join lateral (select max(m.person_id) as n from members m where m.org_id = o.id) l on true`, none),
	sq[e, str]("a view with an outer join in it", `select role as s from seats`, none),
	sq[e, str]("a left join in a CTE", `with x as (select p.email from billing.invoices i left join people p on p.id = i.created_by) select email as s from x`, none),
	sq[e, str]("a left join beneath an inner join", `select p.email as s from billing.lines l join (billing.invoices i left join people p on p.id = i.created_by) on l.invoice_id = i.id`, none),
	sq[e, n64]("a series that a left join finds nothing for", `select m.device::int8 as n from generate_series('2026-01-01'::timestamptz, '2026-01-05', '1 day') d left join measurements m on m.at >= d and m.at < d + interval '1 day'`, none),
	// Conditions that do not help.
	sq[e, n64]("is not distinct from NULL", `select parent_id as n from orgs where parent_id is not distinct from null`, none),
	sq[struct{ N *int64 }, n64]("is not distinct from a pointer", `select parent_id as n from orgs where parent_id is not distinct from @n`, struct{ N *int64 }{}),
	sq[e, n64]("is distinct from a value", `select parent_id as n from orgs where parent_id is distinct from 7`, none),
	sq[e, n64]("or of another column", `select created_by as n from billing.invoices where created_by = 1 or total >= 0`, none),
	sq[e, n64]("in of another column", `select created_by as n from billing.invoices where org_id in (select id from orgs)`, none),
	sq[e, tm]("a check with an implication that is not met", `select paid_at as t from billing.invoices where status <> 'paid'`, none),
	sq[e, str]("is not true", `select name as s from people where (name = 'Ada') is not true`, none),
	sq[e, n64]("row comparison by its first column", `select parent_id as n from orgs where (id, parent_id) > (0, 0)`, none),
	sq[struct{ Q *string }, str]("an optional filter", `select name as s from people where @q::text is null or name ilike @q`, struct{ Q *string }{}),
	sq[e, str]("not exists", `select p.name as s from people p where not exists (select from members m where m.person_id = p.id and m.role = 'owner')`, none),
	sq[e, n64]("a correlated condition of others", `select i.created_by as n from billing.invoices i where exists (select 1 from people p where p.locale = 'en')`, none),
	sq[e, str]("CASE in where", `select name as s from people where case when locale = 'en' then true else name = 'x' end`, none),
	// Expressions.
	sq[e, str]("coalesce of two that may be NULL", `select coalesce(plan, settings->>'plan') as s from orgs`, none),
	sq[e, str]("concatenation", `select email || ' ' || name as s from people`, none),
	sq[e, str]("CASE without ELSE", `select case status when 'paid' then 'done' when 'void' then 'gone' end as s from billing.invoices`, none),
	sq[e, str]("CASE whose ELSE may be NULL", `select case when plan = 'pro' then 'p' else plan end as s from orgs`, none),
	sq[e, n64]("nullif", `select nullif(total, 0)::int8 as n from billing.invoices`, none),
	sq[e, n64]("difference of dates", `select (due - issued)::int8 as n from billing.invoices`, none),
	sq[e, n64]("extract of NULL", `select extract(epoch from paid_at)::int8 as n from billing.invoices`, none),
	sq[e, bl]("comparison of a nullable column", `select plan = 'pro' as b from orgs`, none),
	sq[e, bl]("in with NULL", `select created_by in (1, 2) as b from billing.invoices`, none),
	sq[e, bl]("not in a subquery with NULL", `select id not in (select parent_id from orgs) as b from people`, none),
	sq[e, bl]("any of an array that may be NULL", `select 'a' = any(labels) as b from people`, none),
	sq[e, str]("JSON text", `select payload->>'ip' as s from events`, none),
	sq[e, str]("JSON path", `select payload #>> '{items,0,sku}' as s from events`, none),
	sq[e, struct{ J json.Number }]("jsonb_path_query_first", `select (jsonb_path_query_first(payload, '$.items[*].qty'))::text as j from events`, none),
	sq[e, str]("jsonb elements as text", `select t as s from orgs, jsonb_array_elements_text(settings->'tags') t`, none),
	sq[e, str]("record of JSON", `select x.sku as s from events, jsonb_to_recordset(payload->'items') x(sku text, qty int4)`, none),
	sq[e, str]("subscript of JSON", `select (settings['theme'])::text as s from orgs`, none),
	sq[e, n64]("array_length of an empty one", `select array_length(tags, 1)::int8 as n from devices`, none),
	sq[e, str]("first element", `select tags[1] as s from devices`, none),
	sq[e, str]("a field of a composite", `select (home).city as s from people`, none),
	sq[e, tm]("upper of a range", `select upper(during) as t from prices`, none),
	sq[e, str]("regexp_match", `select (regexp_match(email, '^(b.)'))[1] as s from people`, none),
	sq[e, str]("substring of a pattern", `select substring(email from 'z+') as s from people`, none),
	sq[e, str]("a setting that is missing", `select current_setting('app.nothing', true) as s`, none),
	sq[e, n64]("a subquery without a row", `select (select id from billing.invoices i where i.org_id = o.id and status = 'open' limit 1) as n from orgs o`, none),
	sq[e, n64]("a subquery of a maximum", `select (select max(id) from billing.invoices i where i.org_id = o.id) as n from orgs o`, none),
	sq[e, struct{ J json.Number }]("json_agg of none", `select json_agg(id)::text as j from billing.invoices where id < 0`, none),
	// Aggregates, windows, sets.
	sq[e, n64]("sum of none", `select sum(qty) as n from billing.lines where invoice_id = 99`, none),
	sq[e, n64]("sum of a left join", `select sum(l.qty) as n from billing.invoices i left join billing.lines l on l.invoice_id = i.id group by i.id`, none),
	sq[e, f64]("avg of a nullable column", `select avg(temp) as f from measurements group by device, at`, none),
	sq[e, tm]("max with a filter", `select max(at) filter (where temp > 21) as t from measurements group by date_trunc('day', at)`, none),
	sq[e, f64]("stddev of one row", `select stddev(qty)::float8 as f from billing.lines group by invoice_id`, none),
	sq[e, str]("rollup", `select kind as s from events group by rollup (kind)`, none),
	sq[e, tm]("cube of an expression", `select date_trunc('day', at) as t from events group by cube (date_trunc('day', at))`, none),
	sq[e, n64]("grouping sets", `select org_id as n from members group by grouping sets ((org_id), (role))`, none),
	sq[e, arr]("array_agg of a left join", `select array_agg(m.role) as a from orgs o left join members m on m.org_id = o.id group by o.id`, none),
	sq[e, str]("string_agg of NULL", `select string_agg(sku, ',') as s from billing.lines group by invoice_id, pos`, none),
	sq[e, tm]("lag", `select lag(at) over (order by at) as t from measurements`, none),
	sq[e, f64]("a frame before the row", `select sum(hum) over (order by at rows between 3 preceding and 1 preceding)::float8 as f from measurements`, none),
	sq[e, tm]("nth_value", `select nth_value(at, 2) over (partition by device order by at) as t from measurements`, none),
	sq[e, tm]("max over with a filter", `select max(at) filter (where temp > 20) over (order by at) as t from measurements`, none),
	sq[e, str]("last_value of a nullable column", `select last_value(note) over (partition by org_id) as s from billing.invoices`, none),
	sq[e, n64]("union with a nullable column", `select org_id as n from members union all select invited_by from members`, none),
	sq[e, n64]("intersect of two nullable columns", `select parent_id as n from orgs intersect select manager_id from people`, none),
	sq[e, n64]("except of a nullable column", `select parent_id as n from orgs except select id from people`, none),
	sq[e, str]("VALUES with NULL", `select s from (values ('a'), (null)) v(s)`, none),
	sq[e, n64]("a tree with its parent", `with recursive t as (select id, parent_id from orgs where parent_id is null union all select o.id, o.parent_id from t join orgs o on o.parent_id = t.id) select parent_id as n from t`, none),
	sq[e, n64]("a set-returning function beside another", `select generate_series(1, 2)::int8 as n, generate_series(1, 3)::int8 as m`, none),
	sq[e, n64]("distinct on a nullable column", `select distinct on (parent_id) parent_id as n from orgs`, none),
	// Views.
	sq[e, str]("a nullable column of a view", `select plan as s from active_orgs`, none),
	sq[e, tm]("a maximum in a view", `select last_paid as t from org_totals`, none),
	sq[e, n64]("a nullable column of a partitioned table", `select org_id as n from events`, none),
	sq[e, str]("a nullable column of a parent table", `select body as s from docs`, none),
	sq[e, str]("a nullable column of a table with policies", `select txt as s from notes`, none),
	sq[e, str]("a whole row of a left join", `select to_jsonb(m)->>'role' as s from orgs o left join members m on m.org_id = o.id`, none),
	// Writes.
	sq[struct{ Slug string }, str]("returning of what is left out", `insert into orgs (slug, name) values (@slug, 'x') returning plan as s`, struct{ Slug string }{"q"}),
	sq[struct{ Name string }, tm]("upsert that keeps a nullable column", `insert into counters (name, seen) values (@name, now()) on conflict (name) do update set n = counters.n + 1 returning seen as t`, struct{ Name string }{"a"}),
	sq[e, str]("returning of a released job", `update jobs set state = 'ready', worker = null where state = 'running' returning worker as s`, none),
	sq[e, str]("returning of a deleted row", `delete from jobs where state = 'ready' returning error as s`, none),
	sq[e, n64]("returning with a join", `update billing.invoices i set note = 'x' from orgs o where o.id = i.org_id returning o.parent_id as n`, none),
	sq[e, n64]("a CTE that writes", `with d as (update billing.invoices set note = 'y' returning created_by) select created_by as n from d`, none),
	sx[struct{ Name *string }]("pointer to a NOT NULL column", `update orgs set name = @name`, struct{ Name *string }{}),
	sx[struct{ Name *string }]("pointer in an insert", `insert into orgs (slug, name) values ('new', @name)`, struct{ Name *string }{}),
	sx[struct{ Name *string }]("trimmed pointer", `insert into orgs (slug, name) values ('new', trim(@name))`, struct{ Name *string }{}),
	sx[struct{ Name *string }]("nullif of a parameter", `update orgs set name = nullif(@name, '')`, struct{ Name *string }{}),
	sx[struct{ Qty *int32 }]("pointer in an upsert", `insert into billing.lines (invoice_id, pos, descr, qty, unit) values (1, 1, 'x', 1, 1) on conflict (invoice_id, pos) do update set qty = @qty`, struct{ Qty *int32 }{}),
	sx[struct{ N *int64 }]("pointer in a merge", `merge into counters c using (values ('a')) s(name) on s.name = c.name when matched then update set n = @n`, struct{ N *int64 }{}),
	sx[struct{ N *int64 }]("pointer in a merge that inserts", `merge into counters c using (values ('new')) s(name) on s.name = c.name when not matched then insert (name, n) values (s.name, @n)`, struct{ N *int64 }{}),
	sx[struct{ N *int64 }]("pointer that is added", `update counters set n = n + @n`, struct{ N *int64 }{}),
	sx[struct{ T *time.Time }]("pointer to the key of a partition", `insert into events (at, kind, payload) values (@t, 'x', '{}')`, struct{ T *time.Time }{}),
	sx[struct{ Name *string }]("pointer into a view", `insert into active_orgs (slug, name) values ('v', @name)`, struct{ Name *string }{}),
	sx[struct{ Name *string }]("pointer to a view's column", `update active_orgs set name = @name`, struct{ Name *string }{}),
	sx[struct{ Serial *string }]("pointer to a domain", `update devices set serial = @serial`, struct{ Serial *string }{}),
	sx[e]("an insert without a NOT NULL column", `insert into billing.lines (invoice_id, pos, descr) values (1, 5, 'x')`, none),
	sx[e]("an insert that leaves out the key", `insert into devices (name, serial) values ('x', 's')`, none),
	sx[e]("an insert into a partitioned table that leaves out its key", `insert into events (kind, payload) values ('x', '{}')`, none),
	sx[e]("a merge that leaves out a NOT NULL column", `merge into orgs o using (values ('zz')) s(slug) on s.slug = o.slug when not matched then insert (slug) values (s.slug)`, none),
	sx[e]("an insert in a CTE that leaves out a column", `with x as (insert into people (name) values ('x') returning id) insert into counters (name) select 'p' || id from x`, none),
	sx[e]("NULL for a NOT NULL column", `update orgs set name = null`, none),
	sx[e]("a nullable column into a NOT NULL one", `update orgs set name = plan`, none),
	sx[struct{ ID int64 }]("a value for identity always", `insert into orgs (id, slug, name) values (@id, 'x', 'x')`, struct{ ID int64 }{50}),
	sx[struct{ Amount int64 }]("a value for a generated column", `update billing.lines set amount = @amount`, struct{ Amount int64 }{50}),
	sx[struct {
		Status string `validate:"oneof=open closed"`
	}]("oneof", `update billing.invoices set status = @status`, struct {
		Status string `validate:"oneof=open closed"`
	}{"closed"}),
	sq[struct {
		Statuses []string `validate:"dive,oneof=open closed"`
	}, n64]("oneof of the elements", `select id as n from billing.invoices where status = any(@statuses::text[]::status[])`, struct {
		Statuses []string `validate:"dive,oneof=open closed"`
	}{[]string{"closed"}}),
	sx[struct{ Pos int64 }]("int64 for a smallint", `update billing.lines set pos = @pos`, struct{ Pos int64 }{1 << 40}),
	sx[struct{ Pos int32 }]("a narrowing cast", `update billing.lines set pos = @pos::int2`, struct{ Pos int32 }{1 << 20}),
	sx[struct{ Qty int64 }]("a narrowing cast in an expression", `update billing.lines set qty = qty + @qty::int4`, struct{ Qty int64 }{1 << 40}),
	sq[e, n32]("int8 in an int32", `select (id + 3000000000) as n from orgs`, none),
	sq[e, struct{ N int16 }]("int4 in an int16", `select qty + 70000 as n from billing.lines`, none),
	sq[e, struct{ F float32 }]("float8 in a float32", `select 1e300::float8 as f from measurements`, none),
	sq[e, n64]("avg is numeric", `select coalesce(avg(qty) + 0.5, 0) as n from billing.lines`, none),
	sq[e, n64]("a sum of int8 is numeric", `select sum(id) + 0.5 as n from orgs having sum(id) is not null`, none),
	sq[e, struct{ T time.Time }]("a text for a time", `select to_char(at, 'YYYY') as t from events`, none),
	sq[e, bl]("a count for a bool", `select count(*) as b from orgs`, none),
	sq[e, struct{ A []int32 }]("texts for numbers", `select tags as a from devices`, none),
	sq[e, s2]("a field without a column", `select number as a from billing.invoices`, none),
	sq[e, str]("a column without a field", `select number as s, id from billing.invoices`, none),
	sq[e, n64]("a table that is gone", `select n from nothing`, none),
	sq[e, str]("a schema that is left out", `select number as s from invoices`, none),
	sq[e, str]("an enum's value that is gone", `select number as s from billing.invoices where status = 'closed'`, none),
	sc("copy that leaves out a column", pgx.Identifier{"billing", "lines"}, struct {
		InvoiceID int64
		Pos       int16
		Descr     string
	}{1, 8, "x"}),
	sc("copy of a pointer", pgx.Identifier{"orgs"}, struct {
		Slug string
		Name *string
	}{"x", nil}),
	sc("copy into a generated column", pgx.Identifier{"docs"}, struct {
		ID     int64
		Title  string
		Search string
	}{90, "x", "x"}),
	sc("copy of an unknown column", pgx.Identifier{"orgs"}, struct{ Slug, Name, Colour string }{"x", "x", "x"}),
	sc("copy into a view", pgx.Identifier{"org_totals"}, struct{ OrgID int64 }{1}),
	sc("copy of an int64 into a smallint", pgx.Identifier{"billing", "lines"}, struct {
		InvoiceID int64
		Pos       int64
		Descr     string
		Unit      string
	}{1, 1 << 40, "x", "1"}),
	sc("copy into a table with a check on a NULL", pgx.Identifier{"pdfs"}, struct {
		ID    int64
		Title string
		Body  *string
		Pages int32
	}{90, "x", nil, 1}),
	sc("copy that leaves out a column with a check", pgx.Identifier{"pdfs"}, struct {
		ID    int64
		Title string
		Pages int32
	}{91, "x", 1}),
	sc("copy of oneof", pgx.Identifier{"billing", "invoices"}, struct {
		OrgID  int64
		Number string
		Status string `validate:"oneof=open closed"`
	}{1, "zz", "closed"}),
	// Reads.
	read[e, n64]("read by a function that writes", `select bump('a') as n`, none),
	read[e, n64]("read of a sequence", `select nextval('ticket') as n`, none),
	read[e, n64]("read that locks", `select id as n from jobs order by id for update skip locked`, none),
	// Views, checks and keys.
	sq[e, str]("a view of joins by another", `select email as s from wide where slug > ''`, none),
	sq[e, str]("a view of joins unfiltered", `select locale as s from wide`, none),
	sq[e, str]("a view of joins by the wrong side", `select email as s from wide where number > ''`, none),
	sq[e, n64]("one of num_nonnulls", `select circle_id as n from shapes`, none),
	sq[e, str]("worker of any job", `select worker as s from jobs`, none),
	sq[e, str]("worker of a ready job", `select worker as s from jobs where state = 'ready'`, none),
	sq[e, tm]("paid_at of an open invoice", `select paid_at as t from billing.invoices where status = 'open'`, none),
	sq[e, tm]("paid_at of another", `select paid_at as t from billing.invoices where org_id = 1`, none),
	sq[struct{ St string }, tm]("paid_at of a parameter", `select paid_at as t from billing.invoices where status = @st`, struct{ St string }{"open"}),
	sq[e, tm]("valid_to", `select valid_to as t from spans where valid_from < now()`, none),
	sq[e, tm]("valid_to or null", `select valid_to as t from spans where valid_to is null or valid_to > now()`, none),
	sq[e, tm]("due", `select due::timestamptz as t from billing.invoices`, none),
	sx[e]("left out of a view", `insert into active_orgs (slug) values ('w1')`, none),
	sx[e]("left out that a check refuses", `insert into pdfs (id, title, pages) values (77, 'x', 1)`, none),
	sx[struct{ B *string }]("a pointer that a check refuses", `insert into pdfs (id, title, pages, body) values (77, 'x', 1, @b)`, struct{ B *string }{}),
	sx[e]("a subquery for NOT NULL", `insert into billing.invoices (org_id, number) values ((select id from orgs where slug = 'none'), 'z')`, none),
	sx[e]("a maximum for NOT NULL", `insert into counters (name, n) select 'z', max(id) from people where id < 0`, none),
	sx[e]("a JSON key for NOT NULL", `insert into counters (name) select payload->>'ip' from events`, none),
	sx[e]("an update to a subquery", `update accounts a set balance = (select sum(amount) from transfers t where t.dst = a.id and t.amount > 100)`, none),
	sx[e]("VALUES with NULL for NOT NULL", `insert into counters (name, n) values ('q1', 1), ('q2', null)`, none),
	sq[e, n64]("FK of a nullable chain", `select p.id as n from transfers t left join accounts a on a.id = t.src left join people p on p.id = a.backup`, none),
	sq[e, str]("FK to a filtered CTE", `with o as (select id, slug from orgs where deleted_at is null and slug <> 'probe') select o.slug as s from billing.invoices x left join o on o.id = x.org_id`, none),
	sq[e, str]("FK to a limited subquery", `select o.slug as s from billing.invoices x left join (select id, slug from orgs order by id limit 1) o on o.id = x.org_id`, none),
	sq[e, str]("FK to distinct on", `select o.slug as s from billing.invoices x left join (select distinct on (deleted_at is null) id, slug from orgs order by deleted_at is null, id) o on o.id = x.org_id`, none),
	sq[e, str]("FK to an inner join", `select o.slug as s from billing.invoices x left join (select o.id, o.slug from orgs o join members m on m.org_id = o.id) o on o.id = x.org_id`, none),
	sq[e, str]("FK of the other key", `select o.slug as s from billing.invoices x left join orgs o on o.id = x.id`, none),
	sq[e, str]("FK of an expression", `select o.slug as s from billing.invoices x left join orgs o on o.id = x.org_id + 1000`, none),
	sq[e, bl]("a domain over bool", `select active and model = 'm' as b from devices`, none),
	sq[e, str]("not a domain over bool", `select model as s from devices where active or model is null`, none),
}
