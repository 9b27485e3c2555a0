package reliability_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

// A small is a row that reads itself, and cannot read 100000: the first row that unreadable returns.
type small struct{ n int16 }

func (s *small) ScanRow(rows pgx.Rows) error { return rows.Scan(&s.n) }

const (
	unreadableThenFails = `select unreadable(@id, 1, n, true) from generate_series(1, 3) n`
	unreadable          = `select unreadable(@id, 1, n, false) from generate_series(1, 3) n`
)

// isUnreadable reports whether the rows were there, and the client could not read them.
func isUnreadable(err error) bool { return pgcmd.CodeOf(err) == pgcmd.CodeInternal }

// unreadableWorks are works whose rows the client cannot read. What the server says after them decides.
var unreadableWorks = []work{
	{name: "rows that cannot be read", unit: byExecute, parts: 1, fails: isUnreadable,
		run: of(pgcmd.Query[op, small]("works.unreadable", unreadable))},
	{name: "a row that cannot be read", unit: byExecute, parts: 1, fails: isUnreadable,
		run: of(pgcmd.QueryOne[op, small]("works.unreadable", `insert into ops values (@id, 1) returning 100000`))},
	{name: "rows that cannot be read, and an error of the server", unit: byExecute, fails: failsWith("23514"),
		run: of(pgcmd.Query[op, small]("works.unreadable", unreadableThenFails))},
	{name: "a row that cannot be read, and an error of the server", unit: byExecute, fails: failsWith("23514"),
		run: of(pgcmd.QueryOne[op, small]("works.unreadable", unreadableThenFails))},
	{name: "rows that cannot be read, and a constraint at the end", unit: byExecute, fails: failsWith("23505"),
		run: of(pgcmd.Query[op, small]("works.unreadable", `insert into late values (@id), (@id) returning 100000`))},
	{name: "rows that cannot be read, in a transaction of its own", unit: byCommit, fails: isUnreadable,
		run: of(pgcmd.Query[op, small]("works.unreadable", unreadable).With(pgcmd.Options{InTx: true}))},
	{name: "a body that swallows rows that cannot be read and an error of the server", unit: byCommit, fails: failsWith("23514"),
		run: of(transaction("swallows-unreadable", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			_, _ = pgcmd.Query[op, small]("works.unreadable", unreadableThenFails).Run(ctx, tx, in)
			return 1, nil
		}))},
	{name: "rows that cannot be read, tried in a transaction", unit: byCommit, parts: 2, value: 2,
		run: of(transaction("tries-unreadable", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			tried := pgcmd.Try(ctx, tx, pgcmd.Query[op, small]("works.unreadable", unreadableThenFails), in)
			if !failsWith("23514")(tried.Err) {
				return 0, fmt.Errorf("%w: %w", errBody, tried.Err)
			}
			return pick.Run(ctx, tx, part{in.ID, 2})
		}))},
}

// unreadableLoads are loads whose bad item returns what cannot be read before the server refuses it.
func unreadableLoads() (all []load) {
	rows := pgcmd.Query[part, small]("ops.unreadable", `select unreadable(@id, @part, n, @part < 0, @part > 0) from generate_series(1, 3) n`)
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		all = append(all, load{
			name:   fmt.Sprintf("%v batch with an item that cannot be read and that the server refuses", mode),
			united: mode == pgcmd.Isolated || mode == pgcmd.Atomic,
			keeps:  mode == pgcmd.Isolated,
			bad:    2,
			run: func(ctx context.Context, db pgcmd.DB, items []part, o pgcmd.Options) []error {
				r, _ := pgcmd.Batch(rows, mode).With(o).Run(ctx, db, items)
				return errorsOf(r)
			},
		})
	}
	return all
}
