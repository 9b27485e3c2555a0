package pgcmd

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// What one run leaves in the memory that the next uses again would be the next one's.
func TestTheMemoryOfARunHoldsNothingOfItAfterwards(t *testing.T) {
	t.Parallel()
	type in struct{ Name string }
	c := QueryOne[in, []byte]("names.find", `select @name::bytea`)
	inv := c.def.invocationFor(nil)
	*inv.in.(*in) = in{"Ada"}
	*inv.out.(*[]byte) = []byte("Lovelace")
	inv.ctx, inv.args, inv.unreplicated = context.Background(), []any{"Ada"}, true
	inv.result.failedBeforeSend, inv.result.limits.rows = true, 1
	inv.free()

	require.Zero(t, *inv.in.(*in))
	require.Zero(t, *inv.out.(*[]byte))
	require.Nil(t, inv.ctx)
	require.Nil(t, inv.args)
	require.False(t, inv.unreplicated)
	require.Zero(t, inv.result)
	require.Nil(t, inv.def)
}
