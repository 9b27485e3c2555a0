package sqltext

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

// functionsText names the functions of PostgreSQL 13 to 18 that change nothing, one a line: those of which every
// overload is immutable or stable, and some that are volatile. TestFunctionsAgainstPostgres compares it with a server,
// and says of each exception why it is one.
//
//go:embed functions.txt
var functionsText string

var functions = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	for name := range strings.FieldsSeq(functionsText) {
		known[name] = true
	}
	return known
})

// ChangesNothing reports whether PostgreSQL has a function of the name, and each of that name is known to change nothing.
func ChangesNothing(name string) bool { return functions()[name] }

// syntax are the keywords that a parenthesis can follow and that cannot name a function: those that are reserved, and
// those of expressions and types that have a grammar of their own. The exceptions are JOIN and ILIKE, which a function
// would have to be called by intent.
var syntax = keywords(`all and any array as asymmetric between both case cast coalesce current_time current_timestamp distinct
	else except exists extract from greatest group grouping having ilike in intersect join json json_array json_arrayagg
	json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value lateral leading
	least limit localtime localtimestamp merge_action normalize not nullif offset on only or overlay position returning
	row select some substring symmetric then trailing treat trim union using values variadic when where with
	xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
	bit char character dec decimal float interval nchar numeric time timestamp varchar`)

// pairs are keywords that a parenthesis can follow, by the keywords before which each is one and not the name of a
// function.
var pairs = map[string][]string{
	"by":           {"group", "order", "partition"},
	"conflict":     {"on"},
	"first":        {"fetch"},
	"insert":       {"then"},
	"materialized": {"as", "not"},
	"next":         {"fetch"},
	"sets":         {"grouping"},
	"varying":      {"bit", "char", "character", "nchar"},
	"zone":         {"time"},
}

