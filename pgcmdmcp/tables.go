package pgcmdmcp

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/pgcmd/pgcmd"
)

// A table is what a client is told of a table or a view that the pool's role may use.
type table struct {
	OID         int64        `json:"-"`
	Schema      string       `json:"schema"`
	Name        string       `json:"name"`
	Kind        string       `json:"kind"`
	Comment     *string      `json:"comment,omitempty"`
	Columns     []column     `json:"columns" db:"-"`
	Constraints []constraint `json:"constraints" db:"-"`
}

type column struct {
	OID      int64    `json:"-"`
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Nullable bool     `json:"nullable"`
	Default  bool     `json:"default"`          // there is one
	Values   []string `json:"values,omitempty"` // of an enum
	Comment  *string  `json:"comment,omitempty"`
}

type constraint struct {
	OID        int64   `json:"-"`
	Name       string  `json:"name"`
	Definition string  `json:"definition"`
	Comment    *string `json:"comment,omitempty"`
}

type asked struct {
	Schemas []string
	Table   *string // nil for all
}

// Names are written out, so that no search_path leads elsewhere.
var (
	selectTables = pgcmd.Query[asked, table]("pgcmdmcp.tables", `
		select c.oid::pg_catalog.int8 as oid, n.nspname::text as schema, c.relname::text as name,
			case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'table' end as kind,
			pg_catalog.obj_description(c.oid, 'pg_class') as comment
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(@schemas::text[]) and (@table::text is null or c.relname = @table::text)
			and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
			and pg_catalog.has_schema_privilege(n.oid, 'usage')
			and (pg_catalog.has_table_privilege(c.oid, 'select, insert, update, delete, truncate, references, trigger')
				or pg_catalog.has_any_column_privilege(c.oid, 'select, insert, update, references'))
		order by n.nspname, c.relname`)

	selectColumns = pgcmd.Query[[]int64, column]("pgcmdmcp.columns", `
		select a.attrelid::pg_catalog.int8 as oid, a.attname::text as name, pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
			not a.attnotnull as nullable, a.atthasdef or a.attidentity <> '' as "default",
			(select pg_catalog.array_agg(e.enumlabel::text order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = a.atttypid) as values,
			pg_catalog.col_description(a.attrelid, a.attnum) as comment
		from pg_catalog.pg_attribute a
		where a.attrelid = any($1::pg_catalog.int8[]::pg_catalog.oid[]) and a.attnum > 0 and not a.attisdropped
			and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select, insert, update, references')
		order by a.attrelid, a.attnum`)

	// A constraint names columns, and a foreign key those of another table: it is told
	// only if the role may use them all.
	selectConstraints = pgcmd.Query[[]int64, constraint]("pgcmdmcp.constraints", `
		select k.conrelid::pg_catalog.int8 as oid, k.conname::text as name, pg_catalog.pg_get_constraintdef(k.oid) as definition,
			pg_catalog.obj_description(k.oid, 'pg_constraint') as comment
		from pg_catalog.pg_constraint k
		where k.conrelid = any($1::pg_catalog.int8[]::pg_catalog.oid[]) and k.contype in ('p', 'u', 'f', 'c', 'x')
			and not exists (select from pg_catalog.unnest(k.conkey) own
				where own > 0 and not pg_catalog.has_column_privilege(k.conrelid, own, 'select, insert, update, references'))
			and not exists (select from pg_catalog.unnest(k.confkey) other, pg_catalog.pg_class t
				where t.oid = k.confrelid and not (pg_catalog.has_schema_privilege(t.relnamespace, 'usage')
					and pg_catalog.has_column_privilege(k.confrelid, other, 'select, insert, update, references')))
		order by k.conrelid, k.conname`)
)

// describeTables sees one state of the catalog.
var describeTables = pgcmd.Transaction("pgcmdmcp.schema", func(ctx context.Context, tx *pgcmd.Tx, in asked) ([]table, error) {
	tables, err := selectTables.Run(ctx, tx, in)
	if err != nil {
		return nil, err
	}
	oids, at := make([]int64, len(tables)), make(map[int64]*table, len(tables))
	for i := range tables {
		t := &tables[i]
		t.Columns, t.Constraints = []column{}, []constraint{}
		oids[i], at[t.OID] = t.OID, t
	}
	columns, err := selectColumns.Run(ctx, tx, oids)
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		at[c.OID].Columns = append(at[c.OID].Columns, c)
	}
	constraints, err := selectConstraints.Run(ctx, tx, oids)
	if err != nil {
		return nil, err
	}
	for _, c := range constraints {
		at[c.OID].Constraints = append(at[c.OID].Constraints, c)
	}
	return tables, nil
}).With(pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 3}, Tx: pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}})
