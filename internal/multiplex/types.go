package multiplex

import (
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/dbtypes"
)

// safeToShare reports whether several goroutines, each with a copy of the connection's type
// map, can encode and scan values of a type. PostgreSQL's own types can: all connections
// of pgx share their codecs. So can those that package dbtypes loads. Another registered type
// can if its codec has no state; an enum's has. An unregistered type is read as text, by rules
// that a copy may lack if AfterConnect has added any.
func (c *conn) safeToShare(oid uint32) bool {
	t, ok := c.conn.TypeMap().TypeForOID(oid)
	if !ok {
		return !c.customTypes
	}
	if dbtypes.IsLoaded(c.conn, t) {
		return true
	}
	own, ok := pgtype.NewMap().TypeForOID(oid)
	if ok && own == t {
		return oid != pgtype.RecordOID || !c.customTypes
	}
	return isStatelessCodec(t, 0)
}

func isStatelessCodec(t *pgtype.Type, depth int) bool {
	if t == nil || depth > 8 {
		return false
	}
	switch codec := t.Codec.(type) {
	case *pgtype.ArrayCodec:
		return isStatelessCodec(codec.ElementType, depth+1)
	case *pgtype.RangeCodec:
		return isStatelessCodec(codec.ElementType, depth+1)
	case *pgtype.MultirangeCodec:
		return isStatelessCodec(codec.ElementType, depth+1)
	case *pgtype.CompositeCodec:
		return !slices.ContainsFunc(codec.Fields, func(f pgtype.CompositeCodecField) bool { return !isStatelessCodec(f.Type, depth+1) })
	case *pgtype.EnumCodec:
		return false
	}
	typ := reflect.TypeOf(t.Codec)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	own, ok := pgtype.NewMap().TypeForOID(t.OID)
	return typ.Size() == 0 || ok && own == t
}
