package fingerprint_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/fingerprint"
)

type fuzzed struct {
	S    string
	T    string
	N    int64
	F    float64
	L    []string
	B    []byte
	P    *string
	M    map[string]int8
	At   time.Time
	In   []fuzzed
	Any  any
	Arr  [2]uint8
	Down *fuzzed
}

// equal is what the fingerprints of two values have to agree with.
func (a fuzzed) equal(b fuzzed) bool {
	sameNil := func(x, y bool) bool { return x == y }
	switch {
	case a.S != b.S, a.T != b.T, a.N != b.N, a.Arr != b.Arr, !a.At.Equal(b.At), a.Any != b.Any:
		return false
	case a.F != b.F && (a.F == a.F || b.F == b.F):
		return false
	case !sameNil(a.L == nil, b.L == nil) || !slices.Equal(a.L, b.L):
		return false
	case !sameNil(a.B == nil, b.B == nil) || string(a.B) != string(b.B):
		return false
	case !sameNil(a.P == nil, b.P == nil) || a.P != nil && *a.P != *b.P:
		return false
	case !sameNil(a.M == nil, b.M == nil) || !reflect.DeepEqual(a.M, b.M):
		return false
	case !sameNil(a.In == nil, b.In == nil) || !slices.EqualFunc(a.In, b.In, fuzzed.equal):
		return false
	case !sameNil(a.Down == nil, b.Down == nil) || a.Down != nil && !a.Down.equal(*b.Down):
		return false
	}
	return true
}

// A maker makes values of few different parts, so that they are often alike.
type maker struct{ data []byte }

func (m *maker) next() int {
	if len(m.data) == 0 {
		return 0
	}
	n := m.data[0]
	m.data = m.data[1:]
	return int(n)
}

func (m *maker) text() string { return []string{"", "a", "F", "ab", "E", "\x00", "s\x00"}[m.next()%7] }

func (m *maker) make(depth int) (v fuzzed) {
	for what := m.next(); what != 0; what = m.next() {
		switch what % 13 {
		case 1:
			v.S = m.text()
		case 2:
			v.T = m.text()
		case 3:
			v.N = int64(m.next()%4) - 1
		case 4:
			zero := 0.0
			v.F = []float64{0, -zero, 1, -1, zero / zero}[m.next()%5]
		case 5:
			v.L = append([]string{}, make([]string, m.next()%3)...)
			for i := range v.L {
				v.L[i] = m.text()
			}
		case 6:
			v.B = append([]byte{}, m.text()...)
		case 7:
			text := m.text()
			v.P = &text
		case 8:
			v.M = map[string]int8{}
			for range m.next() % 3 {
				v.M[m.text()] = int8(m.next() % 2)
			}
		case 9:
			v.At = time.Unix(int64(m.next()%2), int64(m.next()%2)).In(time.FixedZone("x", m.next()))
		case 10:
			v.Any = []any{nil, 0, int8(0), "", "a", 'a', false}[m.next()%7]
		case 11:
			v.Arr[m.next()%2] = uint8(m.next() % 2)
		case 12, 0:
			if depth == 0 {
				continue
			}
			inner := m.make(depth - 1)
			if m.next()%2 == 0 {
				v.Down = &inner
			} else {
				v.In = append(append([]fuzzed{}, v.In...), inner)
			}
		}
	}
	return v
}

func FuzzSameIffEqual(f *testing.F) {
	p, err := fingerprint.Compile(reflect.TypeFor[fuzzed]())
	require.NoError(f, err)
	f.Add([]byte{1, 1, 0}, []byte{1, 2, 0})
	f.Add([]byte{5, 1, 1, 0}, []byte{5, 2, 1, 0})
	f.Add([]byte{12, 1, 1, 0, 0}, []byte{12, 1, 1, 0, 1})
	f.Add([]byte{9, 1, 0, 30}, []byte{9, 1, 0, 60})
	f.Add([]byte{8, 2, 1, 1, 2, 0}, []byte{8, 2, 2, 0, 1, 1})
	f.Fuzz(func(t *testing.T, one, other []byte) {
		a, b := (&maker{one}).make(3), (&maker{other}).make(3)
		x, err := p.Sum(&a)
		require.NoError(t, err)
		y, err := p.Sum(&b)
		require.NoError(t, err)
		if (x == y) != a.equal(b) {
			t.Fatalf("same fingerprint: %v, equal: %v\n%+v\n%+v", x == y, a.equal(b), a, b)
		}
	})
}
