package rows_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// texts are n texts of length bytes each.
type texts struct{ N, Length int }

const textsSQL = `select repeat('x', @length) as v from generate_series(1, @n)`

const bytesDDL = `
	create table docs (id int, body text);
	create function doc(length int) returns text language plpgsql volatile as $$ begin
		insert into docs values (1, 'x');
		return repeat('x', length);
	end $$`

// tooMuch asserts that err is the refusal of MaxBytes, and says how to go on.
func tooMuch(t testing.TB, err error, limit int, what string) *pgcmd.Error {
	t.Helper()
	require.Error(t, err, what)
	e := failure(t, err)
	require.Equal(t, pgcmd.CodeTooManyRows, e.Code, "%s: %v", what, err)
	assert.Contains(t, e.Message, fmt.Sprintf("more than MaxBytes (%d) bytes", limit), what)
	assert.Contains(t, e.Message, "raise MaxBytes", what)
	return e
}

func TestMaxBytesBoundsTheValuesOfAReplyToTheByte(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, bytesDDL)
	many := pgcmd.Query[texts, string]("many", textsSQL)
	one := pgcmd.QueryOne[texts, string]("one", textsSQL)
	maps := pgcmd.Query[texts, map[string]any]("maps", textsSQL)
	shared := func(c *pgcmd.Config) { c.Multiplex = 1 }
	for name, change := range map[string]func(*pgcmd.Config){
		"": nil, "simple": inMode(pgx.QueryExecModeSimpleProtocol), "exec": inMode(pgx.QueryExecModeExec),
		"describe": inMode(pgx.QueryExecModeCacheDescribe), "multiplex": shared,
	} {
		pool := connect(t, url, change)
		for _, in := range []texts{{1, 1}, {1, 1000}, {100, 10}, {1000, 7}, {1, 20_000}, {3, 30_000}, {2, 100_000}, {1000, 1000}} {
			size := in.N * in.Length
			for _, readOnly := range []bool{false, true} {
				fits := pgcmd.Options{MaxBytes: size, ReadOnly: readOnly}
				less := pgcmd.Options{MaxBytes: size - 1, ReadOnly: readOnly}
				if size == 1 {
					less.MaxBytes = 0 // which is no limit
				}
				what := fmt.Sprintf("%s %v %v", name, in, readOnly)
				got, err := many.With(fits).Run(t.Context(), pool, in)
				require.NoError(t, err, what)
				require.Len(t, got, in.N, what)
				if in.N == 1 {
					row, err := one.With(fits).Run(t.Context(), pool, in)
					require.NoError(t, err, what)
					require.Len(t, row, in.Length, what)
				}
				if less.MaxBytes == 0 {
					continue
				}
				_, err = many.With(less).Run(t.Context(), pool, in)
				e := tooMuch(t, err, size-1, what)
				if readOnly {
					assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
				}
				_, err = maps.With(less).Run(t.Context(), pool, in)
				tooMuch(t, err, size-1, what)
				if in.N == 1 {
					_, err = one.With(less).Run(t.Context(), pool, in)
					tooMuch(t, err, size-1, what)
				}
				_, err = pgcmd.AdHoc.With(less).Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `select repeat('x', @length::int) as v from generate_series(1, @n::int)`,
					Args: map[string]any{"n": in.N, "length": in.Length}})
				tooMuch(t, err, size-1, what)
			}
		}
		usable(t, pool)
	}
}

