package reliability_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// unsentConditions are the rows 1 to 6: what fails before anything is sent.
func unsentConditions(t *testing.T, database string) []condition {
	roles := newRoles(t, database)
	conditions := []condition{
		{row: 1, how: "a context that was cancelled", columns: []column{read, write, inTx, commit},
			code: pgcmd.CodeCanceled, cause: isContext(context.Canceled),
			play: doneBefore(context.WithCancel)},
		{row: 1, how: "a deadline that has passed", columns: []column{read, write, inTx},
			code: pgcmd.CodeTimeout, cause: isContext(context.DeadlineExceeded),
			play: doneBefore(func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithDeadline(ctx, time.Now().Add(-time.Second))
			})},
		{row: 2, how: "every connection is held", columns: []column{read, write, inTx}, code: pgcmd.CodeExhausted,
			cause: func(err error) bool {
				return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "2 of 2 were in use")
			},
			play: func(s *stage, c column) play {
				var held []*pgxpool.Conn
				return play{
					cmd: s.healthy(c),
					ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
						return context.WithTimeout(ctx, 30*time.Millisecond)
					},
					arm: func(pool *pgxpool.Pool, _ int64) {
						for range 2 {
							conn, err := pool.Acquire(s.patient())
							require.NoError(s, err)
							held = append(held, conn)
						}
					},
					also: func() {
						for _, conn := range held {
							conn.Release()
						}
					},
				}
			}},

		unconnected(condition{row: 3, how: "connection refused", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) { c.Port = closedPort(t) }),
		unconnected(condition{row: 3, how: "the server cannot be reached for the whole run", code: pgcmd.CodeUnavailable, cause: isConnect, lasting: true},
			func(c *pgx.ConnConfig) { c.Port = closedPort(t) }),
		unconnected(condition{row: 3, how: "no name server for now", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) {
				c.LookupFunc = func(context.Context, string) ([]string, error) {
					return nil, &net.DNSError{Err: "server misbehaving", Name: "db", IsTemporary: true}
				}
			}),
		unconnected(condition{row: 3, how: "53300, a role's connection limit", state: "53300", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) { c.User = roles.crowded }),
		unconnected(condition{row: 3, how: "a server that is read-only where a primary is asked for", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) {
				c.RuntimeParams["default_transaction_read_only"] = "on"
				c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
			}),
		{row: 3, how: "reset in the start-up", columns: []column{read, write, inTx}, set: setting{pooled: true},
			code: pgcmd.CodeUnavailable, cause: isConnect, play: greeted(nil)},
		{row: 3, how: "57P03 in the start-up", healed: true, columns: []column{read, write, inTx}, set: setting{pooled: true},
			state: "57P03", code: pgcmd.CodeUnavailable, cause: isConnect,
			play: greeted(refusal("FATAL", "57P03", "the database system is starting up"))},

		unconnected(condition{row: 4, how: "28000, a role that may not log in", state: "28000", code: pgcmd.CodePermission, cause: isConnect},
			func(c *pgx.ConnConfig) { c.User = roles.locked }),
		unconnected(condition{row: 4, how: "42501, a role that may not connect", state: "42501", code: pgcmd.CodePermission, cause: isConnect},
			func(c *pgx.ConnConfig) { c.User = roles.stranger }),
		unconnected(condition{row: 4, how: "3D000, no such database", state: "3D000", code: pgcmd.CodeInternal, cause: isConnect},
			func(c *pgx.ConnConfig) { c.Database = "nowhere" }),
		unconnected(condition{row: 4, how: "a server without TLS", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) { c.TLSConfig = &tls.Config{ServerName: "db"} }),
		unconnected(condition{row: 4, how: "a certificate that nobody knows", code: pgcmd.CodeUnavailable, cause: isConnect},
			func(c *pgx.ConnConfig) {
				c.TLSConfig = &tls.Config{ServerName: "db"}
				c.DialFunc = dialUntrusted(t)
			}),

		{row: 5, how: "a pooled connection that was closed", healed: true, columns: []column{read, write, inTx, rawTx}, code: pgcmd.CodeUnavailable,
			play: func(s *stage, c column) play {
				return play{cmd: s.healthy(c), arm: func(pool *pgxpool.Pool, _ int64) {
					conn, err := pool.Acquire(s.patient())
					require.NoError(s, err)
					raw := conn.Conn()
					conn.Release()
					require.NoError(s, raw.Close(s.patient()))
				}}
			}},
		{row: 5, how: "a connection that the body closed", columns: []column{commit}, code: pgcmd.CodeUnavailable, cause: anything,
			entries: "- - - Y", lasting: true, // more than the table asks for: COMMIT was not sent, as in T
			play: func(s *stage, _ column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					return tx.Conn().Close(ctx)
				})}
			}},

		{row: 5, how: "rows that the transaction is still reading", columns: []column{inTx, rawTx}, code: pgcmd.CodeInternal,
			entries: "- - N -", play: stillReading},

		{row: 6, how: "a value that its parameter cannot hold", columns: []column{read, write, inTx}, code: pgcmd.CodeInvalid,
			play: func(s *stage, c column) play {
				if c == write {
					return play{cmd: s.command(c, `insert into ops select $1::int4`)}
				}
				return play{cmd: s.command(c, `select $1::int4::int8`)}
			}},
		{row: 6, how: "more parameters than the protocol has", columns: []column{inTx}, code: pgcmd.CodeInvalid, play: tooManyParameters},
	}
	if long {
		conditions = append(conditions,
			condition{row: 6, how: "a message of more than 1 GiB", columns: []column{inTx}, code: pgcmd.CodeInvalid, once: true, play: tooLong})
	}
	return conditions
}

