// Package pgtree reads the text in which PostgreSQL stores its node trees: query trees in
// pg_proc.prosqlbody and pg_rewrite.ev_action, expressions in pg_node_tree columns. It keeps
// every node by its name and every field by its name, and knows the meaning of none, so that
// one reader serves all versions: a field that a version lacks is absent, and a node that a
// reader does not expect has a name that it does not know.
package pgtree

import (
	"fmt"
	"strconv"
	"strings"
)

// A Node is a node of a tree. A nil Node has no fields.
type Node struct {
	Tag    string // as PostgreSQL 18 writes it: QUERY, VAR, OPEXPR
	fields []field
}

// A field is a name and one value, or more of a datum.
type field struct {
	name  string
	value value
}

// A value is one of these.
type value struct {
	kind  kind
	token string  // of an atom, as it is written
	node  *Node   // of a node
	items []value // of a list, and of a datum: its length, and its bytes
}

type kind int

const (
	null  kind = iota // <>
	atom              // a token
	node              // {...}
	list              // (...)
	datum             // 4 [ 1 0 0 0 ]
)

// renamed are the nodes that older versions write by another name.
var renamed = map[string]string{"RTE": "RANGETBLENTRY", "ARRAY": "ARRAYEXPR", "CASE": "CASEEXPR", "WHEN": "CASEWHEN",
	"COALESCE": "COALESCEEXPR", "MINMAX": "MINMAXEXPR", "ROW": "ROWEXPR", "ROWCOMPARE": "ROWCOMPAREEXPR", "COLLATE": "COLLATEEXPR"}

// maxDepth is how deep nodes and lists may be within each other. PostgreSQL's own limit is
// lower: max_stack_depth.
const maxDepth = 10000

// Parse reads a text of one value and returns its nodes: those of a list, of lists in a
// list, or the only one. An empty text has none.
func Parse(text string) ([]*Node, error) {
	r := &reader{text: text}
	var nodes []*Node
	for {
		r.space()
		if r.at == len(r.text) {
			return nodes, nil
		}
		v, err := r.value(0)
		if err != nil {
			return nil, err
		}
		nodes = v.appendNodes(nodes)
	}
}

func (v value) appendNodes(nodes []*Node) []*Node {
	if v.kind == node {
		return append(nodes, v.node)
	}
	for _, item := range v.items {
		nodes = item.appendNodes(nodes)
	}
	return nodes
}

type reader struct {
	text string
	at   int
}

func (r *reader) fail(why string) error {
	return fmt.Errorf("the node tree cannot be read at byte %d: %s", r.at+1, why)
}

func (r *reader) space() {
	for r.at < len(r.text) && strings.IndexByte(" \n\t\r", r.text[r.at]) >= 0 {
		r.at++
	}
}

// token reads up to a space or a parenthesis. A backslash takes the meaning from what follows it.
func (r *reader) token() string {
	start := r.at
	for r.at < len(r.text) && strings.IndexByte(" \n\t\r(){}", r.text[r.at]) < 0 {
		if r.text[r.at] == '\\' && r.at+1 < len(r.text) {
			r.at++
		}
		r.at++
	}
	return r.text[start:r.at]
}

func (r *reader) value(depth int) (v value, err error) {
	r.space()
	switch {
	case r.at == len(r.text):
		return v, r.fail("it ends where a value has to come")
	case depth > maxDepth:
		return v, r.fail("it is too deep")
	}
	switch r.text[r.at] {
	case '{':
		v.kind = node
		v.node, err = r.node(depth)
		return v, err
	case '(':
		r.at++
		v.kind = list
		for {
			if r.space(); r.at == len(r.text) {
				return v, r.fail("a list does not end")
			}
			if r.text[r.at] == ')' {
				r.at++
				return v, nil
			}
			item, err := r.value(depth + 1)
			if err != nil {
				return v, err
			}
			v.items = append(v.items, item)
		}
	case ')', '}':
		return v, r.fail("a value has to come")
	}
	if v.token = r.token(); v.token != "<>" {
		v.kind = atom
	}
	return v, nil
}

