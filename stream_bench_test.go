package pgcmd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// A measured is a row of the benchmark: four columns of usual types.
type measured struct {
	ID    int64
	Label string
	Value float64
	Taken time.Time
}

const (
	measuredSQL  = `select id, label, value, taken from measured where id <= $1`
	measuredDDL  = `create table measured as select n::int8 as id, 'sensor ' || n as label, n / 7.0::float8 as value, now() as taken from generate_series(1, 200000) n; analyze measured`
	measuredRows = 200_000
)

var measureAll = pgcmd.Query[int64, measured]("bench.measured", measuredSQL)

// BenchmarkStream compares a Stream with the loop that a person would write with pgx,
// which has the connection, or the transaction, to itself.
func BenchmarkStream(b *testing.B) {
	ctx := context.Background()
	for _, rtt := range roundTrips {
		b.Run(fmt.Sprintf("rtt %v", rtt), func(b *testing.B) {
			pool, err := pgxpool.New(ctx, delayed(b, rtt, measuredDDL))
			require.NoError(b, err)
			defer pool.Close()
			benchmarkStream(ctx, b, pool)
		})
	}
}

func benchmarkStream(ctx context.Context, b *testing.B, pool *pgxpool.Pool) {
	stream := func(db pgcmd.DB) error {
		n := 0
		var sum float64
		for row, err := range pgcmd.Stream(ctx, db, measureAll, measuredRows) {
			if err != nil {
				return err
			}
			sum += row.Value
			n++
		}
		return expect(nil, n == measuredRows && sum > 0)
	}
	byHand := func(db pgcmd.DB) error {
		rows, err := db.Query(ctx, measuredSQL, measuredRows)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		var sum float64
		for rows.Next() {
			var row measured
			if err := rows.Scan(&row.ID, &row.Label, &row.Value, &row.Taken); err != nil {
				return err
			}
			sum += row.Value
			n++
		}
		return expect(rows.Err(), n == measuredRows && sum > 0)
	}
	b.Run("on a pool", func(b *testing.B) {
		paired(b, 1, func() error { return stream(pool) }, func() error { return byHand(pool) })
	})
	b.Run("in a transaction", func(b *testing.B) {
		require.NoError(b, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			paired(b, 1, func() error { return stream(tx) }, func() error { return byHand(tx) })
			return nil
		}))
	})
}
