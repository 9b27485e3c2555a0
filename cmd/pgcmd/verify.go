package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	folder, err := os.MkdirTemp("", "pgcmd-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	args := []string{"test", "-count=1", "-vet=off", "-timeout=10m", "-run=^" + testName + "$"}
	if v.tags != "" {
		args = append(args, "-tags="+v.tags)
	}
	overlayPath := filepath.Join(folder, "overlay.json")
	args = append(args, "-overlay="+overlayPath)
	for i, p := range packages {
		source := filepath.Join(folder, fmt.Sprintf("%d_test.go", i))
		if err := os.WriteFile(source, p.testSource(i, v.typesOf(p)), 0o600); err != nil {
			return nil, err
		}
		// The package's own tests are left out: they may not compile, and may have a TestMain.
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			overlay.Replace[filepath.Join(p.Dir, name)] = ""
		}
		overlay.Replace[filepath.Join(p.Dir, "pgcmd_verify_test.go")] = source
		args = append(args, p.ImportPath)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlayPath, text, 0o600); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, "go", args...)
	command.Env = append(os.Environ(), "PGCMD_VERIFY_URL="+d.url, "PGCMD_VERIFY_DATABASE="+d.name, "PGCMD_VERIFY_FOLDER="+folder)
	output, runErr := command.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i, p := range packages {
		text, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("%d.json", i)))
		if err != nil {
			message := panicOf(string(output), p)
			if message == "" {
				return nil, fmt.Errorf("go test: %w\n%s", errors.Join(runErr, err), bytes.TrimSpace(output))
			}
			findings = append(findings, finding{Package: p.ImportPath, Rule: "definition", Message: message})
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

// panicOf returns the panic of a definition of the package, or "".
func panicOf(output string, p *goPackage) string {
	for _, part := range strings.SplitAfter(output, "\nFAIL\t") {
		found := panicLine.FindStringSubmatch(part)
		if found != nil && (strings.Contains(part, p.ImportPath+".") || strings.Contains(part, p.Name+".init")) {
			return found[1]
		}
	}
	return ""
}

// typesOf are the types of the flag, for packages that name none themselves.
func (v *verification) typesOf(p *goPackage) []string {
	if p.types != "" || v.types == "" {
		return nil
	}
	return strings.Split(v.types, ",")
}

// finding places a problem at the variable of the command that it names.
func (p *goPackage) finding(o outcome, field, rule, message string, warning bool) finding {
	f := finding{Package: p.ImportPath, Field: field, Rule: rule, Message: message, Warning: warning}
	best := -1
	for i, name := range o.Names {
		if (field == name || strings.HasPrefix(field, name+":")) && (best < 0 || len(name) > len(o.Names[best])) {
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
