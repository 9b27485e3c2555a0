package reliability_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// TestEnumerateFaults runs every kind of work with a fault at the 1st, 2nd, ... message, until the work is over before
// it, as SQLite's tests do with its I/O. After each it asks the server what has become of the work, when all its sessions
// have ended, and holds the Effect against that.
//
// Every message gets faults, but only in the long form (PGCMD_FAULTS=all) each gets every fault. With -short each work
// has messages of one direction cut, those of [eachMessage].
func TestEnumerateFaults(t *testing.T) {
	t.Parallel()
	l := newLab(t, worksDDL)
	t.Cleanup(func() { t.Log(&l.tally) })
	for i := range works {
		t.Run(works[i].name, func(t *testing.T) {
			t.Parallel()
			slots := make(chan struct{}, 8)
			var running sync.WaitGroup
			for _, c := range campaigns(&works[i], i) {
				slots <- struct{}{}
				running.Go(func() {
					defer func() { <-slots }()
					c.run(t, l)
				})
			}
			running.Wait()
		})
	}
}

// A lab is the database, and what was found.
type lab struct {
	url    string
	direct *pgxpool.Pool
	ids    atomic.Int64
	tally  tally
}

func newLab(t *testing.T, ddl string) *lab {
	t.Helper()
	l := &lab{url: pgcmdtest.URL(t, ddl)}
	config, err := pgxpool.ParseConfig(l.url)
	require.NoError(t, err)
	config.MaxConns = 8
	l.direct, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(l.direct.Close)
	return l
}

// A tally counts fault points by what became of them.
type tally struct{ points, right, unknown, unknownApplied, early atomic.Int64 }

func (t *tally) String() string {
	return fmt.Sprintf("%d of %d fault points, %d unknown (%d of them applied; %d before the statement itself had left)",
		t.right.Load(), t.points.Load(), t.unknown.Load(), t.unknownApplied.Load(), t.early.Load())
}

// The kinds of faults.
const (
	cutBefore = iota
	cutAfter
	reset
	halfClose
	blackHole
	delay
	giveUp
	kinds
)

// actions leaves out the caller who gives up.
var actions = [kinds]faults.Action{faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose, faults.BlackHole, faults.Delay(5 * time.Millisecond)}

// A campaign is a kind of work under a kind of fault, at every message of a direction.
type campaign struct {
	work      *work
	kind      int
	direction faults.Direction
	warm      bool // the statements are prepared
	retry     bool
	turn      int // which of the messages in the middle the short form chooses
}

func (c campaign) String() string {
	direction, cache, retry, kind := "the client's", "cold", "no retry", actions[c.kind].String()
	if c.direction == faults.Backend {
		direction = "the server's"
	}
	if c.warm {
		cache = "warm"
	}
	if c.retry {
		retry = "retry"
	}
	if c.kind == giveUp {
		kind = "the caller gives up"
	}
	return fmt.Sprintf("%s, %s, %s: %s at %s message", c.work.name, cache, retry, kind, direction)
}

// campaigns are those of the nth work.
func campaigns(w *work, nth int) (all []campaign) {
	for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
		for _, warm := range []bool{false, true} {
			for _, retry := range []bool{false, true} {
				for kind := range kinds {
					all = append(all, campaign{w, kind, direction, warm, retry, nth})
				}
			}
		}
	}
	if long {
		return all
	}
	return slices.DeleteFunc(all, func(c campaign) bool { return !c.isShort(nth) })
}

// isShort chooses what the short form does: a cut behind every message, and of the rest a share that goes round among
// the works. Holes take seconds each, and are left to the long form.
func (c campaign) isShort(nth int) bool {
	turn := nth
	for place, on := range []bool{c.direction == faults.Backend, c.warm, c.retry} {
		if on {
			turn += 1 << place
		}
	}
	switch c.kind {
	case blackHole:
		return false
	case cutAfter:
		return c.warm == c.retry && c.warm == (c.direction == faults.Backend) && (!testing.Short() || c.warm == (nth%2 == 0))
	}
	return !testing.Short() && turn%24 == 3*c.kind
}

// run goes from message to message until the work is over before the fault.
func (c campaign) run(t *testing.T, l *lab) {
	proxy, err := faults.Start(l.url)
	if err != nil {
		t.Error(err)
		return
	}
	defer proxy.Close()
	hole, shown := holeTime, false // the first that is wrong says it all
	err = eachMessage(c.direction, c.turn, func(f *faults.Fault) bool {
		p := newPoint(c, l, proxy, f, hole)
		fired, wrong := p.try(context.WithoutCancel(t.Context()))
		for p.late() {
			hole *= 2 // the machine is slow, and the message was not reached
			p = newPoint(c, l, proxy, f, hole)
			fired, wrong = p.try(context.WithoutCancel(t.Context()))
		}
		if fired {
			l.tally.points.Add(1)
		}
		switch {
		case wrong != nil && !shown:
			t.Errorf("%v %d: %v", c, f.Message, wrong)
			shown = true
		case wrong == nil && fired:
			l.tally.right.Add(1)
		}
		return fired
	})
	if err != nil {
		t.Errorf("%v: %v", c, err)
	}
}

// eachMessage calls run with a fault at the 1st, 2nd, ... message, until run returns that the fault was not reached. The
// short form counts the messages first, by a run without a fault, and takes the first, one in the middle and the last
// two, which are those of COMMIT if there is one. It returns an error if a fault was not reached that should be.
func eachMessage(direction faults.Direction, turn int, run func(f *faults.Fault) (fired bool)) error {
	if !testing.Short() {
		for n := 1; run(&faults.Fault{Direction: direction, Message: n}); n++ {
		}
		return nil
	}
	var messages atomic.Int64
	run(&faults.Fault{Direction: direction, Match: func(byte, []byte) bool { messages.Add(1); return false }})
	last := int(messages.Load())
	chosen := []int{1, 2 + turn%max(last-3, 1), last - 1, last}
	if last < 4 {
		chosen = []int{1, 2, 3}[:last]
	}
	fired := 0
	for _, n := range chosen {
		if run(&faults.Fault{Direction: direction, Message: n}) {
			fired++
		}
	}
	if fired < min(len(chosen), 2) {
		return fmt.Errorf("of the messages %v, %d were reached", chosen, fired)
	}
	return nil
}
