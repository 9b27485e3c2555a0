package pgcmd_test

import (
	"database/sql/driver"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type colour string

type code [16]byte

type wrapped struct{ text string }

func (w wrapped) Value() (driver.Value, error) { return "wrapped " + w.text, nil }

type base struct {
	Small  int16
	Medium int32
}

type Tail struct {
	Tags []string
	Doc  map[string]any
}

type everything struct {
	base      // unexported, its fields are not
	Big       int64
	Plain     int
	Byte      uint8
	Unsigned  uint64
	Text      string
	Varchar   string
	Char      string
	Name      string
	Flag      bool
	F4        float32
	F8        float64
	Bin       []byte
	NoBin     []byte
	At        time.Time
	Local     time.Time
	Early     time.Time
	ID        [16]byte
	Code      code
	Colour    colour
	NoColour  *colour
	Email     string // citext-like: a domain, and a type of its own
	Insane    string
	MaybeText *string
	NoText    *string
	MaybeInt  *int64
	NoInt     *int
	NoTime    *time.Time
	Price     pgtype.Numeric
	Amount    string
	Day       time.Time
	Addr      netip.Addr
	Wrapped   wrapped
	Settings  struct{ A, B int }
	Raw       string
	Numbers   []int32
	Span      time.Duration
	Any       any
	NoAny     any
	Tagged    int `db:"a_tag"`
	Skipped   int `db:"-"`
	*Tail
}

const everythingDDL = `
	create type colour as enum ('red', 'green');
	create domain email as text check (value like '%@%');
	create type mood;
	create function mood_in(cstring) returns mood language internal immutable strict as 'textin';
	create function mood_out(mood) returns cstring language internal immutable strict as 'textout';
	create function mood_recv(internal) returns mood language internal immutable strict as 'textrecv';
	create function mood_send(mood) returns bytea language internal immutable strict as 'textsend';
	create type mood (input = mood_in, output = mood_out, receive = mood_recv, send = mood_send, like = text);
	create table everything (small int2, medium int4, big int8, plain int4, byte int2, unsigned numeric, text text, varchar varchar(20), "char" char(4), name name,
		flag bool, f4 float4, f8 float8, bin bytea, no_bin bytea, at timestamptz, local timestamp, early timestamptz, id uuid, code uuid, colour colour, no_colour colour,
		email email, insane mood, maybe_text text, no_text varchar, maybe_int int8, no_int int4, no_time timestamptz, price numeric, amount numeric, day date, addr inet,
		wrapped text, settings jsonb, raw jsonb, numbers int4[], span interval, "any" int8, no_any text, a_tag int, tags text[], doc jsonb, defaulted int default 7)`

func TestCopyEncodesWhatItIsGiven(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, everythingDDL)
	type Row = everything
	text, number, green := "maybe", int64(-5), colour("green")
	at := time.Date(2026, 7, 1, 12, 30, 0, 123456789, time.FixedZone("", 2*3600))
	row := Row{
		base: base{-32768, 2147483647}, Big: -1 << 63, Plain: -7, Byte: 255, Unsigned: 1<<64 - 1,
		Text: "héllo 'w\"orld\\ \t\n", Varchar: "v", Char: "c", Name: "n", Flag: true, F4: 1.5, F8: -2.25e100,
		Bin: []byte{0, 255, 0}, At: at, Local: at, Early: time.Time{}, ID: [16]byte{1, 2, 15: 255}, Code: code{9},
		Colour: "red", NoColour: &green, Email: "ada@example.com", Insane: "calm",
		MaybeText: &text, MaybeInt: &number, Price: pgtype.Numeric{Int: bigNumber("12345678901234567890"), Exp: -2, Valid: true},
		Amount: "-0.001", Day: at, Addr: netip.MustParseAddr("::1"), Wrapped: wrapped{"up"}, Settings: struct{ A, B int }{1, 2}, Raw: `{"k": null}`,
		Numbers: []int32{1, -2}, Span: 90 * time.Minute, Any: int64(42), Tagged: 3, Skipped: 4,
		Tail: &Tail{Tags: []string{"a", `b"`}, Doc: map[string]any{"deep": []int{1}}},
	}
	second := Row{Tail: &Tail{}, Colour: "green", Email: "@", Amount: "0", Raw: "1", Addr: netip.MustParseAddr("10.0.0.1")}
	n, err := pgcmd.Copy[Row]("all.copy", pgx.Identifier{"public", "everything"}).Run(ctx, pool, rowsOf(row, second, second))
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)

	var got string
	require.NoError(t, pool.QueryRow(ctx, `select row(small, medium, big, plain, byte, unsigned, text, varchar, "char", name, flag, f4, f8, bin, no_bin, at at time zone 'UTC', local,
		early at time zone 'UTC', id, code, colour, no_colour, email, insane, maybe_text, no_text, maybe_int, no_int, no_time, price, amount, day, addr, wrapped, settings, raw,
		numbers, span, "any", no_any, a_tag, tags, doc, defaulted)::text from everything limit 1`).Scan(&got))
	want := `(-32768,2147483647,-9223372036854775808,-7,255,18446744073709551615,"héllo 'w""orld\\ 	
",v,"c   ",n,t,1.5,-2.25e+100,"\\x00ff00",,"2026-07-01 10:30:00.123456","2026-07-01 12:30:00.123456",` +
		`"0001-01-01 00:00:00",01020000-0000-0000-0000-0000000000ff,09000000-0000-0000-0000-000000000000,red,green,ada@example.com,calm,maybe,,-5,,,` +
		`123456789012345678.90,-0.001,2026-07-01,::1,"wrapped up","{""A"": 1, ""B"": 2}","{""k"": null}","{1,-2}",01:30:00,42,,3,"{a,""b\\""""}","{""deep"": [1]}",7)`
	assert.Equal(t, want, got)
	assert.Equal(t, 2, count(t, pool, `select count(*) from everything where no_colour is null and maybe_int is null and bin is null and tags is null and doc is null and price is null and text = ''`))
}

