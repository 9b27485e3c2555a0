// Package messages_test holds every message that the library can make, in testdata/messages.txt, so that a reader can
// judge them in one sitting. The test makes each of them by the public API.
package messages_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

var update = flag.Bool("update", false, "write testdata/messages.txt")

const golden = "testdata/messages.txt"

// A page is the list of messages. A message that was printed is not printed again.
type page struct {
	t    *testing.T
	b    strings.Builder
	seen map[string]bool

	roles []string // of the tests, which are called reader here
}

func TestEveryMessageIsTheOneInTheFile(t *testing.T) {
	p := &page{t: t, seen: map[string]bool{}}
	p.b.WriteString("Every message that pgcmd can make. go test ./internal/apitest/messages -update writes this file.\n")
	definitions(p)
	dynamic(p)
	catalogs(p)
	inputs(p)
	statements(p)
	states(p)
	transactions(p)
	onces(p)
	batches(p)
	copies(p)
	streams(p)
	pools(p)
	findings(p)
	p.heading("Parts of messages that one database cannot cause")
	for _, e := range elsewhere {
		p.line(fmt.Sprintf("%s (%s)", strings.Trim(e.text, " :;"), e.cause))
	}
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(p.b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), p.b.String(), "run go test ./internal/apitest/messages -update if the change is meant")
}

// A message of the source that is not in the file was never judged.
func TestNoMessageOfTheSourceIsMissing(t *testing.T) {
	text, err := os.ReadFile(golden)
	require.NoError(t, err)
	all := literals(t)
	for _, l := range all {
		if _, excepted := notMessages[l.text]; excepted || slices.ContainsFunc(elsewhere, func(e message) bool { return e.text == l.text }) {
			continue
		}
		assert.True(t, pattern(l.text).Match(text), "%s: %q is in no message of %s: cause it in the test of that file, and run it with -update", l.at, l.text, golden)
	}
	isLiteral := func(text string) bool {
		return slices.ContainsFunc(all, func(l literal) bool { return l.text == text })
	}
	for text := range notMessages {
		assert.True(t, isLiteral(text), "%q is no text of the source any more: take it out of notMessages", text)
	}
	for _, e := range elsewhere {
		assert.True(t, isLiteral(e.text), "%q is no text of the source any more: take it out of elsewhere", e.text)
	}
}

func (p *page) heading(text string) { fmt.Fprintf(&p.b, "\n# %s\n", text) }

// changing are the parts of a message that differ from run to run.
var changing = regexp.MustCompile(`(longest for )[^ \]]+`)

// serials are those of unique.
var serials = regexp.MustCompile(`(\.(?:takes|gives))[a-z]{2}:`)

// unstable are numbers of types that a new database does not give twice.
var unstable = regexp.MustCompile(`\(type \d+\)|(\.Next){3,}`)

func (p *page) line(text string) {
	text = strings.ReplaceAll(changing.ReplaceAllString(text, "${1}10ms"), "\n", "\n    ")
	for _, role := range p.roles {
		text = strings.ReplaceAll(text, role, "reader")
	}
	text = serials.ReplaceAllString(text, "$1:")
	text = unstable.ReplaceAllStringFunc(text, func(s string) string {
		if s[0] == '.' {
			return ".Next..."
		}
		return "(type 16385)"
	})
	if !p.seen[text] {
		p.seen[text] = true
		p.b.WriteString(text + "\n")
	}
}

// panics prints what f panics with.
func (p *page) panics(what ...func()) {
	p.t.Helper()
	for i, f := range what {
		func() {
			defer func() {
				p.t.Helper()
				reason := recover()
				if assert.NotNil(p.t, reason, "function %d does not panic", i) {
					p.line(fmt.Sprint(reason))
				}
			}()
			f()
		}()
	}
}

// fails prints errors, which are the library's.
func (p *page) fails(errs ...error) {
	p.t.Helper()
	for i, err := range errs {
		e, ours := errors.AsType[*pgcmd.Error](err)
		if assert.True(p.t, ours, "error %d is %v", i, err) {
			p.line(e.Error())
		}
	}
}

// errOf returns the error of a call that returns a value too.
func errOf[T any](_ T, err error) error { return err }
