package pgcmd

import (
	"fmt"
	"reflect"
)

// redacted stands where a secret text was.
const redacted = "[secret]"

// isSecret reports whether a struct field has the tag `secret:"true"`.
func isSecret(sf reflect.StructField) bool {
	v, ok := sf.Tag.Lookup("secret")
	return ok && v != "false"
}

// mayHoldSecrets reports whether a value of type t can hold a secret field, in
// an interface included.
func mayHoldSecrets(t reflect.Type, seen map[reflect.Type]bool) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return mayHoldSecrets(t.Elem(), seen)
	case reflect.Struct:
	default:
		return false
	}
	if seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	for i := range t.NumField() {
		if sf := t.Field(i); isSecret(sf) || mayHoldSecrets(sf.Type, seen) {
			return true
		}
	}
	return false
}

// withSecretsHidden returns value itself if its type can hold no secret, else a
// copy whose secret texts read [secret] and whose other secrets are zero.
func withSecretsHidden[T any](value T) T {
	if !mayHoldSecrets(reflect.TypeFor[T](), nil) {
		return value
	}
	hideSecrets(reflect.ValueOf(&value).Elem(), 0)
	return value
}

// hideSecrets changes v, which must be settable, and copies whatever v shares
// with the original before it changes that.
func hideSecrets(v reflect.Value, depth int) {
	if depth > 32 { // a cycle, or as good as one
		v.SetZero()
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		elem := v.Elem()
		if v.Kind() == reflect.Interface && !mayHoldSecrets(elem.Type(), nil) {
			return
		}
		copied := reflect.New(elem.Type())
		copied.Elem().Set(elem)
		hideSecrets(copied.Elem(), depth+1)
		if v.Kind() == reflect.Interface {
			copied = copied.Elem()
		}
		v.Set(copied)
	case reflect.Slice:
		if v.IsNil() || !mayHoldSecrets(v.Type(), nil) {
			return
		}
		copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(copied, v)
		for i := range copied.Len() {
			hideSecrets(copied.Index(i), depth+1)
		}
		v.Set(copied)
	case reflect.Array:
		for i := range v.Len() {
			hideSecrets(v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.IsNil() || !mayHoldSecrets(v.Type(), nil) {
			return
		}
		copied := reflect.MakeMapWithSize(v.Type(), v.Len())
		for iter := v.MapRange(); iter.Next(); {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(iter.Value())
			hideSecrets(elem, depth+1)
			copied.SetMapIndex(iter.Key(), elem)
		}
		v.Set(copied)
	case reflect.Struct:
		for i := range v.NumField() {
			sf, f := v.Type().Field(i), v.Field(i)
			switch {
			case !f.CanSet() && !sf.Anonymous:
			case isSecret(sf) && f.CanSet() && f.Kind() == reflect.String && f.String() != "":
				f.SetString(redacted)
			case isSecret(sf) && f.CanSet():
				f.SetZero()
			case f.CanSet() || f.Kind() == reflect.Struct:
				hideSecrets(f, depth+1)
			}
		}
	}
}

// secretTexts appends the texts of the secret fields below v.
func secretTexts(v reflect.Value, texts []string) []string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			texts = secretTexts(v.Elem(), texts)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			texts = secretTexts(v.Index(i), texts)
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			texts = secretTexts(iter.Value(), texts)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !isSecret(v.Type().Field(i)) {
				texts = secretTexts(v.Field(i), texts)
			} else if text := fmt.Sprint(v.Field(i)); text != "" && !v.Field(i).IsZero() {
				texts = append(texts, text)
			}
		}
	}
	return texts
}
