package reliability_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// raisesAgain is raises for each attempt.
func raisesAgain(state string) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		p := raises(state)(s, c)
		p.repair = func() { s.exec(`select setval($1, 1, false)`, s.shots) }
		return p
	}
}

// changedSince is a play in which another session changes the row that the statement waits for.
func changedSince(s *stage, c column) play {
	counter := strconv.FormatInt(s.number%400+1, 10)
	p := play{cmd: s.command(c, `update counters set n = n + $1 where id = `+counter+` returning n`)}
	if c == write {
		p.cmd = s.command(c, `with op as (insert into ops values ($1)) update counters set n = n + 1 where id = `+counter)
	}
	var meanwhile sync.WaitGroup
	p.arm = func(*pgxpool.Pool, int64) {
		other := s.session()
		_, err := other.Exec(s.patient(), `begin; update counters set n = n + 1 where id = `+counter)
		require.NoError(s, err)
		meanwhile.Go(func() {
			defer other.Release()
			s.waits()
			_, err := other.Exec(s.patient(), `commit`)
			assert.NoError(s, err)
		})
	}
	p.also = meanwhile.Wait
	return p
}

// waits waits until a session that leads through waits for a lock.
func (s *stage) waits() {
	s.until("a session waits for a lock",
		`select exists (select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock')`, s.led)
}

