package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const library = "github.com/pgcmd/pgcmd"

// A goPackage is a package with commands, as go list tells of it.
type goPackage struct {
	ImportPath, Dir, Name, Export                string
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
	Deps                                         []string
	ImportMap                                    map[string]string
	DepOnly                                      bool
	Error                                        *struct{ Err string }

	variables []variable
	types     string // the variable that lists types to load
	commands  int    // that were verified
}

// A variable holds a command, or several.
type variable struct {
	name string
	many bool // it is a slice or an array
	file string
	line int
}

// findCommands lists the packages that have commands in package-level variables.
func (v *verification) findCommands(ctx context.Context, patterns []string) (found []*goPackage, err error) {
	args := []string{"list", "-e", "-deps", "-export", "-json=ImportPath,Dir,Name,Export,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Deps,ImportMap,DepOnly,Error"}
	if v.tags != "" {
		args = append(args, "-tags="+v.tags)
	}
	command := exec.CommandContext(ctx, "go", append(append(args, "--"), patterns...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var packages []*goPackage
	exports := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		p := &goPackage{}
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if p.DepOnly {
			continue
		}
		if p.Error != nil {
			return nil, fmt.Errorf("go list: %s", p.Error.Err)
		}
		packages = append(packages, p)
	}
	for _, p := range packages {
		if !slices.Contains(p.Deps, library) {
			continue
		}
		if err := p.findVariables(exports); err != nil {
			return nil, err
		}
		if len(p.variables) > 0 {
			found = append(found, p)
		}
	}
	return found, nil
}

// findVariables type-checks the declarations of the package. What it imports was compiled by go list.
func (p *goPackage) findVariables(exports map[string]string) error {
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
		file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	var first error
	config := types.Config{
		IgnoreFuncBodies: true,
		FakeImportC:      true,
		Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
			if mapped, ok := p.ImportMap[path]; ok {
				path = mapped
			}
			if exports[path] == "" {
				return nil, fmt.Errorf("%s does not compile", path)
			}
			return os.Open(exports[path])
		}),
		Error: func(err error) {
			if first == nil {
				first = err
			}
		},
	}
	checked, _ := config.Check(p.ImportPath, set, files, nil)
	if first != nil {
		return first
	}
	here, _ := os.Getwd()
	scope := checked.Scope()
	for _, name := range scope.Names() {
		object, ok := scope.Lookup(name).(*types.Var)
		if !ok || name == "_" {
			continue
		}
		if (name == "Types" || name == "types") && object.Type().String() == "[]string" {
			p.types = name
		}
		typ, many := object.Type(), false
		switch list := typ.Underlying().(type) {
		case *types.Slice:
			typ, many = list.Elem(), true
		case *types.Array:
			typ, many = list.Elem(), true
		}
		if !isDefinition(typ) {
			continue
		}
		at := set.Position(object.Pos())
		file := at.Filename
		if short, err := filepath.Rel(here, file); err == nil && !strings.HasPrefix(short, "..") {
			file = short
		}
		p.variables = append(p.variables, variable{name, many, file, at.Line})
	}
	slices.SortStableFunc(p.variables, func(a, b variable) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	})
	return nil
}

// isDefinition reports whether a type is *pgcmd.Command or pgcmd.Definition.
func isDefinition(typ types.Type) bool {
	want := "Definition"
	if pointer, ok := types.Unalias(typ).(*types.Pointer); ok {
		typ, want = pointer.Elem(), "Command"
	}
	named, ok := types.Unalias(typ).(*types.Named)
	return ok && named.Obj().Name() == want && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == library
}

const testName = "TestVerifyOfPgcmd"

// testSource is a test within the package, which reaches its variables, and writes an outcome. Its imports have names
// that no package has for anything else.
func (p *goPackage) testSource(number int, load []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `package %s

import (
	pgcmdVerifyContext "context"
	pgcmdVerifyJSON "encoding/json"
	pgcmdVerifyOS "os"
	pgcmdVerifyTesting "testing"

	pgcmdVerifyLibrary "github.com/pgcmd/pgcmd"
	pgcmdVerifyPool "github.com/jackc/pgx/v5/pgxpool"
)

func %s(t *pgcmdVerifyTesting.T) {
	var o struct {
		Names    []string
		Places   []int
		Findings, Warnings []pgcmdVerifyLibrary.Problem
		Error    string
	}
	var all []pgcmdVerifyLibrary.Definition
	add := func(place int, d pgcmdVerifyLibrary.Definition) {
		name := ""
		func() {
			defer func() { _ = recover() }() // of a command that is nil
			name = d.Name()
		}()
		all, o.Names, o.Places = append(all, d), append(o.Names, name), append(o.Places, place)
	}
`, p.Name, testName)
	for i, v := range p.variables {
		if v.many {
			fmt.Fprintf(&b, "\tfor _, d := range %s {\n\t\tadd(%d, d)\n\t}\n", v.name, i)
		} else {
			fmt.Fprintf(&b, "\tadd(%d, %s)\n", i, v.name)
		}
	}
	b.WriteString(`	config := pgcmdVerifyLibrary.Config{URL: pgcmdVerifyOS.Getenv("PGCMD_VERIFY_URL"), AllowInsecure: true, MaxConns: 1}
	config.Pgx = func(c *pgcmdVerifyPool.Config) {
		if name := pgcmdVerifyOS.Getenv("PGCMD_VERIFY_DATABASE"); name != "" {
			c.ConnConfig.Database = name
		}
	}
`)
	switch {
	case p.types != "":
		fmt.Fprintf(&b, "\tconfig.Types = %s\n", p.types)
	case len(load) > 0:
		fmt.Fprintf(&b, "\tconfig.Types = %#v\n", load)
	}
	fmt.Fprintf(&b, `	ctx := pgcmdVerifyContext.Background()
	pool, err := pgcmdVerifyLibrary.Connect(ctx, config)
	if err == nil {
		o.Warnings, err = pgcmdVerifyLibrary.VerifyWarnings(ctx, pool, all...)
		_ = pool.Close(ctx)
	}
	if err != nil {
		if e, ok := err.(*pgcmdVerifyLibrary.Error); ok && len(e.Problems) > 0 && e.Command == "pgcmd.Verify" {
			o.Findings = e.Problems
		} else {
			o.Error = err.Error()
		}
	}
	text, err := pgcmdVerifyJSON.Marshal(struct {
		Names              []string
		Places             []int
		Findings, Warnings []map[string]string
		Error              string
	}{o.Names, o.Places, pgcmdVerifyProblems(o.Findings), pgcmdVerifyProblems(o.Warnings), o.Error})
	if err != nil {
		t.Fatal(err)
	}
	if err := pgcmdVerifyOS.WriteFile(pgcmdVerifyOS.Getenv("PGCMD_VERIFY_FOLDER")+"/%d.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pgcmdVerifyProblems(problems []pgcmdVerifyLibrary.Problem) (all []map[string]string) {
	for _, p := range problems {
		all = append(all, map[string]string{"Field": p.Field, "Rule": p.Rule, "Message": p.Message})
	}
	return all
}
`, number)
	source, err := format.Source(b.Bytes())
	if err != nil {
		return b.Bytes() // the compiler says what is wrong
	}
	return source
}
