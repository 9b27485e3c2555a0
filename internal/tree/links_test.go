package tree

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// link is what a link to a name of the package looks like, also where there is no such name.
var link = regexp.MustCompile(`\[\*?[A-Z]\w*(\.[A-Z]\w*)?\]`)

// A doc comment that links to a name which is gone shows the brackets.
func TestTheLinksOfDocCommentsLeadToNames(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{".", "pgcmdtest", "pgcmdweb", "pgcmdotel", "pgcmdmcp"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
			require.NoError(t, err)
			set := token.NewFileSet()
			var files []*ast.File
			for _, path := range paths {
				if !strings.HasSuffix(path, "_test.go") {
					source, err := os.ReadFile(path)
					require.NoError(t, err)
					file, err := parser.ParseFile(set, path, source, parser.ParseComments)
					require.NoError(t, err)
					files = append(files, file)
				}
			}
			p, err := doc.NewFromFiles(set, files, module)
			require.NoError(t, err)
			texts := []string{p.Doc}
			for _, v := range append(p.Consts, p.Vars...) {
				texts = append(texts, v.Doc)
			}
			for _, f := range p.Funcs {
				texts = append(texts, f.Doc)
			}
			for _, typ := range p.Types {
				texts = append(texts, typ.Doc)
				for _, f := range append(typ.Funcs, typ.Methods...) {
					texts = append(texts, f.Doc)
				}
			}
			require.Greater(t, len(texts), 1)
			for _, text := range texts {
				for _, plain := range plains(p.Parser().Parse(text).Content) {
					assert.Empty(t, link.FindString(plain), "no such name, in the comment %.80q", text)
				}
			}
		})
	}
}

// plains returns the texts of paragraphs and lists that are not links.
func plains(blocks []comment.Block) (texts []string) {
	for _, block := range blocks {
		switch block := block.(type) {
		case *comment.Paragraph:
			for _, text := range block.Text {
				if plain, ok := text.(comment.Plain); ok {
					texts = append(texts, string(plain))
				}
			}
		case *comment.List:
			for _, item := range block.Items {
				texts = append(texts, plains(item.Content)...)
			}
		}
	}
	return texts
}
