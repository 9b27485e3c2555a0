package verify_test

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// marketRight cannot fail, whatever the data.
var marketRight = []service{
	// Joins with filters.
	sq[e, s2]("subscription with its plan", `select s.status as a, p.code as b from subscriptions s left join plans p on p.id = s.plan_id`, none),
	sq[e, s2]("next plan that is priced", `select s.status as a, p.name as b from subscriptions s left join plans p on p.id = s.next_plan where p.price > 100`, none),
	sq[e, s2]("next plan by or", `select s.status as a, p.name as b from subscriptions s left join plans p on p.id = s.next_plan where p.price > 100 or p.retired_at < now()`, none),
	sq[e, s2]("next plan that is set", `select s.status as a, p.name as b from subscriptions s left join plans p on p.id = s.next_plan where s.next_plan is not null`, none),
	sq[e, s2]("next plan compared with the plan", `select s.status as a, n.name as b from subscriptions s join plans p on p.id = s.plan_id left join plans n on n.id = s.next_plan where n.price >= p.price`, none),
	sq[e, s2]("room with its building", `select r.name as a, b.name as b from rooms r left join buildings b on b.id = r.building_id order by b.name, r.name`, none),
	sq[e, s2]("building in a city", `select r.name as a, b.city as b from rooms r join buildings b on b.id = r.building_id and b.city ilike 'b%'`, none),
	sq[e, s2]("free rooms", `select r.name as a, b.name as b from rooms r join buildings b on b.id = r.building_id left join bookings k on k.room_id = r.id and k.during && tstzrange(now(), now() + interval '1 hour') where k.id is null`, none),
	sq[e, s2]("chat with the last message", `select c.topic as a, m.body as b from rooms_chat c join lateral (select body from messages m where m.room_id = c.id and body is not null order by sent_at desc limit 1) m on true where c.topic is not null`, none),
	sq[e, sn]("unread", `select c.topic as s, count(m.id) as n from members p join rooms_chat c on c.id = p.room_id left join messages m on m.room_id = c.id and m.id > coalesce(p.last_read, 0) where c.topic > '' group by c.id`, none),
	sq[e, s2]("sender of a message", `select coalesce(m.body, '') as a, c.email as b from messages m left join customers c on c.id = m.sender where m.sender is not null`, none),
	sq[e, s2]("sender or system", `select coalesce(m.body, '') as a, coalesce(c.full_name, c.email, 'system') as b from messages m left join customers c on c.id = m.sender`, none),
	sq[e, s2]("referrer's email", `select c.email as a, r.email as b from customers c left join customers r on r.id = c.referred_by where r.deleted_at is null and c.referred_by is not null`, none),
	sq[e, sn]("order items", `select p.title as s, i.qty::int8 as n from orders o join items i on i.order_id = o.id left join products p on p.id = i.product_id`, none),
	sq[e, str]("customer of an order", `select coalesce(c.email, o.guest_email) as s from orders o left join customers c on c.id = o.customer_id`, none),
	sq[e, str]("customer or guest by a case", `select case when o.customer_id is not null then c.email else o.guest_email end as s from orders o left join customers c on c.id = o.customer_id`, none),
	sq[e, str]("customer of an order by the check", `select c.email as s from orders o left join customers c on c.id = o.customer_id where o.guest_email is null`, none),
	sq[e, str]("guest of an order", `select guest_email as s from orders where customer_id is null`, none),
	sq[e, n64]("full join of stock", `select coalesce(a.product_id, b.product_id)::int8 as n from (select * from stock where warehouse = 'north') a full join (select * from stock where warehouse = 'south') b using (product_id)`, none),
	sq[e, n64]("full join of stock using", `select product_id::int8 as n from (select * from stock where warehouse = 'north') a full join (select * from stock where warehouse = 'south') b using (product_id)`, none),
	sq[e, n64]("full join of stock by a sum", `select coalesce(a.qty, 0)::int8 + coalesce(b.qty, 0) as n from (select * from stock where warehouse = 'north') a full join (select * from stock where warehouse = 'south') b using (product_id)`, none),
	// Optional parameters.
	sq[opt, str]("nickname by coalesce", `select nick as s from customers where nick = coalesce(@q, nick)`, opt{}),
	sq[opt, str]("phone by a required part", `select phone as s from customers where phone like coalesce(@q, '') || '%'`, opt{}),
	sq[opt, str]("email if asked", `select email as s from customers where (@q::text is null or email ilike '%' || @q || '%') order by created_at desc`, opt{}),
	sq[opt, str]("what was asked", `select coalesce(@q::text, 'none') as s`, opt{}),
	sq[struct{ Q string }, str]("trimmed parameter", `select lower(trim(@q)) as s`, struct{ Q string }{"A"}),
	sq[struct{ Q string }, n64]("optional by an empty text", `select id as n from customers where (@q::text = '' or tier = nullif(@q, '')::tier)`, struct{ Q string }{""}),
	sx[struct{ Q string }]("optional enum kept", `update customers set tier = coalesce(nullif(@q, '')::tier, tier) where id = 1`, struct{ Q string }{""}),
	sx[struct{ Name *string }]("patch", `update customers set full_name = coalesce(@name, full_name), updated_at = now() where id = 1`, struct{ Name *string }{}),
	sx[struct{ Email *string }]("patch of NOT NULL", `update customers set email = coalesce(@email, email) where id = 1`, struct{ Email *string }{}),
	sx[struct{ Email *string }]("patch of NOT NULL by nullif", `update customers set email = coalesce(nullif(trim(@email), ''), email) where id = 1`, struct{ Email *string }{}),
	sx[struct {
		Set   bool
		Phone *string
	}]("patch with a flag", `update customers set phone = case when @set then @phone else phone end where id = 1`, struct {
		Set   bool
		Phone *string
	}{}),
	// Keyset paging.
	sq[struct {
		After *int64
		Limit int32
	}, n64]("first page or next", `select id as n from customers where (@after::int8 is null or id > @after) order by id limit @limit`, struct {
		After *int64
		Limit int32
	}{nil, 3}),
	sq[struct {
		T  time.Time
		ID int64
	}, tm]("keyset of two required", `select last_seen as t from customers where (last_seen, id) < (@t, @id) and last_seen is not null order by last_seen desc, id desc`, struct {
		T  time.Time
		ID int64
	}{time.Now(), 1}),
	sq[struct{ T time.Time }, tm]("keyset by hand", `select last_seen as t from customers where last_seen < @t or (last_seen = @t and id < 9)`, struct{ T time.Time }{time.Now()}),
	sq[e, struct {
		N     int64
		Total int64
	}]("page with a total", `select id as n, count(*) over () as total from customers order by id limit 10`, none),
	sq[e, struct {
		N    int64
		Next *int64
	}]("page with the next", `select id as n, lead(id) over (order by id) as next from customers order by id limit 10`, none),
	// Upserts.
	sq[struct {
		Scope, Key string
		Value      json.RawMessage
	}, js]("put", `insert into keyvalue (scope, key, value) values (@scope, @key, @value) on conflict (scope, key) do update set value = excluded.value returning value as j`, struct {
		Scope, Key string
		Value      json.RawMessage
	}{"s", "k", json.RawMessage("1")}),
	sq[struct {
		Scope, Key string
	}, js]("put if absent", `insert into keyvalue (scope, key, value) values (@scope, @key, '{}') on conflict (scope, key) do update set key = excluded.key returning value as j`, struct {
		Scope, Key string
	}{"s", "x"}),
	sq[e, tm]("put with an expiry that is kept", `insert into keyvalue (scope, key, value, expires_at) values ('s', 'k', '1', now()) on conflict (scope, key) do update set expires_at = greatest(keyvalue.expires_at, excluded.expires_at) returning expires_at as t`, none),
	sq[e, bl]("put and see whether new", `insert into keyvalue (scope, key) values ('s', 'k') on conflict (scope, key) do update set value = null returning (xmax = 0) as b`, none),
	sq[struct{ Email, Name string }, n64]("sign up or find", `insert into customers (email, full_name) values (@email, @name) on conflict (email) do update set full_name = coalesce(customers.full_name, excluded.full_name) returning id as n`, struct{ Email, Name string }{"ada@x", "A"}),
	sq[struct{ Email, Name string }, str]("sign up or find the name", `insert into customers (email, full_name) values (@email, @name) on conflict (email) do update set full_name = coalesce(customers.full_name, excluded.full_name) returning email_lower as s`, struct{ Email, Name string }{"ada@x", "A"}),
	sq[struct{ Email, Name string }, str]("sign up and the generated name", `insert into customers (email, full_name) values (@email, @name) returning shown as s`, struct{ Email, Name string }{"new@x", "A"}),
	sq[struct{ Email string }, n64]("sign up once", `with n as (insert into customers (email) values (@email) on conflict do nothing returning id) select id as n from n union all select id from customers where email = @email limit 1`, struct{ Email string }{"ada@x"}),
	sq[e, n64]("stock taken in", `insert into stock as s (warehouse, product_id, qty) select 'north', id, 1 from products on conflict (warehouse, product_id) do update set qty = s.qty + excluded.qty returning qty::int8 as n`, none),
	sq[e, n64]("minimum that is kept", `insert into stock as s (warehouse, product_id, min_qty) select 'north', id, 1 from products on conflict (warehouse, product_id) do update set min_qty = coalesce(s.min_qty, excluded.min_qty) returning min_qty::int8 as n`, none),
	sq[e, n64]("minimum where it is higher", `insert into stock as s (warehouse, product_id, min_qty) select 'north', id, 1 from products on conflict (warehouse, product_id) do update set min_qty = excluded.min_qty where s.min_qty is distinct from excluded.min_qty returning min_qty::int8 as n`, none),
	// CTEs that write.
	sq[e, sn]("moved rows", `with gone as (delete from outbox where done_at is not null returning *), kept as (insert into keyvalue (scope, key, value) select 'out', id::text, payload from gone returning key) select topic as s, id as n from gone`, none),
	sq[e, tm]("done rows", `with gone as (delete from outbox where done_at is not null returning *) select done_at as t from gone`, none),
	sq[e, sn]("claim", `with next as (select id from outbox where done_at is null and (locked_until is null or locked_until < now()) order by id for update skip locked limit 5) update outbox o set locked_by = 'w', locked_until = now() + interval '1 minute', attempts = attempts + 1 from next where next.id = o.id returning o.locked_by as s, o.id as n`, none),
	sq[e, tm]("claim and the lock", `update outbox set locked_until = now() + (attempts + 1) * interval '1 minute' where id in (select id from outbox where done_at is null for update skip locked) returning locked_until as t`, none),
	sq[e, tm]("claim and the lock that was", `update outbox o set locked_by = 'w' from (select id, locked_until from outbox where locked_until < now()) x where x.id = o.id returning x.locked_until as t`, none),
	sq[e, tm]("claim and the lock that is", `update outbox o set locked_by = 'w' where locked_until < now() returning locked_until as t`, none),
	sq[struct {
		CustomerID int64
		Email      string
	}, n64]("order and items", `with o as (insert into orders (customer_id) values (@customer_id) returning id, customer_id), i as (insert into items (order_id, line, product_id, qty, price) select o.id, 1, p.id, 1, p.price from o, products p where p.sku = 'P1' returning order_id, price) select o.customer_id as n from o`, struct {
		CustomerID int64
		Email      string
	}{1, ""}),
	sq[e, n64]("transfer of credit", `with a as (update customers set credit = credit - 1 where id = 1 returning credit), b as (update customers set credit = credit + 1 where id = 2 returning credit) select (a.credit + b.credit)::int8 as n from a, b`, none),
	sq[e, n64]("sum of deleted", `with d as (delete from sessions where expires_at < now() returning 1) select count(*) as n from d`, none),
	// Lateral, arrays, JSON.
	sq[e, sn]("top products of an order", `select o.state as s, t.n from orders o cross join lateral (select i.product_id::int8 as n from items i where i.order_id = o.id order by i.price desc limit 2) t`, none),
	sq[e, sn]("amenities", `select a as s, count(*) as n from rooms r cross join lateral unnest(r.amenities) a where a is not null group by a`, none),
	sq[e, str]("tags as text", `select array_to_string(tags, ',') as s from customers`, none),
	sq[e, n64]("how many tags", `select cardinality(tags)::int8 as n from customers`, none),
	sq[e, n64]("how many tags by length", `select coalesce(array_length(tags, 1), 0)::int8 as n from customers`, none),
	sq[e, n64]("how many tags by length alone", `select array_length(tags, 1)::int8 as n from customers where tags <> '{}'`, none),
	sq[e, arr]("aliases that hold one", `select array_remove(aliases, null) as a from customers where 'ada' = any(aliases)`, none),
	sq[e, arr]("aliases by contains", `select array_remove(aliases, null) as a from customers where aliases @> array['ada']`, none),
	sq[e, arr]("tags added", `update customers set tags = array_append(array_remove(tags, 'x'), 'x') where id = 1 returning array_remove(tags, null) as a`, none),
	sq[struct{ Tag *string }, n64]("tag in a filter", `select id as n from customers where @tag::text is null or tags @> array[@tag]`, struct{ Tag *string }{}),
	sq[e, arr]("emails of an order's customers", `select array_agg(distinct c.email) as a from orders o join customers c on c.id = o.customer_id group by o.state`, none),
	sq[e, arr]("emails of all", `select array_agg(email order by id) as a from customers`, none),
	sq[e, js]("order as JSON", `select jsonb_build_object('id', o.id, 'items', coalesce((select jsonb_agg(jsonb_build_object('sku', p.sku, 'qty', i.qty) order by i.line) from items i join products p on p.id = i.product_id where i.order_id = o.id), '[]'::jsonb)) as j from orders o`, none),
	sq[e, js]("items as JSON or nothing", `select (select jsonb_agg(i) from items i where i.order_id = o.id) as j from orders o`, none),
	sq[e, str]("to_jsonb of a row", `select to_jsonb(c)::text as s from customers c`, none),
	sq[e, str]("strip nulls", `select jsonb_strip_nulls(to_jsonb(c) - 'email')::text as s from customers c`, none),
	sq[e, str]("json of a subselect row", `select row_to_json(x)::text as s from (select id, full_name from customers) x`, none),
	sq[e, str]("theme by default", `select coalesce(prefs->>'theme', 'light') as s from customers`, none),
	sq[e, str]("theme that is set", `select prefs->>'theme' as s from customers where prefs->>'theme' is not null`, none),
	sq[e, str]("theme that is dark", `select prefs->>'theme' as s from customers where prefs->>'theme' = 'dark'`, none),
	sq[e, str]("city chained", `select coalesce(profile->'address'->>'city', '?') as s from customers`, none),
	sq[e, bl]("notify by email", `select coalesce((prefs->'notify'->>'email')::bool, true) as b from customers`, none),
	sq[e, bl]("has a link safely", `select coalesce(profile, '{}') @> '{"links": ["a"]}' as b from customers`, none),
	sq[e, js]("links with ordinality", `select l.value as j from customers c cross join lateral jsonb_array_elements(c.profile->'links') with ordinality l(value, n) where jsonb_typeof(l.value) = 'string'`, none),
	sq[e, n64]("ordinality", `select l.n from customers c cross join lateral jsonb_array_elements(c.profile->'links') with ordinality l(value, n)`, none),
	sq[e, str]("keys of prefs", `select jsonb_object_keys(prefs) as s from customers`, none),
	sq[e, s2]("pairs of prefs set", `select key as a, value as b from customers, jsonb_each_text(prefs) where value is not null`, none),
	sq[e, str]("set in JSON", `update customers set prefs = jsonb_set(prefs, '{theme}', '"x"') where id = 1 returning prefs::text as s`, none),
	sx[struct{ Theme *string }]("merged JSON", `update customers set prefs = prefs || jsonb_build_object('theme', @theme::text) where id = 1`, struct{ Theme *string }{}),
	sx[struct{ P json.RawMessage }]("merged JSON of a slice", `update customers set prefs = prefs || coalesce(@p::jsonb, '{}') where id = 1`, struct{ P json.RawMessage }{}),
	sq[struct{ Lines json.RawMessage }, sn]("lines from JSON joined", `select p.sku as s, x.qty as n from jsonb_to_recordset(@lines) x(sku text, qty int8) join products p on p.sku = x.sku where x.qty > 0`, struct{ Lines json.RawMessage }{json.RawMessage(`[{"sku": "P1", "qty": 1}]`)}),
	sq[struct {
		IDs  []int64
		Qtys []int64
	}, n64]("two arrays joined", `select x.id as n from unnest(@ids::int8[], @qtys::int8[]) x(id, qty) join customers c on c.id = x.id`, struct {
		IDs  []int64
		Qtys []int64
	}{[]int64{1, 2}, []int64{1}}),
	sx[struct {
		Keys   []string
		Values []string
	}]("insert of two arrays of one length", `insert into keyvalue (scope, key, value) select 'u', k, to_jsonb(v) from unnest(@keys::text[], @values::text[]) x(k, v) where k is not null`, struct {
		Keys   []string
		Values []string
	}{[]string{"a"}, []string{"b", "c"}}),
	sq[struct{ IDs []int64 }, sn]("rows in the order asked", `select c.email as s, x.ord as n from unnest(@ids::int8[]) with ordinality x(id, ord) join customers c using (id) order by x.ord`, struct{ IDs []int64 }{[]int64{1}}),
	sq[struct{ IDs []int64 }, n64]("ids asked", `select x.id as n from unnest(@ids::int8[]) x(id) left join customers c using (id) where c.id is null`, struct{ IDs []int64 }{[]int64{99}}),
	// Windows and aggregates.
	sq[e, sn]("running total", `select number as s, sum(due) over (partition by customer_id order by id)::int8 as n from invoices where number is not null`, none),
	sq[e, f64]("share of a total that is not 0", `select coalesce(due / nullif(sum(due) over (), 0), 0)::float8 as f from invoices`, none),
	sq[e, f64]("change to the last or 0", `select coalesce(value - lag(value) over (partition by sensor order by at), 0) as f from readings`, none),
	sq[e, n64]("gap to the last", `select extract(epoch from at - lag(at, 1, at) over (partition by sensor order by at))::int8 as n from readings`, none),
	sq[e, n64]("rank", `select rank() over (partition by warehouse order by qty desc) as n from stock`, none),
	sq[e, n32]("ntile", `select ntile(4) over (order by qty) as n from stock`, none),
	sq[e, f64]("moving average", `select avg(value) over (partition by sensor order by at rows between 2 preceding and current row) as f from readings where value is not null`, none),
	sq[e, str]("first of a window", `select first_value(warehouse) over w as s from stock window w as (partition by product_id order by qty desc)`, none),
	sq[e, tm]("last reading of each", `select distinct on (sensor) at as t from readings order by sensor, at desc`, none),
	sq[e, f64]("last known value of each", `select distinct on (sensor) value as f from readings where value is not null order by sensor, at desc`, none),
	sq[e, tm]("last time by array_agg", `select (array_agg(at order by at desc))[1] as t from readings group by sensor`, none),
	sq[e, struct{ Good, Bad int64 }]("counts by filter", `select count(*) filter (where quality = 1) as good, count(*) filter (where quality is distinct from 1) as bad from readings`, none),
	sq[e, n64]("sum by filter or 0", `select coalesce(sum(qty) filter (where warehouse = 'north'), 0) as n from stock group by product_id`, none),
	sq[e, n64]("sum by a case", `select sum(case when warehouse = 'north' then qty else 0 end) as n from stock group by product_id`, none),
	sq[e, bl]("any by bool_or", `select bool_or(refund_of is not null) as b from payments group by invoice_id`, none),
	sq[e, str]("methods or nothing", `select coalesce(string_agg(distinct method, ','), '') as s from payments group by invoice_id`, none),
	sq[e, str]("methods that are set", `select string_agg(method, ',' order by id) as s from payments where method is not null group by invoice_id`, none),
	sq[e, arr]("methods array in a filter", `select array_agg(method) filter (where method is not null) as a from payments group by invoice_id`, none),
	sq[e, arr]("methods array in a filter or empty", `select coalesce(array_agg(method) filter (where method is not null), '{}') as a from payments group by invoice_id`, none),
	sq[e, arr]("methods array in a filter by a strict condition", `select coalesce(array_agg(method) filter (where method <> ''), '{}') as a from payments group by invoice_id`, none),
	sq[e, tm]("last payment", `select max(p.at) as t from invoices i join payments p on p.invoice_id = i.id group by i.id`, none),
	sq[e, tm]("last payment that is", `select max(p.at) as t from invoices i left join payments p on p.invoice_id = i.id group by i.id having max(p.at) < now()`, none),
	sq[e, tm]("last payment by a sum", `select max(p.at) as t from invoices i left join payments p on p.invoice_id = i.id group by i.id having sum(p.amount) >= 0`, none),
	sq[e, f64]("median of the known", `select percentile_cont(0.5) within group (order by value) as f from readings where value is not null group by sensor`, none),
	sq[e, str]("mode", `select mode() within group (order by warehouse) as s from stock group by product_id`, none),
	sq[e, f64]("spread or 0", `select coalesce(stddev_samp(qty), 0)::float8 as f from stock group by warehouse`, none),
	sq[e, sn]("rollup by grouping", `select case grouping(warehouse) when 1 then 'total' else warehouse end as s, count(*) as n from stock group by rollup (warehouse)`, none),
	// Recursion.
	sq[e, str]("categories below", `with recursive t as (select id, name, parent_id from categories where id = 1 union all select c.id, c.name, c.parent_id from categories c join t on c.parent_id = t.id) select name as s from t`, none),
	sq[e, n64]("parents below the first", `with recursive t as (select id, parent_id from categories where parent_id = 1 union all select c.id, c.parent_id from categories c join t on c.parent_id = t.id) select parent_id::int8 as n from t`, none),
	sq[e, str]("path of categories", `with recursive t as (select id, name::text as path from categories where parent_id is null union all select c.id, t.path || ' > ' || c.name from categories c join t on c.parent_id = t.id) select path as s from t`, none),
	sq[e, n64]("replies", `with recursive t as (select id, reply_to, 0 as depth from messages where reply_to is null union all select m.id, m.reply_to, t.depth + 1 from messages m join t on m.reply_to = t.id where t.depth < 5) select reply_to as n from t where depth > 0`, none),
	sq[e, n64]("ancestors", `with recursive up as (select id, parent_id from categories where id = 3 union all select c.id, c.parent_id from up join categories c on c.id = up.parent_id) select id::int8 as n from up where parent_id is null`, none),
	sq[e, n64]("numbers", `with recursive n(n) as (select 1::int8 union all select n + 1 from n where n < 10) select n from n`, none),
	sq[e, n64]("numbers summed", `with recursive n(n) as (values (1::int8) union all select n + 1 from n where n < 10) select sum(n)::int8 as n from n`, none),
	// Sets.
	sq[e, sn]("timeline", `select 'order' as s, id as n from orders union all select 'invoice', id from invoices union all select 'booking', id from bookings`, none),
	sq[e, s2]("people to mail", `select email as a, 'customer' as b from customers where deleted_at is null union select guest_email, 'guest' from orders where guest_email is not null`, none),
	sq[e, n64]("customers without an order", `select id as n from customers except select customer_id from orders`, none),
	sq[e, n64]("customers with an order and a booking set", `select customer_id as n from orders where customer_id is not null intersect select customer_id from bookings`, none),
	sq[e, sn]("VALUES joined", `select v.label as s, count(o.id) as n from (values ('new', 'New'), ('shipped', 'Shipped')) v(state, label) left join orders o on o.state = v.state group by v.state, v.label`, none),
	sq[e, str]("VALUES with a lookup", `select v.label as s from orders o join (values ('new', 'New'), ('shipped', 'Shipped')) v(state, label) using (state)`, none),
	// Subqueries, exists, in, any.
	sq[e, n64]("count in a subquery", `select (select count(*) from orders o where o.customer_id = c.id) as n from customers c`, none),
	sq[e, n64]("sum in a subquery or 0", `select coalesce((select sum(i.qty) from items i where i.order_id = o.id), 0) as n from orders o`, none),
	sq[e, n64]("sum in a subquery with coalesce within", `select (select coalesce(sum(i.qty), 0) from items i where i.order_id = o.id) as n from orders o`, none),
	sq[e, str]("name of a customer by a subquery", `select (select c.email from customers c where c.id = s.customer_id) as s from subscriptions s`, none),
	sq[e, n64]("customers in orders", `select customer_id as n from orders where customer_id in (select id from customers where tier <> 'free')`, none),
	sq[struct{ IDs []int64 }, n64]("customers of orders by any", `select customer_id as n from orders where customer_id = any(@ids)`, struct{ IDs []int64 }{[]int64{1}}),
	sq[e, bl]("in a list", `select state in ('new', 'paid') as b from orders`, none),
	sq[e, bl]("exists with or", `select exists (select from items where order_id = o.id) or o.coupon is not null as b from orders o`, none),
	sq[e, bl]("null-safe comparison", `select coupon is not distinct from 'C1' as b from orders`, none),
	sq[e, bl]("shipped", `select shipped_at is not null as b from orders`, none),
	sq[e, bl]("late", `select due_on < current_date and paid_at is null as b from invoices`, none),
	sq[e, bl]("not discontinued", `select discontinued is not true as b from products`, none),
	// Types.
	sq[e, str]("wanted tier or current", `select coalesce(wanted, tier)::text as s from customers`, none),
	sq[e, str]("nick by a domain", `select nick as s from customers where nick <> 'x'`, none),
	sq[e, str]("code by a domain", `select code as s from plans`, none),
	sq[e, n32]("quantity by a domain", `select quantity as n from subscriptions`, none),
	sq[e, str]("shown generated", `select shown as s from customers`, none),
	sq[e, str]("email_lower generated", `select email_lower as s from customers`, none),
	sq[e, str]("phone_norm of a phone", `select phone_norm as s from customers where phone is not null`, none),
	sq[e, f64]("balance generated", `select balance::float8 as f from invoices`, none),
	sq[e, n64]("cents of a composite that is", `select (total).cents as n from orders where (total).cents > 0`, none),
	sq[e, n64]("cents of a composite that is set", `select (total).cents as n from orders where total is not null`, none),
	sq[e, n64]("cents of a composite or 0", `select coalesce((total).cents, 0) as n from orders`, none),
	sq[e, tm]("from of a booking", `select lower(during) as t from bookings`, none),
	sq[e, tm]("until of a booking", `select upper(during) as t from bookings`, none),
	sq[e, tm]("from of a period that is", `select lower(period) as t from invoices where lower(period) > '2020-01-01'`, none),
	sq[e, tm]("from of a period that contains", `select lower(period) as t from invoices where period @> '2026-01-10'::timestamptz`, none),
	sq[e, bl]("overlap of ranges", `select during && tstzrange(now(), null) as b from bookings`, none),
	sq[e, bl]("closed now", `select coalesce(closed @> current_date, false) as b from rooms`, none),
	sq[e, struct {
		R pgtype.Range[pgtype.Timestamptz]
	}]("a range of a booking", `select during * tstzrange(now(), null) as r from bookings`, none),
	sq[e, struct {
		R pgtype.Range[pgtype.Date]
	}]("a nullable range in a pgtype range", `select closed as r from rooms`, none),
	sq[e, struct{ V netip.Addr }]("ip", `select ip as v from sessions`, none),
	sq[e, struct{ V *netip.Addr }]("ip pointer", `select ip as v from sessions`, none),
	sq[e, struct{ V pgtype.Text }]("agent text", `select agent as v from sessions`, none),
	sq[e, struct{ V time.Duration }]("age as a duration", `select now() - created_at as v from sessions`, none),
	sq[e, struct{ V []byte }]("hash", `select sha256(token::bytea) as v from sessions`, none),
	sq[e, struct {
		P map[string]any
	}]("nullable JSON in a map", `select profile as p from customers`, none),
	sq[e, struct {
		P struct{ Theme *string }
	}]("JSON in a struct", `select prefs as p from customers`, none),
	sq[e, struct {
		P *struct{ Bio *string }
	}]("nullable JSON in a pointer", `select profile as p from customers`, none),
	// Dates.
	sq[e, tm]("start of a month", `select date_trunc('month', created_at) as t from customers`, none),
	sq[e, n64]("year of birth that is", `select extract(year from birthday)::int8 as n from customers where birthday < '2000-01-01'`, none),
	sq[e, n64]("age in years", `select extract(year from age(birthday))::int8 as n from customers where birthday is not null`, none),
	sq[e, str]("month as text", `select to_char(placed_at, 'YYYY-MM') as s from orders group by 1`, none),
	sq[e, tm]("trial or a week", `select coalesce(trial_ends, started_at + interval '7 days') as t from subscriptions`, none),
	sq[e, tm]("canceled subscription", `select canceled_at as t from subscriptions where status = 'canceled'`, none),
	sq[e, tm]("ends in the past", `select ends_at as t from subscriptions where coalesce(ends_at, 'infinity') < now()`, none),
	sq[e, tm]("day of a series", `select d as t from generate_series(now() - interval '3 days', now(), '1 day') d`, none),
	sq[e, struct {
		T time.Time
		N int64
	}]("orders per day", `select d::timestamptz as t, count(o.id) as n from generate_series(current_date - 3, current_date, '1 day') d left join orders o on o.placed_at >= d and o.placed_at < d + interval '1 day' group by d order by d`, none),
	sq[e, struct {
		T time.Time
		F float64
	}]("value per hour", `select h as t, coalesce(avg(r.value), 0) as f from generate_series('2026-01-01'::timestamptz, '2026-01-02', '1 hour') h left join readings r on date_trunc('hour', r.at) = h group by h`, none),
	sq[e, sn]("hour of a day", `select to_char(make_time(h, 0, 0), 'HH24:MI') as s, count(o.id) as n from generate_series(0, 23) h left join orders o on extract(hour from o.placed_at) = h group by h`, none),
	sq[e, bl]("open now or always", `select coalesce(localtime between opens and closes, true) as b from buildings`, none),
	sq[e, str]("opening hours", `select format('%s - %s', opens, closes) as s from buildings`, none),
	sq[e, str]("address in one line", `select concat_ws(', ', name, city) as s from buildings`, none),
	sq[e, str]("address by concat", `select concat(name, ' ', city) as s from buildings`, none),
	sq[e, str]("address by || with coalesce", `select name || coalesce(', ' || city, '') as s from buildings`, none),
	sq[e, struct{ V pgtype.Interval }]("opening time", `select closes - opens as v from buildings`, none),
	sq[e, struct{ V time.Time }]("local time", `select placed_at at time zone b.tz as v from orders, buildings b`, none),
	// Functions of one's own.
	sq[e, str]("display name", `select display_name(full_name, email) as s from customers`, none),
	sq[e, n64]("cents of a price", `select cents(price) as n from products`, none),
	sq[e, str]("initials", `select initials(email) as s from customers`, none),
	sq[e, n32]("plan price", `select plan_price(p, true) as n from plans p`, none),
	sq[e, bl]("is live", `select is_live(c) as b from customers c`, none),
	sq[e, bl]("is live by notation", `select c.is_live as b from customers c where c.is_live`, none),
	sq[e, f64]("net", `select net(price)::float8 as f from products`, none),
	sq[e, n64]("orders by a function", `select f.order_id as n from customers c, customer_orders(c.id) f`, none),
	sq[e, n64]("totals by a function that are", `select f.total as n from customers c, customer_orders(c.id) f where f.total > 0`, none),
	sq[e, str]("display name in a filter", `select full_name as s from customers where initials(full_name) = 'A'`, none),
	// Full text.
	sq[struct{ Q string }, str]("search", `select title as s from products where search @@ websearch_to_tsquery('simple', @q) order by ts_rank(search, websearch_to_tsquery('simple', @q)) desc`, struct{ Q string }{"saw"}),
	sq[struct{ Q string }, f64]("rank of a search", `select ts_rank(search, plainto_tsquery('simple', @q))::float8 as f from products`, struct{ Q string }{"saw"}),
	sq[struct{ Q string }, str]("headline", `select ts_headline('simple', coalesce(description, ''), to_tsquery('simple', @q)) as s from products`, struct{ Q string }{"saw"}),
	sq[struct{ Q string }, str]("description that matches", `select description as s from products where to_tsvector('simple', description) @@ plainto_tsquery('simple', @q)`, struct{ Q string }{"sharp"}),
	// Views.
	sq[e, s2]("active subscriptions", `select email as a, plan as b from active_subscriptions`, none),
	sq[e, struct {
		ID            int64
		Email         string
		Orders, Spent int64
		LastOrder     *time.Time
	}]("summary", `select * from customer_summary`, none),
	sq[e, tm]("last order of those with any", `select last_order as t from customer_summary where orders > 0`, none),
	sq[e, tm]("paid invoices", `select paid_at as t from paid_invoices`, none),
	sq[e, s2]("directory", `select email as a, label as b from directory`, none),
	sq[e, str]("papers", `select title as s from papers where not deleted`, none),
	sq[e, str]("papers with a body", `select body as s from papers where length(body) > 0`, none),
	sq[e, sn]("papers with the last revision", `select p.title as s, r.rev::int8 as n from papers p join lateral (select rev from revisions where paper_id = p.id order by rev desc limit 1) r on true`, none),
	sq[e, sn]("papers with a count", `select p.title as s, coalesce(r.n, 0) as n from papers p left join (select paper_id, count(*) as n from revisions group by paper_id) r on r.paper_id = p.id`, none),
	sq[e, s2]("messages in partitions", `select body as a, topic as b from messages m join rooms_chat c on c.id = m.room_id where m.sent_at > '2026-01-01' and body is not null and topic is not null`, none),
	sq[e, bl]("pinned", `select coalesce((meta->>'pinned')::bool, false) as b from messages`, none),
	// Writes.
	sx[struct{ Sku, Title string }]("insert with a price", `insert into products (sku, title, price, attrs) values (@sku, @title, 1, '{"kind": 1}')`, struct{ Sku, Title string }{"x", "x"}),
	sx[e]("insert select of a nullable that is", `insert into reactions (message_id, customer_id, emoji) select id, sender, 'a' from messages where sender is not null and id > 11`, none),
	sx[e]("insert select by a join", `insert into reactions (message_id, customer_id, emoji) select m.id, c.id, 'b' from messages m join customers c on c.id = m.sender`, none),
	sx[e]("insert select by a lookup", `insert into items (order_id, line, product_id, qty, price) select o.id, 9, p.id, 1, p.price from orders o, products p where p.sku = 'P1'`, none),
	sx[e]("update from a join", `update products p set category_id = c.id from categories c where c.name = p.title`, none),
	sx[e]("update NOT NULL from a left join or 0", `update stock s set qty = coalesce(x.n, 0) from (select p.id, sum(i.qty)::int4 as n from products p left join items i on i.product_id = p.id group by p.id) x where x.id = s.product_id`, none),
	sx[e]("update NOT NULL from VALUES", `update stock s set qty = v.q from (values (1, 5), (2, 6)) v(id, q) where v.id = s.product_id`, none),
	sx[e]("update by a subquery of a key", `update subscriptions s set quantity = (select p.id from plans p where p.id = s.plan_id)`, none),
	sx[e]("delete using", `delete from sessions s using customers c where c.id = s.customer_id and c.deleted_at is not null`, none),
	sq[e, tm]("revoked sessions", `update sessions set revoked_at = coalesce(revoked_at, now()) returning revoked_at as t`, none),
	sq[e, tm]("renewed sessions", `update sessions set expires_at = greatest(expires_at, now() + interval '1 hour') where revoked_at is null returning expires_at as t`, none),
	sq[struct{ ID, Version int32 }, n64]("optimistic lock", `update customers set full_name = 'x' where id = @id and version = @version returning version::int8 as n`, struct{ ID, Version int32 }{1, 1}),
	sq[struct{ ID int64 }, tm]("updated by a trigger", `update customers set full_name = 'x' where id = @id returning updated_at as t`, struct{ ID int64 }{1}),
	sq[struct{ ID int64 }, str]("name that was set", `update customers set full_name = 'x' where id = @id returning full_name as s`, struct{ ID int64 }{1}),
	sq[e, n64]("next order number", `select nextval('order_numbers') as n`, none),
	sq[e, str]("number of an invoice", `update invoices set number = coalesce(number, 'F-' || to_char(nextval('order_numbers'), 'FM0000')) returning number as s`, none),
	sq[e, str]("locked rows", `select topic as s from outbox where done_at is null for update skip locked`, none),
	sx[e]("merge that inserts with coalesce", `merge into stock s using (select id, category_id from products) p on p.id = s.product_id and s.warehouse = 'west' when not matched then insert (warehouse, product_id, qty) values ('west', p.id, coalesce(p.category_id, 0)) when matched and s.qty = 0 then delete`, none),
	sx[struct{ Q *int32 }]("merge with a pointer and coalesce", `merge into stock s using (select id from products) p on p.id = s.product_id when matched then update set qty = s.qty + coalesce(@q, 0)`, struct{ Q *int32 }{}),
	sc("copy readings", pgx.Identifier{"readings"}, struct {
		Sensor string
		At     time.Time
		Value  *float64
	}{"z", time.Now(), nil}),
	sc("copy products", pgx.Identifier{"products"}, struct {
		Sku, Title string
		Price      float64
		Attrs      map[string]any `validate:"required"`
	}{"z", "z", 1, map[string]any{"kind": 1}}),
	sc("copy messages", pgx.Identifier{"messages"}, struct {
		ID, RoomID int64
		Sender     *int64
		SentAt     time.Time
	}{77, 1, nil, time.Now()}),
	// More of what the survey found.
	sq[e, str]("timeline of one kind", `select ref as s from (select 'order' as kind, state as ref from orders union all select 'invoice', number from invoices) x where kind = 'order'`, none),
	sq[e, str]("timeline of a number", `with x as (select 1 as kind, state as ref from orders union all select 2, number from invoices) select ref as s from x where kind < 2`, none),
	sq[e, n64]("levels below the root", `with recursive t as (select id, parent_id, 1 as level from categories where parent_id is null union all select c.id, c.parent_id, t.level + 1 from categories c join t on c.parent_id = t.id) select parent_id::int8 as n from t where level > 1`, none),
	sq[e, tm]("last seen with a sum", `select x.last as t from (select p.invoice_id, max(p.at) as last, count(*) as n from invoices i left join payments p on p.invoice_id = i.id group by p.invoice_id) x where x.invoice_id > 0`, none),
	sq[e, f64]("spread of several", `select stddev_samp(qty)::float8 as f from stock group by warehouse having count(*) > 1`, none),
	sq[e, str]("theme that is a text", `select prefs->>'theme' as s from customers where jsonb_typeof(prefs->'theme') = 'string'`, none),
	sq[e, str]("theme contained", `select prefs->>'theme' as s from customers where prefs @> '{"theme": "dark"}'`, none),
	sq[e, tm]("expires later", `select expires_at as t from keyvalue where coalesce(expires_at, '-infinity') > now()`, none),
	sq[e, tm]("expired", `select expires_at as t from keyvalue where coalesce(expires_at, 'infinity'::timestamptz) <= now()`, none),
	sq[e, struct{ T pgtype.Date }]("a date with infinity", `select birthday as t from customers where coalesce(birthday, 'infinity') > current_date`, none),
	sq[struct{ ID int64 }, str]("shown after an update", `update customers set full_name = null where id = @id returning shown as s`, struct{ ID int64 }{1}),
	sq[struct {
		ID    int64
		Phone string
	}, str]("phone_norm after an update to a value", `update customers set phone = @phone where id = @id returning phone_norm as s`, struct {
		ID    int64
		Phone string
	}{1, "1"}),
	sq[struct{ Email, Phone string }, str]("phone_norm of a new one", `insert into customers (email, phone) values (@email, @phone) returning phone_norm as s`, struct{ Email, Phone string }{"n@x", "1"}),
	sq[e, str]("phone_norm of a left join", `select r.phone_norm as s from customers c left join customers r on r.id = c.referred_by where r.phone is not null`, none),
	sq[e, str]("currency of a total that is", `select (total).currency as s from orders where total is not null and state = 'shipped'`, none),
	sx[struct{ Version *int32 }]("pointer that a trigger replaces", `update customers set version = @version where id = 1`, struct{ Version *int32 }{}),
	sq[e, n64]("net with a rate", `select cents(net(price, 0.1)) as n from products`, none),
	sq[e, n64]("net with a named rate", `select cents(net(gross => price)) as n from products`, none),
	sq[e, str]("display name of a condition", `select display_name(full_name, phone) as s from customers where phone is not null`, none),
	sx[e]("merge that skips NULL", `merge into stock s using (select id, category_id from products) p on p.id = s.product_id when matched and p.category_id is not null then update set qty = p.category_id`, none),
	sx[e]("merge that skips NULL before", `merge into stock s using (select id, category_id from products) p on p.id = s.product_id when matched and p.category_id is null then do nothing when matched then update set qty = p.category_id`, none),
	sx[e]("merge by the column", `merge into stock s using (select distinct category_id from products) p on p.category_id = s.product_id when matched then update set qty = p.category_id`, none),
	sq[e, tm]("canceled of two", `select canceled_at as t from subscriptions where status in ('canceled')`, none),
	sq[e, str]("owner of an order by coalesce of three", `select coalesce(c.full_name, c.email, o.guest_email) as s from orders o left join customers c on c.id = o.customer_id`, none),
	sq[e, n64]("summed with a first row", `select max(n)::int8 as n from (select 0 as n union all select qty from stock) x`, none),
}
