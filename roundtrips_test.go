package pgcmd_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	tripsDDL   = `create table trips (id bigint not null, km int constraint trips_km_check check (km >= 0))`
	addTripSQL = `insert into trips (id, km) values ($1, $2)`
)

type trip struct {
	ID int64
	Km int `validate:"lte=40000"`
}

var (
	addTrip    = pgcmd.Exec[trip]("trips.add", `insert into trips (id, km) values (@id, @km)`)
	copyTrips  = pgcmd.Copy[trip]("trips.copy", pgx.Identifier{"trips"})
	countTrips = pgcmd.QueryOne[struct{}, int64]("trips.count", `select count(*) from trips`)
	countTo    = pgcmd.Query[int64, int64]("trips.count_to", `select generate_series(1, $1)`)
)

type someKm struct {
	ID int64
	Km *int
}

var setKm = pgcmd.Exec[someKm]("trips.set", `update trips set id = id /*? , km = @km */ where id = @id`)

// Every row of docs/roundtrips.md is counted here, on a pool of one connection on which
// each statement has been prepared, and nothing is counted that has no row.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	t.Run("without settings", func(t *testing.T) { countRoundTrips(t, nil) })
	t.Run("with settings", func(t *testing.T) {
		countRoundTrips(t, func(context.Context) ([]pgcmd.Setting, error) {
			return []pgcmd.Setting{{Name: "app.tenant", Value: "7"}, {Name: "app.user", Value: "8"}}, nil
		})
	})
}

func countRoundTrips(t *testing.T, settings func(context.Context) ([]pgcmd.Setting, error)) {
	t.Parallel()
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{MaxConns: 1, Settings: settings,
		URL: pgcmdtest.URL(t, tripsDDL, pgcmd.OnceSchema)})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)
	promised := documentedRoundTrips(t)
	for what, run := range roundTripsOf(t, pool) {
		require.NoError(t, run(t.Context()), what) // prepares
		require.NoError(t, run(t.Context()), what) // and what is prepared only once the first is there
		trips := pgcmdtest.CountRoundTrips(t, pool, func() { require.NoError(t, run(t.Context()), what) })
		want, ok := promised[what]
		if assert.True(t, ok, "%q takes %d, and has no row", what, trips) {
			assert.Equal(t, want, trips, what)
		}
		delete(promised, what)
	}
	assert.Empty(t, promised, "rows without a test")
}

