// Package optional_test tests commands whose SQL depends on the input: optional parts,
// choices, and functions that make the SQL.
package optional_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type ListUsers struct {
	Email  *string
	Name   sql.Null[string]
	MinAge pgtype.Int4
	IDs    []int32
	Sort   string
	Limit  int `validate:"gte=0,lte=100"`
}

const listSQL = `select id from users
	where true
	/*? and email like @email */
	/*? and name = @name */
	/*? and age >= @min_age -- the youngest
	*/
	/*? and id = any (@ids) */
	order by /*= @sort oldest: age desc, id; email: email; "quoted": x */ id /*=*/
	limit @limit`

var listUsers = pgcmd.Query[ListUsers, int]("users.list", strings.Replace(listSQL, `; "quoted": x`, "", 1))

// inputs are all combinations of what listUsers can be sent.
func inputs() (all []ListUsers) {
	for bits := range 1 << 4 {
		for _, sort := range []string{"", "oldest", "email"} {
			in := ListUsers{Sort: sort, Limit: 10}
			if bits&1 != 0 {
				in.Email = ptr("%@example.com")
			}
			if bits&2 != 0 {
				in.Name = sql.Null[string]{V: "Ada", Valid: true}
			}
			if bits&4 != 0 {
				in.MinAge = pgtype.Int4{Int32: 20, Valid: true}
			}
			if bits&8 != 0 {
				in.IDs = []int32{1, 2}
			}
			all = append(all, in)
		}
	}
	return all
}

// want is what listUsers returns, by Go.
func (in ListUsers) want() []int {
	type user struct {
		id, age     int
		email, name string
	}
	order := map[string][]user{
		"":       {{1, 36, "ada@example.com", "Ada"}, {2, 17, "bob@example.com", ""}, {3, 25, "eve@example.org", "Eve"}},
		"oldest": {{1, 36, "ada@example.com", "Ada"}, {3, 25, "eve@example.org", "Eve"}, {2, 17, "bob@example.com", ""}},
		"email":  {{1, 36, "ada@example.com", "Ada"}, {2, 17, "bob@example.com", ""}, {3, 25, "eve@example.org", "Eve"}},
	}
	ids := []int{}
	for _, u := range order[in.Sort] {
		if in.Email != nil && !strings.HasSuffix(u.email, "@example.com") || in.Name.Valid && u.name != in.Name.V ||
			in.MinAge.Valid && u.age < int(in.MinAge.Int32) || in.IDs != nil && u.id > 2 {
			continue
		}
		ids = append(ids, u.id)
	}
	return ids
}

