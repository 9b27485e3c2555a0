package scaffold

import (
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// An item is a part of a list in SQL, from one byte to another.
type item struct {
	start, end int
	star       bool   // it is * or table.*
	qualifier  string // of a star, as written: "table."; empty for *
	toks       []sqltext.Token
}

// resultList finds the items of the SQL that are the columns of its result: the list of the SELECT, or what RETURNING
// returns. combined says that other lists have to have as many, in a UNION. There are none where it is not clear which
// they are.
func resultList(sql string, toks []sqltext.Token) (items []item, combined bool) {
	first, end := mainList(toks)
	if first < 0 {
		return nil, false
	}
	depth := 0
	for i := end; i < len(toks); i++ {
		depth += nesting(toks[i])
		if depth == 0 && slices.Contains([]string{"union", "intersect", "except"}, toks[i].Word) {
			combined = true
		}
	}
	for _, part := range split(toks[first:end]) {
		if len(part) == 0 {
			return nil, false
		}
		last := part[len(part)-1]
		it := item{start: part[0].Start, end: last.End, toks: part}
		if sql[last.Start:last.End] == "*" && (len(part) == 1 || part[len(part)-2].Char == '.') {
			it.star, it.qualifier = true, sql[it.start:last.Start]
		}
		items = append(items, it)
	}
	return items, combined
}

func nesting(t sqltext.Token) int {
	switch t.Char {
	case '(', '[':
		return 1
	case ')', ']':
		return -1
	}
	return 0
}

// split splits tokens at the commas that are in no parentheses.
func split(toks []sqltext.Token) (parts [][]sqltext.Token) {
	depth, from := 0, 0
	for i, t := range toks {
		depth += nesting(t)
		if depth == 0 && t.Char == ',' {
			parts = append(parts, toks[from:i])
			from = i + 1
		}
	}
	return append(parts, toks[from:])
}

// mainVerb returns the index of the verb of the statement, after its WITH; -1 if it is not clear.
func mainVerb(toks []sqltext.Token) int {
	depth := 0
	for i, t := range toks {
		depth += nesting(t)
		if depth == 0 && slices.Contains([]string{"select", "insert", "update", "delete", "merge"}, t.Word) {
			return i
		}
		if depth == 0 && i == 0 && t.Word != "with" {
			return -1
		}
	}
	return -1
}

// mainList returns the tokens from and up to which the list of the result goes.
func mainList(toks []sqltext.Token) (from, to int) {
	verb := mainVerb(toks)
	if verb < 0 {
		return -1, 0
	}
	depth := 0
	if toks[verb].Word != "select" {
		for i := verb; i < len(toks); i++ {
			depth += nesting(toks[i])
			if depth == 0 && toks[i].Word == "returning" && i+1 < len(toks) {
				if toks[i+1].Word == "with" { // old and new under other names
					return -1, 0
				}
				return i + 1, len(toks)
			}
		}
		return -1, 0
	}
	from = verb + 1
	if from < len(toks) && toks[from].Word == "all" {
		from++
	} else if from < len(toks) && toks[from].Word == "distinct" {
		if from++; from+1 < len(toks) && toks[from].Word == "on" && toks[from+1].Char == '(' {
			for from++; from < len(toks); from++ {
				if depth += nesting(toks[from]); depth == 0 {
					from++
					break
				}
			}
		}
	}
	depth = 0
	for to = from; to < len(toks); to++ {
		depth += nesting(toks[to])
		if depth < 0 {
			break
		}
		if depth > 0 || to > from && toks[to-1].Word == "as" {
			continue
		}
		switch toks[to].Word {
		case "from":
			if to > from && toks[to-1].Word == "distinct" { // is distinct from
				continue
			}
			return from, to
		case "into", "where", "group", "having", "window", "order", "limit", "offset", "fetch", "for", "union", "intersect", "except":
			return from, to
		}
	}
	return from, to
}

// fromNames returns the names by which a SELECT knows what is in its FROM, as written; nil if that is not clear.
func fromNames(sql string, toks []sqltext.Token) (found []string) {
	from, at := mainList(toks)
	if from < 0 || at >= len(toks) || toks[at].Word != "from" {
		return nil
	}
	joins := []string{"join", "left", "right", "full", "inner", "cross", "natural", "outer", "on", "using", "tablesample", "with"}
	ends := []string{"where", "group", "having", "window", "order", "limit", "offset", "fetch", "for", "union", "intersect", "except"}
	begins, depth := true, 0
	for at++; at < len(toks); at++ {
		t := toks[at]
		if depth == 0 && slices.Contains(ends, t.Word) {
			break
		}
		if begins && !slices.Contains([]string{"lateral", "only"}, t.Word) {
			name := t
			for at+2 < len(toks) && toks[at+1].Char == '.' {
				at += 2
				name = toks[at]
			}
			next := at + 1
			if t.Char == '(' || next < len(toks) && toks[next].Char == '(' { // a subquery, or a function
				if t.Char == '(' {
					next = at
				}
				for level := 0; next < len(toks); next++ {
					if level += nesting(toks[next]); level == 0 {
						next++
						break
					}
				}
			}
			if next < len(toks) && toks[next].Word == "as" {
				next++
			}
			if next < len(toks) && toks[next].Char == 0 && !toks[next].Param && !slices.Contains(joins, toks[next].Word) && !slices.Contains(ends, toks[next].Word) {
				name = toks[next]
			} else {
				next--
			}
			found = append(found, sql[name.Start:name.End])
			begins, at = false, next
			continue
		}
		depth += nesting(t)
		if depth == 0 && (t.Char == ',' || t.Word == "join") {
			begins = true
		}
	}
	return found
}

// insertTarget returns the columns that an INSERT names, as written, and the items of the rows or of the SELECT that
// fill them, with the tokens of its table's name. ok is false for any other statement.
func insertTarget(toks []sqltext.Token) (table []sqltext.Token, columns []sqltext.Token, rows [][][]sqltext.Token, ok bool) {
	verb := mainVerb(toks)
	if verb < 0 || toks[verb].Word != "insert" || verb+1 >= len(toks) || toks[verb+1].Word != "into" {
		return nil, nil, nil, false
	}
	at := verb + 2
	for at < len(toks) && toks[at].Char != '(' && !slices.Contains([]string{"as", "values", "select", "default", "overriding", "with"}, toks[at].Word) {
		table = append(table, toks[at])
		at++
	}
	if at < len(toks) && toks[at].Word == "as" {
		at += 2
	}
	if at >= len(toks) || toks[at].Char != '(' {
		return nil, nil, nil, false
	}
	for at++; at < len(toks) && toks[at].Char != ')'; at++ {
		if toks[at].Char != ',' {
			columns = append(columns, toks[at])
		}
	}
	if at++; at < len(toks) && toks[at].Word == "overriding" {
		at += 3
	}
	switch {
	case at < len(toks) && toks[at].Word == "values":
		for at++; at < len(toks) && toks[at].Char == '('; {
			open, depth := at, 0
			for ; at < len(toks); at++ {
				if depth += nesting(toks[at]); depth == 0 {
					break
				}
			}
			if at >= len(toks) {
				return nil, nil, nil, false
			}
			rows = append(rows, split(toks[open+1:at]))
			if at++; at < len(toks) && toks[at].Char == ',' {
				at++
			}
		}
	case at < len(toks) && toks[at].Word == "select":
		if from, to := mainList(toks[at:]); from >= 0 {
			rows = append(rows, split(toks[at+from:at+to]))
		}
	}
	return table, columns, rows, true
}

// spansLines reports whether a literal or a quoted identifier goes over several lines, so that the SQL cannot be indented.
func spansLines(sql string) bool {
	toks, err := sqltext.Lex(sql)
	return err != nil || slices.ContainsFunc(toks, func(t sqltext.Token) bool { return strings.Contains(sql[t.Start:t.End], "\n") })
}
