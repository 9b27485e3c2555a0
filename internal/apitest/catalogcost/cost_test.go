// Package catalogcost_test measures what it costs to refuse an input of a Catalog.
package catalogcost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type (
	wide struct {
		CustomerName, CustomerStreet, CustomerCity, CustomerZip, CustomerCountry, OrderNumber, OrderDate, OrderNote, ShippingStreet, ShippingCity,
		ShippingZip, ShippingCountry, InvoiceStreet, InvoiceCity, InvoiceZip, InvoiceCountry, PaymentMethod, PaymentReference, DiscountCode, Currency string
	}
	item struct {
		A string `validate:"required"`
		B string `validate:"required,email"`
		C int    `validate:"gte=1,lte=9"`
		D string `validate:"required"`
	}
	tree struct {
		Name string `validate:"required"`
		Kids []tree `validate:"dive"`
	}
	everything struct {
		Wide    wide
		Wides   []wide
		Ints    []int64
		Deep    [][][]int
		Small   []uint8x
		Texts   []string          `validate:"dive,required"`
		Keys    map[string]string `validate:"dive,keys,max=3,endkeys,required"`
		ByInt   map[int]wide
		Items   []item          `validate:"dive"`
		ByName  map[string]item `validate:"dive"`
		Pairs   [][]item        `validate:"dive,dive"`
		Few     []item          `validate:"max=10,dive"`
		Pointed *[]*item        `validate:"omitempty,dive,required"`
		Pair    [2]int
		Any     any
		Raw     json.RawMessage
		Exact   json.Number
		Number  pgtype.Numeric
		Numbers []pgtype.Numeric
		Real    float64
		Bytes   []byte
		Time    time.Time
		Tree    []tree `validate:"dive"`
		Own     own
		Secrets []hidden
	}
	uint8x struct{ N uint8 }
	own    struct{ raw []byte }
	hidden struct {
		Text string `secret:"true"`
	}
)

func (o *own) UnmarshalJSON(raw []byte) error {
	o.raw = raw
	return nil
}

func (e everything) Validate() error {
	var errs []error
	for i := range e.Secrets {
		errs = append(errs, fmt.Errorf("secret %d is not one", i))
	}
	return errors.Join(errs...)
}

func nothing[In any](name string) *pgcmd.Command[In, int] {
	return pgcmd.New(name, func(context.Context, pgcmd.DB, In) (int, error) { return 1, nil }).With(pgcmd.Options{ReadOnly: true})
}

var catalog = pgcmd.NewCatalog(nothing[everything]("everything"), nothing[[]item]("items"), nothing[any]("any"),
	nothing[everything]("trusted").With(pgcmd.Options{Trusted: true}),
	pgcmd.Batch(nothing[item]("atomic"), pgcmd.Atomic), pgcmd.Batch(nothing[everything]("each"), pgcmd.Independent), pgcmd.Batch(nothing[item]("single"), pgcmd.Independent),
	pgcmd.Batch(nothing[item]("trusted"), pgcmd.Atomic).With(pgcmd.Options{Trusted: true}))

// noDB is a DB that nothing is to be asked of.
type noDB struct{ pgcmd.DB }

const many = 100_000

func list(element string) string { return "[" + strings.Repeat(element+",", many-1) + element + "]" }

func object(n int, name func(i int) string, value string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", name(i), value)
	}
	b.WriteByte('}')
	return b.String()
}

func in(field, value string) string { return `{"` + field + `":` + value + `}` }

var (
	numbered = func(i int) string { return fmt.Sprintf("k%d", i) }
	same     = func(int) string { return "qqqqq" }
	near     = func(int) string { return "Reall" }
	long     = strings.Repeat("x", 1<<20)
)

// input is one that is refused, or read, for what it costs.
type input struct {
	command, text string
	most          uint64 // times the text; zero: 64
}

