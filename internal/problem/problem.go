// Package problem holds what the checks of an input report: which value is wrong, and why.
package problem

import (
	"strconv"
	"strings"
)

// A Problem is the reason why one value of an input was refused.
type Problem struct {
	Field   string // the path; empty for the input as a whole
	Rule    string
	Message string
}

// Max is how many problems of one input are reported. A check ends when it has found one
// more.
const Max = 50

// A Path is the location of a value in an input, from the inside out. It is written only
// if there is a problem.
type Path struct {
	Outer *Path
	Name  string // of a field; "[key]" for the value of a map, whose key is not shown
	Index int    // of an element, if Name is empty
}

// String returns the path as in Items[2].Qty.
func (p *Path) String() string { return string(p.append(nil)) }

func (p *Path) append(b []byte) []byte {
	if p == nil {
		return b
	}
	b = p.Outer.append(b)
	if p.Name == "" {
		b = strconv.AppendInt(append(b, '['), int64(p.Index), 10)
		return append(b, ']')
	}
	if len(b) > 0 && p.Name[0] != '[' {
		b = append(b, '.')
	}
	return append(b, p.Name...)
}

// LastName returns the last element of a path, with which a message begins.
func LastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
