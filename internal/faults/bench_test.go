package faults_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// What a transaction of three round trips costs more through the proxy than past it.
func BenchmarkTransaction(b *testing.B) {
	proxy, direct := start(b, "create table items (id int)")
	for name, url := range map[string]string{"direct": direct, "proxy": proxy.URL()} {
		b.Run(name, func(b *testing.B) {
			ctx := b.Context()
			conn, err := pgx.Connect(ctx, url)
			require.NoError(b, err)
			defer conn.Close(ctx)
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, add(ctx, conn, 1))
			}
		})
	}
}
