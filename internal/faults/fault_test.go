package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/faults"
)

const insert = "insert into items values ($1)"

// add inserts a row in a transaction of its own: Q P D S B D E S Q, without the P D S if insert is prepared.
func add(ctx context.Context, conn *pgx.Conn, id int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insert, id); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// Every action at every message of either direction; in the short form at the first, one in the middle, and the last two,
// which are those of COMMIT. The row is there if the server got the COMMIT, and never else.
func TestEachActionAtEachMessage(t *testing.T) {
	t.Parallel()
	actions := []faults.Action{
		faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose, faults.BlackHole, faults.Delay(time.Millisecond), {},
	}
	for _, cached := range []bool{false, true} {
		frontend, backend := 9, 12
		if cached {
			frontend, backend = 6, 8
		}
		for nth, action := range actions {
			t.Run(fmt.Sprintf("%s, cached %t", action, cached), func(t *testing.T) {
				t.Parallel()
				proxy, direct := start(t, "create table items (id int)")
				check := connect(t, direct)
				try := func(direction faults.Direction, message, last int) {
					conn := connect(t, proxy.URL())
					if cached {
						_, err := conn.Prepare(within(t, patience), insert, insert)
						require.NoError(t, err)
					}
					proxy.Set(&faults.Fault{Direction: direction, Message: message, Action: action})
					ctx := within(t, patience)
					if action.String() == "black hole" {
						ctx = untilFired(t, proxy, 1)
					}
					err := add(ctx, conn, message)
					what := fmt.Sprintf("%v %d of %d: %v", direction, message, last, err)
					require.Equal(t, 1, proxy.Fired(), what)

					passed := action.String() == "seen" || strings.HasPrefix(action.String(), "delay")
					switch {
					case passed, action.String() == "cut after" && direction == faults.Backend && message == last:
						require.NoError(t, err, what)
					case action.String() == "black hole":
						require.ErrorIs(t, err, context.Canceled, what)
					default:
						require.Error(t, err, what)
						require.NotErrorIs(t, err, context.DeadlineExceeded, what)
					}
					// The answers to COMMIT are the last two messages; the server has done it before it sends the first.
					present := passed || direction == faults.Backend && message >= last-1 ||
						action.String() == "cut after" && direction == faults.Frontend && message == last
					require.Equal(t, present, value[bool](t, check, "select exists (select from items)"), what)

					proxy.Heal()
					require.Equal(t, 1, proxy.Fired())
					require.NoError(t, conn.Close(within(t, patience)))
					<-conn.PgConn().CleanupDone()
					if !testing.Short() || message == last {
						require.NoError(t, add(within(t, patience), connect(t, proxy.URL()), -1), "a new connection works")
					}
					_, err = check.Exec(within(t, patience), "truncate items")
					require.NoError(t, err, what)
				}
				for direction, last := range map[faults.Direction]int{faults.Frontend: frontend, faults.Backend: backend} {
					for message := 1; message <= last; message++ {
						if testing.Short() && message > 1 && message < last-1 && message != 2+nth%(last-3) {
							continue
						}
						try(direction, message, last)
					}
				}
			})
		}
	}
}

func TestACutLetsTheServerFinishFirst(t *testing.T) {
	t.Parallel()
	proxy, direct := start(t, "create table items (id int)")
	check := connect(t, direct)
	for _, test := range []struct {
		action faults.Action
		want   []int
	}{{faults.CutBefore, []int{1}}, {faults.CutAfter, []int{1, 2}}} {
		conn := connect(t, proxy.URL())
		// The second Sync of a pipeline of three, all of which are there at once.
		proxy.Set(&faults.Fault{Message: 2, Action: test.action, Match: func(typ byte, _ []byte) bool { return typ == 'S' }})
		pipeline := conn.PgConn().StartPipeline(within(t, patience))
		for id := range 3 {
			pipeline.SendQueryParams(fmt.Sprintf("insert into items select %d from pg_sleep(0.02)", id+1), nil, nil, nil, nil)
			pipeline.SendPipelineSync()
		}
		require.NoError(t, pipeline.Flush())
		require.Error(t, pipeline.Close())
		assert.Equal(t, test.want, value[[]int](t, check, "select array_agg(id order by id) from items"))
		assert.Zero(t, value[int](t, check, "select count(*) from pg_stat_activity where pid = $1", conn.PgConn().PID()))
		_, err := check.Exec(within(t, patience), "truncate items")
		require.NoError(t, err)
	}
}