// documentedRoundTrips are the rows of the table: the last column by the first.
func documentedRoundTrips(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("docs/roundtrips.md")
	require.NoError(t, err)
	promised := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \|.*\| (\d+) \|$`).FindAllStringSubmatch(string(text), -1) {
		promised[row[1]], err = strconv.Atoi(row[2])
		require.NoError(t, err)
	}
	return promised
}

func roundTripsOf(t *testing.T, pool *pgcmd.Pool) map[string]func(ctx context.Context) error {
	one, refused := trip{ID: 1, Km: 7}, trip{ID: 1, Km: -1}
	inTx := func(body func(ctx context.Context, tx *pgcmd.Tx) error) *pgcmd.Command[trip, int64] {
		return pgcmd.Transaction("trips.tx", func(ctx context.Context, tx *pgcmd.Tx, _ trip) (int64, error) { return 0, body(ctx, tx) })
	}
	run := func(c *pgcmd.Command[trip, int64]) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := c.Run(ctx, pool, one)
			return err
		}
	}
	tx := func(body func(ctx context.Context, tx *pgcmd.Tx) error) func(context.Context) error {
		return run(inTx(body))
	}
	three := inTx(func(ctx context.Context, tx *pgcmd.Tx) error {
		for range 3 {
			if _, err := addTrip.Run(ctx, tx, one); err != nil {
				return err
			}
		}
		return nil
	})
	threeByHand := func(ctx context.Context, tx pgx.Tx) error {
		for range 3 {
			if _, err := tx.Exec(ctx, addTripSQL, 1, 7); err != nil {
				return err
			}
		}
		return nil
	}
	stream := func(ctx context.Context, db pgcmd.DB, n int64) error {
		for _, err := range pgcmd.Stream(ctx, db, countTo, n) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	batch := func(mode pgcmd.BatchMode, bad bool) func(context.Context) error {
		trips := make([]trip, 100)
		if bad {
			trips[17].Km = -1
		}
		batch := pgcmd.Batch(addTrip, mode)
		return func(ctx context.Context) error {
			r, err := batch.Run(ctx, pool, trips)
			if bad {
				require.Error(t, r.Outcomes[17].Err)
				return nil
			}
			return err
		}
	}
	return map[string]func(ctx context.Context) error{
		"`Query`, `QueryOne`, `Exec`": run(addTrip),
		"the same by `Try`":           func(ctx context.Context) error { return pgcmd.Try(ctx, pool, addTrip, one).Err },
		"the same with optional parts, a choice, or SQL of a function": func(ctx context.Context) error {
			_, err := setKm.Run(ctx, pool, someKm{ID: 1})
			return err
		},
		"`Batch` of 100, `Atomic`, of SQL with optional parts": func(ctx context.Context) error {
			in := make([]someKm, 100)
			for i := range in {
				if i%3 == 0 {
					in[i].Km = &one.Km
				}
			}
			_, err := pgcmd.Batch(setKm, pgcmd.Atomic).Run(ctx, pool, in)
			return err
		},
		"`AdHoc`": func(ctx context.Context) error {
			_, err := pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select km from trips where id = @id limit 1`, Args: map[string]any{"id": 1}})
			return err
		},
		"a statement that the server refuses": func(ctx context.Context) error {
			_, err := addTrip.Run(ctx, pool, refused)
			require.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
			return nil
		},
		"the same by hand, with `pgxpool`": func(ctx context.Context) error {
			_, err := pool.Pool.Exec(ctx, addTripSQL, 1, -1)
			require.Error(t, err)
			return nil
		},
		"a `Transaction` whose second statement is refused": func(ctx context.Context) error {
			require.Error(t, tx(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := addTrip.Run(ctx, tx, one)
				require.NoError(t, err)
				_, err = addTrip.Run(ctx, tx, refused)
				return err
			})(ctx))
			return nil
		},
		"an input that is refused": func(ctx context.Context) error {
			_, err := three.Run(ctx, pool, trip{Km: 50_000})
			require.Error(t, err)
			return nil
		},
		"a statement `InTx`":                              run(addTrip.With(pgcmd.Options{InTx: true})),
		"a `Transaction` of three statements":             run(three),
		"the same, with a timeout and an isolation level": run(three.With(pgcmd.Options{Timeout: time.Minute, Tx: pgx.TxOptions{IsoLevel: pgx.RepeatableRead}})),
		"the same, of pgx's own calls on the `Tx`":        tx(func(ctx context.Context, tx *pgcmd.Tx) error { return threeByHand(ctx, tx) }),
		"the same by hand, with `pgx.BeginFunc`": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return threeByHand(ctx, tx) })
		},
		"a `Transaction` of two statements by `Try`": tx(func(ctx context.Context, tx *pgcmd.Tx) error {
			return errors.Join(pgcmd.Try(ctx, tx, addTrip, one).Err, pgcmd.Try(ctx, tx, addTrip, one).Err)
		}),
		"the same of two without arguments": tx(func(ctx context.Context, tx *pgcmd.Tx) error {
			return errors.Join(pgcmd.Try(ctx, tx, countTrips, struct{}{}).Err, pgcmd.Try(ctx, tx, countTrips, struct{}{}).Err)
		}),
		"a `Transaction` that sends nothing":     tx(func(context.Context, *pgcmd.Tx) error { return nil }),
		"a statement by `Once`":                  run(pgcmd.Once(addTrip, func(trip) string { return time.Now().String() })),
		"its replay":                             run(pgcmd.Once(addTrip, func(trip) string { return "the same" })),
		"`Batch` of 100, `Atomic`":               batch(pgcmd.Atomic, false),
		"`Batch` of 100, `Atomic`, one bad":      batch(pgcmd.Atomic, true),
		"`Batch` of 100, `Isolated`":             batch(pgcmd.Isolated, false),
		"`Batch` of 100, `Isolated`, one bad":    batch(pgcmd.Isolated, true),
		"`Batch` of 100, `Independent`":          batch(pgcmd.Independent, false),
		"`Batch` of 100, `Independent`, one bad": batch(pgcmd.Independent, true),
		"`Batch` of 100, `Sequential`":           batch(pgcmd.Sequential, false),
		"a `Pipeline` of three statements": func(ctx context.Context) error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, addTrip, one)
			pgcmd.Queue(&p, addTrip, one)
			pgcmd.Queue(&p, countTo, 5)
			return p.Run(ctx, pool, pgcmd.Atomic)
		},
		"the same with a `QueryOne` of a SELECT": func(ctx context.Context) error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, addTrip, one)
			pgcmd.Queue(&p, addTrip, one)
			pgcmd.Queue(&p, countTrips, struct{}{})
			return p.Run(ctx, pool, pgcmd.Atomic)
		},
		"`Copy` of any number of rows": func(ctx context.Context) error {
			_, err := copyTrips.Run(ctx, pool, pgcmd.Rows([]trip{one}))
			return err
		},
		"`Stream` of any number of rows":          func(ctx context.Context) error { return stream(ctx, pool, 10_000) },
		"`Stream` of 100 rows in a `Transaction`": tx(func(ctx context.Context, tx *pgcmd.Tx) error { return stream(ctx, tx, 100) }),
		"`Stream` of 640 rows in a `Transaction`": tx(func(ctx context.Context, tx *pgcmd.Tx) error { return stream(ctx, tx, 640) }),
	}
}
