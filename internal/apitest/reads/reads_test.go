// Package reads_test tests statements that count as reads by their text, and those that changed no row.
package reads_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type none = struct{}

const seatsDDL = `
create table seats (id int8 primary key, name text not null, free int not null default 1, note text);
insert into seats values (1, 'a'), (2, 'b'), (3, 'c');
create function own(int8) returns int8 language sql as 'insert into seats values ($1 + 1000, '''') returning id'`

// failure is err as an *Error.
func failure(t *testing.T, err error) *pgcmd.Error {
	t.Helper()
	e, ok := errors.AsType[*pgcmd.Error](err)
	require.True(t, ok, "%v is no *Error", err)
	return e
}

// proxied makes a pool of two connections through a proxy.
func proxied(t *testing.T, cfg pgcmd.Config, ddl ...string) (*pgcmd.Pool, *faults.Proxy) {
	t.Helper()
	proxy, err := faults.Start(pgcmdtest.URL(t, ddl...))
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	cfg.URL, cfg.MaxConns = proxy.URL(), 2
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	return pool, proxy
}

// reply matches the end of the server's reply to a statement with this command tag.
func reply(tag string) *faults.Fault {
	return &faults.Fault{Direction: faults.Backend, Action: faults.CutBefore, Match: func(typ byte, body []byte) bool {
		return typ == 'C' && bytes.Contains(body, []byte(tag))
	}}
}

var (
	names = pgcmd.Query[none, string]("seats.names", `select name from seats order by id`)
	name  = pgcmd.QueryOne[int64, string]("seats.name", `select upper(name) from seats where id = $1`)
	touch = pgcmd.Exec[none]("seats.touch", `select id from seats`)
	grab  = pgcmd.Exec[none]("seats.grab", `update seats set free = free - 1`)

	writes = pgcmd.Options{Writes: true}
	inTx   = pgcmd.Options{InTx: true}
	twice  = pgcmd.Options{Retry: pgcmd.Retry{Attempts: 2}}
)

// run makes a run of a command.
func run[In, Out any](c *pgcmd.Command[In, Out], in In) func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
	return func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
		_, err := c.With(o).Run(ctx, db, in)
		return err
	}
}

func stream(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
	for _, err := range pgcmd.Stream(ctx, db, names.With(o), none{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

func adHoc(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
	return run(pgcmd.AdHoc, pgcmd.AdHocQuery{SQL: `select name from seats where length(name) > 0`})(ctx, db, o)
}

func pipeline(mode pgcmd.BatchMode) func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
	return func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
		o.Retry = pgcmd.Retry{} // it has none
		var p pgcmd.Pipeline
		pgcmd.Queue(&p, names.With(o), none{})
		pgcmd.Queue(&p, name.With(o), 1)
		return p.Run(ctx, db, mode)
	}
}

func batched(mode pgcmd.BatchMode) func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
	return func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
		r, err := pgcmd.Batch(name, mode).With(o).Run(ctx, db, []int64{1, 2, 3})
		if err == nil {
			err = r.Err()
		}
		return err
	}
}

// ways to run statements that are reads unless the options say otherwise.
var ways = map[string]struct {
	run     func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error
	commits bool // in a transaction that is committed by COMMIT
	retries bool // it can have Options.Retry
}{
	"a Query":                 {run: run(names, none{}), retries: true},
	"a QueryOne":              {run: run(name, 1), retries: true},
	"an Exec":                 {run: run(touch, none{}), retries: true},
	"a stream":                {run: stream},
	"AdHoc":                   {run: adHoc, retries: true},
	"an Atomic batch":         {run: batched(pgcmd.Atomic), commits: true, retries: true},
	"an Isolated batch":       {run: batched(pgcmd.Isolated), commits: true, retries: true},
	"an Independent batch":    {run: batched(pgcmd.Independent), retries: true},
	"a Sequential batch":      {run: batched(pgcmd.Sequential), retries: true},
	"an Atomic pipeline":      {run: pipeline(pgcmd.Atomic), commits: true},
	"an Independent pipeline": {run: pipeline(pgcmd.Independent)},
	"a Query InTx":            {run: run(names.With(inTx), none{}), commits: true, retries: true},
	"a stream InTx": {run: func(ctx context.Context, db pgcmd.DB, o pgcmd.Options) error {
		o.InTx = true
		return stream(ctx, db, o)
	}, commits: true},
}

