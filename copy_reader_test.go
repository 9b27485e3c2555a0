package pgcmd_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestASequenceThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	pid := count(t, pool, `select pg_backend_pid()`)
	emptied := func() {
		t.Helper()
		idle(t, pool.Pool)
		assert.Zero(t, count(t, pool, countParts))
	}
	clean := func() {
		t.Helper()
		emptied()
		assert.Equal(t, pid, count(t, pool, `select pg_backend_pid()`), "the connection lives")
	}
	for _, at := range []int{1, 3, 50_000} { // before anything is on its way, and after
		failing := func(err error) iter.Seq2[part, error] {
			return func(yield func(part, error) bool) {
				for row := range manyParts(at-1, nil) {
					if !yield(row, nil) {
						return
					}
				}
				assert.False(t, yield(part{ID: 7}, err))
			}
		}
		_, err := copyParts.Run(ctx, pool, failing(errHook))
		e := failure(t, err)
		assert.ErrorIs(t, err, errHook)
		assert.Equal(t, pgcmd.CodeFailed, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, 1, e.Attempts)
		assert.Contains(t, e.Message, fmt.Sprintf("the sequence failed at row %d with *errors.errorString", at))
		clean()

		_, err = copyParts.Run(ctx, pool, failing(pgcmd.Errorf(pgcmd.CodeConflict, "the file ends too soon")))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeConflict, e.Code)
		assert.Equal(t, fmt.Sprintf("the sequence failed at row %d: the file ends too soon", at), e.Message)
		clean()

		assert.Equal(t, "boom", panics(t, func() { _, _ = copyParts.Run(ctx, pool, manyParts(-1, func(i int) { panicAt(i, at) })) }))
		clean()

		exited := make(chan struct{})
		go func() {
			defer close(exited)
			_, _ = copyParts.Run(ctx, pool, manyParts(-1, func(i int) {
				if i == at {
					runtime.Goexit()
				}
			}))
			t.Error("Goexit was lost")
		}()
		<-exited
		clean()

		gone, cancel := context.WithCancel(ctx)
		_, err = copyParts.Run(gone, pool, manyParts(-1, func(i int) {
			if i == at {
				cancel()
			}
		}))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeCanceled, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		emptied()

		late := copyParts.With(pgcmd.Options{Timeout: 100 * time.Millisecond})
		_, err = late.Run(ctx, pool, manyParts(-1, nil))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeTimeout, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, context.Canceled)
		emptied()
		pid = count(t, pool, `select pg_backend_pid()`)
	}
	t.Run("a cancellation leaves the connection alive, if the server answers soon", func(t *testing.T) {
		assert.Eventually(t, func() bool {
			before := count(t, pool, `select pg_backend_pid()`)
			gone, cancel := context.WithCancel(ctx)
			_, err := copyParts.Run(gone, pool, manyParts(-1, func(i int) {
				if i == 1000 {
					cancel()
				}
			}))
			require.ErrorIs(t, err, context.Canceled)
			pid = count(t, pool, `select pg_backend_pid()`)
			return pid == before
		}, 20*time.Second, time.Millisecond)
	})
	t.Run("a Valuer that panics", func(t *testing.T) {
		type row struct {
			ID   int
			Name bomb
		}
		assert.Equal(t, "boom", panics(t, func() {
			_, _ = pgcmd.Copy[row]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, rowsOf(row{ID: 1}))
		}))
		clean()
	})
	t.Run("the caller's loop over a canceled context", func(t *testing.T) {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := copyParts.Run(gone, pool, manyParts(1, func(int) { t.Error("the sequence was begun") }))
		assert.ErrorIs(t, err, context.Canceled)
		clean()
	})
}

func panicAt(i, at int) {
	if i == at {
		panic("boom")
	}
}

type bomb struct{}

func TestTheServerEndsAnEndlessSequence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	// The server looks at constraints of its own at once, at unique ones now and then.
	for name, c := range map[string]struct {
		row     part
		pause   time.Duration
		message string
	}{
		"a fast one": {part{ID: 1}, 0, "row 2: violates unique constraint parts_pkey of table parts"},
		"a slow one": {part{Qty: -1}, 10 * time.Millisecond, "row 1: violates check constraint parts_qty_check of table parts"},
	} {
		after := 0
		start := time.Now()
		_, err := copyParts.Run(ctx, pool, func(yield func(part, error) bool) {
			for {
				time.Sleep(c.pause)
				if !yield(c.row, nil) {
					after++
					return
				}
			}
		})
		e := failure(t, err)
		assert.Equal(t, c.message, e.Message, name)
		assert.Equal(t, 1, after, name)
		assert.Less(t, time.Since(start), 3*time.Second, name)
		idle(t, pool.Pool)
	}
}

