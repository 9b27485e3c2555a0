package reliability_test

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
)

var (
	everywhere = []column{read, write, atSync, inTx, rawTx, commit} // where SQL can fail
	statements = []column{read, write, inTx, rawTx}                 // where it can before COMMIT
)

// serverConditions are the rows 10 to 20 and 23 as far as a server can be brought to them, at worst by RAISE.
func serverConditions() []condition {
	raised := func(row int, state string, code pgcmd.Code, columns []column) condition {
		return condition{row: row, how: state + " raised", columns: columns, state: state, code: code, play: raises(state)}
	}
	conditions := []condition{
		raised(10, "40001", pgcmd.CodeAborted, everywhere),
		raised(10, "40P01", pgcmd.CodeAborted, everywhere),
		{row: 10, how: "a row changed since the snapshot", columns: []column{write, inTx, rawTx}, state: "40001", code: pgcmd.CodeAborted,
			set: setting{params: map[string]string{"default_transaction_isolation": "repeatable read"}}, play: changedSince},
		{row: 10, how: "a write skew", columns: []column{commit, inTx}, state: "40001", code: pgcmd.CodeAborted,
			set: setting{params: map[string]string{"default_transaction_isolation": "serializable"}}, play: writeSkew},
		{row: 10, how: "a deadlock", columns: everywhere, state: "40P01", code: pgcmd.CodeAborted,
			set: setting{params: map[string]string{"deadlock_timeout": "10ms"}}, play: deadlocks},

		raised(11, "40003", pgcmd.CodeUnknownEffect, everywhere),
		raised(11, "08007", pgcmd.CodeUnknownEffect, everywhere),

		{row: 12, how: "statement_timeout", columns: statements, state: "57014", code: pgcmd.CodeTimeout,
			set: setting{params: map[string]string{"statement_timeout": "30ms"}}, play: expression(`(select 0::int8 from pg_sleep(60))`)},
		{row: 12, how: "pg_cancel_backend", columns: statements, state: "57014", code: pgcmd.CodeCanceled, play: cancelledBySomebody},
		{row: 12, how: "our deadline, told to the server", columns: []column{inTx, rawTx}, state: "57014", code: pgcmd.CodeTimeout,
			cause: isContext(context.DeadlineExceeded), unsaid: true,
			play: waitsForLock(func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 300*time.Millisecond)
			})},

		{row: 13, how: "lock_timeout", columns: statements, state: "55P03", code: pgcmd.CodeAborted,
			set:  setting{params: map[string]string{"lock_timeout": "20ms"}},
			play: waitsForLock(nil)},
		{row: 13, how: "NOWAIT", columns: []column{read, inTx, rawTx}, state: "55P03", code: pgcmd.CodeAborted, play: nowait},
		{row: 13, how: "a table in use by its own transaction", columns: []column{inTx}, state: "55006", code: pgcmd.CodeAborted, play: inUse},
		raised(13, "55006", pgcmd.CodeAborted, statements),

		{row: 14, how: "temp_file_limit", columns: statements, state: "53400", code: pgcmd.CodeExhausted,
			set:  setting{params: map[string]string{"temp_file_limit": "64", "work_mem": "64"}},
			play: expression(`(select count(*) from (select g from generate_series(1, 100000) g order by g desc offset 1) sorted)`)},

		raised(15, "25006", pgcmd.CodeUnavailable, everywhere),
		{row: 15, how: "a server that was demoted", columns: []column{write, inTx, rawTx}, state: "25006", code: pgcmd.CodeUnavailable,
			set: setting{tune: func(c *pgxpool.Config) { c.MaxConns = 1 }}, play: demoted},

		{row: 16, how: "DEALLOCATE behind pgx's back", columns: statements, state: "26000", code: pgcmd.CodeInternal, play: deallocated},
		{row: 16, how: "a table that has another column now", columns: statements, state: "0A000", code: pgcmd.CodeInternal,
			set: setting{tune: func(c *pgxpool.Config) { c.MaxConns = 1 }}, play: altered},
		{row: 16, how: "a statement of the same name, again and again", columns: statements, state: "42P05", code: pgcmd.CodeInternal,
			lasting: true, play: raisesAgain("42P05")},
		{row: 16, how: "26000 again and again", columns: statements, state: "26000", code: pgcmd.CodeInternal,
			lasting: true, play: raisesAgain("26000")},
	}
	for _, state := range []string{"53000", "53100", "53200", "58000", "58030"} {
		conditions = append(conditions, raised(14, state, pgcmd.CodeExhausted, statements))
	}
	for _, c := range []struct{ state, how, expression string }{
		{"22012", "division by zero", `(select 1 / count(*) from ops where false)`},
		{"21000", "a subquery of two rows", `(select generate_series(1, 2)::int8)`},
		{"42P01", "no such table", ``},
		{"42601", "bad SQL", ``},
		{"P0001", "an exception", ``},
	} {
		k := condition{row: 19, how: c.how, columns: everywhere, state: c.state, code: pgcmd.CodeInternal, play: expression(c.expression)}
		switch c.state {
		case "22012":
			k.code = pgcmd.CodeInvalid
		case "P0001":
			k.code, k.play = pgcmd.CodeFailed, raises("P0001")
		case "42P01":
			k.play = expression(`(select id from nowhere)`)
		case "42601":
			k.play = expression(`(select from from)`)
		}
		conditions = append(conditions, k)
	}
	for state, c := range map[string]struct {
		code pgcmd.Code
		sql  string
	}{
		"23502": {pgcmd.CodeInvalid, `insert into checked select $1::int8, null`},
		"23503": {pgcmd.CodeConflict, `insert into checked select $1::int8, 0, -1`},
		"23505": {pgcmd.CodeConflict, `insert into checked select $1::int8 * 0, 0`},
		"23514": {pgcmd.CodeInvalid, `insert into checked select $1::int8, 10`},
		"23P01": {pgcmd.CodeConflict, `insert into checked select $1::int8, 0, null, '[5,6)'`},
	} {
		conditions = append(conditions, condition{row: 19, how: "constraint " + state, columns: []column{write, inTx}, state: state, code: c.code,
			play: func(s *stage, c2 column) play {
				if c2 == write {
					return play{cmd: s.command(c2, `with op as (insert into ops values ($1)) `+c.sql)}
				}
				return play{cmd: s.command(c2, c.sql)}
			}})
	}
	conditions = append(conditions,
		condition{row: 19, how: "a deferred unique constraint", columns: []column{atSync, commit}, state: "23505", code: pgcmd.CodeConflict,
			play: func(s *stage, c column) play {
				if c == commit {
					return play{cmd: s.command(c, `insert into taken select $1::int8 * 0`)}
				}
				return play{cmd: s.command(c, `with op as (insert into ops values ($1)) insert into taken select $1::int8 * 0`)}
			}},
		condition{row: 19, how: "a dependent object", columns: []column{inTx}, state: "2BP01", code: pgcmd.CodeInternal,
			play: func(s *stage, c column) play {
				return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
					if _, err := tx.Exec(ctx, insertOp, id); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, `drop table viewed`)
					return err
				})}
			}},

		condition{row: 20, how: "pg_terminate_backend", columns: allColumns, state: "57P01", code: pgcmd.CodeUnavailable, truth: neverDone,
			play: calls(request, (*stage).terminate)},
		condition{row: 20, how: "idle_session_timeout", healed: true, columns: []column{read, write, inTx, rawTx}, state: "57P05", code: pgcmd.CodeUnavailable, truth: neverDone,
			play: func(s *stage, c column) play {
				p := play{cmd: s.healthy(c)}
				p.arm = func(pool *pgxpool.Pool, id int64) { s.idle(p.cmd, pool, id, "set idle_session_timeout = '1ms'") }
				return p
			}},
		condition{row: 20, how: "idle_in_transaction_session_timeout", columns: []column{inTx, commit}, state: "25P03", code: pgcmd.CodeTimeout, truth: neverDone,
			entries: "N U N U", play: idleInTransaction},
	)
	for _, state := range []string{"XX000", "XX001", "XX002"} {
		k := raised(23, state, pgcmd.CodeInternal, everywhere)
		k.entries = "N N N U" // after an ERROR of its own the server may have committed, if it was at COMMIT
		if state != "XX000" {
			k.columns = []column{read, write, inTx, commit}
		}
		k.truth = neverDone
		conditions = append(conditions, k)
	}
	return conditions
}
