package scaffold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

// A goType is a type as Go source.
type goType struct {
	source  string
	imports []string
	ownNull bool     // it holds NULL by itself: a slice that is nil, a type of pgtype
	load    []string // types of the database that pgx has to know for it
	struct_ bool     // it is a struct, which cannot be an input or a row that is one value
}

// null returns the type that holds NULL as well.
func (t goType) null() goType {
	if !t.ownNull {
		t.source, t.ownNull = "*"+t.source, true
	}
	return t
}

func pgtypeOf(name string) goType {
	return goType{source: "pgtype." + name, imports: []string{"github.com/jackc/pgx/v5/pgtype"}, ownNull: true}
}

func plainType(source string, imports ...string) goType {
	return goType{source: source, imports: imports}
}

// ownTypes are the Go types for types of PostgreSQL's own, by their names in pg_type. All others are strings, which
// take the text of any type.
var ownTypes = map[string]goType{
	"bool": plainType("bool"),
	"int2": plainType("int16"), "int4": plainType("int32"), "int8": plainType("int64"),
	"float4": plainType("float32"), "float8": plainType("float64"), "numeric": pgtypeOf("Numeric"),
	"oid": plainType("uint32"), "xid": plainType("uint32"), "cid": plainType("uint32"), "xid8": plainType("uint64"),
	"bytea": {source: "[]byte", ownNull: true},
	"json":  {source: "json.RawMessage", imports: []string{"encoding/json"}, ownNull: true},
	"jsonb": {source: "json.RawMessage", imports: []string{"encoding/json"}, ownNull: true},
	"date":  pgtypeOf("Date"), "timestamp": plainType("time.Time", "time"), "timestamptz": plainType("time.Time", "time"),
	"time": pgtypeOf("Time"), "interval": pgtypeOf("Interval"),
	"inet": plainType("netip.Addr", "net/netip"), "cidr": plainType("netip.Prefix", "net/netip"),
	"macaddr":  {source: "net.HardwareAddr", imports: []string{"net"}, ownNull: true},
	"macaddr8": {source: "net.HardwareAddr", imports: []string{"net"}, ownNull: true},
	"bit":      pgtypeOf("Bits"), "varbit": pgtypeOf("Bits"), "tid": pgtypeOf("TID"), "tsvector": pgtypeOf("TSVector"),
	"point": pgtypeOf("Point"), "line": pgtypeOf("Line"), "lseg": pgtypeOf("Lseg"), "box": pgtypeOf("Box"), "path": pgtypeOf("Path"),
	"polygon": pgtypeOf("Polygon"), "circle": pgtypeOf("Circle"),
	"int4range": pgtypeOf("Range[pgtype.Int4]"), "int8range": pgtypeOf("Range[pgtype.Int8]"), "numrange": pgtypeOf("Range[pgtype.Numeric]"),
	"daterange": pgtypeOf("Range[pgtype.Date]"), "tsrange": pgtypeOf("Range[pgtype.Timestamp]"), "tstzrange": pgtypeOf("Range[pgtype.Timestamptz]"),
	"int4multirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Int4]]"), "int8multirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Int8]]"),
	"nummultirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Numeric]]"), "datemultirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Date]]"),
	"tsmultirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Timestamp]]"), "tstzmultirange": pgtypeOf("Multirange[pgtype.Range[pgtype.Timestamptz]]"),
}

// A dbType is a row of pg_type.
type dbType struct {
	oid          uint32
	schema, name string
	full         string // as format_type writes it
	own          bool   // of PostgreSQL's own
	visible      bool   // it is found by its name alone
	kind         string // typtype
	array        bool
	element      uint32 // of an array
	base         uint32 // of a domain
	labels       []string
	comment      string
	attributes   []attribute // of a composite
}

type attribute struct {
	name string
	oid  uint32
}

// loadTypes reads types and the types that they are made of.
func loadTypes(ctx context.Context, conn *pgx.Conn, known map[uint32]*dbType, oids []uint32) error {
	for {
		var unknown []string
		for _, oid := range oids {
			if _, ok := known[oid]; !ok && oid != 0 && !slices.Contains(unknown, fmt.Sprint(oid)) {
				unknown = append(unknown, fmt.Sprint(oid))
			}
		}
		if len(unknown) == 0 {
			return nil
		}
		rows, err := pgrows.Query(ctx, conn, `
			select t.oid, n.nspname, t.typname, pg_catalog.format_type(t.oid, null), (n.nspname = 'pg_catalog')::text, t.typtype,
				(t.typcategory = 'A' and t.typelem <> 0)::text, t.typelem, t.typbasetype,
				array_to_string(array(select e.enumlabel from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder), e'\x01'),
				coalesce(pg_catalog.obj_description(t.oid, 'pg_type'), ''),
				array_to_string(array(select a.attname || e'\x02' || a.atttypid from pg_catalog.pg_attribute a
					where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum), e'\x01'),
				pg_catalog.pg_type_is_visible(t.oid)::text
			from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where t.oid = any ($1::oid[])`, unknown)
		if err != nil {
			return err
		}
		for _, oid := range oids {
			if _, ok := known[oid]; !ok {
				known[oid] = nil
			}
		}
		oids = nil
		for _, r := range rows {
			t := &dbType{oid: pgrows.ParseOID(r[0]), schema: r[1], name: r[2], full: r[3], own: r[4] == "true", kind: r[5], array: r[6] == "true",
				element: pgrows.ParseOID(r[7]), base: pgrows.ParseOID(r[8]), comment: r[10], visible: r[12] == "true"}
			if r[9] != "" {
				t.labels = strings.Split(r[9], "\x01")
			}
			if r[11] != "" {
				for _, pair := range strings.Split(r[11], "\x01") {
					name, oid, _ := strings.Cut(pair, "\x02")
					t.attributes = append(t.attributes, attribute{name, pgrows.ParseOID(oid)})
					oids = append(oids, pgrows.ParseOID(oid))
				}
			}
			known[t.oid] = t
			if t.array {
				oids = append(oids, t.element)
			}
			oids = append(oids, t.base)
		}
	}
}

