package pgcmd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A DB is what a command runs on: a pool, a connection or a transaction, of
// pgcmd's or of pgx's.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

var (
	_ DB = (*Pool)(nil)
	_ DB = (*Tx)(nil)
	_ DB = (*pgxpool.Pool)(nil)
	_ DB = (*pgxpool.Conn)(nil)
	_ DB = (*pgx.Conn)(nil)
	_ DB = (pgx.Tx)(nil)
)

// A Pool is a [pgxpool.Pool] whose connections tell whether anything was sent, and
// whose commands share a budget for retries. Make one with [Connect]. It is safe
// for concurrent use.
type Pool struct {
	*pgxpool.Pool
	retries budget
}

// Config is what [Connect] connects to. It renders without its URL everywhere.
type Config struct {
	URL      string                // postgres://user:password@host:port/database?..., or key=value pairs, as pgx takes them
	MaxConns int32                 // the most connections at a time; zero: pgx's default, the greater of 4 and the number of CPUs
	Pgx      func(*pgxpool.Config) // changes pgx's settings, after the others: types, tracers, tokens; may be nil
}

// Format renders the config without its URL, for every verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{URL:[secret] MaxConns:%d}", c.MaxConns) }

// MarshalJSON renders the config without its URL.
func (c Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct{ MaxConns int32 }{c.MaxConns})
}

// Connect makes a pool and returns once it has a connection. The error is an
// [*Error], and shows no part of the URL.
func Connect(ctx context.Context, cfg Config) (*Pool, error) {
	refused := func(code Code, message string) error {
		return &Error{Code: code, Effect: NotApplied, Command: "pgcmd.Connect", Message: message}
	}
	switch {
	case ctx == nil:
		return nil, refused(CodeInternal, "the context is nil: pass the caller's, or context.Background()")
	case cfg.URL == "":
		return nil, refused(CodeInvalid, "Config.URL is empty: give it as postgres://user:password@host:port/database")
	case cfg.MaxConns < 0:
		return nil, refused(CodeInvalid, "Config.MaxConns is negative: zero is pgx's default")
	}
	settings, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil { // its text holds parts of the password
		return nil, refused(CodeInvalid, "Config.URL cannot be parsed (the reason is withheld, since it may hold the password): give it as postgres://user:password@host:port/database")
	}
	if cfg.MaxConns > 0 {
		settings.MaxConns = cfg.MaxConns
	}
	if cfg.Pgx != nil {
		cfg.Pgx(settings)
	}
	Instrument(settings)
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, refused(CodeInvalid, "pgx refuses the settings of the pool (the reason is withheld, since it may hold the password)")
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		pool.Close()
		e := notAcquired(ctx, pool, err)
		e.Command = "pgcmd.Connect"
		return nil, e
	}
	conn.Release()
	return &Pool{Pool: pool}, nil
}

// Close waits until every connection is back, and closes them. When ctx is done
// first it returns an error that says how many are missing; they are closed as
// they come back.
func (p *Pool) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() { defer close(closed); p.Pool.Close() }()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		e := causeOf(ctx, ctx.Err())
		e.Command, e.Effect = "pgcmd.Pool.Close", NotApplied
		e.Message = fmt.Sprintf("%d connections are still held", p.Stat().AcquiredConns())
		return e
	}
}

type txKey struct{}

// OutsideTx returns a context for work in a transaction's body that is meant not
// to share the transaction: a command run with it takes a connection of its own
// from the pool. Without it that is refused with CodeNestedAcquire, since under
// load every connection can come to wait for another.
func OutsideTx(ctx context.Context) context.Context {
	return context.WithValue(ctx, txKey{}, (*session)(nil))
}

func insideTx(ctx context.Context, s *session) context.Context {
	return context.WithValue(ctx, txKey{}, s)
}

// acquire takes a connection for one command.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, *Error) {
	// Taking it ourselves tells a failure to get one, when nothing was sent, from
	// all others.
	if s, _ := ctx.Value(txKey{}).(*session); s != nil && s.pool == pool && !s.over.Load() {
		return nil, &Error{Code: CodeNestedAcquire, Effect: NotApplied,
			Message: "it was run on the pool from within a transaction on the same pool, which under load waits for itself: run it on the transaction, or with pgcmd.OutsideTx(ctx)"}
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, notAcquired(ctx, pool, err)
	}
	return conn, nil
}

// release gives a connection back.
func release(conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() {
		// Released, a dead connection would hold its place in the pool for as long as
		// pgx takes to say goodbye to it: 15 seconds, if nobody answers.
		conn.Hijack()
		return
	}
	conn.Release()
}
