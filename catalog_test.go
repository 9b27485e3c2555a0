package pgcmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type (
	cartItem struct {
		Sku   string  `json:"sku" validate:"required,max=20"`
		Qty   int32   `validate:"gte=1,lte=100"`
		Price float32 `json:",omitempty"`
	}
	cart struct {
		Email    string `json:"email" validate:"required,email"`
		ID       int64
		Items    []cartItem `validate:"dive"`
		Labels   map[string]int
		By       map[int8]string `json:",omitempty"`
		Note     *string
		At       *time.Time
		Digest   []byte `json:",omitempty"`
		Pair     *[2]int
		Any      any
		Raw      json.RawMessage `json:",omitempty"`
		Exact    json.Number     `json:",omitempty"`
		Quoted   int64           `json:",string"`
		Password string          `json:"password,omitempty" secret:"true"`
		PIN      int             `secret:"true"`
		Hidden   string          `json:"-"`
		hidden   string
	}
)

// echo is a command whose output is its input.
func echo[T any](name string) *pgcmd.Command[T, T] {
	return pgcmd.New(name, func(_ context.Context, _ pgcmd.DB, in T) (T, error) { return in, nil })
}

var echoes = pgcmd.NewCatalog(echo[cart]("cart.echo").With(pgcmd.Options{ReadOnly: true}))

// cartWith is a good cart with one part of it in other words.
func cartWith(field string) string {
	return `{"email":"ada@example.com",` + field + `}`
}

