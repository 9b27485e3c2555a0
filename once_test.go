package pgcmd_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type payment struct {
	Key    string
	From   int64
	Amount int64
}

type receipt struct {
	Balance int64
	At      time.Time
	Tags    []string
}

var payOnce = pgcmd.Once(pgcmd.Transaction("bank.pay", func(ctx context.Context, tx *pgcmd.Tx, in payment) (receipt, error) {
	r := receipt{Tags: []string{"a"}}
	err := tx.QueryRow(ctx, `update accounts set balance = balance - $1 where id = $2 returning balance, now()`, in.Amount, in.From).
		Scan(&r.Balance, &r.At)
	return r, err
}), func(in payment) string { return in.Key })

func TestOnceRunsOnceAndReplays(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL, pgcmd.OnceSchema, pgcmd.OnceSchema), 4)
	ctx := t.Context()

	first := pgcmd.Try(ctx, pool, payOnce, payment{"k1", 1, 10})
	require.NoError(t, first.Err)
	assert.False(t, first.Replayed)
	assert.EqualValues(t, 90, first.Value.Balance)
	second := pgcmd.Try(ctx, pool, payOnce, payment{"k1", 1, 10})
	require.NoError(t, second.Err)
	assert.True(t, second.Replayed)
	assert.Equal(t, first.Value.Balance, second.Value.Balance)
	assert.True(t, first.Value.At.Equal(second.Value.At))
	assert.Equal(t, first.Value.Tags, second.Value.Tags)
	assert.Equal(t, 90, count(t, pool, `select balance from accounts where id = 1`))

	_, err := payOnce.Run(ctx, pool, payment{"k1", 1, 11})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeConflict, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Contains(t, e.Message, "with another input")

	_, err = payOnce.Run(ctx, pool, payment{"k2", 1, 1000})
	assert.Equal(t, "23514", failure(t, err).SQLState)
	_, err = payOnce.Run(ctx, pool, payment{"k2", 1, 50})
	assert.NoError(t, err, "a run that failed stores no key")

	t.Run("neither body nor After nor AfterCommit run again, and Before comes after the key", func(t *testing.T) {
		var steps []string
		cmd := pgcmd.After(pgcmd.Before(pgcmd.Once(pgcmd.Transaction("x", func(_ context.Context, tx *pgcmd.Tx, in payment) (int, error) {
			steps = append(steps, "body "+in.Key)
			tx.AfterCommit(func(context.Context) { steps = append(steps, "committed") })
			return 1, nil
		}), func(in payment) string { return in.Key }), func(_ context.Context, in *payment) error { in.Key += time.Now().String(); return nil }), func(_ context.Context, _ payment, out *int) error { *out++; return nil })
		for range 2 {
			n, err := cmd.Run(ctx, pool, payment{Key: "k"})
			require.NoError(t, err)
			assert.Equal(t, 2, n, "the stored result is the one after After")
		}
		require.Len(t, steps, 2)
		assert.Equal(t, "committed", steps[1])
	})
	t.Run("a statement, and many at once", func(t *testing.T) {
		add := pgcmd.Once(note, func(n int) string { return strings.Repeat("k", n) }).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 5}})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				n, err := add.Run(ctx, pool, 7)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, n)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, count(t, pool, countNotes))
	})
	t.Run("within a transaction it is rolled back with it", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := payOnce.Run(ctx, tx, payment{"k3", 2, 1})
			require.NoError(t, err)
			return errHook
		}).Run(ctx, pool, empty{})
		require.Error(t, err)
		o := pgcmd.Try(ctx, pool, payOnce, payment{"k3", 2, 1})
		require.NoError(t, o.Err)
		assert.False(t, o.Replayed)
	})
	t.Run("serializable", func(t *testing.T) {
		strict := payOnce.With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}, Retry: pgcmd.Retry{Attempts: 20}})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := strict.Run(ctx, pool, payment{"k4", 3, 1})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.Equal(t, 99, count(t, pool, `select balance from accounts where id = 3`))
	})
}

