package verify_test

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// marketWrong can fail, for some of the data.
var marketWrong = []service{
	// Joins with filters.
	sq[e, s2]("subscription with its next plan", `select s.status as a, p.name as b from subscriptions s left join plans p on p.id = s.next_plan`, none),
	sq[e, s2]("next plan by or of the other", `select s.status as a, p.name as b from subscriptions s left join plans p on p.id = s.next_plan where p.price > 100 or s.quantity > 0`, none),
	sq[e, s2]("building city", `select r.name as a, b.city as b from rooms r join buildings b on b.id = r.building_id`, none),
	sq[e, n64]("free rooms with the booking", `select k.id as n from rooms r left join bookings k on k.room_id = r.id and k.during && tstzrange(now(), now() + interval '1 hour') where k.id is null`, none),
	sq[e, s2]("chat with the last message left", `select coalesce(c.topic, '') as a, m.body as b from rooms_chat c left join lateral (select body from messages m where m.room_id = c.id and body is not null order by sent_at desc limit 1) m on true`, none),
	sq[e, n64]("the message that was read last", `select m.id as n from members p left join messages m on m.id = p.last_read where p.last_read is not null`, none),
	sq[e, s2]("sender or nothing", `select coalesce(m.body, '') as a, coalesce(c.full_name, c.email) as b from messages m left join customers c on c.id = m.sender`, none),
	sq[e, s2]("referrer who is there", `select c.email as a, r.email as b from customers c left join customers r on r.id = c.referred_by and r.deleted_at is null where c.referred_by is not null`, none),
	sq[e, str]("order item's category", `select c.name as s from items i join products p on p.id = i.product_id left join categories c on c.id = p.category_id`, none),
	sq[e, str]("guest of any order", `select guest_email as s from orders where state = 'new'`, none),
	sq[e, n64]("full join of stock by a quantity", `select a.qty::int8 as n from (select * from stock where warehouse = 'north') a full join (select * from stock where warehouse = 'south') b using (product_id)`, none),
	// Optional parameters.
	sq[opt, str]("nickname if asked", `select nick as s from customers where (@q::text is null or nick = @q)`, opt{}),
	sq[opt, str]("what was asked raw", `select @q::text as s`, opt{}),
	sq[opt, str]("what was asked lower", `select lower(trim(@q)) as s`, opt{}),
	sq[struct{ Q string }, str]("nullif of a parameter", `select nullif(@q, '') as s`, struct{ Q string }{""}),
	sq[struct{ Q string }, str]("optional enum set", `update customers set wanted = nullif(@q, '')::tier where id = 1 returning wanted::text as s`, struct{ Q string }{""}),
	sx[struct{ Q string }]("optional enum to NOT NULL", `update customers set tier = nullif(@q, '')::tier where id = 1`, struct{ Q string }{""}),
	sx[struct{ Email *string }]("patch without coalesce", `update customers set email = lower(@email) where id = 1`, struct{ Email *string }{}),
	sx[struct {
		Set   bool
		Email *string
	}]("patch of NOT NULL with a flag", `update customers set email = case when @set then @email else email end where id = 1`, struct {
		Set   bool
		Email *string
	}{true, nil}),
	// Keyset paging.
	sq[struct {
		T  *time.Time
		ID int64
	}, tm]("keyset of two", `select last_seen as t from customers where @t::timestamptz is null or (last_seen, id) < (@t, @id) order by last_seen desc, id desc`, struct {
		T  *time.Time
		ID int64
	}{}),
	sq[struct{ T time.Time }, tm]("keyset by hand with nulls last", `select last_seen as t from customers where last_seen < @t or last_seen is null`, struct{ T time.Time }{time.Now()}),
	// Upserts.
	sq[e, tm]("put with an expiry that is added", `insert into keyvalue (scope, key, value, expires_at) values ('s', 'k', '1', now()) on conflict (scope, key) do update set expires_at = keyvalue.expires_at + interval '1 day' returning expires_at as t`, none),
	sq[struct{ Email string }, str]("sign up and the phone", `insert into customers (email) values (@email) returning phone_norm as s`, struct{ Email string }{"new@x"}),
	sq[e, n64]("stock taken in with the minimum", `insert into stock as s (warehouse, product_id, qty) select 'north', id, 1 from products on conflict (warehouse, product_id) do update set qty = s.qty + excluded.qty returning min_qty::int8 as n`, none),
	// CTEs that write.
	sq[e, str]("error of done rows", `with gone as (delete from outbox where done_at is not null returning *) select last_error as s from gone`, none),
	sq[e, sn]("claim and the old error", `with next as (select id, last_error from outbox where done_at is null order by id for update skip locked limit 5) update outbox o set locked_by = 'w', last_error = null from next where next.id = o.id returning next.last_error as s, o.id as n`, none),
	sq[e, n64]("audit of what was archived", `with u as (update rooms_chat set archived = true where not archived returning id, created_by) select created_by as n from u`, none),
	// Lateral, arrays, JSON.
	sq[e, str]("aliases as text", `select array_to_string(aliases, ',') as s from customers`, none),
	sq[e, n64]("how many aliases", `select cardinality(aliases)::int8 as n from customers`, none),
	sq[e, arr]("emails of an order's customers left", `select array_agg(distinct c.email) as a from orders o left join customers c on c.id = o.customer_id group by o.state`, none),
	sq[e, struct{ S string }]("items as JSON text", `select (select jsonb_agg(i) from items i where i.order_id = o.id)::text as s from orders o`, none),
	sq[e, str]("to_jsonb of a nullable column", `select to_jsonb(full_name)::text as s from customers`, none),
	sq[e, str]("row_to_json of a left join", `select row_to_json(s)::text as s from customers c left join subscriptions s on s.customer_id = c.id`, none),
	sq[e, str]("theme", `select prefs->>'theme' as s from customers`, none),
	sq[e, str]("theme where the key is", `select prefs->>'theme' as s from customers where prefs ? 'theme'`, none),
	sq[e, str]("kind that a check asks for", `select attrs->>'kind' as s from products`, none),
	sq[e, str]("bio", `select profile->>'bio' as s from customers where profile is not null`, none),
	sq[e, str]("city deep", `select profile #>> '{address,city}' as s from customers`, none),
	sq[e, bl]("notify by email raw", `select (prefs->'notify'->>'email')::bool as b from customers`, none),
	sq[e, bl]("has a link", `select profile @> '{"links": ["a"]}' as b from customers`, none),
	sq[e, str]("links", `select l as s from customers c, jsonb_array_elements_text(c.profile->'links') l`, none),
	sq[e, n64]("ordinality left", `select l.n from customers c left join lateral jsonb_array_elements(c.profile->'links') with ordinality l(value, n) on true`, none),
	sq[e, s2]("pairs of prefs", `select key as a, value as b from customers, jsonb_each_text(prefs)`, none),
	sx[struct{ Theme *string }]("set in JSON to a pointer", `update customers set prefs = jsonb_set(prefs, '{theme}', to_jsonb(@theme::text)) where id = 1`, struct{ Theme *string }{}),
	sx[struct{ P *map[string]any }]("merged JSON of a pointer", `update customers set prefs = prefs || @p::jsonb where id = 1`, struct{ P *map[string]any }{}),
	sq[struct{ Lines json.RawMessage }, sn]("lines from JSON", `select x.sku as s, x.qty as n from jsonb_to_recordset(@lines) x(sku text, qty int8)`, struct{ Lines json.RawMessage }{json.RawMessage(`[{"sku": null}]`)}),
	sq[struct{ IDs []int64 }, str]("rows asked or not there", `select c.email as s from unnest(@ids::int8[]) x(id) left join customers c using (id)`, struct{ IDs []int64 }{[]int64{99}}),
	// Windows and aggregates.
	sq[e, f64]("share of a total", `select due::float8 / nullif(sum(due) over (partition by customer_id), 0)::float8 as f from invoices`, none),
	sq[e, f64]("change to the last", `select (value - lag(value) over (partition by sensor order by at)) as f from readings`, none),
	sq[e, f64]("moving average of NULL", `select avg(value) over (partition by sensor order by at rows between 2 preceding and current row) as f from readings`, none),
	sq[e, f64]("last value of each", `select distinct on (sensor) value as f from readings order by sensor, at desc`, none),
	sq[e, f64]("last value by array_agg", `select (array_agg(value order by at desc))[1] as f from readings group by sensor`, none),
	sq[e, f64]("last value by array_agg with a filter", `select (array_agg(value order by at desc) filter (where value is not null))[1] as f from readings group by sensor`, none),
	sq[e, n64]("sum by filter", `select sum(qty) filter (where warehouse = 'north') as n from stock group by product_id`, none),
	sq[e, n64]("sum by a case without else", `select sum(case when warehouse = 'north' then qty end) as n from stock group by product_id`, none),
	sq[e, bl]("any by bool_or of a nullable comparison", `select bool_or(method = 'card') as b from payments group by invoice_id`, none),
	sq[e, bl]("every over all", `select bool_and(amount > 0) as b from payments`, none),
	sq[e, str]("methods", `select string_agg(method, ',') as s from payments group by invoice_id`, none),
	sq[e, str]("methods in a filter", `select string_agg(method, ',') filter (where method is not null) as s from payments group by invoice_id`, none),
	sq[e, arr]("methods array", `select array_agg(method) as a from payments group by invoice_id`, none),
	sq[e, arr]("methods array in a wrong filter", `select coalesce(array_agg(method) filter (where amount > 0), '{}') as a from payments group by invoice_id`, none),
	sq[e, tm]("last payment left", `select max(p.at) as t from invoices i left join payments p on p.invoice_id = i.id group by i.id`, none),
	sq[e, tm]("last payment by bool_or", `select max(p.at) as t from invoices i left join payments p on p.invoice_id = i.id group by i.id having count(*) > 0`, none),
	sq[e, f64]("median", `select percentile_cont(0.5) within group (order by value) as f from readings group by sensor`, none),
	sq[e, f64]("median of all", `select percentile_cont(0.5) within group (order by qty) as f from stock`, none),
	sq[e, f64]("spread", `select stddev_samp(qty)::float8 as f from stock group by warehouse`, none),
	sq[e, f64]("correlation", `select corr(qty, reserved) as f from stock group by warehouse`, none),
	sq[e, sn]("rollup with a name", `select coalesce(warehouse, 'total') as s, sum(qty) as n from stock group by rollup (warehouse)`, none),
	sq[e, sn]("cube without a name", `select warehouse as s, count(*) as n from stock group by cube (warehouse)`, none),
	// Recursion.
	sq[e, n64]("parents below", `with recursive t as (select id, name, parent_id from categories where id = 1 union all select c.id, c.name, c.parent_id from categories c join t on c.parent_id = t.id) select parent_id::int8 as n from t`, none),
	// Sets.
	sq[e, s2]("people to mail with NULL", `select email as a, 'customer' as b from customers union select guest_email, 'guest' from orders`, none),
	sq[e, n64]("customers with an order and a booking", `select customer_id as n from orders intersect select customer_id from bookings`, none),
	sq[e, str]("VALUES joined left", `select o.coupon as s from (values ('new'), ('shipped')) v(state) left join orders o on o.state = v.state`, none),
	sq[e, str]("VALUES with a lookup left", `select v.label as s from orders o left join (values ('new', 'New'), ('shipped', 'Shipped')) v(state, label) using (state)`, none),
	// Subqueries, exists, in, any.
	sq[e, n64]("sum in a subquery", `select (select sum(i.qty) from items i where i.order_id = o.id) as n from orders o`, none),
	sq[e, n64]("value in a subquery with coalesce within", `select (select coalesce(i.qty, 0)::int8 from items i where i.order_id = o.id limit 1) as n from orders o`, none),
	sq[e, str]("name of a customer by a subquery with a filter", `select (select c.email from customers c where c.id = s.customer_id and c.deleted_at is null) as s from subscriptions s`, none),
	sq[e, str]("name of a customer of an order by a subquery", `select (select c.email from customers c where c.id = o.customer_id) as s from orders o`, none),
	sq[e, n64]("customers of orders with items", `select customer_id as n from orders o where exists (select from items i where i.order_id = o.id)`, none),
	sq[e, n64]("customers of orders not in", `select customer_id as n from orders where customer_id not in (select id from customers where email = 'nobody')`, none),
	sq[struct{ IDs []int64 }, n64]("customers of orders by all", `select customer_id as n from orders where customer_id <> all(@ids)`, struct{ IDs []int64 }{[]int64{}}),
	sq[struct{ IDs []int64 }, n64]("customers of orders by an optional any", `select customer_id as n from orders where cardinality(@ids::int8[]) = 0 or customer_id = any(@ids)`, struct{ IDs []int64 }{[]int64{}}),
	sq[e, bl]("coupon in a list", `select coupon in ('C1') as b from orders`, none),
	sq[e, bl]("late by a nullable", `select shipped_at < now() - interval '1 day' as b from orders`, none),
	sq[e, bl]("not discontinued raw", `select not discontinued as b from products`, none),
	// Types.
	sq[e, str]("wanted tier", `select wanted::text as s from customers`, none),
	sq[e, str]("phone_norm generated", `select phone_norm as s from customers`, none),
	sq[e, n64]("cents of a composite", `select (total).cents as n from orders`, none),
	sq[e, tm]("from of a period", `select lower(period) as t from invoices`, none),
	sq[e, bl]("closed now raw", `select closed @> current_date as b from rooms`, none),
	sq[e, struct{ V time.Duration }]("nullable age as a duration", `select now() - revoked_at as v from sessions`, none),
	sq[e, struct {
		P struct{ Bio *string }
	}]("nullable JSON in a struct", `select profile as p from customers`, none),
	// Dates.
	sq[e, tm]("start of a nullable month", `select date_trunc('month', last_seen) as t from customers`, none),
	sq[e, n64]("year of birth", `select extract(year from birthday)::int8 as n from customers`, none),
	sq[e, n64]("age in years raw", `select extract(year from age(birthday))::int8 as n from customers`, none),
	sq[e, str]("shipped as text", `select to_char(shipped_at, 'YYYY-MM') as s from orders`, none),
	sq[e, tm]("canceled active subscription", `select canceled_at as t from subscriptions where status in ('active', 'canceled')`, none),
	sq[e, tm]("ends in the future", `select ends_at as t from subscriptions where coalesce(ends_at, 'infinity') > now()`, none),
	sq[e, tm]("lock that ran out", `select locked_until as t from outbox where coalesce(locked_until, '-infinity') < now()`, none),
	sq[e, tm]("seen long ago or never", `select last_seen as t from customers where coalesce(last_seen, created_at) < now() + interval '1 hour'`, none),
	sq[e, tm]("seen long ago with an epoch", `select last_seen as t from customers where coalesce(last_seen, 'epoch') < now()`, none),
	sq[e, struct {
		T time.Time
		N int64
	}]("revenue per day", `select d::timestamptz as t, sum((o.total).cents)::int8 as n from generate_series(current_date - 3, current_date, '1 day') d left join orders o on o.placed_at >= d and o.placed_at < d + interval '1 day' group by d order by d`, none),
	sq[e, bl]("open now", `select localtime between opens and closes as b from buildings`, none),
	sq[e, str]("address by ||", `select name || ', ' || city as s from buildings`, none),
	// Functions of one's own.
	sq[e, str]("display name of two nullables", `select display_name(full_name, phone) as s from customers`, none),
	sq[e, n64]("cents of a cost", `select cents(cost) as n from products`, none),
	sq[e, str]("initials of a nullable", `select initials(full_name) as s from customers`, none),
	sq[e, f64]("net of a nullable", `select net(cost)::float8 as f from products`, none),
	sq[e, n64]("totals by a function", `select f.total as n from customers c, customer_orders(c.id) f`, none),
	// Full text.
	sq[struct{ Q string }, str]("headline of a nullable", `select ts_headline('simple', description, to_tsquery('simple', @q)) as s from products`, struct{ Q string }{"saw"}),
	sq[struct{ Q string }, str]("description or title that matches", `select description as s from products where to_tsvector('simple', title || ' ' || coalesce(description, '')) @@ plainto_tsquery('simple', @q)`, struct{ Q string }{"nail"}),
	// Views.
	sq[e, s2]("active subscriptions by name", `select full_name as a, plan as b from active_subscriptions`, none),
	sq[e, tm]("last order", `select last_order as t from customer_summary`, none),
	sq[e, tm]("voided among the paid", `select voided_at as t from paid_invoices`, none),
	sq[e, str]("directory phone", `select phone as s from directory`, none),
	sq[e, f64]("sensor days", `select mean as f from sensor_days`, none),
	sq[e, n64]("papers with the last author", `select r.author as n from papers p join lateral (select author from revisions where paper_id = p.id order by rev desc limit 1) r on true`, none),
	sq[e, sn]("papers with a count raw", `select p.title as s, r.n as n from papers p left join (select paper_id, count(*) as n from revisions group by paper_id) r on r.paper_id = p.id`, none),
	sq[e, bl]("pinned raw", `select (meta->>'pinned')::bool as b from messages where meta is not null`, none),
	// Writes.
	sx[struct{ Sku, Title string }]("insert without a price", `insert into products (sku, title, attrs) values (@sku, @title, '{"kind": 1}')`, struct{ Sku, Title string }{"x", "x"}),
	sx[e]("insert select of a nullable", `insert into reactions (message_id, customer_id, emoji) select id, sender, 'a' from messages`, none),
	sx[e]("insert select by a left join", `insert into reactions (message_id, customer_id, emoji) select m.id, c.id, 'c' from messages m left join customers c on c.id = m.sender`, none),
	sx[e]("insert select by a missing cost", `insert into items (order_id, line, product_id, qty, price) select o.id, 9, p.id, 1, p.cost from orders o, products p where p.sku = 'P2'`, none),
	sx[e]("update NOT NULL from a left join", `update stock s set qty = x.n from (select p.id, sum(i.qty)::int4 as n from products p left join items i on i.product_id = p.id group by p.id) x where x.id = s.product_id`, none),
	sx[e]("update NOT NULL from VALUES with NULL", `update stock s set qty = v.q from (values (1, 5), (2, null)) v(id, q) where v.id = s.product_id`, none),
	sx[e]("update by a subquery", `update stock s set qty = (select sum(i.qty) from items i where i.product_id = s.product_id)`, none),
	sq[e, str]("delete using and returning", `delete from sessions s using customers c where c.id = s.customer_id returning c.full_name as s`, none),
	sq[e, tm]("renewed sessions and the revocation", `update sessions set expires_at = now() where revoked_at is null returning revoked_at as t`, none),
	sx[e]("merge that sets a nullable", `merge into stock s using (select id, category_id from products) p on p.id = s.product_id when matched then update set qty = p.category_id`, none),
	sx[e]("merge that inserts a nullable", `merge into stock s using (select id, category_id from products) p on p.id = s.product_id and s.warehouse = 'west' when not matched then insert (warehouse, product_id, qty) values ('west', p.id, p.category_id)`, none),
	sx[struct{ Q *int32 }]("merge with a pointer", `merge into stock s using (select id from products) p on p.id = s.product_id when matched then update set qty = s.qty + @q`, struct{ Q *int32 }{}),
	sx[e]("merge that leaves out", `merge into sessions s using (select id from customers) c on c.id = s.customer_id when not matched then insert (token, customer_id) values (c.id::text, c.id)`, none),
	sx[e]("merge with a NULL", `merge into stock s using (select id from products) p on p.id = s.product_id when matched then update set qty = null`, none),
	sc("copy readings with a pointer key", pgx.Identifier{"readings"}, struct {
		Sensor string
		At     *time.Time
		Value  *float64
	}{"z", nil, nil}),
	sc("copy sessions without an expiry", pgx.Identifier{"sessions"}, struct {
		Token      string
		CustomerID int64
	}{"z", 1}),
	// More of what the survey found.
	sq[e, str]("timeline of the other kind", `select ref as s from (select 'order' as kind, state as ref from orders union all select 'invoice', number from invoices) x where kind = 'invoice'`, none),
	sq[e, str]("timeline of all", `with x as (select 1 as kind, state as ref, id from orders union all select 2, number, id from invoices) select ref as s from x where id > 0`, none),
	sq[e, n64]("levels of the root", `with recursive t as (select id, parent_id, 1 as level from categories where parent_id is null union all select c.id, c.parent_id, t.level + 1 from categories c join t on c.parent_id = t.id) select parent_id::int8 as n from t where level < 3`, none),
	sq[e, str]("theme of another key", `select prefs->>'theme' as s from customers where prefs->>'notify' is not null or prefs ? 'x'`, none),
	sq[e, tm]("locked in the past or free", `select locked_until as t from outbox where coalesce(locked_until, '-infinity'::timestamptz) <= current_timestamp`, none),
	sq[struct{ ID int64 }, str]("phone_norm after an update", `update customers set phone = null where id = @id returning phone_norm as s`, struct{ ID int64 }{1}),
	sq[struct{ ID int64 }, str]("phone_norm that stays", `update customers set full_name = 'x' where id >= @id returning phone_norm as s`, struct{ ID int64 }{1}),
	sq[struct{ Email, Phone string }, str]("phone_norm of an upsert", `insert into customers (email, phone) values (@email, @phone) on conflict (email) do update set full_name = 'x' returning phone_norm as s`, struct{ Email, Phone string }{"bob@x", "1"}),
	sq[e, str]("shown of a left join", `select r.shown as s from customers c left join customers r on r.id = c.referred_by`, none),
	sq[e, str]("currency of a total of some", `select (total).currency as s from orders where not (total is null)`, none),
	sq[e, tm]("from of a booking left", `select lower(b.during) as t from rooms r left join bookings b on b.room_id = r.id`, none),
	sx[struct{ Email *string }]("pointer past a trigger", `update customers set email = @email where id = 1`, struct{ Email *string }{}),
	sq[e, str]("display name in a function in a function", `select initials(display_name(full_name, phone)) as s from customers`, none),
	sq[e, n64]("orders by a function left", `select f.order_id as n from customers c left join customer_orders(c.id) f on true`, none),
	sq[e, n64]("summed without a first row", `select max(n)::int8 as n from (select reserved as n from stock union all select qty from stock) x`, none),
	sq[e, str]("owner of an order by the wrong column", `select coalesce(c.full_name, o.guest_email) as s from orders o left join customers c on c.id = o.customer_id`, none),
}
