package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// try runs a command on the stage's pool, with three attempts, and puts what it says on record.
func (s *stage) try(ctx context.Context, cmd *pgcmd.Command[int64, int64], id int64) pgcmd.Outcome[int64] {
	s.Helper()
	s.led = s.app
	out := cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}).Try(ctx, s.pool, id)
	s.proxy.Set(nil)
	s.sought = append(s.sought, verdict{id, s.Name(), pgcmd.EffectOf(out.Err)})
	s.judge(s.sought[len(s.sought)-1], "at once")
	assert.Zero(s, s.pool.Stat().AcquiredConns())
	return out
}

func newID() int64 { return 0x5eed_0000_0000 + effectsOps.Add(1) }

// failed returns a run's error as what it always is.
func (s *stage) failed(err error) *pgcmd.Error {
	s.Helper()
	e, ok := errors.AsType[*pgcmd.Error](err)
	require.True(s, ok, "%v", err)
	return e
}

func TestTheReplyToCommitIsLost(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	for _, c := range []struct {
		when   moment
		action faults.Action
		there  int
		took   time.Duration
	}{
		{request, faults.Reset, 0, 0},
		{request, faults.CutBefore, 0, 0},
		{request, faults.CutAfter, 1, 0},
		{request, faults.HalfClose, 0, 0},
		{answer, faults.Reset, 1, 0},
		{answer, faults.CutBefore, 1, 0},
		{answer, faults.HalfClose, 1, 0},
		{answer, faults.BlackHole, 1, 5 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s at %s", c.action, [...]string{"the request", "its end", "the answer"}[c.when]), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, database, setting{})
			id := newID()
			s.at(commit, id, c.when, c.action)
			start := time.Now()
			out := s.try(s.patient(), s.healthy(commit), id)
			took := time.Since(start)

			e := s.failed(out.Err)
			assert.Equal(t, pgcmd.Unknown, e.Effect)
			assert.Equal(t, pgcmd.CodeUnknownEffect, e.Code)
			assert.False(t, pgcmd.Retryable(e))
			assert.Equal(t, 1, out.Attempts)
			assert.NotNil(t, e.Err)
			assert.GreaterOrEqual(t, took, c.took)
			assert.Less(t, took, c.took+4*time.Second)
			assert.Equal(t, c.took > 0, errors.Is(e, context.DeadlineExceeded), "the deadline is COMMIT's own")
			require.Eventually(t, func() bool { return s.count(id) == c.there }, deadline, 2*time.Millisecond)
		})
	}
}

// What was never sent is not applied, whatever pgx says of it.
func TestCommitNeverLeft(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	for name, end := range map[string]func(s *stage, ctx context.Context, tx *pgcmd.Tx){
		"the body closes the connection": func(s *stage, ctx context.Context, tx *pgcmd.Tx) {
			require.NoError(s, tx.Conn().Close(ctx))
		},
		"the body loses the connection and keeps it to itself": func(s *stage, ctx context.Context, tx *pgcmd.Tx) {
			s.at(read, 77, request, faults.Reset)
			_, err := tx.Exec(ctx, `select $1::int8`, 77)
			require.Error(s, err)
		},
		"a savepoint loses it": func(s *stage, ctx context.Context, tx *pgcmd.Tx) {
			s.at(read, 77, request, faults.Reset)
			require.Error(s, s.command(read, `select $1::int8`).Try(ctx, tx, 77).Err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, database, setting{})
			id := newID()
			runs := 0
			out := s.try(s.patient(), s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
				_, err := tx.Exec(ctx, insertOp, id)
				if runs++; runs == 1 {
					end(s, ctx, tx)
				}
				return err
			}), id)
			// Tried again, it works; what must not be is that it is there twice.
			if out.Err != nil {
				e := s.failed(out.Err)
				assert.Equal(t, pgcmd.NotApplied, e.Effect, "%v", e)
				assert.Equal(t, pgcmd.CodeUnavailable, e.Code, "%v", e)
				return
			}
			assert.Equal(t, 2, out.Attempts)
			assert.Equal(t, 1, s.count(id))
		})
	}
}

