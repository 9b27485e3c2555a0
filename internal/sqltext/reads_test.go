package sqltext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// queries have a place for an expression, ?, or for what goes into FROM, ~. Filled with the call of a function of
// PostgreSQL's that changes nothing each is a read, and filled with the call of a user's none is.
var queries = []string{
	"select ?",
	"((select ?))",
	"values (1, ?)",
	"select *, ? as into_ from t",
	"select distinct on (a) ? from t",
	"select distinct on (a) a, ? from t",
	"select all (?)",
	"select a from t where a in (1, 2) and ? > 0",
	"select a from t where a = any(array[1, ?])",
	"select a from t where a not in (select ?)",
	"select a from t where exists (select from t x where ? > 0)",
	"select a from t where (a, b) in ((1, ?))",
	"select coalesce(nullif(?, 1), greatest(1, 2), least(1, 2))",
	"select case when (a > 0) then (?) else (1) end from t",
	"select case ? when (1) then 2 end",
	"select cast(? as numeric(10, 2)), (?)::varchar(10), 1.5::pg_catalog.numeric(10, 2)",
	"select extract(day from now()) + ?, overlay('abc' placing 'x' from (?)), position('a' in ('abc')), substring('abc' from (?) for (1))",
	"select trim(both from 'x'), trim(leading 'x' from ('xy')), ?",
	"select row(?, 2), (?, 2), array[?], array(select ?), (array[1, 2])[(?)], (array[1, 2])[1:(?)]",
	"select count(*) filter (where ? > 0) over (partition by (a) order by (b) rows between (1) preceding and current row) from t",
	"select sum(a) over w from t window w as (partition by (?) order by (b))",
	"select percentile_cont(0.5) within group (order by (a)) filter (where (?) > 0) from t",
	"select (a), ? from t group by (a), (b)",
	"select a, ? from t group by grouping sets ((a), ())",
	"select a, ?, grouping(a) from t group by rollup (a)",
	"select a, ? from t group by cube (a)",
	"select a from t group by (a) having (? > 0) order by (?), (a) limit (?) offset (1)",
	"select a from t order by a offset (?) rows fetch first (1) rows only",
	"select a from t order by a fetch next (?) rows only",
	"(select 1) union (select ?) union all (select 3)",
	"select 1 except (select ?) order by (1)",
	"with x as (select ?) select * from x",
	"with x(a, b) as (select 1, ?), y (c) as not materialized (values (1)), z as materialized ((select 1)) select * from x, y, z",
	"with recursive x(n) as (select 1 union all select n + 1 from x where n < least(3, ?)) select * from x",
	"with recursive x(n) as (select 1 union all select n + 1 from x where n < 3) search depth first by n set o cycle n set c using p select ?",
	"with x as (values (1), (2)), y as (table t) select ? from x, y",
	"select t.a, ? from t join (select 1 as a) u using (a) left join t v on (v.a = t.a)",
	"select * from t cross join lateral (select ?) as x(y)",
	"select * from t tablesample system (100) repeatable (?)",
	"select * from only (t) where ? > 0",
	"select 'a' like ('b'), 'a' not ilike ('b'), (now(), now()) overlaps (now(), now()), 1 between (0) and (?)" + " where false",
	"select current_timestamp(3), localtime(0), timestamp(3) '2020-01-01', interval(3) '1 s', now() at time zone ('utc'), ?",
	"select numeric(5, 1) '1.5', character varying(3) 'abc', bit varying(3) '101', bit(3) '101', float(5) '1', time(1) '10:00', ?",
	`select "pg_catalog"."abs"(1), pg_catalog . abs (1), abs/**/(1), ?`,
	`select "t"."a", "a" from "t" where "a" in (1, ?)`,
	"select xmlelement(name foo, xmlattributes(1 as x), xmlforest(? as y), xmlconcat('<a/>'))",
	"select xmlserialize(content '<a/>' as text), ?",
	"select * from xmltable('/a' passing xml '<a/>' columns b numeric(10, 2) path 'b' default (?))",
	"select $1::int + (?)",
	"select 1 operator(pg_catalog.+) ?",
	"select operator(pg_catalog.-) ?",
	"select a from t where a = 1. and ? > 0",
	"select a from t where a = 1.5e3 and ? > 0",
	"select 1 where 1 = ? -- abs(",
	"select /* now( */ 'f(' || $$f($$, ?",
	"select *, ? from (values (1, 2)) as v(a, b)",
	"select *, ? from (values (1, 2)) v(a, b)",
	"select * from t as u(x, y) where x = ?",
	"select x, ? from t t2(x, y)",

	"select * from ~",
	"select * from ~ g",
	"select * from ~ as g(a)",
	"select * from ~ g(a)",
	"select * from t, lateral ~ as g",
	"select * from t join ~ g(a) on (true)",
	"select * from rows from (~, ~) with ordinality as g(a, b, n)",
	"select * from ~ with ordinality g(a, n)",
	"with x as (select * from ~) select * from x",
	"select (select count(*) from ~)",
}

// unread are those that are valid, and whose form is not worth a rule.
var unread = map[string]bool{"select x, ? from t t2(x, y)": true}