func TestALostReplyOfAReadIsNotApplied(t *testing.T) {
	t.Parallel()
	for how, way := range ways {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			pool, proxy := proxied(t, pgcmd.Config{}, seatsDDL)
			tag := "SELECT"
			if way.commits {
				tag = "COMMIT"
			}
			lost := func(o pgcmd.Options) error {
				require.NoError(t, way.run(t.Context(), pool, o), "it prepares")
				proxy.Set(reply(tag))
				err := way.run(t.Context(), pool, o)
				assert.Equal(t, 1, proxy.Fired())
				return err
			}
			e := failure(t, lost(pgcmd.Options{}))
			assert.Equal(t, pgcmd.CodeUnavailable, e.Code, e)
			assert.Equal(t, pgcmd.NotApplied, e.Effect, e)
			if way.retries {
				assert.NoError(t, lost(twice), "it is retried as a read")
			}
			e = failure(t, lost(pgcmd.Options{Writes: true, Retry: twice.Retry}))
			assert.Equal(t, pgcmd.CodeUnknownEffect, e.Code, e)
			assert.Equal(t, pgcmd.Unknown, e.Effect, e)
		})
	}
}

func TestADeadlineOfAReadIsNotApplied(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seatsDDL)
	sleep := pgcmd.Query[none, string]("seats.slow", `select name || pg_sleep(60) from seats`).With(pgcmd.Options{Timeout: 50 * time.Millisecond})
	for how, f := range map[string]func(c *pgcmd.Command[none, []string]) error{
		"a run": func(c *pgcmd.Command[none, []string]) error { _, err := c.Run(t.Context(), pool, none{}); return err },
		"a stream": func(c *pgcmd.Command[none, []string]) error {
			for _, err := range pgcmd.Stream(t.Context(), pool, c, none{}) {
				return err
			}
			return nil
		},
	} {
		for effect, c := range map[pgcmd.Effect]*pgcmd.Command[none, []string]{pgcmd.NotApplied: sleep, pgcmd.Unknown: sleep.With(writes)} {
			e := failure(t, f(c))
			for timeout := 200 * time.Millisecond; e.Code == pgcmd.CodeExhausted; timeout *= 4 { // it passed while a connection was made
				require.Less(t, timeout, time.Minute)
				e = failure(t, f(c.With(pgcmd.Options{Timeout: timeout})))
			}
			assert.Equal(t, pgcmd.CodeTimeout, e.Code, how)
			assert.Equal(t, effect, e.Effect, how)
		}
	}
}

// What fails after the statement has succeeded.
func TestALateErrorOfAReadIsNotApplied(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seatsDDL)
	errVeto := errors.New("veto")
	veto := pgcmd.After(names, func(context.Context, none, *[]string) error { return errVeto })
	for effect, o := range map[pgcmd.Effect]pgcmd.Options{pgcmd.NotApplied: {}, pgcmd.Applied: writes} {
		_, err := veto.With(o).Run(t.Context(), pool, none{})
		assert.ErrorIs(t, err, errVeto)
		assert.Equal(t, effect, pgcmd.EffectOf(err))
		_, err = pgcmd.Query[none, int64]("seats.names", `select name from seats`).With(o).Run(t.Context(), pool, none{})
		assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
		assert.Equal(t, effect, pgcmd.EffectOf(err), "a row that does not fit")
		_, err = pgcmd.QueryOne[none, string]("seats.name", `select name from seats`).With(o).Run(t.Context(), pool, none{})
		assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
		assert.Equal(t, effect, pgcmd.EffectOf(err), "a row too many")
		r, err := pgcmd.Batch(pgcmd.QueryOne[int64, int64]("seats.name", `select name from seats where id = $1`), pgcmd.Independent).With(o).
			Run(t.Context(), pool, []int64{1})
		require.NoError(t, err)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(r.Outcomes[0].Err), "an item that does not fit is refused when it is described")
	}
}

