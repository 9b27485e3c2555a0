package reliability_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// pooledConditions are the rows 11, 18, 20, 21 and 23 as far as only a pooler, or a server in trouble, says such things.
func pooledConditions() []condition {
	var conditions []condition
	add := func(row int, entries, severity, state string, code pgcmd.Code, message string) {
		for _, done := range []bool{false, true} {
			k := condition{row: row, entries: entries, how: severity + " " + state + " before the work", columns: allColumns, state: state, code: code,
				set: setting{pooled: true}, truth: neverDone,
				play: says(trick{serve: done, say: refusal(severity, state, message), hangUp: severity != "ERROR"})}
			if done {
				k.how, k.truth = severity+" "+state+" after the work", wasDone
			}
			conditions = append(conditions, k)
		}
	}
	add(11, "", "ERROR", "40003", pgcmd.CodeUnknownEffect, "statement completion unknown")
	add(11, "", "ERROR", "08007", pgcmd.CodeUnknownEffect, "transaction resolution unknown")
	add(20, "", "FATAL", "57P01", pgcmd.CodeUnavailable, "terminating connection due to administrator command")
	add(20, "", "FATAL", "57P04", pgcmd.CodeUnavailable, "terminating connection due to conflict with recovery")
	add(20, "N U N U", "FATAL", "25P04", pgcmd.CodeTimeout, "terminating connection due to transaction timeout")
	add(21, "", "FATAL", "08P01", pgcmd.CodeUnavailable, "server conn crashed?")
	add(21, "", "ERROR", "08006", pgcmd.CodeUnavailable, "connection failure")
	add(21, "", "FATAL", "08003", pgcmd.CodeUnavailable, "connection does not exist")
	add(23, "", "FATAL", "XX000", pgcmd.CodeInternal, "unexpected state")
	add(23, "", "PANIC", "XX001", pgcmd.CodeInternal, "could not read block")
	for i := range conditions {
		// In the simple protocol, which is COMMIT's, pgx forgets a PANIC for the end of file that follows.
		if k := &conditions[i]; strings.HasPrefix(k.how, "PANIC") {
			k.columns = []column{read, write, inTx, rawTx}
		}
	}

	return append(conditions,
		// It commits, fails while it cleans up, says so, and panics.
		condition{row: 23, entries: "N N N U", how: "ERROR XX000 after the work", columns: []column{commit}, state: "XX000", code: pgcmd.CodeInternal,
			set: setting{pooled: true}, truth: wasDone,
			play: says(trick{serve: true, say: refusal("ERROR", "XX000", "cannot abort transaction 7, it was already committed")})},
		condition{row: 18, how: "COMMIT answered by ROLLBACK", columns: []column{commit}, code: pgcmd.CodeInternal,
			cause: isContext(pgx.ErrTxCommitRollback), set: setting{pooled: true}, play: says(trick{instead: "rollback"})},
		condition{row: 18, how: "an error that only pgx's own connection saw", columns: []column{commit}, code: pgcmd.CodeInternal,
			cause: anything,
			play: func(s *stage, _ column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					_, err := tx.Conn().Exec(ctx, `select 1 / 0`)
					assert.Error(s, err)
					return nil
				})}
			}},
	)
}

var errBodyOwn = errors.New("the body's own")

// bodyConditions are the rows 17 and 24: what is not the server's fault.
func bodyConditions() []condition {
	own := isContext(errBodyOwn)
	after := func(context.Context, int64, *int64) error { return errBodyOwn }
	return []condition{
		{row: 17, how: "a statement after one that failed", columns: []column{inTx, rawTx}, state: "22012", code: pgcmd.CodeInvalid,
			play: func(s *stage, c column) play {
				divide, next := pgcmd.Exec[int64]("ops.divide", `select 1 / ($1::int8 - $1)`), pgcmd.Exec[int64]("ops.next", insertOp)
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					if c == rawTx {
						_, _ = tx.Exec(ctx, `select 1 / ($1::int8 - $1)`, id)
						_, err := tx.Exec(ctx, insertOp, id)
						return err
					}
					_, _ = divide.Run(ctx, tx, id)
					_, err := next.Run(ctx, tx, id)
					return err
				})}
			}},
		{row: 17, how: "an error that the body swallowed", columns: []column{inTx}, state: "22012", code: pgcmd.CodeInvalid,
			play: func(s *stage, c column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					_, err := tx.Exec(ctx, insertOp, id)
					_, _ = tx.Exec(ctx, `select 1 / ($1::int8 - $1)`, id)
					return err
				})}
			}},
		{row: 17, how: "a deadlock before it", columns: []column{inTx}, entries: "- - Y -", state: "40P01", code: pgcmd.CodeAborted,
			play: func(s *stage, c column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					_, err := tx.Exec(ctx, insertOp, id)
					_, _ = tx.Exec(ctx, `select fail($1, '40P01')`, s.shots)
					_, _ = tx.Exec(ctx, `select 1`)
					return err
				})}
			}},
		{row: 24, how: "an After hook", columns: []column{read, write, inTx}, code: pgcmd.CodeFailed, cause: own,
			play: func(s *stage, c column) play { return play{cmd: pgcmd.After(s.healthy(c), after)} }},
		{row: 24, how: "a row that does not fit", columns: []column{read, write, inTx}, code: pgcmd.CodeInternal, cause: anything,
			play: func(s *stage, c column) play {
				hit := `select null::int8 where $1::int8 is not null`
				if c == write {
					return play{cmd: pgcmd.QueryOne[int64, int64]("ops.write", `insert into ops values ($1) returning null::int8`)}
				}
				if c == read {
					return play{cmd: s.command(c, hit)}
				}
				unfit := pgcmd.QueryOne[int64, int64]("ops.unfit", hit)
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					_, err := unfit.Run(ctx, tx, id)
					return err
				})}
			}},
		{row: 24, how: "a row that does not fit, of a statement that fails when it commits", columns: []column{atSync}, entries: "N N N -",
			state: "23505", code: pgcmd.CodeConflict, cause: anything,
			play: func(s *stage, c column) play {
				return play{cmd: pgcmd.QueryOne[int64, int64]("ops.write",
					`with op as (insert into ops values ($1)), dup as (insert into taken values (0)) select null::int8`)}
			}},
		{row: 24, how: "the body's own error", columns: []column{inTx}, code: pgcmd.CodeFailed, cause: own,
			play: func(s *stage, c column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					return errBodyOwn
				})}
			}},
		{row: 24, how: "an error of the server's that the body made its own", columns: []column{inTx}, code: pgcmd.CodeNotFound, cause: own,
			play: func(s *stage, c column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					_, err := tx.Exec(ctx, `select fail($1, '40001')`, s.shots)
					if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
						return nil
					}
					return pgcmd.Errorf(pgcmd.CodeNotFound, "nothing there: %w", errBodyOwn)
				})}
			}},
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
