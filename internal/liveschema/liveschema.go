// Package liveschema reads what the catalog of a database says of the tables, the columns, the
// types and the constraints that commands use, for Verify. It does not know commands.
package liveschema

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/dbtypes"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A TableName is a table by its name; the search_path finds one without a schema.
type TableName struct{ Schema, Name string }

// An Origin is the column of a table that a column of a result comes from.
type Origin struct {
	Table  uint32
	Column uint16
}

// Wanted lists what to look up. An element may come more than once.
type Wanted struct {
	Tables      []TableName // with their columns, and the types of those
	TableOIDs   []uint32
	Origins     []Origin
	Types       []uint32
	Constraints []string
}

// A Schema is what the catalog says. A table, a column or a constraint that does not exist is
// nil or false.
type Schema struct {
	Role        string // the current one
	Tables      map[TableName]*Table
	TablesByOID map[uint32]*Table
	Origins     map[Origin]*Column
	Types       map[uint32]typemap.LiveType // of those wanted, the ones that pgx does not know
	Constraints map[string]bool
}

// A Table is a table, a view or the like.
type Table struct {
	Schema          string
	Name            string
	Kind            string          // relkind of pg_class: r, p, f, v, m
	SchemaUsage     bool            // the role has USAGE on its schema
	Privileges      map[string]bool // of the role, by select, insert, update, delete; on any column, except delete
	RowSecurity     bool            // its policies hold for the role
	InsteadOfInsert bool            // it is a view with an INSTEAD OF INSERT trigger
	Constraints     []string        // the names of those that a writer can violate
	Columns         []*Column       // of one of Wanted.Tables
	HasOnceKey      bool            // it is unique in (scope, key), as the ledger of Once has to be, among the rows that a policy shows
	OID             string
}