// Only what is declared to be ReadOnly goes to a replica, or begins a READ ONLY transaction.
func TestAReadByItsTextStaysOnThePrimary(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary, err := pgcmdtest.Start(ctx, pgcmdtest.WithTCP())
	require.NoError(t, err)
	defer primary.Close()
	standby, err := primary.Standby(ctx)
	require.NoError(t, err)
	defer standby.Close()
	address, err := standby.URLOf(primary.URL())
	require.NoError(t, err)
	where := pgcmd.QueryOne[none, [2]bool]("where", `select array[pg_is_in_recovery(), current_setting('transaction_read_only')::bool]`)
	for _, shared := range []int{0, 1} {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: primary.URL(), Replicas: []string{address}, Multiplex: shared})
		require.NoError(t, err)
		for name, c := range map[string]struct {
			run func(c *pgcmd.Command[none, [2]bool]) ([2]bool, error)
		}{
			"run":     {run: func(c *pgcmd.Command[none, [2]bool]) ([2]bool, error) { return c.Run(ctx, pool, none{}) }},
			"in a Tx": {run: func(c *pgcmd.Command[none, [2]bool]) ([2]bool, error) { return c.With(inTx).Run(ctx, pool, none{}) }},
			"a batch": {run: func(c *pgcmd.Command[none, [2]bool]) ([2]bool, error) {
				r, err := pgcmd.Batch(c, pgcmd.Atomic).Run(ctx, pool, make([]none, 2))
				return r.Outcomes[1].Value, err
			}},
			"an Independent pipeline": {run: func(c *pgcmd.Command[none, [2]bool]) ([2]bool, error) {
				var p pgcmd.Pipeline
				r := pgcmd.Queue(&p, c, none{})
				_ = p.Run(ctx, pool, pgcmd.Independent)
				return r.Get()
			}},
		} {
			got, err := c.run(where)
			require.NoError(t, err)
			assert.Equal(t, [2]bool{false, false}, got, "%s, Multiplex %d", name, shared)
			got, err = c.run(where.With(pgcmd.Options{ReadOnly: true}))
			require.NoError(t, err)
			assert.Equal(t, [2]bool{true, true}, got, "%s, ReadOnly, Multiplex %d", name, shared)
		}
		require.NoError(t, pool.Close(ctx))
	}
}

func TestAReadJoinsAReadOnlyTransaction(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seatsDDL)
	join := func(c *pgcmd.Command[none, []string]) error {
		_, err := pgcmd.Transaction("read", func(ctx context.Context, tx *pgcmd.Tx, _ none) (int, error) {
			_, err := c.Run(ctx, tx, none{})
			return 0, err
		}).With(pgcmd.Options{ReadOnly: true}).Run(t.Context(), pool, none{})
		return err
	}
	assert.NoError(t, join(names.With(inTx)))
	assert.ErrorContains(t, join(names.With(inTx).With(writes)), "the transaction that the command joins is read-only")
}

func TestReadOnlyAndWritesPanic(t *testing.T) {
	t.Parallel()
	const message = "pgcmd: seats.names: Options.ReadOnly and Options.Writes contradict each other: take one of them away"
	readOnly := pgcmd.Options{ReadOnly: true}
	assert.PanicsWithValue(t, message, func() { names.With(pgcmd.Options{ReadOnly: true, Writes: true}) })
	assert.PanicsWithValue(t, message, func() { names.With(writes).With(readOnly) })
	assert.PanicsWithValue(t, message, func() { names.With(readOnly).With(writes) })
	assert.PanicsWithValue(t, message, func() { pgcmd.Batch(names.With(writes), pgcmd.Atomic).With(readOnly) })
}

// The manifest shows what counts as a read.
func TestTheCatalogShowsReads(t *testing.T) {
	t.Parallel()
	batch := pgcmd.Batch(name, pgcmd.Atomic)
	for _, c := range []struct {
		def  pgcmd.Definition
		want bool
	}{
		{names, true}, {name, true}, {touch, true}, {batch, true}, {names.With(inTx), true},
		{names.With(writes), false}, {batch.With(writes), false}, {pgcmd.Batch(name.With(writes), pgcmd.Atomic), false}, {grab, false},
		{pgcmd.Once(names, func(none) string { return "k" }), false},
		{pgcmd.QueryOne[int64, int64]("seats.own", `select own($1)`), false},
		{pgcmd.New("seats.new", func(context.Context, pgcmd.DB, none) (int, error) { return 0, nil }), false},
		{pgcmd.AdHoc, false},
	} {
		info := pgcmd.NewCatalog(c.def).Manifest().Commands[0]
		assert.Equal(t, c.want, info.ReadOnly, info.Name)
		assert.Equal(t, !c.want || c.def == pgcmd.Definition(batch), slices.Contains(info.Codes, pgcmd.CodeUnknownEffect), info.Name)
	}
}