func (r *reader) node(depth int) (*Node, error) {
	r.at++
	r.space()
	n := &Node{Tag: r.token()}
	if name, ok := renamed[n.Tag]; ok {
		n.Tag = name
	}
	if n.Tag == "" {
		return nil, r.fail("a node has no name")
	}
	for {
		if r.space(); r.at == len(r.text) {
			return nil, r.fail("a node does not end")
		}
		switch r.text[r.at] {
		case '}':
			r.at++
			return n, nil
		case ':':
		default:
			return nil, r.fail("a field has to come")
		}
		f := field{name: r.token()[1:]}
		var err error
		if f.value, err = r.value(depth + 1); err != nil {
			return nil, err
		}
		// Whatever follows the value is of a datum, up to the next field.
		for {
			r.space()
			if r.at == len(r.text) || r.text[r.at] == ':' || r.text[r.at] == '}' {
				break
			}
			more, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			if f.value.kind != datum {
				f.value = value{kind: datum, items: []value{f.value}}
			}
			f.value.items = append(f.value.items, more)
		}
		n.fields = append(n.fields, f)
	}
}

func (n *Node) find(name string) (value, bool) {
	if n == nil {
		return value{}, false
	}
	for i := range n.fields {
		if n.fields[i].name == name {
			return n.fields[i].value, true
		}
	}
	return value{}, false
}

// Has reports whether the node has the field, be it null.
func (n *Node) Has(name string) bool {
	_, ok := n.find(name)
	return ok
}

// Is reports whether the node has one of these names.
func (n *Node) Is(tags ...string) bool {
	if n == nil {
		return false
	}
	for _, tag := range tags {
		if n.Tag == tag {
			return true
		}
	}
	return false
}

// Text returns the text of a field; ok is false if it is absent, null or no text.
func (n *Node) Text(name string) (text string, ok bool) {
	v, _ := n.find(name)
	return unescape(v.token), v.kind == atom
}

// Int returns a field that is a number; ok is false if it is absent or none.
func (n *Node) Int(name string) (i int, ok bool) {
	v, _ := n.find(name)
	if v.kind != atom {
		return 0, false
	}
	i, err := strconv.Atoi(v.token)
	return i, err == nil
}

// OID returns a field that is an object id; zero if it is absent or none.
func (n *Node) OID(name string) uint32 {
	v, _ := n.find(name)
	if v.kind != atom {
		return 0
	}
	oid, _ := strconv.ParseUint(v.token, 10, 32)
	return uint32(oid)
}

// Bool returns a field that is true or false; ok is false if it is absent or neither.
func (n *Node) Bool(name string) (b, ok bool) {
	v, _ := n.find(name)
	return v.token == "true", v.kind == atom && (v.token == "true" || v.token == "false")
}

// Node returns a field that is a node, or nil.
func (n *Node) Node(name string) *Node {
	v, _ := n.find(name)
	return v.node
}

// List returns the nodes of a field that is a list, with nil for null, and ok is false if the
// field is absent, or is neither a list of nodes nor null.
func (n *Node) List(name string) (nodes []*Node, ok bool) {
	v, found := n.find(name)
	if v.kind != list {
		return nil, found && v.kind == null
	}
	for _, item := range v.items {
		if item.kind != node && item.kind != null {
			return nil, false
		}
		nodes = append(nodes, item.node)
	}
	return nodes, true
}

// Lists returns the nodes of a field that is a list of lists of nodes.
func (n *Node) Lists(name string) (lists [][]*Node, ok bool) {
	v, found := n.find(name)
	if v.kind != list {
		return nil, found && v.kind == null
	}
	for _, item := range v.items {
		inner, ok := (&Node{fields: []field{{"", item}}}).List("")
		if !ok {
			return nil, false
		}
		lists = append(lists, inner)
	}
	return lists, true
}

