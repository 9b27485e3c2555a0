package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

var findShared = findBenchUser.With(pgcmd.Options{ReadOnly: true})

// BenchmarkMultiplex compares ReadOnly commands on shared connections with the same
// query by hand on a pgxpool of ten, in turns, at no delay and at a round trip of 1 ms.
func BenchmarkMultiplex(b *testing.B) {
	ctx := context.Background()
	for _, rtt := range []time.Duration{0, time.Millisecond} {
		url := delayed(b, rtt, benchDDL)
		cfg, err := pgxpool.ParseConfig(url)
		require.NoError(b, err)
		cfg.MaxConns = 10
		plain, err := pgxpool.NewWithConfig(ctx, cfg)
		require.NoError(b, err)
		defer plain.Close()
		for _, lanes := range []int{2, 4, 10} {
			pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 10, Multiplex: lanes})
			require.NoError(b, err)
			defer pool.Close(ctx)
			for _, goroutines := range []int{1, 10, 100, 400} {
				each := max(2, 4000/goroutines)
				if rtt > 0 && goroutines == 1 {
					each = 100
				}
				many := func(run func() error) func() error {
					return func() error {
						var all sync.WaitGroup
						errs := make([]error, goroutines)
						for i := range goroutines {
							all.Go(func() {
								for n := 0; n < each && errs[i] == nil; n++ {
									errs[i] = run()
								}
							})
						}
						all.Wait()
						return errors.Join(errs...)
					}
				}
				b.Run(fmt.Sprintf("rtt %v/%d goroutines/%d shared over pgxpool of 10", rtt, goroutines, lanes), func(b *testing.B) {
					paired(b, 1, many(func() error {
						_, err := findShared.Run(ctx, pool, byID{700})
						return err
					}), many(func() error {
						var u benchUser
						return plain.QueryRow(ctx, oneSQL, 700).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
					}))
				})
			}
		}
	}
}
