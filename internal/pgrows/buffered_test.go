package pgrows_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

func encode(t testing.TB, messages ...pgproto3.BackendMessage) (b []byte) {
	t.Helper()
	for _, m := range messages {
		var err error
		b, err = m.Encode(b)
		require.NoError(t, err)
	}
	return b
}

func row(values ...string) *pgproto3.DataRow {
	r := &pgproto3.DataRow{}
	for _, v := range values {
		if v == "NULL" {
			r.Values = append(r.Values, nil)
			continue
		}
		r.Values = append(r.Values, []byte(v))
	}
	return r
}

func TestTheRowsOfAReply(t *testing.T) {
	t.Parallel()
	var notices []string
	var ended []string
	b := encode(t, &pgproto3.BindComplete{}, row("1", "NULL"), &pgproto3.NoticeResponse{Message: "careful"}, row("2", ""),
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 2")})
	r := &pgrows.Buffered{Reply: &pgrows.Reply{Messages: b}, Fields: make([]pgconn.FieldDescription, 2), Types: pgtype.NewMap(),
		OnNotice: func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) },
		OnEnd:    func(tag pgconn.CommandTag, err error) { ended = append(ended, tag.String()); assert.NoError(t, err) }}
	require.True(t, r.Next())
	assert.Equal(t, [][]byte{[]byte("1"), nil}, r.RawValues())
	assert.Empty(t, notices)
	require.True(t, r.Next())
	assert.Equal(t, [][]byte{[]byte("2"), {}}, r.RawValues())
	assert.Equal(t, []string{"careful"}, notices)
	assert.Empty(t, ended)
	assert.False(t, r.Next())
	r.Close()
	require.NoError(t, r.Err())
	assert.Equal(t, []string{"SELECT 2"}, ended)
	assert.Nil(t, r.RawValues())

	r = &pgrows.Buffered{Reply: &pgrows.Reply{Messages: b}, Fields: make([]pgconn.FieldDescription, 2)}
	r.Close()
	assert.False(t, r.Next())
	assert.Equal(t, "SELECT 2", r.CommandTag().String())
}

func TestAMalformedRowIsAnError(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"another number of columns": encode(t, row("1", "2")),
		"a count without values":    {'D', 0, 0, 0, 6, 0, 1},
		"a value that is too long":  {'D', 0, 0, 0, 10, 0, 1, 0, 0, 0, 5},
		"a negative length":         {'D', 0, 0, 0, 10, 0, 1, 0x80, 0, 0, 0},
		"no count":                  {'D', 0, 0, 0, 4},
		"another message":           encode(t, &pgproto3.CopyInResponse{}),
	} {
		var ended []error
		r := &pgrows.Buffered{Reply: &pgrows.Reply{Messages: b}, Fields: make([]pgconn.FieldDescription, 1),
			OnEnd: func(_ pgconn.CommandTag, err error) { ended = append(ended, err) }}
		assert.False(t, r.Next(), name)
		require.ErrorIs(t, r.Err(), pgrows.ErrMalformed, name)
		r.Close()
		assert.Equal(t, []error{pgrows.ErrMalformed}, ended, name)
	}
}

// Whatever the body of a DataRow is, its values lie within it.
func FuzzDataRow(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 1, 'x'})
	f.Add([]byte{0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		size := len(body) + 4
		b := append([]byte{'D', byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}, body...)
		n := 0
		if len(body) > 1 {
			n = int(body[0])<<8 | int(body[1])
		}
		r := &pgrows.Buffered{Reply: &pgrows.Reply{Messages: b}, Fields: make([]pgconn.FieldDescription, n)}
		total := 0
		if r.Next() {
			for _, v := range r.RawValues() {
				total += len(v)
			}
		}
		assert.LessOrEqual(t, total, len(body))
	})
}

func TestParseError(t *testing.T) {
	t.Parallel()
	b := encode(t, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "23505", Message: "twice"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	assert.Equal(t, "23505", pgrows.ParseError(b).Code)
	assert.Equal(t, "08P01", pgrows.ParseError(b[:10]).Code)
}
