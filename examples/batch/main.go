// Batch imports a file into a table in four ways, and prints their times side by
// side: a command a row, batches of independent items, atomic batches, and COPY. The
// file is pgbench_accounts as pgbench fills it, a million rows, written by COPY ... TO
// on a PostgreSQL that the program starts for itself.
//
//	go run ./examples/batch [-rows 1000000]
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// An Account is a row of pgbench_accounts.
type Account struct {
	Aid      int `validate:"gt=0"`
	Bid      int
	Abalance int
	Filler   string
}

const schema = `create table imported (aid int primary key, bid int, abalance int, filler char(84))`

var (
	add    = pgcmd.Exec[Account]("accounts.add", `insert into imported values (@aid, @bid, @abalance, @filler)`)
	load   = pgcmd.Copy[Account]("accounts.load", pgx.Identifier{"imported"})
	total  = pgcmd.QueryOne[struct{}, int]("accounts.total", `select count(*) from imported`)
	forget = pgcmd.Exec[struct{}]("accounts.forget", `truncate imported`)
)

func main() {
	rows := flag.Int("rows", 1_000_000, "how many rows the file has")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *rows); err != nil {
		fmt.Fprintln(os.Stderr, "batch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, rows int) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	folder, err := os.MkdirTemp("", "pgcmd-batch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "accounts.tsv")
	if err := export(ctx, pool, file, rows); err != nil {
		return err
	}

	ways := []way{
		{name: "a command a row", run: oneByOne},
		{name: "Batch, Independent", run: batches(pgcmd.Independent)},
		{name: "Batch, Atomic", run: batches(pgcmd.Atomic)},
		{name: "Copy", run: copied},
	}
	for i := range ways {
		if err := ways[i].time(ctx, pool, file, rows, newBar(out, ways[i].name, rows)); err != nil {
			return err
		}
	}
	slowest := slices.MaxFunc(ways, func(a, b way) int { return int(a.took - b.took) }).took
	fmt.Fprintf(out, "%-20s %10s %12s %8s\n", "", "seconds", "rows/second", "times")
	for _, w := range ways {
		fmt.Fprintf(out, "%-20s %10.2f %12.0f %8.1f\n", w.name, w.took.Seconds(), float64(rows)/w.took.Seconds(), float64(slowest)/float64(w.took))
	}
	return nil
}

// export writes the file: pgbench_accounts, filled as pgbench -i does.
func export(ctx context.Context, pool *pgcmd.Pool, file string, rows int) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = conn.Conn().PgConn().CopyTo(ctx, f, fmt.Sprintf(
		`copy (select aid, (aid - 1) / 100000 + 1, 0, ''::char(84) from generate_series(1, %d) aid) to stdout`, rows))
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}

// accounts reads the file, row by row.
func accounts(file string) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield(Account{}, err)
			return
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			a, err := parse(lines.Text())
			if err != nil {
				err = pgcmd.Errorf(pgcmd.CodeInvalid, "line %d is not an account: %w", n, err)
			}
			if !yield(a, err) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Account{}, err)
		}
	}
}

func parse(line string) (a Account, err error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 4 {
		return a, errors.New("it has not 4 fields")
	}
	for i, to := range []*int{&a.Aid, &a.Bid, &a.Abalance} {
		if *to, err = strconv.Atoi(fields[i]); err != nil {
			return a, err
		}
	}
	a.Filler = fields[3]
	return a, nil
}

// A way is one of the ways to import the file.
type way struct {
	name string
	run  func(ctx context.Context, pool *pgcmd.Pool, file string, b *bar) error
	took time.Duration
}

func (w *way) time(ctx context.Context, pool *pgcmd.Pool, file string, rows int, b *bar) error {
	if _, err := forget.Run(ctx, pool, struct{}{}); err != nil {
		return err
	}
	start := time.Now()
	if err := w.run(ctx, pool, file, b); err != nil {
		return err
	}
	w.took = time.Since(start)
	b.end()
	if n, err := total.Run(ctx, pool, struct{}{}); err != nil || n != rows {
		return fmt.Errorf("%s: %d of %d rows were imported: %w", w.name, n, rows, err)
	}
	return nil
}

func oneByOne(ctx context.Context, pool *pgcmd.Pool, file string, b *bar) error {
	done := 0
	for a, err := range accounts(file) {
		if err != nil {
			return err
		}
		if _, err := add.Run(ctx, pool, a); err != nil {
			return err
		}
		done++
		b.show(done)
	}
	return nil
}

// batches imports 10,000 rows at a time.
func batches(mode pgcmd.BatchMode) func(context.Context, *pgcmd.Pool, string, *bar) error {
	return func(ctx context.Context, pool *pgcmd.Pool, file string, b *bar) error {
		done := 0
		batch := pgcmd.Batch(add, mode).With(pgcmd.Options{Progress: func(n, _ int) { b.show(done + n) }})
		var items []Account
		flush := func() error {
			r, err := batch.Run(ctx, pool, items)
			if err != nil {
				return err
			}
			done, items = done+len(items), items[:0]
			return r.Err() // of the items that failed, each with its number
		}
		for a, err := range accounts(file) {
			if err != nil {
				return err
			}
			if items = append(items, a); len(items) == 10_000 {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return flush()
	}
}

func copied(ctx context.Context, pool *pgcmd.Pool, file string, b *bar) error {
	_, err := load.With(pgcmd.Options{Progress: func(done, _ int) { b.show(done) }}).Run(ctx, pool, accounts(file))
	return err
}