// unconnected completes a condition in which no connection can be made, since misdirect has changed where it leads,
// until that is repaired.
func unconnected(k condition, misdirect func(*pgx.ConnConfig)) condition {
	var broken atomic.Bool
	k.columns = []column{read, write, inTx}
	k.set.tune = func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if broken.Load() {
				misdirect(config)
			}
			return nil
		}
	}
	k.play = func(s *stage, c column) play {
		return play{
			cmd:    s.healthy(c),
			arm:    func(pool *pgxpool.Pool, _ int64) { broken.Store(true); pool.Reset() },
			repair: func() { broken.Store(k.lasting) },
			also:   func() { broken.Store(false) },
		}
	}
	return k
}

// stillReading is a play in which a body makes a mistake: the connection is busy.
func stillReading(s *stage, c column) play {
	next := pgcmd.Exec[int64]("ops.next", insertOp)
	return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, insertOp, id); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select generate_series(1, 1000)`)
		if err != nil {
			return err
		}
		defer rows.Close()
		if c == inTx {
			_, err = next.Run(ctx, tx, id)
		} else {
			_, err = tx.Exec(ctx, insertOp, id)
		}
		return err
	})}
}

func tooManyParameters(s *stage, _ column) play {
	const most = 65_535
	in := pgcmd.AdHocQuery{SQL: "select $1", Args: map[string]any{}}
	var sql strings.Builder
	sql.WriteString("select 1 where 1 in (0")
	for n := range most + 1 {
		fmt.Fprintf(&sql, ", @p%d", n)
		in.Args[fmt.Sprintf("p%d", n)] = n
	}
	sql.WriteString(")")
	in.SQL = sql.String()
	return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, insertOp, id); err != nil {
			return err
		}
		_, err := pgcmd.AdHoc.With(pgcmd.Options{Trusted: true}).Run(ctx, tx, in)
		return err
	})}
}

func tooLong(s *stage, _ column) play {
	huge := pgcmd.Exec[[]byte]("ops.huge", `select length($1::bytea)`)
	return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, insertOp, id); err != nil {
			return err
		}
		_, err := huge.Run(ctx, tx, make([]byte, 1<<30))
		return err
	})}
}

// doneBefore is a play whose context is done before anything is sent: in the column C, before COMMIT.
func doneBefore(done func(context.Context) (context.Context, context.CancelFunc)) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		if c != commit {
			return play{cmd: s.healthy(c), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := done(ctx)
				cancel()
				return ctx, cancel
			}}
		}
		var cancel context.CancelFunc
		return play{
			cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
				_, err := tx.Exec(ctx, insertOp, id)
				cancel()
				return err
			}),
			ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel = done(ctx)
				return ctx, cancel
			},
		}
	}
}

// greeted is a play in which the next connection is answered with say, and closed.
func greeted(say []byte) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.healthy(c), arm: func(pool *pgxpool.Pool, _ int64) {
			pool.Reset()
			s.pooler.Play(&trick{say: say, hangUp: true})
		}}
	}
}

// roles are users of the server that it refuses, each for another reason.
type roles struct{ crowded, locked, stranger string }

func newRoles(t *testing.T, database string) roles {
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	name := conn.Config().Database
	r := roles{crowded: name + "_crowded", locked: name + "_locked", stranger: name + "_stranger"}
	_, err = conn.Exec(ctx, `create role `+r.crowded+` login connection limit 0; create role `+r.locked+`;
		create role `+r.stranger+` login; revoke connect on database `+name+` from public`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), `drop role `+r.crowded+`, `+r.locked+`, `+r.stranger)
		require.NoError(t, err)
	})
	return r
}

// closedPort is a port on which nobody listens.
func closedPort(t testing.TB) uint16 {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// dialUntrusted leads to a server whose certificate nobody knows.
func dialUntrusted(t testing.TB) pgconn.DialFunc {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	certificates := server.TLS.Certificates
	server.Close()
	return func(context.Context, string, string) (net.Conn, error) {
		client, host := net.Pipe()
		go func() {
			defer host.Close()
			if _, err := host.Read(make([]byte, 8)); err != nil { // SSLRequest
				return
			}
			if _, err := host.Write([]byte("S")); err != nil {
				return
			}
			_ = tls.Server(host, &tls.Config{Certificates: certificates}).Handshake()
		}()
		return client, nil
	}
}
