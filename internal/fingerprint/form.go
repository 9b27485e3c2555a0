package fingerprint

import (
	"bytes"
	"database/sql/driver"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
)

// own makes p read the form that the type gives itself. What has the form of the
// type's zero value is left out, as that is.
func (p *Plan) own(form func(w *walk, v reflect.Value) error) {
	zero := sync.OnceValue(func() (b []byte) {
		defer func() {
			if recover() != nil { // the method is not made for it
				b = nil
			}
		}()
		w := walk{}
		if form(&w, reflect.New(p.typ).Elem()) != nil {
			return nil
		}
		return w.b
	})
	p.encode = func(w *walk, v reflect.Value) (bool, error) {
		if v.IsZero() {
			w.tag(tagZero)
			return true, nil
		}
		if err := w.enter(); err != nil {
			return false, err
		}
		defer w.leave()
		before := len(w.b)
		w.tag(tagOwn)
		if err := form(w, v); err != nil {
			return false, err
		}
		if z := zero(); z != nil && bytes.Equal(w.b[before+1:], z) {
			w.b = append(w.b[:before], tagZero)
			return true, nil
		}
		return false, nil
	}
}

// methodsOf returns v, or a pointer to it or a copy of it, as one that implements T.
func methodsOf[T any](v reflect.Value) T {
	if own, ok := v.Interface().(T); ok {
		return own
	}
	pointer := reflect.New(v.Type())
	pointer.Elem().Set(v)
	return pointer.Interface().(T)
}

func fingerprintOf(w *walk, v reflect.Value) error {
	w.text(tagString, methodsOf[fingerprinter](v).Fingerprint())
	return nil
}

func driverForm(w *walk, v reflect.Value) error {
	value, err := methodsOf[driver.Valuer](v).Value()
	if err != nil {
		return formError{"its Value method returned an error", err}
	}
	if value != nil && reflect.TypeOf(value) == v.Type() {
		return errors.New("has a Value method that returns the value itself: let it return a basic type, or add a method Fingerprint() string")
	}
	_, err = encodeInterface(w, reflect.ValueOf(&value).Elem())
	return err
}

func textForm(w *walk, v reflect.Value) error {
	text, err := methodsOf[encoding.TextMarshaler](v).MarshalText()
	if err != nil {
		return formError{"its MarshalText method returned an error", err}
	}
	w.text(tagString, string(text))
	return nil
}

func jsonForm(w *walk, v reflect.Value) error {
	text, err := methodsOf[json.Marshaler](v).MarshalJSON()
	if err != nil {
		return formError{"its MarshalJSON method returned an error", err}
	}
	return w.json(text)
}

// A formError is the error of a user's method, whose text may hold values.
type formError struct {
	what string
	err  error
}

func (e formError) Error() string { return e.what }
func (e formError) Unwrap() error { return e.err }

// encodeJSONBytes encodes bytes that are JSON, by their meaning, and others as bytes.
func encodeJSONBytes(w *walk, v reflect.Value) (bool, error) {
	if v.IsNil() {
		w.tag(tagNil)
		return true, nil
	}
	before := len(w.b)
	if err := w.json(v.Bytes()); err != nil {
		w.b = w.b[:before]
		w.text(tagBytes, string(v.Bytes()))
	}
	return false, nil
}

// json encodes what a text in JSON says.
func (w *walk) json(text []byte) error {
	if !json.Valid(text) {
		return errors.New("its MarshalJSON method returns what is not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	w.tag(tagOwn)
	return w.jsonValue(d)
}

func (w *walk) jsonValue(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case nil:
		w.tag(tagNil)
	case bool:
		w.tag(map[bool]byte{false: tagFalse, true: tagTrue}[token])
	case string:
		w.text(tagString, token)
	case json.Number:
		w.text(tagInt, decimal(string(token)))
	case json.Delim:
		if err := w.enter(); err != nil {
			return err
		}
		defer w.leave()
		if w.depth > maxJSONDepth {
			return errDeep
		}
		if token == '[' {
			w.tag(tagList)
			for d.More() {
				if err := w.jsonValue(d); err != nil {
					return err
				}
			}
			w.tag(tagEnd)
		} else if err := w.jsonObject(d); err != nil {
			return err
		}
		_, err := d.Token()
		return err
	}
	return nil
}

// maxJSONDepth bounds the objects within objects, each of which is sorted.
const maxJSONDepth = 1000

// jsonObject encodes the members of an object, sorted. One that comes twice counts twice.
func (w *walk) jsonObject(d *json.Decoder) error {
	var members [][]byte
	for d.More() {
		member := walk{depth: w.depth}
		for range 2 { // its key, its value
			if err := member.jsonValue(d); err != nil {
				return err
			}
		}
		members = append(members, member.b)
	}
	w.entries(members)
	return nil
}

// decimal is the one form that a number in JSON has for its value: its digits without
// zeros at either end, and the power of ten of the last.
func decimal(number string) string {
	digits, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	sign := ""
	if rest, negative := strings.CutPrefix(digits, "-"); negative {
		sign, digits = "-", rest
	}
	power := new(big.Int)
	if exponent != "" {
		power.SetString(strings.TrimPrefix(exponent, "+"), 10)
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	power.Sub(power, big.NewInt(int64(len(fraction))))
	digits = strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0"
	}
	power.Add(power, big.NewInt(int64(len(digits)-len(short))))
	return fmt.Sprintf("%s%se%s", sign, short, power)
}
