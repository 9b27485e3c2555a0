// Package faultcompare runs the same inserts under the same faults with pgx by hand, with the helpers that people use for it,
// and with pgcmd, and counts the inserts that were lost, duplicated or reported wrongly.
package faultcompare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	workers   = 8
	rate      = 0.002 // of all messages
	attempts  = 5
	insertSQL = `insert into ops values ($1)`
)

// A peer applies the operation id once, as the users of that library write it.
type peer struct {
	name  string
	apply func(ctx context.Context, id int64) error
}

var (
	insert = pgcmd.Transaction("ops.insert", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		tag, err := tx.Exec(ctx, insertSQL, id)
		return tag.RowsAffected(), err
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: attempts}})
	insertOnce = pgcmd.Once(insert, func(id int64) string { return strconv.FormatInt(id, 10) })
)

// retry is the loop that most services have.
func retry(ctx context.Context, f func() error) (err error) {
	for range attempts {
		if err = f(); err == nil || !pgconn.SafeToRetry(err) && !isSerializationFailure(err) {
			return err
		}
	}
	return err
}

func isSerializationFailure(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "40001"
}

func peers(pool *pgcmd.Pool) []peer {
	plain := pool.Pool
	db := stdlib.OpenDBFromPool(plain)
	return []peer{
		{"pgx by hand, retry on SafeToRetry", func(ctx context.Context, id int64) error {
			return retry(ctx, func() error {
				tx, err := plain.Begin(ctx)
				if err != nil {
					return err
				}
				defer tx.Rollback(ctx)
				if _, err := tx.Exec(ctx, insertSQL, id); err != nil {
					return err
				}
				return tx.Commit(ctx)
			})
		}},
		{"pgx.BeginFunc, retry on SafeToRetry", func(ctx context.Context, id int64) error {
			return retry(ctx, func() error {
				return pgx.BeginFunc(ctx, plain, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, insertSQL, id)
					return err
				})
			})
		}},
		{"crdbpgxv5.ExecuteTx", func(ctx context.Context, id int64) error {
			return crdbpgx.ExecuteTx(ctx, plain, pgx.TxOptions{}, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, insertSQL, id)
				return err
			})
		}},
		{"database/sql, one Exec", func(ctx context.Context, id int64) error {
			_, err := db.ExecContext(ctx, insertSQL, id)
			return err
		}},
		{"pgcmd, Retry", func(ctx context.Context, id int64) error {
			_, err := insert.Run(ctx, pool, id)
			return err
		}},
		{"pgcmd, Retry and Once", func(ctx context.Context, id int64) error {
			_, err := insertOnce.Run(ctx, pool, id)
			return err
		}},
	}
}

// Run starts a server, runs so many operations with each peer, and writes the table to out.
func Run(ctx context.Context, operations int, out io.Writer) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, `create table ops (id bigint not null)`, pgcmd.OnceSchema)
	if err != nil {
		return err
	}
	direct, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer direct.Close()
	proxy, err := faults.Start(url)
	if err != nil {
		return err
	}
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: workers})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	fmt.Fprintf(out, "%d inserts each, %d workers, %g%% of messages cut\n\n", operations, workers, rate*100)
	fmt.Fprintln(out, "| | acknowledged | duplicated | lost | failed | of which applied | told not applied, falsely |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	for i, p := range peers(pool) {
		proxy.Random(rate, 1, faults.CutBefore, faults.CutAfter, faults.Reset)
		first, errs := int64(i*operations), make([]error, operations)
		work(ctx, p, first, errs)
		proxy.Heal()
		line, err := count(ctx, direct, first, errs)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| %s %s", p.name, line)
	}
	return nil
}

// work applies the operations from first on, and fills errs with what each returned.
func work(ctx context.Context, p peer, first int64, errs []error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(errs)); i = next.Add(1) - 1 {
				errs[i] = p.apply(ctx, first+i)
			}
		})
	}
	wg.Wait()
}

// count compares the errors that the callers got with the rows that are there, and returns the rest of the peer's line.
func count(ctx context.Context, direct *pgxpool.Pool, first int64, errs []error) (string, error) {
	// Statements of lost connections may still be running.
	for busy := 1; busy > 0; {
		if err := direct.QueryRow(ctx, `select count(*) from pg_stat_activity
			where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`).Scan(&busy); err != nil {
			return "", err
		}
	}
	there := make([]int, len(errs))
	rows, err := direct.Query(ctx, `select id - $1, count(*) from ops where id >= $1 and id < $1 + $2 group by id`, first, len(errs))
	if err != nil {
		return "", err
	}
	var id, n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = n; return nil }); err != nil {
		return "", err
	}
	var acknowledged, duplicated, lost, failed, applied, falsely int
	for i, err := range errs {
		if there[i] > 1 {
			duplicated++
		}
		switch {
		case err == nil && there[i] == 0:
			lost++
		case err == nil:
			acknowledged++
		default:
			failed++
			applied += min(1, there[i])
			if pgcmd.EffectOf(err) == pgcmd.NotApplied && there[i] > 0 {
				falsely++
			}
		}
	}
	return fmt.Sprintf("| %d | %d | %d | %d | %d | %d |\n", acknowledged, duplicated, lost, failed, applied, falsely), nil
}