// ways are all ways to run a Query for some inputs.
func ways(t *testing.T, pool *pgcmd.Pool, q *pgcmd.Command[ListUsers, []int]) map[string]func(in ...ListUsers) [][]int {
	ctx := t.Context()
	each := func(run func(in ListUsers) ([]int, error)) func(in ...ListUsers) [][]int {
		return func(in ...ListUsers) (out [][]int) {
			for _, i := range in {
				ids, err := run(i)
				require.NoError(t, err)
				out = append(out, ids)
			}
			return out
		}
	}
	on := func(db pgcmd.DB) func(in ...ListUsers) [][]int {
		return each(func(in ListUsers) ([]int, error) { return q.Run(ctx, db, in) })
	}
	streamed := func(db pgcmd.DB, q *pgcmd.Command[ListUsers, []int]) func(in ...ListUsers) [][]int {
		return each(func(in ListUsers) ([]int, error) {
			ids := []int{}
			for id, err := range pgcmd.Stream(ctx, db, q, in) {
				if err != nil {
					return nil, err
				}
				ids = append(ids, id)
			}
			return ids, nil
		})
	}
	batched := func(mode pgcmd.BatchMode) func(in ...ListUsers) [][]int {
		return func(in ...ListUsers) (out [][]int) {
			result, err := pgcmd.Batch(q, mode).Run(ctx, pool, in)
			require.NoError(t, err)
			require.NoError(t, result.Err())
			for _, o := range result.Outcomes {
				out = append(out, o.Value)
			}
			return out
		}
	}
	pipelined := func(mode pgcmd.BatchMode) func(in ...ListUsers) [][]int {
		return func(in ...ListUsers) (out [][]int) {
			var p pgcmd.Pipeline
			var results []*pgcmd.Result[[]int]
			for _, i := range in {
				results = append(results, pgcmd.Queue(&p, q, i))
			}
			require.NoError(t, p.Run(ctx, pool, mode))
			for _, r := range results {
				ids, err := r.Get()
				require.NoError(t, err)
				out = append(out, ids)
			}
			return out
		}
	}
	transaction := pgcmd.Transaction("all", func(ctx context.Context, tx *pgcmd.Tx, in []ListUsers) ([][]int, error) {
		return on(tx)(in...), nil
	})
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	noCache := conn.Conn().Config().Copy()
	noCache.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	described, err := pgx.ConnectConfig(ctx, noCache)
	require.NoError(t, err)
	t.Cleanup(func() { _ = described.Close(context.Background()) })
	return map[string]func(in ...ListUsers) [][]int{
		"pool":             on(pool),
		"pgxpool":          on(pool.Pool),
		"conn":             on(conn),
		"described":        on(described),
		"try":              each(func(in ListUsers) ([]int, error) { return pgcmd.Try(ctx, pool, q, in).Get() }),
		"in tx":            each(func(in ListUsers) ([]int, error) { return q.With(pgcmd.Options{InTx: true}).Run(ctx, pool, in) }),
		"stream":           streamed(pool, q),
		"stream on a conn": streamed(conn, q),
		"stream by cursor": streamed(pool, q.With(pgcmd.Options{InTx: true})),
		"atomic":           batched(pgcmd.Atomic),
		"isolated":         batched(pgcmd.Isolated),
		"independent":      batched(pgcmd.Independent),
		"sequential":       batched(pgcmd.Sequential),
		"pipeline":         pipelined(pgcmd.Atomic),
		"pipeline alone":   pipelined(pgcmd.Independent),
		"transaction": func(in ...ListUsers) [][]int {
			out, err := transaction.Run(ctx, pool, in)
			require.NoError(t, err)
			return out
		},
		"foreign transaction": func(in ...ListUsers) [][]int {
			tx, err := pool.Pool.Begin(ctx)
			require.NoError(t, err)
			defer func() { assert.NoError(t, tx.Rollback(context.Background())) }()
			return on(tx)(in...)
		},
	}
}

func TestEveryVariantReturnsItsRowsHoweverItIsRun(t *testing.T) {
	t.Parallel()
	returnsItsRows(t, listUsers)
}

// returnsItsRows runs q in all ways, on pools of all kinds.
func returnsItsRows(t *testing.T, q *pgcmd.Command[ListUsers, []int]) {
	for name, c := range map[string]struct {
		cfg pgcmd.Config
		q   *pgcmd.Command[ListUsers, []int]
	}{
		"dedicated": {q: q},
		"limited":   {q: q.With(pgcmd.Options{MaxRows: 3, MaxBytes: 1000})},
		"shared":    {cfg: pgcmd.Config{Multiplex: 2}, q: q}, // for it is a read by its text
		"settings":  {cfg: pgcmd.Config{Settings: tenant}, q: q},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, _ := connect(t, c.cfg)
			all := inputs()
			for way, run := range ways(t, pool, c.q) {
				for range 2 {
					for i, ids := range run(all...) {
						assert.Equal(t, all[i].want(), ids, "%s: %+v", way, all[i])
					}
				}
			}
			if c.cfg.Multiplex > 0 {
				assert.NotZero(t, pool.Metrics().Pool.Shared.Reads)
			}
		})
	}
}

func TestVariantsRunConcurrently(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{MaxConns: 4})
	q := pgcmd.Query[ListUsers, int]("users.list", strings.Replace(listSQL, `; "quoted": x`, "", 1))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				for _, in := range inputs() {
					ids, err := q.Run(t.Context(), pool, in)
					if assert.NoError(t, err) {
						assert.Equal(t, in.want(), ids)
					}
				}
			}
		})
	}
	all.Wait()
}

