package reliability_test

import (
	"context"
	"database/sql/driver"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

// A troubledIn takes its trouble with it, for there is no other way into a Validate method or a key function.
type troubledIn struct {
	ID  int64
	ctx context.Context
}

func (in troubledIn) Validate() error     { return at(in.ctx, "Validate") }
func (in troubledIn) Fingerprint() string { return strconv.FormatInt(in.ID, 10) }

// A troubledParameter is one that makes trouble while pgx encodes it, a troubledColumn while it is read.
type troubledParameter struct{ ctx context.Context }

func (p troubledParameter) Value() (driver.Value, error) { return int64(1), at(p.ctx, "a parameter") }

type troubledColumn struct{ ctx context.Context }

func (c *troubledColumn) Scan(any) error { return at(c.ctx, "a row") }

// troubled leaves two parts, if nothing happens.
var (
	troubled = pgcmd.Cleanup(pgcmd.OnError(pgcmd.After(pgcmd.Before(pgcmd.Transaction("trouble.tx", troubledBody).
			With(pgcmd.Options{Middleware: []pgcmd.Middleware{troubledMiddleware}}), func(ctx context.Context, _ *troubledIn) error { return at(ctx, "Before") }), func(ctx context.Context, _ troubledIn, _ *int64) error { return at(ctx, "After") }), func(ctx context.Context, _ troubledIn, _ error) error { return at(ctx, "OnError") }), func(ctx context.Context, _ troubledIn) { _ = at(ctx, "Cleanup") })
	troubledOnce = pgcmd.Once(troubled, func(in troubledIn) string {
		if at(in.ctx, "the key") != nil {
			return "" // which is refused
		}
		return strconv.FormatInt(in.ID, 10)
	})
)

func troubledMiddleware(next pgcmd.Handler) pgcmd.Handler {
	return func(ctx context.Context, call *pgcmd.Call) error {
		if err := at(ctx, "a middleware"); err != nil {
			return err
		}
		if err := next(ctx, call); err != nil {
			return err
		}
		return at(ctx, "a middleware at the end")
	}
}

func troubledBody(ctx context.Context, tx *pgcmd.Tx, in troubledIn) (int64, error) {
	tx.AfterCommit(func(ctx context.Context) { _ = at(ctx, committing) })
	if err := at(ctx, "the body"); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `insert into ops values ($1, $2)`, in.ID, troubledParameter{ctx}); err != nil {
		return 0, err
	}
	if err := at(ctx, "between statements"); err != nil {
		return 0, err
	}
	if err := tx.QueryRow(ctx, `insert into ops values ($1, 2) returning part`, in.ID).Scan(&troubledColumn{ctx}); err != nil {
		return 0, err
	}
	if err := troubledReading(ctx, tx); err != nil {
		return 0, err
	}
	if err := troubledNesting(ctx, tx, in); err != nil {
		return 0, err
	}
	if tr, _ := ctx.Value(troubleKey{}).(*trouble); tr != nil && tr.stage == "OnError" {
		return 0, errBody
	}
	return 2, nil
}

func troubledReading(ctx context.Context, tx *pgcmd.Tx) error {
	rows, err := tx.Query(ctx, `select n from generate_series(1, 1000) n`)
	if err != nil {
		return err
	}
	rows.Next()
	if err := at(ctx, "open rows"); err != nil {
		return err
	}
	rows.Close()
	batch := &pgx.Batch{}
	batch.Queue(`select 1`)
	batch.Queue(`select 2`)
	results := tx.SendBatch(ctx, batch)
	if err := at(ctx, "an open batch"); err != nil {
		return err
	}
	return results.Close()
}

func troubledNesting(ctx context.Context, tx *pgcmd.Tx, in troubledIn) error {
	inner := func(stage string) *pgcmd.Command[troubledIn, int64] {
		return pgcmd.Transaction("trouble.inner", func(ctx context.Context, tx *pgcmd.Tx, in troubledIn) (n int64, err error) {
			if err := tx.QueryRow(ctx, `select count(*) from ops where id = $1`, in.ID).Scan(&n); err != nil {
				return 0, err
			}
			return n, at(ctx, stage)
		})
	}
	if _, err := inner("a nested command").Run(ctx, tx, in); err != nil {
		return err
	}
	if err := pgcmd.Try(ctx, tx, inner("a command that is tried"), in).Err; err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
		if _, err := nested.Exec(ctx, `select 1`); err != nil {
			return err
		}
		return at(ctx, "a savepoint")
	})
}
