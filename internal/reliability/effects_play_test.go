package reliability_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// command makes the command of a column, in which hit is the statement that goes wrong. It is given the operation's
// id; in a transaction its negative, since a statement before it inserts the operation.
func (s *stage) command(c column, hit string) *pgcmd.Command[int64, int64] {
	switch c {
	case read:
		return pgcmd.QueryOne[int64, int64]("ops.read", hit).With(pgcmd.Options{ReadOnly: !s.untold})
	case write, atSync:
		return pgcmd.Exec[int64]("ops.write", hit)
	case rawTx:
		return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if _, err := tx.Exec(ctx, insertOp, id); err != nil {
				return err
			}
			var n int64
			return tx.QueryRow(ctx, hit, -id).Scan(&n)
		})
	}
	insert := pgcmd.Exec[int64]("ops.insert", insertOp)
	if hit == "" {
		return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			_, err := insert.Run(ctx, tx, id)
			return err
		})
	}
	act := pgcmd.Exec[int64]("ops.act", hit)
	return s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
		if _, err := insert.Run(ctx, tx, id); err != nil {
			return err
		}
		_, err := act.Run(ctx, tx, -id)
		return err
	})
}

// body is a transaction with a body of the test's own.
func (s *stage) body(body func(ctx context.Context, tx *pgcmd.Tx, id int64) error) *pgcmd.Command[int64, int64] {
	return pgcmd.Transaction("ops.tx", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		return 1, body(ctx, tx, id)
	})
}

// healthy is the command of a column that works, unless something is done to it.
func (s *stage) healthy(c column) *pgcmd.Command[int64, int64] {
	switch c {
	case write:
		return s.command(c, insertOp)
	case commit:
		return s.command(c, "")
	}
	return s.command(c, `select $1::int8`)
}

// evaluate is the command of a column in which PostgreSQL evaluates an expression, of type int8: at COMMIT, where the
// column says so.
func (s *stage) evaluate(c column, expression string) *pgcmd.Command[int64, int64] {
	act := "'select " + strings.ReplaceAll(expression, "'", "''") + "'"
	switch c {
	case write:
		return s.command(c, `insert into ops select $1::int8 + 0 * `+expression)
	case atSync:
		return s.command(c, `with op as (insert into ops values ($1)) insert into later values ($1, `+act+`)`)
	case commit:
		return s.command(c, `insert into later values ($1, `+act+`)`)
	}
	return s.command(c, `select $1::int8 + 0 * `+expression)
}

// marker is how the statement that goes wrong is known on the wire: by the operation's id, or by being COMMIT.
func (c column) marker(id int64) []byte {
	switch c {
	case commit:
		return []byte("commit\x00")
	case inTx, rawTx:
		id = -id
	}
	return binary.BigEndian.AppendUint64(nil, uint64(id))
}

// What of an exchange is hit.
type moment int

const (
	request moment = iota // the first message: nothing of it gets through
	sent                  // the last message of the request
	answer                // the message that ends the answer: the work is done
)

// at lets an action happen to the statement that goes wrong.
func (s *stage) at(c column, id int64, when moment, action faults.Action) {
	marker := c.marker(id)
	first := &faults.Fault{Action: action, Match: func(typ byte, body []byte) bool {
		return (typ == 'Q') == (c == commit) && (typ == 'B' || typ == 'Q') && strings.Contains(string(body), string(marker))
	}}
	then := &faults.Fault{Action: action}
	switch {
	case when == answer:
		then.Direction = faults.Backend
		then.Match = func(typ byte, _ []byte) bool { return typ == 'Z' }
	case when == sent && c != commit:
		then.Match = func(typ byte, _ []byte) bool { return typ == 'S' }
	default:
		s.proxy.Set(first)
		return
	}
	first.Action = faults.Call(func() { s.proxy.Set(then) })
	s.proxy.Set(first)
}

// hit is a play in which an action happens to a command that would work.
func hit(when moment, action func(s *stage) faults.Action) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.healthy(c), arm: func(_ *pgxpool.Pool, id int64) { s.at(c, id, when, action(s)) }}
	}
}

// does is hit for an action that needs no stage.
func does(when moment, action faults.Action) func(s *stage, c column) play {
	return hit(when, func(*stage) faults.Action { return action })
}

// calls is hit for what happens elsewhere, which may take longer than the run: the next waits for it.
func calls(when moment, f func(s *stage)) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		var under sync.Mutex
		wait := func() {
			under.Lock()
			defer under.Unlock()
		}
		p := hit(when, func(s *stage) faults.Action {
			return faults.Call(func() {
				under.Lock()
				defer under.Unlock()
				f(s)
			})
		})(s, c)
		p.repair, p.also = wait, wait
		return p
	}
}

// raises is a play in which the server fails with an ERROR of this state.
func raises(state string) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.evaluate(c, fmt.Sprintf("fail('%s', '%s')", s.shots, state))}
	}
}

// expression is a play in which the server fails to evaluate something.
func expression(sql string) func(s *stage, c column) play {
	return func(s *stage, c column) play { return play{cmd: s.evaluate(c, sql)} }
}

// says is a play in which a pooler plays a trick.
func says(t trick) func(s *stage, c column) play {
	return func(s *stage, c column) play {
		return play{cmd: s.healthy(c), arm: func(_ *pgxpool.Pool, id int64) {
			t := t
			t.marker = c.marker(id)
			s.pooler.Play(&t)
		}}
	}
}