func TestHalfCloseAndBlackHoleLeaveTheServerItsLocks(t *testing.T) {
	t.Parallel()
	for _, action := range []faults.Action{faults.HalfClose, faults.BlackHole} {
		t.Run(action.String(), func(t *testing.T) {
			t.Parallel()
			proxy, direct := start(t, "create table items (id int primary key)")
			check := connect(t, direct)
			conn, err := pgconn.Connect(within(t, patience), proxy.URL())
			require.NoError(t, err)
			_, err = conn.Exec(within(t, patience), "begin; insert into items values (1)").ReadAll()
			require.NoError(t, err)
			proxy.Set(&faults.Fault{Action: action})
			raw, err := conn.Hijack() // pgx would close at once
			require.NoError(t, err)
			raw.Frontend.SendQuery(&pgproto3.Query{String: "commit"})
			require.NoError(t, raw.Frontend.Flush())
			require.NoError(t, raw.Conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, err = raw.Conn.Read(make([]byte, 1))
			if action.String() == "half-close" {
				require.EqualError(t, err, "EOF")
			} else {
				require.ErrorContains(t, err, "timeout")
			}
			_, err = check.Exec(within(t, patience), "set lock_timeout = '20ms'")
			require.NoError(t, err)
			_, err = check.Exec(within(t, patience), "insert into items values (1)")
			require.ErrorContains(t, err, "55P03", "the lock is held")
			require.NoError(t, raw.Conn.Close())
			if action.String() == "black hole" {
				_, err = check.Exec(within(t, patience), "insert into items values (1)")
				require.ErrorContains(t, err, "55P03", "the close is swallowed too")
				proxy.Heal()
			}
			require.Eventually(t, func() bool {
				_, err := check.Exec(within(t, patience), "insert into items values (1)")
				return err == nil
			}, patience, time.Millisecond)
		})
	}
}

func TestAResetIsAReset(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	proxy.Set(&faults.Fault{Direction: faults.Backend, Action: faults.Reset})
	_, err := conn.Query(within(t, patience), "select $1::int", 1)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestAFaultFindsItsConnection(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	old := connect(t, proxy.URL())
	proxy.Set(&faults.Fault{Conn: 2, Message: 2, Action: faults.CutBefore})
	first, second, third := connect(t, proxy.URL()), connect(t, proxy.URL()), connect(t, proxy.URL())
	run := func(conn *pgx.Conn) error {
		_, err := conn.Exec(within(t, patience), "select 1")
		return err
	}
	for range 3 {
		require.NoError(t, errors.Join(run(old), run(first), run(third)))
	}
	require.NoError(t, run(second))
	require.Zero(t, proxy.Fired())
	require.Error(t, run(second))
	require.Equal(t, 1, proxy.Fired())
	assert.Equal(t, "#3: >Q <TDCZ >Q [cut before]", proxy.Log()[2])

	proxy.Set(&faults.Fault{Message: 2, Action: faults.CutBefore})
	require.Zero(t, proxy.Fired())
	require.NoError(t, errors.Join(run(old), run(first)))
	require.Error(t, run(first), "the first that gets there")
	require.NoError(t, errors.Join(run(old), run(old)), "and no other")
	proxy.Set(&faults.Fault{Conn: 1})
	require.NoError(t, errors.Join(run(old), run(third)))
	require.Zero(t, proxy.Fired(), "they are of the plans before")
	require.NoError(t, run(connect(t, proxy.URL())))
	require.Equal(t, 1, proxy.Fired())
}

func TestAFaultFindsTheMessageThatMatches(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	large := strings.Repeat("x", 1<<20)
	called := 0
	proxy.Set(&faults.Fault{
		Message: 2,
		Match:   func(typ byte, body []byte) bool { return typ == 'B' && bytes.Contains(body, []byte(large)) },
		Action:  faults.Call(func() { called++ }),
	})
	for _, text := range []string{"small", large, large, large} {
		assert.Equal(t, text, value[string](t, conn, "select $1", text))
	}
	assert.Equal(t, 1, called)
}

func TestAContextCanBeCancelledAtAMessage(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Set(&faults.Fault{Message: 3, Action: faults.Call(cancel)})
	_, err := conn.Exec(ctx, "select $1::int, pg_sleep(60)", 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestRandomFaultsDependOnTheSeedAlone(t *testing.T) {
	t.Parallel()
	conns := 30
	if testing.Short() {
		conns = 12
	}
	run := func(seed uint64) (log []string) {
		proxy, _ := start(t, "create table items (id int)")
		proxy.Random(0.05, seed)
		for id := range conns {
			conn, err := pgx.Connect(within(t, patience), proxy.URL())
			require.NoError(t, err, "start-up is not hit")
			add(within(t, patience), conn, id)
			conn.Close(within(t, patience))
			<-conn.PgConn().CleanupDone()
		}
		require.NoError(t, proxy.Close())
		hit := 0
		for _, line := range proxy.Log() {
			if at := strings.Index(line, "["); at >= 0 {
				hit++
				log = append(log, line[:strings.Index(line, "]")])
			}
		}
		assert.Equal(t, hit, proxy.Fired())
		assert.NotZero(t, hit)
		return log
	}
	assert.Equal(t, run(1), run(1))
	assert.NotEqual(t, run(1), run(2))
}

func TestEveryConnectionCanBeLost(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	lost := []*pgx.Conn{connect(t, proxy.URL()), connect(t, proxy.URL())}
	proxy.Random(1, 0, faults.BlackHole)
	lost = append(lost, connect(t, proxy.URL()))
	for i, conn := range lost {
		_, err := conn.Exec(untilFired(t, proxy, i+1), "select 1")
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Equal(t, 3, proxy.Fired())
	proxy.Heal()
	for _, conn := range lost {
		<-conn.PgConn().CleanupDone()
	}
	assert.Equal(t, 1, value[int](t, connect(t, proxy.URL()), "select 1"))
}

func TestABlackHoleKeepsAClientUntilItsDeadline(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	proxy.Set(&faults.Fault{Direction: faults.Backend, Action: faults.BlackHole})
	_, err := conn.Exec(within(t, 200*time.Millisecond), "select 1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	proxy.Heal()
}
