// Package compilecost measures what it costs to compile and to link a package of commands, written with pgcmd or by hand
// with pgx's helpers. It runs the compiler and the linker of the installed Go themselves: the go command would add work of
// its own, and the build cache would hide theirs.
package compilecost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// MaxFunctionsPerCommand is the most that FunctionsPerCommand may return for Pgcmd. What a user's package costs to compile grows
// with its functions, and their number is exact where time and memory are not.
const MaxFunctionsPerCommand = 22

// imported are the packages that the generated source imports.
var imported = []string{"context", "os", "time", "github.com/jackc/pgx/v5", "github.com/jackc/pgx/v5/pgxpool", "github.com/pgcmd/pgcmd"}

// concurrency is the number of functions that the compiler works on at a time. It is fixed because the compiler's memory
// depends on it; the go command chooses it by the number of cores.
const concurrency = "-c=2"

// Compiler compiles generated packages in a temporary folder. Call Close to remove the folder.
type Compiler struct {
	compile, link string // paths of the programs
	folder        string
	imports       string // path of the file that says where the archive of each imported package is
}

// New returns a Compiler for the versions of pgx and pgcmd that the module in the current folder requires. It compiles
// both, unless they are in the build cache.
func New(ctx context.Context) (*Compiler, error) {
	c := new(Compiler)
	for name, path := range map[string]*string{"compile": &c.compile, "link": &c.link} {
		out, err := output(ctx, "go", "tool", "-n", name)
		if err != nil {
			return nil, err
		}
		*path = strings.TrimSpace(string(out))
	}
	list := []string{"list", "-export", "-deps", "-f", "{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}"}
	archives, err := output(ctx, "go", append(list, imported...)...)
	if err != nil {
		return nil, err
	}
	if c.folder, err = os.MkdirTemp("", "compilecost"); err != nil {
		return nil, err
	}
	c.imports = filepath.Join(c.folder, "imports")
	if err := os.WriteFile(c.imports, archives, 0o644); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close removes the temporary folder, and with it every Package and program.
func (c *Compiler) Close() error { return os.RemoveAll(c.folder) }

// Package is a compiled package of commands.
type Package struct {
	CPU         time.Duration // of the compiler, user and system
	MaxRSS      int64         // peak memory of the compiler, in bytes
	ArchiveSize int64         // in bytes
	folder      string
}

func (p *Package) archive() string { return filepath.Join(p.folder, "commands.a") }

// Compile generates a package of n commands and compiles it.
//
// On Linux, a process begins with the peak memory of the process that started it. MaxRSS is therefore never less than the
// peak memory of this process: measure before doing anything else that needs much memory.
func (c *Compiler) Compile(ctx context.Context, form Form, n int) (*Package, error) {
	source, err := Source(form, n)
	if err != nil {
		return nil, err
	}
	p := &Package{folder: filepath.Join(c.folder, fmt.Sprint(form, n))}
	if err := os.MkdirAll(p.folder, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(p.folder, "commands.go")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return nil, err
	}
	state, err := run(ctx, c.compile, concurrency, "-p", "commands", "-complete", "-pack", "-importcfg", c.imports, "-o", p.archive(), file)
	if err != nil {
		return nil, err
	}
	p.CPU = state.UserTime() + state.SystemTime()
	p.MaxRSS = maxRSS(state)
	p.ArchiveSize, err = size(p.archive())
	return p, err
}

// Link links a program that can run every command of the package, and returns its path and its size in bytes.
func (c *Compiler) Link(ctx context.Context, p *Package) (program string, length int64, err error) {
	imports, err := os.ReadFile(c.imports)
	if err != nil {
		return "", 0, err
	}
	source, err := execute("main", nil)
	if err != nil {
		return "", 0, err
	}
	file, archive, config := filepath.Join(p.folder, "main.go"), filepath.Join(p.folder, "main.a"), filepath.Join(p.folder, "imports")
	imports = fmt.Appendf(imports, "packagefile commands=%s\n", p.archive())
	if err := errors.Join(os.WriteFile(file, source, 0o644), os.WriteFile(config, imports, 0o644)); err != nil {
		return "", 0, err
	}
	if _, err := run(ctx, c.compile, "-p", "main", "-complete", "-pack", "-importcfg", config, "-o", archive, file); err != nil {
		return "", 0, err
	}
	program = filepath.Join(p.folder, "program")
	if _, err := run(ctx, c.link, "-importcfg", config, "-o", program, archive); err != nil {
		return "", 0, err
	}
	length, err = size(program)
	return program, length, err
}

// text matches a line of `go tool nm` of a function that the package defines.
var text = regexp.MustCompile(`^ *[0-9a-f]+ [Tt] `)

// Functions counts the functions in the archive of the package, with `go tool nm`: those written in it and those that the
// compiler makes, which are instantiations of generic functions, wrappers of methods, and comparisons of structs.
func (c *Compiler) Functions(ctx context.Context, p *Package) (int, error) {
	out, err := output(ctx, "go", "tool", "nm", p.archive())
	if err != nil {
		return 0, err
	}
	count := 0
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20) // the name of an instantiation holds the text of whole structs
	for lines.Scan() {
		if text.Match(lines.Bytes()) {
			count++
		}
	}
	return count, lines.Err()
}

// FunctionsPerCommand returns how many functions the compiler makes of a command, in the mean of the three kinds. It is
// the growth from one command of each kind to seven, so that functions which a package has once do not count: a package
// without commands has those of pgxpool, and the first command adds some that all share.
func (c *Compiler) FunctionsPerCommand(ctx context.Context, form Form) (float64, error) {
	few, many := len(kinds), 7*len(kinds)
	var functions [2]int
	for i, n := range []int{few, many} {
		p, err := c.Compile(ctx, form, n)
		if err != nil {
			return 0, err
		}
		if functions[i], err = c.Functions(ctx, p); err != nil {
			return 0, err
		}
	}
	return float64(functions[1]-functions[0]) / float64(many-few), nil
}

// run runs a program and returns what it used. Its error holds what the program wrote.
func run(ctx context.Context, program string, args ...string) (*os.ProcessState, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, out)
	}
	return cmd.ProcessState, nil
}

// output runs a program and returns its standard output.
func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, problems.Bytes())
	}
	return out, nil
}

// maxRSS returns the peak memory of a process in bytes.
func maxRSS(state *os.ProcessState) int64 {
	usage := state.SysUsage().(*syscall.Rusage)
	if runtime.GOOS == "darwin" {
		return int64(usage.Maxrss)
	}
	return int64(usage.Maxrss) << 10 // in kilobytes elsewhere
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
