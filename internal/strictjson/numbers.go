package strictjson

import (
	"bytes"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/pgcmd/pgcmd/internal/problem"
)

// IntegerBounds returns the least and the greatest value of an integer type.
func IntegerBounds(t reflect.Type) (low, high string) {
	if k := t.Kind(); k >= reflect.Uint && k <= reflect.Uintptr {
		return "0", strconv.FormatUint(math.MaxUint64>>(64-t.Bits()), 10)
	}
	least := int64(math.MinInt64) >> (64 - t.Bits())
	return strconv.FormatInt(least, 10), strconv.FormatInt(^least, 10)
}

// number sets v, which is of a numeric kind, to a literal.
func (d *decoder) number(v reflect.Value, literal string, p *problem.Path) {
	t := v.Type()
	if t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64 {
		f, err := strconv.ParseFloat(literal, t.Bits())
		if err != nil || f == 0 && strings.ContainsAny(mantissa(literal), "123456789") {
			d.problem(p, "range", "is out of the range of a float%d", t.Bits())
			return
		}
		v.SetFloat(f)
		return
	}
	digits, whole := wholeNumber(literal)
	var err error
	if v.CanInt() {
		var n int64
		if n, err = strconv.ParseInt(digits, 10, t.Bits()); whole && err == nil {
			v.SetInt(n)
		}
	} else {
		var n uint64
		if n, err = strconv.ParseUint(digits, 10, t.Bits()); whole && err == nil {
			v.SetUint(n)
		}
	}
	switch {
	case !whole:
		d.problem(p, "type", "%s", mustExpect(t))
	case err != nil:
		d.problem(p, "range", "%s", mustExpect(t))
	}
}

// maxExponent is the largest exponent of a number that a type decodes by its own method. It
// is larger than that of any float64. Such types keep and send every digit, and 1e-30000
// has 30,000.
const maxExponent = 400

func farExponent(literal []byte) bool {
	if strings.IndexByte("-0123456789", literal[0]) < 0 {
		return false
	}
	at := bytes.IndexAny(literal, "eE")
	if at < 0 {
		return false
	}
	exponent, _ := strconv.Atoi(string(literal[at+1:])) // the nearest int, if it does not fit
	return exponent < -maxExponent || exponent > maxExponent
}

func mantissa(literal string) string {
	if e := strings.IndexAny(literal, "eE"); e >= 0 {
		return literal[:e]
	}
	return literal
}

// wholeNumber returns a literal without fraction and exponent, if it is an integer. 1.0 and
// 1e3 are, as in JSON Schema. A literal that is far too large becomes a shorter one that is
// also too large.
func wholeNumber(literal string) (digits string, whole bool) {
	if !strings.ContainsAny(literal, ".eE") {
		if literal == "-0" {
			return "0", true
		}
		return literal, true
	}
	number := mantissa(literal)
	exponent := 0
	if len(number) < len(literal) {
		exponent, _ = strconv.Atoi(literal[len(number)+1:]) // the nearest int, if it does not fit
	}
	sign := ""
	if number[0] == '-' {
		sign, number = "-", number[1:]
	}
	before, after, _ := strings.Cut(number, ".")
	after = strings.TrimRight(after, "0")
	number = strings.TrimLeft(before+after, "0")
	if number == "" {
		return "0", true
	}
	if exponent < -len(literal) { // more decimal places than digits
		return "", false
	}
	const most = 30 // more digits than any integer has
	shift := min(exponent-len(after), most)
	if shift < 0 {
		if -shift > len(number)-len(strings.TrimRight(number, "0")) {
			return "", false
		}
		number, shift = number[:len(number)+shift], 0
	}
	return sign + number + strings.Repeat("0", shift), true
}
