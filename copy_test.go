package pgcmd_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const copyDDL = `
	create table owners (id int primary key);
	create table parts (
		id    bigint constraint parts_pkey primary key,
		name  text not null,
		qty   int constraint parts_qty_check check (qty >= 0),
		owner int constraint parts_owner_fkey references owners deferrable initially deferred
	)`

type part struct {
	ID   int64
	Name string
	Qty  int
}

var copyParts = pgcmd.Copy[part]("parts.copy", pgx.Identifier{"parts"})

const countParts = `select count(*) from parts`

// rowsOf is a sequence without an error.
func rowsOf[Row any](rows ...Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// manyParts yields n good parts, and forever if n is negative; at is called before
// each, with its number.
func manyParts(n int, at func(i int)) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		for i := 1; i <= n || n < 0; i++ {
			if at != nil {
				at(i)
			}
			if !yield(part{ID: int64(i), Name: "an part", Qty: i}, nil) {
				return
			}
		}
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	pool := connect(t, plain, 2)
	pooled, err := plain.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, plain.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	tx, err := plain.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)

	for name, db := range map[string]pgcmd.DB{"a pool": pool, "a plain pool": plain, "a pooled connection": pooled, "a connection": conn, "a transaction of pgx's": tx} {
		for _, n := range []int{0, 1, 7, 20_000} {
			copied, err := copyParts.Run(ctx, db, manyParts(n, nil))
			require.NoError(t, err, name)
			assert.EqualValues(t, n, copied, name)
			assert.Equal(t, n, count(t, db, countParts), name)
			assert.Equal(t, n*(n+1)/2, count(t, db, `select coalesce(sum(qty), 0) from parts where name = 'an part'`), name)
			_, err = db.Exec(ctx, `delete from parts`)
			require.NoError(t, err)
		}
		if db == pgcmd.DB(tx) {
			require.NoError(t, tx.Rollback(ctx))
			_, err := copyParts.Run(ctx, tx, manyParts(1, nil))
			assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect, "the transaction has ended")
			assert.Contains(t, err.Error(), "the transaction has ended")
		}
	}
	assert.Zero(t, count(t, plain, countParts))
	idle(t, pool.Pool)
}

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

