package sent_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// label is a driver.Valuer that gives a text; octets one that gives bytes.
type (
	label  struct{ text string }
	octets struct{ bytes []byte }
)

func (l label) Value() (driver.Value, error)  { return l.text, nil }
func (o octets) Value() (driver.Value, error) { return o.bytes, nil }

func valid(text string) sql.NullString { return sql.NullString{String: text, Valid: true} }

func TestATextForATypeThatPgxDoesNotKnowIsReadByTheServer(t *testing.T) {
	t.Parallel()
	all := database(t, `create extension citext; create extension ltree; create extension hstore; create type color as enum ('red');
		create domain email as text; create domain cents as int; create type pair as (a int, b text)`)
	for typ, c := range map[string]struct{ text, want string }{
		"money":   {"12345.67", "$12,345.67"},
		"regtype": {"int8", "bigint"}, "regclass": {"pg_class", "pg_class"}, "regproc": {"now", "now"},
		"pg_lsn": {"1/234567", "1/234567"}, "timetz": {"12:00:00+02", "12:00:00+02"},
		"tsquery": {"a & b", "'a' & 'b'"}, "txid_snapshot": {"10:20:10,14", "10:20:10,14"},
		"citext": {"Red", "Red"}, "ltree": {"a.b", "a.b"},
		"hstore":  {"a=>1", `"a"=>"1"`},
		"color":   {"red", "red"},
		"color[]": {"{red}", "{red}"},
		"email":   {"a@b", "a@b"}, "email[]": {"{a@b}", "{a@b}"},
		"cents": {"12", "12"},
		"pair":  {`(1,"x	y\\n")`, `(1,"x	y\\n")`},
		// pgx knows these, and reads less of them than the server.
		"timestamptz": {"2024-01-01 12:00 UTC", "2024-01-01 12:00:00+00"}, "int4range": {"[1,2)", "[1,2)"},
		"numeric": {" 1e3 ", "1000"}, "int4": {" 5 ", "5"}, "bool": {"yes", "true"},
		"interval": {"1 week", "7 days"}, "uuid": {"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		"bytea": {`\x0102`, `\x0102`}, "date": {"January 8, 1999", "1999-01-08"}, "text": {"a\tb\\c\nd\r\\N", "a\tb\\c\nd\r\\N"},
	} {
		t.Run(typ, func(t *testing.T) {
			s := all.column(t, typ)
			stores(t, s, []string{c.text, c.text}, c.want, c.want)
			stores(t, s, []*string{&c.text, nil}, c.want, "NULL")
			stores(t, s, []sql.NullString{valid(c.text), {}}, c.want, "NULL")
			stores(t, s, []pgtype.Text{{String: c.text, Valid: true}, {}}, c.want, "NULL")
			if typ != "bytea" { // a text that it stores otherwise
				stores(t, s, []label{{c.text}}, c.want)
			}
		})
	}
}

const textDDL = `create domain email as text; create domain nested as email; create extension citext; create type color as enum ('red'); create extension ltree;
	create domain blob as bytea; create domain deep as blob; create domain blobs as bytea[]; create domain emails as text[]`

func TestBytesForATypeThatPgxDoesNotKnowAreItsText(t *testing.T) {
	t.Parallel()
	all := database(t, textDDL)
	for typ, want := range map[string]string{
		"text": "red", "email": "red", "name": "red",
		"nested": "red",
		"citext": "red", "color": "red",
		"ltree": "red", "bytea": `\x726564`, "blob": `\x726564`,
		"deep": `\x726564`,
	} {
		t.Run(typ, func(t *testing.T) {
			s := all.column(t, typ)
			red := []byte("red")
			stores(t, s, [][]byte{red, nil, red}, want, "NULL", want)
			stores(t, s, []*[]byte{&red, nil}, want, "NULL")
			stores(t, s, []named{named(red)}, want)
			stores(t, s, []octets{{red}}, want)
			told, blind := ways[[]byte](s)
			for name, send := range blind {
				require.NoError(t, send(t.Context(), red, red), name)
				assert.Equal(t, []string{want, want}, s.stored(), name)
			}
			if want == "red" {
				for name, send := range told {
					refused(t, name, send(t.Context(), []byte{'r', 0}), pgcmd.CodeInvalid, "NUL byte")
					break // the Go map chooses
				}
			}
			exec := pgcmd.Exec[holding[[]byte]]("h.exec", `insert into `+s.table+` values (@v)`)
			assert.NoError(t, pgcmd.Verify(t.Context(), s.pool, exec, pgcmd.Copy[holding[[]byte]]("h.copy", pgx.Identifier{s.table})))
		})
	}
}

type named []byte

func TestArraysOfBytesForATypeThatPgxDoesNotKnowAreTexts(t *testing.T) {
	t.Parallel()
	all := database(t, textDDL)
	for typ, want := range map[string]string{
		"text[]": "{red,NULL,red}", "email[]": "{red,NULL,red}",
		"color[]": "{red,NULL,red}", "citext[]": "{red,NULL,red}",
		"bytea[]": `{"\\x726564",NULL,"\\x726564"}`, "blob[]": `{"\\x726564",NULL,"\\x726564"}`,
		"blobs": `{"\\x726564",NULL,"\\x726564"}`, "emails": "{red,NULL,red}",
	} {
		t.Run(typ, func(t *testing.T) {
			s := all.column(t, typ)
			red := []byte("red")
			stores(t, s, [][][]byte{{red, nil, red}}, want)
			stores(t, s, []*[][]byte{{red, nil, red}, nil}, want, "NULL")
			stores(t, s, [][]*[]byte{{&red, nil, &red}}, want)
			stores(t, s, []pgtype.FlatArray[[]byte]{{red, nil, red}}, want)
			stores(t, s, []pgtype.Array[[]byte]{{Elements: [][]byte{red, nil, red}, Dims: []pgtype.ArrayDimension{{Length: 3, LowerBound: 1}}, Valid: true}}, want)
		})
	}
}

// A connection that prepares statements keeps the types that their parameters had. One that
// does not must not remember them either.
func TestBytesFollowTheTypeOfTheirParameter(t *testing.T) {
	t.Parallel()
	s := database(t, textDDL).column(t, "bytea")
	exec := pgcmd.Exec[holding[[]byte]]("h.exec", `insert into `+s.table+` values (@v)`)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		pool := s.connect(mode)
		run := func(want string) {
			var err error
			for range 2 {
				if _, err = exec.Run(t.Context(), pool, holding[[]byte]{[]byte("red")}); err == nil {
					break
				}
			}
			require.NoError(t, err, mode)
			assert.Equal(t, []string{want}, s.stored(), mode)
		}
		run(`\x726564`)
		_, err := s.pool.Exec(t.Context(), `alter table `+s.table+` alter v type email using ''`)
		require.NoError(t, err)
		run("red")
		_, err = s.pool.Exec(t.Context(), `alter table `+s.table+` alter v type bytea using ''`)
		require.NoError(t, err)
		s.pool.Reset()
	}
}

