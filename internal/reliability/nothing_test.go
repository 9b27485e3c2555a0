package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// TestNothingIsLeft makes trouble at every stage of a run, on everything that a command runs on: afterwards no connection
// is held, none is in a transaction, and what was told is true. That no goroutine is left, TestMain sees to.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	l := newLab(t, worksDDL)
	runs := int64(1000)
	switch {
	case long:
		runs = 10_000
	case testing.Short():
		runs = 200
	}
	var next atomic.Int64
	var working sync.WaitGroup
	told := make([]told, runs)
	for range 4 {
		b := openBench(t, l)
		working.Go(func() {
			for id := next.Add(1) - 1; id < runs; id = next.Add(1) - 1 {
				told[id] = b.run(t.Context(), id)
			}
		})
	}
	working.Wait()
	// The session of a caller who gave up ends behind its back.
	assert.True(t, eventually(func() bool {
		return number(t, l.direct, `select count(*) from pg_stat_activity
			where datname = current_database() and state like 'idle in transaction%'`) == 0
	}), "sessions are idle in transaction")
	var ids []int64
	require.NoError(t, l.direct.QueryRow(t.Context(), `select array(select id from ops)`).Scan(&ids))
	there := make([]int, runs)
	for _, id := range ids {
		there[id]++
	}
	wrong := map[string]int{}
	for id, what := range told {
		n := there[id]
		if n != 0 && what.effect == pgcmd.NotApplied || n != 2 && what.effect == pgcmd.Applied {
			what.wrong = errors.Join(what.wrong, fmt.Errorf("there are %d parts of 2", n))
		}
		if what.wrong == nil {
			continue
		}
		if wrong[what.wrong.Error()]++; wrong[what.wrong.Error()] <= 3 {
			t.Errorf("%s: %v", what.of, what.wrong)
		}
	}
	t.Logf("%d runs in trouble, of which these went wrong: %v", runs, wrong)
}

// told is what is known of a run without asking the database.
type told struct {
	effect pgcmd.Effect
	of     string
	wrong  error
}

// The stages of a run. Before committing nothing stays, from it on all does.
var stages = []string{
	"a middleware", "Validate", "the key", "Before", "the body", "a parameter", "a row", "between statements", "open rows",
	"an open batch", "a nested command", "a command that is tried", "a savepoint", "After", "OnError",
	committing, "Cleanup", "a middleware at the end",
}

const committing = "AfterCommit"

// The kinds of trouble.
var troubles = []string{"panic", "exit", "cancel", "fail"}

var errTrouble = errors.New("trouble")

// A trouble happens once a stage is reached.
type trouble struct {
	stage, kind string
	committed   bool // the stage comes after the commit
	cancel      context.CancelFunc
}

type troubleKey struct{}

// at is called at each stage.
func at(ctx context.Context, stage string) error {
	tr, _ := ctx.Value(troubleKey{}).(*trouble)
	if tr == nil || tr.stage != stage {
		return nil
	}
	switch tr.kind {
	case "panic":
		panic(errTrouble)
	case "exit":
		runtime.Goexit()
	case "cancel":
		tr.cancel()
		return nil
	}
	return errTrouble
}

// A bench has one of everything that a command runs on.
type bench struct {
	lab  *lab
	pool *pgcmd.Pool
	raw  *pgxpool.Pool
	conn *pgx.Conn
}

func openBench(t *testing.T, l *lab) *bench {
	t.Helper()
	b := &bench{lab: l}
	var err error
	b.pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: l.url, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(b.pool.Pool.Close)
	b.raw, err = pgxpool.New(t.Context(), l.url)
	require.NoError(t, err)
	t.Cleanup(b.raw.Close)
	t.Cleanup(func() {
		if b.conn != nil {
			_ = b.conn.Close(context.Background())
			<-b.conn.PgConn().CleanupDone()
		}
	})
	return b
}

