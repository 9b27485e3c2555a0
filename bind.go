package pgcmd

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// compileParams finds, at definition, the fields of the input that the SQL names, in
// the order of their parameters; for a scalar there is one, without an index.
// Whatever does not fit panics.
func compileParams(command string, typ reflect.Type, text sqltext.Text) []structfields.Field {
	reject := func(format string, args ...any) {
		panic(fmt.Sprintf("pgcmd: %s: ", command) + fmt.Sprintf(format, args...))
	}
	if typ.Kind() == reflect.Interface || typ.Kind() == reflect.Map || structfields.Unsupported(typ) != "" {
		reject("the input type %s cannot be a parameter: use a struct, a scalar, or struct{}", typ)
	}
	if typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct && !structfields.IsScalar(typ.Elem()) {
		reject("the input type is %s: use %s, commands take their input by value", typ, typ.Elem())
	}
	if structfields.IsScalar(typ) {
		switch {
		case len(text.Names) > 0:
			reject("SQL names @%s, but the input is one %s: name it $1", text.Names[0], typ)
		case text.MaxParam != 1:
			reject("the input is one %s, so the SQL must name $1 and no other; it names %s", typ, highest(text.MaxParam))
		}
		return []structfields.Field{{Path: "input", Type: typ}}
	}

	fields, unexported := structfields.Of(typ)
	if text.MaxParam > 0 {
		reject("SQL names $%d, but the input is the struct %s: name its fields, as in @%s", text.MaxParam, typ, firstName(fields))
	}
	params := make([]structfields.Field, len(text.Names))
	for i, name := range text.Names {
		at := structfields.Find(fields, name)
		if at < 0 {
			for _, hidden := range unexported {
				if (structfields.Field{Name: hidden}).Matches(name) {
					reject("SQL names @%s, but field %s.%s is unexported: export it", name, typeName(typ), hidden)
				}
			}
			reject("SQL names @%s, %s has no such field (has: %s)", name, typeName(typ), structfields.PlaceholderNames(fields))
		}
		params[i] = fields[at]
		if why := structfields.Unsupported(params[i].Type); why != "" {
			reject("SQL names @%s, but field %s.%s cannot be a parameter: %s", name, typeName(typ), params[i].Path, why)
		}
	}
	return params
}

func highest(param int) string {
	if param == 0 {
		return "none"
	}
	return fmt.Sprintf("$%d", param)
}

func firstName(fields []structfields.Field) string {
	if len(fields) == 0 {
		return "name"
	}
	return strings.SplitN(structfields.PlaceholderNames(fields), ",", 2)[0]
}

func typeName(t reflect.Type) string {
	if t.Name() == "" {
		return "the input"
	}
	return t.Name()
}

// argumentPointers returns pointers to the fields of in that are arguments, for inputs that
// are put in the same place; nil if they last for one input only.
func (s *statement) argumentPointers(in reflect.Value) []any {
	if s.throughPointer {
		return nil
	}
	return structfields.Pointers(in, s.fields, false)
}

// readArguments reads the arguments of the input of inv into args.
func (s *statement) readArguments(args []any, inv *invocation) ([]any, *Error) {
	for i := range s.fields {
		var p any
		if inv.fields != nil {
			p = inv.fields[i]
		} else {
			p = structfields.Pointer(inv.inValue, s.fields[i].Index, false)
		}
		switch p := p.(type) {
		case *string:
			if e := checkText(*p, s.params[i]); e != nil {
				return nil, e
			}
			args[i] = *p
		case *int64:
			args[i] = *p
		case *int:
			args[i] = *p
		case *int32:
			args[i] = *p
		case *bool:
			args[i] = *p
		case *float64:
			args[i] = *p
		case nil:
			return nil, newFieldError(s.params[i], "required", "is in an embedded struct whose pointer is nil", nil)
		default:
			v := reflect.ValueOf(p).Elem()
			text := v
			if text.Kind() == reflect.Pointer {
				text = text.Elem() // of nil: an invalid Value, of Kind Invalid
			}
			args[i] = v.Interface()
			if _, own := args[i].(driver.Valuer); text.Kind() == reflect.String && !own {
				if e := checkText(text.String(), s.params[i]); e != nil {
					return nil, e
				}
			}
		}
	}
	return args, rejectPgxOption(args, s.params)
}

// rejectPgxOption refuses a first argument that pgx would take for an option of its
// own, and so for a change of how the statement is sent.
func rejectPgxOption(args []any, params []string) *Error {
	if len(args) > 0 {
		switch args[0].(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
			return newFieldError(params[0], "type", "is an option of pgx's, and not a value", nil)
		}
	}
	return nil
}

// checkText refuses what no text of PostgreSQL can hold before anything is sent.
func checkText(s, field string) *Error {
	return textProblem(strings.IndexByte(s, 0) >= 0, utf8.ValidString(s), field)
}

func checkTextBytes(b []byte, field string) *Error {
	return textProblem(bytes.IndexByte(b, 0) >= 0, utf8.Valid(b), field)
}

func textProblem(hasNUL, valid bool, field string) *Error {
	switch {
	case hasNUL:
		return newFieldError(field, "text", "holds a NUL byte, which PostgreSQL's text cannot: use []byte and bytea", nil)
	case !valid:
		return newFieldError(field, "text", "is not valid UTF-8: use []byte and bytea", nil)
	}
	return nil
}