// The rarer ways: what pgtype can only read as text, a codec of the user's, types
// that nobody knows.
func TestCopyOfTypesThatPgxDoesNotKnow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create type colour as enum ('red'); create table odd (price money, lsn pg_lsn, colours colour[], colour colour, n numeric, at timestamptz)`)
	for name, run := range map[string]func() (int64, error){
		"money from a text": func() (int64, error) {
			return pgcmd.Copy[struct{ Price string }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ Price string }{"$1234.56"}))
		},
		"money from a number": func() (int64, error) {
			return pgcmd.Copy[struct{ Price int64 }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ Price int64 }{5}))
		},
		"a number for an enum": func() (int64, error) {
			return pgcmd.Copy[struct{ Colour int }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ Colour int }{5}))
		},
		"an array of an enum": func() (int64, error) {
			return pgcmd.Copy[struct{ Colours []string }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ Colours []string }{[]string{"red"}}))
		},
	} {
		_, err := run()
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeInternal, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Contains(t, e.Message, "of a type that pgx does not know", name)
	}
	_, err := pgcmd.Copy[struct{ LSN []byte }]("odd.copy", pgx.Identifier{"odd"}).Run(ctx, pool, rowsOf(struct{ LSN []byte }{[]byte{0, 0, 0, 1, 0, 0, 0, 2}}))
	require.NoError(t, err, "bytes are taken for the binary form")
	assert.Equal(t, 1, count(t, pool, `select count(*) from odd where lsn = '1/2'`))

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
	assert.Contains(t, failure(t, err).Message, "row 2: column colour: invalid_text_representation")
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

func TestACopyThatIsWrongPanicsAtDefinition(t *testing.T) {
	t.Parallel()
	table := pgx.Identifier{"parts"}
	for want, define := range map[string]func(){
		"the row type int names no columns":                     func() { pgcmd.Copy[int]("parts.copy", table) },
		"the row type time.Time names no columns":               func() { pgcmd.Copy[time.Time]("parts.copy", table) },
		"the row type map[string]interface {} names no columns": func() { pgcmd.Copy[map[string]any]("parts.copy", table) },
		"use pgcmd_test.part, rows are values":                  func() { pgcmd.Copy[*part]("parts.copy", table) },
		"the row type struct {} has no exported fields":         func() { pgcmd.Copy[struct{}]("parts.copy", table) },
		"field struct { C chan int }.C cannot hold a column":    func() { pgcmd.Copy[struct{ C chan int }]("parts.copy", table) },
		"fields PartID and Part_ID of":                          func() { pgcmd.Copy[struct{ PartID, Part_ID int }]("parts.copy", table) },
		"the table has no name":                                 func() { pgcmd.Copy[part]("parts.copy", nil) },
		`the table ["public" ""] has a part that is no name`:    func() { pgcmd.Copy[part]("parts.copy", pgx.Identifier{"public", ""}) },
		`the table ["i\x00tems"] has a part that is no name`:    func() { pgcmd.Copy[part]("parts.copy", pgx.Identifier{"i\x00tems"}) },
		"Options.ReadOnly, but a Copy is a write":               func() { copyParts.With(pgcmd.Options{ReadOnly: true}) },
		"validate tag of": func() {
			pgcmd.Copy[struct {
				A int `validate:"nosuchrule"`
			}]("parts.copy", table)
		},
		"the sequence of a Copy cannot be": func() { pgcmd.Once(copyParts, func(iter.Seq2[part, error]) string { return "k" }) },
	} {
		text := panics(t, define)
		assert.Contains(t, text, want)
		assert.True(t, strings.HasPrefix(text, "pgcmd: parts.copy: "), text)
	}
	assert.Contains(t, panics(t, func() { pgcmd.Copy[part]("", table) }), "a command needs a name")
}

func TestACopyThatDoesNotFitItsTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	untouched := manyParts(1, func(int) { t.Error("the sequence was begun") })
	for want, run := range map[string]func() (int64, error){
		`42P01`: func() (int64, error) {
			return pgcmd.Copy[part]("parts.copy", pgx.Identifier{"Parts"}).Run(ctx, pool, untouched)
		},
		`there is no table "nowhere"."parts"`: func() (int64, error) {
			return pgcmd.Copy[part]("parts.copy", pgx.Identifier{"nowhere", "parts"}).Run(ctx, pool, untouched)
		},
		"field wrong.Title has no column: table \"parts\" has id, name, qty, owner": func() (int64, error) {
			type wrong struct{ ID, Title int }
			return pgcmd.Copy[wrong]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, func(func(wrong, error) bool) { t.Error("the sequence was begun") })
		},
		`column "qty" is meant for two fields of wrong, Qty and Other`: func() (int64, error) {
			type wrong struct {
				Qty   int
				Other int `db:"QTY"`
			}
			return pgcmd.Copy[wrong]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, rowsOf[wrong]())
		},
		"the sequence of rows is nil":                    func() (int64, error) { return copyParts.Run(ctx, pool, nil) },
		"a copy cannot be made on a pgcmd_test.unusedDB": func() (int64, error) { return copyParts.Run(ctx, unusedDB{}, untouched) },
	} {
		n, err := run()
		e := failure(t, err)
		assert.Zero(t, n)
		assert.Contains(t, e.Error(), want)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "parts.copy", e.Command)
	}
	_, err := copyParts.Run(ctx, pool, nil)
	assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
	idle(t, pool.Pool)

	_, err = pool.Exec(ctx, `do $$ begin create role copy_inserter; exception when duplicate_object then null; end $$; grant insert on parts to copy_inserter`)
	require.NoError(t, err)
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		if _, err := tx.Exec(ctx, `set local role copy_inserter`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `savepoint before`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `select 1 from parts`)
		require.Error(t, err, "the role cannot read")
		_, err = tx.Exec(ctx, `rollback to before`)
		require.NoError(t, err)
		return runErr(copyParts.Run(ctx, tx, manyParts(3, nil)))
	}).Run(ctx, pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 3, count(t, pool, countParts))
}

func TestASequenceThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	pid := count(t, pool, `select pg_backend_pid()`)
	emptied := func() {
		t.Helper()
		idle(t, pool.Pool)
		assert.Zero(t, count(t, pool, countParts))
	}
	clean := func() {
		t.Helper()
		emptied()
		assert.Equal(t, pid, count(t, pool, `select pg_backend_pid()`), "the connection lives")
	}
	for _, at := range []int{1, 3, 50_000} { // before anything is on its way, and after
		failing := func(err error) iter.Seq2[part, error] {
			return func(yield func(part, error) bool) {
				for row := range manyParts(at-1, nil) {
					if !yield(row, nil) {
						return
					}
				}
				assert.False(t, yield(part{ID: 7}, err))
			}
		}
		_, err := copyParts.Run(ctx, pool, failing(errHook))
		e := failure(t, err)
		assert.ErrorIs(t, err, errHook)
		assert.Equal(t, pgcmd.CodeFailed, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, 1, e.Attempts)
		assert.Contains(t, e.Message, fmt.Sprintf("the sequence failed at row %d with *errors.errorString", at))
		clean()

		_, err = copyParts.Run(ctx, pool, failing(pgcmd.Errorf(pgcmd.CodeConflict, "the file ends too soon")))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeConflict, e.Code)
		assert.Equal(t, fmt.Sprintf("the sequence failed at row %d: the file ends too soon", at), e.Message)
		clean()

		assert.Equal(t, "boom", panics(t, func() { _, _ = copyParts.Run(ctx, pool, manyParts(-1, func(i int) { panicAt(i, at) })) }))
		clean()

		exited := make(chan struct{})
		go func() {
			defer close(exited)
			_, _ = copyParts.Run(ctx, pool, manyParts(-1, func(i int) {
				if i == at {
					runtime.Goexit()
				}
			}))
			t.Error("Goexit was lost")
		}()
		<-exited
		clean()

		gone, cancel := context.WithCancel(ctx)
		_, err = copyParts.Run(gone, pool, manyParts(-1, func(i int) {
			if i == at {
				cancel()
			}
		}))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeCanceled, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		emptied()

		late := copyParts.With(pgcmd.Options{Timeout: 100 * time.Millisecond})
		_, err = late.Run(ctx, pool, manyParts(-1, nil))
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeTimeout, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, context.Canceled)
		emptied()
		pid = count(t, pool, `select pg_backend_pid()`)
	}
	t.Run("a cancellation leaves the connection alive, if the server answers soon", func(t *testing.T) {
		assert.Eventually(t, func() bool {
			before := count(t, pool, `select pg_backend_pid()`)
			gone, cancel := context.WithCancel(ctx)
			_, err := copyParts.Run(gone, pool, manyParts(-1, func(i int) {
				if i == 1000 {
					cancel()
				}
			}))
			require.ErrorIs(t, err, context.Canceled)
			pid = count(t, pool, `select pg_backend_pid()`)
			return pid == before
		}, 20*time.Second, time.Millisecond)
	})
	t.Run("a Valuer that panics", func(t *testing.T) {
		type row struct {
			ID   int
			Name bomb
		}
		assert.Equal(t, "boom", panics(t, func() {
			_, _ = pgcmd.Copy[row]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, rowsOf(row{ID: 1}))
		}))
		clean()
	})
	t.Run("the caller's loop over a canceled context", func(t *testing.T) {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := copyParts.Run(gone, pool, manyParts(1, func(int) { t.Error("the sequence was begun") }))
		assert.ErrorIs(t, err, context.Canceled)
		clean()
	})
}

func panicAt(i, at int) {
	if i == at {
		panic("boom")
	}
}

type bomb struct{}

func (bomb) Value() (driver.Value, error) { panic("boom") }

func TestABadRowIsNamedByItsNumber(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL+`;
		create table checked (id int, email text, small int2, note varchar(3), at timestamptz, "when" timestamp, r real, odd numeric);
		create view adults as select id, qty from parts where qty > 17 with check option;
		create function refuse() returns trigger language plpgsql as $$ begin if new.id = 2 then raise exception 'no %', new.note; end if; return new; end $$;
		create table triggered (id int, note text); create trigger refuse before insert on triggered for each row execute function refuse()`), 1)
	parts := func(bad int, row part) iter.Seq2[part, error] {
		rows := slices.Repeat([]part{{Name: "good"}}, 5000)
		for i := range rows {
			rows[i].ID = int64(i + 1)
		}
		rows[bad-1] = row
		return rowsOf(rows...)
	}
	type nullable struct {
		ID   *int64
		Name *string
	}
	type owned struct{ ID, Name, Owner int }
	type signee struct {
		ID    int
		Email string `validate:"required,email"`
		Small int    `validate:"lte=100000"`
	}
	type small struct{ Small int }
	type noted struct {
		ID   int
		Note string
	}
	type timed struct {
		At   time.Time
		When *time.Time
	}
	type odd struct{ Odd string }
	type adult struct{ ID, Qty int }
	name := "x"
	copyOf := func(table string) pgx.Identifier { return pgx.Identifier{table} }
	for what, c := range map[string]struct {
		run        func() (int64, error)
		message    string
		code       pgcmd.Code
		constraint string
		column     string
		problem    string
	}{
		"unique":        {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 4, Name: "twice"})) }, "row 18: unique_violation: constraint parts_pkey of table parts", pgcmd.CodeConflict, "parts_pkey", "", ""},
		"unique, late":  {func() (int64, error) { return copyParts.Run(ctx, pool, parts(4444, part{ID: 4, Name: "twice"})) }, "row 4444: unique_violation: constraint parts_pkey of table parts", pgcmd.CodeConflict, "parts_pkey", "", ""},
		"check":         {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Qty: -1})) }, "row 18: check_violation: constraint parts_qty_check of table parts", pgcmd.CodeInvalid, "parts_qty_check", "", ""},
		"text with NUL": {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Name: "a\x00"})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", "Name holds a NUL byte"},
		"not UTF-8":     {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Name: "a\xff"})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", "Name is not valid UTF-8"},
		"int4":          {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Qty: 1 << 31})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", `Qty is out of the range of column "qty" (int4)`},
		"int2": {func() (int64, error) {
			return pgcmd.Copy[small]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(small{32767}, small{-32769}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", `Small is out of the range of column "small" (int2)`},
		"time": {func() (int64, error) {
			return pgcmd.Copy[timed]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(timed{}, timed{At: time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", `At is out of the range of column "at" (timestamptz)`},
		"not null": {func() (int64, error) {
			id := int64(1)
			return pgcmd.Copy[nullable]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(nullable{&id, &name}, nullable{Name: &name}))
		}, "row 2: not_null_violation: column id of table parts", pgcmd.CodeInvalid, "", "id", ""},
		"too long": {func() (int64, error) {
			return pgcmd.Copy[noted]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(noted{1, "abc"}, noted{2, "abcd"}))
		}, "row 2: column note: string_data_right_truncation", pgcmd.CodeInvalid, "", "note", ""},
		"validate": {func() (int64, error) {
			return pgcmd.Copy[signee]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(signee{1, "a@b.de", 5}, signee{2, "ab.de", 200_000}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", "Email must be a valid email address"},
		"not a number": {func() (int64, error) {
			return pgcmd.Copy[odd]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(odd{"1.5"}, odd{"five"}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", `Odd does not fit the type of column "odd" (numeric)`},
		"foreign key": {func() (int64, error) {
			return pgcmd.Copy[struct {
				ID    int
				Name  string
				Owner int
			}]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(struct {
				ID    int
				Name  string
				Owner int
			}{1, "x", 1}))
		}, "foreign_key_violation: constraint parts_owner_fkey of table parts", pgcmd.CodeConflict, "parts_owner_fkey", "", ""},
		"a trigger": {func() (int64, error) {
			return pgcmd.Copy[noted]("t.copy", copyOf("triggered")).Run(ctx, pool, rowsOf(noted{1, "COPY triggered, line 1"}, noted{2, "\nCOPY triggered, line 1"}))
		}, "row 2: raise_exception", pgcmd.CodeFailed, "", "", ""},
		"a view is no table": {func() (int64, error) {
			return pgcmd.Copy[adult]("t.copy", copyOf("adults")).Run(ctx, pool, rowsOf(adult{1, 1}))
		}, "wrong_object_type", pgcmd.CodeInternal, "", "", ""},
		"a text for an int": {func() (int64, error) {
			return pgcmd.Copy[owned]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(owned{1, 2, 3}))
		}, "row 1: the row was refused", pgcmd.CodeInvalid, "", "", `Name does not fit the type of column "name" (text)`},
	} {
		n, err := c.run()
		e := failure(t, err)
		assert.Zero(t, n, what)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
		assert.Equal(t, c.code, e.Code, what)
		assert.Equal(t, c.message, e.Message, what)
		assert.Equal(t, c.constraint, e.Constraint, what)
		assert.Equal(t, c.column, e.Column, what)
		if c.problem != "" && assert.NotEmpty(t, e.Problems, what) {
			assert.Contains(t, e.Problems[0].String(), c.problem, what)
		}
	}
	assert.Zero(t, count(t, pool, countParts))

	taken := errors.New("it is there already")
	_, err := copyParts.With(pgcmd.Options{OnConstraint: map[string]error{"parts_pkey": taken}}).Run(ctx, pool, parts(18, part{ID: 4}))
	assert.ErrorIs(t, err, taken)
	assert.Equal(t, "row 18: it is there already", failure(t, err).Message)

	trusted := pgcmd.Copy[signee]("t.copy", pgx.Identifier{"checked"}).With(pgcmd.Options{Trusted: true})
	_, err = trusted.Run(ctx, pool, rowsOf(signee{1, "no address", 1}))
	require.NoError(t, err)
}

func TestACopyInATransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 2)
	bad := rowsOf(part{ID: 1}, part{ID: 1})
	reset := func() { _, err := pool.Exec(ctx, `delete from parts`); require.NoError(t, err) }

	t.Run("joins it, as its first statement too", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			n, err := copyParts.Run(ctx, tx, manyParts(3, nil))
			assert.EqualValues(t, 3, n)
			assert.Equal(t, 3, count(t, tx, countParts))
			return errors.Join(err, errHook)
		}).Run(ctx, pool, empty{})
		assert.ErrorIs(t, err, errHook)
		assert.Zero(t, count(t, pool, countParts))
	})
	t.Run("a failure aborts it, and cannot be swallowed", func(t *testing.T) {
		for name, rows := range map[string]iter.Seq2[part, error]{
			"unique_violation":             bad,
			"the row was refused":          rowsOf(part{Name: "\x00"}),
			"the sequence failed at row 1": func(yield func(part, error) bool) { yield(part{}, errHook) },
		} {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := copyParts.Run(ctx, tx, rows)
				assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
				assert.Equal(t, "parts.copy", failure(t, err).Command)
				_, err = copyParts.Run(ctx, tx, manyParts(1, nil))
				assert.Contains(t, failure(t, err).Error(), name, "the reason, and not its consequence")
				return nil
			}).Run(ctx, pool, empty{})
			e := failure(t, err)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Contains(t, e.Message, "the body swallowed the error")
			assert.Contains(t, e.Message, name)
		}
		assert.Zero(t, count(t, pool, countParts))
	})
	t.Run("Try is isolated", func(t *testing.T) {
		elsewhere := &pgconn.PgError{Code: "40001", Severity: "ERROR"} // of another database, say
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			assert.True(t, copyParts.Try(ctx, tx, manyParts(2, nil)).OK())
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(copyParts.Try(ctx, tx, bad).Err))
			assert.ErrorIs(t, copyParts.Try(ctx, tx, func(yield func(part, error) bool) { yield(part{}, elsewhere) }).Err, elsewhere)
			assert.Equal(t, "boom", panics(t, func() { copyParts.Try(ctx, tx, manyParts(5, func(i int) { panicAt(i, 4) })) }))
			return runErr(copyParts.Run(ctx, tx, rowsOf(part{ID: 3})))
		}).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, 3, count(t, pool, countParts))
		reset()
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		assert.Error(t, copyParts.Try(ctx, tx, bad).Err)
		assert.True(t, copyParts.Try(ctx, tx, manyParts(2, nil)).OK())
		require.NoError(t, tx.Commit(ctx))
		assert.Equal(t, 2, count(t, pool, countParts))
		reset()
	})
	t.Run("InTx, so that After can veto it", func(t *testing.T) {
		veto := func(context.Context, iter.Seq2[part, error], *int64) error { return errHook }
		_, err := copyParts.With(pgcmd.Options{InTx: true}).After(veto).Run(ctx, pool, manyParts(3, nil))
		assert.ErrorIs(t, err, errHook)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		assert.Zero(t, count(t, pool, countParts))
		_, err = copyParts.After(veto).Run(ctx, pool, manyParts(3, nil))
		assert.Equal(t, pgcmd.Applied, pgcmd.EffectOf(err))
		assert.Equal(t, 3, count(t, pool, countParts))
		reset()
	})
	t.Run("its sequence cannot use the same connection", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(copyParts.Run(ctx, tx, func(yield func(part, error) bool) {
				_, err := tx.Exec(ctx, `select 1`)
				yield(part{}, err)
			}))
		}).Run(ctx, pool, empty{})
		assert.Contains(t, failure(t, err).Message, "the sequence failed at row 1: the transaction is in use")
	})
	t.Run("a deferred constraint fails at COMMIT", func(t *testing.T) {
		type owned struct {
			ID    int
			Name  string
			Owner int
		}
		c := pgcmd.Copy[owned]("parts.copy", pgx.Identifier{"parts"})
		for _, c := range []*pgcmd.Command[iter.Seq2[owned, error], int64]{c, c.With(pgcmd.Options{InTx: true})} {
			_, err := c.Run(ctx, pool, rowsOf(owned{1, "x", 9}))
			e := failure(t, err)
			assert.Equal(t, "parts_owner_fkey", e.Constraint)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
		}
		assert.Zero(t, count(t, pool, countParts))
	})
	idle(t, pool.Pool)
}

func TestACopyIsTriedAgainOnlyBeforeItsSequenceIsBegun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(plain.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
	require.NoError(t, err)
	defer pool.Pool.Close()
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Millisecond}}
	begun := 0
	rows := manyParts(3, func(i int) {
		if i == 1 {
			begun++
		}
	})

	proxy.Set(&faults.Fault{Message: 1, Action: faults.CutBefore}) // the question for the columns
	o := copyParts.With(again).Try(ctx, pool, rows)
	require.NoError(t, o.Err)
	assert.Equal(t, 2, o.Attempts)
	assert.Equal(t, 1, begun)
	_, err = plain.Exec(ctx, `delete from parts`)
	require.NoError(t, err)

	begun = 0
	isDone := func(typ byte, _ []byte) bool { return typ == 'c' }
	isCommit := func(typ byte, body []byte) bool { return typ == 'Q' && strings.Contains(string(body), "commit") }
	for name, c := range map[string]struct {
		match  func(typ byte, body []byte) bool
		run    func() (int64, error)
		effect pgcmd.Effect
	}{
		"alone": {isDone, func() (int64, error) { return copyParts.With(again).Run(ctx, pool, rows) }, pgcmd.Unknown},
		"in its own": {isDone, func() (int64, error) {
			return copyParts.With(again).With(pgcmd.Options{InTx: true}).Run(ctx, pool, rows)
		}, pgcmd.NotApplied},
		"in another's": {isDone, func() (int64, error) {
			return 0, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error { return runErr(copyParts.Run(ctx, tx, rows)) }).With(again).Run(ctx, pool, empty{}))
		}, pgcmd.NotApplied},
		"before COMMIT": {isCommit, func() (int64, error) {
			return copyParts.With(again).With(pgcmd.Options{InTx: true}).Run(ctx, pool, rows)
		}, pgcmd.Unknown},
		"a 40001, later": {nil, func() (int64, error) {
			return 0, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := copyParts.Run(ctx, tx, rows)
				require.NoError(t, err)
				return runErr(tx.Exec(ctx, `do $$ begin raise sqlstate '40001'; end $$`))
			}).With(again).Run(ctx, pool, empty{}))
		}, pgcmd.NotApplied},
	} {
		begun = 0
		if c.match != nil {
			proxy.Set(&faults.Fault{Match: c.match, Action: faults.CutBefore})
		}
		_, err := c.run()
		e := failure(t, err)
		assert.Equal(t, 1, begun, name)
		assert.Equal(t, 1, e.Attempts, name)
		assert.Equal(t, c.effect, e.Effect, name)
		assert.Zero(t, count(t, plain, countParts), name)
	}
}

func TestTheServerEndsAnEndlessSequence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	// The server looks at constraints of its own at once, at unique ones now and then.
	for name, c := range map[string]struct {
		row     part
		pause   time.Duration
		message string
	}{
		"a fast one": {part{ID: 1}, 0, "row 2: unique_violation: constraint parts_pkey of table parts"},
		"a slow one": {part{Qty: -1}, 10 * time.Millisecond, "row 1: check_violation: constraint parts_qty_check of table parts"},
	} {
		after := 0
		start := time.Now()
		_, err := copyParts.Run(ctx, pool, func(yield func(part, error) bool) {
			for {
				time.Sleep(c.pause)
				if !yield(c.row, nil) {
					after++
					return
				}
			}
		})
		e := failure(t, err)
		assert.Equal(t, c.message, e.Message, name)
		assert.Equal(t, 1, after, name)
		assert.Less(t, time.Since(start), 3*time.Second, name)
		idle(t, pool.Pool)
	}
}

// Every message of a copy, in both directions, is cut or swallowed: what is told of
// the effect must be so.
func TestACopyTellsTheTruthWhereverTheConnectionBreaks(t *testing.T) {
	plain := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(plain.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	before := goleak.IgnoreCurrent()
	id, points, unknown := int64(0), 0, 0
	inTx := copyParts.With(pgcmd.Options{InTx: true})
	strike := func(c *pgcmd.Command[iter.Seq2[part, error], int64], f *faults.Fault) (fired bool) {
		pool, err := pgcmd.Connect(context.Background(), pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if f.Action.String() == faults.BlackHole.String() {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 400*time.Millisecond)
		}
		defer cancel()
		const rows = 2500 // three messages
		first := id
		id += rows
		proxy.Set(f)
		start := time.Now()
		_, err = c.Run(ctx, pool, func(yield func(part, error) bool) {
			for i := range int64(rows) {
				if !yield(part{ID: first + i, Name: "thirty two bytes of a name, more"}, nil) {
					return
				}
			}
		})
		assert.Less(t, time.Since(start), 9*time.Second)
		fired = proxy.Fired() > 0
		idle(t, pool.Pool)
		proxy.Heal()
		pool.Pool.Close()
		require.Eventually(t, func() bool {
			return count(t, plain, `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`) == 0
		}, 10*time.Second, time.Millisecond)
		there := count(t, plain, fmt.Sprintf(`select count(*) from parts where id >= %d`, first))
		points++
		switch effect := pgcmd.EffectOf(err); {
		case there != 0 && there != rows,
			effect == pgcmd.Applied && there == 0,
			effect == pgcmd.NotApplied && there != 0,
			err != nil && (!fired || strings.HasPrefix(f.Action.String(), "delay")):
			t.Errorf("%v %d, %v: %v, and %d rows are there", f.Direction, f.Message, f.Action, err, there)
		case effect == pgcmd.Unknown:
			unknown++
		}
		return fired
	}
	actions := []faults.Action{faults.CutBefore, faults.BlackHole}
	if os.Getenv("PGCMD_FAULTS") == "all" {
		actions = append(actions, faults.CutAfter, faults.Reset, faults.HalfClose, faults.Delay(50*time.Millisecond))
	}
	for name, c := range map[string]*pgcmd.Command[iter.Seq2[part, error], int64]{"alone": copyParts, "InTx": inTx} {
		actions := actions
		if c == inTx && len(actions) == 2 {
			actions = actions[:1]
		}
		for _, action := range actions {
			for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
				for message := 1; strike(c, &faults.Fault{Direction: direction, Message: message, Action: action}); message++ {
					require.Less(t, message, 60, name)
				}
			}
		}
	}
	t.Logf("%d points, %d of them unknown", points, unknown)
	assert.Less(t, unknown, points/3)
	goleak.VerifyNone(t, before)
}

// The server's own end of the connection, and of the copy, while the sequence
// blocks or goes on: it returns at the next row.
func TestTheConnectionDiesUnderASequence(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	for name, n := range map[string]int{"at the first row": 1, "later": 30_000} {
		pool := connect(t, plain, 1)
		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		pid := conn.Conn().PgConn().PID()
		conn.Release()
		after := 0
		_, err = copyParts.Run(ctx, pool, func(yield func(part, error) bool) {
			for i := int64(1); ; i++ {
				if i == int64(n) {
					_, err := plain.Exec(ctx, `select pg_terminate_backend($1)`, pid)
					require.NoError(t, err)
				}
				if i > int64(n) {
					time.Sleep(time.Millisecond)
				}
				if !yield(part{ID: i}, nil) {
					after++
					return
				}
			}
		})
		e := failure(t, err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code, name)
		assert.Equal(t, 1, after, name)
		idle(t, pool.Pool)
		assert.Zero(t, count(t, pool, countParts))
	}
}

// pgconn calls it on the goroutine that it copies on.
func TestAPanicInOnNoticeReachesTheCaller(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL, `create function tell() returns trigger language plpgsql as $$ begin raise notice 'a row'; return new; end $$;
		create trigger tell before insert on parts for each row execute function tell()`)
	config := plain.Config().Copy()
	config.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { panic("boom") }
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	for _, n := range []int{1, 50_000} {
		assert.Equal(t, "boom", panics(t, func() { _, _ = copyParts.Run(ctx, pool, manyParts(n, nil)) }))
		idle(t, pool)
	}
}

func TestACopyReportsItsProgressAndItsRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, copyDDL)
	for n, want := range map[int][]int{0: {0}, 10_000: {10_000}, 25_000: {10_000, 20_000, 25_000}} {
		var done []int
		var call *pgcmd.Call
		c := copyParts.With(pgcmd.Options{
			Progress: func(rows, total int) { assert.Equal(t, -1, total); done = append(done, rows) },
			Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
				return func(ctx context.Context, c *pgcmd.Call) error { call = c; return next(ctx, c) }
			}},
		})
		_, err := c.Run(ctx, pool, manyParts(n, nil))
		require.NoError(t, err)
		assert.Equal(t, want, done)
		assert.EqualValues(t, n, call.Rows)
		_, err = pool.Exec(ctx, `truncate parts`)
		require.NoError(t, err)
	}
	assert.Equal(t, "boom", panics(t, func() {
		_, _ = copyParts.With(pgcmd.Options{Progress: func(int, int) { panic("boom") }}).Run(ctx, pool, manyParts(15_000, nil))
	}))
	assert.Zero(t, count(t, pool, countParts))
	idle(t, pool)
}

func TestACopyNeedsLittleMemory(t *testing.T) {
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create unlogged table parts (id bigint, name text, qty int)`)
	rows := 300_000
	if os.Getenv("PGCMD_FAULTS") == "all" {
		rows = 5_000_000
	}
	var before, now runtime.MemStats
	most := uint64(0)
	n, err := copyParts.Run(ctx, pool, manyParts(rows, func(i int) {
		switch {
		case i == 1000:
			runtime.GC()
			runtime.ReadMemStats(&before)
		case i%50_000 == 0:
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}))
	require.NoError(t, err)
	assert.EqualValues(t, rows, n)
	assert.Less(t, int64(most)-int64(before.HeapAlloc), int64(2<<20), "bytes beyond those at row 1,000")
	runtime.ReadMemStats(&now)
	assert.Less(t, float64(now.Mallocs-before.Mallocs)/float64(rows), 0.2, "allocations a row")

	large := rowsOf(part{ID: 1, Name: strings.Repeat("x", 10<<20)}, part{ID: 2, Name: strings.Repeat("y", 200_000)}, part{ID: 3})
	n, err = copyParts.Run(ctx, pool, large)
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	assert.Equal(t, 10<<20, count(t, pool, `select length(name) from parts where id = 1 order by length(name) desc limit 1`))
	assert.Equal(t, 200_000, count(t, pool, `select length(name) from parts where name like 'y%'`))
}

func TestACopyShowsNoValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create table secrets (id int constraint secrets_key unique check (id <> 74205101), text text, n numeric, check (text <> '`+rowCanary+` 2'))`)
	type secret struct {
		ID   int
		Text string
		N    any
	}
	c := pgcmd.Copy[secret]("secrets.copy", pgx.Identifier{"secrets"})
	for _, rows := range []iter.Seq2[secret, error]{
		rowsOf(secret{74205101, rowCanary, nil}),
		rowsOf(secret{1, rowCanary, nil}, secret{1, rowCanary, nil}),
		rowsOf(secret{1, rowCanary + " 2", nil}),
		rowsOf(secret{1, rowCanary + "\x00", nil}),
		rowsOf(secret{1, "", rowCanary}),
		rowsOf(secret{7420510100, "", nil}),
		func(yield func(secret, error) bool) { yield(secret{}, errors.New(rowCanary)) },
	} {
		_, err := c.Run(ctx, pool, rows)
		require.Error(t, err)
		assertNoCanary(t, "the error of a copy", err)
	}
}

// The server's log gets what it is told when a copy is given up.
func TestTheServerIsToldNoValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(pool.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	conn, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err)
	defer conn.Close(ctx)
	told := ""
	proxy.Set(&faults.Fault{Match: func(typ byte, body []byte) bool {
		if typ == 'f' {
			told = string(body)
		}
		return typ == 'f'
	}})
	_, err = copyParts.Run(ctx, conn, func(yield func(part, error) bool) { yield(part{}, errors.New(rowCanary)) })
	require.Error(t, err)
	assert.Contains(t, told, "the client gave up")
	assert.NotContains(t, told, rowCanary)
}

func TestACopyIsTracedAsPgxDoes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	config := plain.Config().Copy()
	tracer := &copyTracer{}
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	_, err = copyParts.Run(ctx, pool, manyParts(2, nil))
	require.NoError(t, err)
	_, err = copyParts.Run(ctx, pool, manyParts(2, nil))
	require.Error(t, err)
	assert.Equal(t, []string{"[parts] [id name qty]", "COPY 2 true", "[parts] [id name qty]", " false"}, tracer.seen)
}

type copyTracer struct{ seen []string }

func (c *copyTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *copyTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *copyTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	c.seen = append(c.seen, fmt.Sprint(data.TableName, " ", data.ColumnNames))
	return ctx
}
func (c *copyTracer) TraceCopyFromEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceCopyFromEndData) {
	c.seen = append(c.seen, fmt.Sprint(data.CommandTag, " ", data.Err == nil))
}

func bigNumber(digits string) *big.Int {
	n, _ := new(big.Int).SetString(digits, 10)
	return n
}
