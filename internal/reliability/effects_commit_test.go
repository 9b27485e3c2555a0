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
	out := pgcmd.Try(ctx, s.pool, cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}), id)
	s.proxy.Set(nil)
	s.sought = append(s.sought, verdict{id, s.Name(), pgcmd.EffectOf(out.Err)})
	s.judge(s.sought[len(s.sought)-1], "at once")
	assert.True(s, allReleased(s.pool.Pool))
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

// What was never sent is not applied, whatever pgx says of it.
func TestCommitNeverLeft(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	for name, end := range map[string]func(s *stage, ctx context.Context, tx *pgcmd.Tx){
		"the body loses the connection and keeps it to itself": func(s *stage, ctx context.Context, tx *pgcmd.Tx) {
			s.at(read, 77, request, faults.Reset)
			_, err := tx.Exec(ctx, `select $1::int8`, 77)
			require.Error(s, err)
		},
		"a savepoint loses it": func(s *stage, ctx context.Context, tx *pgcmd.Tx) {
			s.at(read, 77, request, faults.Reset)
			require.Error(s, pgcmd.Try(ctx, tx, s.command(read, `select $1::int8`), 77).Err)
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
		{"after a statement that commits by itself", pgcmd.After(s.healthy(write), after), 1},
		{"in a statement's own transaction", pgcmd.After(s.healthy(write).With(pgcmd.Options{InTx: true}), after), 0},
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
		assert.True(t, allReleased(s.pool.Pool), c.how)

		// A pool ends what is left open. On a connection of the caller's nobody does.
		conn, err := s.pool.Acquire(s.patient())
		require.NoError(t, err)
		id = newID()
		assert.PanicsWithValue(t, own{7}, func() { _, _ = c.cmd.Run(s.patient(), conn, id) }, c.how)
		assert.Equal(t, "I", string(conn.Conn().PgConn().TxStatus()), c.how)
		assert.Equal(t, c.there, s.count(id), c.how)
		conn.Release()
	}
	s.until("nothing is left open", `select not exists (select from pg_stat_activity where application_name = $1 and state like 'idle in%')`, s.app)
}
