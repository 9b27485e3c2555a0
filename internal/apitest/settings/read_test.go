package settings_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// eachWay runs a test in every way, with settings.
func eachWay(t *testing.T, run func(t *testing.T, ctx context.Context, pool *pgcmd.Pool), change ...func(*pgcmd.Config)) {
	t.Helper()
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, as(t.Context(), "red"), connect(t, w, change...))
		})
	}
}

func usable(t *testing.T, ctx context.Context, pool *pgcmd.Pool) {
	t.Helper()
	seen, err := who.Run(ctx, pool, none{})
	require.NoError(t, err)
	assert.Equal(t, "red", seen)
	require.Zero(t, pool.Stat().AcquiredConns())
}

// What stops a reading early stops it behind settings, too.
func TestReadingIsStopped(t *testing.T) {
	t.Parallel()
	numbers := pgcmd.Query[int, int]("numbers", `select n from generate_series(1, $1) n`)
	texts := pgcmd.Query[int, string]("texts", `select repeat('x', $1) from generate_series(1, 3)`)
	eachWay(t, func(t *testing.T, ctx context.Context, pool *pgcmd.Pool) {
		for range 2 {
			for _, o := range []pgcmd.Options{{}, {ReadOnly: true}, {InTx: true}} {
				_, err := numbers.With(o).With(pgcmd.Options{MaxRows: 3}).Run(ctx, pool, 2000)
				assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
				usable(t, ctx, pool)
				_, err = texts.With(o).With(pgcmd.Options{MaxBytes: 30_000}).Run(ctx, pool, 20_000)
				assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
				usable(t, ctx, pool)
				all, err := texts.With(o).With(pgcmd.Options{MaxBytes: 90_000}).Run(ctx, pool, 20_000)
				require.NoError(t, err)
				assert.Len(t, all, 3)
			}
			for n, err := range pgcmd.Stream(ctx, pool, numbers.With(pgcmd.Options{ReadOnly: true}), 100_000) {
				require.NoError(t, err)
				if n == 1000 {
					break
				}
			}
			usable(t, ctx, pool)
			assert.Panics(t, func() {
				for range pgcmd.Stream(ctx, pool, numbers, 1000) {
					panic("the loop")
				}
			})
			usable(t, ctx, pool)
		}
	})
}

// The end of a context stops what was sent behind settings.
func TestAContextThatEnds(t *testing.T) {
	t.Parallel()
	sleep := pgcmd.Exec[float64]("sleep", `select pg_sleep($1)`)
	eachWay(t, func(t *testing.T, ctx context.Context, pool *pgcmd.Pool) {
		for kind, c := range map[string]struct {
			c    *pgcmd.Command[float64, int64]
			want pgcmd.Effect
		}{
			"a write":       {sleep.With(pgcmd.Options{Writes: true}), pgcmd.Unknown},
			"a read":        {sleep, pgcmd.NotApplied},
			"a transaction": {sleep.With(pgcmd.Options{InTx: true}), pgcmd.NotApplied},
		} {
			_, err := c.c.Run(ctx, pool, 0) // prepares
			require.NoError(t, err, kind)
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			_, err = c.c.Run(ctx, pool, 60)
			e := failure(t, err)
			assert.Equal(t, pgcmd.CodeCanceled, e.Code, "%s: %v", kind, e)
			assert.Equal(t, c.want, e.Effect, "%s: %v", kind, e)
			_, err = c.c.Run(ctx, pool, 0)
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), kind)
		}
		usable(t, as(t.Context(), "red"), pool)
	})
}

// The copy's end by its context, a row that the server refuses, and an error of the sequence.
func TestACopyThatFails(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, ctx context.Context, pool *pgcmd.Pool) {
		count := func() (n int) {
			require.NoError(t, pool.QueryRow(ctx, `select count(*) from notes`).Scan(&n))
			return n
		}
		_, err := copyIn.Run(ctx, pool, rowsOf(note{1, 1}, note{2, -1}, note{3, 1}))
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeInvalid, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Contains(t, e.Message, "row 2")
		usable(t, ctx, pool)

		given := errors.New("the file ends")
		_, err = copyIn.Run(ctx, pool, func(yield func(note, error) bool) { _ = yield(note{1, 1}, nil) && yield(note{}, given) })
		assert.ErrorIs(t, err, given)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		usable(t, ctx, pool)

		ending, cancel := context.WithCancel(ctx)
		_, err = copyIn.Run(ending, pool, func(yield func(note, error) bool) {
			for i := int64(1); yield(note{ID: i}, nil); i++ {
				if i == 100_000 {
					cancel()
				}
			}
		})
		assert.Equal(t, pgcmd.CodeCanceled, pgcmd.CodeOf(err))
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		usable(t, ctx, pool)
		assert.PanicsWithValue(t, "the sequence", func() {
			_, _ = copyIn.Run(ctx, pool, func(func(note, error) bool) { panic("the sequence") })
		})
		usable(t, ctx, pool)
		assert.Zero(t, count())

		many := func(yield func(note, error) bool) {
			for i := range int64(50_000) {
				if !yield(note{ID: i}, nil) {
					return
				}
			}
		}
		n, err := copyIn.Run(ctx, pool, many)
		require.NoError(t, err)
		assert.EqualValues(t, 50_000, n)
		assert.Equal(t, 50_000, count())
		_, err = copyIn.Run(ctx, pool, many) // refused in the middle of the data
		assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
		usable(t, ctx, pool)
		_, err = copyIn.Run(ctx, pool, rowsOf())
		require.NoError(t, err)
	})
}

