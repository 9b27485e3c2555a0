package enumerate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const enumeratedDDL = `create table a (id bigint); create table b (id bigint); create unique index on a (id)`

var (
	insertA = pgcmd.Exec[int64]("a.insert", `insert into a values ($1)`)
	insertB = pgcmd.QueryOne[int64, int64]("b.insert", `insert into b values ($1) returning id`)
	readA   = pgcmd.Query[int64, int64]("a.read", `select id from a where id = $1`).With(pgcmd.Options{ReadOnly: true})
	refused = pgcmd.Exec[int64]("a.refuse", `insert into a select $1 from generate_series(1, 2)`)

	errBody = errors.New("the body fails")
)

// both makes a transaction that has to leave its id in a and in b.
func both(body func(ctx context.Context, tx *pgcmd.Tx, id int64) error) *pgcmd.Command[int64, int64] {
	return pgcmd.Transaction("both", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		return id, body(ctx, tx, id)
	})
}

func run[Out any](_ Out, err error) error { return err }

var threeStatements = both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
	if err := run(insertA.Run(ctx, tx, id)); err != nil {
		return err
	}
	if err := run(readA.Run(ctx, tx, id)); err != nil {
		return err
	}
	return run(insertB.Run(ctx, tx, id))
})

// A kind of work leaves the id that it is given in a, or in a and b, or nowhere.
type kind struct {
	name    string
	command *pgcmd.Command[int64, int64]
	tables  string // "a", "ab", or "" for what leaves nothing
	fails   bool   // without a fault, too
	once    bool
}

func kinds() []kind {
	key := func(id int64) string { return fmt.Sprint(id) }
	one := pgcmd.QueryOne[int64, int64]("a.one", `insert into a values ($1) returning id`)
	list := []kind{
		{name: "Exec", command: insertA, tables: "a"},
		{name: "QueryOne that writes", command: one, tables: "a"},
		{name: "a read", command: pgcmd.New("read", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
			return id, run(readA.Run(ctx, db, id))
		}).With(pgcmd.Options{ReadOnly: true})},
		{name: "Exec in a transaction", command: insertA.With(pgcmd.Options{InTx: true}), tables: "a"},
		{name: "a statement that is refused", command: refused, fails: true},
		{name: "New in a transaction", command: pgcmd.New("new", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
			if err := run(insertA.Run(ctx, db, id)); err != nil {
				return 0, err
			}
			return insertB.Run(ctx, db, id)
		}).With(pgcmd.Options{InTx: true}), tables: "ab"},
		{name: "three statements", command: threeStatements, tables: "ab"},
		{name: "three statements, serializable and in time", command: threeStatements.With(pgcmd.Options{
			Timeout: time.Minute, Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}}), tables: "ab"},
		{name: "pgx's own calls", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if err := run(tx.Exec(ctx, `insert into a values ($1)`, id)); err != nil {
				return err
			}
			rows, _ := tx.Query(ctx, `select id from a where id = $1`, id)
			if err := run(pgx.CollectRows(rows, pgx.RowTo[int64])); err != nil {
				return err
			}
			b := &pgx.Batch{}
			b.Queue(`select 1`)
			b.Queue(`insert into b values ($1)`, id)
			return tx.SendBatch(ctx, b).Close()
		}), tables: "ab"},
		{name: "CopyFrom", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			for _, table := range []string{"a", "b"} {
				if err := run(tx.CopyFrom(ctx, pgx.Identifier{table}, []string{"id"}, pgx.CopyFromRows([][]any{{id}}))); err != nil {
					return err
				}
			}
			return nil
		}), tables: "ab"},
		{name: "a joined transaction", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return run(threeStatements.Run(ctx, tx, id))
		}), tables: "ab"},
		{name: "steps that are tried", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if err := insertA.Try(ctx, tx, id).Err; err != nil {
				return err
			}
			_ = refused.Try(ctx, tx, id).Err // may fail alone
			return insertB.Try(ctx, tx, id).Err
		}), tables: "ab"},
		{name: "a body that fails", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return errors.Join(run(insertA.Run(ctx, tx, id)), errBody)
		}), fails: true},
		{name: "a body that swallows", command: both(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			_, _ = insertA.Run(ctx, tx, id)
			_, _ = refused.Run(ctx, tx, id)
			_, _ = insertB.Run(ctx, tx, id)
			return nil
		}), fails: true},
	}
	return append(list,
		kind{name: "Once of a transaction", command: pgcmd.Once(threeStatements, key), tables: "ab", once: true},
		kind{name: "Once of a statement", command: pgcmd.Once(insertA, key), tables: "a", once: true})
}

// A point is where a fault strikes, and how.
type point struct {
	action    faults.Action
	direction faults.Direction
	message   int
}

func (p point) String() string {
	side := [...]string{faults.Frontend: "client", faults.Backend: "server"}[p.direction]
	return fmt.Sprintf("%v at message %d of the %s", p.action, p.message, side)
}

type tally struct{ points, unknown, applied, violations atomic.Int64 }

