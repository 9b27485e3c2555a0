package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
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
	"time"
)

const library = "github.com/pgcmd/pgcmd"

// A goPackage is a package with commands, as go list tells of it.
type goPackage struct {
	ImportPath, Dir, Name, Export                string
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
	Deps                                         []string
	ImportMap                                    map[string]string
	DepOnly                                      bool
	Error                                        *struct{ Pos, Err string }

	variables []variable
	types     string // the variable that lists types to load
	commands  int    // that were verified
}

// A variable holds a command, or a slice or an array of commands.
type variable struct {
	name    string
	derived bool // by With, of a command that has the same name
	file    string
	line    int
}

// findCommands lists the packages that have commands in package-level variables.
func (v *verification) findCommands(ctx context.Context, patterns []string) (found []*goPackage, err error) {
	args := []string{"list", "-e", "-deps", "-export", "-json=ImportPath,Dir,Name,Export,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Deps,ImportMap,DepOnly,Error"}
	if v.tags != "" {
		args = append(args, "-tags="+v.tags)
	}
	command := v.goCommand(ctx, append(append(args, "--"), patterns...))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var packages []*goPackage
	imported := "" // the first error of a package that is imported
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
			if p.Error != nil && imported == "" {
				imported = p.errorText()
			}
			continue
		}
		if p.Error != nil {
			return nil, fmt.Errorf("go list: %s", p.errorText())
		}
		packages = append(packages, p)
	}
	for _, p := range packages {
		if !slices.Contains(p.Deps, library) {
			continue
		}
		if p.ImportPath == "command-line-arguments" {
			return nil, misuse{fmt.Errorf("give packages, as in ./internal/db or ./..., not files")}
		}
		if err := p.findVariables(exports); err != nil {
			if imported != "" {
				return nil, fmt.Errorf("go list: %s", imported)
			}
			return nil, err
		}
		if len(p.variables) > 0 {
			found = append(found, p)
		}
	}
	return found, nil
}

// errorText is the error of go list with its place, or else with the package.
func (p *goPackage) errorText() string {
	text := strings.TrimSpace(p.Error.Err)
	switch {
	case p.Error.Pos != "":
		return p.Error.Pos + ": " + text
	case strings.HasPrefix(text, "# "): // of the compiler, which names both
		return text
	}
	return p.ImportPath + ": " + text
}

// goCommand makes a run of the go command, which is interrupted when ctx ends, and then ends what it started.
func (v *verification) goCommand(ctx context.Context, args []string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", args...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.Env = append(os.Environ(), "GOTMPDIR="+v.folder)
	command.WaitDelay = 10 * time.Second
	return command
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
	derived := derivedVariables(files)
	scope := checked.Scope()
	for _, name := range scope.Names() {
		object, ok := scope.Lookup(name).(*types.Var)
		if !ok || name == "_" {
			continue
		}
		if (name == "Types" || name == "types") && object.Type().String() == "[]string" {
			p.types = name
		}
		typ := object.Type()
		switch list := typ.Underlying().(type) {
		case *types.Slice:
			typ = list.Elem()
		case *types.Array:
			typ = list.Elem()
		}
		if !isDefinition(typ) {
			continue
		}
		at := set.Position(object.Pos())
		p.variables = append(p.variables, variable{name, derived[name], shortPath(at.Filename), at.Line})
	}
	slices.SortStableFunc(p.variables, func(a, b variable) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	})
	return nil
}

// derivedVariables are those that are set to what a With returns.
func derivedVariables(files []*ast.File) map[string]bool {
	derived := map[string]bool{}
	for _, file := range files {
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				values, ok := spec.(*ast.ValueSpec)
				if !ok || len(values.Values) != len(values.Names) {
					continue
				}
				for i, value := range values.Values {
					if call, ok := value.(*ast.CallExpr); ok {
						if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "With" {
							_, derived[values.Names[i].Name] = method.X.(*ast.Ident) // and not of a command that is made here
						}
					}
				}
			}
		}
	}
	return derived
}

// shortPath returns the path of a file from the folder of the caller, if it is in that.
func shortPath(path string) string {
	here, _ := os.Getwd()
	if short, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(short, "..") {
		return short
	}
	return path
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

// variablesSource is a file of the package for the test, which hands on its variables. It uses no name that the package
// may have for something else: no import, and nothing that is predeclared.
func (p *goPackage) variablesSource() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "package %s\n\nfunc PgcmdVerifyVariables() []interface{} {\n\treturn []interface{}{\n", p.Name)
	for _, v := range p.variables {
		fmt.Fprintf(&b, "\t\t%s,\n", v.name)
	}
	if p.types != "" {
		fmt.Fprintf(&b, "\t\t%s,\n", p.types)
	}
	b.WriteString("\t}\n}\n")
	return b.Bytes()
}

// testSource is a test beside the package, which writes an outcome.
func (p *goPackage) testSource(number int, load []string) []byte {
	types := fmt.Sprintf("%#v", load)
	if p.types != "" {
		types = fmt.Sprintf("variables[%d].([]string)", len(p.variables))
	}
	return fmt.Appendf(nil, `package %s_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgcmd/pgcmd"

	verified %q
)

func %s(t *testing.T) {
	var o struct {
		Names              []string
		Places             []int
		Findings, Warnings []map[string]string
		Error              string
	}
	var all []pgcmd.Definition
	add := func(place int, value any) {
		d, ok := value.(pgcmd.Definition)
		if ok && slices.Contains(all, d) && !reflect.ValueOf(d).IsNil() { // in a slice of what variables hold
			return
		}
		name := ""
		func() {
			defer func() { _ = recover() }() // of a command that is nil
			name = d.Name()
		}()
		all, o.Names, o.Places = append(all, d), append(o.Names, name), append(o.Places, place)
	}
	variables := verified.PgcmdVerifyVariables()
	for place, variable := range variables[:%d] {
		switch v := reflect.ValueOf(variable); v.Kind() {
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				add(place, v.Index(i).Interface())
			}
		default:
			add(place, variable)
		}
	}
	config := pgcmd.Config{URL: os.Getenv("PGCMD_VERIFY_URL"), AllowInsecure: true, MaxConns: 1, Types: %s}
	config.Pgx = func(c *pgxpool.Config) {
		if name := os.Getenv("PGCMD_VERIFY_DATABASE"); name != "" {
			c.ConnConfig.Database = name
		}
	}
	problems := func(list []pgcmd.Problem) (all []map[string]string) {
		for _, p := range list {
			all = append(all, map[string]string{"Field": p.Field, "Rule": p.Rule, "Message": p.Message})
		}
		return all
	}
	ctx := context.Background()
	pool, err := pgcmd.Connect(ctx, config)
	if err == nil {
		var warnings []pgcmd.Problem
		warnings, err = pgcmd.VerifyWarnings(ctx, pool, all...)
		o.Warnings = problems(warnings)
		_ = pool.Close(ctx)
	}
	var e *pgcmd.Error
	switch {
	case errors.As(err, &e) && len(e.Problems) > 0 && e.Command == "pgcmd.Verify":
		o.Findings = problems(e.Problems)
	case err != nil:
		o.Error = err.Error()
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("PGCMD_VERIFY_FOLDER")+"/%d.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
}
`, p.Name, p.ImportPath, testName, len(p.variables), types, number)
}
