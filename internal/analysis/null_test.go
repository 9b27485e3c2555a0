package analysis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
create type mood as enum ('sad', 'ok', 'happy');
create domain email as text not null check (value like '%@%');
create type addr as (street text, zip int);
create table users (id int8 generated always as identity primary key, name text not null, nick text, mail email, mood mood not null default 'ok',
	tags text[] not null default '{}', home addr, price numeric(12,2) not null default 0, full_name text generated always as (name || '!') stored,
	nick_name text generated always as (nick || '!') stored, meta jsonb not null default '{}', at timestamptz not null default now(), deleted_at timestamptz);
create table posts (id int8 generated always as identity primary key, user_id int8 not null references users, parent_id int8 references posts,
	title text not null, body text, n int not null default 0);
create table nn (id int8, note text, kind text, check (note is not null), check (kind <> ''));
create view v_users as select id, name, nick from users;
create view v_left as select u.name, p.title from users u left join posts p on p.user_id = u.id;
create view v_count as select user_id, count(*) as n from posts group by user_id;
create table parent (a int not null, b int not null);
create table child () inherits (parent);
do $$ begin
	alter table child alter b drop not null;
exception when others then -- since PostgreSQL 18
	alter table child no inherit parent;
	alter table parent alter b drop not null;
	alter table child alter b drop not null;
	execute 'alter table parent add constraint b_not_null not null b no inherit';
	alter table child inherit parent;
end $$;
create table filled (a int, b int);
create function fill() returns trigger language plpgsql as 'begin new.a := null; return new; end';
create trigger fill before insert or update on filled for each row execute function fill();
create function own_strict(text) returns bool strict immutable language plpgsql as 'begin return true; end';
create function own(text) returns bool immutable language plpgsql as 'begin return true; end';
create table jobs (id int8 primary key, state text not null, done_at timestamptz, since int, until int, check (state <> 'done' or done_at is not null),
	check (until > since), check (num_nonnulls(until, id) = 2));
create table owned (id int8 primary key, user_id int8, team_id int8, kind text not null, a int, b int, check (user_id is not null or team_id is not null),
	check ((kind = 'a') = (a is not null)), check ((kind = 'a') = (b is null)));
create domain flag as bool;
create table flagged (id int8 primary key, is_on flag, note text, a int, b int, c int, check (num_nonnulls(a, b) = 1), check (num_nulls(c) = 0));
create table moods (id int8 primary key, mood mood);
create materialized view m_users as select id, name, nick from users;
create table stamped (id int8 primary key, name text not null, nick text, note text, version int, updated_at timestamptz, nick_up text generated always as (upper(nick)) stored,
	label text generated always as (coalesce(nick, name)) stored);
