package sqltext

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTables(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		`select 1`:                              ``,
		`select id from users where email = $1`: `users`,
		`select * from only app.users u, "Odd ""one""" as o`:                                           `app.users Odd "one"`,
		`select * from a join b on a.id = b.id, c`:                                                     `a b c`,
		`select * from (a join b using (id)) left join c on b`:                                         `a b c`,
		`select * from (select * from a) x, b`:                                                         `a b`,
		`select * from generate_series(1, 3) n, app.f(1), a`:                                           `a`,
		`select * from a, lateral (select * from b) x`:                                                 `a b`,
		`select extract(day from d), trim(both from x) from a`:                                         `a`,
		`select a is distinct from b from c`:                                                           `c`,
		`select * from a where b in (select id from c)`:                                                `a c`,
		`select * from a order by b, c`:                                                                `a`,
		`select * from a for update of a`:                                                              `a`,
		`select f(a, b) from c group by d, e`:                                                          `c`,
		`insert into users (email) values ($1) on conflict (email) do update set age = 1 returning id`: `insert:users`,
		`insert into a select * from b`:                                                                `insert:a b`,
		`update only users set age = 1 from b where true`:                                              `update:users b`,
		`delete from users using b, c where true`:                                                      `delete:users b c`,
		`merge into a using b on a.id = b.id when matched then update set n = 1`:                       `merge:a b`,
		`with x as (delete from a returning *), y (n) as (select 1) select * from x, y, z`:             `delete:a z`,
		`with update as materialized (update a set n = 1 returning n) select * from update`:            `update:a`,
		`select 'from x', "from" from a -- from b`:                                                     `a`,
		`create table a (id int references b)`:                                                         ``,
		`call pay($1)`:                                                                                 ``,
		`(select * from a) union (select * from b)`:                                                    `a b`,
		`select update from a`:                                                                         `a`,
		`insert into`:                                                                                  ``,
		`select * from`:                                                                                ``,
		`select '`:                                                                                     ``,
	} {
		var got []string
		for _, table := range Tables(sql) {
			name := table.Name
			if table.Schema != "" {
				name = table.Schema + "." + name
			}
			if table.Verb != "" {
				name = table.Verb + ":" + name
			}
			got = append(got, name)
		}
		assert.Equal(t, want, strings.Join(got, " "), sql)
	}
}

func TestExcludes(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		`select note from t`:                                                 false,
		`select note from t where id = $1`:                                   false,
		`select note from t where note is not null`:                          true,
		`select note from t where note is null`:                              false,
		`select note from t where "note" like 'a%'`:                          true,
		`select note from t where 1 < note`:                                  true,
		`select note = 1 from t`:                                             false,
		`insert into t (id, note) values ($1, $2) returning id, note`:        true,
		`insert into t (id) values ($1) returning id, note`:                  false,
		`update t set n = 1 where id = $1 returning note`:                    false,
		`select note from t where note`:                                      false,
		`select note from t join u on t.note = u.note order by note is null`: true,
	} {
		assert.Equal(t, want, Excludes(sql, "note"), sql)
	}
}
