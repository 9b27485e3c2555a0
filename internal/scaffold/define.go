package scaffold

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/queryfile"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// define writes the definition of a query, with the structs that it needs.
func (g *generator) define(q *query) {
	if q.Kind == "copyfrom" {
		g.defineCopy(q)
		return
	}
	inputs := g.inputs(q)
	rows := g.rows(q)
	if q.refused != "" {
		return
	}
	src := g.fileOf(q)
	in := g.inputType(q, src, inputs)
	out := ""
	if q.returnsRows() {
		out = g.rowType(q, src, rows)
	}
	if q.refused != "" {
		return
	}
	name := commandName(g.groupOf(q), q.Name, g.commands)
	call := ""
	switch q.Kind {
	case "one", "batchone":
		call = fmt.Sprintf("pgcmd.QueryOne[%s, %s]", in, out)
	case "many", "iter", "batchmany":
		call = fmt.Sprintf("pgcmd.Query[%s, %s]", in, out)
	default:
		call = fmt.Sprintf("pgcmd.Exec[%s]", in)
	}
	call += fmt.Sprintf("(%q, %s)", name, sqlLiteral(q.SQL, q.Indent))
	variable := g.variable(q)
	comments := q.Comments
	if strings.HasPrefix(q.Kind, "batch") {
		mode := "pgcmd.Atomic"
		if q.reads() {
			mode = "pgcmd.Independent"
		}
		call = fmt.Sprintf("pgcmd.Batch(%s, %s)", call, mode)
	}
	if q.Kind == "iter" {
		if len(comments) > 0 {
			comments = append(slices.Clip(comments), "")
		}
		comments = append(slices.Clip(comments), fmt.Sprintf("Read it row by row: pgcmd.Stream(ctx, db, %s, in).", variable))
	}
	src.use("github.com/pgcmd/pgcmd")
	var b strings.Builder
	writeComment(&b, "", comments)
	fmt.Fprintf(&b, "var %s = %s\n", variable, call)
	src.add(b.String())
}

// reads reports whether the query changes nothing, as far as is known.
func (q *query) reads() bool {
	if q.statement.NotAnalyzed != "" {
		return q.text.Reads
	}
	return len(q.statement.Writes) == 0
}

func (g *generator) variable(q *query) string {
	if g.options.Exported {
		return g.variables[q]
	}
	return g.identifiers.take(unexported(q.Name), "Command")
}

// groupOf is the first part of the names of a file's commands: the name of the file, or of its folder, if the file is
// named after a query.
func (g *generator) groupOf(q *query) string {
	base := strings.TrimSuffix(filepath.Base(q.File), filepath.Ext(q.File))
	if g.afterQuery[q.File] {
		base = filepath.Base(filepath.Dir(q.File))
	}
	group := strings.Join(words(base), "_")
	if slices.Contains([]string{"", "query", "queries", "sql"}, group) {
		group = g.options.Package
	}
	return group
}

// filesAfterQueries returns the files that are named after their queries: all begin with the verb of the file's name, as
// FindUser and FindUserByEmail in find_user.sql.
func filesAfterQueries(queries []*query) map[string]bool {
	after := map[string]bool{}
	for _, q := range queries {
		file, name := words(strings.TrimSuffix(filepath.Base(q.File), filepath.Ext(q.File))), words(q.Name)
		begins := len(file) > 1 && len(name) > 0 && name[0] == file[0]
		if before, seen := after[q.File]; !seen || before {
			after[q.File] = begins
		}
	}
	return after
}

