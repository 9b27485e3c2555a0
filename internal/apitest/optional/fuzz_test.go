package optional_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type Fuzzed struct {
	F0, F1, F2, F3, F4, F5, F6, F7 *int
	Must                           int
	Sort                           string
}

func (in *Fuzzed) fields() []**int {
	return []**int{&in.F0, &in.F1, &in.F2, &in.F3, &in.F4, &in.F5, &in.F6, &in.F7}
}

// fuzzedSQL makes SQL of at most 8 parts, one of two bytes each: the fields that it names, and what else is in it.
func fuzzedSQL(parts []byte) string {
	var b strings.Builder
	b.WriteString("select id from users where id > @must")
	n := 0
	for ; n < 8 && len(parts) >= 2; n, parts = n+1, parts[2:] {
		fields, what := parts[0], parts[1]
		space := []string{" ", "\n", "/* c */", " -- c\n"}
		fmt.Fprintf(&b, "%s/*?%s", space[what&3], space[what>>2&3])
		for i := range 8 {
			if fields>>i&1 == 1 {
				fmt.Fprintf(&b, "and id <> @f%d%s", i, space[what>>4&3])
			}
		}
		if what>>6&1 == 1 {
			b.WriteString("and id <> @must '' ")
		}
		b.WriteString("*/")
	}
	b.WriteString(" order by ")
	if n <= 6 {
		b.WriteString("/*= @sort email: email, id; age: age, id */ ")
	}
	b.WriteString("id")
	if n <= 6 {
		b.WriteString(" /*=*/")
	}
	return strings.ReplaceAll(b.String(), " '' ", " ")
}

// Whatever is set in the input, the text that is sent is one that Verify has seen.
func FuzzOptionalParts(f *testing.F) {
	pool, sent := connect(f, pgcmd.Config{MaxConns: 1})
	f.Add([]byte{1, 0, 2, 1, 3, 2}, uint8(3), uint8(1))
	f.Add([]byte{1, 64, 2, 4, 4, 8, 8, 16, 16, 32, 32, 0, 64, 0, 128, 0}, uint8(0xff), uint8(2))
	f.Add([]byte{255, 0, 254, 0, 253, 0}, uint8(0xfe), uint8(0))
	f.Add([]byte{1, 48, 1, 16, 1, 0}, uint8(1), uint8(2))
	var count atomic.Int64
	f.Fuzz(func(t *testing.T, parts []byte, set, sort uint8) {
		for i := 0; i < len(parts); i += 2 {
			if parts[i] == 0 {
				return // names nothing that can be absent
			}
		}
		// The comment makes every text a new one, which the connection has not prepared.
		sql := fmt.Sprintf("/* %d */ ", count.Add(1)) + fuzzedSQL(parts)
		q := pgcmd.Query[Fuzzed, int]("fuzzed", sql)
		sent.take()
		require.NoError(t, pgcmd.Verify(t.Context(), pool, q), sql)
		seen := map[string]bool{}
		for _, text := range sent.take() {
			seen[text] = true
		}
		for _, set := range []uint8{set, ^set, 0, 255} {
			in := Fuzzed{Sort: []string{"", "email", "age"}[sort%3]}
			for i, f := range in.fields() {
				if set>>i&1 == 1 {
					*f = ptr(-i - 1)
				}
			}
			if !strings.Contains(sql, "@sort") {
				in.Sort = ""
			}
			ids, err := q.Run(t.Context(), pool, in)
			require.NoError(t, err, sql)
			assert.Len(t, ids, 3)
		}
		texts := sent.take()
		require.NotEmpty(t, texts, sql)
		for _, text := range texts {
			require.True(t, seen[text], "%s\nwas sent, and Verify has not seen it, of\n%s", text, sql)
		}
	})
}

// The same for what the tests send in every way.
func TestVerifyHasSeenWhateverIsSent(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{Multiplex: 1})
	seen := map[string]bool{}
	q := listUsers.With(pgcmd.Options{ReadOnly: true})
	pgcmdtest.VerifyOn(t, pool, q)
	for _, text := range sent.take() {
		seen[text] = true
	}
	for way, run := range ways(t, pool, q) {
		run(inputs()...)
		for _, text := range sent.take() {
			text = strings.TrimPrefix(text, "declare ")
			assert.True(t, seen[text], "%s: %s", way, text)
		}
	}
}
