package typemap

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// lacksFields is the mismatch of a struct, or of the elements of a slice, with fewer fields than
// the composite that it is sent as.
func (t Types) lacksFields(oid uint32, typ reflect.Type) Mismatch {
	typ = rowscan.ValueType(typ)
	if elem, elemOID, ok := t.elements(typ, oid); ok {
		return t.lacksFields(elemOID, elem)
	}
	return t.attributes(oid, typ, false, t.lacksFields)
}

// attributes is the mismatch of a struct and a composite. pgx takes the exported fields in
// their order for the attributes in theirs, whatever their names, and ignores those that are
// too many. strict finds these too. compare compares a field with its attribute. There is none
// if the two are not a struct and a composite.
func (t Types) attributes(oid uint32, typ reflect.Type, strict bool, compare func(oid uint32, typ reflect.Type) Mismatch) Mismatch {
	known, _ := t.Known.TypeForOID(oid)
	if known == nil || typ.Kind() != reflect.Struct || HasCodecMethods(typ) {
		return Mismatch{}
	}
	codec, ok := known.Codec.(*pgtype.CompositeCodec)
	if !ok {
		return Mismatch{}
	}
	names := make([]string, len(codec.Fields))
	for i, a := range codec.Fields {
		names[i] = a.Name
	}
	var fields []reflect.StructField
	for i := range typ.NumField() {
		if f := typ.Field(i); f.IsExported() {
			fields = append(fields, f)
		}
	}
	if len(fields) < len(names) || strict && len(fields) > len(names) {
		return Mismatch{Rule: "type", Why: fmt.Sprintf("has %d exported fields, and there are %d attributes (%s) in", len(fields), len(names), strings.Join(names, ", ")),
			Hint: "give it a field for each, in their order"}
	}
	for i, f := range fields[:len(names)] {
		named := structfields.Field{Name: f.Name}
		if strict && !named.Matches(names[i]) && slices.ContainsFunc(names, named.Matches) {
			return Mismatch{Rule: "type", Why: fmt.Sprintf("has the field %s where the attribute %s is, in", f.Name, names[i]),
				Hint: "put its fields into the order of the attributes, " + strings.Join(names, ", ")}
		}
		if m := compare(codec.Fields[i].Type.OID, f.Type); m.Why != "" {
			m.Why = fmt.Sprintf("has the field %s (%s), which %s the attribute %s (%s), in", f.Name, f.Type, m.Why, names[i], t.Name(codec.Fields[i].Type.OID))
			return m
		}
	}
	return Mismatch{}
}
