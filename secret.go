package pgcmd

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
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
	if seen == nil {
		known, ok := secretTypes.Load(t)
		if !ok {
			known = mayHoldSecrets(t, map[reflect.Type]bool{})
			secretTypes.Store(t, known)
		}
		return known.(bool)
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map:
		return mayHoldSecrets(t.Key(), seen) || mayHoldSecrets(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return mayHoldSecrets(t.Elem(), seen)
	case reflect.Struct:
	default:
		return false
	}
	for i := range t.NumField() {
		if sf := t.Field(i); isSecret(sf) || mayHoldSecrets(sf.Type, seen) {
			return true
		}
	}
	return false
}

var secretTypes sync.Map // reflect.Type -> bool: what mayHoldSecrets says

// withSecretsHidden returns value itself if its type can hold no secret, else a
// copy whose secret texts read [secret] and whose other secrets are zero.
func withSecretsHidden[T any](value T) T {
	hideSecretsAt(&value)
	return value
}

func hideSecretsAt(pointer any) {
	if v := reflect.ValueOf(pointer).Elem(); mayHoldSecrets(v.Type(), nil) {
		hideSecrets(v)
	}
}

// hideSecrets changes v, which must be settable, and copies whatever v shares with
// the original before it changes that. It reports whether all of the rest is still
// there: what leads back to itself is cut off, and what is far too deep.
func hideSecrets(v reflect.Value) (whole bool) {
	h := &hider{ancestors: map[reference]bool{}, whole: true}
	h.hide(v, 0)
	return h.whole
}

type hider struct {
	ancestors map[reference]bool // what leads to the value
	whole     bool
}

type reference struct {
	to  uintptr
	typ reflect.Type
	len int
}

func (h *hider) hide(v reflect.Value, depth int) {
	if depth > 256 { // JSON of 100 levels in an any has 200
		v.SetZero()
		h.whole = false
		return
	}
	if k := v.Kind(); (k == reflect.Pointer || k == reflect.Slice || k == reflect.Map) && !v.IsNil() {
		r := reference{to: v.Pointer(), typ: v.Type()}
		if k == reflect.Slice {
			r.len = v.Len()
		}
		if h.ancestors[r] {
			v.SetZero()
			h.whole = false
			return
		}
		h.ancestors[r] = true
		defer delete(h.ancestors, r)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		elem := v.Elem()
		if v.Kind() == reflect.Interface && (elem.Type() == reflect.TypeFor[*Error]() || !mayHoldSecrets(elem.Type(), nil)) {
			return // an Error shows none by itself
		}
		copied := reflect.New(elem.Type())
		copied.Elem().Set(elem)
		h.hide(copied.Elem(), depth+1)
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
			h.hide(copied.Index(i), depth+1)
		}
		v.Set(copied)
	case reflect.Array:
		for i := range v.Len() {
			h.hide(v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.IsNil() || !mayHoldSecrets(v.Type(), nil) {
			return
		}
		if mayHoldSecrets(v.Type().Key(), nil) {
			v.SetZero() // two keys could become one
			return
		}
		copied := reflect.MakeMapWithSize(v.Type(), v.Len())
		for iter := v.MapRange(); iter.Next(); {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(iter.Value())
			h.hide(elem, depth+1)
			copied.SetMapIndex(iter.Key(), elem)
		}
		v.Set(copied)
	case reflect.Struct:
		for i := range v.NumField() {
			sf, f := v.Type().Field(i), v.Field(i)
			if !f.CanSet() && (sf.Anonymous || isSecret(sf)) { // JSON shows what is promoted from it
				f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
			}
			switch {
			case !f.CanSet():
			case isSecret(sf) && f.Kind() == reflect.String && f.String() != "" && f.Type() != reflect.TypeFor[json.Number]():
				f.SetString(redacted)
			case isSecret(sf):
				f.SetZero()
			default:
				h.hide(f, depth+1)
			}
		}
	}
}

// secretTexts appends the texts of the secret fields below v, of all there is below
// a secret one.
func secretTexts(v reflect.Value, secret bool, depth int, texts []string) []string {
	if depth > 32 || !v.IsValid() {
		return texts
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return secretTexts(v.Elem(), secret, depth+1, texts)
	case reflect.Slice, reflect.Array:
		if secret && v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			return append(texts, string(v.Bytes()))
		}
		for i := range v.Len() {
			texts = secretTexts(v.Index(i), secret, depth+1, texts)
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			texts = secretTexts(iter.Key(), secret, depth+1, texts)
			texts = secretTexts(iter.Value(), secret, depth+1, texts)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			texts = secretTexts(v.Field(i), secret || isSecret(v.Type().Field(i)), depth+1, texts)
		}
	default:
		if secret && !v.IsZero() {
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return texts
}
