package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/queryfile"
	"github.com/pgcmd/pgcmd/internal/scaffold"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

const describeUsage = `pgcmd describe [flags] "select ..."

Says what a statement takes and returns, which columns can be NULL and why, what it reads, writes
and calls, and shows its definition in Go, to paste. Nothing is executed. Parameters are @name or
$1. The statement - is read from the standard input.

  -name NAME       of the command in Go; else one after the statement
  -one             it returns one row: QueryOne, and no Query
  -type DB=GO      the Go type for a type or a column of the database, with its import path
  -json            the same for tools
` + databaseUsage + `
  pgcmd describe -d postgres://localhost/shop "select id, email from users where email = @email"
  pgcmd describe -schema migrations - < query.sql
`

// A describe is a run of pgcmd describe.
type describe struct {
	database  databaseFlags
	name      string
	one, json bool
	types     list
}

func (*describe) run(ctx context.Context, a *app, args []string) (int, error) {
	d := &describe{}
	flags := newFlags("describe")
	d.database.register(flags)
	flags.StringVar(&d.name, "name", "", "")
	flags.BoolVar(&d.one, "one", false, "")
	flags.Var(&d.types, "type", "")
	flags.BoolVar(&d.json, "json", false, "")
	rest, err := parse(flags, args)
	if err != nil {
		return 0, err
	}
	if len(rest) != 1 {
		return 0, misuse{fmt.Errorf("give one statement, in quotes")}
	}
	sql := rest[0]
	if sql == "-" {
		if sql, err = a.readStdin(ctx); err != nil {
			return 0, err
		}
	}
	sql = strings.TrimPrefix(sql, "\ufeff")
	if toks, err := sqltext.Lex(sql); err == nil && !slices.ContainsFunc(toks, func(t sqltext.Token) bool { return t.Char != ';' }) {
		return 0, misuse{fmt.Errorf("give one statement: this is none")}
	}
	if d.name != "" && !queryfile.IsIdentifier(d.name) {
		return 0, misuse{fmt.Errorf("-name %s: not a name of Go: use letters, digits and _, and begin with a letter", d.name)}
	}
	if severalStatements(sql) {
		return 0, misuse{fmt.Errorf("give one statement: another one begins after the semicolon")}
	}
	options, err := (&scaffolding{types: d.types, packageName: "main"}).options()
	if err != nil {
		return 0, err
	}
	db, err := d.database.open(ctx, a)
	if err != nil {
		return 0, err
	}
	defer db.close()
	result, problem, err := d.ask(ctx, db, sql, options)
	if err != nil {
		return 0, db.explain(err)
	}
	if problem != "" {
		if d.json {
			return exitFindings, a.writeJSON(map[string]string{"error": problem})
		}
		fmt.Fprintln(a.stderr, problem)
		return exitFindings, nil
	}
	answer := described(result)
	if d.json {
		return exitOK, a.writeJSON(answer)
	}
	a.printAnswer(answer)
	return exitOK, nil
}

