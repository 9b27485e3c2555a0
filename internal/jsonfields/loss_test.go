package jsonfields_test

import (
	"encoding/json"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
)

type hidden struct{ a int } //lint:ignore U1000 a field that JSON omits

type writesOnly struct{ V int }

func (writesOnly) MarshalJSON() ([]byte, error) { return nil, nil }

type tree struct {
	Children []tree
	Parent   *tree
}

type (
	base  struct{ ID int }
	other struct{ ID int }
)

func TestLoss(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value any
		want  string // empty if nothing is lost
	}{
		{0, ""},
		{"", ""},
		{[]map[int]time.Time{}, ""},
		{json.RawMessage{}, ""},
		{big.Int{}, ""},
		{tree{}, ""},
		{struct{ base }{}, ""},
		{struct{ *base }{}, "is an embedded pointer to an unexported struct"},
		{make(chan int), "chan int has no JSON form"},
		{map[string]any{}, "map[string]interface {}[] is an interface"},
		{map[[2]int]int{}, "has keys without a JSON form"},
		{hidden{}, "jsonfields_test.hidden.a is unexported"},
		{[]writesOnly{}, "has a MarshalJSON and no UnmarshalJSON"},
		{struct {
			A int `json:"-"`
		}{}, ".A is left out of it"},
		{struct {
			base
			other
		}{}, "has the JSON name of another field"},
		{struct {
			Password string `secret:"true"`
		}{}, ".Password is a secret"},
	} {
		got := jsonfields.Loss(reflect.TypeOf(c.value), func(sf reflect.StructField) bool { return sf.Tag.Get("secret") == "true" })
		if c.want == "" {
			assert.Empty(t, got, "%T", c.value)
		} else {
			assert.Contains(t, got, c.want, "%T", c.value)
		}
	}
}
