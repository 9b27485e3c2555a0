package sqltext

import "strings"

// writes reports whether a statement, or the body of a common table expression, is more than a query. Keywords tell
// only where the grammar puts a statement: count(delete) names a column.
func writes(toks []token) bool {
	for len(toks) > 0 && toks[0].kind == '(' {
		toks = toks[1:]
	}
	if len(toks) == 0 {
		return false
	}
	switch first, rest := toks[0], toks[1:]; {
	case first.is("select"):
		return selectWrites(rest)
	case first.is("with"):
		return withWrites(rest)
	case first.is("explain"):
		return explainWrites(rest)
	default:
		return !first.is("values", "table", "show")
	}
}

// selectWrites judges what follows SELECT: INTO creates a table. INTO is reserved, so that it can only be a name where
// every keyword can, after AS and after a dot.
func selectWrites(toks []token) bool {
	i := index(toks, func(i int) bool {
		return toks[i].is("into") && !(i > 0 && (toks[i-1].is("as") || toks[i-1].kind == '.'))
	})
	return i < len(toks)
}

// withWrites judges what follows WITH.
func withWrites(toks []token) bool {
	main, before := splitWith(toks)
	return before || writes(main)
}

// splitWith returns the statement behind the list of common table expressions that toks begin with, and whether one of
// these writes. AS is reserved too: in the list it only comes before a body. Of what PostgreSQL refuses there is no
// statement.
func splitWith(toks []token) (main []token, listWrites bool) {
	for {
		toks = after(toks, "as", 0)
		for len(toks) > 0 && toks[0].is("not", "materialized") {
			toks = toks[1:]
		}
		if len(toks) == 0 || toks[0].kind != '(' {
			return nil, listWrites
		}
		body, rest := parenthesized(toks)
		listWrites = listWrites || writes(body)
		if len(rest) > 0 && rest[0].is("search") { // depth first by a, b set c
			rest = after(rest, "set", 1)
		}
		if len(rest) > 0 && rest[0].is("cycle") { // a, b set c to 'y' default 'n' using d
			rest = after(rest, "using", 1)
		}
		if len(rest) == 0 || rest[0].kind != ',' {
			return rest, listWrites
		}
		toks = rest
	}
}

// explainWrites judges what follows EXPLAIN, which runs the statement only if told to analyze. That (analyze false)
// does not is not worth a rule.
func explainWrites(toks []token) bool {
	analyze := false
	if len(toks) > 1 && toks[0].kind == '(' && toks[1].kind == word && !toks[1].is("select", "values", "table", "with") {
		var options []token
		options, toks = parenthesized(toks)
		for _, t := range options {
			analyze = analyze || t.is("analyze", "analyse")
		}
	}
	for len(toks) > 0 && toks[0].is("analyze", "analyse", "verbose") {
		analyze = analyze || !toks[0].is("verbose")
		toks = toks[1:]
	}
	return analyze && writes(toks)
}

// index is the first i outside of any parentheses in toks for which f holds, or len(toks).
func index(toks []token, f func(i int) bool) int {
	depth := 0
	for i, t := range toks {
		if depth == 0 && f(i) {
			return i
		}
		switch t.kind {
		case '(':
			depth++
		case ')':
			depth--
		}
	}
	return len(toks)
}

// after is what follows the keyword, outside of parentheses, and n more tokens.
func after(toks []token, keyword string, n int) []token {
	i := index(toks, func(i int) bool { return toks[i].is(keyword) })
	return toks[min(i+1+n, len(toks)):]
}

// parenthesized splits toks, which begin with a parenthesis, into what it holds and what follows it.
func parenthesized(toks []token) (body, rest []token) {
	toks = toks[1:]
	i := index(toks, func(i int) bool { return toks[i].kind == ')' })
	return toks[:i], toks[min(i+1, len(toks)):]
}

// EndsTransaction reports whether one of the statements in sql, of which there may be several, ends a transaction.
// Of text that cannot be read it says so too.
func EndsTransaction(sql string) bool {
	toks, err := tokens(sql)
	return err != nil || ends(toks)
}

func ends(toks []token) bool {
	for i, t := range toks {
		if i > 0 && toks[i-1].kind != ';' {
			continue
		}
		rest := toks[i+1:]
		switch {
		case t.is("commit", "end", "abort"):
			return true
		case t.is("rollback"):
			if len(rest) > 0 && rest[0].is("work", "transaction") {
				rest = rest[1:]
			}
			if len(rest) == 0 || !rest[0].is("to") {
				return true
			}
		case t.is("prepare") && len(rest) > 0 && rest[0].is("transaction"):
			return true
		}
	}
	return false
}

// Atomic reports whether the statement is applied whole or not at all. One that commits
// while it runs may have done part of its work when it fails.
func (t Text) Atomic() bool {
	switch t.Verb {
	case "call", "do", "vacuum", "analyze", "analyse", "cluster", "reindex", "explain":
		return t.Reads
	case "create", "drop", "alter", "refresh":
		sql := strings.ToLower(t.SQL)
		for _, word := range [...]string{"concurrently", "database", "tablespace", "subscription", "system"} {
			if strings.Contains(sql, word) {
				return false
			}
		}
	}
	return true
}

// Analyzed reports whether the server analyzes the statement before it executes it, as it
// does not with a utility statement.
func (t Text) Analyzed() bool {
	switch t.Verb {
	case "select", "insert", "update", "delete", "merge", "with", "values", "table":
		return true
	}
	return false
}

// InsertsLiteralRows reports whether the statement inserts the rows that it spells out, so
// that it returns as many or fails.
func (t Text) InsertsLiteralRows() bool {
	sql := strings.ToLower(t.SQL)
	return t.Verb == "insert" && strings.Contains(sql, "values") &&
		!strings.Contains(sql, "conflict") && !strings.Contains(sql, "select")
}
