package reliability_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// A load is a kind of work on many items. Item i, applied, leaves the row (id, i+1) in ops; one of them, the bad one, the
// server refuses.
type load struct {
	name   string
	united bool // all of the good items are there, or none
	keeps  bool // what the server takes, when it has refused an item
	reads  bool // no item changes anything
	bad    int  // -1: none
	run    func(ctx context.Context, db pgcmd.DB, items []part, o pgcmd.Options) []error

	settings []pgcmd.Setting // of the pool
}

const itemsOfALoad = 5

var goPick = pgcmd.New("ops.go", func(ctx context.Context, db pgcmd.DB, in part) (int64, error) { return pick.Run(ctx, db, in) }).
	With(pgcmd.Options{InTx: true})

// seek is a read by its text.
var seek = pgcmd.QueryOne[part, int64]("ops.seek", `select count(*) from ops where id = @id and part = @part`)

func loads() (all []load) {
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for _, bad := range []int{-1, 2} {
			for _, c := range []*pgcmd.Command[part, int64]{add, pick, goPick} {
				all = append(all, load{
					name:   fmt.Sprintf("%v batch of %v, bad item %d", mode, c, bad),
					united: mode == pgcmd.Isolated || mode == pgcmd.Atomic,
					keeps:  mode == pgcmd.Isolated,
					bad:    bad,
					run:    batch(c, mode),
				})
			}
		}
	}
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		all = append(all, load{name: fmt.Sprintf("%v batch of reads", mode), reads: true, bad: -1, run: batch(seek, mode)})
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		all = append(all, load{name: fmt.Sprintf("%v pipeline of reads", mode), reads: true, bad: -1, run: pipeline(mode, seek, seek)})
		for _, bad := range []int{-1, 2} {
			all = append(all, load{name: fmt.Sprintf("%v pipeline, bad item %d", mode, bad), united: mode == pgcmd.Atomic, bad: bad, run: pipeline(mode, add, pick)})
		}
	}
	return append(all, load{name: "isolated batch in a transaction", united: true, keeps: true, bad: 2,
		run: func(ctx context.Context, db pgcmd.DB, items []part, o pgcmd.Options) []error {
			var errs []error
			_, err := transaction("batch", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
				r, err := pgcmd.Batch(pick, pgcmd.Isolated).Run(ctx, tx, items)
				errs = errorsOf(r)
				return 0, err
			}).With(o).Run(ctx, db, op{})
			for i := range items {
				if err != nil && (errs == nil || errs[i] == nil || i != 2) {
					errs = append(errs, nil)[:max(len(errs), i+1)]
					errs[i] = err
				}
			}
			return errs
		}})
}

func batch(c *pgcmd.Command[part, int64], mode pgcmd.BatchMode) func(context.Context, pgcmd.DB, []part, pgcmd.Options) []error {
	return func(ctx context.Context, db pgcmd.DB, items []part, o pgcmd.Options) []error {
		r, _ := pgcmd.Batch(c, mode).With(o).Run(ctx, db, items)
		return errorsOf(r)
	}
}

func errorsOf[Out any](r pgcmd.BatchResult[Out]) []error {
	errs := make([]error, len(r.Outcomes))
	for i, o := range r.Outcomes {
		errs[i] = o.Err
	}
	return errs
}

// pipeline runs two commands in turns.
func pipeline(mode pgcmd.BatchMode, even, odd *pgcmd.Command[part, int64]) func(context.Context, pgcmd.DB, []part, pgcmd.Options) []error {
	return func(ctx context.Context, db pgcmd.DB, items []part, _ pgcmd.Options) []error {
		var p pgcmd.Pipeline
		results := make([]*pgcmd.Result[int64], len(items))
		for i, item := range items {
			c := even
			if i%2 == 1 {
				c = odd
			}
			results[i] = pgcmd.Queue(&p, c, item)
		}
		_ = p.Run(ctx, db, mode)
		errs := make([]error, len(items))
		for i, r := range results {
			_, errs[i] = r.Get()
		}
		return errs
	}
}

// TestEnumerateFaultsOfItems cuts the connection at every message of work on many items, and holds what is there against
// what each item was said to have become.
func TestEnumerateFaultsOfItems(t *testing.T) {
	t.Parallel()
	l := newLab(t, worksDDL)
	t.Cleanup(func() { t.Log(&l.tally) })
	for nth, load := range slices.Concat(loads(), unreadableLoads(), settingsLoads()) {
		t.Run(load.name, func(t *testing.T) {
			t.Parallel()
			var running sync.WaitGroup
			for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
				for _, kind := range []int{cutBefore, cutAfter, reset, halfClose} {
					if !long && kind != cutAfter && (nth+kind)%4 != int(direction) {
						continue
					}
					if testing.Short() && (kind != cutAfter || nth%2 != int(direction)) {
						continue
					}
					for _, retry := range []bool{false, true} {
						if !long && retry != (nth%2 == 0) {
							continue
						}
						running.Go(func() { load.enumerate(t, l, direction, kind, retry, nth) })
					}
				}
			}
			running.Wait()
		})
	}
}