// COMMIT is not the caller's to cancel: once it is on its way, its answer is the truth.
func TestTheCallerGivesUpWhenCommitIsOnItsWay(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	for _, when := range []moment{request, answer} {
		for name, done := range map[string]func(context.Context) (context.Context, func()){
			"cancelled": func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithCancel(ctx)
				return ctx, cancel
			},
			"past its deadline": func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
				return ctx, func() { <-ctx.Done(); cancel() }
			},
		} {
			t.Run(fmt.Sprintf("%s at %s", name, [...]string{"the request", "", "the answer"}[when]), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, database, setting{})
				_, err := s.healthy(commit).Run(s.patient(), s.pool, newID()) // connects and prepares
				require.NoError(t, err)
				id := newID()
				ctx, giveUp := done(s.patient())
				fired := false
				s.at(commit, id, when, faults.Call(func() { giveUp(); fired = true }))
				committed := false
				cmd := s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					tx.AfterCommit(func(ctx context.Context) { committed = ctx.Err() == nil })
					_, err := tx.Exec(ctx, insertOp, id)
					return err
				})
				out := s.try(ctx, cmd, id)
				require.NoError(t, out.Err)
				assert.True(t, fired)
				assert.Error(t, ctx.Err())
				assert.True(t, committed, "AfterCommit runs, on a context that is not done")
				assert.Equal(t, 1, out.Attempts)
				assert.Equal(t, 1, s.count(id))
			})
		}
	}
}

// A body that commits by SQL text makes the truth unknowable if the reply is lost: nothing may call it not applied, and
// nothing may try it again.
func TestACommitHiddenInABodyIsUnknownWhenItsReplyIsLost(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	insert := func(id int64) string { return fmt.Sprintf(`insert into ops values (%d)`, id) }
	batch := func(ctx context.Context, tx *pgcmd.Tx, queries ...string) error {
		b := &pgx.Batch{}
		for _, sql := range queries {
			b.Queue(sql)
		}
		return tx.SendBatch(ctx, b).Close()
	}
	exec := func(ctx context.Context, tx *pgcmd.Tx, sql string) error {
		_, err := tx.Exec(ctx, sql)
		return err
	}
	for name, body := range map[string]func(ctx context.Context, tx *pgcmd.Tx, id int64) error{
		"commit": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return errors.Join(exec(ctx, tx, insert(id)), exec(ctx, tx, `commit`))
		},
		"several statements as one text": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return exec(ctx, tx, insert(id)+`; commit`)
		},
		"rollback, and work behind it": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return exec(ctx, tx, `rollback; `+insert(id))
		},
		"abort, and work behind it": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return errors.Join(exec(ctx, tx, `select 1`), exec(ctx, tx, `abort; `+insert(id)))
		},
		"a batch": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return errors.Join(exec(ctx, tx, `select 1`), batch(ctx, tx, insert(id), `commit`))
		},
		"the first batch": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			return batch(ctx, tx, insert(id), `commit`)
		},
		"a batch that is read": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			b := &pgx.Batch{}
			b.Queue(insert(id))
			b.Queue(`commit`)
			results := tx.SendBatch(ctx, b)
			defer results.Close()
			for range 2 {
				if _, err := results.Exec(); err != nil {
					return err
				}
			}
			return results.Close()
		},
		"a prepared commit": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if _, err := tx.Prepare(ctx, "fin", `commit`); err != nil {
				return err
			}
			return errors.Join(exec(ctx, tx, insert(id)), exec(ctx, tx, "fin"))
		},
		"a query": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if err := exec(ctx, tx, insert(id)); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, `commit`)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		},
		"a command": func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if err := exec(ctx, tx, insert(id)); err != nil {
				return err
			}
			_, err := pgcmd.Exec[struct{}]("ops.commit", `commit`).Run(ctx, tx, struct{}{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, database, setting{})
			id := newID()
			// The first reply after which the operation is there is lost.
			runs := 0
			cmd := s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error { runs++; return body(ctx, tx, id) })
			text := fmt.Sprintf("values (%d)", id)
			inserted := false
			var lost atomic.Bool
			s.proxy.Set(&faults.Fault{Match: func(typ byte, b []byte) bool {
				// A statement is known when it is parsed, and so before it is executed.
				inserted = inserted || strings.Contains(string(b), text)
				ends := typ == 'Q' && (strings.Contains(string(b), "commit") || strings.Contains(string(b), text) && strings.Contains(string(b), "; insert")) ||
					typ == 'E'
				return inserted && ends
			}, Action: faults.Call(func() {
				s.proxy.Set(&faults.Fault{Direction: faults.Backend, Action: faults.CutBefore,
					Match: func(typ byte, _ []byte) bool {
						lost.Store(lost.Load() || typ == 'Z' && s.count(id) == 1)
						return lost.Load()
					}})
			})})
			out := s.try(t.Context(), cmd, id) // without a deadline, which would travel with BEGIN and keep it from joining a text
			assert.True(t, lost.Load(), "the reply is lost")
			if assert.Error(t, out.Err) {
				e := s.failed(out.Err)
				assert.Equal(t, pgcmd.Unknown.String(), e.Effect.String(), "%v", e)
				assert.False(t, pgcmd.Retryable(e), "%v", e)
			}
			assert.Equal(t, 1, runs, "it was tried again")
			assert.Equal(t, 1, s.count(id))
		})
	}
}