func TestAVariantIsPreparedOnceWithNumbersOfItsOwn(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{MaxConns: 1})
	for range 3 {
		for _, in := range []ListUsers{{Limit: 1}, {Limit: 1, Email: ptr("a")}, {Limit: 1, IDs: []int32{}, Sort: "oldest"}} {
			_, err := listUsers.Run(t.Context(), pool, in)
			require.NoError(t, err)
		}
	}
	var got []string
	for _, text := range sent.take() {
		assert.Equal(t, strings.Count(listSQL, "\n"), strings.Count(text, "\n"), "the lines are those of the source")
		got = append(got, strings.Join(strings.Fields(text), " "))
	}
	assert.Equal(t, []string{
		"select id from users where true order by id limit $1",
		"select id from users where true and email like $1 order by id limit $2",
		"select id from users where true and id = any ($1) order by age desc, id limit $2",
	}, got)
}

// The text as it is written is SQL: what psql would send is the variant without parts and with the defaults.
func TestTheSourceIsSQLItself(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	source := strings.Replace(strings.Replace(listSQL, `; "quoted": x`, "", 1), "@limit", "10", 1)
	rows, err := pool.Query(t.Context(), source)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	assert.Equal(t, ListUsers{}.want(), ids)
}

func TestAnAbsentFieldIsNilOrNotValid(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type Filter struct{ Age int }
	type In struct {
		P  *int
		S  []int
		M  map[string]int
		A  any
		N  sql.NullInt64
		T  pgtype.Text
		R  pgtype.Range[pgtype.Int4]
		PP **int
		*Filter
	}
	q := pgcmd.QueryOne[In, string]("set", `select '' /*? || 'p' || left(@p::int::text, 0) */ /*? || 's' || left(@s::int[]::text, 0) */
		/*? || 'm' || left(@m::jsonb::text, 0) */ /*? || 'a' || left(@a::int::text, 0) */ /*? || 'n' || left(@n::int::text, 0) */
		/*? || 't' || left(@t::text, 0) */ /*? || 'r' || left(@r::int4range::text, 0) */ /*? || 'f' || left(@age::int::text, 0) */
		/*? || 'P' || coalesce(left(@pp::int::text, 0), '') */ /*? || '2' || left(@p::int::text, 0) || left(@t::text, 0) */`)
	require.NoError(t, pgcmd.Verify(t.Context(), pool, q))
	for want, in := range map[string]In{
		"":    {},
		"p":   {P: ptr(0)},
		"s":   {S: []int{}},
		"m":   {M: map[string]int{}},
		"a":   {A: 0},
		"n":   {N: sql.NullInt64{Valid: true}},
		"t":   {T: pgtype.Text{Valid: true}},
		"r":   {R: pgtype.Range[pgtype.Int4]{LowerType: pgtype.Empty, UpperType: pgtype.Empty, Valid: true}},
		"f":   {Filter: &Filter{}},
		"P":   {PP: ptr(ptr(0))},
		"pt2": {P: ptr(0), T: pgtype.Text{Valid: true}},
	} {
		got, err := q.Run(t.Context(), pool, in)
		require.NoError(t, err, want)
		assert.Equal(t, want, got)
	}
}

