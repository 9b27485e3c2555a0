package compilecost

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"text/template"
)

// Form is a way to write the functions of a package.
type Form string

const (
	ByHand Form = "byhand" // with pgx.NamedArgs, RowToStructByName and CollectRows
	Pgcmd  Form = "pgcmd"  // with QueryOne, Query and Exec
)

//go:embed templates/*.tmpl
var files embed.FS

var templates = template.Must(template.ParseFS(files, "templates/*.tmpl"))

// command is one function of a generated package.
type command struct {
	N    int
	Kind string // the constructor in pgcmd
}

var kinds = []string{"QueryOne", "Query", "Exec"}

// Source returns the text of a package of n commands: a third each read one row, read many and write. Each has an input
// and a row of its own, with a field that no other has: the compiler shares the instantiations of generic code between
// structs that have the same fields.
func Source(form Form, n int) ([]byte, error) {
	commands := make([]command, n)
	for i := range commands {
		commands[i] = command{N: i, Kind: kinds[i%len(kinds)]}
	}
	return execute(string(form), commands)
}

func execute(name string, commands []command) ([]byte, error) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name+".tmpl", commands); err != nil {
		return nil, err
	}
	source, err := format.Source(text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s.tmpl: %w", name, err)
	}
	return source, nil
}
