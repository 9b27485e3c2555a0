package once_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// giving is a Once that returns v.
func giving[Out any](name string, v Out) *pgcmd.Command[string, Out] {
	return pgcmd.Once(pgcmd.Transaction(name, func(ctx context.Context, tx *pgcmd.Tx, _ string) (Out, error) {
		_, err := tx.Exec(ctx, `insert into runs values (now())`)
		return v, err
	}), func(key string) string { return key })
}

type omits struct {
	L []int          `json:",omitempty"`
	M map[string]int `json:",omitempty"`
	T time.Time      `json:",omitzero"`
}
type inner struct{ X int }
type embeds struct {
	inner
	Y int
}
type readsLess struct{ A, B int }

func (r readsLess) MarshalJSON() ([]byte, error)     { return json.Marshal(r.A) }
func (r *readsLess) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &r.A) }

type timed struct {
	time.Time
	Note string
}
type document []byte

func (d document) MarshalJSON() ([]byte, error)     { return d, nil }
func (d *document) UnmarshalJSON(text []byte) error { *d = append(document(nil), text...); return nil }

func TestALaterRunGetsTheOutputAsItWas(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	comesBack(t, pool, "times", []time.Time{time.Now(), {}, time.Now().In(time.FixedZone("x", 3600))}, func(t *testing.T, a, b []time.Time) {
		for i := range a {
			assert.True(t, a[i].Equal(b[i]))
		}
	})
	comesBack(t, pool, "an address of four bytes", net.IP{1, 2, 3, 4}, func(t *testing.T, a, b net.IP) { assert.True(t, a.Equal(b)) })
	comesBack(t, pool, "JSON", json.RawMessage(`{"b":1,  "a":1.0}`), func(t *testing.T, a, b json.RawMessage) { assert.JSONEq(t, string(a), string(b)) })
	comesBack(t, pool, "JSON of a type's own", struct{ J document }{document(`{"b":1,  "a":1.0}`)}, func(t *testing.T, a, b struct{ J document }) { assert.JSONEq(t, string(a.J), string(b.J)) })
	comesBack(t, pool, "a number", pgtype.Numeric{Int: big.NewInt(150), Exp: -2, Valid: true}, equal)
	comesBack(t, pool, "no number", pgtype.Numeric{}, equal)
	comesBack(t, pool, "nil and empty", omits{}, equal)
	comesBack(t, pool, "empty", [][]int{nil, {}}, equal)
	comesBack(t, pool, "bytes", [][]byte{nil, {}, {0, 255}}, equal)
	comesBack(t, pool, "an embedded struct", embeds{inner{1}, 2}, equal)
	comesBack(t, pool, "floats", []float64{1e308, 5e-324, -0.1, math.MaxFloat64}, equal)
	comesBack(t, pool, "integers", []uint64{math.MaxUint64, math.MaxInt64 + 2}, equal)
	comesBack(t, pool, "addresses", map[netip.Addr]netip.Prefix{netip.MustParseAddr("::1"): netip.MustParsePrefix("10.0.0.0/8")}, equal)
	comesBack(t, pool, "text", "<a>&\u2028 \U0001f600", equal)
	comesBack(t, pool, "nothing", (*inner)(nil), equal)
	comesBack(t, pool, "a time with nothing beside it", timed{Time: time.Unix(1, 0).UTC()}, func(t *testing.T, a, b timed) { assert.True(t, a.Equal(b.Time)) })
}

func equal[T any](t *testing.T, a, b T) { assert.Equal(t, a, b) }

func comesBack[Out any](t *testing.T, pool *pgxpool.Pool, name string, v Out, same func(t *testing.T, a, b Out)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		c := giving(t.Name(), v)
		first, second := pgcmd.Try(t.Context(), pool, c, "k"), pgcmd.Try(t.Context(), pool, c, "k")
		require.NoError(t, first.Err)
		require.NoError(t, second.Err)
		assert.True(t, second.Replayed)
		same(t, first.Value, second.Value)
	})
}

