package pgcmd

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/dbtypes"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A liveSchema is what the catalog says of everything that the commands name.
type liveSchema struct {
	role        string
	relations   map[sqltext.Table]*relation // by the name in the SQL, without its verb
	origins     map[origin]*column          // of the columns of results
	types       map[uint32]typemap.LiveType // those that pgx does not know
	constraints map[string]bool             // the names that exist
	reachable   functionIndex               // of commands that count as reads
}

// A relation is a table, a view or the like.
type relation struct {
	oid         string
	schema      string
	name        string
	kind        string // of pg_class: r, p, f, v, m
	usage       bool   // the role may look into its schema
	may         map[string]bool
	instead     bool      // a view with a trigger that takes its inserts
	constraints []string  // those that a writer can violate
	columns     []*column // of the tables of copies, and of the ledger
	claims      bool      // unique in (scope, key), as the ledger has to be
}

// String is the name as SQL would find it, most of the time.
func (r *relation) String() string {
	if r.schema == "public" || r.schema == "" {
		return r.name
	}
	return r.schema + "." + r.name
}

// An origin is where a column of a result comes from.
type origin struct {
	table  uint32
	column uint16
}

type column struct {
	table     string
	name      string
	oid       uint32
	typ       string
	isTable   bool // a view's columns do not tell whether they may be NULL
	notNull   bool
	fills     bool // it has a default, an identity or the like
	generated bool
	may       map[string]bool
}

// ledger is the table of Once.
var ledger = sqltext.Table{Schema: "pgcmd", Name: "once"}

