package main

import (
	"embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

//go:embed steps.go overhead.go
var source embed.FS

// A listing is the code of a step, in the pieces between its outcomes.
type listing struct {
	pieces  []string // one more than outcomes; those that follow each other are empty
	outcome []string // the expressions that see was given
}

// listings returns the listings of every step in the source that was compiled,
// by the names of their functions.
func listings() (map[string]listing, error) {
	all := map[string]listing{}
	for _, name := range []string{"steps.go", "overhead.go"} {
		text, err := source.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		cut := cutter{files: files, lines: strings.Split(string(text), "\n")}
		for _, decl := range file.Decls {
			if imports, ok := decl.(*ast.GenDecl); ok && imports.Tok == token.IMPORT {
				cut.skipTo(decl.End())
			}
			if f, ok := decl.(*ast.FuncDecl); ok && isStep(f) {
				all[f.Name.Name] = cut.step(f)
			}
		}
	}
	return all, nil
}

func isStep(f *ast.FuncDecl) bool {
	params := f.Type.Params.List
	if len(params) == 0 {
		return false
	}
	typ, ok := params[len(params)-1].Type.(*ast.Ident)
	return ok && typ.Name == "see"
}

// A cutter takes lines from the top of a file.
type cutter struct {
	files *token.FileSet
	lines []string
	taken int
}
