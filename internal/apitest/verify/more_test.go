package verify_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type ss struct{ S *string }

// moreRight cannot fail either.
var moreRight = []statement{
	q[e, n64]("a foreign key finds the row", `select u.id as n from posts p left join users u on u.id = p.user_id`),
	q[e, str]("a foreign key finds the row of a subquery", `select (select name from users u where u.id = p.user_id) as s from posts p`),
	q[e, n64]("an aggregate of groups", `select max(n) as n from posts group by user_id`),
	q[e, struct{ N int64 }]("a sum of groups", `select sum(n) as n from posts group by user_id`),
	q[e, str]("string_agg of groups", `select string_agg(title, ',') as s from posts group by user_id`),
	q[e, n64]("a count with a filter", `select count(*) filter (where n > 0) as n from posts`),
	q[e, str]("the first of array_agg", `select (array_agg(title order by id))[1] as s from posts group by user_id`),
	q[e, n64]("sum over count", `select sum(n) / nullif(count(*), 0) as n from posts group by user_id`),
	q[e, un]("an inner lateral", `select u.name, p.title from users u join lateral (select title from posts where user_id = u.id limit 1) p on true`),
	q[ss, id]("an optional filter", `select id from users where (@s::text is null or nick = @s)`),
	q[struct{ Tags []string }, nk]("any of", `select nick from users where nick = any(@tags)`),
	q[e, nk]("an equality with NOT NULL", `select u.nick from users u join posts p on p.title = u.nick`),
	q[e, n64]("coalesce of max", `select coalesce(max(id), 0) as n from posts`),
	q[e, struct{ N int32 }]("generate_series", `select g as n from generate_series(1, 10) g`),
	q[ids, struct {
		ID  int64
		Ord int64
	}]("ordinality", `select id, ord from unnest(@ids::int8[]) with ordinality x(id, ord)`),
	q[e, n64]("a CASE of all values", `select case mood when 'sad' then 1::int8 when 'ok' then 2 when 'happy' then 3 end as n from users`),
	q[e, str]("a CASE of opposites", `select case when small > 0 then 'a' when small <= 0 then 'b' end as s from users`),
	q[e, str]("a CASE of what a condition leaves", `select case when small > 0 then 'a' end as s from users where small > 0`),
	q[e, n64]("row_number", `select row_number() over (partition by user_id order by id) as n from posts`),
	q[e, struct{ N int64 }]("a running sum", `select sum(n) over (partition by user_id order by id) as n from posts`),
	q[e, str]("lag with a default", `select lag(title, 1, '') over (order by id) as s from posts`),
	q[e, str]("first_value", `select first_value(title) over (partition by user_id order by id) as s from posts`),
	q[struct{ Name string }, n64]("an insert that may do nothing", `insert into users (name) values (@name) on conflict do nothing returning id as n`),
	q[struct {
		ID   int64
		Nick string
	}, nk]("an update of the column", `update users set nick = @nick where id = @id returning nick`),
	q[struct{ Nick string }, nk]("a delete by the column", `delete from users where nick = @nick returning nick`),
	q[e, struct{ V string }]("json_each", `select key as v from users, jsonb_each(meta)`),
	q[e, str]("a JSON value that a condition asks for", `select meta->>'a' as s from users where meta->>'a' is not null`),
	q[e, str]("a JSON key that a condition asks for", `select meta->>'a' as s from users where meta @> '{"a": "x"}'`),
	q[e, str]("a regular expression that a condition asks for", `select substring(name from 'a(.)') as s from users where name ~ 'a.'`),
	q[e, struct{ Y int }]("a year", `select extract(year from at)::int as y from users`),
	q[e, struct{ D time.Time }]("a truncated time", `select date_trunc('day', at) as d from users`),
	q[e, str]("functions of texts", `select upper(trim(name)) || lpad(name, 5) || split_part(name, 'a', 1) || replace(name, 'a', 'b') as s from users`),
	q[e, str]("format", `select format('%s', name) as s from users`),
	q[e, str]("concat of NULL", `select concat(name, nick) as s from users`),
	q[e, n64]("greatest", `select greatest(id, null, 1) as n from users`),
	q[e, struct{ B bool }]("is null", `select nick is null as b from users`),
	q[e, struct{ B bool }]("is distinct", `select nick is distinct from name as b from users`),
	q[e, str]("a set of sets", `select name as s from users intersect select nick from users`),
	q[e, str]("a VALUES", `select s from (values ('a'), ('b')) v(s)`),
	q[e, str]("a CTE that is used twice", `with x as (select name from users) select a.name as s from x a join x b using (name)`),
	q[e, n64]("a recursive series", `with recursive t(n) as (select 1::int8 union all select n + 1 from t where n < 10) select n from t`),
	q[e, n64]("grouping sets with all", `select user_id as n from posts group by grouping sets ((user_id, n), (user_id))`),
	q[e, str]("array_to_string", `select array_to_string(tags, ',') as s from users`),
	q[e, struct{ Titles []string }]("array", `select array(select title from posts order by id) as titles`),
	q[e, struct{ Nums []string }]("array_agg without NULL", `select array_agg(nick) filter (where nick is not null) as nums from users`),
	q[e, struct{ At *time.Time }]("max into a pointer", `select max(at) as at from users`),
	q[e, struct{ N pgtype.Int8 }]("max into a pgtype", `select max(id) as n from posts`),
	q[e, str]("a check", `select note as s from nn`),
	q[e, nk]("a view that a condition filters", `select nick from v_users where nick is not null`),
	q[e, str]("a full join of which a side must be", `select u.name as s from users u full join posts p on p.user_id = u.id where u.id is not null`),
	q[e, str]("exists and max", `select (select max(title) from posts p where p.user_id = u.id) as s from users u where exists (select from posts p where p.user_id = u.id)`),
	q[e, str]("polymorphic", `select poly(name) as s from users`),
	ex[struct{ Name string }]("an insert of what is needed", `insert into users (name) values (@name)`),
	ex[struct {
		Name *string
		ID   int64
	}]("an update that keeps the old", `update users set name = coalesce(@name, name) where id = @id`),
	ex[struct{ Mood string }]("an enum", `update users set mood = @mood`),
}

