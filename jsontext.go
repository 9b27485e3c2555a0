package pgcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkJSON looks at data as text: is it one JSON value, in UTF-8, and not too deep.
func checkJSON(data []byte) *Problem {
	problem := func(format string, args ...any) *Problem {
		return &Problem{Rule: "json", Message: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(data) {
		return problem("the input is not valid UTF-8")
	}
	if at := tooDeep(data); at >= 0 {
		return problem("the input is nested more than %d deep, at byte %d", maxDepth, at)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
			return problem("the input is not JSON, at byte %d", syntax.Offset)
		}
		return problem("the input is not JSON: it ends too early")
	}
	if rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return problem("the input goes on after its value has ended, at byte %d", len(data)-len(rest)+1)
	}
	if at := loneSurrogate(data); at >= 0 {
		return problem("the input holds half of a surrogate pair, at byte %d", at)
	}
	return nil
}

// tooDeep returns where data is nested too deep, counted from 1, or -1. The data may
// be malformed.
func tooDeep(data []byte) int {
	depth, text := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return i + 1
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return -1
}

// loneSurrogate returns where a \u escape is half of a character, counted from 1, or
// -1: encoding/json would replace it.
func loneSurrogate(data []byte) int {
	unit := func(i int) (u uint64) {
		if i+6 <= len(data) && data[i] == '\\' && data[i+1] == 'u' {
			u, _ = strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
		}
		return u
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case u>>10 == 0xD800>>10 && unit(i+6)>>10 == 0xDC00>>10:
			i += 11
		case u>>11 == 0xD800>>11:
			return i + 1
		default:
			i++
		}
	}
	return -1
}

// array calls each at every element, which it must read, and returns how many there
// are.
func (d *decoder) array(each func(i int)) (n int) {
	d.next()
	d.at++
	for d.next() != ']' {
		if d.data[d.at] == ',' {
			d.at++
		}
		each(n)
		n++
	}
	d.at++
	return n
}

// object calls each at every value, which it must read, with its name, and whether
// that came before.
func (d *decoder) object(p *place, each func(i int, name string, again bool)) {
	seen := map[string]bool{}
	d.next()
	d.at++
	for i := 0; d.next() != '}'; i++ {
		if d.data[d.at] == ',' {
			d.at++
		}
		d.next()
		name := d.text()
		d.next()
		d.at++ // the colon
		again := seen[name]
		seen[name] = true
		each(i, name, again)
	}
	d.at++
}

// text reads a string.
func (d *decoder) text() string {
	raw := d.skip(nil)
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var text string
	_ = json.Unmarshal(raw, &text) // it is well formed
	return text
}

// skip reads a value and returns its text. That no object in it has a name twice is
// asked of what is skipped too: it may go on to somebody's UnmarshalJSON.
func (d *decoder) skip(p *place) []byte {
	first := d.next()
	start := d.at
	switch first {
	case '"':
		for d.at++; d.data[d.at] != '"'; d.at++ {
			if d.data[d.at] == '\\' {
				d.at++
			}
		}
		d.at++
	case '[':
		d.array(func(i int) { d.skip(&place{outer: p, index: i}) })
	case '{':
		at := &place{outer: p, name: "[key]"}
		d.object(p, func(_ int, _ string, again bool) {
			if d.skip(at); again {
				d.problem(at, "duplicate", "comes twice")
			}
		})
	default:
		for d.at < len(d.data) && strings.IndexByte(" \t\r\n,]}", d.data[d.at]) < 0 {
			d.at++
		}
	}
	return d.data[start:d.at]
}