func TestMaxBytesOfConfigIsForCommandsThatSayNothing(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.URL(t, bytesDDL), func(c *pgcmd.Config) { c.MaxBytes = 1000 })
	many := pgcmd.Query[texts, string]("many", textsSQL)
	in := texts{11, 100}
	_, err := many.Run(t.Context(), pool, in)
	tooMuch(t, err, 1000, "Query")
	_, err = many.With(pgcmd.Options{MaxBytes: 1100}).Run(t.Context(), pool, in)
	require.NoError(t, err)
	_, err = pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `select repeat('x', 1001)`})
	tooMuch(t, err, 1000, "AdHoc")
	_, err = pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, in texts) (int, error) {
		_, err := many.Run(ctx, tx, in)
		tooMuch(t, err, 1000, "in a transaction")
		_, err = pgcmd.QueryOne[texts, string]("one", textsSQL).Run(ctx, tx, texts{1, 1000})
		return 0, err
	}).Run(t.Context(), pool, in)
	require.NoError(t, err)
	for mode, batch := range batches(many) {
		out := pgcmd.Try(t.Context(), pool, batch, []texts{{10, 100}, in})
		tooMuch(t, out.Value.Outcomes[1].Err, 1000, mode.String())
	}
	p := new(pgcmd.Pipeline)
	good, bad := pgcmd.Queue(p, many, texts{10, 100}), pgcmd.Queue(p, many, in)
	free := pgcmd.Queue(p, many.With(pgcmd.Options{MaxBytes: 1 << 20}), texts{10, 100_000})
	require.Error(t, p.Run(t.Context(), pool, pgcmd.Independent))
	_, err = good.Get()
	require.NoError(t, err)
	_, err = bad.Get()
	tooMuch(t, err, 1000, "Pipeline")
	got, err := free.Get()
	require.NoError(t, err)
	require.Len(t, got, 10)
	n := 0
	for _, err := range pgcmd.Stream(t.Context(), pool, many, texts{10, 50_000}) {
		require.NoError(t, err, "a stream has no limit")
		n++
	}
	require.Equal(t, 10, n)
	usable(t, pool)
}

func TestAWriteThatReturnsTooMuchIsAppliedAndSaysSo(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, bytesDDL)
	look := observer(t, url)
	insert := pgcmd.Query[texts, string]("docs.add", `insert into docs select 1, repeat('x', @length) from generate_series(1, @n) returning body`).
		With(pgcmd.Options{MaxBytes: 5000})
	for _, mode := range modes {
		pool := connect(t, url, inMode(mode))
		for _, in := range []texts{{100, 100}, {1, 1_000_000}, {20, 100_000}} {
			what := fmt.Sprintf("%s %v", mode, in)
			_, err := insert.Run(t.Context(), pool, in)
			assert.Equal(t, pgcmd.Applied, tooMuch(t, err, 5000, what).Effect, what)
			assert.Equal(t, in.N, count(t, look, "docs"), what)

			_, err = pgcmd.Transaction("undone", func(ctx context.Context, tx *pgcmd.Tx, in texts) (int, error) {
				_, err := insert.Run(ctx, tx, in)
				return 0, err
			}).Run(t.Context(), pool, in)
			assert.Equal(t, pgcmd.NotApplied, tooMuch(t, err, 5000, what).Effect, what)
			assert.Zero(t, count(t, look, "docs"), what)

			_, err = pgcmd.Transaction("try", func(ctx context.Context, tx *pgcmd.Tx, in texts) (int, error) {
				o := pgcmd.Try(ctx, tx, insert, in)
				tooMuch(t, o.Err, 5000, what)
				_, err := tx.Exec(ctx, `insert into docs values (1, 'y')`)
				return 0, err
			}).Run(t.Context(), pool, in)
			require.NoError(t, err, what)
			assert.Equal(t, 1, count(t, look, "docs"), what)
		}
		for batchMode, batch := range batches(insert) {
			what := fmt.Sprintf("%s %v", mode, batchMode)
			out := pgcmd.Try(t.Context(), pool, batch, []texts{{1, 10}, {1, 1_000_000}, {1, 10}})
			n := count(t, look, "docs")
			told := 0
			for _, o := range out.Value.Outcomes {
				if pgcmd.EffectOf(o.Err) == pgcmd.Applied {
					told++
				}
				assert.NotEqual(t, pgcmd.Unknown, pgcmd.EffectOf(o.Err), what)
			}
			assert.Equal(t, told, n, what)
			assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(out.Value.Outcomes[1].Err), what)
		}
		usable(t, pool)
	}
}