func TestMarksAreFoundWhereCommentsAre(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct {
		A *string
		C *string
	}
	for sql, want := range map[string]string{
		`select 'x /*? || @a */' /*? || @a */`:                                    "x /*? || @a */A",
		`select $$/*? @a */$$/*?||@a*/`:                                           "/*? @a */A",
		`select 'x' /* a /*? || @a */ comment */ /*? || @a */`:                    "xA",
		`select 'x' -- /*? || 'no' */` + "\n" + `/*? || @a */`:                    "xA",
		`select 'x'/*? || /* a /* nested */ comment */ @a -- and a line` + "\n*/": "xA",
		`select 'x'/*? -- first` + "\n" + `|| @a -- last*/`:                       "xA",
		`select 'x'/*= @c a: || 'a;b:c' || ';'::text; b: || ':' */ || 'd' /*=*/`:  "xd",
		`select 'x'/*=@c a:||'a'; -- ; b: c` + "\n" + ` b-1.x : ||"t".v/* ; */;*//*= */ from (values ('v')) "t;" (v), (values ('w')) t (v) /*? where @a = 'A' */`: "x",
	} {
		q := pgcmd.QueryOne[In, string]("x", sql)
		got, err := q.Run(t.Context(), pool, In{A: ptr("A")})
		require.NoError(t, err, sql)
		assert.Equal(t, want, got, sql)
	}
	q := pgcmd.QueryOne[In, string]("x", `select 'x'/*= @c a: || 'a;b:c' || ';'::text; b: || ':' || (@a::text) */ || 'd' /*=*/`)
	for choice, want := range map[string]string{"": "xd", "a": "xa;b:c;", "b": "x:A"} {
		got, err := q.Run(t.Context(), pool, In{A: ptr("A"), C: &choice})
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// A literal goes on after a new line, and not after a comment: a part that is left out must not join two.
func TestLiteralsAroundAPartStayTwo(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct{ A *string }
	q := pgcmd.QueryOne[In, string]("x", "select 'a' /*?\n || @a || */\n 'b'")
	_, err := q.Run(t.Context(), pool, In{})
	refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "syntax", "line 3")
	got, err := q.Run(t.Context(), pool, In{A: ptr("-")})
	require.NoError(t, err)
	assert.Equal(t, "a-b", got)
}

func TestOneFieldChoosesAtSeveralPlaces(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type Page struct {
		Sort  *Order
		After *int
	}
	q := pgcmd.Query[Page, int]("users.page", `select id from users where true
		/*? and id <> @after */
		and /*= @sort oldest: age > 0; youngest: age < 100 */ true /*=*/
		order by /*= @sort youngest: age; oldest: age desc */ id /*=*/`)
	require.NoError(t, pgcmd.Verify(t.Context(), pool, q))
	for _, c := range []struct {
		in   Page
		want []int
	}{
		{Page{}, []int{1, 2, 3}},
		{Page{Sort: ptr(Order("oldest"))}, []int{1, 3, 2}},
		{Page{Sort: ptr(Order("youngest")), After: ptr(3)}, []int{2, 1}},
	} {
		got, err := q.Run(t.Context(), pool, c.in)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
}

type Order string

func TestAnUnknownChoiceIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	bad, good := ListUsers{Sort: "id; drop table users", Limit: 1}, ListUsers{Limit: 1}
	const says = "Sort must be one of oldest, email, or empty for the default"
	check := func(err error) {
		t.Helper()
		e := refused(t, err, pgcmd.CodeInvalid, pgcmd.NotApplied, says)
		assert.NotContains(t, err.Error(), "drop")
		if assert.Len(t, e.Problems, 1) {
			assert.Contains(t, e.Problems[0].Field, "Sort")
			assert.Equal(t, "choice", e.Problems[0].Rule)
		}
	}
	check(listUsers.Validate(bad))
	require.NoError(t, listUsers.Validate(good))
	_, err := listUsers.Run(t.Context(), pool, bad)
	check(err)
	_, err = listUsers.With(pgcmd.Options{Trusted: true}).Run(t.Context(), pool, bad)
	check(err)
	_, err = pgcmd.Explain(t.Context(), pool, listUsers, bad)
	check(err)
	for _, err := range pgcmd.Stream(t.Context(), pool, listUsers, bad) {
		check(err)
	}
	before := pgcmd.Before(listUsers, func(_ context.Context, in *ListUsers) error {
		in.Sort = "none"
		return nil
	})
	_, err = before.Run(t.Context(), pool, good)
	check(err)
	for _, trusted := range []bool{false, true} {
		q := listUsers.With(pgcmd.Options{Trusted: trusted})
		result, err := pgcmd.Batch(q, pgcmd.Atomic).Run(t.Context(), pool, []ListUsers{good, bad})
		check(err)
		assert.Equal(t, 1, result.Failed)
		assert.Equal(t, 1, result.Skipped)
		var p pgcmd.Pipeline
		r := pgcmd.Queue(&p, q, bad)
		check(p.Run(t.Context(), pool, pgcmd.Atomic))
		_, err = r.Get()
		check(err)
	}
	assert.Empty(t, sent.take())
	for _, mode := range []pgcmd.BatchMode{pgcmd.Isolated, pgcmd.Independent, pgcmd.Sequential} {
		for _, trusted := range []bool{false, true} {
			result, _ := pgcmd.Batch(listUsers.With(pgcmd.Options{Trusted: trusted}), mode).Run(t.Context(), pool, []ListUsers{good, bad, good})
			check(result.Outcomes[1].Err)
			assert.NoError(t, result.Outcomes[0].Err)
			assert.Equal(t, mode == pgcmd.Sequential, result.Outcomes[2].Err != nil)
		}
	}
	two := listUsers.Validate(ListUsers{Sort: "x", Limit: 1000})
	assert.Len(t, refused(t, two, pgcmd.CodeInvalid, pgcmd.NotApplied, says, "Limit must be 100 or less").Problems, 2)
}

type UpdateUser struct {
	ID   int
	Name *string
	Age  *int
}

func TestWritesHaveVariants(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	update := pgcmd.Exec[UpdateUser]("users.update", `update users set id = id /*? , name = @name */ /*? , age = @age */ where id = @id`)
	n, err := update.Run(t.Context(), pool, UpdateUser{ID: 2, Name: ptr("Bob")})
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	result, err := pgcmd.Batch(update, pgcmd.Atomic).Run(t.Context(), pool, []UpdateUser{{ID: 1, Age: ptr(37)}, {ID: 2}, {ID: 3, Name: ptr("E"), Age: ptr(26)}})
	require.NoError(t, err)
	assert.Equal(t, 3, result.Succeeded)
	once := pgcmd.Once(update.With(pgcmd.Options{InTx: true}), func(in UpdateUser) string { return "key" })
	_, err = pool.Exec(t.Context(), pgcmd.OnceSchema)
	require.NoError(t, err)
	for range 2 {
		n, err = once.Run(t.Context(), pool, UpdateUser{ID: 2, Age: ptr(18)})
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)
	}
	rows, err := pool.Query(t.Context(), "select coalesce(name, '') || age from users order by id")
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	assert.Equal(t, []string{"Ada37", "Bob18", "E26"}, got)
	_, err = update.Run(t.Context(), pool, UpdateUser{ID: 1, Name: ptr("a\x00b")})
	refused(t, err, pgcmd.CodeInvalid, pgcmd.NotApplied, "Name holds a NUL byte")
}