// READ ONLY is no proof that there is nothing to apply: SQL text can lift it.
func TestAReadOnlyTransactionThatWroteAllTheSame(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	id := newID()
	s.at(commit, id, answer, faults.Reset)
	out := s.try(t.Context(), s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, `set transaction read write`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertOp, id)
		return err
	}).With(pgcmd.Options{Tx: pgx.TxOptions{AccessMode: pgx.ReadOnly}}), id)
	assert.Equal(t, pgcmd.Unknown.String(), s.failed(out.Err).Effect.String())
	assert.Equal(t, 1, out.Attempts)
	assert.Equal(t, 1, s.count(id))
}

// A statement that can commit on its own way may have done a part when it fails.
func TestStatementsThatCommitOnTheirOwnWayAreNeverTriedAgain(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL, `create procedure part(id int8) language plpgsql as $$
		begin insert into ops values (id); commit; raise exception using errcode = '40001'; end $$`)
	s := newStage(t, database, setting{})
	for _, sql := range []string{
		`call part(%d)`,
		`do $$ begin insert into ops values (%d); commit; raise exception using errcode = '40001'; end $$`,
		`/* a comment */ call part(%d)`,
	} {
		id := newID()
		out := s.try(s.patient(), pgcmd.New("ops.part", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
			return pgcmd.Exec[struct{}]("ops.call", fmt.Sprintf(sql, id)).
				With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(ctx, db, struct{}{})
		}), id)
		e := s.failed(out.Err)
		assert.Equal(t, pgcmd.Unknown, e.Effect, sql)
		assert.Equal(t, "40001", e.SQLState, sql)
		assert.Equal(t, 1, s.count(id), sql)
	}
	for _, sql := range []string{`create index concurrently on ops (fails(id))`, `vacuum nowhere`, `create database "%s"`} {
		_, err := pgcmd.Exec[struct{}]("ops.maintain", sql).Run(s.patient(), s.pool, struct{}{})
		if err != nil {
			assert.Equal(t, pgcmd.Unknown, s.failed(err).Effect, sql)
		}
	}
	s.exec(`drop database if exists "%s"`)

	stacked := `insert into ops values (-1); insert into ops values (-1)`
	assert.Panics(t, func() { pgcmd.Exec[struct{}]("ops.stacked", stacked) })
	_, err := pgcmd.AdHoc.Run(s.patient(), s.pool, pgcmd.AdHocQuery{SQL: stacked})
	assert.Equal(t, pgcmd.NotApplied, s.failed(err).Effect, "several statements are refused")
	assert.Zero(t, s.count(-1))
}