// String is the name as SQL would find it, most of the time.
func (t *Table) String() string {
	if t.Schema == "public" || t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// A Column is a column of a table. One of Schema.Origins has only Table, Name and the
// privilege select.
type Column struct {
	Table      string
	Name       string
	Type       uint32
	TypeName   string
	NotNull    bool            // by itself or by a check of it alone
	TakesNull  bool            // neither that nor its domain refuses NULL as a value
	HasDefault bool            // or is an identity column, or its domain has a default
	Generated  bool            // from other columns
	HasTrigger bool            // a BEFORE INSERT trigger of the table may set it
	Privileges map[string]bool // of the role, by select, insert, update
}

// Load looks up what is wanted, in at most seven queries.
func Load(ctx context.Context, conn *pgx.Conn, wanted Wanted) (*Schema, error) {
	s := &Schema{}
	role, err := pgrows.Query(ctx, conn, `select current_user`)
	if err != nil {
		return nil, err
	}
	s.Role = role[0][0]
	for _, load := range []func(context.Context, *pgx.Conn, *Wanted) error{
		s.loadTables, s.loadColumns, s.loadOrigins, s.loadTypes, s.loadConstraints,
	} {
		if err := load(ctx, conn, &wanted); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// loadTables finds tables by their names without to_regclass, which fails if the role has no
// USAGE on the schema.
func (s *Schema) loadTables(ctx context.Context, conn *pgx.Conn, wanted *Wanted) error {
	s.Tables, s.TablesByOID = map[TableName]*Table{}, map[uint32]*Table{}
	var keys []TableName
	var schemas, names, numbers []string
	for _, t := range wanted.Tables {
		if _, seen := s.Tables[t]; !seen {
			s.Tables[t] = nil
			keys, schemas, names, numbers = append(keys, t), append(schemas, t.Schema), append(names, t.Name), append(numbers, "0")
		}
	}
	for _, oid := range wanted.TableOIDs {
		if _, seen := s.TablesByOID[oid]; !seen {
			s.TablesByOID[oid] = nil
			keys, schemas, names, numbers = append(keys, TableName{}), append(schemas, ""), append(names, ""), append(numbers, fmt.Sprint(oid))
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
			exists (select from pg_catalog.pg_index x where x.indrelid = c.oid and x.indisunique and x.indpred is null
				and (x.indnkeyatts = 2 or x.indnkeyatts = 3 and c.relrowsecurity)
				and 2 = (select pg_catalog.count(*) from pg_catalog.pg_attribute a
					where a.attrelid = c.oid and a.attname in ('scope', 'key') and a.attnum = any (x.indkey[0:x.indnkeyatts - 1]))),
			pg_catalog.row_security_active(c.oid)
		from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::oid[])) with ordinality k(schema, name, number, i)
		cross join lateral (
			select * from pg_catalog.pg_class where k.number <> 0 and oid = k.number
			union all
			select * from pg_catalog.pg_class where k.number = 0 and relname = k.name and relkind in ('r', 'p', 'f', 'v', 'm')
		) c
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where k.number <> 0 or case k.schema when '' then pg_catalog.pg_table_is_visible(c.oid) else n.nspname = k.schema end`, schemas, names, numbers)
	if err != nil {
		return err
	}
	byOID := map[string][]*Table{} // more than one if a table is wanted by two names, or by its name and its OID
	var oids []string
	for _, row := range found {
		t := &Table{OID: row[1], Schema: row[2], Name: row[3], Kind: row[4], SchemaUsage: row[5] == "t",
			Privileges:      map[string]bool{"select": row[6] == "t", "insert": row[7] == "t", "update": row[8] == "t", "delete": row[9] == "t"},
			InsteadOfInsert: row[10] == "t", HasOnceKey: row[11] == "t", RowSecurity: row[12] == "t"}
		if i, _ := strconv.Atoi(row[0]); numbers[i-1] == "0" {
			s.Tables[keys[i-1]] = t
		} else {
			s.TablesByOID[pgrows.ParseOID(t.OID)] = t
		}
		byOID[t.OID] = append(byOID[t.OID], t)
		oids = append(oids, t.OID)
	}
	// A caller cannot violate a primary key that the database generates.
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
		for _, t := range byOID[row[0]] {
			t.Constraints = append(t.Constraints, row[1])
		}
	}
	return err
}

// loadColumns loads the columns of wanted.Tables.
func (s *Schema) loadColumns(ctx context.Context, conn *pgx.Conn, wanted *Wanted) error {
	byOID := map[string][]*Table{}
	var oids []string
	for _, name := range wanted.Tables {
		if t := s.Tables[name]; t != nil && t.Columns == nil {
			t.Columns = []*Column{}
			byOID[t.OID] = append(byOID[t.OID], t)
			oids = append(oids, t.OID)
		}
	}
	if len(oids) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select a.attrelid, a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, null),
			a.attnotnull or exists (select from pg_catalog.pg_constraint k where k.conrelid = a.attrelid and k.contype = 'c' and k.conkey = array[a.attnum]
				and pg_catalog.pg_get_expr(k.conbin, k.conrelid) = '(' || pg_catalog.quote_ident(a.attname) || ' IS NOT NULL)'),
			a.atthasdef or a.attidentity <> '' or t.typdefault is not null, a.attgenerated <> '',
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select'),
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'insert'),
			pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'update'),
			exists (select from pg_catalog.pg_trigger t where t.tgrelid = a.attrelid and t.tgtype & 71 = 7 and t.tgenabled <> 'D'), t.typnotnull
		from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
		where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped
		order by a.attrelid, a.attnum`, oids)
	for _, row := range found {
		c := &Column{Name: row[1], Type: pgrows.ParseOID(row[2]), TypeName: row[3], NotNull: row[4] == "t", HasDefault: row[5] == "t", Generated: row[6] == "t",
			Privileges: map[string]bool{"select": row[7] == "t", "insert": row[8] == "t", "update": row[9] == "t"}, HasTrigger: row[10] == "t"}
		c.TakesNull = !c.NotNull && row[11] != "t"
		for _, t := range byOID[row[0]] {
			t.Columns = append(t.Columns, c)
		}
	}
	return err
}

// loadOrigins looks up the columns that columns of results come from.
func (s *Schema) loadOrigins(ctx context.Context, conn *pgx.Conn, wanted *Wanted) error {
	s.Origins = map[Origin]*Column{}
	var tables, numbers []string
	for _, at := range wanted.Origins {
		if _, seen := s.Origins[at]; !seen && at.Table != 0 {
			s.Origins[at] = nil
			tables, numbers = append(tables, fmt.Sprint(at.Table)), append(numbers, fmt.Sprint(int16(at.Column)))
		}
	}
	if len(tables) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select k.rel, k.num, n.nspname, c.relname, a.attname,
			pg_catalog.has_column_privilege(c.oid, a.attnum, 'select')
		from rows from (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) k(rel, num)
		join pg_catalog.pg_class c on c.oid = k.rel
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join pg_catalog.pg_attribute a on a.attrelid = k.rel and a.attnum = k.num`, tables, numbers)
	for _, row := range found {
		number, _ := strconv.ParseInt(row[1], 10, 16)
		s.Origins[Origin{pgrows.ParseOID(row[0]), uint16(number)}] = &Column{
			Table: (&Table{Schema: row[2], Name: row[3]}).String(), Name: row[4],
			Privileges: map[string]bool{"select": row[5] == "t"},
		}
	}
	return err
}

// loadTypes looks up the types that pgx does not know, those of the columns of wanted.Tables too.
func (s *Schema) loadTypes(ctx context.Context, conn *pgx.Conn, wanted *Wanted) error {
	s.Types = map[uint32]typemap.LiveType{}
	var oids []string
	add := func(oid uint32) {
		if dbtypes.KnownToPgx(oid) {
			return
		}
		if _, seen := s.Types[oid]; !seen {
			s.Types[oid] = typemap.LiveType{Base: oid}
			oids = append(oids, fmt.Sprint(oid))
		}
	}
	for _, oid := range wanted.Types {
		add(oid)
	}
	for _, t := range s.Tables {
		if t != nil {
			for _, c := range t.Columns {
				add(c.Type)
			}
		}
	}
	if len(oids) == 0 {
		return nil
	}
	found, err := typemap.Query(ctx, conn, oids)
	for oid, t := range found {
		s.Types[oid] = t
	}
	return err
}

// loadConstraints looks up which names of constraints exist. A trigger can raise an error with
// the name of any constraint, so that a name in a function's text counts too.
func (s *Schema) loadConstraints(ctx context.Context, conn *pgx.Conn, wanted *Wanted) error {
	s.Constraints = map[string]bool{}
	if len(wanted.Constraints) == 0 {
		return nil
	}
	found, err := pgrows.Query(ctx, conn, `
		select distinct name from pg_catalog.unnest($1::text[]) name
		where exists (select from pg_catalog.pg_constraint where conname = name)
			or exists (select from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid where i.relname = name and x.indisunique)
			or exists (select from pg_catalog.pg_proc where pronamespace <> 'pg_catalog'::regnamespace and pg_catalog.strpos(prosrc, name) > 0)`, wanted.Constraints)
	for _, row := range found {
		s.Constraints[row[0]] = true
	}
	return err
}