func TestCatalogRefusesWhatTheInputTypeDoesNotSay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input, field, rule, message string
	}{
		"an unknown field":             {cartWith(`"Colour":1`), "[unknown]", "unknown", "is not a field: name 2 of the object must be one of email, ID, "},
		"a misspelt field":             {`{"emial":"ada@example.com"}`, "emial", "unknown", "did you mean email?"},
		"a field in another case":      {`{"EMAIL":"ada@example.com"}`, "EMAIL", "unknown", "did you mean email?"},
		"a field that JSON leaves out": {cartWith(`"Hidden":"x"`), "[unknown]", "unknown", "is not a field"},
		"an unexported field":          {cartWith(`"hidden":"x"`), "[unknown]", "unknown", "is not a field"},
		"an unknown field within":      {cartWith(`"Items":[{"sku":"a","Qty":1},{"sku":"a","Qty":1,"x":1}]`), "Items[1][unknown]", "unknown", "must be one of sku, Qty, Price"},
		"a field twice":                {cartWith(`"ID":1,"ID":1`), "ID", "duplicate", "is given twice"},
		"a field twice, once escaped":  {cartWith(`"ID":1,"\u0049D":1`), "ID", "duplicate", "is given twice"},
		"a key twice":                  {cartWith(`"Labels":{"a":1,"a":1}`), "Labels[key]", "duplicate", "is given twice"},
		"a key twice in any":           {cartWith(`"Any":[{"a":1,"a":2}]`), "Any[0][key]", "duplicate", "is given twice"},
		"a key twice in raw JSON":      {cartWith(`"Raw":{"b":{"a":1,"a":2}}`), "Raw[key][key]", "duplicate", "is given twice"},
		"3e9 in an int32":              {cartWith(`"Items":[{"sku":"a","Qty":1},{"sku":"a","Qty":1},{"sku":"a","Qty":3000000000}]`), "Items[2].Qty", "range", "must be an integer from -2147483648 to 2147483647"},
		"3e9 in an int32, so written":  {cartWith(`"Items":[{"sku":"a","Qty":3e9}]`), "Items[0].Qty", "range", "must be an integer from"},
		"1.5 in an int":                {cartWith(`"PIN":1.5`), "PIN", "type", "must be an integer from -9223372036854775808 to"},
		"2^63 in an int64":             {cartWith(`"ID":9223372036854775808`), "ID", "range", "must be an integer"},
		"1e99999999999 in an int":      {cartWith(`"ID":1e99999999999999999999`), "ID", "range", "must be an integer"},
		"1e-99999999999 in an int":     {cartWith(`"ID":1e-99999999999999999999`), "ID", "type", "must be an integer"},
		"1e400 in a float":             {cartWith(`"Items":[{"sku":"a","Qty":1,"Price":1e400}]`), "Items[0].Price", "range", "is out of the range of a float32"},
		"1e39 in a float32":            {cartWith(`"Items":[{"sku":"a","Qty":1,"Price":1e39}]`), "Items[0].Price", "range", "float32"},
		"1e-400 in a float":            {cartWith(`"Items":[{"sku":"a","Qty":1,"Price":1e-400}]`), "Items[0].Price", "range", "float32"},
		"1e400 in any":                 {cartWith(`"Any":{"a":1e400}`), "Any[key]", "range", "float64"},
		"a text for a number":          {cartWith(`"ID":"1"`), "ID", "type", "must be an integer"},
		"a number for a text":          {`{"email":1}`, "email", "type", "must be a string"},
		"a number for a quoted number": {cartWith(`"Quoted":1`), "Quoted", "type", "must be a string that holds the value"},
		"words for a quoted number":    {cartWith(`"Quoted":"one"`), "Quoted", "type", "must be a string that holds the value"},
		"an object for an array":       {cartWith(`"Items":{}`), "Items", "type", "must be an array"},
		"an array for an object":       {cartWith(`"Labels":[]`), "Labels", "type", "must be an object"},
		"an array for the whole":       {`[]`, "", "type", "must be an object"},
		"null for the whole":           {`null`, "", "null", "must not be null: it must be an object"},
		"null for a text":              {`{"email":null}`, "email", "null", "must not be null: it must be a string"},
		"null for a number":            {cartWith(`"ID":null`), "ID", "null", "must not be null"},
		"null for an array":            {cartWith(`"Items":null`), "Items", "null", "must not be null"},
		"null for an element":          {cartWith(`"Items":[null]`), "Items[0]", "null", "must not be null"},
		"a time without zone":          {cartWith(`"At":"2026-01-01 00:00"`), "At", "type", "must be a date and time as in"},
		"text that is not base64":      {cartWith(`"Digest":"a?"`), "Digest", "base64", "must be a string in base64"},
		"base64 with a line end":       {cartWith(`"Digest":"YW\nE="`), "Digest", "base64", "must be a string in base64"},
		"an array too long":            {cartWith(`"Pair":[1,2,3]`), "Pair", "len", "must have exactly 2 elements"},
		"an array too short":           {cartWith(`"Pair":[1]`), "Pair", "len", "must have exactly 2 elements"},
		"a key of the wrong type":      {cartWith(`"By":{"300":"x"}`), "By[key]", "type", "cannot be read as int8, the type of the keys"},
		"a key in another spelling":    {cartWith(`"By":{"01":"x"}`), "By[key]", "type", "cannot be read as"},
		"trailing data":                {cartWith(`"ID":1`) + ` {}`, "", "json", "has more after its value, at byte 36"},
		"no JSON":                      {`{"email":ada}`, "", "json", "is not JSON, at byte 10"},
		"half of JSON":                 {`{"email":"ada`, "", "json", "it ends too early"},
		"blanks":                       {`  `, "", "json", "it ends too early"},
		"bytes that are not UTF-8":     {"{\"email\":\"\xff\"}", "", "json", "is not valid UTF-8"},
		"half of a surrogate pair":     {`{"email":"\ud83d"}`, "", "json", "has half of a surrogate pair at byte 11"},
		"half of another pair":         {`{"email":"\ud83d\ud83d\ude00"}`, "", "json", "half of a surrogate pair"},
		"deep nesting":                 {cartWith(`"Any":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)), "", "json", "nested more than 100 deep"},
		"very deep nesting":            {strings.Repeat("[", 10_000_000), "", "json", "nested more than 100 deep"},
		"a rule of validation":         {`{"email":"ada"}`, "email", "email", "email must be a valid email address"},
		"a rule, of an element":        {cartWith(`"Items":[{"sku":"a","Qty":1},{"sku":"","Qty":1}]`), "Items[1].sku", "required", "sku is a required field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := echoes.Run(t.Context(), unusedDB{}, "cart.echo", json.RawMessage(c.input))
			e := failure(t, err)
			assert.Nil(t, out)
			assert.Equal(t, pgcmd.CodeInvalid, e.Code)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Equal(t, "cart.echo", e.Command)
			assert.Zero(t, e.Attempts)
			require.Len(t, e.Problems, 1, "%v", err)
			assert.Equal(t, c.field, e.Problems[0].Field)
			assert.Equal(t, c.rule, e.Problems[0].Rule)
			assert.Contains(t, e.Problems[0].Message, c.message)
		})
	}
}

func TestCatalogReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := echoes.Run(t.Context(), unusedDB{}, "cart.echo",
		json.RawMessage(`{"emial":"x","ID":"x","Items":[{"Qty":1.5},{"Qty":3e9,"Qty":1}]}`))
	assert.EqualError(t, err, `pgcmd: cart.echo: the input was refused for 5 reasons: `+
		`emial is not a field: did you mean email?; `+
		`ID must be an integer from -9223372036854775808 to 9223372036854775807; `+
		`Items[0].Qty must be an integer from -2147483648 to 2147483647; `+
		`Items[1].Qty must be an integer from -2147483648 to 2147483647; `+
		`Items[1].Qty is given twice: give it once [invalid, not applied]`)

	_, err = echoes.Run(t.Context(), unusedDB{}, "cart.echo", json.RawMessage(`{"Items":[`+strings.Repeat(`1,`, 100_000)+`1]}`))
	e := failure(t, err)
	require.Len(t, e.Problems, 50)
	assert.Equal(t, "the input was refused for more than 50 reasons, of which these are the first", e.Message)
}

func TestCatalogTakesEveryFormOfJSONAndGivesItBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ field, want string }{
		"a large int64":                {`"ID":9007199254740993`, `"ID":9007199254740993`},
		"the least int64":              {`"ID":-9223372036854775808`, `"ID":-9223372036854775808`},
		"an integer with a fraction":   {`"ID":12.00`, `"ID":12`},
		"an integer with an exponent":  {`"ID":1.2e1`, `"ID":12`},
		"an integer with two":          {`"ID":1200e-2`, `"ID":12`},
		"zero with an exponent":        {`"ID":0e999999999999`, `"ID":0`},
		"a large number in any":        {`"Any":9007199254740993`, `"Any":9007199254740993`},
		"a larger one":                 {`"Any":123456789012345678901234567890`, `"Any":123456789012345678901234567890`},
		"many places in any":           {`"Any":[0.1234567890123456789,0.5,1e-400]`, `"Any":[0.1234567890123456789,0.5,1e-400]`},
		"an exact number":              {`"Exact":0.1234567890123456789`, `"Exact":0.1234567890123456789`},
		"everything in any":            {`"Any":{"a":[null,true,"x",{}],"b":[]}`, `"Any":{"a":[null,true,"x",{}],"b":[]}`},
		"null for a pointer":           {`"Note":null,"At":null,"Pair":null,"Any":null`, `"Note":null,"At":null,"Pair":null,"Any":null`},
		"a pointer's value":            {`"Note":"","Pair":[1,2]`, `"Note":"","Pair":[1,2]`},
		"a time":                       {`"At":"2026-01-02T03:04:05.123456+01:00"`, `"At":"2026-01-02T03:04:05.123456+01:00"`},
		"bytes":                        {`"Digest":"/+8="`, `"Digest":"/+8="`},
		"raw JSON":                     {`"Raw":{"a": [1e5, "x"]}`, `"Raw":{"a":[1e5,"x"]}`},
		"a quoted number":              {`"Quoted":"9007199254740993"`, `"Quoted":"9007199254740993"`},
		"maps":                         {`"Labels":{"a b":1},"By":{"-7":"x"}`, `"Labels":{"a b":1},"By":{"-7":"x"}`},
		"text of every kind":           {`"Note":"<é😀\ud83d\ude00\u0000\\\"\/"`, `"Note":"<é😀😀\u0000\\\"/"`},
		"nesting":                      {`"Any":` + strings.Repeat("[", 99) + strings.Repeat("]", 99), `"Any":` + strings.Repeat("[", 99) + strings.Repeat("]", 99)},
		"secrets, which are not shown": {`"password":"` + inputCanary + `","PIN":74205101`, `"password":"[secret]","PIN":0`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := echoes.Run(t.Context(), unusedDB{}, "cart.echo", json.RawMessage(" "+cartWith(c.field)+"\n"))
			require.NoError(t, err)
			var got map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(out, &got))
			var want map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte("{"+c.want+"}"), &want))
			for field := range want {
				assert.Equal(t, string(want[field]), string(got[field]))
			}
		})
	}
}

func TestCatalogRunsByNameOnPostgres(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgcmdtest.Pool(t, usersDDL)
	type create struct {
		Email    string `json:"email" validate:"required,email"`
		Age      int    `json:"age" validate:"gte=18"`
		Password string `json:"password" secret:"true"`
	}
	type created struct {
		ID    int64   `json:"id"`
		Email string  `json:"email"`
		Note  *string `json:"note"`
		Token string  `json:"token" secret:"true"`
	}
	errTaken := errors.New("email is already registered")
	add := pgcmd.QueryOne[create, created]("users.create",
		`insert into users (email, age) values (@email, @age) returning id, email, note, md5(@password) as token`).
		With(pgcmd.Options{Trusted: true, OnConstraint: map[string]error{"users_email_key": errTaken}})
	catalog := pgcmd.NewCatalog(
		add,
		pgcmd.QueryOne[byEmail, user]("users.find", `select id, email, age from users where email = @email`),
		pgcmd.Query[struct{}, user]("users.list", `select id, email, age from users order by id`),
		pgcmd.Exec[int]("users.grow", `update users set age = age + $1`),
		pgcmd.Query[int, int]("numbers", `select n from generate_series(1, $1) n`),
		pgcmd.Batch(add, pgcmd.Isolated),
		pgcmd.Transaction("users.swap", func(ctx context.Context, tx *pgcmd.Tx, in []int64) (map[string]any, error) {
			_, err := tx.Exec(ctx, `update users set age = age + 1 where id = any($1)`, in)
			return map[string]any{"swapped": len(in)}, err
		}),
		pgcmd.QueryOne[struct{}, float64]("numbers.nan", `select 'NaN'::float8`),
		pgcmd.AdHoc,
	)
	run := func(name, input string) string {
		t.Helper()
		out, err := catalog.Run(ctx, pool, name, json.RawMessage(input))
		require.NoError(t, err)
		return string(out)
	}

	assert.JSONEq(t, `{"ID":1,"Email":"ada@example.com","Age":36}`, run("users.find", `{"Email":"ada@example.com"}`))
	assert.JSONEq(t, `{"id":4,"email":"new@example.com","note":null,"token":"[secret]"}`,
		run("users.create", `{"email":"new@example.com","age":30,"password":"`+inputCanary+`"}`))
	assert.Equal(t, `4`, run("users.grow", `1`))
	assert.JSONEq(t, `{"swapped":2}`, run("users.swap", `[1, 2]`))
	assert.Contains(t, run("users.list", ``), `{"ID":1,"Email":"ada@example.com","Age":38}`)
	assert.Contains(t, run("pgcmd.adhoc", `{"SQL":"select 9007199254740993 = @n as same","Args":{"n":9007199254740993}}`), `"Rows":[{"same":true}]`)
	assert.Contains(t, run("pgcmd.adhoc", `{"SQL":"select @n::numeric = 1234567890123456789012345 as same","Args":{"n":1234567890123456789012345}}`), `"Rows":[{"same":true}]`)

	_, err := catalog.Run(ctx, pool, "users.create", json.RawMessage(`{"email":"ada@example.com","age":30}`))
	assert.ErrorIs(t, err, errTaken)
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
	assertNoCanary(t, "an error", err)

	_, err = catalog.Run(ctx, pool, "users.create", json.RawMessage(`{"email":"`+inputCanary+`","age":3}`))
	assert.EqualError(t, err, `pgcmd: users.create: the input was refused for 2 reasons: `+
		`email must be a valid email address; age must be 18 or greater [invalid, not applied]`, "Trusted is for callers in Go")

	_, err = catalog.Run(ctx, pool, "numbers", json.RawMessage(`10001`))
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	assert.Len(t, strings.Split(run("numbers", `10000`), ","), 10_000)

	out, err := catalog.Run(ctx, pool, "users.create[]", json.RawMessage(`[{"email":"b1@example.com","age":30},{"email":"ada@example.com","age":30}]`))
	require.NoError(t, err)
	var result struct {
		Outcomes  []struct{ OK bool }
		Succeeded int
		Failed    int
	}
	require.NoError(t, json.Unmarshal(out, &result))
	assert.Equal(t, 1, result.Succeeded)
	assert.Equal(t, 1, result.Failed)
	_, err = catalog.Run(ctx, pool, "users.create[]", json.RawMessage(`[{"email":"b2@example.com","age":30},{"email":"x","age":30}]`))
	assert.Equal(t, "[1].email", failure(t, err).Problems[0].Field)

	_, err = catalog.Run(ctx, pool, "numbers.nan", nil)
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeInternal, e.Code)
	assert.Contains(t, e.Message, "the output has no JSON form")

	_, err = catalog.Run(ctx, pool, "users.fnid", nil)
	assert.EqualError(t, err, `pgcmd: the catalog has no command of that name: did you mean users.find? `+
		`(has: numbers, numbers.nan, pgcmd.adhoc, users.create, users.create[], users.find, users.grow, users.list, users.swap) [not_found, not applied]`)
	_, err = catalog.Run(ctx, pool, inputCanary, nil)
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	assertNoCanary(t, "an unknown name", err)
	_, err = pgcmd.NewCatalog().Run(ctx, pool, "x", nil)
	assert.EqualError(t, err, `pgcmd: the catalog is empty [not_found, not applied]`)
	_, err = catalog.Run(ctx, nil, "users.list", nil)
	assert.Contains(t, failure(t, err).Message, "the DB is nil")
}

func TestNothingOfARefusedInputIsShown(t *testing.T) {
	t.Parallel()
	canary := `"` + inputCanary + `"`
	for _, input := range []string{
		canary, `{` + canary + `:1}`, `{"email":{` + canary + `:` + canary + `}}`, `{"ID":` + canary + `}`, `{"Labels":{` + canary + `:"x"}}`,
		`{"Labels":{` + canary + `:1,` + canary + `:2}}`, `{"Any":{` + canary + `:{` + canary + `:1,` + canary + `:2}}}`, `{"At":` + canary + `}`,
		`{"By":{` + canary + `:1}}`, `{"password":[` + canary + `]}`, `{"PIN":74205101.5}`, `{"PIN":"74205101"}`, `{"Quoted":` + canary + `}`,
		`{"Exact":` + canary + `}`, `{"email":` + canary + `}`, `{` + canary + `}`, canary + canary, `{"x":` + inputCanary + `}`,
	} {
		_, err := echoes.Run(t.Context(), unusedDB{}, "cart.echo", json.RawMessage(input))
		assertNoCanary(t, input, failure(t, err))
		assertNoCanary(t, input, failure(t, err).Problems)
	}
}

func TestMistakesInACatalogPanicAndSayHowToFixThem(t *testing.T) {
	t.Parallel()
	type node struct{ Next chan<- int }
	type deep struct{ Items []map[string]node }
	type hidden struct{ A int }
	type embedsPointer struct{ *hidden }
	type own *own
	for name, c := range map[string]struct {
		defs []pgcmd.Definition
		want string
	}{
		"a name twice": {[]pgcmd.Definition{echo[int]("x"), echo[string]("y"), echo[string]("x")},
			"x names two commands, definition 0 (*pgcmd.Command[int,int]) and definition 2 (*pgcmd.Command[string,string]): rename one"},
		"nil":           {[]pgcmd.Definition{nil}, "pgcmd: NewCatalog: definition 0 is nil"},
		"a nil command": {[]pgcmd.Definition{(*pgcmd.Command[int, int])(nil)}, "pgcmd: NewCatalog: definition 0 is nil"},
		"a Copy":        {[]pgcmd.Definition{pgcmd.Copy[user]("users.import", pgx.Identifier{"users"})}, "pgcmd: NewCatalog: users.import: a Copy cannot be in a catalog"},
		"a channel": {[]pgcmd.Definition{echo[deep]("x")},
			"pgcmd: NewCatalog: x: a catalog speaks JSON, and input.Items[][].Next is a chan<- int, which has no JSON form: leave it out with the tag `json:\"-\"`"},
		"a function":               {[]pgcmd.Definition{echo[struct{ F func() }]("x")}, "input.F is a func()"},
		"a sequence":               {[]pgcmd.Definition{echo[struct{ F iter.Seq[int] }]("x")}, "input.F is a iter.Seq[int]"},
		"a complex number":         {[]pgcmd.Definition{echo[complex128]("x")}, "input is a complex128"},
		"a channel in the output":  {[]pgcmd.Definition{pgcmd.New("x", func(context.Context, pgcmd.DB, int) (chan int, error) { return nil, nil })}, "output is a chan int"},
		"an interface":             {[]pgcmd.Definition{echo[struct{ S fmt.Stringer }]("x")}, "input.S is the interface fmt.Stringer"},
		"keys that are no names":   {[]pgcmd.Definition{echo[map[float64]int]("x")}, "input is a map with keys of float64"},
		"a pointer nobody can set": {[]pgcmd.Definition{echo[embedsPointer]("x")}, "input.A is behind an embedded pointer to an unexported struct"},
		"all of them at once": {[]pgcmd.Definition{echo[func()]("x"), nil, echo[struct{ C, D chan int }]("y"), echo[int]("y")},
			"pgcmd: NewCatalog: x: a Copy cannot be in a catalog, since its sequence has no JSON form: catalog a Transaction or a New command that takes the rows as a slice, and runs the Copy; " +
				"definition 1 is nil: is the variable set before the catalog is made?; " +
				"y: a catalog speaks JSON, and input.C is a chan int, which has no JSON form: leave it out with the tag `json:\"-\"`, or take another type; " +
				"y: a catalog speaks JSON, and input.D is a chan int, which has no JSON form: leave it out with the tag `json:\"-\"`, or take another type; " +
				"y: a catalog speaks JSON, and output.C is"},
		"a pointer to itself": {[]pgcmd.Definition{echo[struct{ O own }]("x")}, "which points to itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, panics(t, func() { pgcmd.NewCatalog(c.defs...) }), c.want)
		})
	}
}

