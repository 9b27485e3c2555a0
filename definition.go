package pgcmd

import (
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A Definition is a command of any input and output, for what takes many of them:
// every [Command] is one, and nothing else.
type Definition interface {
	Name() string
	definition() *definition
}

// definition is nil for a nil command.
func (c *Command[In, Out]) definition() *definition {
	if c == nil {
		return nil
	}
	return c.def
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
	statement   *statement       // of a command that is one; else nil
	rowType     *rowscan.RowType // of its rows; nil if they do not matter
	row         reflect.Type
	returnsOne  bool                 // it returns exactly one row
	table       pgx.Identifier       // of a Copy
	fields      []structfields.Field // of a Copy
	tablesNamed []sqltext.Table      // the tables that the SQL names
	described   description          // by the server
	findings    []Problem            // of Verify
	warnings    []Problem
}

func (d *definition) descriptor() *descriptor {
	s := &descriptor{}
	if d.batch != nil {
		s = d.batch.describe()
		s.batch, s.isStatement = true, false
	} else {
		s.in, s.options, s.isStatement = d.in, d.opts, d.isStatement
		switch b := d.body.(type) {
		case *query:
			s.statement, s.rowType, s.returnsOne = b.statement, b.rowType, b.kind == queryOne
			if b.rowType != nil {
				s.row = b.rowType.Type
			}
		case *copyDefinition:
			s.table, s.row, s.fields = b.name, b.typ, b.fields
		}
	}
	s.name, s.own, s.input, s.output = d.name, d.opts, d.in, d.out
	s.inTx, s.once = d.inTx, s.once || d.isOnce
	s.hasUserCode = s.hasUserCode || d.handler != nil || len(d.before)+len(d.after)+len(d.onError) > 0
	return s
}

// returnsMany reports whether MaxRows bounds the command: it is a Query, or a batch of
// them.
func (s *descriptor) returnsMany() bool { return s.rowType != nil && !s.returnsOne }
