package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pgcmd/pgcmd/internal/problem"
)

// checkJSON checks that data is one JSON value, in UTF-8, and not nested too deep.
func checkJSON(data []byte) *problem.Problem {
	if !utf8.Valid(data) {
		return jsonProblem("the input is not valid UTF-8")
	}
	if at := tooDeep(data); at >= 0 {
		return jsonProblem("the input is nested more than %d deep, at byte %d", maxDepth, at)
	}
	if !json.Valid(data) {
		return syntaxProblem(data)
	}
	if at := loneSurrogate(data); at >= 0 {
		return jsonProblem("the input has half of a surrogate pair at byte %d: write both halves, or the character", at)
	}
	return nil
}

func jsonProblem(format string, args ...any) *problem.Problem {
	return &problem.Problem{Rule: "json", Message: fmt.Sprintf(format, args...)}
}

// syntaxProblem says where data, which is not a JSON value, is wrong.
func syntaxProblem(data []byte) *problem.Problem {
	dec := json.NewDecoder(bytes.NewReader(data))
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
			return jsonProblem("the input is not JSON, at byte %d", syntax.Offset)
		}
		return jsonProblem("the input is not JSON: it ends too early")
	}
	rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n")
	return jsonProblem("the input has more after its value, at byte %d: send one JSON value", len(data)-len(rest)+1)
}

// countElements counts the elements of each array in well-formed data that is not nested
// too deep, in the order in which the arrays start.
func countElements(data []byte) []uint32 {
	arrays := bytes.Count(data, []byte("["))
	if arrays == 0 {
		return nil
	}
	counts := make([]uint32, 0, arrays)
	var within [maxDepth + 1]int // the index of the array at each depth, -1 for an object
	depth := 0
	within[0] = -1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '[':
			depth++
			within[depth] = len(counts)
			counts = append(counts, 1)
			if next := bytes.TrimLeft(data[i+1:min(len(data), i+64)], " \t\r\n"); len(next) > 0 && next[0] == ']' {
				counts[len(counts)-1] = 0 // after 64 bytes of white space it is 1, which only costs memory
			}
		case '{':
			depth++
			within[depth] = -1
		case ']', '}':
			depth--
		case ',':
			if at := within[depth]; at >= 0 {
				counts[at]++
			}
		}
	}
	return counts
}

// tooDeep returns where data is nested too deep, counted from 1, or -1. The data may be
// malformed.
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

// loneSurrogate returns where a \u escape is half of a surrogate pair, counted from 1, or
// -1. encoding/json would replace it.
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

// elements reads an array. It calls each for every element, with its index and how many
// there are; each must read the element. It returns how many were read.
func (d *decoder) elements(each func(i, count int)) (n int) {
	count := int(d.counts[d.array])
	d.array++
	d.next()
	d.at++
	for d.next() != ']' {
		if d.data[d.at] == ',' {
			d.at++
		}
		if !d.mayContinue() {
			return n
		}
		each(n, count)
		n++
		if d.stopped {
			return n
		}
	}
	d.at++
	return n
}

// object reads an object. It calls each for every value, with the JSON of its name; each
// must read the value.
func (d *decoder) object(each func(i int, name []byte)) {
	d.next()
	d.at++
	for i := 0; d.next() != '}'; i++ {
		if d.data[d.at] == ',' {
			d.at++
		}
		d.next()
		name := d.skip(nil)
		d.next()
		d.at++ // the colon
		if !d.mayContinue() {
			return
		}
		each(i, name)
		if d.stopped {
			return
		}
	}
	d.at++
}

// text reads a string.
func (d *decoder) text() string { return nameOf(d.skip(nil)) }

// nameOf returns the string that raw, a well-formed JSON string, stands for.
func nameOf(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var text string
	_ = json.Unmarshal(raw, &text)
	return text
}

// skip reads a value and returns its JSON, which is incomplete if reading stopped. It also
// reports duplicate names, because the JSON may be passed on to an UnmarshalJSON method.
func (d *decoder) skip(p *problem.Path) []byte {
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
		at := &problem.Path{Outer: p}
		d.elements(func(i, _ int) {
			at.Index = i
			d.skip(at)
		})
	case '{':
		at := &problem.Path{Outer: p, Name: "[key]"}
		seen := nameSet{d: d, from: len(d.names)}
		d.object(func(_ int, name []byte) {
			if d.skip(at); seen.add(name) {
				d.problem(at, "duplicate", "is given twice: give it once")
			}
		})
		d.names = d.names[:seen.from]
	default:
		for d.at < len(d.data) && strings.IndexByte(" \t\r\n,]}", d.data[d.at]) < 0 {
			d.at++
		}
	}
	return d.data[start:d.at]
}

// A nameSet holds the names of one object: a few in the decoder's list, many in a map.
type nameSet struct {
	d    *decoder
	from int // the index of the first in the list
	many map[string]struct{}
}

// add adds a name and reports whether it was already there.
func (s *nameSet) add(raw []byte) (again bool) {
	const few = 16
	name := raw[1 : len(raw)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(nameOf(raw))
	}
	if s.many == nil {
		list := s.d.names[s.from:]
		if slices.ContainsFunc(list, func(other []byte) bool { return bytes.Equal(other, name) }) {
			return true
		}
		if len(list) < few {
			s.d.names = append(s.d.names, name)
			return false
		}
		s.many = make(map[string]struct{}, 2*few)
		for _, other := range list {
			s.many[string(other)] = struct{}{}
		}
	}
	before := len(s.many)
	s.many[string(name)] = struct{}{}
	return len(s.many) == before
}
