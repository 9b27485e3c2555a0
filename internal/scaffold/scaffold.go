// Package scaffold writes definitions of commands, as Go source, for statements of SQL files, by what PostgreSQL says of
// them.
package scaffold

import (
	"context"
	"fmt"
	"go/parser"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/queryfile"
)

// Options are what a person chooses about the source.
type Options struct {
	Package  string
	Exported bool // the variables of the commands are exported
	OneFile  bool // everything goes into one file
	// Types are Go types for types of the database ("uuid") and columns ("users.settings"), with their import path
	// before the last dot: "github.com/google/uuid.UUID".
	Types map[string]string
}

// A Result is the source, and what is not in it.
type Result struct {
	// Files are the sources by their names: users.sql.go for users.sql, and types.go for what they share.
	Files    map[string][]byte
	Commands int
	Refused  []queryfile.Problem
	// Answers are what the server said of each statement, in the order of the queries, but for those of :copyfrom.
	Answers []Answer
	// Load are the types of the database that pgx has to know, as in pgcmd.Config.Types.
	Load []string
}

// An Answer is what the server said of a statement, and which Go types take it.
type Answer struct {
	Query     string
	SQL       string // as the definition has it
	Statement *analysis.Statement
	Inputs    []Value // as Statement.Params
	Rows      []Value // as Statement.Columns
}

// A Value is a parameter or a column.
type Value struct {
	Name string // of a parameter: @name, or $1
	Go   string // its type
}

// Generate writes definitions for queries. An error is the connection's, or that of options; what is wrong with one query
// is among those refused.
func Generate(ctx context.Context, conn *pgx.Conn, found []queryfile.Query, options Options) (*Result, error) {
	g := &generator{
		options: options, types: map[uint32]*dbType{}, tables: map[uint32]*table{}, identifiers: names{}, commands: names{},
		goTypes: map[uint32]goType{}, tableTypes: map[uint32]string{}, rowTypes: map[string]string{}, files: map[string]*source{}, variables: map[*query]string{},
	}
	if err := g.readOverrides(); err != nil {
		return nil, err
	}
	if err := g.checkOverrides(ctx, conn); err != nil {
		return nil, err
	}
	var queries []*query
	for _, q := range found {
		queries = append(queries, &query{Query: q})
	}
	prepare(queries)
	if err := ask(ctx, conn, queries, g.tables); err != nil {
		return nil, err
	}
	if err := g.load(ctx, conn, queries); err != nil {
		return nil, err
	}
	result := &Result{}
	g.afterQuery = filesAfterQueries(queries)
	g.reserve(queries)
	for _, q := range queries {
		if q.refused == "" {
			g.define(q)
		}
		if q.refused != "" {
			result.Refused = append(result.Refused, queryfile.Problem{File: q.File, Line: q.Line, Query: q.Name, Message: q.refused})
			continue
		}
		result.Commands++
		if q.statement != nil {
			result.Answers = append(result.Answers, g.answer(q))
		}
	}
	result.Load = g.loads()
	if result.Commands == 0 {
		return result, nil
	}
	files, err := g.write()
	result.Files = files
	return result, err
}

// A generator is the state of one Generate.
type generator struct {
	options     Options
	overrides   map[string]goType
	types       map[uint32]*dbType
	tables      map[uint32]*table
	copies      map[*query]*copyTarget
	identifiers names // of the package
	commands    names
	variables   map[*query]string // that are exported
	goTypes     map[uint32]goType
	tableTypes  map[uint32]string // the structs of tables that were written
	rowTypes    map[string]string // the structs of rows that were written, by their fields
	files       map[string]*source
	afterQuery  map[string]bool // the SQL files that are named after their queries
}