func TestReads(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table t (a int, b int); create function own(int) returns int language sql as 'select $1'`,
		`create schema s; create function s.abs(int) returns int language sql as 'select $1'; create function own_rows(int) returns setof int language sql as 'select $1'`)
	prepare := func(t *testing.T, sql string) {
		t.Helper()
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Conn().PgConn().Prepare(t.Context(), "", sql, nil)
		require.NoError(t, err, sql)
	}
	for _, query := range queries {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(query, "search depth") && version(t, pool) < 140000 {
				t.Skip("PostgreSQL 13 has no SEARCH: scripts/matrix runs this on later ones")
			}
			read := strings.NewReplacer("?", "abs(1)", "~", "generate_series(1, 2)").Replace(query)
			prepare(t, read)
			assert.Equal(t, !unread[query], changesNothing(t, read), "%s", read)
			for _, own := range []string{"own(1)", "own (1)", `"own"(1)`, "public.own(1)", "s.abs(1)", "abs(own(1))", "own/**/(1)", "(own(1))", `U&"!006fwn" uescape '!' (1)`} {
				write := strings.ReplaceAll(query, "?", own)
				write = strings.ReplaceAll(write, "~", "generate_series(1, "+own+")")
				prepare(t, write)
				assert.False(t, changesNothing(t, write), "%s", write)
			}
			write := strings.NewReplacer("?", "own(1)", "~", "own_rows(1)").Replace(query)
			prepare(t, write)
			assert.False(t, changesNothing(t, write), "%s", write)
		})
	}
}

func changesNothing(t *testing.T, sql string) bool {
	t.Helper()
	text, err := sqltext.Parse(sql)
	require.NoError(t, err)
	return text.ChangesNothing
}

// What a text alone shows to change something, or may.
func TestWhatIsNoRead(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"select nextval('s')", "select setval('s', 1)", "select * from nextval('s')", "select pg_catalog.nextval('s')",
		"select set_config('a.b', 'c', false)", "select setseed(0.5)",
		"select pg_advisory_lock(1)", "select pg_try_advisory_xact_lock(1)", "select pg_notify('a', 'b')",
		"select lo_create(0)", "select lo_get(1)", "select pg_terminate_backend(1)",
		"select query_to_xml('delete from t returning *', true, true, '')", "select table_to_xml('t', true, true, '')",
		"select * from ts_stat('select f()')", "select ts_rewrite('a'::tsquery, 'select f()')",
		"select * from dblink('', '')",
		"select nobody.abs(1)", "select a.pg_catalog.abs(1)", `select "PG_CATALOG".abs(1)`, `select "ABS"(1)`,
		"select 1 operator(s.+) 2", "select (1) operator(s.+) (2)",
		"select * from t tablesample own(1)",
		"select 1 from t for update", "select 1 from t for no key update of t", "select 1 from t for share", "select 1 from (select 1 from t for key share) u",
		"select 1 into t", "with a as (select 1) select 1 into t", "table t for update",
		"with a as (delete from t returning 1) select * from a", "with a as (select 1) delete from t",
		"insert into t values (1)", "update t set a = 1", "delete from t", "merge into t using s on true when matched then delete",
		"show all", "explain select 1", "explain analyze select 1", "call f()", "do $$ $$", "create table t()", "set a = b", "commit",
		"select \"abs\nage\"(1)", `select "abs""age"(1)`, `select "a(", f(1)`,
		"select * from f(1) as (select_ int)", "select * from f(1) as materialized (a int)", "select * from f(1) as (values int)",
		"select a.b f(1), g(2)",
		"select case when 1=1then f(1) end", "select 1 where 1=1.and f(1)", "select 1 limit 1for update", // on PostgreSQL 14
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			assert.False(t, changesNothing(t, sql))
		})
	}
	assert.True(t, changesNothing(t, "select 1 operator(pg_catalog.+) 2"))
}

func TestWhatChangesOnlyItsRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sql  string
		want bool
	}{
		{"update t set a = abs(a) where id = $1 returning a", true},
		{"delete from t where id in (1, 2) returning *", true},
		{"insert into t (a, b) values (nextval('s'), now()) on conflict (a) do nothing returning id", true},
		{"insert into s.t as x (a) select a from t y where a > (0) on conflict (lower(a)) where (b) do update set a = excluded.a", true},
		{"merge into t using (select 1) s(a) on (t.a = s.a) when matched and (true) then delete when not matched then insert (a) values (1) returning a", true},
		{"with x (a) as (select 1) update t set a = x.a from x returning t.a", true},

		{"with x as (insert into t values (1) returning 1) update t set a = 1 returning a", false},
		{"with x as (delete from t returning 1) insert into t select 1 where false returning a", false},
		{"update t set a = own(1) where id = $1 returning a", false},
		{"update t set a = 1 where own(a) returning a", false},
		{"delete from t where id = 1 returning own(a)", false},
		{"insert into t values (own(1)) returning id", false},
		{"insert into t values (setval('s', 1)) returning id", false},
		{"update t set a = 1 where s.nextval(1) returning a", false},
		{"select 1", true}, {"select id from t where id = $1 for update", true}, {"with x as (select nextval('s')) select * from x", true},
		{"select 1 into t", false}, {"select own(1) from t for update", false}, {"with x as (delete from t returning 1) select * from x", false},
		{"truncate t", false}, {"create table t as select 1", false},
	} {
		t.Run(c.sql, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.want, text.ChangesOnlyRows)
		})
	}
}

// FuzzReads adds the call of an unknown function to a text, between two tokens: whatever it was, it is no read then.
func FuzzReads(f *testing.F) {
	for i, query := range queries {
		f.Add(strings.NewReplacer("?", "abs(1)", "~", "now() n(a)").Replace(query), uint16(3*i))
	}
	f.Fuzz(func(t *testing.T, sql string, place uint16) {
		text, err := sqltext.Parse(sql)
		if err != nil {
			return
		}
		require.False(t, text.ChangesNothing && (text.Writes || !text.ChangesOnlyRows || text.Ends))
		ends := sqltext.TokenEnds(sql)
		at := ends[int(place)%len(ends)]
		more, err := sqltext.Parse(sql[:at] + " + own_function (1) " + sql[at:])
		require.False(t, err == nil && (more.ChangesNothing || more.ChangesOnlyRows), "%q with a call at %d", sql, at)
	})
}