func TestRowsOfVariantsMayBeMaps(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct {
		Age  *int
		Show string
	}
	q := pgcmd.Query[In, map[string]any]("users.maps", `select id, /*= @show email: email */ name /*=*/ from users /*? where age < @age */ order by id`)
	rows, err := q.Run(t.Context(), pool, In{Age: ptr(20), Show: "email"})
	require.NoError(t, err)
	assert.Equal(t, []map[string]any{{"id": int32(2), "email": "bob@example.com"}}, rows)
	result, err := pgcmd.Batch(q, pgcmd.Independent).Run(t.Context(), pool, []In{{Age: ptr(20)}, {Age: ptr(20), Show: "email"}, {Age: ptr(20)}})
	require.NoError(t, err)
	require.NoError(t, result.Err())
	assert.Equal(t, []map[string]any{{"id": int32(2), "name": nil}}, result.Outcomes[2].Value)
	assert.Equal(t, []map[string]any{{"id": int32(2), "email": "bob@example.com"}}, result.Outcomes[1].Value)
}

func TestExplainPlansTheVariantOfTheInput(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct {
		Email *string `secret:"true"`
	}
	q := pgcmd.Query[In, int]("users.find", `select id from users /*? where email = @email */`)
	plan, err := pgcmd.Explain(t.Context(), pool, q, In{})
	require.NoError(t, err)
	assert.NotContains(t, plan, "Filter")
	assert.True(t, strings.HasSuffix(plan, "\n\nselect id from users"), plan)
	plan, err = pgcmd.Explain(t.Context(), pool, q, In{Email: ptr("hunter2")})
	require.NoError(t, err)
	assert.Contains(t, plan, "Filter")
	assert.NotContains(t, plan, "hunter2")
	assert.Contains(t, plan, "\n\nselect id from users  where email = $1")
}