func TestMaxBytesOfACommandWithoutRowsPanics(t *testing.T) {
	t.Parallel()
	o := pgcmd.Options{MaxBytes: 1}
	body := func(context.Context, pgcmd.DB, int) (int, error) { return 0, nil }
	exec := pgcmd.Exec[int]("exec", `delete from t where id = $1`)
	for name, f := range map[string]func(){
		"Exec": func() { exec.With(o) },
		"New":  func() { pgcmd.New("new", body).With(o) },
		"Transaction": func() {
			pgcmd.Transaction("tx", func(context.Context, *pgcmd.Tx, int) (int, error) { return 0, nil }).With(o)
		},
		"Copy":     func() { pgcmd.Copy[plain]("copy", pgx.Identifier{"t"}).With(o) },
		"a Batch":  func() { pgcmd.Batch(exec, pgcmd.Atomic).With(o) },
		"negative": func() { pgcmd.Query[int, int]("q", `select $1`).With(pgcmd.Options{MaxBytes: -1}) },
	} {
		text := ""
		func() {
			defer func() { text, _ = recover().(string) }()
			f()
		}()
		assert.Contains(t, text, "Options.MaxBytes", name)
		assert.True(t, strings.HasPrefix(text, "pgcmd: "), name)
	}
	pgcmd.Batch(pgcmd.Query[int, int]("q", `select $1::int`), pgcmd.Atomic).With(o)
	pgcmd.Once(pgcmd.Query[int, int]("q", `select $1::int`), func(int) string { return "k" }).With(o)
	_, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: "postgres://localhost", MaxBytes: -1})
	assert.ErrorContains(t, err, "MaxBytes is negative")
}