// The rarer ways: what pgtype can only read as text, a user's codec, types
// that nobody knows.
func TestCopyOfTypesThatPgxDoesNotKnow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create type colour as enum ('red'); create table odd (price money, lsn pg_lsn, colours colour[], colour colour, n numeric, at timestamptz)`)
	_, err := pgcmd.Copy[struct{ Colour int }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ Colour int }{5}))
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeInternal, e.Code, "a number for an enum")
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Contains(t, e.Message, `field Colour (int) cannot be sent as colour: use a string`)
	type read struct {
		Price   string
		LSN     []byte
		Colours []string
		Colour  []byte
		N       int
		At      time.Time
	}
	at := time.Date(2026, 7, 1, 12, 30, 0, 123456000, time.UTC)
	_, err = pgcmd.Copy[read]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(read{"$1234.56", []byte("1/2"), []string{"red"}, []byte("red"), 5, at}))
	require.NoError(t, err, "the server reads their text")
	assert.Equal(t, 1, count(t, pool, `select count(*) from odd where price = 1234.56::money and lsn = '1/2' and colours = '{red}' and colour = 'red' and n = 5
		and at = '2026-07-01 12:30:00.123456Z'`))
	_, err = pool.Exec(ctx, `truncate odd`)
	require.NoError(t, err)

	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	types, err := conn.Conn().LoadTypes(ctx, []string{"colour", "_colour"})
	require.NoError(t, err)
	conn.Conn().TypeMap().RegisterTypes(types)
	type known struct {
		Colours []string
		Colour  string
		N       any
	}
	n, err := pgcmd.Copy[known]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, conn, rowsOf(known{[]string{"red"}, "red", "1.25"}, known{N: 7}, known{Colour: "red", N: pgtype.Int8{}}))
	assert.Zero(t, n, "the second has the empty text for an enum")
	assert.Contains(t, failure(t, err).Message, "row 2: column colour: a text cannot be read as the type")
	_, err = pgcmd.Copy[known]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, conn, rowsOf(known{[]string{"red"}, "red", "1.25"}, known{Colour: "red", N: 7}, known{Colour: "red", N: pgtype.Int8{}}))
	require.NoError(t, err)
	assert.Equal(t, 1, count(t, pool, `select count(*) from odd where colours = '{red}' and n = 1.25`))

	conn.Conn().TypeMap().RegisterType(&pgtype.Type{Name: "numeric", OID: pgtype.NumericOID, Codec: doubling{pgtype.NumericCodec{}}})
	_, err = pgcmd.Copy[struct{ N int64 }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, conn, rowsOf(struct{ N int64 }{50}))
	require.NoError(t, err)
	assert.Equal(t, 1, count(t, pool, `select count(*) from odd where n = 100`), "the user's codec is used")
}

// doubling is a codec of a user's own.
type doubling struct{ pgtype.Codec }

func (d doubling) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	return doublingPlan{m, oid, format}
}

type doublingPlan struct {
	m      *pgtype.Map
	oid    uint32
	format int16
}

func (p doublingPlan) Encode(value any, buf []byte) ([]byte, error) {
	n := value.(int64) * 2
	return pgtype.NumericCodec{}.PlanEncode(p.m, p.oid, p.format, pgtype.Int8{}).Encode(pgtype.Int8{Int64: n, Valid: true}, buf)
}

func bigNumber(digits string) *big.Int {
	n, _ := new(big.Int).SetString(digits, 10)
	return n
}