// askCatalog asks for whatever the subjects name, in a handful of queries.
func askCatalog(ctx context.Context, conn *pgx.Conn, v *checker) (*liveSchema, error) {
	live := &liveSchema{}
	role, err := pgrows.Query(ctx, conn, `select current_user`)
	if err != nil {
		return nil, err
	}
	live.role = role[0][0]
	for _, ask := range []func(context.Context, *pgx.Conn, *checker) error{
		live.askRelations, live.askColumns, live.askOrigins, live.askTypes, live.askConstraints, live.askRoutines,
	} {
		if err := ask(ctx, conn, v); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// askRelations finds the relations by their names, without to_regclass, which fails
// where the role may not look.
func (live *liveSchema) askRelations(ctx context.Context, conn *pgx.Conn, v *checker) error {
	live.relations = map[sqltext.Table]*relation{}
	var keys []sqltext.Table
	var schemas, names []string
	for _, s := range v.subjects {
		for _, t := range s.tables() {
			t.Verb, t.Outer = "", false
			if _, seen := live.relations[t]; seen {
				continue
			}
			live.relations[t] = nil
			keys, schemas, names = append(keys, t), append(schemas, t.Schema), append(names, t.Name)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select k.i, c.oid, n.nspname, c.relname, c.relkind, pg_catalog.has_schema_privilege(n.oid, 'usage'),
			pg_catalog.has_any_column_privilege(c.oid, 'select'), pg_catalog.has_any_column_privilege(c.oid, 'insert'),
			pg_catalog.has_any_column_privilege(c.oid, 'update'), pg_catalog.has_table_privilege(c.oid, 'delete'),
			exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgtype & 68 = 68),
			exists (select from pg_catalog.pg_index x where x.indrelid = c.oid and x.indisunique and x.indpred is null and x.indnkeyatts = 2
				and 2 = (select pg_catalog.count(*) from pg_catalog.pg_attribute a
					where a.attrelid = c.oid and a.attname in ('scope', 'key') and a.attnum in (x.indkey[0], x.indkey[1])))
		from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) with ordinality k(schema, name, i)
		join pg_catalog.pg_class c on c.relname = k.name and c.relkind in ('r', 'p', 'f', 'v', 'm')
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where case k.schema when '' then pg_catalog.pg_table_is_visible(c.oid) else n.nspname = k.schema end`, schemas, names)
	if err != nil {
		return err
	}
	byOID := map[string][]*relation{} // one may have two names
	var oids []string
	for _, row := range found {
		r := &relation{oid: row[1], schema: row[2], name: row[3], kind: row[4], usage: row[5] == "t",
			may:     map[string]bool{"select": row[6] == "t", "insert": row[7] == "t", "update": row[8] == "t", "delete": row[9] == "t"},
			instead: row[10] == "t", claims: row[11] == "t"}
		i, _ := strconv.Atoi(row[0])
		live.relations[keys[i-1]] = r
		byOID[r.oid] = append(byOID[r.oid], r)
		oids = append(oids, r.oid)
	}
	// A key that the database makes is none that a caller can violate.
	found, err = pgrows.Query(ctx, conn, `
		select conrelid, conname as name from pg_catalog.pg_constraint c
		where conrelid = any ($1::oid[]) and contype in ('c', 'f', 'u', 'x', 'p') and not (contype = 'p' and exists (
			select from pg_catalog.pg_attribute a where a.attrelid = c.conrelid and a.attnum = any (c.conkey) and (a.atthasdef or a.attidentity <> '')))
		union all
		select x.indrelid, i.relname from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
		where x.indrelid = any ($1::oid[]) and x.indisunique
			and not exists (select from pg_catalog.pg_constraint c where c.conindid = x.indexrelid and c.conrelid = x.indrelid)
		order by name`, oids)
	for _, row := range found {
		for _, r := range byOID[row[0]] {
			r.constraints = append(r.constraints, row[1])
		}
	}
	return err
}

// askColumns asks for the columns of the tables that are written by column.
func (live *liveSchema) askColumns(ctx context.Context, conn *pgx.Conn, v *checker) error {
	byOID := map[string][]*relation{}
	var oids []string
	for _, s := range v.subjects {
		for _, t := range s.columnTables() {
			if r := live.relations[t]; r != nil && r.columns == nil {
				r.columns = []*column{}
				byOID[r.oid] = append(byOID[r.oid], r)
				oids = append(oids, r.oid)
			}
		}
	}
	if len(oids) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select a.attrelid, a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, null), a.attnotnull or t.typnotnull,
			a.atthasdef or a.attidentity <> '' or t.typdefault is not null, a.attgenerated <> '',
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select'),
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'insert'),
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'update')
		from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
		where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
		order by a.attrelid, a.attnum`, oids)
	for _, row := range found {
		c := &column{name: row[1], oid: typemap.ParseOID(row[2]), typ: row[3], notNull: row[4] == "t", fills: row[5] == "t", generated: row[6] == "t",
			may: map[string]bool{"select": row[7] == "t", "insert": row[8] == "t", "update": row[9] == "t"}}
		for _, r := range byOID[row[0]] {
			r.columns = append(r.columns, c)
		}
	}
	return err
}

// askOrigins asks where the columns of results come from.
func (live *liveSchema) askOrigins(ctx context.Context, conn *pgx.Conn, v *checker) error {
	live.origins = map[origin]*column{}
	var tables, numbers []string
	for _, s := range v.subjects {
		if s.described.sd == nil {
			continue
		}
		for _, f := range s.described.sd.Fields {
			at := origin{f.TableOID, f.TableAttributeNumber}
			if _, seen := live.origins[at]; !seen && at.table != 0 {
				live.origins[at] = nil
				tables, numbers = append(tables, fmt.Sprint(at.table)), append(numbers, fmt.Sprint(int16(at.column)))
			}
		}
	}
	if len(tables) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select k.rel, k.num, n.nspname, c.relname, a.attname, c.relkind in ('r', 'p', 'f'), a.attnotnull or t.typnotnull,
			pg_catalog.has_column_privilege(c.oid, a.attnum, 'select')
		from rows from (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) k(rel, num)
		join pg_catalog.pg_class c on c.oid = k.rel
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join pg_catalog.pg_attribute a on a.attrelid = k.rel and a.attnum = k.num
		join pg_catalog.pg_type t on t.oid = a.atttypid`, tables, numbers)
	for _, row := range found {
		number, _ := strconv.ParseInt(row[1], 10, 16)
		live.origins[origin{typemap.ParseOID(row[0]), uint16(number)}] = &column{
			table: (&relation{schema: row[2], name: row[3]}).String(), name: row[4],
			isTable: row[5] == "t", notNull: row[6] == "t", may: map[string]bool{"select": row[7] == "t"},
		}
	}
	return err
}

// askTypes asks for the types that pgx does not know without being told.
func (live *liveSchema) askTypes(ctx context.Context, conn *pgx.Conn, v *checker) error {
	live.types = map[uint32]typemap.LiveType{}
	v.types.Live = live.types
	var oids []string
	add := func(oid uint32) {
		if dbtypes.KnownToPgx(oid) {
			return
		}
		if _, seen := live.types[oid]; !seen {
			live.types[oid] = typemap.LiveType{Base: oid}
			oids = append(oids, fmt.Sprint(oid))
		}
	}
	for _, s := range v.subjects {
		if sd := s.described.sd; sd != nil {
			for _, oid := range sd.ParamOIDs {
				add(oid)
			}
			for _, f := range sd.Fields {
				add(f.DataTypeOID)
			}
		}
		if r := live.relations[s.target()]; r != nil {
			for _, c := range r.columns {
				add(c.oid)
			}
		}
	}
	if len(oids) == 0 {
		return nil
	}
	found, err := typemap.Query(ctx, conn, oids)
	for oid, t := range found {
		live.types[oid] = t
	}
	return err
}

// askConstraints asks which of the names in OnConstraint there are. A trigger can
// raise an error with any, so that a name in a function's text counts too.
func (live *liveSchema) askConstraints(ctx context.Context, conn *pgx.Conn, v *checker) error {
	live.constraints = map[string]bool{}
	var names []string
	for _, s := range v.subjects {
		for name := range s.options.OnConstraint {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select distinct name from pg_catalog.unnest($1::text[]) name
		where exists (select from pg_catalog.pg_constraint where conname = name)
			or exists (select from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid where i.relname = name and x.indisunique)
			or exists (select from pg_catalog.pg_proc where pronamespace <> 'pg_catalog'::regnamespace and pg_catalog.strpos(prosrc, name) > 0)`, names)
	for _, row := range found {
		live.constraints[row[0]] = true
	}
	return err
}
