// Package verify_test tests what Verify says of statements, by their SQL.
package verify_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const corpusSchema = `
create type mood as enum ('sad','ok','happy');
create domain posint as int check (value > 0);
create domain email as text not null check (value like '%@%');
create type addr as (street text, zip int);
create table users (id int8 generated always as identity primary key, name text not null, nick text, age posint, mail email, mood mood not null default 'ok',
  moods mood[] not null default '{}', tags text[] not null default '{}', home addr, price numeric(12,2) not null default 0, full_name text generated always as (name || '!') stored,
  meta jsonb not null default '{}', at timestamptz not null default now(), deleted_at timestamptz, score float8 not null default 0, small int2 not null default 0);
create table posts (id int8 generated always as identity primary key, user_id int8 not null references users, parent_id int8 references posts, title text not null, body text, n int not null default 0);
create view v_users as select id, name, nick from users;
create view v_count as select user_id, count(*) as n from posts group by user_id;
create function poly(anyelement) returns anyelement language sql as 'select $1';
create function tfun() returns table (a int, b text) language sql as $$ select 1, 'x'::text $$;
create table part (id int8 not null, day date not null, v text) partition by range (day);
create table part1 partition of part for values from ('2026-01-01') to ('2027-01-01');
create table nn (id int8, note text, check (note is not null));
`

type e struct{}
type id struct{ ID int64 }
type ids struct{ IDs []int64 }
type n64 struct{ N int64 }
type str struct{ S string }
type nk struct{ Nick string }
type un struct {
	Name  string
	Title string
}

// A statement is a command and what is told of it.
type statement struct {
	name string
	def  pgcmd.Definition
}

func q[I, O any](name, sql string) statement {
	return statement{name, pgcmd.Query[I, O]("corpus", sql)}
}

func ex[I any](name, sql string) statement { return statement{name, pgcmd.Exec[I]("corpus", sql)} }

