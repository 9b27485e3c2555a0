// Package dbtypes registers the types of a database (enums, composites, domains, ranges, the
// types of extensions) with pgx, on each connection of a pool. It does not know commands.
//
// pgx has Conn.LoadTypes for that. It ignores a type that does not exist, and the search_path;
// it fails for a composite with a column of an extension's type, and for a range over a type
// of the database; and the codec that it gives an enum has a cache, so that goroutines cannot
// share it.
package dbtypes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

// A Loader loads types by their names, as PostgreSQL resolves them: by the search_path, with
// a schema, with [] for an array. Each is loaded with its array and its multirange, and with
// the types that it is made of. A Loader is safe for concurrent use.
type Loader struct {
	Names   []string
	Timeout time.Duration // bounds one loading

	// OnMissing is called with the names of the types that are missing on a new connection,
	// after all of them were found on another one.
	OnMissing func(names []string)

	latest atomic.Pointer[[]*pgtype.Type] // of the primary; nil: not all have been found yet
}

// An Error says why types cannot be loaded.
type Error struct {
	Missing []string // the names of the types that the database does not have
	Err     error    // of the server or the connection, if Missing is empty
}

func (e *Error) Error() string {
	if len(e.Missing) > 0 {
		return "pgcmd: the database does not have the types " + strings.Join(e.Missing, ", ")
	}
	return fmt.Sprintf("pgcmd: load types: %v", e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Load registers the types on a new connection to the primary, in one round trip. A type that
// is missing is an error as long as no connection has found all of them. After that OnMissing is
// called with it, so that only the statements that need a type fail when it was dropped.
func (l *Loader) Load(ctx context.Context, conn *pgx.Conn) error {
	types, missing, err := l.query(ctx, conn)
	if err != nil {
		return &Error{Err: err}
	}
	if len(missing) > 0 {
		if l.latest.Load() == nil {
			return &Error{Missing: missing}
		}
		l.OnMissing(missing)
	} else {
		l.latest.Store(&types)
	}
	register(conn, types)
	return nil
}

// LoadOnReplica is Load on a standby of the primary, whose types have the same OIDs. A type
// that has not arrived there yet is taken from the primary.
func (l *Loader) LoadOnReplica(ctx context.Context, conn *pgx.Conn) error {
	types, _, err := l.query(ctx, conn)
	if err != nil {
		return &Error{Err: err}
	}
	if latest := l.latest.Load(); latest != nil {
		register(conn, *latest)
	}
	register(conn, types)
	return nil
}

// loadedKey is where a connection has what register has registered.
const loadedKey = "pgcmd.loaded"

func register(conn *pgx.Conn, types []*pgtype.Type) {
	data := conn.PgConn().CustomData()
	loaded, _ := data[loadedKey].(map[uint32]*pgtype.Type)
	if loaded == nil {
		loaded = map[uint32]*pgtype.Type{}
		data[loadedKey] = loaded
	}
	conn.TypeMap().RegisterTypes(types)
	for _, t := range types {
		loaded[t.OID], _ = conn.TypeMap().TypeForOID(t.OID)
	}
}

// IsLoaded reports whether a Loader has registered the type t on the connection. Goroutines
// may share such a type: its codec has no state.
func IsLoaded(conn *pgx.Conn, t *pgtype.Type) bool {
	loaded, _ := conn.PgConn().CustomData()[loadedKey].(map[uint32]*pgtype.Type)
	return t != nil && loaded[t.OID] == t
}

// pgxTypes are the types that pgx knows by default. It is not changed.
var pgxTypes = sync.OnceValue(pgtype.NewMap)

// KnownToPgx reports whether pgx knows the type by default.
func KnownToPgx(oid uint32) bool {
	_, known := pgxTypes().TypeForOID(oid)
	return known
}

// query returns the types, and the names of those that do not exist. It leaves nothing on
// the server, so that a pooler may be in between.
func (l *Loader) query(ctx context.Context, conn *pgx.Conn) (types []*pgtype.Type, missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	// to_regtype has an error for a name that cannot be one, before PostgreSQL 16.
	// to_jsonb: there is no pg_range.rngmultitypid before PostgreSQL 14.
	found, err := pgrows.Query(ctx, conn, `
		with recursive named(name, oid) as (
			select n, pg_catalog.to_regtype(n)::oid from pg_catalog.unnest($1::text[]) n
		), needed(oid) as (
			select oid from named where oid is not null
			union
			select d.oid from needed join pg_catalog.pg_type t using (oid) cross join lateral (
				select t.typarray
				union all select t.typelem where t.typcategory = 'A'
				union all select t.typbasetype where t.typtype = 'd'
				union all select a.atttypid from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
				union all select r.rngsubtype from pg_catalog.pg_range r where t.typtype = 'r' and r.rngtypid = t.oid
				union all select (pg_catalog.to_jsonb(r)->>'rngmultitypid')::oid from pg_catalog.pg_range r where t.typtype = 'r' and r.rngtypid = t.oid
				union all select r.rngtypid from pg_catalog.pg_range r where t.typtype = 'm' and (pg_catalog.to_jsonb(r)->>'rngmultitypid')::oid = t.oid
			) d(oid) where d.oid <> 0
		)
		select '' as missing, t.oid::text, n.nspname, t.typname, pg_catalog.pg_type_is_visible(t.oid)::text,
			case when t.typcategory = 'A' and t.typelem <> 0 then 'A' else t.typtype end, t.typdelim,
			(case t.typtype
				when 'd' then t.typbasetype
				when 'r' then (select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid)
				when 'm' then (select r.rngtypid from pg_catalog.pg_range r where (pg_catalog.to_jsonb(r)->>'rngmultitypid')::oid = t.oid)
				else t.typelem end)::text,
			(select pg_catalog.json_agg(pg_catalog.json_build_object('Name', a.attname, 'OID', a.atttypid::int8) order by a.attnum)
				from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)::text,
			coalesce((select p.prosrc from pg_catalog.pg_proc p where p.oid = t.typreceive), '')
		from needed join pg_catalog.pg_type t using (oid) join pg_catalog.pg_namespace n on n.oid = t.typnamespace
		union all
		select name, '', '', '', '', '', '', '', '', '' from named where oid is null`, l.Names)
	if err != nil {
		return nil, nil, err
	}
	described := make(map[uint32]description, len(found))
	for _, row := range found {
		if row[0] != "" {
			missing = append(missing, row[0])
			continue
		}
		d := description{oid: pgrows.ParseOID(row[1]), schema: row[2], name: row[3], visible: row[4] == "true", kind: row[5], delimiter: row[6], of: pgrows.ParseOID(row[7]), receive: row[9]}
		if row[8] != "" {
			if err := json.Unmarshal([]byte(row[8]), &d.attributes); err != nil {
				return nil, nil, err
			}
		}
		described[d.oid] = d
	}
	b := builder{described: described, built: map[uint32]*pgtype.Type{}}
	for oid := range described {
		b.typeOf(oid)
	}
	for oid, t := range b.built {
		if t == nil {
			continue
		}
		d := described[oid]
		types = append(types, &pgtype.Type{Name: d.schema + "." + d.name, OID: oid, Codec: t.Codec})
		if d.visible { // the last one is the one that pgx has of an OID
			types = append(types, t)
		}
	}
	slices.Sort(missing)
	return types, slices.Compact(missing), nil
}

// A description is what the catalog says of a type.
type description struct {
	oid          uint32
	schema, name string
	visible      bool   // by its name alone
	kind         string // A for an array, else as pg_type.typtype
	delimiter    string
	of           uint32 // the type of an array's elements or a range's bounds, the ranges of a multirange, what a domain is over
	attributes   []attribute
	receive      string // the function that reads its binary form
}

type attribute struct {
	Name string
	OID  uint32
}

// A builder makes the types of pgx of descriptions.
type builder struct {
	described map[uint32]description
	built     map[uint32]*pgtype.Type // nil for one that cannot be built
}

// typeOf returns the type, after those that it is made of; nil if one of them is unknown.
func (b *builder) typeOf(oid uint32) *pgtype.Type {
	if t, ok := pgxTypes().TypeForOID(oid); ok {
		return t
	}
	if t, seen := b.built[oid]; seen { // nil: while it is built
		return t
	}
	b.built[oid] = nil
	d, ok := b.described[oid]
	if !ok {
		return nil
	}
	codec := b.codecOf(d)
	if codec == nil {
		return nil
	}
	t := &pgtype.Type{Name: d.name, OID: oid, Codec: codec}
	b.built[oid] = t
	return t
}

func (b *builder) codecOf(d description) pgtype.Codec {
	switch d.kind {
	case "e":
		return pgtype.TextCodec{} // pgx's EnumCodec has a cache
	case "c":
		fields := make([]pgtype.CompositeCodecField, len(d.attributes))
		for i, a := range d.attributes {
			t := b.typeOf(a.OID)
			if t == nil {
				return nil
			}
			fields[i] = pgtype.CompositeCodecField{Name: a.Name, Type: t}
		}
		return &pgtype.CompositeCodec{Fields: fields}
	case "b":
		return baseCodec(d.receive)
	}
	of := b.typeOf(d.of)
	if of == nil {
		return nil
	}
	switch d.kind {
	case "A":
		return &pgtype.ArrayCodec{ElementType: of, Delimiter: d.delimiter[0]}
	case "d":
		return of.Codec
	case "r":
		return &pgtype.RangeCodec{ElementType: of}
	case "m":
		return &pgtype.MultirangeCodec{ElementType: of}
	}
	return nil
}

// baseCodec is the codec of a type that is made of no others, as those of extensions are.
func baseCodec(receive string) pgtype.Codec {
	switch receive {
	case "textrecv", "varcharrecv", "bpcharrecv", "namerecv": // citext
		return pgtype.TextCodec{}
	case "hstore_recv":
		return pgtype.HstoreCodec{}
	}
	return &pgtype.TextFormatOnlyCodec{Codec: pgtype.TextCodec{}}
}

// As returns the Error in err, or nil.
func As(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// Refusal returns the server's message about a name that is not valid, or "".
func (e *Error) Refusal() string {
	refused, ok := errors.AsType[*pgconn.PgError](e.Err)
	if !ok {
		return ""
	}
	switch refused.Code {
	case "42601", "42602", "0A000": // a syntax error, no name, of another database
		return refused.Message
	}
	return ""
}
