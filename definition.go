package pgcmd

import (
	"context"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A Definition is a command of any input and output, for what takes many of them:
// every [Command] is one, and nothing else.
type Definition interface {
	Name() string
	subject() *subject
	limited(o Options) Definition
	runJSON(ctx context.Context, db DB, input []byte) (out any, err error)
}

// A subject is a command without its type parameters, for what looks at commands
// rather than runs them. What is generic is compiled for every command, so that it
// is kept small.
type subject struct {
	name          string
	input, output reflect.Type
	own           Options // of the command itself
	begins, once  bool
	batch         bool
	single        bool // it is a statement
	foreign       bool // it has hooks or middleware, whose errors can be any

	// Of a batch these are what its items have:
	options   Options
	in        reflect.Type
	statement *statement // of a command that is one; else nil
	shape     *shape     // of its rows; nil if they do not matter
	row       reflect.Type
	one       bool            // it returns exactly one row
	table     pgx.Identifier  // of a Copy
	fields    []field         // of a Copy
	named     []sqltext.Table // the tables that the SQL names
	described description     // by the server
	findings  []Problem       // of Verify
	warnings  []Problem
}

// subject is nil for a nil command.
func (c *Command[In, Out]) subject() *subject {
	if c == nil {
		return nil
	}
	return c.core.subject()
}

func (c *core) subject() *subject {
	s := &subject{}
	if c.batch {
		s = c.items()
		s.batch, s.single = true, false
	} else {
		s.in, s.options, s.single = c.in, c.opts, c.statement
		if source, ok := c.query.(interface{ reveal(s *subject) }); ok {
			source.reveal(s)
		}
		s.one = s.shape != nil && s.row == c.out
	}
	s.name, s.own, s.input, s.output = c.name, c.opts, c.in, c.out
	s.begins, s.once = c.begins, s.once || c.once
	s.foreign = s.foreign || c.handler != nil || len(c.before)+len(c.after)+len(c.onError) > 0
	return s
}

func (c *Command[In, Out]) limited(o Options) Definition { return c.With(o) }

func (q *query[In, Row]) reveal(s *subject) {
	s.statement, s.shape, s.row = q.statement, q.shape, reflect.TypeFor[Row]()
}

func (c *copier) reveal(s *subject) { s.table, s.row, s.fields = c.name, c.typ, c.fields }

// many reports whether MaxRows bounds the command: it is a Query, or a batch of
// them.
func (s *subject) many() bool { return s.shape != nil && !s.one }