// moreWrong can fail.
var moreWrong = []statement{
	q[e, str]("rollup", `select title as s from posts group by rollup (title)`),
	q[e, str]("cube", `select title as s from posts group by cube (title, n)`),
	q[e, un]("right join", `select u.name, p.title from posts p right join users u on p.user_id = u.id`),
	q[e, un]("full join", `select u.name, p.title from users u full join posts p on p.user_id = u.id`),
	q[e, str]("a view over an outer join", `select s from (select p.title as s from users u left join posts p on p.user_id = u.id) x`),
	q[e, str]("lag", `select lag(title) over (order by id) as s from posts`),
	q[e, str]("lead", `select lead(title) over (order by id) as s from posts`),
	q[e, n64]("min", `select min(id) as n from posts where user_id = 1`),
	q[e, n64]("sum of none", `select sum(n) as n from posts`),
	q[e, struct{ B bool }]("bool_or of none", `select bool_or(n > 0) as b from posts`),
	q[e, str]("string_agg of none", `select string_agg(title, ',') as s from posts`),
	q[e, n64]("a filter that leaves none", `select (max(n) filter (where n > 1))::int8 as n from posts group by user_id`),
	q[e, n64]("sum of NULL", `select sum(parent_id)::int8 as n from posts group by user_id`),
	q[e, str]("CASE without ELSE", `select case when n > 0 then 'a' end as s from posts`),
	q[e, n64]("nullif", `select nullif(n, 0)::int8 as n from posts`),
	q[e, str]("JSON", `select meta->>'a' as s from users`),
	q[e, str]("a subscript", `select tags[1] as s from users`),
	q[e, n64]("array_length", `select array_length(tags, 1)::int8 as n from users`),
	q[e, str]("substring", `select substring(name from 'a(.)') as s from users`),
	q[e, str]("jsonb_each_text", `select value as s from users, jsonb_each_text(meta)`),
	q[e, n64]("jsonb_to_recordset", `select a as n from jsonb_to_recordset('[{}]') x(a int8)`),
	q[e, str]("concatenation with NULL", `select name || nick as s from users`),
	q[e, struct{ B bool }]("a comparison with NULL", `select nick = 'a' as b from users`),
	q[e, str]("except", `select nick as s from users except select name from users`),
	q[e, n64]("a recursive parent", `with recursive t as (select id, parent_id from posts union all select p.id, t.parent_id from posts p join t on p.parent_id = t.id) select parent_id as n from t`),
	q[id, nk]("returning of what is kept", `update users set small = 1 where id = @id returning nick`),
	q[struct{ Name string }, nk]("returning of what is left out", `insert into users (name) values (@name) returning nick`),
	q[struct{ Nick *string }, nk]("returning of a pointer", `update users set nick = @nick returning nick`),
	q[e, struct{ Nums []string }]("array of NULL", `select array(select nick from users) as nums`),
	q[e, struct{ Nums []string }]("ARRAY with NULL", `select array[nick, name] as nums from users`),
	ex[struct{ Nick string }]("an insert that leaves out a column", `insert into users (nick) values (@nick)`),
	ex[struct{ N *int32 }]("an insert of a pointer", `insert into posts (user_id, title, n) values (1, 'a', @n)`),
	ex[struct{ V int64 }]("a narrowing cast", `update users set small = @v::int2`),
	ex[struct {
		Mood string `validate:"oneof=sad glad"`
	}]("an enum behind a cast", `update users set mood = @mood::text::mood`),
}

func TestMoreStatements(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, corpusSchema)
	for _, s := range moreRight {
		findings, _ := said(t, pool, s.def)
		assert.Empty(t, findings, s.name)
	}
	silent := 0
	for _, s := range moreWrong {
		findings, warnings := said(t, pool, s.def)
		assert.NotContains(t, findings, "sql", s.name)
		assert.NotContains(t, findings, "type", s.name)
		if len(findings)+len(warnings) == 0 {
			t.Logf("silent: %s", s.name)
			silent++
		}
	}
	require.Zero(t, silent)
}