func TestMistakesPanicAtDefinition(t *testing.T) {
	t.Parallel()
	type In struct {
		Email *string
		Name  *string
		Age   int
		Sort  string
		Kind  *string
	}
	for _, c := range []struct{ sql, says string }{
		{"select 1\n  /*? and age = @age */", "2:3: the optional part names no field that can be absent, so that it would always be sent: make field In.Age a *int, or take the marks away"},
		{"select 1 /*? and true */", "1:10: the optional part names no field"},
		{"select 1 /*? */", "1:10: the optional part is empty"},
		{"select 1 /*? and email = @emial */", "1:10: the optional part names @emial, In has no such field (has: email, name, age, sort, kind)"},
		{"select 1 where x = @emial /*? and email = @email */", "SQL names @emial, In has no such field"},
		{"select 1 /*? and email = $1 */", "1:26: $1 is a number"},
		{"select 1 where $1 = 1 /*? and email = @email */", "mixes @email and $1"},
		{"select 1 /*? and email = @email; select 2 */", "1:32: a second statement begins here"},
		{"select 1; /*? and email = @email */", "a second statement begins here"},
		{"/*? select @email */", "the SQL is empty"},
		{"select 1 /*? and email = @email /*? and name = @name */ */", "1:33: an optional part or a choice cannot be within an optional part"},
		{"select 1 /*? and email = @email /*= @sort a: 1 */ 2 /*=*/ */", "1:33: an optional part or a choice cannot be within an optional part"},
		{"select 1 /*? and email = @email", "1:10: the comment that begins here is never closed"},
		{"select 1 /*? and email like '*/' || @email */", "1:32: the string that begins here is never closed: end it with ' (an optional part and the list of a choice end as comments do"},
		{"select /*= @sort a: 1 */ 2", "1:8: the choice that begins here has no end"},
		{"select /*= @sort a: 1 */ 2 /*? + @email */ /*=*/", "1:8: the choice that begins here has no end before the next mark"},
		{"select 2 /*=*/", "1:10: this ends a choice, and none has begun"},
		{"select /*= sort a: 1 */ 2 /*=*/", "1:8: the choice names no field"},
		{"select /*= @sort */ 2 /*=*/", "1:8: the choice has 0 names"},
		{"select /*= @sort a: 1; a: 2 */ 2 /*=*/", "1:24: the choice has the name a twice"},
		{"select /*= @sort a: 1; 2 */ 2 /*=*/", "1:24: the choice has no name here"},
		{"select /*= @sort a: 1; b */ 2 /*=*/", "1:24: the choice has no name here"},
		{"select /*= @sort a::int; b: 1 */ 2 /*=*/", "1:18: the choice has no name here"},
		{"select /*= @sort a: ; b: 1 */ 2 /*=*/", "1:18: the choice has no SQL for a"},
		{"select /*= @sort a: '; b: 1 */ 2 /*=*/", "1:21: the string that begins here is never closed: end it with ' (an optional part and the list of a choice end as comments do"},
		{"select /*= @sort a: $1 */ 2 /*=*/", "1:21: $1 is a number"},
		{"select /*= @sort a: 1 */ 2; select 3 /*=*/", "1:27: a second statement begins here"},
		{"select /*= @sort a: 1 /*? + @email */ */ 2 /*=*/", "1:23: an optional part or a choice cannot be within a choice"},
		{"select /*= @srot a: 1 */ 2 /*=*/", "1:8: the choice names @srot, In has no such field"},
		{"select /*= @age a: 1 */ 2 /*=*/", "1:8: the choice names @age, and field In.Age has the type int: make it a string"},
		{"select /*= @sort a: 1 */ 2 /*=*/ where @sort = ''", "1:8: @sort chooses here, and is a placeholder elsewhere"},
		{"select /*= @sort a: 1 */ 2 /*=*/ /*? , @email || @sort */", "1:8: @sort chooses here, and is a placeholder elsewhere"},
		{"select /*= @sort a: 1 */ 2 /*=*/, /*= @sort b: 1 */ 2 /*=*/", "1:35: the choice by @sort has other names here than before (a)"},
		{"select /*= @sort a: 1 */ 2 /*=*/, /*= @Sort b: 1 */ 2 /*=*/", "1:35: two choices name field In.Sort in two ways: write its name as in the first"},
	} {
		t.Run(c.sql, func(t *testing.T) {
			text := panics(t, func() { pgcmd.Query[In, int]("users.list", c.sql) })
			assert.Contains(t, text, "pgcmd: users.list: ")
			assert.Contains(t, text, c.says)
		})
	}
	assert.Contains(t, panics(t, func() { pgcmd.Query[*string, int]("x", `select 1 /*? where $1 = 'a' */`) }), "1:20: $1 is a number")
	assert.Contains(t, panics(t, func() { pgcmd.Query[string, int]("x", `select 1 /*? where @a = 'a' */`) }), "the input is one string, and SQL with optional parts or choices names the fields of a struct")
	readOnly := pgcmd.Options{ReadOnly: true}
	assert.Contains(t, panics(t, func() { pgcmd.Query[In, int]("x", `select 1 /*? into t where @email = '' */`).With(readOnly) }), "the SQL is plainly a write")
	assert.Contains(t, panics(t, func() {
		pgcmd.Query[In, int]("x", `/*= @sort w: delete from users */ table users /*=*/`).With(readOnly)
	}), "the SQL is plainly a write")
}