// readStdin reads all of the standard input, until ctx ends.
func (a *app) readStdin(ctx context.Context) (string, error) {
	var text []byte
	read := make(chan error, 1)
	go func() {
		var err error
		text, err = io.ReadAll(a.stdin)
		read <- err
	}()
	select {
	case err := <-read:
		return string(text), err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// severalStatements reports whether something follows a semicolon. SQL that does not parse is left to the server.
func severalStatements(sql string) bool {
	toks, err := sqltext.Lex(sql)
	ended := false
	for _, t := range toks {
		if ended && t.Char != ';' {
			return err == nil
		}
		ended = ended || t.Char == ';'
	}
	return false
}

// ask tries the kinds that the statement may be of: whether it returns rows the server says.
func (d *describe) ask(ctx context.Context, db *database, sql string, options scaffold.Options) (result *scaffold.Result, problem string, err error) {
	kinds := []string{"many", "exec"}
	if d.one {
		kinds = []string{"one"}
	}
	for _, kind := range kinds {
		var told string
		result, told, err = d.askAs(ctx, db, sql, options, kind, "statement", false)
		if err != nil {
			return nil, "", err
		}
		if told == "" {
			s := result.Answers[0].Statement
			if len(s.Tables) == 0 {
				return result, "", nil
			}
			about := s.Tables[0] // which the command is named after: the one that it changes, if it does
			for _, t := range s.Tables {
				if t.Through == "" && (t.Inserted || t.Updated || t.Deleted) {
					about = t
					break
				}
			}
			return d.askAs(ctx, db, sql, options, kind, about.Name, len(s.Writes) > 0)
		}
		if problem = told; !strings.Contains(told, "use :exec") {
			break
		}
	}
	return nil, problem, nil
}

func (d *describe) askAs(ctx context.Context, db *database, sql string, options scaffold.Options, kind, table string, writes bool) (result *scaffold.Result, problem string, err error) {
	name := d.name
	if name == "" {
		name = scaffold.QueryName(kind, table, writes)
	}
	queries, problems := queryfile.Parse(table, "-- name: "+name+" :"+kind+"\n"+sql)
	if len(queries) == 0 {
		return nil, problemText(problems), nil
	}
	for i := range queries {
		queries[i].SQLLine-- // the annotation is not the user's
	}
	if result, err = scaffold.Generate(ctx, db.conn, queries, options); err != nil || len(result.Refused) == 0 {
		return result, "", err
	}
	return nil, result.Refused[0].Message, nil
}

func problemText(problems []queryfile.Problem) string {
	if len(problems) == 0 {
		return "no statement"
	}
	return problems[0].Message
}

// An answer is what is said of a statement.
type answer struct {
	Parameters []describedParam    `json:"parameters"`
	Columns    []describedColumn   `json:"columns"`
	Tables     []describedTable    `json:"tables"`
	Functions  []describedFunction `json:"functions"`
	Reads      *bool               `json:"reads_only"` // null if it is not known
	Writes     []string            `json:"writes"`
	NotKnown   string              `json:"not_known,omitempty"` // why the rest is not known
	Types      []string            `json:"types,omitempty"`     // for pgcmd.Config.Types
	Go         string              `json:"go"`
}

type describedParam struct {
	Name string   `json:"name"`
	Type string   `json:"type"`
	Go   string   `json:"go"`
	Sets []string `json:"sets,omitempty"` // the columns that it is assigned to
}

type describedColumn struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Go     string `json:"go"`
	Null   string `json:"null"` // "never", "maybe" or "unknown"
	Reason string `json:"reason,omitempty"`
	Line   int    `json:"line,omitempty"`
	Origin string `json:"origin,omitempty"`
}

type describedTable struct {
	Name    string   `json:"name"`
	Does    []string `json:"does"`
	Through string   `json:"through,omitempty"`
}

type describedFunction struct {
	Name       string `json:"name"`
	Volatility string `json:"volatility"`
	Through    string `json:"through,omitempty"`
	own        bool
}

func described(result *scaffold.Result) answer {
	found := result.Answers[0]
	s := found.Statement
	a := answer{NotKnown: s.NotAnalyzed, Types: result.Load, Go: definition(result),
		Parameters: []describedParam{}, Columns: []describedColumn{}, Tables: []describedTable{}, Functions: []describedFunction{}, Writes: []string{}}
	for i, p := range s.Params {
		d := describedParam{Name: found.Inputs[i].Name, Type: p.Type, Go: found.Inputs[i].Go}
		for _, set := range p.Sets {
			d.Sets = append(d.Sets, columnName(set))
		}
		a.Parameters = append(a.Parameters, d)
	}
	for i, c := range s.Columns {
		d := describedColumn{Name: c.Name, Type: c.Type, Reason: c.Reason, Line: c.Line, Null: map[analysis.Null]string{analysis.Never: "never", analysis.Maybe: "maybe", analysis.Unknown: "unknown"}[c.Null]}
		if i < len(found.Rows) {
			d.Go = found.Rows[i].Go
		}
		if c.Origin != nil {
			d.Origin = columnName(*c.Origin)
		}
		a.Columns = append(a.Columns, d)
	}
	for _, t := range s.Tables {
		a.Tables = append(a.Tables, describedTable{tableName(t.Schema, t.Name), doings(t), t.Through})
	}
	for _, f := range s.Functions {
		a.Functions = append(a.Functions, describedFunction{tableName(f.Schema, f.Name), volatility(f.Volatility), f.Through, f.Schema == "pg_catalog"})
	}
	if s.NotAnalyzed == "" {
		reads := len(s.Writes) == 0
		a.Reads = &reads
	}
	for _, w := range s.Writes {
		a.Writes = append(a.Writes, w.What)
	}
	return a
}

func volatility(short string) string {
	return map[string]string{"i": "immutable", "s": "stable", "v": "volatile"}[short]
}

func doings(t analysis.Table) (does []string) {
	for _, d := range []struct {
		done bool
		what string
	}{{t.Selected, "read"}, {t.Inserted, "inserted into"}, {t.Updated, "updated"}, {t.Deleted, "deleted from"}, {t.Locked, "locked"}} {
		if d.done {
			does = append(does, d.what)
		}
	}
	return does
}

func columnName(c analysis.ColumnRef) string { return tableName(c.Schema, c.Table) + "." + c.Column }

func tableName(schema, name string) string {
	if schema == "public" || schema == "pg_catalog" || schema == "" {
		return name
	}
	return schema + "." + name
}

// definition is the source without its header.
func definition(result *scaffold.Result) string {
	for _, text := range result.Files {
		source := string(text)
		if _, after, ok := strings.Cut(source, "\n)\n\n"); ok && strings.Contains(source, "\nimport (") {
			source = after
		}
		return strings.TrimSpace(source) + "\n"
	}
	return ""
}

func (a *app) printAnswer(d answer) {
	w := a.stdout
	section := func(title string, rows [][]cell) {
		if len(rows) > 0 {
			fmt.Fprintln(w, a.paint(bold, title))
			a.table(w, "  ", rows)
		}
	}
	var rows [][]cell
	for _, p := range d.Parameters {
		sets := ""
		if len(p.Sets) > 0 {
			sets = "sets " + strings.Join(p.Sets, ", ")
		}
		rows = append(rows, []cell{{p.Name, ""}, {p.Type, dim}, {p.Go, blue}, {sets, ""}})
	}
	section("Parameters", rows)
	rows = nil
	for _, c := range d.Columns {
		null, color := "not known", dim
		switch c.Null {
		case "never":
			null, color = "never NULL", green
		case "maybe":
			null, color = "may be NULL", amber
			if c.Reason != "" {
				null += ": " + c.Reason
			}
			if c.Line > 1 {
				null += fmt.Sprintf(", line %d", c.Line)
			}
		}
		rows = append(rows, []cell{{c.Name, ""}, {c.Type, dim}, {c.Go, blue}, {null, color}})
	}
	section("Columns", rows)
	rows = nil
	for _, t := range d.Tables {
		rows = append(rows, []cell{{t.Name, ""}, {strings.Join(t.Does, ", "), ""}, {through(t.Through), dim}})
	}
	section("Tables", rows)
	rows = nil
	for _, f := range d.Functions {
		if f.own && f.Volatility != "volatile" { // PostgreSQL's own, as every = is one
			continue
		}
		rows = append(rows, []cell{{f.Name, ""}, {f.Volatility, dim}, {through(f.Through), dim}})
	}
	section("Functions", rows)
	switch {
	case d.NotKnown != "":
		section("Effect", [][]cell{{{"not known: " + d.NotKnown, dim}}})
	case *d.Reads:
		section("Effect", [][]cell{{{"reads only", green}}})
	default:
		rows = nil
		for _, change := range d.Writes {
			rows = append(rows, []cell{{change, amber}})
		}
		section("Effect", rows)
	}
	fmt.Fprintln(w, a.paint(bold, "Go"))
	for line := range strings.Lines(d.Go) {
		fmt.Fprint(w, strings.TrimRight("  "+line, " \n")+"\n")
	}
}

func through(what string) string {
	if what == "" {
		return ""
	}
	return "by " + what
}
