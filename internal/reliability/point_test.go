package reliability_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

const (
	// patience is for what a machine under load does late. No test passes by it.
	patience = 30 * time.Second
	// margin is how late a call may return after its deadline, on such a machine.
	margin = 2 * time.Second
	// holeTime is the deadline of a caller whose connection is in a black hole, at first.
	holeTime = 300 * time.Millisecond
	// commitTime and rollbackTime bound what does not end with the caller's context.
	commitTime   = 5 * time.Second
	rollbackTime = 2 * time.Second
	// giveUpTime is how long the message at which the caller gives up is held back. Too short, the test sees less.
	giveUpTime = 20 * time.Millisecond
)

// A point is one run of a work with a fault at one message.
type point struct {
	campaign
	lab   *lab
	proxy *faults.Proxy
	in    op
	app   string        // the application_name of its sessions
	fault *faults.Fault // without its action
	hole  time.Duration // the deadline, if it is a black hole
	wire  watched

	out       pgcmd.Outcome[any]
	committed atomic.Int32 // AfterCommit functions that ran
	fired     bool
	took      time.Duration
	parts     []int64 // that are there
}

func newPoint(c campaign, l *lab, proxy *faults.Proxy, fault *faults.Fault, hole time.Duration) *point {
	id := l.ids.Add(1)
	return &point{campaign: c, lab: l, proxy: proxy, in: op{ID: id, Schema: id, Mood: mood}, app: fmt.Sprintf("point %d", id), fault: fault, hole: hole}
}

// late reports whether the deadline passed before the fault.
func (p *point) late() bool {
	return p.kind == blackHole && !p.fired && errors.Is(p.out.Err, context.DeadlineExceeded)
}

// try runs the work, and returns whether the fault struck and what is wrong with what came of it.
func (p *point) try(ctx context.Context) (fired bool, wrong error) {
	pool, err := p.prepare(ctx)
	if err != nil {
		return false, fmt.Errorf("before the fault: %w", err)
	}
	p.strike(ctx, pool)
	p.proxy.Heal()
	closing, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	closed := pool.Close(closing) // an error if a connection is still held
	err = p.lab.direct.QueryRow(closing, `select parts($1, $2)`, p.app, p.in.ID).Scan(&p.parts)

	if err == nil {
		err = p.judge()
	}
	if err = errors.Join(err, closed); err != nil {
		log := p.proxy.Log()
		err = fmt.Errorf("%w\nreturned %v: %+v after %v, %d attempts; there are the parts %v\n%s", err, p.out.Value, p.out.Err, p.took,
			p.out.Attempts, p.parts, strings.Join(log[max(0, len(log)-4):], "\n"))
	}
	return p.fired, err
}

// prepare returns the pool to run the work on, with one connection open.
func (p *point) prepare(ctx context.Context) (*pgcmd.Pool, error) {
	bound, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.kind == blackHole {
		ctx = bound
	}
	if p.work.replay {
		if err := p.work.run(bound, p.lab.direct, p.in, pgcmd.Options{}).Err; err != nil {
			return nil, err
		}
	}
	p.proxy.Set(nil)
	config := pgcmd.Config{URL: p.proxy.URL(), MaxConns: 2, Pgx: func(config *pgxpool.Config) {
		config.ConnConfig.RuntimeParams["application_name"] = p.app
		p.wire.watch(config)
	}}
	if p.work.settings != nil {
		config.Settings = func(context.Context) ([]pgcmd.Setting, error) { return p.work.settings, nil }
	}
	pool, err := pgcmd.Connect(bound, config)
	if err != nil {
		return nil, err
	}
	if p.warm || p.work.before != nil {
		if err := p.warmUp(ctx, pool); err != nil {
			pool.Pool.Close()
			return nil, err
		}
		p.wire.forget()
	}
	return pool, nil
}

// warmUp runs the work once, so that its statements are prepared, and then changes the schema under it, if it has one.
func (p *point) warmUp(ctx context.Context, pool *pgcmd.Pool) error {
	if p.work.before != nil {
		if _, err := p.lab.direct.Exec(ctx, p.work.before(p.in.Schema)); err != nil {
			return err
		}
	}
	err := p.work.run(ctx, pool, op{ID: p.lab.ids.Add(1), Schema: p.in.Schema, Mood: mood}, pgcmd.Options{}).Err
	if err != nil && (p.work.fails == nil || !p.work.fails(err)) {
		return err
	}
	if p.work.after != nil {
		_, err := p.lab.direct.Exec(ctx, p.work.after(p.in.Schema))
		return err
	}
	return nil
}

// strike runs the work under the fault.
func (p *point) strike(ctx context.Context, pool *pgcmd.Pool) {
	// No deadline but where there must be one: it changes what is sent.
	ctx, cancel := context.WithCancel(context.WithValue(ctx, committedKey{}, &p.committed))
	defer cancel()
	watchdog := time.AfterFunc(patience, cancel)
	defer watchdog.Stop()
	if p.kind == blackHole {
		ctx, cancel = context.WithTimeout(ctx, p.hole)
		defer cancel()
	}
	returned := make(chan struct{})
	action := actions[p.kind]
	if p.kind == giveUp {
		action = faults.Call(func() {
			cancel()
			select {
			case <-returned:
			case <-time.After(giveUpTime):
			}
		})
	}
	o := pgcmd.Options{}
	if p.retry {
		o.Retry = pgcmd.Retry{Attempts: 4, Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
	}
	fault := *p.fault
	fault.Action = action
	p.proxy.Set(&fault)
	start := time.Now()
	p.out = p.work.run(ctx, pool, p.in, o)
	p.took = time.Since(start)
	close(returned)
	p.fired = p.proxy.Fired() > 0
}

// A watched wire knows whether the messages left by which a unit of work may be applied.
type watched struct{ executed, committed atomic.Bool }

func (w *watched) watch(config *pgxpool.Config) {
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return watchedConn{conn, w}, err
	}
}

func (w *watched) forget() {
	w.executed.Store(false)
	w.committed.Store(false)
}

func (w *watched) left(m message) bool {
	return m == byExecute && w.executed.Load() || m == byCommit && w.committed.Load()
}

type watchedConn struct {
	net.Conn
	wire *watched
}

func (c watchedConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("E\x00\x00\x00\x09\x00\x00\x00\x00\x00")) { // Execute, of the unnamed portal
		c.wire.executed.Store(true)
	}
	if bytes.Contains(b, []byte("commit\x00")) {
		c.wire.committed.Store(true)
	}
	return c.Conn.Write(b)
}