func TestVerifyChecksEveryVariant(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	require.NoError(t, pgcmd.Verify(t.Context(), pool, listUsers))
	assert.Len(t, defined(sent.take()), 48)

	type In struct {
		Email, Name *string
		Age         *int
		Sort        string
		Show        string
	}
	q := pgcmd.Query[In, string]("users.list", `select /*= @show age: age; two: id, id */ email /*=*/ from users where true
		/*? and email = @email */ /*? and nme = @name */ /*? and age = @age and email = @email */ order by /*= @sort name: nam */ 1 /*=*/`)
	err := pgcmd.Verify(t.Context(), pool, q)
	e := refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "1 of 1 commands do not fit the database")
	var found []string
	for _, p := range e.Problems {
		found = append(found, p.Field+" "+p.Message[:min(40, len(p.Message))])
	}
	assert.Equal(t, []string{
		`users.list (with name): SQL is refused by the server: column "nme" d`,
		`users.list (without optional parts; show two): row is one string, and the SQL returns id, i`,
		`users.list (without optional parts; sort name): SQL is refused by the server: column "nam" d`,
	}, found)
	gone := pgcmd.Query[In, string]("gone", "select email from gone\n/*? where email = @email */")
	e = refused(t, pgcmd.Verify(t.Context(), pool, gone), pgcmd.CodeInternal, pgcmd.NotApplied)
	require.Len(t, e.Problems, 1)
	assert.Equal(t, "gone: SQL", e.Problems[0].Field, "all variants have it")
	two := refused(t, pgcmd.Verify(t.Context(), pool, listUsers, gone, listUsers), pgcmd.CodeInternal, pgcmd.NotApplied, "2 of 3 commands")
	assert.Len(t, two.Problems, 2)
}