func (g *generator) readOverrides() error {
	g.overrides = map[string]goType{}
	for name, target := range g.options.Types {
		typ := goType{}
		prefix := ""
		for strings.HasPrefix(target, "*") || strings.HasPrefix(target, "[]") {
			if strings.HasPrefix(target, "*") {
				prefix, target = prefix+"*", target[1:]
			} else {
				prefix, target = prefix+"[]", target[2:]
			}
			typ.ownNull = true
		}
		path, base := "", target
		if dot := strings.LastIndexByte(target, '.'); dot > strings.LastIndexByte(target, '/') {
			path, base = target[:dot], target[dot+1:]
		}
		if base == "" || strings.Contains(base, "/") {
			return fmt.Errorf("the type %s=%s is not one of Go: write uuid=github.com/google/uuid.UUID", name, g.options.Types[name])
		}
		typ.source = prefix + base
		if path != "" {
			typ.imports = []string{path}
			name := filepath.Base(path)
			if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
				name = filepath.Base(filepath.Dir(path))
			}
			typ.source = prefix + name + "." + base
		}
		if _, err := parser.ParseExpr(typ.source); err != nil {
			return fmt.Errorf("the type %s=%s is not one of Go: write uuid=github.com/google/uuid.UUID", name, g.options.Types[name])
		}
		g.overrides[name] = typ
	}
	return nil
}

// checkOverrides refuses a type for what the database does not have, which may be misspelt.
func (g *generator) checkOverrides(ctx context.Context, conn *pgx.Conn) error {
	names := slices.Sorted(maps.Keys(g.overrides))
	if len(names) == 0 {
		return nil
	}
	unknown, err := pgrows.Query(ctx, conn, `
		select name from pg_catalog.unnest($1::text[]) with ordinality wanted(name, i)
		where not exists (select from pg_catalog.pg_type where name in (typname, pg_catalog.format_type(oid, null)))
			and not exists (select from pg_catalog.pg_attribute a
				join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'f', 'v', 'm')
				join pg_catalog.pg_namespace n on n.oid = c.relnamespace
				where a.attnum > 0 and not a.attisdropped
					and name in (c.relname || '.' || a.attname, n.nspname || '.' || c.relname || '.' || a.attname))
		order by i limit 1`, names)
	if err != nil || len(unknown) == 0 {
		return err
	}
	return fmt.Errorf("-type %s: the database has no type and no column of this name: write a type as integer, int4 or app.mood, and a column as users.id", unknown[0][0])
}

// load reads the types and the tables that queries use.
func (g *generator) load(ctx context.Context, conn *pgx.Conn, queries []*query) error {
	var oids, tables []uint32
	g.copies = map[*query]*copyTarget{}
	for _, q := range queries {
		if q.refused == "" && q.Kind == "copyfrom" {
			if err := g.copyTarget(ctx, conn, q); err != nil {
				return err
			}
			continue
		}
		if !q.asked() {
			continue
		}
		for _, c := range q.columns {
			oids = append(oids, c.DataTypeOID)
		}
		for _, p := range q.statement.Params {
			oids = append(oids, p.OID)
			for _, set := range p.Sets {
				tables = append(tables, set.TableOID)
			}
		}
	}
	if err := loadTables(ctx, conn, g.tables, tables); err != nil {
		return err
	}
	for _, t := range g.tables {
		for _, c := range t.columns {
			oids = append(oids, c.oid)
		}
	}
	slices.Sort(oids)
	return loadTypes(ctx, conn, g.types, slices.Compact(oids))
}

func (g *generator) answer(q *query) Answer {
	a := Answer{Query: q.Name, SQL: q.SQL, Statement: q.statement}
	for i, f := range g.inputs(q) {
		a.Inputs = append(a.Inputs, Value{placeholder(f.column, i), f.typ.source})
	}
	for _, f := range g.rows(q) {
		a.Rows = append(a.Rows, Value{f.column, f.typ.source})
	}
	return a
}

// reserve takes the names of the package that have to be as they are, whatever comes first: those of the commands.
func (g *generator) reserve(queries []*query) {
	for _, name := range []string{"pgcmd", "pgx", "pgtype", "time", "json", "netip", "net", "iter", "Types"} {
		g.identifiers[name] = true
	}
	for _, typ := range g.overrides {
		name, _, _ := strings.Cut(strings.TrimLeft(typ.source, "*[]"), ".")
		g.identifiers[name] = true
	}
	for _, q := range queries {
		if q.refused == "" && g.options.Exported {
			g.variables[q] = g.identifiers.take(exported(q.Name), "Command")
		}
	}
}
