package pgcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type fuzzed struct {
	Text  string `json:"text,omitempty"`
	N     *int32 `json:"n,omitempty"`
	Big   int64  `json:"big,omitempty"`
	Small uint8  `json:"small,omitempty"`
	Real  float64
	Flag  bool
	Bytes []byte            `json:",omitempty"`
	List  []fuzzed          `json:",omitempty"`
	Map   map[string]string `json:",omitempty"`
	Keys  map[int16]bool    `json:",omitempty"`
	Pair  *[2]int           `json:",omitempty"`
	Any   any
	Raw   json.RawMessage `json:",omitempty"`
	Exact *json.Number    `json:",omitempty"`
	Q     *bool           `json:"q,string,omitempty"`
	Next  *fuzzed         `json:",omitempty"`
}

// Whatever comes in, there is no panic; the body runs with all of it or not at all;
// an error says where; and what was taken comes out again as it went in.
func FuzzCatalogInput(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[`, `{"text":"a","n":null,"big":9007199254740993,"small":255,"Real":1e-3,"Flag":true}`,
		`{"List":[{"List":[]},{"n":3e9}],"Map":{"a":"b","a":"c"},"Keys":{"-1":true,"01":false},"Pair":[1,2]}`,
		`{"Any":[1.0,1e400,-0,12345678901234567890,{"a":{}}],"Raw":{"a":[1]},"Exact":1.50,"q":"true","Bytes":"YWE="}`,
		`{"text":"\ud83d\ude00\u0000","emial":1}{}`, `{"big":1e3,"small":2.0,"n":-12e-1}`, `{"Next":{"Next":null}}`, "{\"text\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	ran := 0
	catalog := pgcmd.NewCatalog(pgcmd.New("fuzz", func(_ context.Context, _ pgcmd.DB, in fuzzed) (fuzzed, error) { ran++; return in, nil }))
	f.Fuzz(func(t *testing.T, input []byte) {
		ran = 0
		out, err := catalog.Run(t.Context(), unusedDB{}, "fuzz", input)
		if err != nil {
			e := failure(t, err)
			require.Zero(t, ran)
			require.Nil(t, out)
			require.Equal(t, pgcmd.CodeInvalid, e.Code)
			require.Equal(t, pgcmd.NotApplied, e.Effect)
			require.NotEmpty(t, e.Problems)
			for _, p := range e.Problems {
				require.NotEmpty(t, p.Rule)
				require.NotEmpty(t, p.Message)
			}
			return
		}
		require.Equal(t, 1, ran)
		again, err := catalog.Run(t.Context(), unusedDB{}, "fuzz", out)
		require.NoError(t, err, "%s", out)
		require.Equal(t, string(out), string(again))
		if len(input) > 0 {
			allWithin(t, looseJSON(t, input), looseJSON(t, out))
		}
	})
}

func looseJSON(t *testing.T, text []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v))
	return v
}

// allWithin asserts that everything in went is in came; what is zero, a struct need not
// repeat.
func allWithin(t *testing.T, went, came any) {
	switch went := went.(type) {
	case map[string]any:
		fields, ok := came.(map[string]any)
		require.True(t, ok || came == nil && len(went) == 0, "%v became %v", went, came)
		for name, v := range went {
			if got, ok := fields[name]; ok {
				allWithin(t, v, got)
				continue
			}
			text, _ := json.Marshal(v)
			zero := strings.Trim(string(text), `-0.eE+"`) == "" || string(text) == "null" || string(text) == "false" || string(text) == "[]" || string(text) == "{}" ||
				strings.HasPrefix(string(text), "0") || strings.HasPrefix(string(text), "-0")
			require.True(t, zero, "%s was %s and is gone", name, text)
		}
	case []any:
		list, ok := came.([]any)
		require.True(t, ok, "%v became %v", went, came)
		require.Len(t, list, len(went))
		for i := range went {
			allWithin(t, went[i], list[i])
		}
	case json.Number:
		number, ok := came.(json.Number)
		require.True(t, ok, "%v became %v", went, came)
		sameNumber(t, went.String(), number.String())
	default:
		require.Equal(t, went, came)
	}
}

// sameNumber compares numbers: exactly if they are integers, else as floats.
func sameNumber(t *testing.T, went, came string) {
	if went == came {
		return
	}
	a, errA := json.Number(went).Float64()
	b, errB := json.Number(came).Float64()
	require.NoError(t, errA)
	require.NoError(t, errB)
	require.Equal(t, a, b, "%s became %s", went, came)
	if x, ok := new(big.Int).SetString(went, 10); ok {
		if y, ok := new(big.Int).SetString(came, 10); ok && x.IsInt64() {
			require.Zero(t, x.Cmp(y), "%s became %s", went, came)
		}
	}
}