// inputs returns the fields for the parameters of a query.
func (g *generator) inputs(q *query) (fields []field) {
	for i, p := range q.statement.Params {
		name := ""
		if i < len(q.text.Names) {
			name = q.text.Names[i]
		}
		typ, err := g.paramType(p)
		if err != nil {
			q.refuse("the parameter %s %s", placeholder(name, i), err)
			return nil
		}
		isSlice := slices.ContainsFunc(q.Params, func(of queryfile.Param) bool { return of.Name == name && of.Slice })
		if isSlice && !g.isArray(p.OID) {
			q.refuse("sqlc.slice(%s) is a list, and the SQL takes one %s there: write x in (sqlc.slice(%s)), or sqlc.arg(%s)", name, p.Type, name, name)
			return nil
		}
		required := typ.ownNull && slices.ContainsFunc(p.Sets, func(c analysis.ColumnRef) bool { return c.Declared })
		if i < len(q.nulls) && q.nulls[i] {
			typ, required = typ.null(), false
		}
		fields = append(fields, field{column: name, typ: typ, required: required})
	}
	if q.template != nil {
		for _, c := range q.template.Choices {
			if !slices.ContainsFunc(fields, func(f field) bool { return f.column == c.Name }) {
				fields = append(fields, field{column: c.Name, typ: plainType("string"), comments: []string{"Empty, or " + strings.Join(c.Options, ", ") + "."}})
			}
		}
	}
	return fields
}

// isArray reports whether a type is an array, or a domain over one.
func (g *generator) isArray(oid uint32) bool {
	t := g.types[oid]
	for t != nil && t.kind == "d" {
		t = g.types[t.base]
	}
	return t != nil && t.array
}

func placeholder(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("$%d", i+1)
	}
	return "@" + name
}

// paramType returns the type of a parameter: as of the column that it sets, if that is of its type.
func (g *generator) paramType(p analysis.Param) (goType, error) {
	for _, set := range p.Sets {
		t := g.tables[set.TableOID]
		if c := columnOf(t, set.Number); c != nil && c.oid == p.OID {
			return g.ofColumn(t, c, false)
		}
	}
	return g.typeOf(p.OID)
}

// inputType returns the input of a command: struct{} for none, the value of a single $1, or a struct that it writes.
func (g *generator) inputType(q *query, src *source, fields []field) string {
	switch {
	case len(fields) == 0:
		return "struct{}"
	case len(q.text.Names) == 0 && !fields[0].typ.struct_ && !fields[0].required && fields[0].column == "":
		src.useType(fields[0].typ)
		return fields[0].typ.source
	case len(q.text.Names) == 0 && fields[0].column == "": // a struct is never one value, and a value has no tag
		sql, err := nameParams(q.SQL, true)
		if err == nil {
			q.SQL = sql
			q.text, q.template, err = parse(sql)
		}
		if err != nil {
			q.refuse("%s", q.inFile(err.Error()))
			return ""
		}
		fields[0].column = q.text.Names[0]
	}
	name := g.identifiers.take(exported(q.Name)+"Params", "")
	src.add(src.structSource(name, nil, fields))
	return name
}

// rows returns the fields for the columns of a query's result.
func (g *generator) rows(q *query) (fields []field) {
	if !q.returnsRows() {
		return nil
	}
	if len(q.columns) == 0 {
		q.refuse("returns no columns: use :exec, or RETURNING")
		return nil
	}
	for i, c := range q.columns {
		origin := g.tables[c.TableOID]
		var typ goType
		var err error
		at := columnOf(origin, int16(c.TableAttributeNumber))
		if at != nil {
			typ, err = g.ofColumn(origin, at, false)
		} else {
			typ, err = g.typeOf(c.DataTypeOID)
		}
		if err != nil {
			q.refuse("the column %s %s", c.Name, err)
			return nil
		}
		known := q.statement.Columns[i]
		if known.Elem == analysis.Maybe && known.Origin == nil && strings.HasPrefix(typ.source, "[]") && typ.source != "[]byte" {
			if element := strings.TrimPrefix(typ.source, "[]"); !strings.HasPrefix(element, "pgtype.") && !strings.HasPrefix(element, "[]") && !strings.HasPrefix(element, "json.") {
				typ.source = "[]*" + element
			}
		}
		if q.canBeNull(i, at) {
			typ = typ.null()
		}
		fields = append(fields, field{column: c.Name, typ: typ})
	}
	return fields
}