// A notice reaches the hook of pgx, and a panic of it the caller.
func TestNotices(t *testing.T) {
	t.Parallel()
	noisy := pgcmd.Query[none, int]("noisy", `select noisy()`)
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var notices atomic.Int32
			var panics atomic.Bool
			pool := connect(t, w, func(c *pgcmd.Config) {
				set := c.Pgx
				c.Pgx = func(cfg *pgxpool.Config) {
					if set != nil {
						set(cfg)
					}
					cfg.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {
						if notices.Add(1); panics.Load() {
							panic("notice")
						}
					}
				}
			})
			ctx := as(t.Context(), "red")
			for kind, run := range map[string]func() error{
				"a write":       func() error { _, err := noisy.Run(ctx, pool, none{}); return err },
				"a read":        func() error { _, err := noisy.With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, none{}); return err },
				"a transaction": func() error { _, err := noisy.With(pgcmd.Options{InTx: true}).Run(ctx, pool, none{}); return err },
				"a copy":        func() error { _, err := copyIn.Run(ctx, pool, rowsOf(note{ID: ids.Add(1), N: 7})); return err },
			} {
				notices.Store(0)
				require.NoError(t, run(), kind)
				assert.EqualValues(t, 1, notices.Load(), kind)
				panics.Store(true)
				assert.PanicsWithValue(t, "notice", func() { _ = run() }, kind)
				panics.Store(false)
				usable(t, ctx, pool)
			}
		})
	}
}

// A connection whose statements were deallocated by hand prepares them again.
func TestTheStatementOfTheSettingsIsPreparedAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"prepared statements", "a tracer"} {
		pool := connect(t, ways[name])
		ctx := as(t.Context(), "red")
		usable(t, ctx, pool)
		for _, forget := range []func(*pgxpool.Conn) error{
			func(c *pgxpool.Conn) error { return c.Conn().DeallocateAll(ctx) },
			func(c *pgxpool.Conn) error { _, err := c.Exec(ctx, `deallocate all`); return err },
		} {
			for kind, run := range kinds() {
				if strings.HasPrefix(kind, "Transaction") || strings.HasPrefix(kind, "Batch") || strings.HasPrefix(kind, "Copy") || kind == "Exec" {
					continue // they do not use it, or write
				}
				conn, err := pool.Acquire(ctx)
				require.NoError(t, err)
				require.NoError(t, forget(conn))
				conn.Release()
				for range 3 {
					if _, err = run(ctx, pool); err == nil {
						break
					}
					require.True(t, pgcmd.EffectOf(err) == pgcmd.NotApplied || strings.HasPrefix(kind, "New"), "%s: %v", kind, err)
				}
				require.NoError(t, err, kind)
			}
		}
	}
}

// However few statements a connection may keep, that of the settings is there when it is needed, and what is evicted is
// deallocated.
func TestASmallStatementCache(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 3} {
		pool := connect(t, ways["prepared statements"], func(c *pgcmd.Config) {
			c.Pgx = func(c *pgxpool.Config) { c.ConnConfig.StatementCacheCapacity = capacity }
		})
		ctx := as(t.Context(), "red")
		for range 3 {
			var p pgcmd.Pipeline
			var results []*pgcmd.Result[string]
			for i := range 10 {
				c := pgcmd.QueryOne[none, string]("who", fmt.Sprintf(`select tenant() as t%d`, i))
				seen, err := c.Run(ctx, pool, none{})
				require.NoError(t, err)
				require.Equal(t, "red", seen)
				results = append(results, pgcmd.Queue(&p, c, none{}))
			}
			require.NoError(t, p.Run(ctx, pool, pgcmd.Independent))
			for _, r := range results {
				seen, err := r.Get()
				require.NoError(t, err)
				require.Equal(t, "red", seen)
			}
			usable(t, ctx, pool)
		}
		_, err := pgcmd.QueryOne[none, int]("one", `select 1`).Run(ctx, pool, none{}) // deallocates
		require.NoError(t, err)
		var prepared int
		require.NoError(t, pool.QueryRow(ctx, `select count(*) from pg_prepared_statements where name like 'pgcmd%'`, pgx.QueryExecModeExec).Scan(&prepared))
		assert.LessOrEqual(t, prepared, capacity+1)
	}
}

// Verify runs for no caller, so that it needs no settings: Config.Settings is not called.
func TestVerifyHasNoSettings(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Settings: func(context.Context) ([]pgcmd.Setting, error) {
		return nil, errors.New("no tenant")
	}}, ddl)
	pgcmdtest.VerifyOn(t, pool, add, copyIn)
	_, err := copyIn.Run(t.Context(), pool, pgcmd.Rows([]note{{ID: 1}}))
	require.Equal(t, pgcmd.CodeFailed, pgcmd.CodeOf(err), "a copy has settings")
}