// Every message of a copy, in both directions, is cut or swallowed: what is told of
// the effect must be so.
func TestACopyTellsTheTruthWhereverTheConnectionBreaks(t *testing.T) {
	plain := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(plain.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	before := goleak.IgnoreCurrent()
	id, points, unknown := int64(0), 0, 0
	inTx := copyParts.With(pgcmd.Options{InTx: true})
	strike := func(c *pgcmd.Command[iter.Seq2[part, error], int64], f *faults.Fault) (fired bool) {
		pool, err := pgcmd.Connect(context.Background(), pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if f.Action.String() == faults.BlackHole.String() {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 400*time.Millisecond)
		}
		defer cancel()
		const rows = 2500 // three messages
		first := id
		id += rows
		proxy.Set(f)
		start := time.Now()
		_, err = c.Run(ctx, pool, func(yield func(part, error) bool) {
			for i := range int64(rows) {
				if !yield(part{ID: first + i, Name: "thirty two bytes of a name, more"}, nil) {
					return
				}
			}
		})
		assert.Less(t, time.Since(start), 9*time.Second)
		fired = proxy.Fired() > 0
		idle(t, pool.Pool)
		proxy.Heal()
		pool.Pool.Close()
		require.Eventually(t, func() bool {
			return count(t, plain, `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`) == 0
		}, 10*time.Second, time.Millisecond)
		there := count(t, plain, fmt.Sprintf(`select count(*) from parts where id >= %d`, first))
		points++
		switch effect := pgcmd.EffectOf(err); {
		case there != 0 && there != rows,
			effect == pgcmd.Applied && there == 0,
			effect == pgcmd.NotApplied && there != 0,
			err != nil && (!fired || strings.HasPrefix(f.Action.String(), "delay")):
			t.Errorf("%v %d, %v: %v, and %d rows are there", f.Direction, f.Message, f.Action, err, there)
		case effect == pgcmd.Unknown:
			unknown++
		}
		return fired
	}
	actions, step := []faults.Action{faults.CutBefore, faults.BlackHole}, 1
	switch {
	case os.Getenv("PGCMD_FAULTS") == "all":
		actions = append(actions, faults.CutAfter, faults.Reset, faults.HalfClose, faults.Delay(50*time.Millisecond))
	case testing.Short():
		actions = actions[:1]
		step = 4
	}
	for name, c := range map[string]*pgcmd.Command[iter.Seq2[part, error], int64]{"alone": copyParts, "InTx": inTx} {
		actions := actions
		if c == inTx && len(actions) == 2 {
			actions = actions[:1]
		}
		for _, action := range actions {
			for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
				at := func(message int) bool {
					require.Less(t, message, 60, name)
					return strike(c, &faults.Fault{Direction: direction, Message: message, Action: action})
				}
				message := 1
				for at(message) {
					message += step
				}
				for last := message - 1; step > 1 && !at(last); last-- { // back to the last message, of COMMIT
				}
			}
		}
	}
	t.Logf("%d points, %d of them unknown", points, unknown)
	assert.Less(t, unknown, points/3)
	goleak.VerifyNone(t, before)
}

// The server's own end of the connection, and of the copy, while the sequence
// blocks or goes on: it returns at the next row.
func TestTheConnectionDiesUnderASequence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	for name, n := range map[string]int{"at the first row": 1, "later": 30_000} {
		pool := connect(t, plain, 1)
		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		pid := conn.Conn().PgConn().PID()
		conn.Release()
		after := 0
		_, err = copyParts.Run(ctx, pool, func(yield func(part, error) bool) {
			for i := int64(1); ; i++ {
				if i == int64(n) {
					_, err := plain.Exec(ctx, `select pg_terminate_backend($1)`, pid)
					require.NoError(t, err)
				}
				if i > int64(n) {
					time.Sleep(time.Millisecond)
				}
				if !yield(part{ID: i}, nil) {
					after++
					return
				}
			}
		})
		e := failure(t, err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code, name)
		assert.Equal(t, 1, after, name)
		idle(t, pool.Pool)
		assert.Zero(t, count(t, pool, countParts))
	}
}

// pgconn calls it on the goroutine that it copies on.
func TestAPanicInOnNoticeReachesTheCaller(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL, `create function tell() returns trigger language plpgsql as $$ begin raise notice 'a row'; return new; end $$;
		create trigger tell before insert on parts for each row execute function tell()`)
	config := plain.Config().Copy()
	config.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { panic("boom") }
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	for _, n := range []int{1, 50_000} {
		assert.Equal(t, "boom", panics(t, func() { _, _ = copyParts.Run(ctx, pool, manyParts(n, nil)) }))
		idle(t, pool)
	}
}
