package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const verifyUsage = `pgcmd verify [flags] [packages]

Compares the commands of Go packages with the database, by pgcmd.Verify, without a test file: those
in package-level variables, exported or not, also of package main, and in slices there. The packages
are those of go list; without one it is the package of this folder. Nothing is executed in the
database.

The packages are compiled, and their variables are made, as for a test. If a package has a variable
Types or types of the type []string, the types that it names are loaded, as by Config.Types.

  -types NAMES     types of the database to load, with commas between them, for packages without
                   such a variable
  -tags TAGS       build tags, as for go build
  -json            print the findings for tools
` + databaseUsage + `
  pgcmd verify -d "$DATABASE_URL" ./...
  pgcmd verify -schema migrations ./internal/db
`

// A verification is a run of pgcmd verify.
type verification struct {
	database    databaseFlags
	types, tags string
	json        bool
	folder      string // for temporary files, also of the go command
}

func (*verification) run(ctx context.Context, a *app, args []string) (int, error) {
	v := &verification{}
	flags := newFlags("verify")
	v.database.register(flags)
	flags.StringVar(&v.types, "types", "", "")
	flags.StringVar(&v.tags, "tags", "", "")
	flags.BoolVar(&v.json, "json", false, "")
	patterns, err := parse(flags, args)
	if err != nil {
		return 0, err
	}
	if len(patterns) == 0 {
		patterns = []string{"."}
	}
	if v.folder, err = os.MkdirTemp(os.Getenv("GOTMPDIR"), "pgcmd-verify-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(v.folder)
	a.progress("compiling %s", strings.Join(patterns, " "))
	packages, err := v.findCommands(ctx, patterns)
	a.progressDone()
	if err != nil {
		return 0, err
	}
	if len(packages) == 0 {
		return 0, fmt.Errorf("no package of %s has a command in a package-level variable", strings.Join(patterns, " "))
	}
	d, err := v.database.open(ctx, a)
	if err != nil {
		return 0, err
	}
	defer d.close()
	a.progress("verifying the commands of %d packages", len(packages))
	findings, err := v.verify(ctx, packages, d)
	a.progressDone()
	if err != nil {
		return 0, err
	}
	return v.finish(a, packages, findings)
}

// A finding is one of Verify, or of the package.
type finding struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Package  string `json:"package"`
	Variable string `json:"variable,omitempty"`
	Field    string `json:"field,omitempty"` // the command, and the part of it
	Rule     string `json:"rule"`
	Message  string `json:"message"`
	Warning  bool   `json:"warning"`
}

// An outcome is what the test of a package writes: see testSource.
type outcome struct {
	Names    []string // of the commands, in the order of the variables, and of the elements of slices
	Places   []int    // the variable of each
	Findings []struct{ Field, Rule, Message string }
	Warnings []struct{ Field, Rule, Message string }
	Error    string // if nothing could be verified
}

// verify runs the tests of the packages.
func (v *verification) verify(ctx context.Context, packages []*goPackage, d *database) (findings []finding, err error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	// Without inlining a panic has the line of the definition.
	args := []string{"test", "-count=1", "-vet=off", "-gcflags=-l", "-timeout=10m", "-run=^" + testName + "$"}
	if v.tags != "" {
		args = append(args, "-tags="+v.tags)
	}
	overlayPath := filepath.Join(v.folder, "overlay.json")
	args = append(args, "-overlay="+overlayPath)
	for i, p := range packages {
		// The package's own tests are left out: they may not compile, and may have a TestMain.
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			overlay.Replace[filepath.Join(p.Dir, name)] = ""
		}
		for name, source := range map[string][]byte{"pgcmd_variables_test.go": p.variablesSource(), "pgcmd_verify_test.go": p.testSource(i, v.typesOf(p))} {
			path := filepath.Join(v.folder, fmt.Sprintf("%d_%s", i, name))
			if err := os.WriteFile(path, source, 0o600); err != nil {
				return nil, err
			}
			overlay.Replace[filepath.Join(p.Dir, name)] = path
		}
		args = append(args, p.ImportPath)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlayPath, text, 0o600); err != nil {
		return nil, err
	}
	command := v.goCommand(ctx, args)
	command.Env = append(command.Env, "PGCMD_VERIFY_URL="+d.url, "PGCMD_VERIFY_DATABASE="+d.name, "PGCMD_VERIFY_FOLDER="+v.folder)
	output, _ := command.CombinedOutput() // what it says is in the output, and in the outcomes
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, p := range packages {
		text, err := os.ReadFile(filepath.Join(v.folder, fmt.Sprintf("%d.json", i)))
		if err != nil {
			f, ok := panicOf(string(output), p)
			if !ok {
				return nil, fmt.Errorf("the commands of %s cannot be read: it does not compile as a test, or a variable or an init function panics or exits\n%s", p.ImportPath, bytes.TrimSpace(output))
			}
			findings = append(findings, f)
			continue
		}
		var o outcome
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, err
		}
		if o.Error != "" {
			return nil, fmt.Errorf("%s: %s", p.ImportPath, o.Error)
		}
		p.commands = len(o.Names)
		for _, f := range o.Findings {
			if f.Rule == "name" && p.onlyDerived(o, f.Field) {
				continue
			}
			findings = append(findings, p.finding(o, f.Field, f.Rule, f.Message, false))
		}
		for _, f := range o.Warnings {
			findings = append(findings, p.finding(o, f.Field, f.Rule, f.Message, true))
		}
	}
	return findings, nil
}