// right: all of these can never fail at run time; Verify must be silent (no findings).
var right = []statement{
	q[e, n64]("count", `select count(*) as n from users`),
	q[e, struct{ N pgtype.Numeric }]("sum int8", `select coalesce(sum(id), 0) as n from posts`),
	q[e, un]("left where not null", `select u.name, p.title from users u left join posts p on p.user_id = u.id where p.id is not null`),
	q[id, nk]("nick is not null", `select nick from users where id = @id and nick is not null`),
	q[id, nk]("nick <> ''", `select nick from users where id = @id and nick <> ''`),
	q[id, nk]("not nick is null", `select nick from users where not (nick is null)`),
	q[id, nk]("cte not null", `with x as (select nick from users where nick is not null) select nick from x`),
	q[id, nk]("using", `select a.nick from users a join users b using (nick)`),
	q[id, nk]("strpos", `select nick from users where starts_with(nick, 'a')`),
	q[id, struct{ ParentID int64 }]("join on nullable", `select p.parent_id from posts p join posts q on p.parent_id = q.id`),
	q[id, struct{ DeletedAt time.Time }]("extract", `select deleted_at from users where extract(year from deleted_at) = 2026`),
	q[id, struct{ DeletedAt time.Time }]("now > deleted + interval", `select deleted_at from users where deleted_at + interval '1 day' < now()`),
	q[id, struct{ Nick string }]("filter sub", `select nick from (select nick from users where nick is not null) s`),
	q[struct{ Nick string }, struct{ Nick string }]("returning insert", `insert into users (name, nick) values ('a', @nick) returning nick`),
	q[struct {
		Nick string
		ID   int64
	}, struct{ Nick string }]("upsert", `insert into users (name, nick) values ('a', @nick) on conflict (id) do update set nick = excluded.nick returning nick`),
	q[struct{ Nick string }, struct{ Nick string }]("cte insert select nick", `with i as (insert into users (name, nick) values ('a', @nick) returning id, nick) select nick from i`),
	q[e, struct {
		UserID int64
		N      int64
	}]("view count", `select user_id, n from v_count`),
	q[e, struct{ Mood string }]("enum", `select mood from users`),
	q[struct{ Moods []string }, id]("enum array param", `select id from users where mood = any(@moods::mood[])`),
	q[struct{ Mood string }, id]("enum param cast", `select id from users where mood = @mood::text::mood`),
	q[e, struct{ Mail string }]("domain not null", `select mail from users`),
	q[e, struct{ FullName *string }]("generated", `select full_name from users`),
	q[struct{ Tags []string }, id]("tags overlap", `select id from users where tags && @tags`),
	q[struct{ Limit int32 }, id]("limit32", `select id from users limit @limit`),
	q[struct{ S *string }, id]("opt", `select id from users where (@s::text is null or name = @s)`),
	q[ids, id]("unnest", `select u.id from unnest(@ids::int8[]) x(id) join users u using (id)`),
	q[e, struct{ Meta map[string]any }]("jsonb map", `select meta from users`),
	q[e, struct{ J []byte }]("json_agg", `select coalesce(json_agg(u), '[]') as j from users u`),
	q[e, struct{ Titles []string }]("array_agg", `select coalesce(array_agg(title), '{}') as titles from posts`),
	q[e, struct {
		A int32
		B string
	}]("tfun", `select a, b from tfun()`),
	q[e, struct {
		Name string
		N    *int64
	}]("left lateral", `select u.name, l.n from users u left join lateral (select count(*) as n from posts p where p.user_id = u.id) l on true`),
	q[e, struct {
		ID    int64
		Depth int32
	}]("recursive", `with recursive t as (select id, parent_id, 1 as depth from posts where parent_id is null union all select p.id, p.parent_id, t.depth + 1 from posts p join t on p.parent_id = t.id) select id, depth from t`),
	q[e, struct{ OK bool }]("exists bool", `select exists (select from users) as ok`),
	q[e, struct{ Price string }]("numeric string", `select price::text from users`),
	q[struct{ Day time.Time }, id]("date param cast", `select id from part where day = @day::date`),
	q[struct{ D time.Duration }, id]("interval", `select id from users where at > now() - @d::interval`),
	q[struct{ N int32 }, id]("n*interval", `select id from users where at > now() - @n * interval '1 day'`),
	q[e, struct{ V *string }]("partition", `select v from part`),
	ex[struct {
		ID   int64
		Tags []string
	}]("update array", `update users set tags = @tags where id = @id`),
	q[struct{ ID int64 }, struct{ Name string }]("merge-free upsert xmax", `select name from users where id = @id for update skip locked`),
	q[e, struct{ Relname string }]("name", `select relname from pg_class`),
	q[e, struct{ X string }]("cast col", `select id::text as x from users`),
	q[e, struct{ X string }]("case", `select case when nick is null then 'x' else nick end as x from users`),
	q[struct{ A int64 }, struct{ X int64 }]("plus", `select @a + 1::int8 as x`),
	q[e, struct {
		ID    int64
		Title string
	}]("right join", `select p.id, p.title from users u right join posts p on p.user_id = u.id`),
	q[e, struct {
		Name string
		Prev *string
	}]("lag", `select name, lag(name) over (order by id) as prev from users`),
	q[struct{ Small int }, id]("int into smallint", `select id from users where small = @small`),
	q[struct{ Score float32 }, id]("float32 param", `select id from users where score > @score`),
	q[e, struct {
		Name  string
		Title string
	}]("left then inner", `select u.name, q.title from users u left join posts p on p.user_id = u.id join posts q on q.parent_id = p.id`),
	q[e, struct{ Body string }]("strict null filter in agg", `select body from posts where body > '' order by body`),
	q[e, struct{ Body string }]("regex", `select body from posts where body ~ 'x'`),
	q[e, struct{ Body string }]("collate", `select body from posts where body collate "C" > 'x'`),
	q[e, struct{ Body string }]("paren", `select body from posts where (body) = 'x'`),
	q[e, struct{ Body string }]("limit 1 sub", `select body from posts where coalesce(body, '') <> ''`),
	q[e, struct{ ParentID int64 }]("exists of the column", `select parent_id from posts p where exists (select from posts q where q.id = p.parent_id)`),
	q[e, str]("case of a left join", `select case when p.id is null then '' else p.title end as s from users u left join posts p on p.user_id = u.id`),
	q[e, struct{ Titles []string }]("filter of a left join", `select coalesce(array_agg(p.title) filter (where p.id is not null), '{}') as titles from users u left join posts p on p.user_id = u.id group by u.id`),
	q[e, n64]("keys of a full join", `select coalesce(a.user_id, b.user_id) as n from v_count a full join v_count b on b.user_id = a.n`),
	q[e, n64]("using of a full join", `select id as n from users full join posts using (id)`),
	q[e, str]("foreign key that is there", `select q.title as s from posts p left join posts q on q.id = p.parent_id where p.parent_id is not null`),
	q[e, n64]("subquery over the same table", `select n - (select min(n) from posts) as n from posts`),
	q[e, n64]("having that counts", `select max(p.id) as n from users u left join posts p on p.user_id = u.id group by u.id having count(p.id) > 0`),
	q[e, n64]("case that counts", `select case when count(*) > 0 then max(id) else 0 end as n from posts`),
	ex[struct{ Name *string }]("coalesce of a function", `update users set name = coalesce(lower(@name), name)`),
}