// typeOf returns the Go type for a type of the database, without NULL. It writes the type of an enum or a composite.
func (g *generator) typeOf(oid uint32) (goType, error) {
	if typ, ok := g.goTypes[oid]; ok {
		return typ, nil
	}
	typ, err := g.newType(oid)
	if err == nil {
		g.goTypes[oid] = typ
	}
	return typ, err
}

func (g *generator) newType(oid uint32) (goType, error) {
	t := g.types[oid]
	if t == nil {
		return goType{}, fmt.Errorf("the database does not say what the type with the oid %d is", oid)
	}
	for _, name := range []string{t.full, t.name} {
		if typ, ok := g.overrides[name]; ok {
			return typ, nil
		}
	}
	own, isOwn := ownTypes[t.name]
	switch {
	case t.array && strings.HasPrefix(t.name, "_"):
		element, err := g.typeOf(t.element)
		if err != nil {
			return goType{}, err
		}
		element.source, element.ownNull, element.struct_ = "[]"+element.source, true, false
		if e := g.types[t.element]; e != nil && (e.kind == "e" || e.kind == "d" && !g.isPlain(e.base)) {
			element.load = append(slices.Clip(element.load), e.full)
		}
		return element, nil
	case t.kind == "d":
		typ, err := g.typeOf(t.base)
		if len(typ.load) > 0 { // pgx does not know what the domain is of either
			typ.load = append(slices.Clip(typ.load), t.full)
		}
		return typ, err
	case t.kind == "e":
		return plainType(g.enum(t)), nil
	case t.kind == "c":
		return g.composite(t)
	case t.name == "void" && t.own:
		return goType{}, errors.New("has the type void, which no Go type holds: use :exec")
	case t.kind == "p" && t.name != "cstring":
		return goType{}, fmt.Errorf("has the type %s, which no Go type holds: cast it, or name its columns", t.full)
	case t.own && isOwn:
		return own, nil
	case t.name == "hstore":
		typ := pgtypeOf("Hstore")
		typ.struct_ = true
		return typ, nil
	}
	return plainType("string"), nil
}

// isPlain reports whether pgx reads an array of domains over a type without being told what the domain is.
func (g *generator) isPlain(base uint32) bool {
	t := g.types[base]
	return t == nil || t.kind == "d" && g.isPlain(t.base) || t.kind == "b" && !t.array
}

// ofColumn returns the Go type of a column of a table, or of a parameter that sets it.
func (g *generator) ofColumn(t *table, c *column, null bool) (goType, error) {
	typ, err := g.typeOf(c.oid)
	if err != nil {
		return typ, err
	}
	for i := 1; i < c.dimensions && strings.HasPrefix(typ.source, "[]") && typ.source != "[]byte"; i++ {
		typ.source = "[]" + typ.source
	}
	if t != nil {
		for _, name := range []string{t.name + "." + c.name, t.schema + "." + t.name + "." + c.name} {
			if override, ok := g.overrides[name]; ok {
				typ = override
			}
		}
	}
	if null {
		typ = typ.null()
	}
	return typ, nil
}

// enum writes the type of an enum and returns its name.
func (g *generator) enum(t *dbType) string {
	name := g.identifiers.take(exported(qualified(t.visible, t.schema, t.name)), "Type")
	var b strings.Builder
	writeComment(&b, "", commentLines(t.comment))
	fmt.Fprintf(&b, "type %s string\n\nconst (\n", name)
	for _, label := range t.labels {
		fmt.Fprintf(&b, "\t%s %s = %q\n", g.identifiers.take(name+constantWord(label), "Value"), name, label)
	}
	b.WriteString(")\n")
	g.file(TypesFile).add(b.String())
	return name
}

// constantWord is what a label adds to the name of its constant.
func constantWord(label string) string {
	if len(words(label)) == 0 {
		if label == "" {
			return "Empty"
		}
		var b strings.Builder
		for _, r := range label {
			fmt.Fprintf(&b, "U%04X", r)
		}
		return b.String()
	}
	word := exported(label)
	if strings.HasPrefix(word, "X") && !strings.HasPrefix(strings.ToUpper(label), "X") {
		return word[1:]
	}
	return word
}

// composite writes the struct of a composite type.
func (g *generator) composite(t *dbType) (goType, error) {
	name := g.identifiers.take(exported(qualified(t.visible, t.schema, t.name)), "Type")
	typ := goType{source: name, load: []string{t.full}, struct_: true}
	g.goTypes[t.oid] = typ // it may hold itself, by an array
	var fields []field
	for _, a := range t.attributes {
		of, err := g.typeOf(a.oid)
		if err != nil {
			return goType{}, fmt.Errorf("column %s of %s %w", a.name, t.full, err)
		}
		fields = append(fields, field{column: a.name, typ: of.null()})
	}
	src := g.file(TypesFile)
	src.add(src.structSource(name, commentLines(t.comment), fields))
	return typ, nil
}

// qualified is a name with its schema, unless it is found without.
func qualified(visible bool, schema, name string) string {
	if visible {
		return name
	}
	return schema + "_" + name
}