func TestAnOutputThatHoldsItselfIsAnError(t *testing.T) {
	t.Parallel()
	type open struct {
		Name        string
		Left, Right *open
	}
	type closed struct {
		Name        string `secret:"true"`
		Left, Right *closed
		List        []*closed
		Map         map[string]*closed
	}
	catalog := pgcmd.NewCatalog(
		pgcmd.New("open", func(context.Context, pgcmd.DB, empty) (*open, error) {
			o := &open{}
			o.Left, o.Right = o, o
			return o, nil
		}),
		pgcmd.New("closed", func(context.Context, pgcmd.DB, empty) (*closed, error) {
			c := &closed{Name: inputCanary}
			c.Left, c.Right, c.List, c.Map = c, c, []*closed{c, c}, map[string]*closed{"": c}
			return c, nil
		}),
		pgcmd.New("twice", func(context.Context, pgcmd.DB, empty) (closed, error) {
			c := &closed{Name: inputCanary}
			return closed{Left: c, Right: c}, nil
		}),
	)
	for _, name := range []string{"open", "closed"} {
		out, err := catalog.Run(t.Context(), unusedDB{}, name, nil)
		assert.Nil(t, out)
		assert.Contains(t, failure(t, err).Message, "a value that holds itself")
		assertNoCanary(t, name, err)
	}
	out, err := catalog.Run(t.Context(), unusedDB{}, "twice", nil)
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(string(out), "[secret]"), "%s", out)
}

