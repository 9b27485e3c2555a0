package messages_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// besideTheLibrary are the internal packages that it does not import (docs/architecture.md): those for tests alone, and
// those of the command pgcmd, which writes files and prints for people.
var besideTheLibrary = map[string]bool{"canned": true, "faults": true, "measure": true, "workload": true,
	"migrations": true, "queryfile": true, "scaffold": true}

// ofTrees are files whose texts are names in PostgreSQL's query trees.
var ofTrees = []string{filepath.Join("internal", "analysis", "form.go")}

// A literal is a text of the source that may be a message, or a part of one.
type literal struct{ at, text string }

// literals returns every string literal of the library that holds at least two words, without SQL and the texts of logs.
func literals(t *testing.T) (found []literal) {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	require.NoError(t, err)
	internal, err := filepath.Glob(filepath.Join(root, "internal", "*", "*.go"))
	require.NoError(t, err)
	for _, file := range append(files, internal...) {
		if strings.HasSuffix(file, "_test.go") || besideTheLibrary[filepath.Base(filepath.Dir(file))] {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, source, parser.SkipObjectResolution)
		require.NoError(t, err)
		name, err := filepath.Rel(root, file)
		require.NoError(t, err)
		if slices.Contains(ofTrees, name) {
			continue
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.Field: // a struct tag
				n.Tag = nil
			case *ast.CallExpr:
				return !isLog(n)
			case *ast.BasicLit:
				if n.Kind != token.STRING {
					return false
				}
				text, err := strconv.Unquote(n.Value)
				require.NoError(t, err)
				if words.MatchString(text) && !sqlText.MatchString(text) && !names.MatchString(text) {
					found = append(found, literal{fmt.Sprintf("%s:%d", name, fset.Position(n.Pos()).Line), text})
				}
			}
			return true
		})
	}
	return found
}

var (
	words   = regexp.MustCompile(`[a-z]{2,}[,:;]? (%[a-z] )?[a-z]{2,}`)
	sqlText = regexp.MustCompile(`(?s)^\s*(?:.*pg_catalog\.|(?:select|with|insert into|update|delete from|create|set|begin|commit|rollback|release|declare|fetch)\b[^:]*[(=*;]|(?:commit|rollback|release savepoint|start transaction|begin)[ a-z_]*$)`)
	names   = regexp.MustCompile(`^[a-z0-9]*_[a-z0-9_]*( [a-z0-9_]+)* ?$|^[a-z0-9]+( [a-z0-9]+_[a-z0-9_]*)+ ?$|^[a-z_\s]*\n[a-z_\s]*$`) // of functions, of fields, keywords
	verb    = regexp.MustCompile(`%[-+# 0]*[0-9.]*[a-zA-Z]`)
)

// isLog reports whether a call writes a log line: logs are for operators, and hold a message of an error as a field.
func isLog(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := selector.X.(*ast.Ident)
	return ok && of.Name == "logging"
}

// pattern matches what a literal prints, as a format or as it is.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	rest := text
	for {
		at := verb.FindStringIndex(rest)
		if at == nil {
			break
		}
		b.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		b.WriteString(`.*`)
		rest = rest[at[1]:]
	}
	b.WriteString(regexp.QuoteMeta(rest))
	return regexp.MustCompile(strings.ReplaceAll(b.String(), "%%", "%"))
}
