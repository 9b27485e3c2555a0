package sqltext

import "strings"

// A Table is a relation that a statement names.
type Table struct {
	Schema string // empty if the statement leaves it to the search_path
	Name   string // as PostgreSQL keeps it: in lower case, unless it was quoted
	Verb   string // insert, update, delete or merge; empty if the statement reads it
	Outer  bool   // an outer join makes its columns NULL where nothing matches
}

// Tables lists the relations that a statement reads and writes, in the order of the text and as often as it names
// them. It looks at keywords alone: it can miss one, and a name that it gives may be that of no relation.
func Tables(sql string) []Table {
	toks, err := tokens(sql)
	if err != nil {
		return nil
	}
	l := lister{sql: sql, toks: toks, named: expressions(sql, toks)}
	levels := []level{{}}
	for i := 0; i < len(toks); i++ {
		top := &levels[len(levels)-1]
		switch t := toks[i]; t.kind {
		case '(':
			outer := top.item && top.outer
			inner := level{item: top.item, outer: outer, within: outer, first: len(l.found)}
			top.item = false
			levels = append(levels, inner)
		case ')':
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case ',':
			top.item, top.outer = top.list, top.within
		case word:
			i = l.word(i, top)
		default:
			if top.item {
				top.item = false
				i = l.table(i, "", top.outer)
			}
		}
	}
	return l.found
}

// A level is what is known within one pair of parentheses.
type level struct {
	statement bool // one has begun: a FROM is the statement's, and not that of extract(day from d)
	list      bool // it is in a FROM list, whose items commas separate
	item      bool // an item of the list comes next
	outer     bool // that item may have no match
	within    bool // all of it is such an item
	first     int  // how many tables were found before the list
}

type lister struct {
	sql   string
	toks  []token
	named map[string]bool // the names of common table expressions
	found []Table
}

// word looks at the word at i, and returns the last token that it has used.
func (l *lister) word(i int, at *level) int {
	var prev, next token
	if i > 0 {
		prev = l.toks[i-1]
	}
	if i+1 < len(l.toks) {
		next = l.toks[i+1]
	}
	switch t := l.toks[i]; {
	case t.is("select"):
		*at = level{statement: true, within: at.outer, first: len(l.found)}
	case t.is("insert", "delete", "merge"):
		at.statement = true
	case t.is("into") && prev.is("insert", "merge"):
		return l.table(i+1, prev.word, false)
	case t.is("from") && prev.is("delete"):
		return l.table(i+1, prev.word, false)
	case t.is("from") && !prev.is("distinct") && at.statement:
		at.list, at.item, at.outer, at.first = true, true, at.within, len(l.found)
	case t.is("update") && !prev.is("for", "key", "do", "on", "then") && !next.is("set"):
		at.statement = true
		return l.table(i+1, t.word, false)
	case t.is("join"):
		at.item, at.outer = true, l.join(i, at)
	case t.is("using") && at.statement && next.kind != '(':
		at.list, at.item = true, true
	case t.is("where", "group", "order", "having", "limit", "offset", "fetch", "for", "window", "union", "intersect",
		"except", "returning", "set", "values", "when"):
		at.list, at.item = false, false
	case at.item && !t.is("only", "lateral"):
		at.item = false
		return l.table(i, "", at.outer)
	}
	return i
}

// join reports whether what is joined at i may have no match, and marks what is
// before it, if that may have none.
func (l *lister) join(i int, at *level) bool {
	if i > 0 && l.toks[i-1].is("outer") {
		i--
	}
	if i == 0 {
		return at.within
	}
	side := l.toks[i-1]
	if side.is("right", "full") {
		for j := at.first; j < len(l.found); j++ {
			l.found[j].Outer = true
		}
	}
	return at.within || side.is("left", "full")
}

// table reads the name at i, and returns the last token of it.
func (l *lister) table(i int, verb string, outer bool) int {
	if i < len(l.toks) && l.toks[i].is("only") {
		i++
	}
	last := i - 1
	var parts []string
	for at := i; at < len(l.toks); at += 2 {
		name, ok := l.name(at)
		if !ok {
			break
		}
		parts = append(parts, name)
		last = at
		if at+1 >= len(l.toks) || l.toks[at+1].kind != '.' {
			break
		}
	}
	if len(parts) == 0 {
		return last
	}
	table := Table{Name: parts[len(parts)-1], Verb: verb, Outer: outer}
	if len(parts) > 1 {
		table.Schema = parts[len(parts)-2]
	}
	function := verb == "" && last+1 < len(l.toks) && l.toks[last+1].kind == '('
	if !function && (table.Schema != "" || !l.named[table.Name]) {
		l.found = append(l.found, table)
	}
	return last
}

func (l *lister) name(i int) (string, bool) { return name(l.sql, l.toks[i]) }

// name is the identifier that t is, as PostgreSQL keeps it.
func name(sql string, t token) (string, bool) {
	switch src := sql[t.start:t.end]; {
	case t.kind == word && !t.is("select", "from", "where", "set", "values", "with", "as", "table", "default"):
		return t.word, true
	case src[0] == '"' && len(src) > 2:
		return strings.ReplaceAll(src[1:len(src)-1], `""`, `"`), true
	}
	return "", false
}

// expressions finds the names of common table expressions: x as (select, x (a, b) as not materialized (select.
func expressions(sql string, toks []token) map[string]bool {
	named := map[string]bool{}
	for i, t := range toks {
		if !t.is("as") || i == 0 {
			continue
		}
		body := i + 1
		for body < len(toks) && toks[body].is("not", "materialized") {
			body++
		}
		for body < len(toks) && toks[body].kind == '(' {
			body++
		}
		if body == i+1 || body >= len(toks) || !toks[body].is("select", "with", "values", "table", "insert", "update", "delete", "merge") {
			continue
		}
		at := i - 1
		if toks[at].kind == ')' {
			for at > 0 && toks[at].kind != '(' {
				at--
			}
			at--
		}
		if at >= 0 {
			if n, ok := name(sql, toks[at]); ok {
				named[n] = true
			}
		}
	}
	return named
}

// Excludes reports whether a statement may well leave out the rows in which the column is NULL, by the text alone: it
// compares the column in a condition, or names it before RETURNING, so that the value is one that it writes.
func Excludes(sql, column string) bool {
	toks, err := tokens(sql)
	if err != nil {
		return true
	}
	returning := index(toks, func(i int) bool { return toks[i].is("returning") })
	condition := false
	for i, t := range toks {
		if t.is("where", "on", "having") {
			condition = true
		}
		if n, ok := name(sql, t); !ok || n != column {
			continue
		}
		if returning < len(toks) && i < returning {
			return true
		}
		if condition && (compares(sql, toks, i+1, i+2, i+3) || i > 0 && isComparison(sql, toks[i-1])) {
			return true
		}
	}
	return false
}

// compares reports whether the tokens after a column compare it, or say that it is not NULL.
func compares(sql string, toks []token, next, second, third int) bool {
	switch {
	case next >= len(toks):
		return false
	case toks[next].is("is"):
		return third < len(toks) && toks[second].is("not") && toks[third].is("null")
	}
	return toks[next].is("in", "like", "ilike", "between") || isComparison(sql, toks[next])
}

func isComparison(sql string, t token) bool {
	return t.kind == other && strings.IndexByte("=<>~@&|", sql[t.start]) >= 0
}
