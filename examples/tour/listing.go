package main

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

//go:embed steps.go overhead.go
var source embed.FS

// A listing is the code of a step: a piece before each outcome, and what follows
// the last one. A piece may be empty.
type listing struct {
	pieces   []string
	outcomes []string // the expressions given to see
}

// listings cuts the steps out of the source that was compiled, by name.
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
		cut := cutter{files: files, text: string(text), lines: strings.Split(string(text), "\n")}
		var declared []ast.Decl
		for _, decl := range file.Decls {
			switch f, isFunc := decl.(*ast.FuncDecl); {
			case isFunc && isStep(f):
				all[f.Name.Name] = cut.step(declared, f)
				declared = nil
			case isFunc || decl.(*ast.GenDecl).Tok != token.IMPORT:
				declared = append(declared, decl)
			}
		}
	}
	return all, nil
}

// isStep reports whether the last parameter is a see.
func isStep(f *ast.FuncDecl) bool {
	params := f.Type.Params.List
	if len(params) == 0 {
		return false
	}
	typ, ok := params[len(params)-1].Type.(*ast.Ident)
	return ok && typ.Name == "see"
}

// A cutter cuts whole lines out of a file.
type cutter struct {
	files *token.FileSet
	text  string
	lines []string
}

func (c cutter) step(declared []ast.Decl, f *ast.FuncDecl) listing {
	var piece string
	if len(declared) > 0 {
		piece = c.cut(c.line(declared[0].Pos()), c.line(declared[len(declared)-1].End())+1) + "\n\n"
	}
	var l listing
	at := c.line(f.Body.Lbrace) + 1
	for _, statement := range f.Body.List {
		if seen := c.seen(statement); seen != "" {
			piece += unindent(c.cut(at, c.line(statement.Pos())))
			l.pieces, l.outcomes = append(l.pieces, piece), append(l.outcomes, seen)
			piece, at = "", c.line(statement.End())+1
		}
	}
	l.pieces = append(l.pieces, piece+unindent(c.cut(at, c.line(f.Body.Rbrace))))
	return l
}

// seen returns x of a statement see(x, want), else "".
func (c cutter) seen(statement ast.Stmt) string {
	expression, ok := statement.(*ast.ExprStmt)
	if !ok {
		return ""
	}
	call, ok := expression.X.(*ast.CallExpr)
	if !ok || c.between(call.Fun) != "see" {
		return ""
	}
	return c.between(call.Args[0])
}

func (c cutter) between(n ast.Node) string {
	return c.text[c.files.Position(n.Pos()).Offset:c.files.Position(n.End()).Offset]
}

func (c cutter) line(p token.Pos) int { return c.files.Position(p).Line }

// cut returns the lines from first up to, but not including, end.
func (c cutter) cut(first, end int) string {
	return strings.Trim(strings.Join(c.lines[first-1:end-1], "\n"), "\n")
}

func unindent(code string) string {
	return strings.ReplaceAll(strings.TrimPrefix(code, "\t"), "\n\t", "\n")
}