// enumerate goes from message to message until the work is over before the fault.
func (w load) enumerate(t *testing.T, l *lab, direction faults.Direction, kind int, retry bool, turn int) {
	proxy, err := faults.Start(l.url)
	if err != nil {
		t.Error(err)
		return
	}
	defer proxy.Close()
	failed := false
	err = eachMessage(direction, turn, func(f *faults.Fault) bool {
		if failed {
			return false
		}
		f.Action = actions[kind]
		fired, err := w.try(l, proxy, f, retry)
		if fired {
			l.tally.points.Add(1)
		}
		if failed = err != nil; failed {
			t.Errorf("%s, retry %v, %v at message %d (direction %d): %v", w.name, retry, actions[kind], f.Message, direction, err)
		} else if fired {
			l.tally.right.Add(1)
		}
		return fired && !failed
	})
	if err != nil && !failed {
		t.Errorf("%s, retry %v, %v (direction %d): %v", w.name, retry, actions[kind], direction, err)
	}
}

// try runs the work once under the fault, and returns what is wrong with what came of it.
func (w load) try(l *lab, proxy *faults.Proxy, fault *faults.Fault, retry bool) (fired bool, wrong error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id := l.ids.Add(1)
	app := fmt.Sprintf("items %d", id)
	proxy.Set(nil)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 2, Pgx: func(config *pgxpool.Config) {
		config.ConnConfig.RuntimeParams["application_name"] = app
	}, Settings: func(context.Context) ([]pgcmd.Setting, error) { return w.settings, nil }})
	if err != nil {
		return false, fmt.Errorf("before the fault: %w", err)
	}
	items := make([]part, itemsOfALoad)
	for i := range items {
		items[i] = part{id, int64(i + 1)}
	}
	if w.bad >= 0 {
		items[w.bad].Part = -1
	}
	o := pgcmd.Options{}
	if retry {
		o.Retry = pgcmd.Retry{Attempts: 4, Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
	}
	proxy.Set(fault)
	errs := w.run(context.WithoutCancel(ctx), pool, items, o)
	fired = proxy.Fired() > 0
	proxy.Heal()
	if err := pool.Close(ctx); err != nil { // also if a connection is still held
		return fired, err
	}
	var there []int64
	if err := l.direct.QueryRow(ctx, `select parts($1, $2)`, app, id).Scan(&there); err != nil {
		return fired, err
	}
	for _, err := range errs {
		if pgcmd.EffectOf(err) == pgcmd.Unknown {
			l.tally.unknown.Add(1)
		}
	}
	if err := w.judge(errs, there, fired); err != nil {
		return fired, fmt.Errorf("%w; there are the parts %v, and the items say %v", err, there, errs)
	}
	return fired, nil
}

// cancelable reports whether an item may be missing where others are there: pgx asks the server to cancel when it loses a
// connection, and in a batch that keeps what the server takes, what it was working on is refused like a bad item. Then
// nothing is known of any.
func (w load) cancelable(errs []error) bool {
	return w.bad >= 0 && w.keeps && !slices.ContainsFunc(errs, func(err error) bool { return pgcmd.EffectOf(err) != pgcmd.Unknown })
}

func (w load) judge(errs []error, there []int64, fired bool) error {
	if len(errs) != itemsOfALoad {
		return fmt.Errorf("%d items have an outcome", len(errs))
	}
	good := itemsOfALoad
	if w.bad >= 0 {
		good--
	}
	switch {
	case len(slices.Compact(slices.Clone(there))) != len(there):
		return fmt.Errorf("an item is there twice")
	case w.united && len(there) != 0 && len(there) != good && !w.cancelable(errs):
		return fmt.Errorf("applied in part")
	case w.bad >= 0 && errs[w.bad] == nil:
		return fmt.Errorf("the bad item is said to have worked")
	case w.bad >= 0 && !fired && pgcmd.EffectOf(errs[w.bad]) != pgcmd.NotApplied:
		return fmt.Errorf("the bad item is not said to be absent")
	}
	if w.reads {
		for i, err := range errs {
			if err != nil && (!fired || pgcmd.EffectOf(err) != pgcmd.NotApplied) {
				return fmt.Errorf("item %d, which reads, is not said to have changed nothing", i)
			}
		}
		return nil
	}
	for i, err := range errs {
		is := slices.Contains(there, int64(i+1))
		switch effect := pgcmd.EffectOf(err); {
		case effect == pgcmd.Applied && !is:
			return fmt.Errorf("item %d is said to be there, and is not", i)
		case effect == pgcmd.NotApplied && is:
			return fmt.Errorf("item %d is said to be absent, and is there", i)
		case effect == pgcmd.Unknown && !fired:
			return fmt.Errorf("item %d is unknown without a reason", i)
		case err != nil && !fired && w.bad < 0:
			return fmt.Errorf("item %d failed without a reason", i)
		}
	}
	return nil
}