// writeSkew is a play in which another transaction writes what this one reads, reads what this one writes, and commits
// first: in the column C nothing is left to fail but COMMIT.
func writeSkew(s *stage, c column) play {
	mine, other := s.number%200+1, s.number%200+201
	attempt := 0
	cmd := s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, insertOp, id); err != nil {
			return err
		}
		var n int64
		if err := tx.QueryRow(ctx, `select sum(n) from counters where id in ($1, $2)`, mine, other).Scan(&n); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update counters set n = n + 1 where id = $1`, mine); err != nil {
			return err
		}
		if attempt++; attempt == 1 {
			err := pgx.BeginTxFunc(ctx, s.truth, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
				if err := tx.QueryRow(ctx, `select sum(n) from counters where id in ($1, $2)`, mine, other).Scan(&n); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, `update counters set n = n + 1 where id = $1`, other)
				return err
			})
			if err != nil {
				return err
			}
		}
		if c == inTx {
			return tx.QueryRow(ctx, `select n from counters where id = $1`, other).Scan(&n)
		}
		return nil
	})
	return play{cmd: cmd}
}

// deadlocks is a play in which another session waits for what the statement has, and has what it waits for.
func deadlocks(s *stage, c column) play {
	a, b := s.key(2), s.key(3)
	var meanwhile sync.WaitGroup
	return play{
		cmd: s.evaluate(c, `deadlock('`+s.shots+`', `+strconv.FormatInt(a, 10)+`, `+strconv.FormatInt(b, 10)+`)`),
		arm: func(*pgxpool.Pool, int64) {
			other := s.session()
			_, err := other.Exec(s.patient(), `begin; select pg_advisory_xact_lock(`+strconv.FormatInt(b, 10)+`)`)
			require.NoError(s, err)
			meanwhile.Go(func() {
				defer other.Release()
				s.until("the statement has its first lock",
					`select exists (select from pg_locks where locktype = 'advisory' and objid = $1 and granted
						and database = (select oid from pg_database where datname = current_database()))`, a)
				_, err := other.Exec(s.patient(), `select pg_advisory_xact_lock(`+strconv.FormatInt(a, 10)+`); rollback`)
				assert.NoError(s, err, "the other one is not the victim")
			})
		},
		also: meanwhile.Wait,
	}
}

// cancelledBySomebody is a play in which an administrator cancels the statement.
func cancelledBySomebody(s *stage, c column) play {
	var meanwhile sync.WaitGroup
	return play{
		cmd: s.evaluate(c, `(select 0::int8 from pg_sleep(60))`),
		arm: func(*pgxpool.Pool, int64) {
			meanwhile.Go(func() {
				s.until("the statement is cancelled", `select coalesce(bool_or(pg_cancel_backend(pid)), false) from pg_stat_activity
					where application_name = $1 and wait_event = 'PgSleep'`, s.led)
			})
		},
		also: meanwhile.Wait,
	}
}

// nowait is a play in which a row is locked, and the statement does not wait.
func nowait(s *stage, c column) play {
	counter := strconv.FormatInt(s.number%400+1, 10)
	p := play{cmd: s.command(c, `select $1::int8 + n from counters where id = `+counter+` for update nowait`)}
	var holder *pgxpool.Conn
	p.arm = func(*pgxpool.Pool, int64) {
		holder = s.session()
		_, err := holder.Exec(s.patient(), `begin; select from counters where id = `+counter+` for update`)
		require.NoError(s, err)
	}
	p.also = func() {
		_, err := holder.Exec(s.patient(), `rollback`)
		assert.NoError(s, err)
		holder.Release()
	}
	return p
}

// inUse is a play in which a transaction truncates a table that it has a cursor on.
func inUse(s *stage, _ column) play {
	return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		for _, sql := range []string{`create temp table own on commit drop as select 1`, `declare c cursor for select * from own`, `fetch c`, `truncate own`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})}
}

// demoted is a play in which the sessions that there are became read-only, and a new one is not, as after a failover.
func demoted(s *stage, c column) play {
	return play{cmd: s.healthy(c), arm: func(pool *pgxpool.Pool, _ int64) {
		pool.Reset()
		conn, err := pool.Acquire(s.patient())
		require.NoError(s, err)
		defer conn.Release()
		_, err = conn.Exec(s.patient(), `set default_transaction_read_only = on`)
		require.NoError(s, err)
	}}
}

// deallocated is a play in which the server has forgotten the statements that pgx has prepared.
func deallocated(s *stage, c column) play {
	p := play{cmd: s.healthy(c)}
	p.arm = func(pool *pgxpool.Pool, id int64) {
		conn := s.prepared(p.cmd, pool, id)
		defer conn.Release()
		_, err := conn.Conn().PgConn().Exec(s.patient(), `deallocate all`).ReadAll()
		require.NoError(s, err)
	}
	return p
}

// prepared returns the pool's only connection, on which the command has been prepared.
func (s *stage) prepared(cmd *pgcmd.Command[int64, int64], pool *pgxpool.Pool, id int64) *pgxpool.Conn {
	s.Helper()
	pool.Reset()
	conn, err := pool.Acquire(s.patient())
	require.NoError(s, err)
	_, err = cmd.Run(s.patient(), conn, -id)
	require.NoError(s, err)
	return conn
}

// altered is a play in which a prepared statement has another result type by now.
func altered(s *stage, c column) play {
	table := fmt.Sprintf("shape_%d", effectsOps.Add(1))
	s.exec(`create table ` + table + ` (id int8); insert into ` + table + ` values (1)`)
	p := play{cmd: s.command(c, `select * from `+table+` where $1::int8 is not null`)}
	if c == write {
		p.cmd = s.command(c, `with op as (insert into ops values ($1)) select * from `+table)
	}
	p.arm = func(pool *pgxpool.Pool, id int64) {
		s.prepared(p.cmd, pool, id).Release()
		s.exec(`alter table ` + table + ` alter id type int4`)
	}
	return p
}

// idle runs a setting on an idle connection, and waits until the server has ended its session by it.
func (s *stage) idle(cmd *pgcmd.Command[int64, int64], pool *pgxpool.Pool, id int64, setting string) {
	conn := s.prepared(cmd, pool, id)
	pid := conn.Conn().PgConn().PID()
	_, err := conn.Exec(s.patient(), setting)
	require.NoError(s, err)
	conn.Release()
	s.gone(pid)
}

// gone waits until a session has ended.
func (s *stage) gone(pid uint32) {
	s.until("the session has ended", `select not exists (select from pg_stat_activity where pid = $1)`, pid)
}

// idleInTransaction is a play in which a body takes longer, between two statements or before COMMIT, than the server
// allows.
func idleInTransaction(s *stage, c column) play {
	return play{cmd: s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := tx.Exec(ctx, insertOp, id); err != nil {
			return err
		}
		pid := tx.Conn().PgConn().PID()
		if _, err := tx.Exec(ctx, `set local idle_in_transaction_session_timeout = '1ms'`); err != nil {
			return err
		}
		s.gone(pid)
		if c == commit {
			return nil
		}
		_, err := tx.Exec(ctx, `select 1`)
		return err
	})}
}
