package reliability_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

var (
	allColumns = []column{read, write, inTx, rawTx, commit}
	// What is there in the end, of what is Unknown.
	neverDone = map[column]int{write: 0, commit: 0}
	wasDone   = map[column]int{write: 1, commit: 1}
)

// wireConditions are the rows 7 to 9: the connection is lost, or given up, after something was sent.
func wireConditions() []condition {
	lost := func(how string, truth map[column]int, p func(s *stage, c column) play) condition {
		return condition{row: 7, how: how, columns: allColumns, code: pgcmd.CodeUnavailable, truth: truth, play: p}
	}
	conditions := []condition{
		lost("a reset that the request ran into", neverDone, does(request, faults.Reset)),
		lost("an end of file that the request ran into", neverDone, does(request, faults.CutBefore)),
		lost("an end of file behind the request", wasDone, does(sent, faults.CutAfter)),
		lost("a half-closed connection", neverDone, does(request, faults.HalfClose)),
		lost("a reset instead of the reply", wasDone, does(answer, faults.Reset)),
		lost("an end of file instead of the reply", wasDone, does(answer, faults.CutBefore)),
		lost("a half-close instead of the reply", wasDone, does(answer, faults.HalfClose)),
	}
	for _, b := range []struct {
		how   string
		reply []byte
	}{
		{"a reply of an unknown type", []byte("y\x00\x00\x00\x04")},
		{"a reply longer than any", []byte("D\x7f\xff\xff\xff")},
		{"a reply that is cut short", []byte("C\x00\x00")},
		{"a reply that does not parse", append(binary.BigEndian.AppendUint32([]byte("T"), 7), 0xff, 0xff, 0)},
	} {
		hangUp := b.how == "a reply that is cut short"
		k := lost(b.how, wasDone, says(trick{serve: true, say: b.reply, hangUp: hangUp}))
		k.set.pooled = true
		conditions = append(conditions, k)
	}
	for _, taken := range []int{0, 1} {
		conditions = append(conditions, shortWrite(taken))
	}

	conditions = append(conditions,
		condition{row: 8, how: "cancelled by the caller", columns: statements,
			code: pgcmd.CodeCanceled, cause: isContext(context.Canceled), play: doneWhileItWaits(asItIs)},
		condition{row: 8, how: "our deadline", columns: statements,
			code: pgcmd.CodeTimeout, cause: isContext(context.DeadlineExceeded), play: doneWhileItWaits(pastDeadline)},
		// The client asks the server to cancel, and waits for its word.
		condition{row: 8, how: "our deadline, by a cancel request", columns: statements, entries: "N N N -", state: "57014",
			code: pgcmd.CodeTimeout, cause: isContext(context.DeadlineExceeded), set: setting{tune: byCancelRequest}, play: doneWhileItWaits(pastDeadline)},
		condition{row: 8, how: "cancelled by the caller, by a cancel request", columns: statements, entries: "N N N -", state: "57014",
			code: pgcmd.CodeCanceled, cause: isContext(context.Canceled), set: setting{tune: byCancelRequest},
			play: doneWhileItWaits(asItIs)},
		condition{row: 8, how: "the deadline of a COMMIT", columns: []column{commit}, once: true,
			code: pgcmd.CodeUnknownEffect, cause: isContext(context.DeadlineExceeded), truth: neverDone,
			play: untilItsDeadline(request)},
	)
	if long {
		conditions = append(conditions,
			condition{row: 8, how: "the deadline of a COMMIT that was done", columns: []column{commit}, once: true,
				code: pgcmd.CodeUnknownEffect, cause: isContext(context.DeadlineExceeded), truth: wasDone,
				play: untilItsDeadline(answer)})
	}

	crash := warning("WARNING", "57P02", "terminating connection because of crash of another server process")
	for _, done := range []bool{false, true} {
		k := condition{row: 9, how: "a warning of a crash before the work", columns: allColumns, code: pgcmd.CodeUnavailable,
			set: setting{pooled: true}, truth: neverDone, play: says(trick{say: crash, hangUp: true, serve: done})}
		if done {
			k.how, k.truth = "a warning of a crash after the work", wasDone
		}
		conditions = append(conditions, k)
	}
	return conditions
}