// A panic, of a hook or of the body, changes nothing of what is true.
func TestAPanicChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	type own struct{ n int }
	after := func(context.Context, int64, *int64) error { panic(own{7}) }
	for _, c := range []struct {
		how   string
		cmd   *pgcmd.Command[int64, int64]
		there int
	}{
		{"after a statement that commits by itself", s.healthy(write).After(after), 1},
		{"in a statement's own transaction", s.healthy(write).With(pgcmd.Options{InTx: true}).After(after), 0},
		{"in a body", s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			_, err := tx.Exec(ctx, insertOp, id)
			require.NoError(s, err)
			panic(own{7})
		}), 0},
	} {
		id := newID()
		assert.PanicsWithValue(t, own{7}, func() {
			_, _ = c.cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(s.patient(), s.pool, id)
		}, c.how)
		assert.Equal(t, c.there, s.count(id), c.how)
		assert.Zero(t, s.pool.Stat().AcquiredConns(), c.how)
	}
	s.until("nothing is left open", `select not exists (select from pg_stat_activity where application_name = $1 and state like 'idle in%')`, s.app)
}

func TestABusyConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	conn, err := s.pool.Acquire(s.patient())
	require.NoError(t, err)
	defer conn.Release()
	rows, err := conn.Query(s.patient(), `select generate_series(1, 1000)`)
	require.NoError(t, err)
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}
	for _, c := range []column{read, write, inTx} {
		id := newID()
		out := s.healthy(c).With(again).Try(s.patient(), conn, id)
		e := s.failed(out.Err)
		assert.Equal(t, pgcmd.CodeInternal, e.Code, "%s: %v", c, e)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: %v", c, e)
		assert.Equal(t, 1, out.Attempts, c)
		assert.Zero(t, s.count(id), c)
	}
	rows.Close()
	require.NoError(t, rows.Err(), "what was open can be read on")
	_, err = s.healthy(inTx).Run(s.patient(), conn, newID())
	require.NoError(t, err)
}

// On a single connection only failures that leave it alive are tried again.
func TestRetriesOnASingleConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	for _, c := range []column{read, inTx} {
		conn, err := s.pool.Acquire(s.patient())
		require.NoError(t, err)
		s.exec(`select setval($1, 1, false)`, s.shots)
		out := raises("40001")(s, c).cmd.With(again).Try(s.patient(), conn, newID())
		require.NoError(t, out.Err, c)
		assert.Equal(t, 2, out.Attempts, c)

		id := newID()
		s.at(c, id, request, faults.Reset)
		out = s.healthy(c).With(again).Try(s.patient(), conn, id)
		e := s.failed(out.Err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, c)
		assert.Equal(t, 1, out.Attempts, c)
		conn.Release()
	}
}

// The server's word is not to be trusted so far that it could crash the client.
func TestStrangeSQLStates(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{pooled: true})
	for _, state := range []string{"", "0", "08", "40001 ", "ÄÄÄ"} {
		for _, c := range allColumns {
			for _, severity := range []string{"ERROR", "FATAL", "", "FEHLER"} {
				id := newID()
				s.pooler.Play(&trick{marker: c.marker(id), say: refusal(severity, state, "what?"), hangUp: severity == "FATAL"})
				cmd := s.healthy(c)
				if c == read {
					cmd = pgcmd.New("ops.both", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
						if _, err := s.healthy(read).Run(ctx, db, id); err != nil {
							return 0, err
						}
						return s.healthy(write).Run(ctx, db, id)
					})
				}
				var out pgcmd.Outcome[int64]
				if assert.NotPanics(t, func() { out = s.try(s.patient(), cmd, id) }, "%q %q in %s", severity, state, c) &&
					severity != "ERROR" && out.Err != nil && (c == write || c == commit) {
					assert.Equal(t, pgcmd.Unknown, s.failed(out.Err).Effect, "%q %q in %s", severity, state, c)
				}
			}
		}
	}
	assert.NotPanics(t, func() { pgcmd.Retryable(&pgconn.PgError{Code: "0"}) })
	assert.NotPanics(t, func() { pgcmd.Retryable(&pgcmd.Error{Effect: pgcmd.NotApplied, SQLState: "0"}) })
}
