package workload

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// Agree fails the test unless the stores, which share the database of db, do and find what [Hand] does and finds. To
// compare with one that does less would flatter it.
func Agree(t testing.TB, db pgcmd.DB, stores ...Store) {
	ctx := t.Context()
	hand := Hand{db}
	left := func() (balances, notes, items int64) {
		require.NoError(t, db.QueryRow(ctx, `select (select sum(abalance) from pgbench_accounts) - (select sum(tbalance) from pgbench_tellers),
			(select count(*) from pgbench_history), (select count(*) from bench_items)`).Scan(&balances, &notes, &items))
		return balances, notes, items
	}
	for _, s := range stores {
		found, err := s.Find(ctx, 700)
		require.NoError(t, err, "%T", s)
		want, err := hand.Find(ctx, 700)
		require.NoError(t, err)
		same(t, s, []User{want}, []User{found})

		searched, err := s.Search(ctx, searches[400])
		require.NoError(t, err, "%T", s)
		same(t, s, []User{want}, []User{searched})

		listed, err := s.List(ctx, 300)
		require.NoError(t, err, "%T", s)
		users, err := hand.List(ctx, 300)
		require.NoError(t, err)
		same(t, s, users, listed)

		filter := Filter{1, 500, 100, 5, 7}
		grouped, err := s.Branches(ctx, filter)
		require.NoError(t, err, "%T", s)
		byHand, err := hand.Branches(ctx, filter)
		require.NoError(t, err)
		assert.Equal(t, byHand, grouped, "%T", s)

		balances, notes, items := left()
		require.NoError(t, s.Transfer(ctx, Transfer{Account: 2000, Teller: 7, Branch: 1, Amount: 50}), "%T", s)
		require.NoError(t, s.Import(ctx, Items), "%T", s)
		b, n, i := left()
		assert.Equal(t, []int64{balances - 100, notes + 1, items + 100}, []int64{b, n, i}, "%T", s)

		assert.ErrorIs(t, s.Add(ctx, User{ID: Users + 1, Email: email(7), CreatedAt: created}), ErrTaken, "%T", s)
	}
}

func same(t testing.TB, s Store, want, got []User) {
	require.Len(t, got, len(want), "%T", s)
	for i := range want {
		assert.True(t, want[i].CreatedAt.Equal(got[i].CreatedAt), "%T", s)
		got[i].CreatedAt = want[i].CreatedAt // in whatever time zone
	}
	assert.Equal(t, want, got, "%T", s)
}
