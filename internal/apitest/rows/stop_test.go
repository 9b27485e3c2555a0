package rows_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var errUnreadable = errors.New("unreadable")

// unreadable is a row that cannot be read.
type unreadable struct{ V int }

func (u *unreadable) ScanRow(pgx.Rows) error { return errUnreadable }

// panicky blows up in ScanRow, from its second row on.
type panicky struct{ V int64 }

func (p *panicky) ScanRow(rows pgx.Rows) error {
	if err := rows.Scan(&p.V); err != nil {
		return err
	}
	if p.V == 2 {
		panic("boom")
	}
	return nil
}

// leaving ends its goroutine in ScanRow.
type leaving struct{ V int64 }

func (p *leaving) ScanRow(rows pgx.Rows) error {
	if err := rows.Scan(&p.V); err != nil {
		return err
	}
	if p.V == 2 {
		runtime.Goexit()
	}
	return nil
}

// panickyValue and leavingValue do so as sql.Scanners, and panickyInt as one of pgx's.
type panickyValue struct{ v int64 }

func (p *panickyValue) Scan(src any) error {
	if p.v = src.(int64); p.v == 2 {
		panic("boom")
	}
	return nil
}

type leavingValue struct{ v int64 }

func (p *leavingValue) Scan(src any) error {
	if p.v = src.(int64); p.v == 2 {
		runtime.Goexit()
	}
	return nil
}

type panickyInt struct{ v int64 }

func (p *panickyInt) ScanInt64(v pgtype.Int8) error {
	if p.v = v.Int64; p.v == 2 {
		panic("boom")
	}
	return nil
}

// within runs f in a goroutine of its own, and tells how it ended.
func within(f func()) (ended string) {
	done := make(chan string, 1)
	go func() {
		ended := "goexit"
		defer func() {
			if reason := recover(); reason != nil {
				ended = fmt.Sprint("panic: ", reason)
			}
			done <- ended
		}()
		f()
		ended = "returned"
	}()
	return <-done
}