func inputs() map[string]input {
	m := map[string]input{
		"fields that are not known":                   {command: "everything", text: in("Wide", object(many, same, "1"))},
		"fields that are nearly known":                {command: "everything", text: object(many, near, "1")},
		"fields that are not known, all other":        {command: "everything", text: object(many, numbered, "1")},
		"fields that are not known in each":           {command: "everything", text: in("Wides", list(`{"q":1}`))},
		"objects in a field that is not known":        {command: "everything", text: in("Q", object(many, numbered, `{"a":1}`))},
		"a field that comes twice":                    {command: "everything", text: object(many, func(int) string { return "Real" }, "1")},
		"a name that comes twice in any":              {command: "everything", text: in("Any", object(many, same, "1"))},
		"a name that comes twice in raw":              {command: "everything", text: in("Raw", object(many, same, "1"))},
		"a key that comes twice":                      {command: "everything", text: in("Keys", object(many, same, `""`))},
		"a name that is long":                         {command: "everything", text: object(1, func(int) string { return long }, "1")},
		"a key that is long":                          {command: "everything", text: in("ByInt", object(1, func(int) string { return long }, "{}"))},
		"elements of another type":                    {command: "everything", text: in("Ints", list(`"x"`))},
		"elements that are out of range":              {command: "everything", text: in("Small", list(`{"N":256}`))},
		"null for elements":                           {command: "everything", text: in("Ints", list(`null`))},
		"too many elements":                           {command: "everything", text: in("Pair", list(`1`))},
		"arrays within arrays":                        {command: "everything", text: in("Any", "["+strings.Repeat(strings.Repeat("[", 50)+strings.Repeat("]", 50)+",", 10_000)+"1]")},
		"objects within objects":                      {command: "everything", text: in("Any", "["+strings.Repeat(strings.Repeat(`{"a":`, 50)+"1"+strings.Repeat("}", 50)+",", 3000)+"1]")},
		"empty arrays":                                {command: "everything", text: in("Deep", list(`[[]]`))},
		"empty arrays in any":                         {command: "everything", text: in("Any", list(`[]`))},
		"empty objects in any":                        {command: "everything", text: in("Any", list(`{}`))},
		"small objects in any":                        {command: "everything", text: in("Any", list(`{"":1}`))},
		"small objects in raw":                        {command: "everything", text: in("Raw", list(`{"":1}`))},
		"names in raw":                                {command: "everything", text: in("Raw", object(many, numbered, "1"))},
		"names in any":                                {command: "everything", text: in("Any", object(many, numbered, "1"))},
		"nested too deep":                             {command: "everything", text: in("Any", strings.Repeat("[", 1<<20))},
		"text that does not end":                      {command: "everything", text: in("Any", `"`+long)[:1<<20]},
		"text that is no JSON":                        {command: "everything", text: strings.Repeat("{\"a\":", 50) + long},
		"a long text":                                 {command: "everything", text: in("Raw", `"`+long+`"`)},
		"a long text for a number":                    {command: "everything", text: in("Real", `"`+long+`"`)},
		"a long text for a time":                      {command: "everything", text: in("Time", `"`+long+`"`)},
		"a long text in base64":                       {command: "everything", text: in("Bytes", `"`+long+`!"`)},
		"escapes":                                     {command: "everything", text: in("Exact", `"`+strings.Repeat(`\u00e4`, many)+`"`)},
		"digits for a float":                          {command: "everything", text: in("Real", strings.Repeat("9", 1<<20))},
		"digits for an integer":                       {command: "everything", text: in("Ints", "["+strings.Repeat("9", 1<<20)+"]")},
		"places for an integer":                       {command: "everything", text: in("Ints", "[1."+strings.Repeat("0", 1<<20)+"1]")},
		"digits in any":                               {command: "everything", text: in("Any", strings.Repeat("9", 1<<20))},
		"an exponent":                                 {command: "everything", text: in("Ints", list(`1e999999999`))},
		"an exponent in any":                          {command: "everything", text: in("Any", list(`1e999999999`))},
		"places of a numeric":                         {command: "everything", text: in("Numbers", list(`1e-32767`))},
		"elements without what is required":           {command: "everything", text: in("Items", list(`{}`))},
		"the same, of pointers":                       {command: "everything", text: in("Pointed", list(`null`))},
		"the same, in one of ten":                     {command: "everything", text: in("Items", list(`{"A":"a","B":"b@example.com","C":1,"D":"d"},{}`))},
		"the same, in a map":                          {command: "everything", text: in("ByName", object(many, numbered, "{}"))},
		"the same, in arrays within an array":         {command: "everything", text: in("Pairs", list(`[{},{}]`))},
		"the same, in a tree":                         {command: "everything", text: in("Tree", list(`{"Kids":[{},{"Kids":[{}]}]}`))},
		"the same, in one child":                      {command: "everything", text: in("Tree", `[{"Name":"x","Kids":`+list("{}")+`}]`)},
		"the same, behind a limit":                    {command: "everything", text: in("Few", list(`{}`))},
		"the same, of the input itself":               {command: "items", text: list("{}")},
		"the same, of items of an item":               {command: "each", text: "[" + in("Items", list(`{}`)) + "]"},
		"the same, of trusted ones":                   {command: "trusted", text: in("Items", list(`{}`))},
		"the same, of trusted items":                  {command: "trusted[]", text: list(`{}`)},
		"texts that are empty":                        {command: "everything", text: in("Texts", list(`""`))},
		"keys and values that are wrong":              {command: "everything", text: in("Keys", object(many, func(i int) string { return fmt.Sprintf("%06d", i) }, `""`))},
		"an own method that finds something":          {command: "everything", text: in("Secrets", list(`{"Text":"seven"}`))},
		"integers that are right":                     {command: "everything", text: in("Ints", list(`1`))},
		"large elements of small text":                {command: "everything", text: in("Wides", list("{}")), most: 128}, // each is 320 bytes large,
		"a batch whose items are reported one by one": {command: "single[]", text: list(`{"A":"a","B":"x","C":1,"D":"d"}`), most: 128},
		"a batch whose items are wrong":               {command: "atomic[]", text: list(`{}`)},
		"what is right":                               {command: "everything", text: in("Items", list(`{"A":"a","B":"b@example.com","C":1,"D":"d"}`))},
		"a name of no command":                        {command: long, text: "{}"},
	}
	return m
}