func columnOf(t *table, number int16) *column {
	if t == nil {
		return nil
	}
	return t.column(number)
}

// rowType returns the row of a command: the value of a single column, the struct of a table, or a struct of its own.
func (g *generator) rowType(q *query, src *source, fields []field) string {
	// A QueryOne of a pointer returns nil for no row: a field tells NULL from that.
	maybeNoRow := (q.Kind == "one" || q.Kind == "batchone") && strings.HasPrefix(fields[0].typ.source, "*")
	if len(fields) == 1 && !fields[0].typ.struct_ && len(q.embeds) == 0 && !maybeNoRow {
		src.useType(fields[0].typ)
		return fields[0].typ.source
	}
	if t := g.wholeTable(q, fields, 0, len(fields)); t != nil {
		return g.tableType(t)
	}
	fields = g.embed(q, fields)
	key := rowKey(fields)
	if name, ok := g.rowTypes[key]; ok {
		return name
	}
	name := ""
	var comments []string
	if v := g.wholeView(q); v != nil {
		if name = exported(singular(qualified(v.visible, v.schema, v.name))); g.identifiers[name] {
			name = ""
		} else {
			comments = rowComment(name, "view", v)
		}
	}
	if name == "" {
		name = exported(q.Name) + "Row"
	}
	name = g.identifiers.take(name, "")
	g.rowTypes[key] = name
	src.add(src.structSource(name, comments, fields))
	return name
}

// rowKey is equal for structs that take the same columns.
func rowKey(fields []field) string {
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.column+"\x00"+f.typ.source)
	}
	slices.Sort(keys)
	return strings.Join(keys, "\x01")
}

// embed replaces the columns of each sqlc.embed that are a whole table by its struct.
func (g *generator) embed(q *query, fields []field) []field {
	var embedded []field
	from := 0
	for _, e := range q.embeds {
		t := g.wholeTable(q, fields, e.from, e.to)
		if t == nil {
			continue
		}
		name := g.tableType(t)
		if slices.ContainsFunc(embedded, func(f field) bool { return f.embedded && f.typ.source == name }) {
			continue // a struct holds another once
		}
		embedded = append(embedded, fields[from:e.from]...)
		embedded = append(embedded, field{typ: plainType(name), embedded: true})
		from = e.to
	}
	return append(embedded, fields[from:]...)
}

// wholeTable returns the table of which a range of columns are all columns, if its struct can hold them.
func (g *generator) wholeTable(q *query, fields []field, from, to int) *table {
	t := g.tables[q.columns[from].TableOID]
	if t == nil || !t.stores() || to-from != len(t.columns) {
		return nil
	}
	seen := map[int16]bool{}
	for i := from; i < to; i++ {
		c := q.columns[i]
		at := t.column(int16(c.TableAttributeNumber))
		if c.TableOID != t.oid || at == nil || at.name != c.Name || seen[at.number] {
			return nil
		}
		seen[at.number] = true
		of, err := g.ofColumn(t, at, !at.notNull)
		if err != nil {
			return nil
		}
		// A column that is never NULL here can be read into a field that can hold it.
		if of.source != fields[i].typ.source && of.source != fields[i].typ.null().source {
			return nil
		}
	}
	return t
}

// wholeView returns the view of which the result is all columns, or nil.
func (g *generator) wholeView(q *query) *table {
	t := g.tables[q.columns[0].TableOID]
	if t == nil || t.stores() || len(t.columns) != len(q.columns) {
		return nil
	}
	for _, c := range q.columns {
		if c.TableOID != t.oid {
			return nil
		}
	}
	return t
}

// tableType returns the struct of a table, which it writes once.
func (g *generator) tableType(t *table) string {
	if name, ok := g.tableTypes[t.oid]; ok {
		return name
	}
	name := g.identifiers.take(exported(singular(qualified(t.visible, t.schema, t.name))), "Row")
	g.tableTypes[t.oid] = name
	var fields []field
	for i := range t.columns {
		c := &t.columns[i]
		typ, err := g.ofColumn(t, c, !c.notNull)
		if err != nil {
			continue // wholeTable has found none
		}
		fields = append(fields, field{column: c.name, typ: typ, comments: commentLines(c.comment)})
	}
	src := g.file(TypesFile)
	src.add(src.structSource(name, rowComment(name, "table", t), fields))
	return name
}

