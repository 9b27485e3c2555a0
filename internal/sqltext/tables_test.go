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
			table.Outer = false
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

func TestTablesThatMayHaveNoMatch(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		`select * from a join b using (id)`:                                       ``,
		`select * from a left join b using (id) join c on true`:                   `b`,
		`select * from a left outer join b on true left join c on true`:           `b c`,
		`select * from a right join b using (id)`:                                 `a`,
		`select * from a, b full join c using (id)`:                               `a b c`,
		`select * from a left join (b join c using (id)) on true, d`:              `b c`,
		`select * from a left join (select * from b, c) x on true`:                `b c`,
		`select * from a left join lateral (select * from b) x on true`:           `b`,
		`select * from a left join b on b.n = (select max(n) from c)`:             `b`,
		`select * from a where exists (select 1 from b left join c using (id))`:   `c`,
		`select * from (select * from a left join b using (id)) x join c on true`: `b`,
		`select left(name, 3) from a join b on true`:                              ``,
	} {
		var got []string
		for _, table := range Tables(sql) {
			if table.Outer {
				got = append(got, table.Name)
			}
		}
		assert.Equal(t, want, strings.Join(got, " "), sql)
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		`select 1`: ``,
		`select note(), app.f(1), "Odd" (2), 'x(' from g() where a in (1)`: `note app.f Odd g in`,
		`declare n int; begin n := f(x); perform g(); return a(b(c)); end`: `f g a b`,
		`select '`: ``,
	} {
		var got []string
		for _, call := range Calls(sql) {
			if call.Schema != "" {
				call.Name = call.Schema + "." + call.Name
			}
			got = append(got, call.Name)
		}
		assert.Equal(t, want, strings.Join(got, " "), sql)
	}
	for sql, want := range map[string]bool{
		`select 1`: false, `select * from a for update`: true, `select * from a for no key update of a skip locked`: true,
		`(select * from a for share)`: true, `select substring(a for 3) from b`: false, `'`: false,
	} {
		assert.Equal(t, want, Locks(sql), sql)
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

// Whatever the text, there is no panic, and what comes out is a name in the text.
func FuzzTables(f *testing.F) {
	for _, sql := range []string{
		`select * from a left join (b join "c ""d" using (id)) on true, e.f`, `with x (a) as not materialized (update only u set n = 1 returning *) select * from x for no key update`,
		`merge into a using b on a.id = b.id when matched then do nothing`, `insert into`, `from`, `join`, `)(`, `"`, `as(`, `.from.`, `outer join`, `is not null`,
	} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		lower := strings.ToLower(sql)
		for _, table := range Tables(sql) {
			assert.NotEmpty(t, table.Name)
			assert.Contains(t, []string{"", "insert", "update", "delete", "merge"}, table.Verb)
			assert.Contains(t, lower, strings.ToLower(strings.ReplaceAll(table.Name, `"`, `""`)))
			Excludes(sql, table.Name)
		}
		for _, call := range Calls(sql) {
			assert.NotEmpty(t, call.Name)
		}
		Locks(sql)
	})
}
