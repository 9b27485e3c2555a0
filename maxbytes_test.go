package pgcmd

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

// inPieces gives a few bytes at a time.
type inPieces struct {
	rest []byte
	rng  *rand.Rand
	most int
}

func (r *inPieces) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+r.rng.IntN(r.most))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func wireMessage(typ byte, body int, filler byte) []byte {
	b := append([]byte{typ}, binary.BigEndian.AppendUint32(nil, uint32(4+body))...)
	return append(b, bytes.Repeat([]byte{filler}, body)...)
}

// Whatever comes, in whatever pieces, a filter gives what it was given, but for the rows
// that are too long, in whose place there are empty ones.
func TestARowFilterGivesWhatItWasGiven(t *testing.T) {
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
			m := wireMessage(typ, body, byte(rng.IntN(256)))
			sent = append(sent, m...)
			if typ == 'D' && body+4 > bigRow && body+4 > left+rowOverhead {
				m = emptyRow
			}
			want = append(want, m...)
		}
		f := &rowFilter{from: &inPieces{sent, rng, 1 + rng.IntN(10_000)}, armed: true, left: left}
		got, err := io.ReadAll(&inReads{f, rng})
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d bytes were expected, and %d came", len(want), len(got))
		require.True(t, f.idle())
		require.Equal(t, len(want) != len(sent), f.refused)
	}
}

// inReads reads with buffers of many sizes.
type inReads struct {
	from io.Reader
	rng  *rand.Rand
}

func (r *inReads) Read(p []byte) (int, error) { return r.from.Read(p[:1+r.rng.IntN(len(p))]) }

func TestARowFilterThatIsNotArmedPassesEverythingOn(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	sent := wireMessage('D', 1<<20, 'x')
	f := &rowFilter{from: bytes.NewReader(sent)}
	got, err := io.ReadAll(&inReads{f, rng})
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.Nil(t, f.buf)
}

// The limit that counts is the one at the time when the row is asked for.
func TestARowFilterDecidesWhenARowIsAskedFor(t *testing.T) {
	t.Parallel()
	sent := append(wireMessage('D', 100, 'a'), wireMessage('D', 50_000, 0)...)
	f := &rowFilter{from: bytes.NewReader(append(sent, wireMessage('Z', 1, 'I')...)), armed: true, left: 1000}
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

func TestARowFilterPassesErrorsOnAndGoesOn(t *testing.T) {
	t.Parallel()
	errLate := errors.New("late")
	sent := wireMessage('D', 50_000, 'a')
	from := &faltering{rest: [][]byte{sent[:3], nil, sent[3:20_000], nil, sent[20_000:]}, err: errLate}
	f := &rowFilter{from: from, armed: true, left: 1000}
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
			require.Equal(t, errLate, err)
			faults++
		}
	}
	require.Equal(t, 2, faults)
	require.Equal(t, emptyRow, got)
	require.True(t, f.idle())
}

// faltering fails where a piece is nil.
type faltering struct {
	rest [][]byte
	err  error
}

func (r *faltering) Read(p []byte) (int, error) {
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