// Ints returns the numbers of a field that is a list or a set of numbers: (i 1 2), (o 1 2), (b 1 2).
func (n *Node) Ints(name string) (ints []int, ok bool) {
	v, found := n.find(name)
	if v.kind != list {
		return nil, found && v.kind == null
	}
	for i, item := range v.items {
		if i == 0 && (item.token == "i" || item.token == "o" || item.token == "b") {
			continue
		}
		number, err := strconv.Atoi(item.token)
		if err != nil {
			return nil, false
		}
		ints = append(ints, number)
	}
	return ints, true
}

// Texts returns the texts of a field that is a list of strings: ("id" "name").
func (n *Node) Texts(name string) (texts []string, ok bool) {
	v, found := n.find(name)
	if v.kind != list {
		return nil, found && v.kind == null
	}
	for _, item := range v.items {
		if item.kind != atom || len(item.token) < 2 || item.token[0] != '"' {
			return nil, false
		}
		texts = append(texts, unescape(item.token[1:len(item.token)-1]))
	}
	return texts, true
}

// Datum returns the bytes of a field that is a value of a type, as the server has them in memory.
func (n *Node) Datum(name string) (bytes []byte, ok bool) {
	v, _ := n.find(name)
	if v.kind != datum || len(v.items) < 3 || v.items[1].token != "[" || v.items[len(v.items)-1].token != "]" {
		return nil, false
	}
	for _, item := range v.items[2 : len(v.items)-1] {
		b, err := strconv.Atoi(item.token)
		if err != nil || b < -128 || b > 255 {
			return nil, false
		}
		bytes = append(bytes, byte(b))
	}
	return bytes, true
}

// Walk calls f for the node and every node below it, until f returns false, which leaves out
// what is below.
func (n *Node) Walk(f func(*Node) bool) {
	if n == nil || !f(n) {
		return
	}
	for i := range n.fields {
		n.fields[i].value.walk(f)
	}
}

func (v value) walk(f func(*Node) bool) {
	v.node.Walk(f)
	for _, item := range v.items {
		item.walk(f)
	}
}

// Children calls f for every node that a field of the node holds, also in lists.
func (n *Node) Children(f func(field string, child *Node)) {
	if n == nil {
		return
	}
	for i := range n.fields {
		n.fields[i].value.children(n.fields[i].name, f)
	}
}

func (v value) children(field string, f func(field string, child *Node)) {
	if v.kind == node {
		f(field, v.node)
	}
	for _, item := range v.items {
		item.children(field, f)
	}
}

// ignored are fields that do not tell nodes apart: where in the text a node was, by which name
// it was called, and which outer joins are below it.
func ignored(field string) bool {
	switch field {
	case "varnullingrels", "varnosyn", "varattnosyn", "location":
		return true
	}
	return strings.HasSuffix(field, "_location")
}

// Equal reports whether two nodes mean the same in one query.
func Equal(a, b *Node) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	if a.Tag != b.Tag || len(a.fields) != len(b.fields) {
		return false
	}
	for i := range a.fields {
		if a.fields[i].name != b.fields[i].name || !ignored(a.fields[i].name) && !equal(a.fields[i].value, b.fields[i].value) {
			return false
		}
	}
	return true
}

func equal(a, b value) bool {
	if a.kind != b.kind || a.token != b.token || len(a.items) != len(b.items) {
		return false
	}
	for i := range a.items {
		if !equal(a.items[i], b.items[i]) {
			return false
		}
	}
	return Equal(a.node, b.node)
}

func unescape(token string) string {
	if strings.IndexByte(token, '\\') < 0 {
		return token
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] == '\\' && i+1 < len(token) {
			i++
		}
		b.WriteByte(token[i])
	}
	return b.String()
}