func TestVerifyKnowsThatAFieldOfAPartThatIsSentIsNotNil(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table members (id int primary key, name text not null, tags text[] not null)`)
	type In struct {
		ID   int
		Name *string
		Tags []string
		Note **string
	}
	define := func(sql string) pgcmd.Definition { return pgcmd.Exec[In]("members.update", sql) }
	warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, define(`update members set id = id /*? , name = @name */ /*? , tags = @tags */ where id = @id`))
	require.NoError(t, err)
	assert.Empty(t, warnings)
	for sql, says := range map[string]string{
		`update members set name = @name /*? , tags = @tags */ where id = @id`:                      "members.update: In.Name (*string) may be nil, which is NULL",
		`update members set name = @name /*? , tags = array_append(@tags, @name) */ where id = @id`: "members.update (without optional parts): In.Name (*string) may be nil",
		`update members set id = id /*? , name = @note */ where id = @id`:                           "In.Note (**string) may be nil, which is NULL",
	} {
		assert.ErrorContains(t, pgcmd.Verify(t.Context(), pool, define(sql)), says)
	}
}

// defined are the statements of commands among those that Verify sent.
func defined(sent []string) []string {
	return slices.DeleteFunc(sent, func(text string) bool { return !strings.HasPrefix(text, "select id from users") })
}

type Many struct {
	F1, F2, F3, F4, F5, F6, F7, F8, F9 *int
	Sort                               string
}

var many = pgcmd.Query[Many, int]("many", `select id from users where true /*? and id = @f1 */ /*? and id = @f2 */ /*? and id = @f3 */ /*? and id = @f4 */
	/*? and id = @f5 */ /*? and id = @f6 */ /*? and id = @f7 */ /*? and id = @f8 */ /*? and id = @f9 */ order by /*= @sort email: email; age: age */ id /*=*/`)

func TestVerifyOfVeryManyVariantsChecksSome(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	require.NoError(t, pgcmd.Verify(t.Context(), pool, many))
	seen := map[string]bool{}
	texts := defined(sent.take())
	for _, text := range texts {
		seen[strings.Join(strings.Fields(text), " ")] = true
	}
	assert.Len(t, texts, 1+1+9+9+2*2)
	for _, want := range []string{
		"select id from users where true order by id",
		"select id from users where true and id = $1 order by id",
		"select id from users where true order by age",
		"select id from users where true and id = $1 and id = $2 and id = $3 and id = $4 and id = $5 and id = $6 and id = $7 and id = $8 and id = $9 order by email",
	} {
		assert.True(t, seen[want], want)
	}
}

// Of more variants than are looked at when a command is defined, one may be a write.
func TestAReadOnlyCommandSendsNoVariantThatWrites(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	q := pgcmd.Exec[Many]("many", `explain /*? @f2 */ /*? analyze with a as (select @f1::int) */ /*= @sort x: delete from users */ select 1 from users /*=*/
		/*? @f3 */ /*? @f4 */ /*? @f5 */ /*? @f6 */ /*? @f7 */ /*? @f8 */ /*? @f9 */`).With(pgcmd.Options{ReadOnly: true})
	_, err := q.Run(t.Context(), pool, Many{F1: ptr(1)})
	require.NoError(t, err)
	assert.Len(t, sent.take(), 1)
	_, err = q.Run(t.Context(), pool, Many{F1: ptr(1), Sort: "x"})
	refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "the SQL with f1; sort x is plainly a write, and the command is ReadOnly: take one of them away")
	assert.Empty(t, sent.take())
}

func TestOptionalPartsCostNoAllocation(t *testing.T) {
	pool := pgcmdtest.Pool(t, schema)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	type In struct {
		ID    *int
		Email *string
		Sort  string
	}
	email := "ada@example.com"
	in := In{Email: &email, Sort: "age"}
	plain := pgcmd.QueryOne[In, int]("plain", `select id from users where true and email = @email order by age`)
	optional := pgcmd.QueryOne[In, int]("optional", `select id from users where true /*? and id = @id */ /*? and email = @email */ order by /*= @sort age: age */ id /*=*/`)
	for name, db := range map[string]pgcmd.DB{"pool": pool, "conn": conn} {
		count := func(c *pgcmd.Command[In, int]) float64 {
			allocs, _, err := measure.Allocs(measure.Side{Name: name, Run: func(int) error { _, err := c.Run(t.Context(), db, in); return err }}, 0, 50)
			require.NoError(t, err)
			return allocs
		}
		assert.LessOrEqual(t, count(optional), count(plain), name)
	}
}

func TestAPanicOfAnEncoderOfAVariantGivesTheConnectionBack(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{MaxConns: 1})
	type In struct{ V *explosive }
	q := pgcmd.Query[In, int]("x", `select id from users /*? where email = @v */`)
	for range 3 {
		assert.Panics(t, func() { _, _ = q.Run(t.Context(), pool, In{V: new(explosive)}) })
		_, err := q.Run(t.Context(), pool, In{})
		require.NoError(t, err)
	}
}

type explosive struct{}

func (explosive) TextValue() (pgtype.Text, error) { panic(errors.New("boom")) }
