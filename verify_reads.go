package pgcmd

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A routine is a function or a view of the database's own, by what its text says.
type routine struct {
	what   string // function note, view sold
	tables []sqltext.Table
	calls  []sqltext.Call
	writes bool // it may: the server refuses it to a function that says it is not volatile
}

// functionIndex are those that commands reach which count as reads, by the name in the SQL. Functions
// may share a name.
type functionIndex struct {
	functions map[sqltext.Call][]*routine
	views     map[sqltext.Call][]*routine
}

// maxReach is how many calls within each other are followed.
const maxReach = 8

// askRoutines asks for what the commands call that count as reads, what that calls, and so on.
func (live *liveSchema) askRoutines(ctx context.Context, conn *pgx.Conn, v *checker) error {
	live.reachable = functionIndex{functions: map[sqltext.Call][]*routine{}, views: map[sqltext.Call][]*routine{}}
	var next []*routine
	for _, s := range v.subjects {
		if s.statement != nil && s.statement.reads {
			next = append(next, routineOf("", s.statement.text.SQL, false))
		}
	}
	for range maxReach {
		var calls, views []sqltext.Call
		for _, r := range next {
			for _, call := range r.calls {
				if _, seen := live.reachable.functions[call]; !seen {
					live.reachable.functions[call] = nil
					calls = append(calls, call)
				}
			}
			for _, t := range r.tables {
				at := sqltext.Call{Schema: t.Schema, Name: t.Name}
				if _, seen := live.reachable.views[at]; t.Verb == "" && !seen {
					live.reachable.views[at] = nil
					views = append(views, at)
				}
			}
		}
		functions, err := routinesOf(ctx, conn, live.reachable.functions, functionsSQL, calls)
		if err != nil {
			return err
		}
		seen, err := routinesOf(ctx, conn, live.reachable.views, viewsSQL, views)
		if err != nil {
			return err
		}
		if next = append(functions, seen...); len(next) == 0 {
			return nil
		}
	}
	return nil
}

// Functions in other languages than these have no SQL to read. A body in the
// standard's form is kept parsed.
const functionsSQL = `
	select k.i, 'function ' || p.proname, case p.prosrc when '' then pg_catalog.pg_get_functiondef(p.oid) else p.prosrc end, p.provolatile = 'v'
	from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality k(schema, name, i)
	join pg_catalog.pg_proc p on p.proname = k.name and p.prokind in ('f', 'p')
	join pg_catalog.pg_language l on l.oid = p.prolang and l.lanname in ('sql', 'plpgsql')
	join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname not in ('pg_catalog', 'information_schema')
	where case k.schema when '' then pg_catalog.pg_function_is_visible(p.oid) else n.nspname = k.schema end`

const viewsSQL = `
	select k.i, 'view ' || c.relname, pg_catalog.pg_get_viewdef(c.oid), false
	from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality k(schema, name, i)
	join pg_catalog.pg_class c on c.relname = k.name and c.relkind = 'v'
	join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema')
	where case k.schema when '' then pg_catalog.pg_table_is_visible(c.oid) else n.nspname = k.schema end`

func routinesOf(ctx context.Context, conn *pgx.Conn, known map[sqltext.Call][]*routine, sql string, names []sqltext.Call) (found []*routine, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	schemas, plain := make([]string, len(names)), make([]string, len(names))
	for i, n := range names {
		schemas[i], plain[i] = n.Schema, n.Name
	}
	answer, err := pgrows.Query(ctx, conn, sql, schemas, plain)
	for _, row := range answer {
		i, _ := strconv.Atoi(row[0])
		r := routineOf(row[1], row[2], row[3] == "t")
		known[names[i-1]] = append(known[names[i-1]], r)
		found = append(found, r)
	}
	return found, err
}

func routineOf(what, text string, writes bool) *routine {
	r := &routine{what: what, tables: sqltext.Tables(text), writes: writes}
	for _, call := range sqltext.Calls(text) {
		if !slices.Contains(r.calls, call) {
			r.calls = append(r.calls, call)
		}
	}
	return r
}

// writers are the functions of PostgreSQL's own that a read-only transaction refuses.
var writers = []string{"nextval", "setval", "lo_create", "lo_creat", "lo_from_bytea", "lo_import", "lo_put", "lo_truncate", "lo_truncate64",
	"lo_unlink", "lowrite"}

// findWrite is what r writes, itself or by what it calls, in words, or "". Of functions
// that share a name each must, since it cannot be told which is meant.
func (rs *functionIndex) findWrite(r *routine, above []*routine) string {
	if len(above) > maxReach || slices.Contains(above, r) {
		return ""
	}
	above = append(above, r)
	for _, t := range r.tables {
		if t.Verb != "" && r.writes {
			return t.Verb + " " + t.Name
		}
	}
	reached := func(named []*routine) string {
		how := ""
		for _, other := range named {
			change := rs.findWrite(other, above)
			if change == "" {
				return ""
			}
			how = other.what + ", " + change
		}
		return how
	}
	for _, call := range r.calls {
		named := rs.functions[call]
		if how := reached(named); how != "" {
			return how
		}
		if len(named) == 0 && (call.Schema == "" || call.Schema == "pg_catalog") && slices.Contains(writers, call.Name) {
			return "function " + call.Name
		}
	}
	for _, t := range r.tables {
		if how := reached(rs.views[sqltext.Call{Schema: t.Schema, Name: t.Name}]); how != "" {
			return how
		}
	}
	return ""
}

// reads looks for what a command that counts as a read does besides.
func (v *checker) reads(s *descriptor) {
	if !s.statement.reads {
		return
	}
	sql := s.statement.text.SQL
	change := v.live.reachable.findWrite(routineOf("", sql, false), nil)
	switch {
	case change != "" && !s.options.ReadOnly:
		s.report("SQL", "writes", "counts as a read, and writes by way of %s: set Options.Writes, or a retry applies that twice", change)
	case change != "":
		s.report("ReadOnly", "read_only", "is set for SQL that writes, by way of %s: take it away, or a retry applies that twice", change)
	case sqltext.Locks(sql):
		s.report("ReadOnly", "read_only", "is set for SQL that locks rows, which a replica and a read-only transaction refuse: take it away, or the lock")
	}
}