func ending[Row any](t *testing.T, want string, row string) {
	t.Run(row, func(t *testing.T) {
		t.Parallel()
		const sql = `insert into w select $1, i from generate_series(1, 3) i returning i::bigint as v`
		url := pgcmdtest.URL(t, taggedDDL)
		pool, look := connect(t, url, func(c *pgcmd.Config) { c.MaxConns = 1 }), observer(t, url)
		raw, err := pgxpool.New(t.Context(), url+"&pool_max_conns=1")
		require.NoError(t, err)
		defer raw.Close()
		many := pgcmd.Query[int, Row]("many", sql)
		one := pgcmd.QueryOne[int, Row]("one", `insert into w values ($1, 2) returning i::bigint as v`)
		reads := pgcmd.Query[int, Row]("reads", `select i::bigint as v from generate_series(1, $1 + 100000) i`)
		clean := pgcmd.Exec[int]("clean", `insert into w values ($1, 1)`)
		all := map[string]func(ctx context.Context, db pgcmd.DB){
			"Query":    func(ctx context.Context, db pgcmd.DB) { _, _ = many.Run(ctx, db, 1) },
			"QueryOne": func(ctx context.Context, db pgcmd.DB) { _, _ = one.Run(ctx, db, 1) },
			"a read":   func(ctx context.Context, db pgcmd.DB) { _, _ = reads.Run(ctx, db, 1) },
			"Stream": func(ctx context.Context, db pgcmd.DB) {
				for range pgcmd.Stream(ctx, db, many, 1) {
				}
			},
			"InTx": func(ctx context.Context, db pgcmd.DB) { _, _ = many.With(pgcmd.Options{InTx: true}).Run(ctx, db, 1) },
			"Try":  func(ctx context.Context, db pgcmd.DB) { pgcmd.Try(ctx, db, many, 1) },
			"Pipeline": func(ctx context.Context, db pgcmd.DB) {
				p := new(pgcmd.Pipeline)
				pgcmd.Queue(p, clean, 1)
				pgcmd.Queue(p, many, 1)
				pgcmd.Queue(p, clean, 1)
				_ = p.Run(ctx, db, pgcmd.Atomic)
			},
		}
		for mode, batch := range batches(many) {
			all["Batch "+mode.String()] = func(ctx context.Context, db pgcmd.DB) { _, _ = batch.Run(ctx, db, []int{1, 1, 1}) }
		}
		for name, run := range all {
			require.Equal(t, want, within(func() { run(t.Context(), pool) }), name)
			usable(t, pool)
			require.Equal(t, want, within(func() { run(t.Context(), raw) }), "%s, pgxpool", name)
			var n int
			require.NoError(t, raw.QueryRow(t.Context(), `select 7`).Scan(&n), name)
			require.Equal(t, 7, n, name)
			if name == "Batch independent" || name == "Batch sequential" {
				continue // cannot join a transaction
			}
			there(t, look, "w")
			tx := pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, _ int) (int, error) {
				if _, err := clean.Run(ctx, tx, 1); err != nil {
					return 0, err
				}
				run(ctx, tx)
				return 0, nil
			})
			require.Equal(t, want, within(func() { _, _ = tx.Run(t.Context(), pool, 0) }), "%s, in a transaction", name)
			assert.Empty(t, there(t, look, "w"), "%s: rolled back", name)
			usable(t, pool)

			// A body that catches it can go on.
			caught := pgcmd.Transaction("caught", func(ctx context.Context, tx *pgcmd.Tx, _ int) (n int, err error) {
				func() {
					defer func() { _ = recover() }()
					run(ctx, tx)
				}()
				_, err = clean.Run(ctx, tx, 5)
				if err != nil {
					return 0, err
				}
				return n, tx.QueryRow(ctx, `select 7`).Scan(&n)
			})
			if want == "goexit" {
				continue
			}
			got, err := caught.Run(t.Context(), pool, 0)
			if name != "Stream" && name != "Pipeline" && name != "Batch atomic" && name != "Batch isolated" {
				require.NoError(t, err, name)
				assert.Equal(t, 7, got, name)
			}
			found := there(t, look, "w")
			assert.Equal(t, err == nil, found[5] == 1, "%s: %v", name, err)
			usable(t, pool)
		}
	})
}

func TestARunThatEndsWhileARowIsScannedLeavesEverythingInStep(t *testing.T) {
	t.Parallel()
	ending[panicky](t, "panic: boom", "a panic in ScanRow")
	ending[leaving](t, "goexit", "Goexit in ScanRow")
	ending[panickyValue](t, "panic: boom", "a panic in a sql.Scanner")
	ending[leavingValue](t, "goexit", "Goexit in a sql.Scanner")
	ending[struct{ V panickyValue }](t, "panic: boom", "a panic in a field")
	ending[panickyInt](t, "panic: boom", "a panic in a scanner of pgx")
}