// RawID is a string that encodes itself: its bytes are never sent.
type RawID string

func (r RawID) Value() (driver.Value, error) { return hex.EncodeToString([]byte(r)), nil }

// Broken is a string that is fine, and sends what is not.
type Broken string

func (b Broken) Value() (driver.Value, error) { return string(b) + "\x00", nil }

// Refusing has no value to send.
type Refusing struct{}

func (Refusing) Value() (driver.Value, error) { return nil, fmt.Errorf("hunter2: %w", errNoValue) }

var errNoValue = pgcmd.Errorf(pgcmd.CodeFailed, "no value")

func TestWhatIsCheckedIsWhatIsSent(t *testing.T) {
	t.Parallel()
	all := database(t, textDDL)
	for _, typ := range []string{"text", "varchar", "email", "citext"} {
		t.Run(typ, func(t *testing.T) {
			s := all.column(t, typ)
			id := RawID("\x00\xff")
			stores(t, s, []RawID{id}, "00ff")
			stores(t, s, []*RawID{&id, nil}, "00ff", "NULL")
			refuses(t, s, []Broken{"a"}, pgcmd.CodeInvalid, "V", "NUL byte")
			refuses(t, s, []label{{"a"}, {"\xff"}}, pgcmd.CodeInvalid, "V", "UTF-8")
			refuses(t, s, []sql.NullString{valid("a\x00")}, pgcmd.CodeInvalid, "V", "NUL byte")
			refuses(t, s, []pgtype.Text{{String: "a\xff", Valid: true}}, pgcmd.CodeInvalid, "V", "UTF-8")
			refuses(t, s, []Refusing{{}}, pgcmd.CodeInvalid, "V")
			_, blind := ways[label](s)
			for name, send := range blind {
				refused(t, name, send(t.Context(), label{"a"}, label{"a\x00"}), pgcmd.CodeInvalid, "NUL byte")
				s.stored()
			}
			told, _ := ways[Refusing](s)
			for name, send := range told {
				err := send(t.Context(), Refusing{})
				assert.ErrorIs(t, err, errNoValue, name)
				assert.NotContains(t, err.Error(), "hunter2", name)
			}
		})
	}
}
