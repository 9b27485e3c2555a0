package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// private are words that the code once had for things that PostgreSQL, pgx, net or Go have names for, and phrases that
// readers had to guess.
var private = regexp.MustCompile(`(?i)\b(voyage|cargo|cargoes|flight|leg|wave|hop|fate|lane|keeper|sight|sighting|vet|vetted|settle|settled|unsettle|` +
	`spoil|spoiled|mend|mended|grounded|scatter|scattered|doomed|misfit|disown|surplus|hungry|harmless|whoever|piped|` +
	`who waits|of no use|of the user's)(s|es|ing)?\b`)

// A use is a text in which a private word is an ordinary one.
type use struct {
	path string // "" for every file
	text string
	why  string
}

var allowed = []use{
	{"", "in flight", "what has begun and has not ended"},
	{"", "go vet", "the command"},
	{"", "-vet=", "the flag of go test"},
	{"", "@sqlc-vet-disable", "a comment for sqlc"},
	{"Makefile", "format, vet", "the command"},
	{"Makefile", "and vet:", "the command"},
	{"Makefile", "vet and staticcheck", "the command"},
	{".ci/run", "vet and staticcheck", "the command"},
	{"docs/from-sqlc.md", "sqlc vet", "the command"},
	{"docs/mcp.md", "a harmless statement", "of a model"},
}

// camel is the end of a word in an identifier.
var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// plain splits identifiers into words: inFlight and in_flight are "in flight".
func plain(line string) string {
	return strings.ReplaceAll(camel.ReplaceAllString(line, "$1 $2"), "_", " ")
}

// texts returns the paths of the files that people read: Go, Markdown, shell, make.
func texts(t *testing.T) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if name == ".git" || name == ".cache" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		folder := filepath.Base(filepath.Dir(path))
		if slices.Contains([]string{".go", ".md", ".sh"}, filepath.Ext(name)) || name == "Makefile" || folder == "scripts" || folder == ".ci" {
			paths = append(paths, path)
		}
		return nil
	}))
	return paths
}

func TestNobodyHasToLearnPrivateWords(t *testing.T) {
	t.Parallel()
	used := map[use]bool{}
	for _, path := range texts(t) {
		name, err := filepath.Rel(root, path)
		require.NoError(t, err)
		if name == "internal/tree/words_test.go" {
			continue
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for i, line := range strings.Split(plain(name+"\n"+string(text)), "\n") {
			rest := line
			for _, a := range allowed {
				if (a.path == "" || a.path == name) && strings.Contains(strings.ToLower(rest), a.text) {
					used[a] = true
					rest = regexp.MustCompile("(?i)"+regexp.QuoteMeta(a.text)).ReplaceAllString(rest, "")
				}
			}
			if word := private.FindString(rest); word != "" {
				t.Errorf("%s:%d: %q is a private word: use one of PostgreSQL, pgx, net or Go, or add the use to the list of ordinary ones\n\t%s", name, i, word, line)
			}
		}
	}
	for _, a := range allowed {
		assert.True(t, used[a], fmt.Sprintf("%q is not used: take it from the list", a.text))
	}
}
