package fingerprint_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/fingerprint"
)

func sum[T any](t *testing.T, v T) [32]byte {
	t.Helper()
	p, err := fingerprint.Compile(reflect.TypeFor[T]())
	require.NoError(t, err)
	s, err := p.Sum(&v)
	require.NoError(t, err)
	return s
}

type hidden struct {
	Amount int64  `json:"-"`
	Card   string `secret:"true"`
	Twin1  string `json:"x"`
	Twin2  string `json:"-"`
}

// masked shows nobody what it is.
type masked string

func (masked) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
func (masked) MarshalText() ([]byte, error) { return []byte("***"), nil }

type maskedStruct struct{ Number string }

func (maskedStruct) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// told has a text of its own for what cannot be seen; cached does not count.
type told struct {
	n      int
	cached string
}

func (o told) MarshalText() ([]byte, error) { return []byte{byte('a' + o.n)}, nil }

type toldByPointer struct{ n int }

func (o *toldByPointer) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]int{"n": o.n}) }

type toldByDriver struct {
	n     int
	Other int
}

func (o toldByDriver) Value() (driver.Value, error) { return int64(o.n), nil }

type named struct{ a, b string }

func (o named) Fingerprint() string { return o.a }

type withPromoted struct {
	time.Time
	Amount int
}

type promotedFingerprint struct {
	named
	Amount int
}
type base struct{ ID int }
type withBase struct {
	base
	N int
}
type withBasePointer struct {
	*base
	N int
}
type instant time.Time

type deposit struct{ N int }
type withdraw struct{ N int }

type node struct {
	N    int
	Next *node
}

type padded struct {
	_ [0]func()
	_ int
	N int
	s struct{}
}

