package pgcmd_test

import (
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateAPI = flag.Bool("update-api", false, "write api.txt")

// The exported API is a golden file, so that a change to it shows in review.
func TestTheExportedAPIIsTheOneInTheFile(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, dir := range []string{".", "pgcmdtest"} {
		got.WriteString(exported(t, dir))
	}
	if *updateAPI {
		require.NoError(t, os.WriteFile("api.txt", []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile("api.txt")
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String(), "run make api if the change is meant")
}

// exported renders the exported declarations of a package, without comments.
func exported(t *testing.T, dir string) string {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(fset, name, nil, 0)
			require.NoError(t, err)
			files = append(files, file)
		}
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/pgcmd/pgcmd/"+dir)
	require.NoError(t, err)

	var b strings.Builder
	render := func(node any) {
		require.NoError(t, (&printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}).Fprint(&b, fset, node))
		b.WriteString("\n\n")
	}
	values := func(values []*doc.Value) {
		for _, v := range values {
			for _, spec := range v.Decl.Specs {
				if spec, ok := spec.(*ast.ValueSpec); ok && spec.Type != nil && v.Decl.Tok == token.VAR {
					spec.Values = nil
				}
			}
			render(v.Decl)
		}
	}
	funcs := func(funcs []*doc.Func) {
		for _, f := range funcs {
			f.Decl.Body = nil
			render(f.Decl)
		}
	}
	b.WriteString("package " + pkg.Name + "\n\n")
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		for _, spec := range typ.Decl.Specs {
			ast.FilterDecl(&ast.GenDecl{Specs: []ast.Spec{spec}}, ast.IsExported)
		}
		render(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	return b.String()
}