// wrong: each can fail at run time with legal data; Verify should say something (finding or warning).
var wrong = []statement{
	q[e, un]("w left", `select u.name, p.title from users u left join posts p on p.user_id = u.id`),
	q[e, un]("w left sub", `select name, title from (select u.name, p.title from users u left join posts p on p.user_id = u.id) s`),
	q[e, un]("w left lateral", `select u.name, p.title from users u left join lateral (select title from posts where user_id = u.id limit 1) p on true`),
	q[e, un]("w left unrelated where", `select u.name, p.title from users u left join posts p on p.user_id = u.id and p.title = 'x'`),
	q[e, nk]("w nick view", `select nick from v_users`),
	q[struct{ S *string }, nk]("w nick optional filter", `select nick from users where (@s::text is null or nick = @s)`),
	q[e, nk]("w nick case", `select nick from users where case when nick = 'a' then true else true end`),
	q[id, nk]("w returning unchanged", `update users set name = 'x' where id = @id returning nick`),
	q[struct{ Nick string }, nk]("w returning named in where", `update users set name = 'x' where nick is null or nick = @nick returning nick`),
	q[e, n64]("w max", `select max(id) as n from posts`),
	q[e, n64]("w subselect", `select (select id from posts where id = -1) as n`),
	q[e, str]("w union", `select name as s from users union all select nick from users`),
	q[e, struct{ Body string }]("w sub-select filter elsewhere", `select p.body from posts p where exists (select from posts q where q.body = 'x')`),
	q[e, struct{ N int32 }]("w count int32", `select count(*) as n from users`),
	q[e, struct{ Price int64 }]("w numeric int", `select price from users`),
	ex[struct{ Small int64 }]("w int64 into int2 update", `update users set small = @small`),
	ex[struct {
		Name *string
		ID   int64
	}]("w null update not null", `update users set name = @name where id = @id`),
	q[struct {
		Mood string `validate:"oneof=sad glad"`
	}, id]("w oneof", `select id from users where mood = @mood`),
	q[e, struct{ Home string }]("w composite in string", `select home from users where home is not null`),
	q[e, str]("w window in a case", `select case when nick is not null then first_value(nick) over (order by id) else '' end as s from users`),
	q[e, str]("w other table of the case", `select case when p.id is not null then q.title else '' end as s from users u left join posts p on p.user_id = u.id left join posts q on q.parent_id = p.id`),
	q[e, n64]("w full join of a nullable key", `select coalesce(u.id, p.parent_id) as n from users u full join posts p on p.parent_id = u.id`),
	q[e, struct{ V string }]("w left join of a function", `select v from users u left join jsonb_object_keys(u.meta) v on true`),
	q[e, n64]("w subquery over others", `select (select max(n) from posts q where q.parent_id = p.id) as n from posts p`),
	q[e, str]("w setting", `select current_setting('app.tenant', true) as s`),
	q[e, nk]("w set by a subquery", `update users set (nick, price) = (select body, 1 from posts where id = 1) returning nick`),
	ex[struct{ Name *string }]("w function of nil", `update users set name = lower(@name)`),
	ex[struct{ V *string }]("w jsonb_set of nil", `update users set meta = jsonb_set(meta, '{a}', to_jsonb(@v::text))`),
	q[e, struct{ Nums []string }]("w null elements", `select array_agg(nick) as nums from users where id is not null`),
}

// said are the rules of the findings and the warnings about a statement.
func said(t *testing.T, db pgcmd.DB, def pgcmd.Definition) (findings, warnings []string) {
	t.Helper()
	list, err := pgcmd.VerifyWarnings(t.Context(), db, def)
	for _, p := range list {
		t.Logf("warning: %s %s", p.Rule, p.Message)
		warnings = append(warnings, p.Rule)
	}
	var e *pgcmd.Error
	if errors.As(err, &e) {
		for _, p := range e.Problems {
			t.Logf("finding: %s %s", p.Rule, p.Message)
			findings = append(findings, p.Rule)
		}
		if len(e.Problems) == 0 {
			t.Error(err)
		}
	}
	return findings, warnings
}

func TestStatementsThatCannotFailHaveNoFinding(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, corpusSchema)
	for _, s := range right {
		findings, _ := said(t, pool, s.def)
		assert.Empty(t, findings, s.name)
	}
}

func TestStatementsThatCanFailHaveAFindingOrAWarning(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, corpusSchema)
	for _, s := range wrong {
		findings, warnings := said(t, pool, s.def)
		assert.NotEmpty(t, append(findings, warnings...), s.name)
	}
}
