// Package analysis reports what PostgreSQL's own parser knows of a statement: which columns of
// the result can be NULL and why, which tables it reads and writes, which columns it sets
// from which parameters, and which functions it calls, through views, rules and policies. It
// executes nothing and leaves nothing behind.
//
// A statement is analyzed by creating a temporary function with it as the body, in a
// transaction or a savepoint that is rolled back: the server stores the query tree in
// pg_proc.prosqlbody, since PostgreSQL 14. What is not known is Unknown, never a guess.
//
// Where to begin: ask.go gets the trees from the server, catalog.go what they name, form.go checks
// that their form is known. effects.go finds the tables, functions and writes. For NULL, null.go
// evaluates an expression to an outcome, with expr.go, functions.go, aggregates.go and elements.go
// for its kinds; columns.go says what a column of a table, a view or a subquery can be; scope.go has
// the queries, with their joins and conditions; output.go and returning.go have the columns of the
// result.
package analysis

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// A Query is a statement to analyze.
type Query struct {
	// SQL is one statement, whose parameters are $1, $2, ...
	SQL string
	// Params[i] says whether $i+1 can be NULL, by its Go type; nothing is known of those beyond.
	Params []Null
	// Described is what the server says of the prepared statement. Analyze asks for it if it is nil.
	Described *pgconn.StatementDescription
}

// A Statement is what is known of a query.
type Statement struct {
	// Refused is why the server does not accept the SQL; the rest is then empty.
	Refused *pgconn.PgError
	// NotAnalyzed says for people why there is no query tree ("PostgreSQL 13 does not store query trees"): Params
	// and Columns then hold types alone, and the rest is empty. It is empty if there is one.
	NotAnalyzed string

	Params  []Param  // in the order of their numbers
	Columns []Column // of the result
	Tables  []Table  // that it reads and writes, also through views, rules, policies and SQL functions
	// Functions are those that it calls, also as operators and casts, and through views, rules, policies and
	// SQL functions, PostgreSQL's own included.
	Functions []Function
	// Writes are the reasons why the statement may change something, in the order in which they were found;
	// empty if it only reads.
	Writes []Write
	// Omitted are the columns that an INSERT leaves out and that then fail: they are NOT NULL, have no
	// default, and no trigger fills them.
	Omitted []ColumnRef
	// NullSets are the columns that are NOT NULL and are set to what may be NULL, whatever the parameters are.
	NullSets []NullSet
}

// A NullSet is a column that is NOT NULL and is set to what may be NULL.
type NullSet struct {
	ColumnRef
	Reason string // as in Column
	Always bool   // it is NULL for every row
}

// Null says whether a value can be NULL.
type Null int

const (
	Unknown Null = iota // nothing is proven
	Never               // proven
	Maybe               // some data that the schema allows gives NULL, and Reason says how
)

func (n Null) String() string { return [...]string{"unknown", "never NULL", "may be NULL"}[n] }

// A Param is a parameter of a statement.
type Param struct {
	OID  uint32
	Type string // as format_type writes it
	// Sets are the columns that the parameter is assigned to as it is, or after a cast that keeps NULL.
	Sets []ColumnRef
	// Fails are the other columns that are NOT NULL and would be set to NULL where the parameter is NULL, as by lower($1).
	Fails []ColumnRef
	// Casts are the explicit casts of the parameter to another type than its own, such as the second in
	// @x::text::mood: the first is what its type comes from.
	Casts []Cast
}

// A ColumnRef is a column of a table.
type ColumnRef struct {
	Schema, Table, Column string
	TableOID              uint32
	Number                int16
	NotNull               bool // by the column, its domain or a validated CHECK
	Declared              bool // of what is written: NOT NULL, but a trigger or a rule may change the NULL before it is stored
	Visible               bool // the table is found by its name alone
}

// A Cast is an explicit cast of a parameter.
type Cast struct{ From, To uint32 }

// A Column is a column of the result.
type Column struct {
	Name string
	OID  uint32
	Type string // as format_type writes it

	Null Null
	// Reason says why Null is Maybe: "column nick of table users may be NULL".
	Reason string
	// Line and Position are where in the SQL the reason is: the line, and the byte, both from 1; 0 if that is
	// not known.
	Line, Position int

	// Elem is Null for the elements of an array.
	Elem       Null
	ElemReason string

	// Origin is the column of a table whose values these are; nil if there is none.
	Origin *ColumnRef
}

// A Table is a relation that a statement uses.
type Table struct {
	OID                                          uint32
	Schema, Name                                 string
	Kind                                         string // of pg_class: r, p, f, v, m
	Visible                                      bool   // it is found by its name alone
	Selected, Inserted, Updated, Deleted, Locked bool
	Through                                      string // "view sold": what leads to it; empty if the SQL names it
}

