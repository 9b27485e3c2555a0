// Package redact hides the values of struct fields with the tag secret:"true". It
// knows no commands and no errors of pgcmd.
package redact

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// Placeholder replaces a secret text.
const Placeholder = "[secret]"

// IsSecret reports whether a struct field has the tag `secret:"true"`.
func IsSecret(sf reflect.StructField) bool {
	v, ok := sf.Tag.Lookup("secret")
	return ok && v != "false"
}

// MayHoldSecrets reports whether a value of type t can hold a secret field, also in an
// interface.
func MayHoldSecrets(t reflect.Type) bool {
	known, ok := secretTypes.Load(t)
	if !ok {
		known = structfields.Contains(t, func(t reflect.Type) bool { return t.Kind() == reflect.Interface || structfields.HasField(t, IsSecret) })
		secretTypes.Store(t, known)
	}
	return known.(bool)
}

var secretTypes sync.Map // reflect.Type -> bool: the result of MayHoldSecrets

// hasSecrets reports whether a value of type t can hold a secret field without an interface.
func hasSecrets(t reflect.Type) bool {
	return structfields.Contains(t, func(t reflect.Type) bool { return structfields.HasField(t, IsSecret) })
}

// maxDepth is how deep a value may be nested. JSON of 100 levels in an any has 200.
const maxDepth = 256

// InPlace replaces the secret texts in v, which must be settable, by Placeholder, and sets
// other secrets to zero. It copies what v refers to before it changes it. A value of type
// exempt in an interface is left as it is. whole is false if some of the rest is missing:
// a value that contains itself is cut off, and so is one that is nested too deep.
func InPlace(v reflect.Value, exempt reflect.Type) (whole bool) {
	if !MayHoldSecrets(v.Type()) {
		return true
	}
	r := &redactor{exempt: exempt, ancestors: map[reference]bool{}, whole: true}
	r.redact(v, 0)
	return r.whole
}

type redactor struct {
	exempt    reflect.Type
	ancestors map[reference]bool // the pointers, slices and maps that contain the value
	whole     bool
}

// reference identifies a pointer, a slice or a map.
type reference struct {
	to  uintptr
	typ reflect.Type
	len int
}

func referenceOf(v reflect.Value) (ref reference, ok bool) {
	if k := v.Kind(); k != reflect.Pointer && k != reflect.Slice && k != reflect.Map || v.IsNil() {
		return ref, false
	}
	ref = reference{to: v.Pointer(), typ: v.Type()}
	if v.Kind() == reflect.Slice {
		ref.len = v.Len()
	}
	return ref, true
}

// redact does it for v, which is at a depth in the value.
func (r *redactor) redact(v reflect.Value, depth int) {
	if depth > maxDepth {
		v.SetZero()
		r.whole = false
		return
	}
	if ref, ok := referenceOf(v); ok {
		if r.ancestors[ref] {
			v.SetZero()
			r.whole = false
			return
		}
		r.ancestors[ref] = true
		defer delete(r.ancestors, ref)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		elem := v.Elem()
		if v.Kind() == reflect.Interface && (elem.Type() == r.exempt || !MayHoldSecrets(elem.Type())) {
			return
		}
		copied := reflect.New(elem.Type())
		copied.Elem().Set(elem)
		r.redact(copied.Elem(), depth+1)
		if v.Kind() == reflect.Interface {
			copied = copied.Elem()
		}
		v.Set(copied)
	case reflect.Slice:
		if v.IsNil() || !MayHoldSecrets(v.Type()) {
			return
		}
		copied := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(copied, v)
		for i := range copied.Len() {
			r.redact(copied.Index(i), depth+1)
		}
		v.Set(copied)
	case reflect.Array:
		for i := range v.Len() {
			r.redact(v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.IsNil() || !MayHoldSecrets(v.Type()) {
			return
		}
		if MayHoldSecrets(v.Type().Key()) {
			v.SetZero() // two keys could become equal
			return
		}
		copied := reflect.MakeMapWithSize(v.Type(), v.Len())
		for iter := v.MapRange(); iter.Next(); {
			elem := reflect.New(v.Type().Elem()).Elem()
			elem.Set(iter.Value())
			r.redact(elem, depth+1)
			copied.SetMapIndex(iter.Key(), elem)
		}
		v.Set(copied)
	case reflect.Struct:
		for i := range v.NumField() {
			sf, f := v.Type().Field(i), v.Field(i)
			if !f.CanSet() && (sf.Anonymous || IsSecret(sf)) { // JSON shows its promoted fields
				f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
			}
			switch {
			case !f.CanSet():
			case IsSecret(sf) && f.Kind() == reflect.String && f.String() != "" && f.Type() != reflect.TypeFor[json.Number]():
				f.SetString(Placeholder)
			case IsSecret(sf):
				f.SetZero()
			default:
				r.redact(f, depth+1)
			}
		}
	}
}

// Texts returns the texts of the secret fields of v, and of every value in them, but empty
// ones. It follows no interface in an unexported field: what is there, as a context, belongs
// to others as well, who may be changing it. In a secret field it follows everything.
func Texts(v reflect.Value) []string {
	c := &collector{seen: map[visit]bool{}}
	c.collect(v, false, false, 0)
	return c.texts
}

type collector struct {
	texts []string
	seen  map[visit]bool
}

// visit is how a reference was followed: what is looked at there depends on it.
type visit struct {
	reference
	secret, unexported bool
}

// collect does it for v, which is at a depth in the value, in a secret field or not, in an
// unexported one or not.
func (c *collector) collect(v reflect.Value, secret, unexported bool, depth int) {
	if depth > maxDepth || !v.IsValid() {
		return
	}
	if !secret && (!MayHoldSecrets(v.Type()) || unexported && !hasSecrets(v.Type())) {
		return
	}
	if ref, ok := referenceOf(v); ok {
		way := visit{ref, secret, unexported}
		if c.seen[way] {
			return
		}
		c.seen[way] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		c.collect(v.Elem(), secret, unexported, depth+1)
	case reflect.Slice, reflect.Array:
		if secret && v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Len() > 0 {
				c.texts = append(c.texts, string(v.Bytes()))
			}
			return
		}
		for i := range v.Len() {
			c.collect(v.Index(i), secret, unexported, depth+1)
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			c.collect(iter.Key(), secret, unexported, depth+1)
			c.collect(iter.Value(), secret, unexported, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			sf := v.Type().Field(i)
			c.collect(v.Field(i), secret || IsSecret(sf), unexported || !sf.IsExported() && !sf.Anonymous, depth+1)
		}
	default:
		if secret && !v.IsZero() {
			c.texts = append(c.texts, fmt.Sprint(v))
		}
	}
}
