package typemap

import (
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
)

// A million rows may be sent as arrays, of which each element is checked.
func TestTheCheckOfARangeAllocatesNothing(t *testing.T) {
	types := Types{Known: pgtype.NewMap()}
	at, x := time.Unix(0, 0), 1e300
	for _, value := range []any{
		1.5, at, pgtype.Timestamptz{Time: at, Valid: true}, []float64{1, 2, 3}, []*float64{&x}, []time.Time{at, at}, []*time.Time{&at},
		[]pgtype.Timestamptz{{Time: at, Valid: true}}, [][]float64{{1}, {2}}, "text",
	} {
		assert.Zero(t, testing.AllocsPerRun(10, func() { isExtreme(value) }), "%T", value)
	}
	v := reflect.ValueOf([]time.Time{at, at})
	assert.Zero(t, testing.AllocsPerRun(10, func() { types.IsOutOfRange(pgtype.TimestamptzArrayOID, v) }))
}