func TestAnOutputThatWouldNotComeBackIsRolledBack(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	isRefused(t, pool, "an empty slice", omits{L: []int{}}, "once_test.omits.L does not come back")
	isRefused(t, pool, "an empty map", []omits{{}, {M: map[string]int{}}}, "[]once_test.omits[1].M does not come back")
	isRefused(t, pool, "text that is not UTF-8", struct{ S string }{"a\xffb"}, "S does not come back")
	isRefused(t, pool, "a key that is not UTF-8", map[string]int{"a\xff": 1}, "does not come back")
	isRefused(t, pool, "NUL", "a\x00b", "cannot be stored as jsonb")
	isRefused(t, pool, "NaN", math.NaN(), "has no JSON form")
	isRefused(t, pool, "infinity", []float64{math.Inf(-1)}, "has no JSON form")
	isRefused(t, pool, "a form that reads less than there is", readsLess{1, 2}, "once_test.readsLess.B does not come back")
	isRefused(t, pool, "a form of an embedded field", timed{time.Now(), "note"}, "once_test.timed.Note does not come back")
	isRefused(t, pool, "a number that jsonb writes otherwise", json.Number("1e2"), "does not come back")
	isRefused(t, pool, "a member that comes twice", json.RawMessage(`{"a":1,"a":2}`), "does not come back")
	isRefused(t, pool, "a pointer to nothing", new(*int), "does not come back")
}

func isRefused[Out any](t *testing.T, pool *pgxpool.Pool, name string, v Out, want string) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		before := rows(t, pool, `select count(*) from pgcmd.once where scope = $1`, t.Name())
		_, err := giving(t.Name(), v).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(t.Context(), pool, "k")
		var e *pgcmd.Error
		require.ErrorAs(t, err, &e)
		assert.Contains(t, e.Message, want)
		assert.Equal(t, pgcmd.CodeInternal, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, 1, e.Attempts)
		assert.Equal(t, before, rows(t, pool, `select count(*) from pgcmd.once where scope = $1`, t.Name()))
	})
}

func TestOutputsOfWhichJSONLosesAPartAreRefusedAtDefinition(t *testing.T) {
	t.Parallel()
	type one struct{ X int }
	type other struct{ X int }
	type twins struct {
		one
		other
	}
	type pointer struct {
		*inner
		Y int
	}
	type shadow struct {
		embeds
		X int
	}
	type writes struct{ S shown }
	type keys struct{ M map[inner]int }
	type numbers struct{ V []any }
	for want, define := range map[string]func(){
		"once_test.twins.one.X has the JSON name of another field":                                          func() { giving("x", twins{}) },
		"once_test.pointer.inner is an embedded pointer to an unexported struct":                            func() { giving("x", pointer{}) },
		"once_test.shadow.embeds.inner.X has the JSON name of another field":                                func() { giving("x", []shadow{}) },
		"once_test.writes.S has a MarshalJSON and no UnmarshalJSON":                                         func() { giving("x", writes{}) },
		"once_test.keys.M has keys without a JSON form":                                                     func() { giving("x", keys{}) },
		"pgcmd: x: Once stores the output as JSON, and once_test.numbers.V is an interface: give it a type": func() { giving("x", numbers{}) },
	} {
		assert.Contains(t, panics(t, define), want)
	}
}

type shown struct{ A int }

func (shown) MarshalJSON() ([]byte, error) { return []byte("1"), nil }

func TestAKeyOfARunThatFailedWithinACommittedTransactionIsAnswered(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	for name, c := range map[string]*pgcmd.Command[string, omits]{
		"an output that would not come back": giving("lossy", omits{L: []int{}}),
		"an error of the body": pgcmd.Once(pgcmd.Transaction("failing", func(context.Context, *pgcmd.Tx, string) (omits, error) {
			return omits{}, errors.New("no")
		}), func(key string) string { return key }),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pgcmd.Transaction("outer", func(ctx context.Context, tx *pgcmd.Tx, key string) (int, error) {
				_, err := c.Run(ctx, tx, key)
				assert.Error(t, err)
				return 0, nil
			}).Run(t.Context(), pool, "k")
			require.NoError(t, err)
			_, err = c.Run(t.Context(), pool, "k")
			assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
			assert.ErrorContains(t, err, "a run that failed, in a transaction that was committed all the same")
		})
	}
}
