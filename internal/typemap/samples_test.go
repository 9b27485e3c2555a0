package typemap

import (
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A type of pgtype with a Scan method reads a text that is written as its values are.
func TestATypeThatReadsATextIsNotRefusedForATextColumn(t *testing.T) {
	t.Parallel()
	types := Types{Known: pgtype.NewMap()}
	for text, target := range map[string]any{
		"(1,2)": &pgtype.Point{}, "{1,2,3}": &pgtype.Line{}, "[(1,2),(3,4)]": &pgtype.Lseg{}, "(3,4),(1,2)": &pgtype.Box{}, "((1,2),(3,4))": &pgtype.Polygon{},
		"<(1,2),3>": &pgtype.Circle{}, "101": &pgtype.Bits{}, "1 day": &pgtype.Interval{}, "1": &pgtype.Numeric{},
		"'a'": &pgtype.TSVector{}, "7": &pgtype.Uint32{}, "8": &pgtype.Uint64{}, "x": &pgtype.Text{}, "03:04:05": &pgtype.Time{}, "true": &pgtype.Bool{},
	} {
		require.NoError(t, types.Known.Scan(pgtype.TextOID, pgtype.TextFormatCode, []byte(text), target), "%T", target)
		assert.Empty(t, types.Read(pgtype.TextOID, -1, reflect.TypeOf(target).Elem()).Why, "%T", target)
	}
}
