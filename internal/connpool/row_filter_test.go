package connpool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// A pieceReader returns a few bytes at a time.
type pieceReader struct {
	rest []byte
	rng  *rand.Rand
	most int
}

func (r *pieceReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+r.rng.IntN(r.most))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func message(typ byte, body int, filler byte) []byte {
	b := append([]byte{typ}, binary.BigEndian.AppendUint32(nil, uint32(4+body))...)
	return append(b, bytes.Repeat([]byte{filler}, body)...)
}

// However the bytes are split, a filter returns what it reads, except for the rows that are
// too long, which become empty ones.
func TestARowFilterLeavesOutLongRows(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		left := rng.IntN(60_000)
		var sent, want []byte
		for range rng.IntN(40) {
			body := rng.IntN(40)
			switch rng.IntN(4) {
			case 0:
				body = rng.IntN(20_000)
			case 1:
				body = bigRow - 8 + rng.IntN(16)
			case 2:
				body = left + rowOverhead - 8 + rng.IntN(16)
			}
			typ := "DDDCEZTN"[rng.IntN(8)]
			m := message(typ, body, byte(rng.IntN(256)))
			sent = append(sent, m...)
			if typ == 'D' && body+4 > bigRow && body+4 > left+rowOverhead {
				m = emptyRow
			}
			want = append(want, m...)
		}
		f := &RowFilter{from: &pieceReader{sent, rng, 1 + rng.IntN(10_000)}, enabled: true, left: left}
		got, err := io.ReadAll(&randomReader{f, rng})
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d bytes were expected, and %d came", len(want), len(got))
		require.True(t, f.isEmpty())
		require.Equal(t, len(want) != len(sent), f.refused)
	}
}

// A randomReader reads with buffers of many sizes.
type randomReader struct {
	from io.Reader
	rng  *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) { return r.from.Read(p[:1+r.rng.IntN(len(p))]) }

func TestADisabledRowFilterReturnsEverything(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	sent := message('D', 1<<20, 'x')
	f := &RowFilter{from: bytes.NewReader(sent)}
	got, err := io.ReadAll(&randomReader{f, rng})
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.Nil(t, f.buf)
}

// A row is held to the limit that is set when it is read.
func TestARowFilterUsesTheLimitAtTheTimeOfTheRead(t *testing.T) {
	t.Parallel()
	sent := append(message('D', 100, 'a'), message('D', 50_000, 0)...)
	f := &RowFilter{from: bytes.NewReader(append(sent, message('Z', 1, 'I')...)), enabled: true, left: 1000}
	frontend := pgproto3.NewFrontend(f, io.Discard)
	first := make([]byte, 105)
	_, err := io.ReadFull(f, first)
	require.NoError(t, err)
	f.left = 60_000
	row := make([]byte, 50_005)
	_, err = io.ReadFull(f, row)
	require.NoError(t, err)
	require.False(t, f.refused)
	ready, err := frontend.Receive()
	require.NoError(t, err)
	require.IsType(t, &pgproto3.ReadyForQuery{}, ready)
}

func TestARowFilterReturnsErrorsAndContinues(t *testing.T) {
	t.Parallel()
	errRead := errors.New("read")
	sent := message('D', 50_000, 'a')
	from := &failingReader{rest: [][]byte{sent[:3], nil, sent[3:20_000], nil, sent[20_000:]}, err: errRead}
	f := &RowFilter{from: from, enabled: true, left: 1000}
	p := make([]byte, 100)
	var got []byte
	faults := 0
	for {
		n, err := f.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			require.Equal(t, errRead, err)
			faults++
		}
	}
	require.Equal(t, 2, faults)
	require.Equal(t, emptyRow, got)
	require.True(t, f.isEmpty())
}

// A failingReader fails where a piece is nil.
type failingReader struct {
	rest [][]byte
	err  error
}

func (r *failingReader) Read(p []byte) (int, error) {
	switch {
	case len(r.rest) == 0:
		return 0, io.EOF
	case r.rest[0] == nil:
		r.rest = r.rest[1:]
		return 0, r.err
	}
	n := copy(p, r.rest[0])
	if r.rest[0] = r.rest[0][n:]; len(r.rest[0]) == 0 {
		r.rest = r.rest[1:]
	}
	return n, nil
}