func TestOnceResolvesALostCommit(t *testing.T) {
	t.Parallel()
	direct := pgcmdtest.Pool(t, accountsDDL, pgcmd.OnceSchema)
	proxy, err := faults.Start(direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)
	committed := 0
	cmd := pgcmd.Once(pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, in payment) (int64, error) {
		tx.AfterCommit(func(context.Context) { committed++ })
		return debit.Run(ctx, tx, transfer{From: in.From, Amount: in.Amount})
	}), func(in payment) string { return in.Key }).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}})
	isCommit := func(typ byte, body []byte) bool { return typ == 'Q' && strings.HasPrefix(string(body), "commit") }

	proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
	o := pgcmd.Try(t.Context(), pool, cmd, payment{"k", 1, 10})
	require.NoError(t, o.Err)
	assert.Equal(t, 1, proxy.Fired())
	assert.Equal(t, 2, o.Attempts)
	assert.False(t, o.Replayed, "it was an attempt of this run")
	assert.Equal(t, 1, committed, "and its AfterCommit functions run")
	assert.Equal(t, 90, count(t, direct, `select balance from accounts where id = 1`))

	proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
	_, err = cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 1}}).Run(t.Context(), pool, payment{"k2", 1, 10})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeUnknownEffect, e.Code)
	assert.Equal(t, pgcmd.Unknown, e.Effect)
	o = pgcmd.Try(t.Context(), pool, cmd, payment{"k2", 1, 10})
	require.NoError(t, o.Err)
	assert.True(t, o.Replayed, "an earlier run had applied it")
	assert.Equal(t, 80, count(t, direct, `select balance from accounts where id = 1`))
}

func TestOncePanicsAtWrongDefinitionsAndRefusesInputs(t *testing.T) {
	t.Parallel()
	type hidden struct{ a int } //lint:ignore U1000 its being there is what counts
	type left struct {
		A int `json:"-"`
	}
	type secret struct {
		A string `secret:"true"`
	}
	body := func(context.Context, *pgcmd.Tx, int) (int, error) { return 0, nil }
	key := func(int) string { return "k" }
	for want, define := range map[string]func(){
		"a nil command":                     func() { pgcmd.Once[int, int](nil, key) },
		"x: Once was given a nil key":       func() { pgcmd.Once(pgcmd.Transaction("x", body), nil) },
		"x: Once needs a transaction":       func() { pgcmd.Once(accept[int]("x"), key) },
		"hidden.a is unexported: export it": func() { onceOf[hidden]() },
		"left.A is left out of it":          func() { onceOf[[]left]() },
		"secret.A is a secret":              func() { onceOf[*secret]() },
		"any] is an interface":              func() { onceOf[map[string]any]() },
		"has no JSON form":                  func() { onceOf[chan int]() },
	} {
		if want == "any] is an interface" {
			want = "is an interface"
		}
		assert.Contains(t, panics(t, define), want)
	}

	pool := pgcmdtest.Pool(t)
	for want, k := range map[string]string{"has 0 bytes": "", "has 256 bytes": strings.Repeat("k", 256), "NUL": "a\x00"} {
		_, err := pgcmd.Once(pgcmd.Transaction("x", body), func(int) string { return k }).Run(t.Context(), pool, 1)
		e := failure(t, err)
		assert.Contains(t, e.Error(), want)
		assert.Equal(t, pgcmd.CodeInvalid, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
	}
	_, err := pgcmd.Once(pgcmd.Transaction("x", body), key).Run(t.Context(), pool, 1)
	e := failure(t, err)
	assert.Equal(t, "the ledger table of Once is missing: run pgcmd.OnceSchema", e.Message)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)

	_, err = pool.Exec(t.Context(), pgcmd.OnceSchema)
	require.NoError(t, err)
	nan := pgcmd.Once(pgcmd.Transaction("x", func(context.Context, *pgcmd.Tx, int) (float64, error) {
		var zero float64
		return zero / zero, nil
	}), key)
	_, err = nan.Run(t.Context(), pool, 1)
	e = failure(t, err)
	assert.Contains(t, e.Message, "it has no JSON form")
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Zero(t, count(t, pool, `select count(*) from pgcmd.once`))
}

func onceOf[Out any]() {
	pgcmd.Once(pgcmd.Transaction("x", func(context.Context, *pgcmd.Tx, int) (out Out, err error) { return }), func(int) string { return "k" })
}