func keywords(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// changesNothing reports whether a statement is a query that changes nothing, as far as its text tells: it locks no
// rows, stores none, and calls no functions but those of PostgreSQL that are known to change nothing. The text does not
// tell what a view, a rule, a policy, an operator or a cast executes, that a column is the call of a function (t.f is
// f(t)), and that a schema of the database has a function of the same name whose parameters fit better.
func changesNothing(sql string, toks []token) bool {
	return storesNothing(toks) && !locks(toks) && callsKnown(sql, toks, false)
}

// storesNothing reports whether a statement is a query that plainly stores nothing.
func storesNothing(toks []token) bool {
	first := slices.IndexFunc(toks, func(t token) bool { return t.kind != '(' })
	return first >= 0 && toks[first].is("select", "values", "table", "with") && !writes(toks) &&
		!slices.ContainsFunc(toks, func(t token) bool { return t.is("into") })
}

// changesOnlyRows reports whether a statement that returns no row has changed nothing if its command tag counts none, as
// far as its text tells: see changesNothing. Locks end with the transaction, and what a sequence counts stays counted
// whatever becomes of it.
func changesOnlyRows(sql string, toks []token) bool {
	if storesNothing(toks) {
		return callsKnown(sql, toks, true)
	}
	main := toks
	if len(toks) > 0 && toks[0].is("with") {
		var before bool
		if main, before = splitWith(toks[1:]); before {
			return false
		}
	}
	return len(main) > 0 && main[0].is("insert", "update", "delete", "merge") && callsKnown(sql, toks, true)
}

// locks reports whether a query locks the rows that it reads.
func locks(toks []token) bool {
	for i := 1; i < len(toks); i++ {
		if toks[i-1].is("for") && toks[i].is("update", "share", "no", "key") {
			return true
		}
	}
	return false
}

// callsKnown reports whether every call in a statement is of a function of PostgreSQL that is known to change nothing,
// or, with sequences, of nextval.
func callsKnown(sql string, toks []token, sequences bool) bool {
	c := calls{sql: sql, toks: toks, match: make([]int, len(toks))}
	var open []int
	for i, t := range toks {
		switch {
		case t.kind == '(':
			open = append(open, i)
		case t.kind == ')' && len(open) > 0:
			begin := open[len(open)-1]
			open = open[:len(open)-1]
			c.match[begin], c.match[i] = i, begin
		case t.kind == ')', t.is("uescape"): // U&"..." uescape '!' may be any name
			return false
		}
	}
	if len(open) > 0 {
		return false
	}
	for i, t := range toks {
		if t.kind == '(' && i > 0 && c.isName(i-1) && !c.isKnown(i, sequences) {
			return false
		}
	}
	return true
}

// calls looks at what is before the parentheses of a statement.
type calls struct {
	sql   string
	toks  []token
	match []int // the index of the parenthesis that matches the one at an index
}

// at is the token at i; the zero token if there is none.
func (c *calls) at(i int) token {
	if i < 0 || i >= len(c.toks) {
		return token{}
	}
	return c.toks[i]
}

// isName reports whether the token at i is an identifier or a keyword.
func (c *calls) isName(i int) bool {
	t := c.at(i)
	return t.kind == word || t.kind == other && c.sql[t.start] == '"'
}

// isKnown reports whether the parenthesis at i, which a name is before, does not call a function that may change something.
func (c *calls) isKnown(i int, sequences bool) bool {
	begin, parts := i-1, 1
	for c.at(begin-1).kind == '.' {
		if begin -= 2; !c.isName(begin) {
			return false
		}
		parts++
	}
	named, before := c.at(i-1), c.at(begin-1)
	switch {
	case parts == 1 && named.is("operator"):
		return c.at(i + 1).is("pg_catalog")
	case before.is("as", "ordinality", "into"), c.isCast(begin - 1), c.endsOperand(begin - 1),
		(before.is("with", "recursive") || before.kind == ',') && c.isCTE(i):
		return true // a type, a table, or what a table and its columns are called
	case before.is("tablesample"):
		return parts == 1 && named.is("bernoulli", "system")
	}
	schema := ""
	if parts > 1 {
		schema = c.name(begin)
	}
	if parts > 2 || parts == 2 && schema != "pg_catalog" {
		return false
	}
	if parts == 1 && named.kind == word {
		switch {
		case syntax[named.word], slices.Contains(pairs[named.word], before.word) && before.kind == word:
			return true
		case named.is("cube", "rollup") && before.is("by") && c.at(begin-2).is("group"):
			return true
		}
	}
	name := c.name(i - 1)
	return functions()[name] || sequences && name == "nextval"
}

// name is the identifier at i, as PostgreSQL keeps it.
func (c *calls) name(i int) string {
	t := c.toks[i]
	if t.kind == word {
		return t.word
	}
	return strings.ReplaceAll(c.sql[t.start+1:t.end-1], `""`, `"`)
}

// isCast reports whether the token at i ends ::, after which comes a type.
func (c *calls) isCast(i int) bool {
	return c.at(i).kind == ':' && c.at(i-1).kind == ':' && c.at(i-1).end == c.at(i).start
}

// endsOperand reports whether the token at i surely ends an expression or a table, so that what comes next calls
// nothing: it names the columns of a table, as in generate_series(1, 3) t(n), or is a keyword such as OVER. Only the
// parentheses of DISTINCT ON and OPERATOR do not.
func (c *calls) endsOperand(i int) bool {
	switch t := c.at(i); t.kind {
	case ')':
		return !c.at(c.match[i]-1).is("on", "operator")
	case ']', parameter, placeholder:
		return true
	case other:
		b := c.sql[t.start]
		return isDigit(b) || strings.IndexByte(`'"$eE`, b) >= 0
	case word:
		return c.at(i-1).kind == '.'
	}
	return false
}

// isCTE reports whether the parenthesis at i is that of the columns of a common table expression, as in
// with t (a, b) as (select. The columns of a function, as in f(x) as (a int), have names that are no such keywords.
func (c *calls) isCTE(i int) bool {
	i = c.match[i] + 1
	if !c.at(i).is("as") {
		return false
	}
	for i++; c.at(i).is("not", "materialized"); i++ {
	}
	body := c.at(i + 1)
	return c.at(i).kind == '(' && (body.kind == '(' || body.is("select", "with", "table") || body.is("values") && c.at(i+2).kind == '(')
}
