package scaffold

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

// A table is a relation of the database.
type table struct {
	oid          uint32
	schema, name string
	visible      bool
	kind         string // relkind
	comment      string
	columns      []column
}

type column struct {
	number     int16
	name       string
	oid        uint32
	dimensions int
	notNull    bool
	comment    string
	refuses    bool // NULL when it is written, also by its domain, which proves nothing of what is read
}

// stores reports whether the relation holds rows itself, so that NOT NULL is known of its columns.
func (t *table) stores() bool { return slices.Contains([]string{"r", "p", "f"}, t.kind) }

const tablesSQL = `
	select c.oid, n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid)::text, c.relkind,
		coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''),
		a.attnum, a.attname, a.atttypid, a.attndims, a.attnotnull::text, coalesce(pg_catalog.col_description(c.oid, a.attnum), ''),
		(a.attnotnull or t.typnotnull)::text
	from pg_catalog.pg_class c
	join pg_catalog.pg_namespace n on n.oid = c.relnamespace
	join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
	join pg_catalog.pg_type t on t.oid = a.atttypid
	where %s order by c.oid, a.attnum`

// loadTables reads relations by their oids.
func loadTables(ctx context.Context, conn *pgx.Conn, known map[uint32]*table, oids []uint32) error {
	var unknown []string
	for _, oid := range oids {
		if _, ok := known[oid]; !ok && oid != 0 {
			unknown = append(unknown, fmt.Sprint(oid))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	rows, err := pgrows.Query(ctx, conn, fmt.Sprintf(tablesSQL, "c.oid = any ($1::oid[])"), unknown)
	if err != nil {
		return err
	}
	addTables(known, rows)
	return nil
}

// tableNamed returns the relation that SQL names so, or nil.
func tableNamed(ctx context.Context, conn *pgx.Conn, known map[uint32]*table, name string) (*table, error) {
	rows, err := pgrows.Query(ctx, conn, fmt.Sprintf(tablesSQL, "c.oid = pg_catalog.to_regclass(($1::text[])[1])"), []string{name})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	addTables(known, rows)
	return known[pgrows.ParseOID(rows[0][0])], nil
}

func addTables(known map[uint32]*table, rows [][]string) {
	added := map[uint32]*table{}
	for _, r := range rows {
		oid := pgrows.ParseOID(r[0])
		t := added[oid]
		if t == nil {
			t = &table{oid: oid, schema: r[1], name: r[2], visible: r[3] == "true", kind: r[4], comment: r[5]}
			added[oid] = t
			if known[oid] == nil {
				known[oid] = t
			}
		}
		var number int16
		var dimensions int
		_, _ = fmt.Sscan(r[6], &number)
		_, _ = fmt.Sscan(r[9], &dimensions)
		t.columns = append(t.columns, column{number, r[7], pgrows.ParseOID(r[8]), dimensions, r[10] == "true", r[11], r[12] == "true"})
	}
}

func (t *table) column(number int16) *column {
	for i := range t.columns {
		if t.columns[i].number == number {
			return &t.columns[i]
		}
	}
	return nil
}