// panicLine is a panic of a definition that is wrong, in the output of go test.
var panicLine = regexp.MustCompile(`(?m)^panic: (pgcmd: .*?)( \[recovered.*)?$`)

// panicOf returns the panic of a definition of the package as a finding, at the place in the package that made it.
func panicOf(output string, p *goPackage) (f finding, ok bool) {
	for _, part := range strings.SplitAfter(output, "\nFAIL\t") {
		found := panicLine.FindStringSubmatch(part)
		if found == nil || !strings.Contains(part, p.ImportPath+".") && !strings.Contains(part, p.Name+".init") {
			continue
		}
		f = finding{Package: p.ImportPath, Rule: "definition", Message: found[1]}
		if frame := regexp.MustCompile(`(?m)^\t(` + regexp.QuoteMeta(p.Dir+string(filepath.Separator)) + `[^:\n]+):(\d+)`).FindStringSubmatch(part); frame != nil {
			f.File = shortPath(frame[1])
			f.Line, _ = strconv.Atoi(frame[2])
		}
		return f, true
	}
	return f, false
}

// typesOf are the types of the flag, for packages that name none themselves.
func (v *verification) typesOf(p *goPackage) []string {
	if p.types != "" || v.types == "" {
		return nil
	}
	return strings.Split(v.types, ",")
}

// onlyDerived reports whether all commands of a name but one are made of another by With.
func (p *goPackage) onlyDerived(o outcome, name string) bool {
	others := 0
	for i, n := range o.Names {
		if n == name && !p.variables[o.Places[i]].derived {
			others++
		}
	}
	return others <= 1
}

// finding places a problem at the variable of the command that it names.
func (p *goPackage) finding(o outcome, field, rule, message string, warning bool) finding {
	f := finding{Package: p.ImportPath, Field: field, Rule: rule, Message: message, Warning: warning}
	best := -1
	if n := 0; rule == "nil" {
		if _, err := fmt.Sscanf(field, "definition %d", &n); err == nil && n < len(o.Places) {
			best = n
		}
	}
	for i, name := range o.Names {
		rest, names := strings.CutPrefix(field, name)
		names = names && (rest == "" || strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, " (")) // of the command, a part of it, a variant of its SQL
		if names && (best < 0 || len(name) > len(o.Names[best])) {
			best = i
		}
	}
	if best >= 0 {
		at := p.variables[o.Places[best]]
		f.Variable, f.File, f.Line = at.name, at.file, at.line
	}
	return f
}

func (v *verification) finish(a *app, packages []*goPackage, findings []finding) (int, error) {
	commands, wrong, warnings := 0, 0, 0
	for _, p := range packages {
		commands += p.commands
	}
	for _, f := range findings {
		if f.Warning {
			warnings++
		} else {
			wrong++
		}
	}
	code := exitOK
	if wrong > 0 {
		code = exitFindings
	}
	if v.json {
		if findings == nil {
			findings = []finding{}
		}
		return code, a.writeJSON(struct {
			Commands int       `json:"commands"`
			Packages int       `json:"packages"`
			Findings []finding `json:"findings"`
		}{commands, len(packages), findings})
	}
	slices.SortStableFunc(findings, func(x, y finding) int {
		switch {
		case x.Warning == y.Warning:
			return 0
		case x.Warning:
			return 1
		}
		return -1
	})
	for _, f := range findings {
		printFinding(a, a.stdout, f)
	}
	fmt.Fprintf(a.stderr, "%s of %s: %s, %s\n", count(commands, "command", "commands"), count(len(packages), "package", "packages"),
		count(wrong, "finding", "findings"), count(warnings, "warning", "warnings"))
	return code, nil
}

func printFinding(a *app, w io.Writer, f finding) {
	place, mark := f.Package, a.paint(red, "finding")
	if f.File != "" {
		place = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Warning {
		mark = a.paint(amber, "warning")
	}
	field := ""
	if f.Field != "" {
		field = f.Field + " "
	}
	fmt.Fprintf(w, "%s: %s: %s%s\n", a.paint(bold, place), mark, field, f.Message)
}
