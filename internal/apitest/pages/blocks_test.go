package pages_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every Go block of these pages is code of this package, which its tests run.
func TestTheCodeOfThePagesIsThatOfTheTests(t *testing.T) {
	t.Parallel()
	for page, files := range map[string][]string{
		"from-pgx.md":  {"frompgx_test.go"},
		"from-sqlc.md": {"frompgx_test.go", "fromsqlc_test.go"},
	} {
		var code strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			code.Write(text)
		}
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		require.NoError(t, err)
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, blocks)
		for _, block := range blocks {
			for part := range strings.SplitSeq(block[1], "\n\n") {
				assert.True(t, strings.Contains(code.String(), strings.TrimSpace(part)), "%s: not in %v:\n%s", page, files, part)
			}
		}
	}
}