// It is no parallel test: it counts what the whole process allocates.
func TestARefusalCostsASmallMultipleOfItsInput(t *testing.T) {
	for name, in := range inputs() {
		t.Run(name, func(t *testing.T) {
			_, _ = catalog.Run(t.Context(), noDB{}, in.command, json.RawMessage(in.text[:min(len(in.text), 100)])) // what is made once
			text := json.RawMessage(in.text)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := catalog.Run(t.Context(), noDB{}, in.command, text)
			runtime.ReadMemStats(&after)
			took := after.TotalAlloc - before.TotalAlloc
			size := uint64(max(len(text), len(in.command)))
			t.Logf("%d KiB: %d KiB allocated, %d times as much: %.300v", size>>10, took>>10, took/size, err)
			assert.LessOrEqual(t, took, max(in.most, 64)*size+1<<20)
		})
	}
}

// counted is a context that ends after its error has been asked for so often.
type counted struct {
	context.Context
	left int
	err  error
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		return c.err
	}
	return nil
}

func TestAContextThatEndsStopsTheReadingOfAnInput(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"decoding fields":        object(many, func(int) string { return "Real" }, "1"),
		"decoding elements":      in("Ints", list("1")),
		"decoding what it skips": in("Raw", list("1")),
		"decoding any":           in("Any", list(`{"a":[1]}`)),
		"validating elements":    in("Items", list(`{"A":"a","B":"b@example.com","C":1,"D":"d"}`)),
		"validating a map":       in("ByName", object(many, numbered, `{"A":"a","B":"b@example.com","C":1,"D":"d"}`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "decoding fields" { // all right, so that none ends the reading
				text = in("Any", object(many, numbered, "1"))
			}
			all := &counted{Context: t.Context(), left: 1 << 30}
			_, err := catalog.Run(all, noDB{}, "everything", json.RawMessage(text))
			require.NoError(t, err)
			asked := 1<<30 - all.left
			require.Greater(t, asked, 50, "it looks often enough")
			for _, after := range []int{0, 1, 10, asked / 2, asked - 2} {
				for code, cause := range map[pgcmd.Code]error{pgcmd.CodeTimeout: context.DeadlineExceeded, pgcmd.CodeCanceled: context.Canceled} {
					_, err := catalog.Run(&counted{Context: t.Context(), left: after, err: cause}, noDB{}, "everything", json.RawMessage(text))
					require.ErrorIs(t, err, cause)
					assert.Equal(t, code, pgcmd.CodeOf(err))
					assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
				}
			}
		})
	}
}

