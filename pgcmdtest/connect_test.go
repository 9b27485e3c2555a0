package pgcmdtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

func TestConnectTakesTheConfigAndTheTypesOfTheDDL(t *testing.T) {
	t.Parallel()
	type status string
	pool := Connect(t, pgcmd.Config{MaxConns: 2, Multiplex: 1, Types: []string{"status"}},
		`create type status as enum ('open', 'paid')`, `create table orders (status status)`)
	add := pgcmd.Exec[[]status]("orders.add", `insert into orders select unnest($1::status[])`)
	added, err := add.Run(t.Context(), pool, []status{"open", "paid"})
	require.NoError(t, err)
	assert.EqualValues(t, 2, added)
	assert.EqualValues(t, 2, pool.Stat().MaxConns())
}

func TestAConnectionThatACommandHoldsIsReported(t *testing.T) {
	t.Parallel()
	pool := Connect(t, pgcmd.Config{MaxConns: 1})
	held, release := make(chan struct{}), make(chan struct{})
	hold := pgcmd.Transaction("orders.hold", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
		_, err := tx.Exec(ctx, "select 1")
		close(held)
		<-release
		return 0, err
	})
	ended := make(chan error, 1)
	go func() {
		_, err := hold.Run(context.Background(), pool, struct{}{})
		ended <- err
	}()
	<-held
	err := closeConnected(pool, time.Millisecond)
	close(release)
	require.ErrorContains(t, err, "orders.hold holds 1")
	require.NoError(t, <-ended)
	require.NoError(t, closeConnected(pool, time.Minute))
}

// fatal is a test that ends by Fatal.
type fatal struct {
	testing.TB
	message string
}

func (f *fatal) Helper() {}
func (f *fatal) Fatal(args ...any) {
	f.message, _ = args[0].(string)
	panic(f)
}

func TestConnectRefusesAnAddress(t *testing.T) {
	t.Parallel()
	for _, cfg := range []pgcmd.Config{{URL: "postgres://h/d"}, {Host: "h"}} {
		f := &fatal{TB: t}
		assert.PanicsWithValue(t, f, func() { Connect(f, cfg) })
		assert.Contains(t, f.message, "leave URL and Host empty")
	}
}