func TestWhatIsTheSame(t *testing.T) {
	t.Parallel()
	now := time.Now()
	zone := time.FixedZone("x", 3600)
	n := 5
	var nilInt *int
	type list struct{ L, M []int }
	type numbers struct {
		F float64
		G float32
		C complex128
	}
	ip4 := net.IP{1, 2, 3, 4}
	grown := new(big.Int).Sub(big.NewInt(1<<62), big.NewInt(1<<62))
	for name, c := range map[string]struct{ same, differ []any }{
		"a field that JSON does not show": {
			[]any{hidden{Amount: 1}, hidden{Amount: 1}},
			[]any{hidden{}, hidden{Amount: 1}, hidden{Amount: 1_000_000}, hidden{Card: "a"}, hidden{Card: "b"}, hidden{Twin1: "a"}, hidden{Twin2: "a"}}},
		"a value that hides itself":  {nil, []any{masked("a"), masked("b")}},
		"a struct that hides itself": {nil, []any{maskedStruct{"a"}, maskedStruct{"b"}}},
		"times":                      {[]any{now, now.Round(0), now.UTC(), now.In(zone)}, []any{now, now.Add(1), time.Time{}}},
		"a type made of a time":      {[]any{instant(now), instant(now.In(zone))}, []any{instant(now), instant(now.Add(1))}},
		"times of pgtype":            {[]any{pgtype.Timestamptz{Time: now, Valid: true}, pgtype.Timestamptz{Time: now.In(zone), Valid: true}}, []any{pgtype.Timestamptz{Time: now, Valid: true}, pgtype.Timestamptz{Time: now}}},
		"a text form":                {[]any{told{1, "a"}, told{1, "b"}}, []any{told{1, "a"}, told{2, "a"}}},
		"a JSON form of the pointer": {[]any{toldByPointer{1}, toldByPointer{1}}, []any{toldByPointer{1}, toldByPointer{2}, toldByPointer{0}}},
		"a driver form":              {[]any{toldByDriver{1, 1}, toldByDriver{1, 2}, toldByDriver{1, 0}}, []any{toldByDriver{1, 1}, toldByDriver{2, 1}, toldByDriver{0, 1}}},
		"a driver form of zero":      {[]any{toldByDriver{}, toldByDriver{0, 7}}, nil},
		"a Fingerprint":              {[]any{named{"a", "b"}, named{"a", "c"}}, []any{named{"a", ""}, named{"b", ""}}},
		"NULL":                       {[]any{sql.NullString{}, sql.NullString{String: "x"}}, []any{sql.NullString{}, sql.NullString{Valid: true}}},
		"an embedded time":           {[]any{withPromoted{now, 1}, withPromoted{now.UTC(), 1}}, []any{withPromoted{now, 1}, withPromoted{now, 2}, withPromoted{now.Add(1), 1}}},
		"an unexported struct":       {nil, []any{withBase{base{1}, 0}, withBase{base{2}, 0}, withBase{base{}, 1}}},
		"a pointer to one":           {[]any{withBasePointer{&base{1}, 0}, withBasePointer{&base{1}, 0}}, []any{withBasePointer{}, withBasePointer{&base{}, 0}, withBasePointer{&base{1}, 0}}},
		"pointers":                   {[]any{&n, ptr(5)}, []any{ptr(5), ptr(0), (*int)(nil)}},
		"pointers to pointers":       {nil, []any{(**int)(nil), &nilInt, ptr(ptr(0))}},
		"nil and empty":              {nil, []any{list{}, list{L: []int{}}, list{M: []int{}}, list{L: []int{0}}}},
		"nil and empty maps":         {nil, []any{map[string]int(nil), map[string]int{}, map[string]int{"": 0}}},
		"nil and empty bytes":        {nil, []any{[]byte(nil), []byte{}, []byte{0}}},
		"where a slice ends":         {nil, []any{[][]string{{"a"}, {"b"}}, [][]string{{"a", "b"}}, [][]string{{"a", "b"}, {}}, [][]string{{"ab"}}}},
		"where a text ends":          {nil, []any{[2]string{"ab", "c"}, [2]string{"a", "bc"}}},
		"maps":                       {[]any{map[string]int{"a": 1, "b": 2}, map[string]int{"b": 2, "a": 1}}, []any{map[string]int{"a": 1, "b": 2}, map[string]int{"a": 2, "b": 1}}},
		"floats":                     {[]any{numbers{F: math.NaN()}, numbers{F: math.Float64frombits(math.Float64bits(math.NaN()) | 1)}}, []any{numbers{F: math.NaN()}, numbers{}, numbers{F: math.Inf(1)}, numbers{G: 1}, numbers{F: 1}, numbers{C: 1}, numbers{C: 1i}}},
		"minus zero":                 {[]any{numbers{}, numbers{F: math.Copysign(0, -1), C: complex(math.Copysign(0, -1), 0)}}, nil},
		"interfaces": {
			[]any{map[string]any{"a": deposit{1}}, map[string]any{"a": deposit{1}}},
			[]any{map[string]any{"a": deposit{1}}, map[string]any{"a": withdraw{1}}, map[string]any{"a": &deposit{1}}, map[string]any{"a": 1}, map[string]any{"a": 1.0}, map[string]any{"a": "1"}, map[string]any{"a": nil}, map[string]any{}, map[string]any{"a": []any{1}}}},
		"JSON": {
			[]any{json.RawMessage(`{"a":1,"b":[1,{}]}`), json.RawMessage("{ \"b\": [1.0, {}], \"a\": 10e-1 }")},
			[]any{json.RawMessage(`{"a":1}`), json.RawMessage(`{"a":"1"}`), json.RawMessage(`{"a":1,"a":1}`), json.RawMessage(`[]`), json.RawMessage(`{}`), json.RawMessage(`null`), json.RawMessage(nil), json.RawMessage(`{`), json.RawMessage(`{"a":[1,2]}`), json.RawMessage(`{"a":[2,1]}`), json.RawMessage(`0.1`), json.RawMessage(`1`), json.RawMessage(`10`), json.RawMessage(`-1`), json.RawMessage(`1e3`)}},
		"addresses":       {[]any{ip4, net.ParseIP("1.2.3.4")}, []any{ip4, net.IP{1, 2, 3, 5}}},
		"netip":           {[]any{netip.MustParseAddr("::1"), netip.MustParseAddr("0:0::1")}, []any{netip.MustParseAddr("::1"), netip.MustParseAddr("::2"), netip.Addr{}}},
		"big numbers":     {[]any{*grown, *big.NewInt(0)}, []any{*big.NewInt(0), *big.NewInt(1), *new(big.Int).Lsh(big.NewInt(1), 100)}},
		"lists":           {[]any{node{1, &node{2, nil}}, node{1, &node{2, nil}}}, []any{node{1, &node{2, nil}}, node{1, &node{}}, node{1, nil}}},
		"large integers":  {nil, []any{uint64(math.MaxUint64), uint64(math.MaxInt64), uint64(1) << 63}},
		"negative":        {nil, []any{int64(-1), int64(1), int64(math.MinInt64)}},
		"truth":           {nil, []any{[]bool{true}, []bool{false}, []bool{}}},
		"what is nothing": {[]any{padded{N: 1}, padded{N: 1, s: struct{}{}}}, []any{padded{N: 1}, padded{N: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := func(v any) [32]byte {
				p, err := fingerprint.Compile(reflect.TypeOf(v))
				require.NoError(t, err)
				pointer := reflect.New(reflect.TypeOf(v))
				pointer.Elem().Set(reflect.ValueOf(v))
				s, err := p.Sum(pointer.Interface())
				require.NoError(t, err)
				return s
			}
			for i, v := range c.same {
				assert.Equal(t, of(c.same[0]), of(v), "%d: %#v", i, v)
			}
			for i, v := range c.differ {
				for j, w := range c.differ[:i] {
					assert.NotEqual(t, of(v), of(w), "%d and %d: %#v, %#v", i, j, v, w)
				}
			}
		})
	}
}

func TestATypeMayChange(t *testing.T) {
	t.Parallel()
	type v1 struct {
		Key string
		N   int32
	}
	type nested struct{ X []int }
	type v2 struct {
		Note    string
		N       int64
		At      time.Time
		L       []string
		M       map[string]int
		P       *int
		Any     any
		Nested  nested
		Array   [2]nested
		Address netip.Addr
		Key     string `json:"key" secret:"true"`
	}
	assert.Equal(t, sum(t, v1{"a", 1}), sum(t, v2{Key: "a", N: 1}), "another field, another order, another tag")
	assert.NotEqual(t, sum(t, v1{"a", 1}), sum(t, v2{Key: "a", N: 1, P: new(int)}))
	type renamed struct {
		Name string
		N    int32
	}
	assert.NotEqual(t, sum(t, v1{"a", 1}), sum(t, renamed{"a", 1}))
	assert.Equal(t, sum(t, []v1{{"a", 1}, {}}), sum(t, []v2{{Key: "a", N: 1}, {}}))
	assert.Equal(t, sum(t, v2{At: time.Time{}.In(time.FixedZone("x", 60))}), sum(t, v2{}), "a zero time in another zone is zero")
}

func TestWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	type closed struct{ amount int }
	type deep struct{ Items []map[string]*closed }
	type locked struct {
		sync.Mutex
		N int
	}
	type id int
	type embedsID struct{ id } //lint:ignore U1000 its being there is what counts
	for want, typ := range map[string]reflect.Type{
		"fingerprint_test.closed.amount is unexported: export it, or give fingerprint_test.closed a method Fingerprint() string": reflect.TypeFor[closed](),
		"deep.Items[][].amount is unexported": reflect.TypeFor[deep](),
		"promotedFingerprint.named is embedded and unexported, so that its own form cannot be asked for": reflect.TypeFor[promotedFingerprint](),
		"locked.Mutex._ is unexported":  nil,
		"embedsID.id is unexported":     reflect.TypeFor[embedsID](),
		"is a chan, which has no value": reflect.TypeFor[struct{ C chan int }](),
		"is a func, which has no value": reflect.TypeFor[map[string]func()](),
	} {
		if typ == nil {
			_, err := fingerprint.Compile(reflect.TypeFor[locked]())
			assert.ErrorContains(t, err, "locked.Mutex.")
			continue
		}
		_, err := fingerprint.Compile(typ)
		assert.ErrorContains(t, err, want)
	}

	t.Run("of a value", func(t *testing.T) {
		type holder struct{ Items []any }
		p, err := fingerprint.Compile(reflect.TypeFor[holder]())
		require.NoError(t, err)
		var e *fingerprint.Error
		_, err = p.Sum(&holder{[]any{1, closed{1}}})
		require.ErrorAs(t, err, &e)
		assert.Equal(t, ".Items[1]", e.Path)
		assert.ErrorContains(t, err, "closed.amount is unexported")

		circle := &node{}
		circle.Next = circle
		p, err = fingerprint.Compile(reflect.TypeFor[node]())
		require.NoError(t, err)
		_, err = p.Sum(circle)
		assert.ErrorContains(t, err, "holds itself")

		p, err = fingerprint.Compile(reflect.TypeFor[refusing]())
		require.NoError(t, err)
		_, err = p.Sum(&refusing{1})
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, errValue)
		assert.NotContains(t, err.Error(), "a value")

		p, err = fingerprint.Compile(reflect.TypeFor[itself]())
		require.NoError(t, err)
		_, err = p.Sum(&itself{1})
		assert.ErrorContains(t, err, "returns the value itself")
	})
}

var errValue = errors.New("a value")

type refusing struct{ n int }

func (refusing) Value() (driver.Value, error) { return nil, errValue }

type itself struct{ n int }

func (i itself) Value() (driver.Value, error) { return i, nil }

func TestDifference(t *testing.T) {
	t.Parallel()
	type item struct {
		N *int
		L []string
	}
	type order struct {
		At    time.Time
		Items []item
	}
	p, err := fingerprint.Compile(reflect.TypeFor[order]())
	require.NoError(t, err)
	now := time.Now()
	a := order{now, []item{{ptr(1), nil}, {ptr(2), []string{}}}}
	b := order{now.UTC(), []item{{ptr(1), nil}, {ptr(2), nil}}}
	path, differ, err := p.Difference(&a, &b)
	require.NoError(t, err)
	assert.True(t, differ)
	assert.Equal(t, ".Items[1].L", path)
	b.Items[1].L = []string{}
	_, differ, err = p.Difference(&a, &b)
	require.NoError(t, err)
	assert.False(t, differ)
}

func ptr[T any](v T) *T { return &v }
