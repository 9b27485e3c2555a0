package strictjson

import (
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"
)

// A PGForm is the JSON of a type of pgtype that has methods for it. Each may be null.
type PGForm struct {
	JSON  string   // its type in JSON Schema
	Texts []string // what it may be besides
	Must  string   // the message about other JSON
}

var infinities = []string{"infinity", "-infinity"}

var pgForms = map[reflect.Type]PGForm{
	reflect.TypeFor[pgtype.Bool]():        {"boolean", nil, "must be true, false or null"},
	reflect.TypeFor[pgtype.Text]():        {"string", nil, "must be a string or null"},
	reflect.TypeFor[pgtype.Int2]():        {"integer", nil, "must be an integer from -32768 to 32767, or null"},
	reflect.TypeFor[pgtype.Int4]():        {"integer", nil, "must be an integer from -2147483648 to 2147483647, or null"},
	reflect.TypeFor[pgtype.Int8]():        {"integer", nil, "must be an integer from -9223372036854775808 to 9223372036854775807, or null"},
	reflect.TypeFor[pgtype.Uint32]():      {"integer", nil, "must be an integer from 0 to 4294967295, or null"},
	reflect.TypeFor[pgtype.Float4]():      {"number", nil, "must be a number in the range of a float32, or null"},
	reflect.TypeFor[pgtype.Float8]():      {"number", nil, "must be a number in the range of a float64, or null"},
	reflect.TypeFor[pgtype.Numeric]():     {"number", []string{"NaN", "Infinity", "-Infinity"}, `must be a number, "NaN", "Infinity", "-Infinity" or null`},
	reflect.TypeFor[pgtype.Date]():        {"string", infinities, `must be a date as in "2006-01-02", "infinity", "-infinity" or null`},
	reflect.TypeFor[pgtype.Timestamp]():   {"string", infinities, `must be a date and time as in "2006-01-02T15:04:05", "infinity", "-infinity" or null`},
	reflect.TypeFor[pgtype.Timestamptz](): {"string", infinities, `must be a date and time as in "2006-01-02T15:04:05Z", "infinity", "-infinity" or null`},
	reflect.TypeFor[pgtype.UUID]():        {"string", nil, `must be a UUID, such as "6ba7b810-9dad-41d1-80b4-00c04fd430c8", or null`},
	reflect.TypeFor[pgtype.Point]():       {"string", nil, `must be a point as in "(1.5,-2)", or null`},
}

// starts are the bytes with which it may start.
func (f PGForm) starts() string {
	starts := map[string]string{"boolean": "tfn", "string": `"n`, "integer": "-0123456789n", "number": "-0123456789n"}[f.JSON]
	if f.Texts != nil {
		starts += `"`
	}
	return starts
}

// PGFormOf returns the JSON of a type of pgtype.
func PGFormOf(t reflect.Type) (f PGForm, ok bool) {
	f, ok = pgForms[t]
	return f, ok
}