func TestTheEffectOfAnOutputWithoutJSONIsTheRuns(t *testing.T) {
	t.Parallel()
	inf := func(context.Context, pgcmd.DB, empty) (float64, error) { return math.Inf(1), nil }
	for want, o := range map[pgcmd.Effect]pgcmd.Options{pgcmd.Unknown: {}, pgcmd.NotApplied: {ReadOnly: true}} {
		_, err := pgcmd.NewCatalog(pgcmd.New("x", inf).With(o)).Run(t.Context(), unusedDB{}, "x", nil)
		assert.Equal(t, want, pgcmd.EffectOf(err))
	}
}

// A database with the encoding SQL_ASCII holds any bytes, also in json.
func TestAnOutputIsUTF8WhateverTheDatabaseHolds(t *testing.T) {
	t.Parallel()
	type row struct {
		Text string          `json:"text"`
		J    json.RawMessage `json:"j"`
	}
	const sql = `select E'\xffé'::text as text, E'{"\xffa": "\xff"}'::json as j`
	catalog := pgcmd.NewCatalog(pgcmd.QueryOne[empty, row]("struct", sql), pgcmd.QueryOne[empty, map[string]any]("map", sql))
	admin := pgcmdtest.Pool(t)
	config := admin.Config()
	config.ConnConfig.Database += "_ascii"
	_, err := admin.Exec(t.Context(), `create database `+config.ConnConfig.Database+` encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'`)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.WithoutCancel(t.Context()), `drop database `+config.ConnConfig.Database)
		assert.NoError(t, err)
	})
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	for _, name := range []string{"struct", "map"} {
		out, err := catalog.Run(t.Context(), pool, name, nil)
		require.NoError(t, err)
		assert.True(t, utf8.Valid(out), name)
		assert.JSONEq(t, "{\"text\":\"\ufffdé\",\"j\":{\"\ufffda\":\"\ufffd\"}}", string(out), name)
	}
}

var _ = cart{hidden: ""}
