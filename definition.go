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
	descriptor() *descriptor
	withMaxRows(o Options) Definition
	runJSON(ctx context.Context, db DB, input []byte) (out any, err error)
}

// A subject is a command without its type parameters, for what looks at commands
// rather than runs them. What is generic is compiled for every command, so that it
// is kept small.
type descriptor struct {
	name          string
	input, output reflect.Type
	own           Options // of the command itself
	inTx, once    bool
	batch         bool
	isStatement   bool // it is a statement
	hasUserCode   bool // it has hooks or middleware, whose errors can be any

	// Of a batch these are what its items have:
	options     Options
	in          reflect.Type
	statement   *statement // of a command that is one; else nil
	rowType     *rowType   // of its rows; nil if they do not matter
	row         reflect.Type
	returnsOne  bool            // it returns exactly one row
	table       pgx.Identifier  // of a Copy
	fields      []field         // of a Copy
	tablesNamed []sqltext.Table // the tables that the SQL names
	described   description     // by the server
	findings    []Problem       // of Verify
	warnings    []Problem
}

// descriptor is nil for a nil command.
func (c *Command[In, Out]) descriptor() *descriptor {
	if c == nil {
		return nil
	}
	return c.def.descriptor()
}

func (c *definition) descriptor() *descriptor {
	s := &descriptor{}
	if c.isBatch {
		s = c.itemDescriptor()
		s.batch, s.isStatement = true, false
	} else {
		s.in, s.options, s.isStatement = c.in, c.opts, c.isStatement
		if source, ok := c.query.(interface{ reveal(s *descriptor) }); ok {
			source.reveal(s)
		}
		s.returnsOne = s.rowType != nil && s.row == c.out
	}
	s.name, s.own, s.input, s.output = c.name, c.opts, c.in, c.out
	s.inTx, s.once = c.inTx, s.once || c.isOnce
	s.hasUserCode = s.hasUserCode || c.handler != nil || len(c.before)+len(c.after)+len(c.onError) > 0
	return s
}

func (c *Command[In, Out]) withMaxRows(o Options) Definition { return c.With(o) }

func (q *query[In, Row]) fillDescriptor(s *descriptor) {
	s.statement, s.rowType, s.row = q.statement, q.rowType, reflect.TypeFor[Row]()
}

func (c *copyDefinition) fillDescriptor(s *descriptor) {
	s.table, s.row, s.fields = c.name, c.typ, c.fields
}

// returnsMany reports whether MaxRows bounds the command: it is a Query, or a batch of
// them.
func (s *descriptor) returnsMany() bool { return s.rowType != nil && !s.returnsOne }
