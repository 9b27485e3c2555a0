package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgcmd/pgcmd/bench/internal/compilecost"
	"github.com/pgcmd/pgcmd/internal/measure"
)

// packageSizes are numbers of commands.
var packageSizes = []int{0, 50, 200, 500}

// compiled is what a package of commands cost to compile.
type compiled struct {
	commands        int
	name            string        // of its form
	cpu             measure.Times // of the compiler in each turn, user and system
	memory          measure.Times // peak of the compiler in each turn, in bytes
	archive, binary float64       // in bytes
}

func findCompiled(r *results, commands int, name string) (compiled, bool) {
	for _, p := range r.compiled {
		if p.commands == commands && p.name == name {
			return p, true
		}
	}
	return compiled{}, false
}

// compilePackages compiles packages of commands with the compiler alone, in turns, and links each once.
func compilePackages(ctx context.Context, r *results, p pace) (err error) {
	compiler, err := compilecost.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, compiler.Close()) }()
	forms := map[string]compilecost.Form{byHand: compilecost.ByHand, ours: compilecost.Pgcmd}
	for _, n := range packageSizes {
		r.compiled = append(r.compiled, compiled{commands: n, name: byHand}, compiled{commands: n, name: ours})
	}
	for turn := range p.compiles {
		for i := range r.compiled {
			c := &r.compiled[i]
			built, err := compiler.Compile(ctx, forms[c.name], c.commands)
			if err != nil {
				return err
			}
			c.cpu = append(c.cpu, float64(built.CPU.Nanoseconds()))
			c.memory = append(c.memory, float64(built.MaxRSS))
			c.archive = float64(built.ArchiveSize)
			if turn > 0 {
				continue
			}
			_, length, err := compiler.Link(ctx, built)
			if err != nil {
				return err
			}
			c.binary = float64(length)
		}
	}
	return nil
}

// countFunctions counts the functions that the compiler makes of a command.
func countFunctions(ctx context.Context, r *results, _ pace) (err error) {
	compiler, err := compilecost.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, compiler.Close()) }()
	r.functions, err = compiler.FunctionsPerCommand(ctx, compilecost.Pgcmd)
	return err
}

func (p *page) compileCosts(r *results) {
	p.line("\n## Compiling a package of commands")
	p.line("\nA generated package, of which every command has types of its own: with `QueryOne`, `Query` and `Exec`, and the same functions by hand with `CollectExactlyOneRow`, `CollectRows`, `RowToStructByName` and `NamedArgs`. "+
		"CPU is the user and system time of the compiler, which runs anew at every edit of the package, without its dependencies; memory is its peak; both are medians of %d turns. The archive is what the build cache holds of the package, and the binary is a program that can run every command. "+
		"The compiler makes %s functions of a command with pgcmd, instantiations and wrappers included.", turns(r), number(r.functions))
	p.head("commands", "", "CPU", "ratio", "memory", "ratio", "archive", "ratio", "binary", "ratio")
	for _, us := range r.compiled {
		hand, ok := findCompiled(r, us.commands, byHand)
		if !ok {
			continue
		}
		ratios := []string{"", "", "", ""}
		if us.name != byHand {
			ratios = []string{number(us.cpu.Over(hand.cpu).Median), number(us.memory.Over(hand.memory).Median), number(us.archive / hand.archive), number(us.binary / hand.binary)}
		}
		p.row(fmt.Sprint(us.commands), us.name, ns(us.cpu.Spread().Median), ratios[0], megabytes(us.memory.Spread().Median), ratios[1], megabytes(us.archive), ratios[2], megabytes(us.binary), ratios[3])
	}
}

// turns is how often each package was compiled.
func turns(r *results) int {
	if len(r.compiled) == 0 {
		return 0
	}
	return len(r.compiled[0].cpu)
}

func megabytes(bytes float64) string { return number(bytes/1e6) + " MB" }