create function stamp() returns trigger language plpgsql as 'begin new.updated_at := now(); if tg_op = ''UPDATE'' then NEW . "version" = old.version + 1; end if; return new; end';
create trigger stamp before insert or update on stamped for each row execute function stamp();
create table undone (id int8 primary key, nick text);
create function undo() returns trigger language plpgsql as 'begin return old; end';
create trigger undo before update on undone for each row execute function undo();
create function either(text, text) returns text language sql immutable as 'select coalesce(nullif($1, ''''), $2)';
create function times(n int, by int default 2) returns int language sql immutable as 'select n * by';
create function nothing(text default null) returns text language sql immutable as 'select $1';
create function not_called(text) returns text language sql strict as 'select coalesce($1, ''x'')';
create function skipped(int, text default null) returns text language sql strict as 'select coalesce($2, ''x'')';
create function first_title(int8) returns text language sql stable as 'select title from posts where user_id = $1 order by id limit 1';
create function how_many(int8) returns int8 language sql stable as 'select count(*) from posts where user_id = $1';
create function posts_of(int8) returns table (id int8, body text) language sql stable as 'select id, body from posts where user_id = $1';
create function whole(int8) returns setof posts language sql stable as 'select * from posts where user_id = $1';
create function same(anyelement) returns anyelement language sql as 'select coalesce($1, $1)';
create function endless(int) returns int language sql as 'select $1';
create or replace function endless(int) returns int language sql as 'select endless($1)';
create table slots (id int8 primary key, during int4range not null, other int4range not null, attrs jsonb not null, check (not isempty(during)), check (not lower_inf(during) and not upper_inf(during)),
	check (attrs ? 'kind'), check (jsonb_typeof(attrs->'size') = 'number'));
create view totals as select u.id, count(p.id) as posts, max(p.n) as top from users u left join posts p on p.user_id = u.id group by u.id;
`

// notSupported are statements that versions of PostgreSQL do not have, by the version that brought them.
var since = map[string]int{"any_value": 16, "old.": 18, "new.": 18, "merge": 17}

func nulls(t *testing.T, conn *pgx.Conn, params []analysis.Null, sql string) string {
	t.Helper()
	sts, err := analysis.Analyze(t.Context(), conn, analysis.Query{SQL: sql, Params: params})
	require.NoError(t, err, sql)
	st := sts[0]
	if st.Refused != nil {
		return "refused: " + st.Refused.Message
	}
	if st.NotAnalyzed != "" {
		return "not analyzed: " + st.NotAnalyzed
	}
	var words []string
	for _, c := range st.Columns {
		word := [...]string{"unknown", "never", "maybe"}[c.Null]
		if c.Elem != analysis.Unknown {
			word += [...]string{"", "{never}", "{maybe}"}[c.Elem]
		}
		words = append(words, word)
		t.Logf("%s: %s %s | %s %d:%d", sql, c.Name, word, c.Reason, c.Line, c.Position)
	}
	return strings.Join(words, " ")
}

func TestNulls(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, schema))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var version int
	fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d", &version)
	yes, no := []analysis.Null{analysis.Never, analysis.Never}, []analysis.Null{analysis.Maybe, analysis.Maybe}
	for _, test := range []struct {
		sql    string
		want   string
		params []analysis.Null
	}{
		// Columns.
		{`select id, name, nick, mail, full_name, nick_name from users`, "never never maybe unknown never maybe", nil},
		{`select ctid, tableoid from users`, "never never", nil},
		{`select u from users u`, "never", nil},
		{`select note, id, kind from nn`, "never maybe maybe", nil},
		{`select is_on and note = 'x' from flagged where is_on is not null`, "maybe", nil},
		{`select note from flagged where (is_on and note is null) or note > ''`, "maybe", nil},
		{`select a, coalesce(a, b), c from flagged`, "maybe never never", nil},
		{`select done_at from jobs where state = 'open'`, "maybe", nil},
		{`select done_at from jobs where state = $1`, "maybe", yes},
		{`select done_at from jobs where state in ('open', 'done')`, "maybe", nil},
		{`select done_at, since, until from jobs`, "maybe maybe never", nil},
		{`select done_at from jobs where state = 'done'`, "unknown", nil},
		{`select done_at, case when state = 'done' then done_at else now() end from jobs where id > 0`, "maybe unknown", nil},
		{`with x as (select * from jobs) select done_at from x where state = 'done'`, "unknown", nil},
		{`select case mood when 'sad' then 1 when 'ok' then 2 when 'happy' then 3 end from moods where mood > 'sad'`, "never", nil},
		{`update moods set mood = null where mood > 'sad' returning case mood when 'sad' then 1 when 'ok' then 2 when 'happy' then 3 end`, "unknown", nil},
		{`update jobs set since = 1 where id = 1 returning done_at`, "maybe", nil},
		{`update jobs set state = 'done' where id = 1 returning done_at`, "unknown", nil},
		{`select a, b from parent`, "never maybe", nil},
		{`select a, b from only parent`, "never never", nil},
		{`select relname, reloptions from pg_class`, "never maybe", nil},
		{`select id, name, nick from v_users`, "never never maybe", nil},
		{`select name, title from v_left`, "never maybe", nil},
		{`select user_id, n from v_count`, "never never", nil},
		{`select id, nick from m_users`, "unknown maybe", nil},
		{`table users`, "never never maybe unknown never never maybe never never maybe never never maybe", nil},
		{`values (1, null), (2, 'a')`, "never maybe", nil},
		// Conditions.
		{`select nick from users where nick is not null`, "never", nil},
		{`select nick from users where not (nick is null)`, "never", nil},
		{`select nick from users where nick <> ''`, "never", nil},
		{`select nick from users where starts_with(nick, 'a')`, "never", nil},
		{`select nick from users where nick is null`, "maybe", nil},
		{`select nick from users where (nick is null) = false`, "never", nil},
		{`select nick from users where nick = $1`, "never", no},
		{`select nick from users where nick = $1 or name = $1`, "maybe", no},
		{`select nick from users where nick = $1 or nick like $2`, "never", no},
		{`select nick from users where ($1::text is null or nick = $1)`, "maybe", no},
		{`select nick from users where ($1::text is null or nick = $1)`, "never", yes},
		{`select nick from users where case when nick = 'a' then true else true end`, "maybe", nil},
		{`select nick from users where coalesce(nick, '') <> ''`, "never", nil},
		{`select nick from users where coalesce(nick, '') <> 'a'`, "maybe", nil},
		{`select nick from users where coalesce(nick, 'b') = 'a'`, "unknown", nil},
		{`select p.title from users u left join posts p on p.user_id = u.id where coalesce(p.n, 0) = 0`, "maybe", nil},
		{`select p.title from users u left join posts p on p.user_id = u.id where coalesce(p.n, 0)::int8 > 0`, "never", nil},
		{`select c.last from users u left join (select user_id, count(*) as n, max(id) as last from posts group by 1) c on c.user_id = u.id where coalesce(c.n, 0) >= 2`, "never", nil},
		{`select c.last from users u left join (select user_id, count(*) as n, max(id) as last from posts group by 1) c on c.user_id = u.id where coalesce(c.n, 0) < 2`, "maybe", nil},
		{`select coalesce(nick, mail, meta->>'a') from users where mail is not null or nick > '' or meta->>'a' is not null`, "never", nil},
		{`select coalesce(nick, meta->>'a'), greatest(nick, meta->>'a') from users where not (nick is null and meta->>'a' is null)`, "never never", nil},
		{`select coalesce(nick, meta->>'a'), greatest(nick, meta->>'a') from users where nick is not null or name > ''`, "maybe maybe", nil},
		{`select coalesce(u.nick, p.body) from users u left join posts p on p.user_id = u.id where u.nick is not null or p.body is not null`, "never", nil},
		{`select nick from users where coalesce(nick, 'b') <> $1`, "maybe", yes},
		{`select nick from users where nick = any($1)`, "never", no},
		{`select nick from users where nick <> all($1)`, "maybe", no},
		{`select nick from users where nick in ('a', 'b')`, "never", nil},
		{`select nick from users where nick not in ('a', 'b')`, "never", nil},
		{`select nick from users where nick in (select title from posts)`, "never", nil},
		{`select nick from users where nick not in (select title from posts)`, "maybe", nil},
		{`select nick from users where nick is not distinct from 'a'`, "never", nil},
		{`select nick from users where nick is distinct from 'a'`, "maybe", nil},
		{`select nick from users where own_strict(nick)`, "never", nil},
		{`select nick from users where own(nick)`, "unknown", nil},
		{`select nick from users where (nick = 'a') is true`, "never", nil},
		{`select nick from users where (nick = 'a') is not true`, "maybe", nil},
		{`select nick from users where (nick = 'a') is not unknown`, "never", nil},
		{`select nick from users where nick between 'a' and 'b'`, "never", nil},
		{`select deleted_at from users where extract(year from deleted_at) = 2026`, "never", nil},
		{`select deleted_at from users where deleted_at + interval '1 day' < now()`, "never", nil},
		{`select p.body from posts p where exists (select from posts q where q.body = 'x')`, "maybe", nil},
		{`select p.body from posts p where exists (select from posts q where q.body = p.body)`, "never", nil},
		{`select p.body from posts p where not exists (select from posts q where q.body = p.body)`, "maybe", nil},
		{`select p.body from posts p where exists (select count(*) from posts q where q.body = p.body)`, "maybe", nil},
		{`select parent_id from posts p where (select u.name > '' from users u where u.id = p.parent_id)`, "never", nil},
		{`select body from posts p where body = (select coalesce(q.body, p.body) from posts q where q.id = p.id)`, "never", nil},
		{`select nick, deleted_at from users where (nick is not null or deleted_at is not null) and nick is null`, "maybe never", nil},
		{`select meta->>'a', meta->>'b' from users where meta->>'a' is not null`, "never maybe", nil},
		{`select upper(meta->>'a') from users where meta->>'a' <> ''`, "never", nil},
		{`select home from users where home is not null`, "never", nil},
		{`select (home).street from users where home is not null`, "never", nil},
		{`select (x).id, (x).title from (select p as x from posts p) s`, "unknown unknown", nil},
		{`select current_setting('app.user', true)`, "maybe", nil},
		// Joins.
		{`select u.name, p.title from users u left join posts p on p.user_id = u.id`, "never maybe", nil},
		{`select u.name, p.title from users u left join posts p on p.user_id = u.id where p.id is not null`, "never never", nil},
		{`select u.name, p.title from users u left join posts p on p.user_id = u.id where p.title like 'a%'`, "never never", nil},
		{`select u.name, p.title from users u left join posts p on p.user_id = u.id and p.title = 'x'`, "never maybe", nil},
		{`select u.name, p.body from users u left join posts p on p.user_id = u.id and p.body = 'x' where p.id > 0`, "never never", nil},
		{`select u.name, p.title from posts p right join users u on p.user_id = u.id`, "never maybe", nil},
		{`select u.name, p.title from users u full join posts p on p.user_id = u.id`, "maybe maybe", nil},
		{`select u.name, p.title from users u full join posts p on p.user_id = u.id where u.id > 0`, "never maybe", nil},
		{`select u.name, q.title from users u left join posts p on p.user_id = u.id join posts q on q.parent_id = p.id`, "never never", nil},
		{`select a.title, b.title, c.title from posts a left join (posts b left join posts c on c.parent_id = b.id) on b.parent_id = a.id`, "never maybe maybe", nil},
		{`select a.title, b.title, c.title from posts a left join (posts b left join posts c on c.parent_id = b.id) on b.parent_id = a.id where c.id > 0`, "never never never", nil},
		{`select p.title, u.name from posts p left join users u on u.id = p.user_id`, "never unknown", nil}, // the foreign key finds it
		{`select p.title, q.title from posts p left join posts q on q.id = p.parent_id`, "never maybe", nil},
		{`select u.name, l.n from users u left join lateral (select count(*) as n from posts p where p.user_id = u.id) l on true`, "never never", nil},
		{`select u.name, l.title from users u left join lateral (select title from posts where user_id = u.id limit 1) l on true`, "never maybe", nil},
		{`select a.nick from users a join users b using (nick)`, "never", nil},
		{`select nick from users a full join v_users b using (nick)`, "maybe", nil},
		{`select p.parent_id from posts p join posts q on p.parent_id = q.id`, "never", nil},
		{`select p.id from users u left join posts p on p.user_id = u.id where p.id is null`, "maybe", nil},
		{`select p from users u left join posts p on p.user_id = u.id`, "maybe", nil},
		{`select p.title, q.title from posts p left join posts q on q.id = p.parent_id where p.parent_id > 0`, "never unknown", nil}, // the foreign key finds it
		{`select case when p.parent_id is null then '' else q.title end from posts p left join posts q on q.id = p.parent_id`, "unknown", nil},
		{`select case when p.id is null then '' else p.title end, case when p.n > 0 then p.title else '' end from users u left join posts p on p.user_id = u.id`, "never never", nil},
		{`select case when p.id is null then p.title else '' end, case when p.id is not null then p.body else '' end from users u left join posts p on p.user_id = u.id`, "maybe maybe", nil},
		{`select case when c.id > 0 then b.title else '' end, case when b.id > 0 then c.title else '' end from posts a left join (posts b left join posts c on c.parent_id = b.id) on b.parent_id = a.id`, "never maybe", nil},
		{`select coalesce(u.id, p.id), coalesce(u.nick, p.title), case when u.id is null then p.id else u.id end from users u full join posts p on p.user_id = u.id`, "never maybe never", nil},
		{`select id from users full join posts using (id) full join v_users using (id)`, "never", nil},
		{`select coalesce(lower(u.name)::varchar(9), p.title), coalesce(lower(u.nick), p.title) from users u full join posts p on p.user_id = u.id`, "never maybe", nil},
		{`select coalesce(u.id, first_value(p.id) over ()) from users u full join posts p on p.user_id = u.id`, "maybe", nil},
		{`select coalesce(u.id, p.id) from users u full join posts p on p.user_id = u.id full join posts q on q.parent_id = p.id`, "maybe", nil},
		{`select u.id, p.id from users u full join posts p on p.user_id = u.id where u.id is null`, "maybe never", nil},
		{`select u.name, v from users u left join jsonb_object_keys(u.meta) v on true`, "never maybe", nil},
		{`select u.name, g from users u left join generate_series(1, 3) g on true`, "never unknown", nil},
		// Subqueries.
		{`select (select id from posts where id = -1)`, "maybe", nil},
		{`select (select count(*) from posts)`, "never", nil},
		{`select (select max(id) from posts)`, "maybe", nil},
		{`select title, (select name from users where id = p.user_id) from posts p`, "never unknown", nil},
		{`select (select title from posts q where q.id = p.parent_id) from posts p where p.parent_id is not null`, "unknown", nil},
		{`select n - (select max(n) from posts), (select max(n) from posts q where q.user_id = p.user_id) from posts p`, "unknown unknown", nil}, // there is the row itself
		{`select (select max(n) from posts), (select max(n) from posts q where q.parent_id = p.id) from posts p, users`, "unknown maybe", nil},
		{`insert into posts (user_id, title, parent_id) values (1, 'a', (select max(id) from posts)) returning parent_id`, "maybe", nil},
		{`select nick from (select nick from users where nick is not null) s`, "never", nil},
		{`with x as (select nick from users where nick is not null) select nick from x`, "never", nil},
		{`with x as (select nick from users) select nick from x where nick > 'a'`, "never", nil},
		{`with x as (select nick from users) select nick from x`, "maybe", nil},
		{`with recursive t as (select id, parent_id, 1 as depth from posts where parent_id is null union all select p.id, p.parent_id, t.depth + 1 from posts p join t on p.parent_id = t.id) select id, parent_id, depth from t`, "never maybe never", nil},
		{`with recursive t as (select id, null::int8 as above from posts union all select p.id, t.id from posts p join t on p.parent_id = t.id) select id, above from t`, "never maybe", nil},
		{`select name as s from users union all select nick from users`, "maybe", nil},
		{`select name as s from users union all select title from posts`, "never", nil},
		{`select nick from users intersect select title from posts`, "never", nil},
		{`select nick from users except select title from posts`, "maybe", nil},
		{`select nick from users except select nick from users`, "unknown", nil},
		{`select exists (select from users)`, "never", nil},
		{`select array(select nick from users)`, "never{maybe}", nil},
		{`select array(select name from users)`, "never{never}", nil},
		// Expressions.
		{`select coalesce(nick, '') from users`, "never", nil},
		{`select coalesce(nick, mail), coalesce(nick, body), nick::email from users, posts`, "unknown maybe never", nil},
		{`select greatest(nick, name), least(nick, body) from users, posts`, "never maybe", nil},
		{`select case when nick is null then 'x' else nick end from users`, "never", nil},
		{`select case when nick is null then nick else 'x' end from users`, "maybe", nil},
		{`select case when nick is not null then nick else 'x' end from users`, "never", nil},
		{`select case when nick is null then 'x' when nick is not null then nick end from users`, "never", nil},
		{`select case when n > 0 then 'a' end from posts`, "maybe", nil},
		{`select case when n > 0 then 'a' when n <= 0 then 'b' end from posts`, "never", nil},
		{`select case when n > 0 then 'a' when n = 0 then 'b' when n < 0 then 'c' end from posts`, "unknown", nil},
		{`select case mood when 'sad' then 1 when 'ok' then 2 when 'happy' then 3 end from users`, "never", nil},
		{`select case mood when 'sad' then 1 when 'ok' then 2 end from users`, "maybe", nil},
		{`select case nick when 'a' then nick else '' end from users`, "never", nil},
		{`select nullif(name, 'a') from users`, "maybe", nil},
		{`select coalesce(user_id, team_id), greatest(team_id, user_id), coalesce(team_id, id) from owned`, "never never never", nil},
		{`select coalesce(user_id, a), coalesce(a, b) from owned`, "unknown unknown", nil},
		{`select coalesce(o.user_id, o.team_id) from users u left join owned o on o.user_id = u.id`, "maybe", nil},
		{`select name || nick, name || 'a', concat(nick, name) from users`, "maybe never never", nil},
		{`select meta->>'a', meta->'a', meta #>> '{a}' from users`, "maybe maybe maybe", nil},
		{`select tags[1], tags[1:2], array_length(tags, 1), cardinality(tags) from users`, "maybe unknown maybe never", nil},
		{`select id::text, price::text, upper(name), length(name), now(), at - now() from users`, "never never never never never never", nil},
		{`select 1, 'a', null, true, current_date, random()`, "never never maybe never never never", nil},
		{`select $1::text`, "never", yes},
		{`select $1::text`, "maybe", no},
		{`select $1::text`, "unknown", nil},
		{`select $1 + 1::int8`, "never", yes},
		{`select row_to_json(u), to_jsonb(u) from users u`, "never never", nil},
		{`select jsonb_build_object('a', nick), json_build_array(nick) from users`, "never never", nil},
		{`select array[nick], array[name] from users`, "never{maybe} never{never}", nil},
		{`select own(name), own_strict(name) from users`, "unknown unknown", nil},
		{`select substring(name from 'a(.*)'), regexp_replace(name, 'a', 'b'), split_part(name, 'a', 1) from users`, "maybe never never", nil},
		{`select date_trunc('day', at), at + interval '1 day', to_char(at, 'YYYY') from users`, "never never unknown", nil},
		{`select lpad(name, 5), round(price), 'a' like name from users`, "never never never", nil},
		{`select nick is null, nick is distinct from name, (nick = 'a') is true from users`, "never never never", nil},
		{`select nick = 'a', not (nick = 'a'), nick = 'a' and name = 'b' from users`, "maybe maybe maybe", nil},
		// Aggregates.
		{`select count(*), count(body), max(id), sum(n), array_agg(title), bool_or(n > 0), string_agg(title, ',') from posts`, "never never maybe maybe maybe{never} maybe maybe", nil},
		{`select user_id, max(id), max(body), array_agg(title), array_agg(body), json_agg(body) from posts group by user_id`, "never never maybe never{never} never{maybe} never", nil},
		{`select coalesce(sum(n), 0), coalesce(array_agg(title), '{}'), coalesce(json_agg(p), '[]') from posts p`, "never never{never} never", nil},
		{`select max(body) from posts group by user_id having max(body) > 'a'`, "never", nil},
		{`select max(p.id) from users u left join posts p on p.user_id = u.id group by u.id having count(p.id) > 0`, "unknown", nil},
		{`select max(p.id) from users u left join posts p on p.user_id = u.id group by u.id having count(*) > 0`, "maybe", nil},
		{`select case when count(*) > 0 then sum(n) / count(*) else 0 end from posts`, "unknown", nil},
		{`select case when count(p.id) > 0 then max(p.title) else '' end, case when count(*) > 0 then max(p.title) else '' end from users u left join posts p on p.user_id = u.id group by u.id`, "unknown maybe", nil},
		{`select 1 / nullif(sum(n), 0), 1 / nullif(count(*), 0) from posts group by user_id`, "maybe unknown", nil},
		{`select 1 / nullif(count(*)::numeric, 0), 1 / nullif(count(title), 0), 1 / nullif(count(*) over (), 0) from posts group by user_id, title`, "unknown unknown unknown", nil},
		{`select 1 / nullif(count(*) filter (where n > 0), 0), 1 / nullif(count(body)::numeric, 0) from posts group by user_id`, "maybe maybe", nil},
		{`select 1 / nullif(count(body), 0) from posts group by user_id having count(body) > 0`, "unknown", nil},
		{`select percentile_cont(0.5) within group (order by n), percentile_disc(0.5) within group (order by body), mode() within group (order by title) from posts group by user_id`, "never maybe never", nil},
		{`select percentile_cont($1) within group (order by n) from posts group by user_id`, "maybe", no},
		{`select percentile_cont(0.5) within group (order by n) from posts`, "maybe", nil},
		{`select array_length(array_agg(id), 1), array_length(array_agg(id), 2), array_length(array_agg(id) filter (where n > 0), 1) from posts group by user_id`, "never maybe maybe", nil},
		{`select c.most from users u join lateral (select count(*) as n, max(p.n) as most from posts p where p.user_id = u.id) c on c.n > 0`, "unknown", nil},
		{`select c.most from users u cross join lateral (select count(*) as n, max(p.n) as most from posts p where p.user_id = u.id) c where u.name > ''`, "maybe", nil},
		{`select max(id) from posts having count(*) > 0`, "unknown", nil},
		{`select array_agg(body) filter (where body is not null) from posts`, "maybe{never}", nil},
		{`select array_remove(array_agg(body), null) from posts group by n`, "never{never}", nil},
		{`select max(id) filter (where n > 0) from posts group by user_id`, "maybe", nil},
		{`select (array_agg(title order by id))[1] from posts group by user_id`, "never", nil},
		{`select u.id, array_agg(p.title) filter (where p.id is not null) from users u left join posts p on p.user_id = u.id group by u.id`, "never maybe{never}", nil},
		{`select title, sum(n) from posts group by rollup (title)`, "maybe maybe", nil},
		{`select sum(n) from posts group by user_id, rollup (title)`, "unknown", nil},
		{`select sum(n), case when grouping(title) = 0 then sum(n) else 0 end from posts group by grouping sets ((title), ())`, "maybe unknown", nil},
		{`select sum(n) from posts group by cube (title) having count(*) > 0`, "unknown", nil},
		{`select user_id, upper(title) from posts where title > '' group by rollup (user_id, title)`, "maybe unknown", nil},
		{`select user_id, count(*) from posts group by grouping sets ((user_id, n), (user_id))`, "never never", nil},
		{`select body from posts where body is not null group by cube (body)`, "maybe", nil},
		{`select max(1)`, "unknown", nil},
		{`select nick from users group by nick`, "maybe", nil},
		{`select nick from users where nick > '' group by nick`, "never", nil},
		{`select lower(nick) from users where lower(nick) > '' group by lower(nick)`, "never", nil},
		// Window functions.
		{`select row_number() over (), rank() over (order by id), lag(name) over (order by id), lead(name, 1, '') over (order by id) from users`, "never never maybe never", nil},
		{`select first_value(name) over (order by id), first_value(nick) over (order by id), nth_value(name, 2) over (order by id) from users`, "never maybe maybe", nil},
		{`select last_value(name) over (order by id rows between 1 following and 2 following) from users`, "maybe", nil},
		{`select sum(n) over (order by id rows between 1 preceding and current row), count(*) over (), sum(n) over (), max(body) over () from posts`, "never never never maybe", nil},
		{`select sum(n) over (order by n range between 1 preceding and current row), sum(n) over (order by n range between 2 preceding and 1 preceding) from posts`, "unknown maybe", nil},
		{`select case when nick is not null then first_value(nick) over (order by id) else '' end from users`, "maybe", nil},
		{`select stddev(n) from posts group by user_id having count(*) > 1`, "unknown", nil},
		{`select corr(n, id), covar_pop(n, id) from posts group by user_id`, "maybe unknown", nil},
		{`select top from totals where posts > 0`, "unknown", nil},
		{`select top from totals where id > 0`, "maybe", nil},
		// UNION by its branches.
		{`select ref from (select 1 as kind, name as ref from users union all select 2, nick from users) x where kind = 1`, "never", nil},
		{`select ref from (select 1 as kind, name as ref from users union all select 2, nick from users) x where kind = 2`, "maybe", nil},
		{`select ref from (select 1 as kind, name as ref from users union all select 2, nick from users) x where kind > 0`, "maybe", nil},
		{`select ref from (select 'a' as kind, name as ref from users union all select 'b', nick from users) x where kind = 'a'`, "unknown", nil},
		{`with x as (select 1 as kind, name as ref from users union all select 2, nick from users) select max(ref) from x where kind < 2 group by kind`, "never", nil},
		{`select x.ref from users left join (select 1 as kind, name as ref from users union all select 2, nick from users) x on kind = 1`, "maybe", nil},
		{`with recursive t as (select id, parent_id, 0 as depth from posts where parent_id is null union all select p.id, p.parent_id, depth + 1 from posts p join t on p.parent_id = t.id) select parent_id from t where depth > 0`, "never", nil},
		{`with recursive t as (select id, parent_id, 0 as depth from posts where parent_id is null union all select p.id, p.parent_id, depth + 1 from posts p join t on p.parent_id = t.id) select parent_id from t where depth < 3`, "maybe", nil},
		{`select max(n) from (select 0 as n union all select n from posts) x`, "unknown", nil},
		{`select max(n) from (select n from posts where id < 0 union all select n from posts) x`, "maybe", nil},
		{`with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select sum(n) from t`, "unknown", nil},
		// Functions in SQL.
		{`select either(nick, name), either(nick, null), either(nick, body) from users, posts`, "never maybe maybe", nil},
		{`select either(nick, $1) from users`, "never", yes},
		{`select either(nick, $1) from users`, "maybe", no},
		{`select either(name, nick) from users where nick is not null`, "never", nil},
		{`select times(n), times(n, null), times(by => 3, n => n) from posts`, "never maybe unknown", nil},
		{`select nothing(), nothing('x') from posts`, "maybe never", nil},
		{`select not_called(name), not_called(nick) from users`, "never maybe", nil},
		{`select skipped(1), skipped(1, 'y'), (select x from skipped(1) x) from users`, "maybe never unknown", nil},
		{`select first_title(id), how_many(id) from users`, "maybe never", nil},
		{`select f.id, f.body from users u, posts_of(u.id) f`, "never maybe", nil},
		{`select f.id, f.body from users u left join posts_of(u.id) f on true`, "maybe maybe", nil},
		{`select f.title, f.body from whole(1) f where f.body > ''`, "never never", nil},
		{`select posts_of(id), endless(1) from users`, "unknown unknown", nil},
		{`select nick from users where either(nick, null) > ''`, "never", nil},
		{`select same(nick), same(name), same(tags) from users`, "unknown unknown unknown", nil},
		// Times beside the present one.
		{`select deleted_at from users where coalesce(deleted_at, 'infinity') > now()`, "maybe", nil},
		{`select deleted_at from users where coalesce(deleted_at, 'infinity') <= now()`, "never", nil},
		{`select deleted_at from users where coalesce(deleted_at, '-infinity') < current_timestamp`, "maybe", nil},
		{`select deleted_at from users where coalesce(deleted_at, 'epoch') > now()`, "never", nil},
		{`select deleted_at from users where coalesce(deleted_at::date, 'infinity') > current_date`, "maybe", nil},
		{`select deleted_at from users where coalesce(deleted_at, '2100-01-01') > now()`, "unknown", nil},
		// What checks and conditions ask of JSON and ranges.
		{`select lower(during), upper(during), lower(other) from slots`, "unknown unknown maybe", nil},
		{`select attrs->>'kind', attrs->'kind', attrs->>'size', attrs->>'x' from slots`, "maybe unknown unknown maybe", nil},
		{`select meta->>'a' from users where meta ? 'a'`, "maybe", nil},
		{`select meta->'a' from users where meta ? 'a'`, "unknown", nil},
		{`select meta->>'a' from users where jsonb_typeof(meta->'a') = 'string'`, "unknown", nil},
		{`select meta->>'a' from users where meta @> '{"a": 1}'`, "unknown", nil},
		{`select meta->>'a' from users where meta->>'b' = 'x'`, "maybe", nil},
		// Generated columns.
		{`select nick_up, label from stamped`, "maybe never", nil},
		{`select nick_up from stamped where nick > ''`, "never", nil},
		{`select s.nick_up, s.label from users u left join stamped s on s.id = u.id`, "maybe maybe", nil},
		{`select s.nick_up, s.label from users u left join stamped s on s.id = u.id where s.nick > ''`, "never never", nil},
		{`insert into stamped (id, name, nick) values (1, 'a', $1) returning nick_up, label`, "never never", yes},
		{`insert into stamped (id, name, nick) values (1, 'a', $1) returning nick_up, label`, "maybe never", no},
		{`insert into stamped (id, name) values (1, 'a') returning nick_up`, "maybe", nil},
		{`insert into stamped (id, name, nick) values (1, 'a', 'b') on conflict (id) do update set note = 'x' returning nick_up`, "maybe", nil},
		{`update stamped set nick = 'x' returning nick_up`, "never", nil},
		{`update stamped set nick = null returning nick_up, label`, "maybe never", nil},
		{`update stamped set note = 'x' where nick > '' returning nick_up`, "never", nil},
		// Triggers.
		{`update stamped set note = 'x', version = 1 where nick > '' returning note, nick, version, updated_at`, "never never unknown unknown", nil},
		{`insert into stamped (id, name, note) values (1, 'a', 'b') returning note, nick, version`, "never maybe unknown", nil},
		{`update undone set nick = 'x' returning nick`, "unknown", nil},
		{`insert into undone (id, nick) values (1, 'x') returning nick`, "never", nil},
		// Functions in FROM.
		{`select g from generate_series(1, 10) g`, "never", nil},
		{`select e, i from unnest(array[1, null]) with ordinality x(e, i)`, "maybe never", nil},
		{`select u.name, x.tag from users u, unnest(u.tags) x(tag)`, "never unknown", nil},
		{`select key, value from users, jsonb_each(meta)`, "never never", nil},
		{`select key, value from users, jsonb_each_text(meta)`, "never maybe", nil},
		{`select x.a, x.b from jsonb_to_recordset($1) x(a int, b text)`, "maybe maybe", yes},
		{`select value from users, jsonb_array_elements_text(meta)`, "maybe", nil},
		{`select unnest(array[1, 2]), generate_series(1, 3)`, "unknown unknown", nil},
		// What is written.
		{`insert into users (name, nick) values ('a', $1) returning id, nick, deleted_at`, "never never maybe", yes},
		{`insert into users (name, nick) values ('a', $1) returning nick`, "maybe", no},
		{`insert into users (name, nick) select title, body from posts where body > '' returning nick`, "never", nil},
		{`insert into users (name, nick) values ('a', 'b'), ('c', null) returning nick`, "maybe", nil},
		{`insert into users (name, nick) values ('a', $1) on conflict (id) do update set nick = excluded.nick returning nick`, "never", yes},
		{`insert into users (name, nick) values ('a', $1) on conflict (id) do update set name = excluded.name returning nick`, "maybe", yes},
		{`insert into users (name, nick) values ('a', $1) on conflict do nothing returning nick`, "never", yes},
		{`with i as (insert into users (name, nick) values ('a', $1) returning id, nick) select nick from i`, "never", yes},
		{`update users set name = 'x' where id = $1 returning nick`, "maybe", yes},
		{`update users set nick = 'x' where id = $1 returning nick`, "never", yes},
		{`update users set (nick, mail) = (select coalesce(max(title), ''), 'a@b' from posts) returning nick`, "never", nil},
		{`update users set (nick, mail) = (select title, 'a@b' from posts where id = 1) returning nick`, "maybe", nil},
		{`update users set nick = null where nick is not null returning nick, (select nick)`, "maybe maybe", nil},
		{`update users set name = 'x' where nick = $1 returning nick`, "never", yes},
		{`update users set name = 'x' where nick is null or nick = $1 returning nick`, "maybe", yes},
		{`update users u set nick = p.title from posts p where p.user_id = u.id returning nick, p.body`, "never maybe", nil},
		{`delete from users where nick = 'a' returning nick, deleted_at`, "never maybe", nil},
		{`insert into filled (a, b) values (1, 2) returning a`, "unknown", nil},
		{`update filled set a = 1 returning a`, "unknown", nil},
		{`insert into v_users (name, nick) values ('a', 'b') returning nick`, "unknown", nil},
		{`insert into users (name) values ('a') returning old.name, new.name, new.nick`, "maybe never maybe", nil},
		{`insert into users (name) values ('a') on conflict (id) do update set name = excluded.name returning old.name, new.name, old.id is null`, "maybe never never", nil},
		{`update users set nick = 'a' where nick is null returning old.nick, new.nick`, "maybe never", nil},
		{`merge into users u using posts p on p.user_id = u.id when matched then update set nick = p.body returning u.name, u.nick, p.title`, "never unknown unknown", nil},
	} {
		needs := 0
		for word, v := range since {
			if strings.Contains(test.sql, word) {
				needs = v
			}
		}
		if version >= needs {
			assert.Equal(t, test.want, nulls(t, conn, test.params, test.sql), test.sql)
		}
	}
}

func TestAStandbyIsDescribedAlone(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	url, err := server.Database(t.Context(), schema)
	require.NoError(t, err)
	standby, err := server.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	there, err := standby.URLOf(url)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), there)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	sts, err := analysis.Analyze(t.Context(), conn, analysis.Query{SQL: `select id from users where name = $1`}, analysis.Query{SQL: `select x from users`})
	require.NoError(t, err)
	assert.Equal(t, "the server is a standby, which cannot make a temporary function", sts[0].NotAnalyzed)
	assert.Equal(t, []analysis.Param{{OID: 25, Type: "text"}}, sts[0].Params)
	assert.Equal(t, "bigint", sts[0].Columns[0].Type)
	require.NotNil(t, sts[1].Refused)
	assert.Equal(t, "42703", sts[1].Refused.Code)
}