// allocated is how many bytes of memory f takes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Not parallel: it counts the memory of the process.
func TestAHugeValueIsRefusedBeforeThereIsMemoryForIt(t *testing.T) {
	const limit = 256 << 10
	huge := 16 << 20
	if testing.Short() {
		huge = 6 << 20
	}
	url := pgcmdtest.URL(t, bytesDDL)
	look := observer(t, url)
	in := texts{1, huge}
	all := map[string]func(ctx context.Context, db pgcmd.DB) error{}
	many := pgcmd.Query[texts, string]("many", textsSQL).With(pgcmd.Options{MaxBytes: limit})
	one := pgcmd.QueryOne[texts, []byte]("one", `select repeat('x', @length)::bytea as v from generate_series(1, @n)`).With(pgcmd.Options{MaxBytes: limit})
	behind := pgcmd.Query[texts, string]("behind", `select repeat('x', case when i < 50 then 1000 else @length end) as v from generate_series(1, 50 * @n) i`).
		With(pgcmd.Options{MaxBytes: limit})
	all["Query"] = func(ctx context.Context, db pgcmd.DB) error { _, err := many.Run(ctx, db, in); return err }
	all["QueryOne"] = func(ctx context.Context, db pgcmd.DB) error { _, err := one.Run(ctx, db, in); return err }
	all["behind small ones"] = func(ctx context.Context, db pgcmd.DB) error { _, err := behind.Run(ctx, db, in); return err }
	all["AdHoc"] = func(ctx context.Context, db pgcmd.DB) error {
		_, err := pgcmd.AdHoc.With(pgcmd.Options{MaxBytes: limit}).Run(ctx, db, pgcmd.AdHocQuery{SQL: fmt.Sprintf(`select repeat('x', %d) as v`, huge)})
		return err
	}
	all["ReadOnly"] = func(ctx context.Context, db pgcmd.DB) error {
		_, err := many.With(pgcmd.Options{ReadOnly: true}).Run(ctx, db, in)
		return err
	}
	all["Batch"] = func(ctx context.Context, db pgcmd.DB) error {
		r, err := pgcmd.Batch(many, pgcmd.Atomic).Run(ctx, db, []texts{{1, 10}, in, {1, 10}})
		assert.Equal(t, err, r.Outcomes[1].Err)
		return err
	}
	all["Pipeline"] = func(ctx context.Context, db pgcmd.DB) error {
		p := new(pgcmd.Pipeline)
		pgcmd.Queue(p, pgcmd.Query[texts, string]("free", textsSQL), texts{1, 10})
		r := pgcmd.Queue(p, many, in)
		err := p.Run(ctx, db, pgcmd.Atomic)
		_, own := r.Get()
		assert.Equal(t, err, own)
		return err
	}
	check := func(what string, run func(ctx context.Context, db pgcmd.DB) error, db pgcmd.DB) *pgcmd.Error {
		var err error
		bytes := allocated(func() { err = run(t.Context(), db) })
		assert.Less(t, bytes, uint64(4<<20), "%s: memory", what)
		return tooMuch(t, err, limit, what)
	}
	inModes := modes
	if testing.Short() {
		inModes = modes[:1]
	}
	for _, mode := range inModes {
		pool := connect(t, url, inMode(mode))
		for name, run := range all {
			if mode != pgx.QueryExecModeCacheStatement && (name == "AdHoc" || name == "ReadOnly" || name == "behind small ones") {
				continue
			}
			what := fmt.Sprintf("%s, %s", mode, name)
			e := check(what, run, pool)
			if name == "ReadOnly" {
				assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
			}
			_, err := pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, _ int) (int, error) {
				check(what+", in a transaction", run, tx)
				_, err := tx.Exec(ctx, `insert into docs values (1, 'after')`)
				return 0, err
			}).Run(t.Context(), pool, 0)
			require.NoError(t, err, "%s: the transaction is usable", what)
			require.Equal(t, 1, count(t, look, "docs"), what)
		}
		usable(t, pool)
	}
	shared := connect(t, url, func(c *pgcmd.Config) { c.Multiplex = 1 })
	check("multiplex", all["ReadOnly"], shared)
	usable(t, shared)

	// What pgcmd has not made itself: the connection is the price there.
	raw, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer raw.Close()
	for name, run := range all {
		check("pgxpool, "+name, run, raw)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		e := check("pgx.Conn, "+name, run, conn)
		if name == "ReadOnly" {
			assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		}
		_ = conn.Close(t.Context())
		conn, err = pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		e = check("pgx.Tx, "+name, run, tx)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: the transaction is lost", name)
		_ = conn.Close(t.Context())
	}
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	pgcmd.Instrument(cfg)
	instrumented, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer instrumented.Close()
	conn, err := instrumented.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	for name, run := range all {
		check("a pgx.Tx on an instrumented connection, "+name, run, tx)
		_, err = tx.Exec(t.Context(), `select 1`)
		require.NoError(t, err, "the transaction is usable")
	}
	require.NoError(t, tx.Rollback(t.Context()))
}

func TestARowLongerThanTheLimitDoesNotDisturbWhatFollows(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, bytesDDL)
	pool := connect(t, url, func(c *pgcmd.Config) { c.MaxConns = 1 })
	limited := pgcmd.Query[texts, string]("many", `insert into docs select 1, repeat('x', @length) from generate_series(1, @n) returning body`).With(pgcmd.Options{MaxBytes: 100_000})
	free := pgcmd.Query[texts, string]("free", textsSQL)
	for i, length := range []int{16_380, 16_384, 16_400, 33_000, 99_999, 100_000, 100_001, 106_000, 107_000, 200_000, 1 << 20, 3 << 20} {
		for _, n := range []int{1, 2, 7} {
			in := texts{n, length}
			got, err := limited.Run(t.Context(), pool, in)
			if n*length <= 100_000 {
				require.NoError(t, err, "%d %d", i, n)
				require.Len(t, got, n)
			} else {
				tooMuch(t, err, 100_000, fmt.Sprint(i, n))
			}
			got, err = free.Run(t.Context(), pool, in)
			require.NoError(t, err)
			require.Len(t, got, n)
			for _, text := range got {
				require.Equal(t, length, strings.Count(text, "x"))
			}
		}
	}
	require.EqualValues(t, 1, pool.Stat().NewConnsCount(), "no connection was lost")
}