// run makes the trouble whose turn it is.
func (b *bench) run(ctx context.Context, id int64) (out told) {
	turn := int(id) * 5 // has no divisor in common with the choices: a few runs have some of all
	pick := func(n int) int {
		chosen := turn % n
		turn /= n
		return chosen
	}
	tr := &trouble{stage: stages[pick(len(stages))], kind: troubles[pick(len(troubles))]}
	for _, stage := range stages {
		tr.committed = tr.committed || stage == committing
		if stage == tr.stage {
			break
		}
	}
	on, once := pick(4), pick(2) == 1
	direct := context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(context.WithValue(direct, troubleKey{}, tr))
	defer cancel()
	tr.cancel = cancel

	cmd := troubled
	if once {
		cmd = troubledOnce
	}
	ended, err := inItsOwn(func() error {
		in := troubledIn{id, ctx}
		switch on {
		case 0:
			return runErr(cmd.Run(ctx, b.pool, in))
		case 1:
			return runErr(cmd.Run(ctx, b.raw, in))
		case 2:
			return b.onPooled(direct, &out, func(db pgcmd.DB) error { return runErr(cmd.Run(ctx, db, in)) })
		}
		return b.onConn(direct, &out, func(db pgcmd.DB) error { return runErr(cmd.Run(ctx, db, in)) })
	})
	out.of = fmt.Sprintf("%s at %s, once %v, on DB %d, %s: %v", tr.kind, tr.stage, once, on, ended, err)
	if !allReleased(b.pool.Pool) {
		out.complain("a connection is held")
	}
	if !allReleased(b.raw) {
		out.complain("a connection of the pool of pgx is held")
	}
	switch {
	case ended == "returned":
		if out.effect = pgcmd.EffectOf(err); out.effect == pgcmd.Unknown {
			out.complain("it can be known")
		}
		return out
	case ended == "panicked" && !errors.Is(err, errTrouble):
		out.complain("it is another panic")
	}
	out.effect = pgcmd.NotApplied
	if tr.committed {
		out.effect = pgcmd.Applied
	}
	return out
}

func (t *told) complain(what string) { t.wrong = errors.Join(t.wrong, errors.New(what)) }

// inItsOwn runs f in a goroutine, and tells how that ended.
func inItsOwn(f func() error) (ended string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended = "exited"
		defer func() {
			if value := recover(); value != nil {
				ended, err = "panicked", fmt.Errorf("%v", value)
				if cause, ok := value.(error); ok {
					err = cause
				}
			}
		}()
		err = f()
		ended = "returned"
	}()
	<-done
	return ended, err
}

func runErr[Out any](_ Out, err error) error { return err }

// eventually waits for what comes by itself.
func eventually(is func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if is() {
			return true
		}
	}
	return is()
}

// allReleased waits until the pool has all its connections back. A dead one that a command found in the pool, or that the
// caller released, counts until a goroutine of pgxpool has closed it.
func allReleased(pool *pgxpool.Pool) bool {
	return eventually(func() bool { return pool.Stat().AcquiredConns() == 0 })
}

// onPooled runs f on a connection of the pool that the caller holds, and wants it back as it was.
func (b *bench) onPooled(ctx context.Context, out *told, f func(db pgcmd.DB) error) error {
	conn, err := b.raw.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer out.wantClean(conn.Conn())
	return f(conn)
}

func (b *bench) onConn(ctx context.Context, out *told, f func(db pgcmd.DB) error) (err error) {
	if b.conn == nil || b.conn.IsClosed() {
		if b.conn, err = pgx.Connect(ctx, b.lab.url); err != nil {
			return err
		}
	}
	defer out.wantClean(b.conn)
	return f(b.conn)
}

func (t *told) wantClean(conn *pgx.Conn) {
	if !conn.IsClosed() && (conn.PgConn().TxStatus() != 'I' || conn.PgConn().IsBusy()) {
		t.complain(fmt.Sprintf("the connection came back with the status %c, busy: %v", conn.PgConn().TxStatus(), conn.PgConn().IsBusy()))
	}
}
