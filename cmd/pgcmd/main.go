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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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

func (a *app) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(a.stderr, usage)
		return exitMisuse
	}
	name := args[0]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			if c, ok := subcommands[args[1]]; ok {
				fmt.Fprint(a.stdout, c.usage)
				return exitOK
			}
		}
		fmt.Fprint(a.stdout, usage)
		return exitOK
	}
	c, ok := subcommands[name]
	if !ok {
		fmt.Fprintf(a.stderr, "pgcmd: %q is no command of pgcmd: use describe, scaffold or verify, or see pgcmd help\n", name)
		return exitMisuse
	}
	code, err := c.run(ctx, a, args[1:])
	var wrong misuse
	switch {
	case err == nil:
		return code
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(a.stdout, c.usage)
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintf(a.stderr, "pgcmd %s: interrupted\n", name)
	case errors.As(err, &wrong):
		fmt.Fprintf(a.stderr, "pgcmd %s: %v\nSee pgcmd help %s.\n", name, err, name)
	default:
		fmt.Fprintf(a.stderr, "pgcmd %s: %v\n", name, err)
	}
	return exitMisuse
}

// newFlags makes the flags of a subcommand, whose errors the caller prints.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parse reads flags, which may also be after and between the other arguments, and returns those.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
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
