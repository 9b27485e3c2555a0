package analysis_test

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A later version may rename any node and any field, or leave it out. What is then not understood must not make a column
// one that is never NULL. It is not parallel: WithText is for all.
func TestATreeOfAVersionThatDoesNotExistProvesNothing(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, schema))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var queries []analysis.Query
	for _, sql := range []string{
		`select u.nick, p.title, u.name from users u left join posts p on p.user_id = u.id where u.name > ''`,
		`select u.name, p.title from users u full join posts p on p.user_id = u.id`,
		`select a.title, b.title from posts a left join posts b on b.parent_id = a.id and b.n > 0 where a.body is not null`,
		`select max(n), count(*), sum(n) filter (where n > 1) from posts group by user_id having count(*) > 1`,
		`select max(n), array_agg(title) from posts`,
		`select title, count(*) from posts group by rollup (title)`,
		`select user_id, title from posts group by grouping sets ((user_id, title), (user_id))`,
		`select case when n > 1 then 'a' end, nullif(n, 1), coalesce(body, null), body || 'a', tags[1], meta->>'a', body is null from posts, users`,
		`select (select title from posts where id = 1), exists (select from posts), array(select body from posts)`,
		`with recursive t as (select id, parent_id from posts union all select p.id, t.parent_id from posts p join t on true) select id, parent_id from t`,
		`with x as (select nick from users) select nick from x`,
		`select name as n from users union all select nick from users`,
		`select title as n from posts intersect select nick from users`,
		`select lag(title) over (order by id), first_value(title) over (order by id rows between 1 following and 2 following), sum(n) over (order by id) from posts`,
		`select x.a, x.n from unnest(array[1, null]) with ordinality x(a, n)`,
		`select b from parent`,
		`select nick from v_users`,
		`select v from (values (1, null), (2, 'a')) x(n, v)`,
		`insert into users (name, nick) values ('a', null) returning nick, deleted_at`,
		`insert into users (name, nick) values ('a', 'b') on conflict (id) do update set nick = null returning nick`,
		`update users set nick = null where nick = 'a' returning nick`,
		`delete from users where name = 'a' returning nick`,
		`select nick from users where nick = 'a' or name = 'b'`,
		`select nick from users where not (nick = 'a' and name = 'b')`,
		`select nick from users where (nick = 'a') is not true`,
		`select nick from users where nick is distinct from 'a'`,
		`select nick from users where nick <> all (tags)`,
		`select nick from users where nick not in (select title from posts)`,
	} {
		queries = append(queries, analysis.Query{SQL: sql})
	}
	names := map[string]bool{}
	var before []*analysis.Statement
	analysis.WithText(func(text string) string {
		for _, name := range regexp.MustCompile(`[{:][A-Za-z_]+ `).FindAllString(text, -1) {
			names[name] = true
		}
		return text
	}, func() {
		before, err = analysis.Analyze(t.Context(), conn, queries...)
		require.NoError(t, err)
	})
	require.Greater(t, len(names), 100)
	every := slices.Sorted(maps.Keys(names))
	if testing.Short() { // the long form has them all
		every = slices.DeleteFunc(every, func(name string) bool { return len(name)%4 != 0 })
	}
	for _, name := range every {
		analysis.WithText(func(text string) string { return strings.ReplaceAll(text, name, name[:1]+"later_"+name[1:]) }, func() {
			after, err := analysis.Analyze(t.Context(), conn, queries...)
			require.NoError(t, err, name)
			for i, st := range after {
				if st.NotAnalyzed != "" {
					continue
				}
				for c := range st.Columns {
					if st.Columns[c].Null == analysis.Never {
						assert.Equal(t, analysis.Never, before[i].Columns[c].Null, "without %s, column %d of %s", name, c+1, queries[i].SQL)
					}
				}
			}
		})
	}
}
