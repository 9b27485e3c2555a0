// Package bind finds the fields of an input that the placeholders of a statement name, and reads their values as its
// arguments. It does not know commands, and sends nothing.
package bind

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// Params are the parameters of a statement: Fields[i] of the input is $i+1, and Paths[i] is
// its path, for messages.
type Params struct {
	Fields         []structfields.Field
	Paths          []string
	throughPointer bool // a field is reached through an embedded pointer
}

// Compile finds the fields of an input of type in that text names, in the order of the
// parameters; for a scalar there is one, without an index. The error says what does not fit.
func Compile(in reflect.Type, text sqltext.Text) (Params, error) {
	fields, err := compile(in, text)
	if err != nil {
		return Params{}, err
	}
	p := Params{Fields: fields, Paths: make([]string, len(fields)), throughPointer: structfields.EmbedsPointer(in, fields)}
	for i, f := range fields {
		p.Paths[i] = f.Path
	}
	return p, nil
}

func compile(typ reflect.Type, text sqltext.Text) ([]structfields.Field, error) {
	if typ.Kind() == reflect.Interface || typ.Kind() == reflect.Map || structfields.Unsupported(typ) != "" {
		return nil, fmt.Errorf("the input type %s cannot be a parameter: use a struct, a scalar, or struct{}", typ)
	}
	if typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct && !structfields.IsScalar(typ.Elem()) {
		return nil, fmt.Errorf("the input type is %s: use %s, commands take their input by value", typ, typ.Elem())
	}
	if structfields.IsScalar(typ) {
		switch {
		case len(text.Names) > 0:
			return nil, fmt.Errorf("SQL names @%s, but the input is one %s, which it must name $1", text.Names[0], typ)
		case text.MaxParam != 1:
			return nil, fmt.Errorf("the input is one %s, so the SQL must name $1 and no other parameter: it names %s", typ, highest(text.MaxParam))
		}
		return []structfields.Field{{Path: "input", Type: typ}}, nil
	}

	fields, unexported := structfields.Of(typ)
	if text.MaxParam > 0 {
		return nil, fmt.Errorf("SQL names $%d, but the input is %s", text.MaxParam, structInput(typ, fields))
	}
	params := make([]structfields.Field, len(text.Names))
	for i, name := range text.Names {
		at := structfields.Find(fields, name)
		if at < 0 {
			for _, hidden := range unexported {
				if (structfields.Field{Name: hidden}).Matches(name) {
					return nil, fmt.Errorf("SQL names @%s, but %s is unexported: export it", name, structfields.Called(typ, "input", hidden))
				}
			}
			if typ.NumField() == 0 && typ.Name() == "" {
				return nil, fmt.Errorf("SQL names @%s, but the input is struct{}, which has no fields: use a struct with that field", name)
			}
			return nil, fmt.Errorf("SQL names @%s, %s has no such field (has: %s)", name, structfields.TypeOr(typ, "the input"), structfields.PlaceholderNames(fields))
		}
		if err := unambiguous(typ, fields, at, name); err != nil {
			return nil, err
		}
		params[i] = fields[at]
		if why := structfields.Unsupported(params[i].Type); why != "" {
			return nil, fmt.Errorf("SQL names @%s, but %s cannot be a parameter: %s", name, structfields.Called(typ, "input", params[i].Path), why)
		}
	}
	return params, nil
}

// unambiguous returns an error if name belongs to another field than fields[at] as well.
func unambiguous(typ reflect.Type, fields []structfields.Field, at int, name string) error {
	if twin := structfields.Twin(fields, at); twin >= 0 {
		return fmt.Errorf("SQL names @%s, which is %s and %s of %s: give one of them another tag",
			name, fields[at].Path, fields[twin].Path, structfields.TypeOr(typ, "the input"))
	}
	return nil
}

func highest(param int) string {
	if param == 0 {
		return "none"
	}
	return fmt.Sprintf("$%d", param)
}

// structInput says what a struct is that the SQL takes for a scalar, and what to do.
func structInput(typ reflect.Type, fields []structfields.Field) string {
	called := "a struct"
	if typ.Name() != "" {
		called = "the struct " + typ.Name()
	}
	if len(fields) == 0 {
		return strings.Replace(called, "a struct", "struct{}", 1) + ", which has no fields: use a scalar, such as int64, or a struct with a field for each parameter"
	}
	first, _, _ := strings.Cut(structfields.PlaceholderNames(fields), ",")
	return called + ": name its fields, as in @" + first
}

// Pointers returns pointers to the fields of in that are arguments, for inputs that are put
// in the same place; nil if they last for one input only.
func (p *Params) Pointers(in reflect.Value) []any {
	if p.throughPointer {
		return nil
	}
	return structfields.Pointers(in, p.Fields, false)
}

// Read reads the arguments of in into args. pointers is what Pointers returned for in, or nil.
func (p *Params) Read(args []any, in reflect.Value, pointers []any) ([]any, *typemap.ArgError) {
	for i := range p.Fields {
		var field any
		if pointers != nil {
			field = pointers[i]
		} else {
			field = structfields.Pointer(in, p.Fields[i].Index, false)
		}
		switch v := field.(type) {
		case *string:
			if why := typemap.NotText(*v); why != "" {
				return nil, &typemap.ArgError{Param: i, Rule: "text", Message: why}
			}
			args[i] = *v
		case *int64:
			args[i] = *v
		case *int:
			args[i] = *v
		case *int32:
			args[i] = *v
		case *bool:
			args[i] = *v
		case *float64:
			args[i] = *v
		case nil:
			return nil, &typemap.ArgError{Param: i, Rule: "required", Message: "must be set: the embedded struct that contains it is a nil pointer"}
		default:
			value := reflect.ValueOf(field).Elem()
			text := value
			if text.Kind() == reflect.Pointer {
				text = text.Elem() // of nil: an invalid Value, of Kind Invalid
			}
			args[i] = value.Interface()
			if _, own := args[i].(driver.Valuer); text.Kind() == reflect.String && !own {
				if why := typemap.NotText(text.String()); why != "" {
					return nil, &typemap.ArgError{Param: i, Rule: "text", Message: why}
				}
			}
		}
	}
	return args, RejectPgxOption(args)
}

// RejectPgxOption refuses a first argument that pgx would take for an option of its
// own, and so for a change of how the statement is sent.
func RejectPgxOption(args []any) *typemap.ArgError {
	if len(args) > 0 {
		switch args[0].(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
			return &typemap.ArgError{Rule: "type", Message: "is an option of pgx, and not a value: use another type"}
		}
	}
	return nil
}
