// Command pgcmd describes SQL statements, writes the definitions of commands for them, and checks those of a package
// against a database.
//
//	go run github.com/pgcmd/pgcmd/cmd/pgcmd@latest help
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The exit codes.
const (
	exitOK       = 0
	exitFindings = 1 // something is not right, and the output says what
	exitMisuse   = 2 // nothing could be looked at: a flag, a file, the database
)

const usage = `pgcmd asks PostgreSQL about SQL, and writes Go for github.com/pgcmd/pgcmd.

  pgcmd describe "select ..."       what a statement takes, returns and does; its definition in Go
  pgcmd scaffold queries/*.sql      definitions for files of SQL with sqlc's annotations
  pgcmd verify ./...                compares the commands of Go packages with the database

  pgcmd help describe               the flags of a command, and examples

The database is the one that -d names, or DATABASE_URL. With -schema it is a new one, made from
migrations, on a PostgreSQL that is started for it and thrown away: no server is needed, only
PostgreSQL's programs on this machine.

Exit codes: 0, 1 if there are findings, 2 if pgcmd could not look.
`

// An app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	color, live    bool // of the output: colours, and lines that are written over
}

// A subcommand is what the first argument names.
type subcommand struct {
	usage string
	run   func(ctx context.Context, a *app, args []string) (int, error)
}

var subcommands = map[string]subcommand{
	"describe": {describeUsage, (*describe)(nil).run},
	"scaffold": {scaffoldUsage, (*scaffolding)(nil).run},
	"verify":   {verifyUsage, (*verification)(nil).run},
}

func main() {
	// Whatever ends the program, the database and the server that it made are taken away first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	a.color = isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	a.live = isTerminal(os.Stderr) && os.Getenv("TERM") != "dumb"
	code := a.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A misuse is an error of the command line.
type misuse struct{ error }

// An output remembers the first error of writing.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// main runs what the arguments name, and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	out := &output{Writer: a.stdout}
	a.stdout = out
	code := a.run(ctx, args)
	if out.err != nil {
		if !errors.Is(out.err, syscall.EPIPE) { // nobody reads on
			fmt.Fprintf(a.stderr, "pgcmd: the output could not be written: %v\n", out.err)
		}
		return exitMisuse
	}
	return code
}

func (a *app) run(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(a.stderr, usage)
		return exitMisuse
	}
	name := args[0]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			c, ok := subcommands[args[1]]
			if !ok {
				return a.noCommand(args[1])
			}
			fmt.Fprint(a.stdout, c.usage)
			return exitOK
		}
		fmt.Fprint(a.stdout, usage)
		return exitOK
	}
	c, ok := subcommands[name]
	if !ok {
		return a.noCommand(name)
	}
	code, err := c.run(ctx, a, args[1:])
	if err == nil {
		return code
	}
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(a.stdout, c.usage)
		return exitOK
	}
	message, help := withoutPasswords(err.Error()), ""
	if _, ok := errors.AsType[misuse](err); ok {
		help = "See pgcmd help " + name + ".\n"
	}
	if ctx.Err() != nil {
		message, help = "interrupted", ""
	}
	fmt.Fprintf(a.stderr, "pgcmd %s: %s\n%s", name, message, help)
	if asksForJSON(args) {
		_ = a.writeJSON(map[string]string{"error": message})
	}
	return exitMisuse
}

func (a *app) noCommand(name string) int {
	fmt.Fprintf(a.stderr, "pgcmd: %q is no command of pgcmd: use describe, scaffold or verify, or see pgcmd help\n", withoutPasswords(name))
	return exitMisuse
}

// passwords are those of URLs, also as go list writes them, with one slash, and of connection strings.
var passwords = regexp.MustCompile(`(?i)(\bpostgres(?:ql)?:/+[^\s/@:]*:)\S*(@)|(\bpassword\s*=\s*)(?:'[^']*'|\S+)`)

// withoutPasswords hides them in a message, which may quote an argument: a URL without -d before it.
func withoutPasswords(message string) string {
	return passwords.ReplaceAllString(message, "${1}${3}***${2}")
}

// asksForJSON reports whether -json is among arguments, which need not be right otherwise.
func asksForJSON(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, value, given := strings.Cut(arg, "=")
		asks, err := strconv.ParseBool(value)
		return (name == "-json" || name == "--json") && (!given || asks || err != nil)
	})
}

// newFlags makes the flags of a subcommand, whose errors the caller prints.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parse reads flags, which may also be after and between the other arguments, and returns those. An argument of several
// words that begins with -- is SQL that begins with a comment.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if i := slices.IndexFunc(args, isSQLComment); i >= 0 {
			before, err := parse(flags, args[:i])
			if err != nil {
				return nil, err
			}
			rest, args = append(append(rest, before...), args[i]), args[i+1:]
			continue
		}
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, misuse{err}
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		parsed := len(args) - flags.NArg()
		if parsed > 0 && args[parsed-1] == "--" {
			return append(rest, flags.Args()...), nil
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

func isSQLComment(arg string) bool {
	name, _, _ := strings.Cut(arg, "=") // of a flag: only its value may have spaces
	return strings.HasPrefix(arg, "--") && strings.ContainsAny(name, " \t\r\n")
}

// count writes a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// A list is a flag that may be given several times.
type list []string

func (l *list) String() string { return fmt.Sprint([]string(*l)) }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
