package copy_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type seat struct {
	Row  int
	Name string
}

var copySeats = pgcmd.Copy[seat]("seats.copy", pgx.Identifier{"seats"})

func TestASliceIsTheInputOfACopy(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table seats (row int primary key, name text)`)
	stored := func() (all []seat) {
		rows, _ := pool.Query(t.Context(), `select row, name from seats order by row`)
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seat])
		require.NoError(t, err)
		return all
	}
	for _, none := range [][]seat{nil, {}} {
		n, err := copySeats.Run(t.Context(), pool, pgcmd.Rows(none))
		assert.NoError(t, err)
		assert.Zero(t, n)
	}

	seats := []seat{{1, "window"}, {2, "aisle"}}
	rows := pgcmd.Rows(seats)
	n, err := copySeats.Run(t.Context(), pool, rows)
	assert.NoError(t, err)
	assert.EqualValues(t, 2, n)
	assert.Equal(t, seats, stored())

	// The sequence may be used again; the second row is refused, and the first with it.
	seats[0].Row = 3
	_, err = copySeats.Run(t.Context(), pool, rows)
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
	assert.Len(t, stored(), 2)
}

func TestASliceCostsNoAllocationPerRow(t *testing.T) {
	allocations := func(n int) float64 {
		seats := make([]seat, n)
		sum := 0
		return testing.AllocsPerRun(100, func() {
			for s, err := range pgcmd.Rows(seats) {
				if err == nil {
					sum += s.Row
				}
			}
		})
	}
	assert.Equal(t, allocations(1), allocations(10_000))
}
