package pgcmd

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// What one run leaves in the memory that the next uses again would be the next one's.
// It is not parallel: another test may then have got the memory.
func TestTheMemoryOfARunHoldsNothingOfItAfterwards(t *testing.T) {
	type in struct{ Name string }
	c := QueryOne[in, []byte]("names.find", `select @name::bytea`)
	inv := c.def.invocationFor(nil)
	*inv.in.(*in) = in{"Ada"}
	*inv.output().(*[]byte) = []byte("Lovelace")
	inv.args, inv.unreplicated = []any{"Ada"}, true
	r := newResult(limits{rows: 1})
	r.ctx, r.failedBeforeSend = context.Background(), true
	inv.result = r
	inv.free()

	require.Zero(t, *inv.in.(*in))
	require.Zero(t, *inv.output().(*[]byte))
	require.Nil(t, inv.args)
	require.False(t, inv.unreplicated)
	require.Nil(t, inv.result)
	require.Equal(t, result{}, *r)
	require.Nil(t, inv.def)
}

type kept struct{ ID int64 }

func (*kept) Validate() error { return nil } // could keep its receiver

// Memory that user code can keep is not used again.
func TestWhoseMemoryIsUsedAgain(t *testing.T) {
	t.Parallel()
	find := QueryOne[int64, int64]("find", `select $1::int8`)
	move := Transaction("move", func(_ context.Context, _ *Tx, id int64) (int64, error) { return id, nil })
	for _, c := range []struct {
		name string
		def  *definition
		want bool
	}{
		{"a statement", find.def, true},
		{"a statement in a transaction of its own", find.With(Options{InTx: true}).def, true},
		{"a transaction", move.def, true},
		{"one that is tried again", move.With(Options{Retry: Retry{Attempts: 3}}).def, true},
		{"a hook", Before(move, func(context.Context, *int64) error { return nil }).def, false},
		{"a Validate method", Transaction("move", func(_ context.Context, _ *Tx, in kept) (int64, error) { return in.ID, nil }).def, false},
		{"a Once", Once(move, func(int64) string { return "key" }).def, false},
		{"a batch", Batch(find, Atomic).def, false},
	} {
		require.Equal(t, c.want, c.def.invocationFor(nil).def != nil, c.name)
	}
}