// TestEnumerateFaults runs every kind of work with a fault at its 1st, 2nd, ...
// message until none is left to hit, as SQLite is tested, and asks the database
// whether the Effect was true. PGCMD_FAULTS=all runs each also with a cold
// statement cache, with and without retry, and in black holes throughout.
func TestEnumerateFaults(t *testing.T) {
	direct := pgcmdtest.Pool(t, enumeratedDDL, pgcmd.OnceSchema)
	all := os.Getenv("PGCMD_FAULTS") == "all"
	var total tally
	t.Run("kinds", func(t *testing.T) {
		for i, k := range kinds() {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				proxy, err := faults.Start(direct.Config().ConnString())
				require.NoError(t, err)
				defer proxy.Close()
				e := &enumerator{t: t, direct: direct, proxy: proxy, kind: k, next: int64(i+1) << 32, total: &total}
				for _, retry := range []int{1, 4} {
					for _, warm := range []bool{true, false} {
						if !all && (warm != (retry == 1) || k.once != (retry == 4)) {
							continue
						}
						e.enumerate(warm, retry, all)
					}
				}
			})
		}
	})
	fmt.Printf("fault points: %d of %d with the right effect; %d unknown, %d of these applied\n",
		total.points.Load()-total.violations.Load(), total.points.Load(), total.unknown.Load(), total.applied.Load())
}

type enumerator struct {
	t      *testing.T
	direct *pgxpool.Pool
	proxy  *faults.Proxy
	kind   kind
	next   int64 // id
	total  *tally
}

func (e *enumerator) enumerate(warm bool, retry int, all bool) {
	actions := []faults.Action{faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose, faults.Delay(2 * time.Millisecond)}
	if all || e.kind.name == "three statements" {
		actions = append(actions, faults.BlackHole)
	}
	for _, action := range actions {
		for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
			for message := 1; e.strike(point{action, direction, message}, warm, retry); message++ {
			}
		}
	}
}

// strike runs the work once with a fault, and reports whether it fired.
func (e *enumerator) strike(p point, warm bool, retry int) (fired bool) {
	ctx := context.Background()
	e.next++
	id, name := e.next, fmt.Sprintf("fault-%d", e.next)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: e.proxy.URL(), MaxConns: 1, Pgx: func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = name
	}})
	require.NoError(e.t, err)
	command := e.kind.command.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: retry, Delay: time.Millisecond}})
	if warm {
		_, _ = command.Run(ctx, pool, -id)
	}
	limit := 10 * time.Second
	if p.action.String() == faults.BlackHole.String() {
		limit = 250 * time.Millisecond
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	e.proxy.Set(&faults.Fault{Direction: p.direction, Message: p.message, Action: p.action})
	start := time.Now()
	o := command.Try(bounded, pool, id)
	elapsed := time.Since(start)
	cancel()
	fired = e.proxy.Fired() > 0
	held := pool.Stat().AcquiredConns()
	e.proxy.Heal()
	pool.Pool.Close()
	require.Eventually(e.t, func() bool { // what its backends still do is part of the truth
		var n int
		err := e.direct.QueryRow(ctx, `select count(*) from pg_stat_activity where application_name = $1`, name).Scan(&n)
		return err == nil && n == 0
	}, 20*time.Second, time.Millisecond)

	var a, b int
	require.NoError(e.t, e.direct.QueryRow(ctx, `select (select count(*) from a where id = $1), (select count(*) from b where id = $1)`, id).Scan(&a, &b))
	e.total.points.Add(1)
	if wrong := e.judge(o, p, a, b, retry); wrong != "" || held != 0 || elapsed > limit+6*time.Second {
		e.total.violations.Add(1)
		e.t.Errorf("%s, %v, warm=%v, retry=%d: %s\n%d in a, %d in b, %d connections held, after %v\n%v\n%s",
			e.kind.name, p, warm, retry, wrong, a, b, held, elapsed, o, strings.Join(e.proxy.Log(), "\n"))
	}
	return fired
}

// judge says what is wrong with an outcome, or "".
func (e *enumerator) judge(o pgcmd.Outcome[int64], p point, a, b, retry int) string {
	whole := map[string]bool{"a": a == 1 && b == 0, "ab": a == 1 && b == 1, "": false}[e.kind.tables]
	absent := a == 0 && b == 0
	effect := pgcmd.EffectOf(o.Err)
	if effect == pgcmd.Unknown {
		e.total.unknown.Add(1)
		if whole {
			e.total.applied.Add(1)
		}
	}
	switch {
	case !whole && !absent:
		return "it is there in part, or twice"
	case o.Err == nil && e.kind.fails:
		return "it succeeded, and should have failed"
	case effect == pgcmd.Applied && !whole && e.kind.tables != "":
		return "told applied, and it is not there"
	case effect == pgcmd.NotApplied && !absent:
		return "told not applied, and it is there"
	case effect == pgcmd.Unknown && (e.kind.tables == "" && e.kind.name != "a statement that is refused"):
		return "told unknown of what cannot be applied"
	case o.Err != nil && e.kind.once && retry > 1 && p.action.String() != faults.BlackHole.String():
		return "Once has left a question open"
	case o.Err != nil && !e.kind.fails && strings.HasPrefix(p.action.String(), "delay"):
		return "a delay is no failure"
	}
	return ""
}