func TestFiftyProblemsAreCollectedAndNoMore(t *testing.T) {
	t.Parallel()
	repeat := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	good := `{"A":"a","B":"b@example.com","C":1,"D":"d"}`
	for name, c := range map[string]struct {
		command, text string
		problems      int
		first, says   string
	}{
		"fifty of the decoder": {"everything", in("Ints", repeat(50, `"x"`)), 50, "Ints[0]", "the input was refused for 50 reasons"},
		"one more":             {"everything", in("Ints", repeat(51, `"x"`)), 50, "Ints[0]", "the input was refused for more than 50 reasons, of which these are the first"},
		"fifty of validation":  {"everything", in("Texts", repeat(50, `""`)), 50, "Texts[0]", "the input was refused for 50 reasons"},
		"one more of it":       {"everything", in("Texts", repeat(51, `""`)), 50, "Texts[0]", "the input was refused for more than 50 reasons, of which these are the first"},
		"many after many":      {"everything", in("Items", "["+strings.Repeat(good+",", 1000)+repeat(1000, "{}")[1:]), 50, "Items[1000].A", "the input was refused for more than 50 reasons, of which these are the first"},
		"two among many":       {"everything", in("Items", "["+strings.Repeat(good+",", 1000)+`{"A":"a","B":"x","C":1},`+strings.Repeat(good+",", 1000)+good+"]"), 2, "Items[1000].B", "the input was refused for 2 reasons"},
		"many within one":      {"everything", in("Tree", `[{"Name":"x"},{"Name":"x","Kids":`+repeat(600, "{}")+`}]`), 50, "Tree[1].Kids[0].Name", "the input was refused for more than 50 reasons, of which these are the first"},
		"few at every level":   {"everything", in("Tree", strings.Repeat(`[{"Kids":`, 9)+repeat(600, `{"Name":"x"}`)+strings.Repeat(`}]`, 9)), 9, "Tree[0].Name", "the input was refused for 9 reasons"},
		"many behind a limit":  {"everything", in("Few", repeat(1000, "{}")), 1, "Few", "the input was refused"},
		"keys are not shown":   {"everything", in("ByName", object(1000, func(i int) string { return fmt.Sprint(i) }, "{}")), 50, "ByName[key].A", "the input was refused for more than 50 reasons, of which these are the first"},
		"items of an item":     {"each[]", "[{}," + in("Texts", repeat(600, `""`)) + "]", 50, "[1].Texts[0]", "the input was refused for more than 50 reasons, of which these are the first"},
		"of trusted items":     {"trusted[]", repeat(600, "{}"), 50, "[0].A", "the input was refused for more than 50 reasons, of which these are the first"},
		"of the input's own":   {"everything", in("Secrets", repeat(60, `{"Text":"secret"}`)), 50, "", "the input was refused for more than 50 reasons, of which these are the first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := catalog.Run(t.Context(), noDB{}, c.command, json.RawMessage(c.text))
			e, ok := errors.AsType[*pgcmd.Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, pgcmd.CodeInvalid, e.Code)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Len(t, e.Problems, c.problems)
			assert.Equal(t, c.first, e.Problems[0].Field)
			assert.Equal(t, c.says, e.Message)
			for _, p := range e.Problems {
				if p.Field != "" {
					assert.NotContains(t, strings.TrimPrefix(p.Message, p.Field[strings.LastIndexByte(p.Field, '.')+1:]+" "), "[", "%s %s", p.Field, p.Message)
				}
				assert.NotContains(t, p.Message, "secret is")
			}
		})
	}
}

type (
	line struct {
		From int
		To   int `validate:"gtfield=From"`
	}
	limits struct {
		Owner string
		Lines []line            `validate:"min=500,dive"`
		Names []string          `validate:"unique,dive,nefield=Owner"`
		Parts map[string][]line `validate:"dive,keys,max=9,endkeys,min=1,dive"`
		Two   [2][]line         `validate:"dive,dive"`
		Maybe *[]*line          `validate:"omitempty,dive"`
		Inner struct {
			Lines []line `validate:"dive"`
		}
		embedded
	}
	embedded struct {
		More []line `validate:"dive"`
	}
)

// What is right is taken, however much of it there is and whatever its rules look at.
func TestManyElementsThatAreRightAreTaken(t *testing.T) {
	t.Parallel()
	lines := "[" + strings.Repeat(`{"From":1,"To":2},`, 999) + `{"From":1,"To":2}]`
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("%q", numbered(i))
	}
	text := `{"Owner":"me","Lines":` + lines + `,"Names":[` + strings.Join(names, ",") + `],"Parts":` + object(1000, numbered, `[{"From":1,"To":2}]`) +
		`,"Two":[` + lines + "," + lines + `],"Maybe":` + lines + `,"Inner":{"Lines":` + lines + `},"More":` + lines + `}`
	c := pgcmd.NewCatalog(nothing[limits]("range"))
	_, err := c.Run(t.Context(), noDB{}, "range", json.RawMessage(text))
	require.NoError(t, err)
	for field, wrong := range map[string]string{"Lines": lines, "More": lines, "Inner": `{"Lines":` + lines + `}`, "Maybe": lines, "Two": "[" + lines + ",[]]"} {
		whole := map[string]json.RawMessage{}
		require.NoError(t, json.Unmarshal([]byte(text), &whole))
		whole[field] = json.RawMessage(strings.ReplaceAll(wrong, `"To":2`, `"To":0`))
		text, err := json.Marshal(whole)
		require.NoError(t, err)
		_, err = c.Run(t.Context(), noDB{}, "range", text)
		e, ok := errors.AsType[*pgcmd.Error](err)
		require.True(t, ok, "%s: %v", field, err)
		assert.Len(t, e.Problems, 50, field)
		assert.Contains(t, e.Problems[49].Field, "[49].To", field)
	}
}
