package pgcmd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// BenchmarkMultiplex compares ReadOnly commands on shared connections with the same query by
// hand on a pgxpool of ten, in turns, without delay and at a round trip of 1 ms.
func BenchmarkMultiplex(b *testing.B) {
	ctx := context.Background()
	for _, rtt := range []time.Duration{0, time.Millisecond} {
		url := delayed(b, rtt, workload.DDL)
		hand := workload.Hand{DB: plainPool(b, url)}
		for _, conns := range []int{2, 10} {
			pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 10, Multiplex: conns})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, pool.Close(ctx)) })
			for _, goroutines := range []int{10, 100, 400} {
				many := func(s workload.Store) func() error {
					return func() error {
						return measure.Concurrently(goroutines, 4000, func(_, i int) error { return workload.One.Run(ctx, s, i) })
					}
				}
				b.Run(fmt.Sprintf("rtt %v/%d goroutines/%d shared over pgxpool of 10", rtt, goroutines, conns), func(b *testing.B) {
					paired(b, 1, many(workload.Commands{DB: pool}), many(hand))
				})
			}
		}
	}
}