// A Function is a function that a statement calls.
type Function struct {
	OID          uint32
	Schema, Name string
	Volatility   string // of pg_proc: i, s, v
	Through      string // "operator ===", "view sold"; empty if the SQL names it
}

// A Write is a reason why a statement may change something.
type Write struct {
	// What leads to the change and what it is: "view sold, function note, insert into notes".
	What string
	// Certain is false for what the tree cannot tell: a volatile function in another language than SQL.
	Certain bool
	// Lock says that it only locks rows.
	Lock bool
	// Direct says that the statement itself writes, and not what it calls.
	Direct bool
	// Builtin says that it is a function of PostgreSQL's own.
	Builtin bool
}

// Analyze analyzes queries on a connection, in a number of round trips that does not depend
// on how many there are. On a connection in a transaction it works within savepoints; it
// holds a lock for no longer than one query. Its error is the connection's or the server's,
// and not one query's.
func Analyze(ctx context.Context, conn *pgx.Conn, queries ...Query) ([]*Statement, error) {
	statements := make([]*Statement, len(queries))
	for i := range statements {
		statements[i] = &Statement{}
	}
	queries = append([]Query(nil), queries...)
	if err := describe(ctx, conn, queries, statements); err != nil {
		return nil, err
	}
	names, err := typeNames(ctx, conn, queries)
	if err != nil {
		return nil, err
	}
	for i, q := range queries {
		if q.Described == nil {
			continue
		}
		for _, oid := range q.Described.ParamOIDs {
			statements[i].Params = append(statements[i].Params, Param{OID: oid, Type: names[oid]})
		}
		for _, f := range q.Described.Fields {
			statements[i].Columns = append(statements[i].Columns, Column{Name: f.Name, OID: f.DataTypeOID, Type: names[f.DataTypeOID]})
		}
	}
	bodies, err := trees(ctx, conn, queries, statements, names)
	if err != nil {
		return nil, err
	}
	c, err := loadCatalog(ctx, conn, bodies)
	if err != nil {
		return nil, err
	}
	for i, body := range bodies {
		if len(body) == 0 {
			continue
		}
		a := (&analyzer{catalog: c}).withParams(queries[i].Params)
		a.statement(statements[i], body[0], queries[i].SQL)
	}
	return statements, nil
}

// statement fills in what the tree of a statement tells.
func (a *analyzer) statement(st *Statement, tree *pgtree.Node, sql string) {
	s := a.newScope(tree, nil, env{})
	list := columnsOf(s)
	if len(list) != len(st.Columns) {
		st.NotAnalyzed = "its query tree has other columns than its result"
		return
	}
	for i := range st.Columns {
		c := &st.Columns[i]
		c.Null, c.Reason, c.Line, c.Position = a.conclude(a.output(s, i, false), sql)
		c.Elem, c.ElemReason, _, _ = a.conclude(a.output(s, i, true), sql)
		if t := a.catalog.types[c.OID]; t != nil && t.elem == 0 {
			c.Elem, c.ElemReason = Unknown, ""
		}
		c.Origin = a.columnRef(list[i].OID("resorigtbl"), num(list[i], "resorigcol"))
	}
	a.effects(st, tree)
	a.assignments(st, s)
}

// conclude says what an outcome means.
func (a *analyzer) conclude(o outcome, sql string) (null Null, why string, line, position int) {
	switch {
	case a.steps > maxSteps:
	case o.can&isNull == 0:
		return Never, "", 0, 0
	case o.does&isNull != 0 && o.why != nil:
		line, position = place(sql, o.why.near)
		return Maybe, o.why.text, line, position
	}
	return Unknown, "", 0, 0
}

// columnRef describes a column of a table; nil if there is none.
func (a *analyzer) columnRef(table uint32, number int) *ColumnRef {
	r := a.catalog.relations[table]
	if r == nil || r.columns[number] == nil {
		return nil
	}
	c := r.columns[number]
	ref := &ColumnRef{Schema: r.schema, Table: r.name, Column: c.name, TableOID: table, Number: int16(number), Visible: r.visible}
	switch r.kind {
	case "r", "p":
		ref.NotNull = a.column(r, number, nil).can&isNull == 0 || a.catalog.isNotNullDomain(c.typ)
	}
	return ref
}

// place finds the first of the names in the SQL that it holds as a word of its own: its line and its byte, from 1.
func place(sql string, names []string) (line, position int) {
	lower := strings.ToLower(sql)
	for _, name := range names {
		name = strings.ToLower(name)
		for from := 0; name != ""; {
			i := strings.Index(lower[from:], name)
			if i < 0 {
				break
			}
			i += from
			end := i + len(name)
			if !(isWord(name[0]) && i > 0 && isWord(lower[i-1])) && !(isWord(name[len(name)-1]) && end < len(lower) && isWord(lower[end])) {
				return 1 + strings.Count(sql[:i], "\n"), i + 1
			}
			from = end
		}
	}
	return 0, 0
}

func isWord(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b >= 0x80
}