// rowComment is the comment on the struct of a table or view: a sentence that begins with its name, then the database's.
func rowComment(name, kind string, t *table) []string {
	comments := []string{fmt.Sprintf("%s is a row of the %s %s.", name, kind, t.name)}
	if lines := commentLines(t.comment); len(lines) > 0 {
		comments = append(append(comments, ""), lines...)
	}
	return comments
}

// A copyTarget is the table of a :copyfrom and the columns that it fills.
type copyTarget struct {
	table   *table
	columns []*column
}

// copyTarget finds what a :copyfrom copies into: an INSERT of one row of parameters says it.
func (g *generator) copyTarget(ctx context.Context, conn *pgx.Conn, q *query) error {
	const form = "a :copyfrom is written as insert into a_table (a, b) values ($1, $2)"
	toks, err := sqltext.Lex(q.SQL)
	if err != nil {
		q.refuse("%s", q.inFile(err.Error()))
		return nil
	}
	name, columns, rows, ok := insertTarget(toks)
	if !ok || len(rows) != 1 || len(rows[0]) != len(columns) || len(name) == 0 {
		q.refuse(form)
		return nil
	}
	for i, value := range rows[0] {
		if len(value) == 0 || !value[0].Param && value[0].Name == "" || afterCast(value, 1) != len(value) {
			q.refuse("%s: the value for %s is not a parameter", form, q.SQL[columns[i].Start:columns[i].End])
			return nil
		}
	}
	if last := rows[0][len(rows[0])-1]; last[len(last)-1].Start != toks[len(toks)-2].Start { // before the )
		q.refuse("%s, and nothing after it", form)
		return nil
	}
	written := q.SQL[name[0].Start:name[len(name)-1].End]
	t, err := tableNamed(ctx, conn, g.tables, written)
	if err != nil {
		return err
	}
	if t == nil {
		q.refuse("line %d: the table %s does not exist", q.SQLLine, written)
		return nil
	}
	target := &copyTarget{table: t}
	for _, tok := range columns {
		name := tok.Word
		if name == "" {
			name = strings.ReplaceAll(strings.Trim(q.SQL[tok.Start:tok.End], `"`), `""`, `"`)
		}
		at := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
		if at < 0 {
			q.refuse("the table %s has no column %s", written, name)
			return nil
		}
		if !fitsTag(name) {
			q.refuse("fills the column %q, which the tag of a field cannot name: use an INSERT", name)
			return nil
		}
		target.columns = append(target.columns, &t.columns[at])
	}
	g.copies[q] = target
	return nil
}

func (g *generator) defineCopy(q *query) {
	target := g.copies[q]
	t := target.table
	var fields []field
	for _, c := range target.columns {
		typ, err := g.ofColumn(t, c, !c.refuses)
		if err != nil {
			q.refuse("the column %s %s", c.name, err)
			return
		}
		fields = append(fields, field{column: c.name, typ: typ, required: c.refuses && typ.ownNull})
	}
	src := g.fileOf(q)
	row := g.identifiers.take(exported(q.Name)+"Params", "")
	src.add(src.structSource(row, nil, fields))
	identifier := fmt.Sprintf("%q", t.name)
	if !t.visible {
		identifier = fmt.Sprintf("%q, %q", t.schema, t.name)
	}
	src.use("github.com/pgcmd/pgcmd")
	src.use("github.com/jackc/pgx/v5")
	var b strings.Builder
	writeComment(&b, "", q.Comments)
	fmt.Fprintf(&b, "var %s = pgcmd.Copy[%s](%q, pgx.Identifier{%s})\n", g.variable(q), row, commandName(g.groupOf(q), q.Name, g.commands), identifier)
	src.add(b.String())
}
