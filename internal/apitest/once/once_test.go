package once_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const runsDDL = `create table runs (at timestamptz)`

// pay is a Once whose key is always the same, and whose body counts itself.
func pay[In any](name string) *pgcmd.Command[In, int] {
	return pgcmd.Once(pgcmd.Transaction(name, func(ctx context.Context, tx *pgcmd.Tx, _ In) (int, error) {
		_, err := tx.Exec(ctx, `insert into runs values (now())`)
		return 1, err
	}), func(In) string { return "k" })
}

// try runs a with a key, and then b with it; the second is a replay, or a conflict.
func try[In any](t *testing.T, pool *pgxpool.Pool, a, b In) pgcmd.Outcome[int] {
	t.Helper()
	c := pay[In](t.Name())
	first := pgcmd.Try(t.Context(), pool, c, a)
	require.NoError(t, first.Err)
	require.False(t, first.Replayed)
	return pgcmd.Try(t.Context(), pool, c, b)
}

func same[In any](name string, a, b In) (string, func(t *testing.T, pool *pgxpool.Pool)) {
	return name, func(t *testing.T, pool *pgxpool.Pool) {
		o := try(t, pool, a, b)
		require.NoError(t, o.Err)
		assert.True(t, o.Replayed)
	}
}

func another[In any](name string, a, b In) (string, func(t *testing.T, pool *pgxpool.Pool)) {
	return name, func(t *testing.T, pool *pgxpool.Pool) {
		o := try(t, pool, a, b)
		assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(o.Err))
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(o.Err))
		assert.False(t, o.Replayed)
	}
}

type payment struct {
	Key    string
	Amount int64  `json:"-"`
	Card   string `secret:"true"`
	At     time.Time
	Extra  any
	Limits []int
	IP     netip.Addr
	Raw    json.RawMessage
	Cents  cents
}

// cents is known to the database alone.
type cents struct{ n int64 }

func (c cents) Value() (driver.Value, error) { return c.n, nil }

// card shows itself to nobody.
type card string

func (card) MarshalJSON() ([]byte, error) { return []byte(`"****"`), nil }
func (card) String() string               { return "****" }

type told struct{ secret, cache string }

func (i told) Fingerprint() string { return i.secret }

func TestTheKeyIsTakenByTheFieldsOfTheInput(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	now := time.Now()
	tests := map[string]func(t *testing.T, pool *pgxpool.Pool){}
	add := func(name string, f func(t *testing.T, pool *pgxpool.Pool)) { tests[name] = f }
	add(another("a field hidden from JSON", payment{Amount: 1}, payment{Amount: 1_000_000}))
	add(another("a secret", payment{Card: "1"}, payment{Card: "2"}))
	add(another("a type that hides itself", card("1"), card("2")))
	add(another("a driver form", payment{Cents: cents{1}}, payment{Cents: cents{2}}))
	add(another("a text form", payment{IP: netip.MustParseAddr("::1")}, payment{IP: netip.MustParseAddr("::2")}))
	add(another("another instant", payment{At: now}, payment{At: now.Add(time.Nanosecond)}))
	add(another("nil and empty", payment{}, payment{Limits: []int{}}))
	add(another("the type in an interface", payment{Extra: int32(1)}, payment{Extra: "1"}))
	add(another("Fingerprint", told{"a", "x"}, told{"b", "x"}))
	add(same("Fingerprint, alike", told{"a", "x"}, told{"a", "y"}))
	add(same("another zone, and no monotonic clock", payment{At: now}, payment{At: now.Round(0).In(time.FixedZone("x", 3600))}))
	add(same("JSON written otherwise", payment{Raw: json.RawMessage(`{"a":1,"b":2}`)}, payment{Raw: json.RawMessage(`{ "b": 2, "a": 1 }`)}))
	add(same("NaN", []float64{math.NaN()}, []float64{math.NaN()}))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, pool)
		})
	}
}

func TestADeployThatAddsAFieldMakesNoRetryAConflict(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	type v1 struct {
		Key string
		N   int
	}
	type v2 struct {
		Note string
		N    int64
		Key  string `json:"key"`
		Tags []string
		At   *time.Time
	}
	require.NoError(t, pgcmd.Try(t.Context(), pool, pay[v1]("pay"), v1{"a", 1}).Err)
	o := pgcmd.Try(t.Context(), pool, pay[v2]("pay"), v2{Key: "a", N: 1})
	require.NoError(t, o.Err)
	assert.True(t, o.Replayed)
	_, err := pay[v2]("pay").Run(t.Context(), pool, v2{Key: "a", N: 1, Note: "x"})
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
}

func TestRowsOfAnOlderVersionAreAnswered(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	type in struct {
		Key string
		N   int
	}
	write := func(scope string) {
		_, err := pool.Exec(t.Context(), `insert into pgcmd.once (scope, key, fingerprint, run, result) values ($1, 'k', sha256($2), gen_random_uuid(), '7')`,
			scope, []byte(`{"Key":"a","N":1}`))
		require.NoError(t, err)
	}
	write("pay")
	o := pgcmd.Try(t.Context(), pool, pay[in]("pay"), in{"a", 1})
	require.NoError(t, o.Err)
	assert.True(t, o.Replayed)
	assert.Equal(t, 7, o.Value)
	_, err := pay[in]("pay").Run(t.Context(), pool, in{"a", 2})
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))

	write("hooked")
	hooked := pgcmd.Before(pay[in]("hooked"), func(_ context.Context, in *in) error { in.N++; return nil })
	o = pgcmd.Try(t.Context(), pool, hooked, in{"a", 1})
	require.NoError(t, o.Err)
	assert.Equal(t, 7, o.Value)
}

func TestInputsThatCannotBeComparedAreRefused(t *testing.T) {
	t.Parallel()
	type closed struct {
		Key    string
		amount int64
	}
	type deep struct{ Items []*closed }
	for want, define := range map[string]func(){
		"pgcmd: pay: Once compares the inputs of runs, and once_test.closed.amount is unexported: export it, or give once_test.closed a method Fingerprint() string": func() { pay[closed]("pay") },
		"once_test.deep.Items[].amount is unexported": func() { pay[deep]("pay") },
		"has no value to compare":                     func() { pay[struct{ Done func() }]("pay") },
	} {
		assert.Contains(t, panics(t, define), want)
	}
	pool := pgcmdtest.Pool(t, runsDDL, pgcmd.OnceSchema)
	_, err := pay[payment]("pay").Run(t.Context(), pool, payment{Extra: closed{"a", 1}})
	var e *pgcmd.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, pgcmd.CodeInternal, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	require.Len(t, e.Problems, 1)
	assert.Equal(t, "Extra", e.Problems[0].Field)
	assert.Contains(t, e.Error(), "closed.amount is unexported")
	assert.Zero(t, rows(t, pool, `select count(*) from pgcmd.once`))
}

// panics is the text with which f panics.
func panics(t *testing.T, f func()) (text string) {
	t.Helper()
	defer func() { text, _ = recover().(string) }()
	f()
	t.Error("it does not panic")
	return ""
}

func rows(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}