func TestAReadThatCannotBeScannedIsBrokenOff(t *testing.T) {
	t.Parallel()
	const rows, most = 20_000_000, 4_000_000
	proxy, err := faults.Start(pgcmdtest.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool := connect(t, proxy.URL(), nil)
	raw, err := pgxpool.New(t.Context(), proxy.URL())
	require.NoError(t, err)
	t.Cleanup(raw.Close)
	conn, err := pgx.Connect(t.Context(), proxy.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	const sql = `select generate_series(1, $1::int) as v`
	for name, db := range map[string]pgcmd.DB{"Pool": pool, "pgxpool.Pool": raw, "pgx.Conn": conn} {
		for _, readOnly := range []bool{false, true} {
			o := pgcmd.Options{ReadOnly: readOnly, Writes: !readOnly}
			for kind, run := range map[string]func() error{
				"scans itself": func() error {
					_, err := pgcmd.Query[int, unreadable]("q", sql).With(o).Run(t.Context(), db, rows)
					return err
				},
				"a map": func() error {
					_, err := pgcmd.Query[int, map[string]any]("q", `select generate_series(1, $1::int) as v, 1 as v`).With(o).Run(t.Context(), db, rows)
					return err
				},
				"QueryOne": func() error {
					_, err := pgcmd.QueryOne[int, unreadable]("q", sql).With(o).Run(t.Context(), db, rows)
					return err
				},
				"a panic": func() error {
					assert.Equal(t, "panic: boom", within(func() {
						_, _ = pgcmd.Query[int, panicky]("q", `select generate_series(1, $1::bigint) as v`).With(o).Run(t.Context(), db, rows)
					}))
					return nil
				},
			} {
				what := fmt.Sprintf("%s, %s, ReadOnly %v", name, kind, readOnly)
				before := proxy.Counts().Backend
				err := run()
				assert.Less(t, proxy.Counts().Backend-before, int64(most), "%s: messages of the server", what)
				var n int
				require.NoError(t, db.QueryRow(t.Context(), `select 7`).Scan(&n), what)
				require.Equal(t, 7, n, what)
				switch {
				case kind == "a panic":
				case readOnly:
					assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect, what)
				default: // it might call a function that writes
					assert.Equal(t, pgcmd.Unknown, failure(t, err).Effect, what)
				}
			}
		}
	}
	usable(t, pool)
}

// stepping reads more than the row that it was given, and closing less.
type stepping struct{ V int }

func (s *stepping) ScanRow(rows pgx.Rows) error {
	rows.Next()
	return rows.Err()
}

type closing struct{ V int }

func (c *closing) ScanRow(rows pgx.Rows) error {
	defer rows.Close()
	return rows.Scan(&c.V)
}

// nested leaves the row to another type that scans itself.
type nested struct{ Inner closing }

func (n *nested) ScanRow(rows pgx.Rows) error { return rows.Scan(&n.Inner) }

// looking uses the rest of what pgx.Rows has.
type looking struct {
	Name  string
	Raw   string
	Value any
	Typed bool
}

func (l *looking) ScanRow(rows pgx.Rows) error {
	l.Name, l.Raw = rows.FieldDescriptions()[0].Name, fmt.Sprint(len(rows.RawValues()))
	_, l.Typed = rows.TypeMap().TypeForName("int4")
	values, err := rows.Values()
	if err == nil {
		l.Value = values[0]
	}
	return err
}

func TestARowTypeThatScansItselfIsGivenOneRow(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.URL(t), func(c *pgcmd.Config) { c.Multiplex = 1 })
	const sql = `select i as v from generate_series(1, 5) i`
	for _, readOnly := range []bool{false, true} {
		o := pgcmd.Options{ReadOnly: readOnly, Writes: !readOnly}
		_, err := pgcmd.Query[struct{}, stepping]("q", sql).With(o).Run(t.Context(), pool, struct{}{})
		assert.Contains(t, failure(t, err).Message, "it called Next")
		closed, err := pgcmd.Query[struct{}, closing]("q", sql).With(o).Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
		assert.Equal(t, []closing{{1}, {2}, {3}, {4}, {5}}, closed, "closing the row skips none")
		inner, err := pgcmd.Query[struct{}, nested]("q", sql).With(o).Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
		assert.Equal(t, nested{closing{5}}, inner[4])
		seen, err := pgcmd.QueryOne[struct{}, looking]("q", `select 1 as v`).With(o).Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
		assert.Equal(t, looking{"v", "1", int32(1), true}, seen)
		// Two columns, and Scan is given one target.
		_, err = pgcmd.Query[struct{}, small]("q", `select 1 as v, 2 as w`).With(o).Run(t.Context(), pool, struct{}{})
		assert.ErrorContains(t, failure(t, err).Err, "2 columns")
	}
	usable(t, pool)
}
