package analysis_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const effectsSchema = schema + `
create function note(text) returns int8 language sql as 'insert into posts (user_id, title) values (1, $1) returning id';
create function twice(text) returns int8 language sql set search_path = public as 'select note($1); select note($1)';
create function hidden() returns int8 language plpgsql as 'begin return 1; end';
create function careful() returns int8 language plpgsql stable as 'begin return 1; end';
create function keep(int8, int8) returns int8 language plpgsql as 'begin return 1; end';
create aggregate kept(int8) (sfunc = keep, stype = int8);
create domain checked as int8 check (note(value::text) > 0);
create view noted as select note(name) as n from users;
create table log (line text);
create rule logged as on insert to log do also insert into posts (user_id, title) values (1, new.line);
create table tenants (id int8, name text);
alter table tenants enable row level security;
create policy own on tenants using (note(name) > 0);
`

func TestEffects(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, effectsSchema))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for sql, want := range map[string]struct{ writes, tables string }{
		`select id from users`:                  {"", "users:s"},
		`insert into users (name) values ('a')`: {"insert into users!", "users:i"},
		`insert into users (name) values ('a') on conflict (id) do update set name = 'b' returning id`: {"insert into users!", "users:siu"},
		`update users set name = 'a' where id = 1`:                                                     {"update users!", "users:su"},
		`update users u set name = p.title from posts p where p.user_id = u.id`:                        {"update users!", "posts:s users:su"},
		`delete from users`: {"delete from users!", "users:d"},
		`with x as (delete from users returning id) select id from x`:   {"delete from users!", "users:sd"},
		`select u.id from users u join posts p on true for update of u`: {"locks rows of users (lock)", "posts:s users:sl"},
		`select nextval('users_id_seq')`:                                {"function nextval", ""},
		`select random(), now(), upper('a')`:                            {"", ""},
		`select note('a')`:                                              {"function note, insert into posts", "posts:si via function note"},
		`select twice('a')`:                                             {"function twice, function note, insert into posts", "posts:si via function twice, function note"},
		`select n from noted`:                                           {"view noted, function note, insert into posts", "noted:s posts:si via view noted, function note users:s via view noted"},
		`select 7::checked`:                                             {"domain checked, function note, insert into posts", "posts:si via domain checked, function note"},
		`select $1::checked`:                                            {"domain checked, function note, insert into posts", "posts:si via domain checked, function note"},
		`select hidden()`:                                               {"function hidden, which is volatile, in plpgsql?", ""},
		`select careful()`:                                              {"", ""},
		`select kept(id) from users`:                                    {"aggregate kept, function keep, which is volatile, in plpgsql?", "users:s"},
		`insert into log (line) values ('a')`:                           {"insert into log! | rule logged, insert into posts", "log:i log:s via rule logged posts:i via rule logged"},
		`select name from tenants`:                                      {"policy own, function note, insert into posts", "posts:si via policy own, function note tenants:s"},
		`select pg_notify('a', 'b')`:                                    {"function pg_notify, which is volatile?", ""},
	} {
		sts, err := analysis.Analyze(t.Context(), conn, analysis.Query{SQL: sql})
		require.NoError(t, err)
		require.Nil(t, sts[0].Refused, sql)
		require.Empty(t, sts[0].NotAnalyzed, sql)
		var writes, tables []string
		for _, w := range sts[0].Writes {
			mark := ""
			if w.Lock {
				mark = " (lock)"
			} else if w.Direct {
				mark = "!"
			}
			if !w.Certain {
				mark += "?"
			}
			writes = append(writes, w.What+mark)
		}
		for _, table := range sts[0].Tables {
			word := table.Name + ":"
			for _, done := range []struct {
				is   bool
				mark string
			}{{table.Selected, "s"}, {table.Inserted, "i"}, {table.Updated, "u"}, {table.Deleted, "d"}, {table.Locked, "l"}} {
				if done.is {
					word += done.mark
				}
			}
			if table.Through != "" {
				word += " via " + table.Through
			}
			tables = append(tables, word)
		}
		slices.Sort(tables)
		assert.Equal(t, want.writes, strings.Join(writes, " | "), sql)
		assert.Equal(t, want.tables, strings.Join(tables, " "), sql)
	}
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from pg_proc where proname ~ 'pgcmd'`).Scan(&left))
	assert.Zero(t, left)
}

func TestWhatIsAssigned(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, effectsSchema))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for sql, want := range map[string]string{
		`select id from users where name = $1`:                                           "$1 text",
		`update users set name = $1, nick = $2 where id = $3`:                            "$1 text = users.name! | $2 text = users.nick | $3 bigint",
		`update users set name = coalesce($1, name)`:                                     "$1 text",
		`insert into users (name, nick) values ($1, $2), ($2, null)`:                     "$1 text = users.name! | $2 text = users.name! = users.nick",
		`insert into users (name) select $1 from posts`:                                  "$1 text = users.name!",
		`insert into users (name) values ('a') on conflict (id) do update set name = $1`: "$1 text = users.name!",
		`insert into nn (id, note) values ($1, $2)`:                                      "$1 bigint = nn.id | $2 text = nn.note!",
		`insert into users (mail, name) values ($1, 'a')`:                                "$1 email = users.mail!",
		`with u as (update users set nick = $1 returning id) select id from u`:           "$1 text = users.nick",
		`update users set mood = $1::text::mood`:                                         "$1 text = users.mood! as mood",
		`update posts set n = $1::int8::int4`:                                            "$1 bigint = posts.n! as integer",
		`update users set name = lower($1) || $2, nick = lower($1)`:                      "$1 text fails name | $2 text fails name",
		`update users set name = coalesce(lower($1), concat($2::text))`:                  "$1 text | $2 text",
		`insert into users (name) select upper(x) from (select trim($1) as x) s`:         "$1 text fails name",
		`insert into users (name) select upper($1) where $1 is not null`:                 "$1 text",
		`insert into users (nick) values ('a')`:                                          " leaves out name",
		`insert into users (name) values (default)`:                                      " leaves out name",
		`insert into posts default values`:                                               " leaves out user_id, title",
		`insert into filled (b) values (1)`:                                              "",
	} {
		sts, err := analysis.Analyze(t.Context(), conn, analysis.Query{SQL: sql})
		require.NoError(t, err)
		require.Nil(t, sts[0].Refused, sql)
		var words []string
		for i, p := range sts[0].Params {
			word := fmt.Sprintf("$%d %s", i+1, p.Type)
			for _, to := range p.Sets {
				word += " = " + to.Table + "." + to.Column
				if to.NotNull {
					word += "!"
				}
			}
			for _, to := range p.Fails {
				word += " fails " + to.Column
			}
			for _, c := range p.Casts {
				var name string
				require.NoError(t, conn.QueryRow(t.Context(), `select format_type($1::oid, null)`, c.To).Scan(&name))
				word += " as " + name
			}
			words = append(words, word)
		}
		got := strings.Join(words, " | ")
		for i, c := range sts[0].Omitted {
			got += map[bool]string{true: " leaves out ", false: ", "}[i == 0] + c.Column
		}
		assert.Equal(t, want, got, sql)
	}
}
