package reliability_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// What takes a server down cannot be done to one that others use.
func TestRowsThatNeedAServerOfTheirOwn(t *testing.T) {
	t.Parallel()
	// The server runs as another user, if this process is root's.
	folder, err := os.MkdirTemp("", "effects")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	require.NoError(t, os.Chmod(folder, 0o755))
	access := filepath.Join(folder, "pg_hba.conf")
	require.NoError(t, os.WriteFile(access, []byte("local all secretive scram-sha-256\nlocal all all trust\n"), 0o644))
	server, err := pgcmdtest.Start(t.Context(), pgcmdtest.WithSetting("hba_file", access),
		pgcmdtest.WithSetting("max_connections", "20"), pgcmdtest.WithSetting("superuser_reserved_connections", "0"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	database, err := server.Database(t.Context(), effectsDDL, `create role secretive login password 'open sesame'`)
	require.NoError(t, err)

	entries := func(row int) string { return theTable[row] }
	run := func(name string, k condition) {
		t.Run(name, func(t *testing.T) {
			k.how, k.once = name, true
			s := newStage(t, database, k.set)
			for i, c := range k.columns {
				if testing.Short() && i > 0 { // each start of the server takes seconds
					break
				}
				k.column(s, c, entries(k.row), i)
			}
		})
	}

	run("28P01, a wrong password", unconnected(condition{row: 4, state: "28P01", code: pgcmd.CodePermission, cause: isConnect},
		func(c *pgx.ConnConfig) { c.User, c.Password = "secretive", "wrong" }))
	run("53300, max_connections", tooManyConnections(database))
	run("a server that is stopped", condition{row: 3, columns: []column{write}, code: pgcmd.CodeUnavailable, cause: isConnect, down: true,
		play: func(s *stage, c column) play {
			return play{
				cmd: s.healthy(c),
				arm: func(pool *pgxpool.Pool, _ int64) {
					require.NoError(s, server.Stop(s.patient(), pgcmdtest.Fast))
					pool.Reset()
				},
				repair: func() { require.NoError(s, server.Restart(s.patient(), pgcmdtest.Fast)) },
			}
		}})
	run("a backend crashes", condition{row: 9, columns: []column{read, write, inTx, commit}, code: pgcmd.CodeUnavailable, truth: neverDone,
		play: func(s *stage, c column) play {
			p := calls(request, (*stage).crash)(s, c)
			p.repair = func() { p.also(); s.count(0) } // is there when the server is again
			return p
		}})
	run("an immediate stop", condition{row: 9, columns: []column{write, inTx}, code: pgcmd.CodeUnavailable, truth: neverDone,
		play: calls(request, func(s *stage) { assert.NoError(s, server.Restart(s.patient(), pgcmdtest.Immediate)) })})
	run("a fast stop", condition{row: 20, columns: []column{read, write, inTx, commit}, state: "57P01", code: pgcmd.CodeUnavailable, truth: neverDone,
		play: calls(request, func(s *stage) { assert.NoError(s, server.Restart(s.patient(), pgcmdtest.Fast)) })})
	run("57P03, a server that is shutting down", shuttingDown(server))
}

// tooManyConnections is a condition in which others have all the connections that the server allows.
func tooManyConnections(database string) condition {
	var others []*pgx.Conn
	k := condition{row: 3, columns: []column{read, write, inTx}, state: "53300", code: pgcmd.CodeUnavailable, cause: isConnect}
	k.play = func(s *stage, c column) play {
		leave := func() {
			for _, conn := range others {
				pid := conn.PgConn().PID()
				require.NoError(s, conn.Close(s.patient()))
				s.gone(pid)
			}
			others = nil
		}
		return play{
			cmd: s.healthy(c),
			arm: func(pool *pgxpool.Pool, id int64) {
				s.count(id) // has a connection
				pool.Reset()
				s.until("the pool has none", `select not exists (select from pg_stat_activity where application_name = $1)`, s.led)
				var err error
				for err == nil {
					var conn *pgx.Conn
					if conn, err = pgx.Connect(s.patient(), database); err == nil {
						others = append(others, conn)
					}
				}
			},
			repair: leave,
			also:   leave,
		}
	}
	return k
}

// crash kills a backend that has nothing to do with the pool under test, whose sessions the server ends for it.
func (s *stage) crash() {
	rows, _ := s.truth.Query(s.patient(), `select pid from pg_stat_activity where application_name = $1`, s.led)
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[int])
	assert.NoError(s, err)
	bystander := s.session()
	assert.NoError(s, syscall.Kill(int(bystander.Conn().PgConn().PID()), syscall.SIGKILL))
	bystander.Release()
	for _, pid := range sessions {
		assert.Eventually(s, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }, patience, time.Millisecond)
	}
}

// shuttingDown is a condition in which the server waits for a session to end, and takes no other.
func shuttingDown(server *pgcmdtest.Server) condition {
	k := condition{row: 3, columns: []column{write}, state: "57P03", code: pgcmd.CodeUnavailable, cause: isConnect, lasting: true}
	k.play = func(s *stage, c column) play {
		return play{
			cmd: s.healthy(c),
			arm: func(pool *pgxpool.Pool, id int64) {
				pool.Reset()
				s.count(id) // by a connection that stays
				require.NoError(s, syscall.Kill(server.PID(), syscall.SIGTERM))
				require.Eventually(s, func() bool {
					_, err := pgconn.Connect(context.WithoutCancel(s.Context()), server.URL())
					pgErr, ok := errors.AsType[*pgconn.PgError](err)
					return ok && pgErr.Code == "57P03"
				}, patience, time.Millisecond)
			},
			also: func() {
				s.truth.Reset()
				assert.NoError(s, server.Restart(s.patient(), pgcmdtest.Fast))
			},
		}
	}
	return k
}