// untilItsDeadline is a play in which COMMIT gets no reply. Its deadline is later than the default of CommitTimeout, which
// would be used instead otherwise.
func untilItsDeadline(when moment) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		p := does(when, faults.BlackHole)(s, c)
		p.ctx = func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 6*time.Second)
		}
		return p
	}
}

// expired is a context that, once it is done, says that its deadline has passed: at the moment that the test wants.
type expired struct{ context.Context }

func (expired) Deadline() (time.Time, bool) { return time.Time{}, false }

func (e expired) Err() error {
	if e.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

func asItIs(ctx context.Context) context.Context { return ctx }

func pastDeadline(ctx context.Context) context.Context { return expired{ctx} }

// byCancelRequest makes connections that outlive the context of a statement.
func byCancelRequest(c *pgxpool.Config) {
	c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: patience}
	}
}

// doneWhileItWaits is a play in which the context is done, for the reason that as gives it, once the statement waits
// for a lock.
func doneWhileItWaits(as func(context.Context) context.Context) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		var meanwhile sync.WaitGroup
		p := waitsForLock(func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, done := context.WithCancel(ctx)
			meanwhile.Go(func() { s.waits(); done() })
			return as(ctx), done
		})(s, c)
		unlock := p.also
		p.also = func() { meanwhile.Wait(); unlock() }
		return p
	}
}

// waitsForLock is a play in which the statement waits for a lock that somebody holds until the run has ended.
func waitsForLock(bound func(context.Context) (context.Context, context.CancelFunc)) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		var holder *pgxpool.Conn
		return play{
			cmd: s.evaluate(c, s.lock(1)),
			ctx: bound,
			arm: func(*pgxpool.Pool, int64) {
				holder = s.session()
				_, err := holder.Exec(s.patient(), `select pg_advisory_lock($1)`, s.key(1))
				if err != nil {
					s.Fatal(err)
				}
			},
			also: func() {
				if _, err := holder.Exec(s.patient(), `select pg_advisory_unlock($1)`, s.key(1)); err != nil {
					s.Error(err)
				}
				holder.Release()
			},
		}
	}
}

// shortWrite is a condition in which the system takes only some bytes of the statement that goes wrong, and says so.
// Nothing of it is executed.
func shortWrite(taken int) condition {
	var cut cutter
	cut.keep = taken
	k := condition{row: 7, how: "a write that is cut short", columns: allColumns, code: pgcmd.CodeUnavailable, truth: neverDone,
		set: setting{tune: cut.tune},
		play: func(s *stage, c column) play {
			p := play{cmd: s.healthy(c)}
			p.arm = func(pool *pgxpool.Pool, id int64) {
				s.prepared(p.cmd, pool, id).Release() // or preparing would count as sent
				marker := c.marker(id)
				cut.marker.Store(&marker)
			}
			return p
		}}
	if taken == 0 {
		// Not a byte has left: that is a proof.
		k.row, k.how, k.entries = 5, "a write that takes no byte", "Y Y Y Y"
	}
	return k
}

// A cutter makes one write fail half-way: the one that holds its marker.
type cutter struct {
	marker atomic.Pointer[[]byte]
	keep   int
}

func (c *cutter) tune(config *pgxpool.Config) {
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &cutConn{Conn: conn, cut: c}, err
	}
}

type cutConn struct {
	net.Conn
	cut *cutter
}

func (c *cutConn) Write(b []byte) (int, error) {
	marker := c.cut.marker.Load()
	if marker == nil || !bytes.Contains(b, *marker) || !c.cut.marker.CompareAndSwap(marker, nil) {
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.cut.keep])
	c.Conn.Close()
	return n, io.ErrShortWrite
}
