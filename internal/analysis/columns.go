package analysis

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// variable is what a column of a table of the query, or of one around it, can be.
func (a *analyzer) variable(e *pgtree.Node, s *scope, v env) outcome {
	values := valuesOf(e)
	table, number, up := num(e, "varno"), num(e, "varattno"), num(e, "varlevelsup")
	if table == absent || number == absent || up == absent {
		return unknown(values)
	}
	for range up {
		if s = s.parent; s == nil {
			return unknown(values)
		}
	}
	returning := 0
	if e.Has("varreturningtype") {
		returning = num(e, "varreturningtype")
	}
	if alias := s.aliased(table, number); alias != nil {
		o := a.eval(alias, s, v)
		if num(s.table(table), "rtekind") == rteGroup && s.sets && v.grouped == s {
			o.can |= isNull
		}
		return o
	}
	for _, facts := range []*fact{v.facts, s.known} {
		if f := facts.ofColumn(s, table, number); f != nil {
			// What is known is of the row before an UPDATE.
			if v.returning == s && table == s.target && f.expr == nil && facts == s.known {
				continue
			}
			if s.sets && v.grouped == s && facts == s.known {
				continue
			}
			if f.null {
				return outcome{can: isNull, does: isNull, why: &reason{text: fmt.Sprintf("column %q is NULL by the condition", a.columnName(s, table, number)),
					near: []string{a.columnName(s, table, number)}}}
			}
			return value(values)
		}
	}
	if v.returning == s && (table == s.target || returning != 0) {
		return a.returned(s, table, number, returning, values)
	}
	o := a.base(s, table, number, returning, values)
	if o.can&isNull != 0 && !v.nested && len(s.joins) > 0 {
		o, v = a.found(s, table, number, values, v)
	}
	if key := (columnKey{table, number, returning}); o.can&isNull != 0 && !v.nested {
		if s.judged[key] { // by a condition with a subquery that names it
			return o
		}
		s.judged[key] = true
		facts := &fact{before: s.known, scope: s, table: table, column: number, null: true}
		excluded, unsure := a.excluded(slices.Concat(s.cons, v.cons), facts, func(c constraint) bool {
			return a.mentions(c, s, func(t, n int) bool { return t == table && n == number })
		})
		o = o.ruled(excluded, unsure)
		delete(s.judged, key)
	}
	o = a.ruledBySisters(a.unsureIfTied(o, s, table, number, v), s, table, number, v)
	if o.can&isNull != 0 && !v.nested {
		o = a.ofFoundRow(o, s, table, number, v)
	}
	if s.sets && v.grouped == s || s.cmd == cmdMerge { // in a MERGE there may be no row of the source
		o.can |= isNull
	}
	return o
}

// found is what a column can be where the conditions of a branch, or that others are NULL, show that outer joins found the
// row, and what holds there.
func (a *analyzer) found(s *scope, table, number int, values mask, v env) (o outcome, _ env) {
	joins, nulls := s.joins, a.isNullBy(s, v)
	for {
		i := slices.IndexFunc(joins, func(j *outerJoin) bool { return slices.Contains(j.tables, table) })
		if i < 0 {
			o = a.ofTable(s, s.table(table), table, number, values)
			break
		}
		j := joins[i]
		facts := s.known
		for _, t := range j.tables {
			facts = &fact{before: facts, scope: s, table: t, column: allColumns, null: true}
		}
		excluded, unsure := a.excluded(v.cons, facts, func(c constraint) bool {
			return a.mentions(c, s, func(t, _ int) bool { return slices.Contains(j.tables, t) })
		})
		if !excluded && !(j.other != nil && a.absent(s, j.other.tables, j.other.joins, nulls)) {
			o = a.unmatched(a.ofTable(s, s.table(table), table, number, values), s, j, table, number)
			o = o.ruled(false, unsure || !j.unsure && a.mustMatch(s, j, v))
			break
		}
		joins, v = j.joins, v.with(j.cons...)
	}
	return outcome{o.can & (isNull | values), o.does & (isNull | values), o.why}, v
}

// isNullBy are the facts of an env, and those of its conditions that say that something is NULL.
func (a *analyzer) isNullBy(s *scope, v env) *fact {
	for _, c := range slices.Concat(s.cons, v.cons) {
		test := num(c.expr, "nulltesttype")
		byRow, ok := c.expr.Bool("argisrow")
		if c.scope == s && c.expr.Is("NULLTEST") && ok && !byRow && (test == 0 && c.allowed == isTrue || test == 1 && c.allowed&isTrue == 0) {
			v = a.assume(v, s, c.expr.Node("arg"), true)
		}
	}
	return v.facts
}

// absent reports whether the facts show that a side of a FULL JOIN has no row: a column is NULL that is not in any.
func (a *analyzer) absent(s *scope, tables []int, below []*outerJoin, facts *fact) bool {
	for f := facts; f != nil; f = f.before {
		if f.scope == s && f.expr == nil && f.null && slices.Contains(tables, f.table) && !slices.ContainsFunc(below, func(j *outerJoin) bool {
			return slices.Contains(j.tables, f.table)
		}) && a.ofTable(s, s.table(f.table), f.table, f.column, everything).can&isNull == 0 {
			return true
		}
	}
	return slices.ContainsFunc(below, func(j *outerJoin) bool {
		return j.other != nil && a.absent(s, j.tables, j.joins, facts) && a.absent(s, j.other.tables, j.other.joins, facts)
	})
}

func (a *analyzer) columnName(s *scope, table, number int) string {
	names, _ := s.table(table).Node("eref").Texts("colnames")
	if number < 1 || number > len(names) {
		return "?"
	}
	return names[number-1]
}

// base is what a column can be by its table and the outer joins, without the conditions.
func (a *analyzer) base(s *scope, table, number, returning int, values mask) outcome {
	key := columnKey{table, number, returning}
	o, ok := s.memo[key]
	if !ok {
		if s.busy[key] {
			return unknown(values)
		}
		s.busy[key] = true
		o = a.ofTable(s, s.table(table), table, number, values)
		delete(s.busy, key)
		for _, j := range s.joins {
			if slices.Contains(j.tables, table) {
				o = a.unmatched(o, s, j, table, number)
				break
			}
		}
		s.memo[key] = o
	}
	return outcome{o.can & (isNull | values), o.does & (isNull | values), o.why}
}

// unmatched is what a column can be where an outer join may have found no row.
func (a *analyzer) unmatched(o outcome, s *scope, j *outerJoin, table, number int) outcome {
	o.can |= isNull
	if j.unsure {
		return o
	}
	alias, _ := s.table(table).Node("eref").Text("aliasname")
	name := a.columnName(s, table, number)
	o.does |= isNull
	if number == 0 {
		o.why = &reason{text: fmt.Sprintf("the row of %s is NULL where the %s finds none", alias, j.words), near: []string{alias}}
	} else {
		o.why = &reason{text: fmt.Sprintf("column %q of %s is NULL where the %s finds no row", name, alias, j.words), near: []string{alias + "." + name, name, alias}, outer: true}
	}
	return o
}

// ofTable is what a column of one entry of the range table can be.
func (a *analyzer) ofTable(s *scope, rte *pgtree.Node, table, number int, values mask) outcome {
	if rte == nil {
		return unknown(values)
	}
	if number == 0 { // the whole row
		return value(values)
	}
	switch num(rte, "rtekind") {
	case rteRelation:
		if conflict := s.query.Node("onConflict"); conflict != nil && num(conflict, "exclRelIndex") == table {
			return a.inserted(s, number, values)
		}
		r := a.catalog.relations[rte.OID("relid")]
		if r == nil {
			return unknown(values)
		}
		if s.row != nil { // its checks are what is being judged
			switch c := r.columns[number]; {
			case c != nil && c.notNull:
				return value(values)
			case c != nil && a.catalog.isNotNullDomain(c.typ):
				return outcome{can: isNull | values, does: values}
			}
			return outcome{can: isNull | values, does: isNull | values}
		}
		o := a.column(r, number, rte)
		if alias, _ := rte.Node("eref").Text("aliasname"); o.why != nil && alias != "" {
			why := *o.why
			why.near = append([]string{alias + "." + a.columnName(s, table, number), a.columnName(s, table, number)}, why.near...)
			o.why = &why
		}
		return o
	case rteSubquery:
		sub := s.subs[table]
		if sub == nil {
			q := rte.Node("subquery")
			if !q.Is("QUERY") {
				return unknown(values)
			}
			sub = a.newScope(q, s, s.within)
			s.subs[table] = sub
		}
		return a.output(sub, number-1, false)
	case rteFunction:
		return a.functionColumn(rte, number, s, values)
	case rteValues:
		lists, ok := rte.Lists("values_lists")
		if !ok || len(lists) == 0 {
			return unknown(values)
		}
		var o outcome
		for _, list := range lists {
			if number > len(list) {
				return unknown(values)
			}
			o = o.or(a.eval(list[number-1], s, s.within))
		}
		return o
	case rteCTE:
		return a.withColumn(s, rte, number, values, false)
	}
	return unknown(values)
}

// column is what a column of a table or a view can be.
func (a *analyzer) column(r *relation, number int, rte *pgtree.Node) outcome {
	if number < 0 { // of the system
		if r.kind == "r" {
			return value(everything)
		}
		return unknown(everything)
	}
	c := r.columns[number]
	if c == nil {
		return unknown(everything)
	}
	switch r.kind {
	case "v", "m":
		o := a.viewColumn(r, number, false)
		if r.kind == "m" { // it may be older than the schema
			o.can |= isNull
		}
		if o.why != nil {
			o.why = &reason{text: o.why.text + ", in view " + r.String(), near: o.why.near, tied: o.why.tied, outer: o.why.outer, group: o.why.group}
		}
		return o
	case "r", "p", "f":
	default:
		if c.notNull && r.kind == "S" {
			return value(everything)
		}
		return unknown(everything)
	}
	inherits, ok := rte.Bool("inh")
	inherits = r.parent && (!ok || inherits)
	notNull := c.notNull && (c.inherited || !inherits)
	if notNull && r.kind == "f" { // nothing holds a foreign table to it
		return unknown(everything)
	}
	if notNull {
		return value(everything)
	}
	o := maybe(everything, &reason{text: fmt.Sprintf("column %q of table %s may be NULL", c.name, r), near: []string{c.name}})
	if a.catalog.isNotNullDomain(c.typ) { // it is checked in a cast alone: the NULL of a subquery that is of the domain is stored
		o = outcome{can: o.can, does: o.does &^ isNull}
	}
	if r.kind == "f" {
		return o
	}
	row := rowScope(r)
	for _, k := range r.checks {
		if k.noInherit && inherits {
			continue
		}
		con := constraint{scope: row, expr: k.expr, allowed: isTrue | isNull}
		ours, others := false, false
		row.mentions(k.expr, 0, func(_, n int) bool {
			ours, others = ours || n == number, others || n != number
			return false
		}, 0)
		if !ours {
			continue
		}
		facts := &fact{scope: row, table: 1, column: number, null: true}
		excluded, unsure := a.excluded([]constraint{con}, facts, func(constraint) bool { return true })
		tied := others && a.ties(r, k, number)
		if o = o.ruled(excluded, unsure || tied && !a.isPlain(k.expr) && !a.leavesNull(r, k.expr, number)); tied && o.why != nil {
			o.why.tied = true
		}
	}
	if c.generated && o.can&isNull != 0 {
		g := a.eval(c.expr, row, env{nested: true})
		if g.can&isNull == 0 {
			return o.never()
		}
		if g.does&isNull == 0 {
			return o.ruled(false, true)
		}
	}
	return o
}

// generated is what a generated column is, by what the columns are that it is made from.
func (a *analyzer) generated(r *relation, c *column, of func(number int) outcome) outcome {
	row := rowScope(r)
	var facts *fact
	unsure := c.expr == nil
	for _, number := range columnsIn(c.expr) {
		switch o := of(number); {
		case o.can == isNull:
			facts = &fact{before: facts, scope: row, table: 1, column: number, null: true}
		case o.can&isNull == 0:
			facts = &fact{before: facts, scope: row, table: 1, column: number}
		case o.does&isNull == 0:
			unsure = true
		}
	}
	o := a.eval(c.expr, row, env{facts: facts, nested: true}).ruled(false, unsure)
	if o.does&isNull != 0 {
		o.why = &reason{text: fmt.Sprintf("column %q of table %s is generated from what may be NULL", c.name, r), near: []string{c.name}}
	}
	return o
}

// ofFoundRow is what a generated column is in a row of which conditions say that a column is not NULL that it is made from.
func (a *analyzer) ofFoundRow(o outcome, s *scope, table, number int, v env) outcome {
	rte := s.table(table)
	r := a.catalog.relations[rte.OID("relid")]
	if num(rte, "rtekind") != rteRelation || r == nil || r.kind != "r" && r.kind != "p" || r.columns[number] == nil || !r.columns[number].generated || s.row != nil {
		return o
	}
	found := false
	g := a.generated(r, r.columns[number], func(n int) outcome {
		c := r.columns[n]
		if c == nil {
			return unknown(everything)
		}
		vars, _ := pgtree.Parse(fmt.Sprintf("{VAR :varno %d :varattno %d :vartype %d :varlevelsup 0}", table, n, c.typ))
		of := a.variable(vars[0], s, v)
		found = found || of.can&isNull == 0
		return of
	})
	if !found {
		return o
	}
	return o.ruled(g.can&isNull == 0, g.does&isNull == 0)
}

// checked reports whether the checks of a table exclude that all of several columns are NULL, or are not understood.
func (a *analyzer) checked(columns []*pgtree.Node, s *scope) (excluded, unsure bool) {
	table := 0
	var names []int
	for _, e := range columns {
		e = bare(e)
		if up, ok := e.Int("varlevelsup"); !e.Is("VAR") || !ok || up != 0 {
			return false, false
		}
		if alias := s.aliased(num(e, "varno"), num(e, "varattno")); alias != nil {
			e = bare(alias)
		}
		if !isColumn(e, num(e, "varno")) || table != 0 && num(e, "varno") != table {
			return false, false
		}
		table, names = num(e, "varno"), append(names, num(e, "varattno"))
	}
	rte := s.table(table)
	r := a.catalog.relations[rte.OID("relid")]
	if num(rte, "rtekind") != rteRelation || r == nil || r.kind != "r" && r.kind != "p" || s.row != nil || s.cmd != cmdSelect ||
		slices.ContainsFunc(s.joins, func(j *outerJoin) bool { return slices.Contains(j.tables, table) }) {
		return false, false
	}
	row := rowScope(r)
	var facts *fact
	for _, name := range names {
		facts = &fact{before: facts, scope: row, table: 1, column: name, null: true}
	}
	inherits, ok := rte.Bool("inh")
	var about []constraint
	for _, k := range r.checks {
		if (!k.noInherit || !r.parent || ok && !inherits) && row.mentions(k.expr, 0, func(_, n int) bool { return slices.Contains(names, n) }, 0) {
			about = append(about, constraint{scope: row, expr: k.expr, allowed: isTrue | isNull})
		}
	}
	excluded, unsure = a.excluded(about, facts, func(constraint) bool { return true })
	return excluded, unsure || len(about) > 1 // together they may exclude what each of them does not
}

// isPlain reports whether a check is made of comparisons and tests for NULL alone: what it says of one column leaves the
// other columns values by which it holds.
func (a *analyzer) isPlain(check *pgtree.Node) bool {
	plain := true
	check.Walk(func(n *pgtree.Node) bool {
		args, _ := n.List("args")
		switch {
		case n.Is("BOOLEXPR", "VAR", "CONST", "RELABELTYPE", "COLLATEEXPR", "COERCEVIAIO", "ARRAYEXPR"):
		case n.Is("NULLTEST"):
			plain = plain && n.Node("arg").Is("VAR")
		case n.Is("OPEXPR", "SCALARARRAYOPEXPR", "FUNCEXPR"):
			f := a.function(n)
			plain = plain && f.builtin() && f.strict && !slices.ContainsFunc(args, func(arg *pgtree.Node) bool { return valuesOf(arg) == boolean })
		default:
			plain = false
		}
		return plain
	})
	return plain
}

// ties reports whether a check may refuse NULL for a column, depending on others: valid_to > valid_from does not.
func (a *analyzer) ties(r *relation, k check, number int) bool {
	facts := &fact{scope: rowScope(r), table: 1, column: number, null: true}
	return a.eval(k.expr, facts.scope, env{facts: facts, nested: true}).can&isFalse != 0
}

// leavesNull reports whether a check allows NULL for a column, for some values of others that no other check ties to more: an
// equality of two conditions, as in (a is null) = (b is null), or a number of columns that are not NULL.
func (a *analyzer) leavesNull(r *relation, e *pgtree.Node, number int) bool {
	args, _ := e.List("args")
	op := a.catalog.operators[e.OID("opno")]
	f := a.function(e)
	if !e.Is("OPEXPR") || op == nil || !f.builtin() || len(args) != 2 {
		return false
	}
	about := columnsIn(e)
	distinct := map[int]bool{}
	for _, n := range about {
		distinct[n] = true
	}
	if len(distinct) != len(about) || slices.ContainsFunc(r.checks, func(k check) bool {
		others := columnsIn(k.expr)
		return k.expr != e && len(others) > 1 && slices.ContainsFunc(others, func(n int) bool { return distinct[n] })
	}) {
		return false
	}
	if f.src == "booleq" || f.src == "boolne" {
		other := args[0]
		if slices.Contains(columnsIn(other), number) {
			other = args[1]
		}
		return a.isPlain(args[0]) && a.isPlain(args[1]) && a.eval(other, rowScope(r), env{nested: true}).does&boolean == boolean
	}
	counted, _ := args[0].List("args")
	_, ok := a.smallInteger(args[1])
	return ok && a.isNamed(args[0], "num_nonnulls", "num_nulls") && len(counted) == len(about)
}

// columnsIn are the columns that a check names, each as often as it does.
func columnsIn(check *pgtree.Node) (all []int) {
	check.Walk(func(n *pgtree.Node) bool {
		if n.Is("VAR") {
			all = append(all, num(n, "varattno"))
		}
		return true
	})
	return all
}

// unsureIfTied takes NULL from what surely happens to a column, if conditions are about the columns that a check ties it to,
// and it is not seen that the check holds for NULL where they do.
func (a *analyzer) unsureIfTied(o outcome, s *scope, table, number int, v env) outcome {
	if o.why == nil || !o.why.tied {
		return o
	}
	cons := slices.Concat(s.cons, v.cons)
	r := a.catalog.relations[s.table(table).OID("relid")]
	if r == nil || r.kind == "v" || r.kind == "m" {
		return o.ruled(false, slices.ContainsFunc(cons, func(c constraint) bool {
			return a.mentions(c, s, func(t, n int) bool { return t == table && n != number })
		}))
	}
	return o.ruled(false, slices.ContainsFunc(r.checks, func(k check) bool {
		columns := columnsIn(k.expr)
		return slices.Contains(columns, number) && a.ties(r, k, number) && (a.areNull(s, v.facts, table, columns) || !a.holdsForNull(r, k, number, s, table, cons, columns))
	}))
}

// areNull reports whether it is assumed that one of some columns is NULL, or that they have found no row of a table that they are
// joined to: a column is NULL that is not in any.
func (a *analyzer) areNull(s *scope, facts *fact, table int, columns []int) bool {
	for f := facts; f != nil; f = f.before {
		if f.scope != s || f.expr != nil || !f.null {
			continue
		}
		missing := a.ofTable(s, s.table(f.table), f.table, f.column, everything).can&isNull == 0
		if f.table == table && slices.Contains(columns, f.column) || missing && slices.ContainsFunc(s.joins, func(j *outerJoin) bool {
			return slices.Contains(j.tables, f.table) && slices.ContainsFunc(j.on, func(c constraint) bool {
				return s.mentions(c.expr, 0, func(t, n int) bool { return t == table && slices.Contains(columns, n) }, 0)
			})
		}) {
			return true
		}
	}
	return false
}

// holdsForNull reports whether it is seen that a check holds where a column is NULL and some conditions hold: they do not name
// the other columns of the check, or compare one with a parameter, or with a constant with which the check compares it too.
func (a *analyzer) holdsForNull(r *relation, k check, number int, s *scope, table int, cons []constraint, columns []int) bool {
	about := slices.DeleteFunc(slices.Clone(cons), func(c constraint) bool {
		return !a.mentions(c, s, func(t, n int) bool { return t == table && n != number && slices.Contains(columns, n) })
	})
	isList := func(c constraint) bool {
		args, _ := c.expr.List("args")
		any, _ := c.expr.Bool("useOr")
		return c.expr.Is("SCALARARRAYOPEXPR") && any && len(args) == 2 && args[1].Is("ARRAYEXPR")
	}
	i := slices.IndexFunc(about, isList)
	if i < 0 {
		return a.holdsForNullAnd(r, k, number, s, table, about, columns, nil)
	}
	// IN is one of several equalities.
	args, _ := about[i].expr.List("args")
	list, _ := args[1].List("elements")
	return !slices.ContainsFunc(about[i+1:], isList) && slices.ContainsFunc(list, func(element *pgtree.Node) bool {
		return a.holdsForNullAnd(r, k, number, s, table, about, columns, element)
	})
}

// holdsForNullAnd is holdsForNull where one of the conditions compares with a list, of which an element is looked at.
func (a *analyzer) holdsForNullAnd(r *relation, k check, number int, s *scope, table int, about []constraint, columns []int, element *pgtree.Node) bool {
	row := rowScope(r)
	v := env{facts: &fact{scope: row, table: 1, column: number, null: true}, nested: true}
	for _, c := range about {
		args, _ := c.expr.List("args")
		compares := c.expr.Is("OPEXPR")
		if element != nil && len(args) == 2 && args[1].Is("ARRAYEXPR") {
			args, compares = []*pgtree.Node{args[0], element}, true
		}
		op := a.catalog.operators[c.expr.OID("opno")]
		if c.scope != s || c.allowed != isTrue || !c.expr.Is("OPEXPR", "SCALARARRAYOPEXPR") || op == nil || len(args) != 2 || !isColumn(bare(args[0]), table) {
			return false
		}
		kind, ok := bare(args[1]).Int("paramkind")
		if bare(args[1]).Is("PARAM") && ok && kind == 0 && op.name == "=" {
			continue
		}
		if !compares || !args[1].Is("CONST") {
			return false
		}
		column, matched, understood := num(bare(args[0]), "varattno"), 0, true
		k.expr.Walk(func(n *pgtree.Node) bool {
			with, _ := n.List("args")
			other := a.catalog.operators[n.OID("opno")]
			if !n.Is("OPEXPR") || other == nil || len(with) != 2 || !bare(with[0]).Is("VAR") || num(bare(with[0]), "varattno") != column {
				return true
			}
			matched++
			allowed := mask(0)
			if same := pgtree.Equal(args[1], with[1]); same && n.OID("opno") == c.expr.OID("opno") {
				allowed = isTrue
			} else if same && other.negator == c.expr.OID("opno") {
				allowed = isFalse
			} else if compared, ok := a.compareConstants(other.name, []*pgtree.Node{args[1], with[1]}); ok && op.name == "=" {
				allowed = compared.does
			}
			understood = understood && allowed != 0
			v = v.with(constraint{scope: row, expr: n, allowed: allowed})
			return true
		})
		named := len(columns) - len(slices.DeleteFunc(slices.Clone(columns), func(n int) bool { return n == column }))
		if !understood || matched != named {
			return false
		}
	}
	return a.eval(k.expr, row, v).does&(isTrue|isNull) != 0
}

// ruledBySisters is what a column of a view or a subquery can be, that an outer join in there makes NULL: a condition which
// excludes NULL for another column may show that the join found the row.
func (a *analyzer) ruledBySisters(o outcome, s *scope, table, number int, v env) outcome {
	if o.why == nil || v.nested {
		return o
	}
	sub := a.queryOf(s, table)
	if rte := s.table(table); num(rte, "rtekind") == rteCTE && sub == nil {
		if w := a.withQueryOf(s, rte); w != nil && w.result != nil && !w.working {
			sub = w.scope
		}
	}
	if sub != nil && sub.query.Node("setOperations") != nil {
		return a.ruledByBranches(o, sub, s, table, number, v)
	}
	if sub == nil || sub.sets || sub.cmd != cmdSelect || !o.why.outer && !o.why.group {
		return o
	}
	list := columnsOf(sub)
	aggregates := func(n int) bool {
		return n >= 1 && n <= len(list) && mentionsAggregate([]constraint{{scope: sub, expr: list[n-1].Node("expr")}}, true)
	}
	if o.why.group && slices.ContainsFunc(slices.Concat(s.cons, v.cons), func(c constraint) bool {
		return a.mentions(c, s, func(t, n int) bool { return t == table && n != number && aggregates(n) })
	}) { // a condition about another aggregate may ask for a row
		return o.ruled(false, true)
	}
	var notNull []*pgtree.Node
	for _, c := range slices.Concat(s.cons, v.cons) {
		a.mentions(c, s, func(t, n int) bool {
			if t == table && n != number && n >= 1 && n <= len(list) && !aggregates(n) && !slices.Contains(notNull, list[n-1].Node("expr")) && !(c.having && s.sets) {
				null := &fact{scope: s, table: table, column: n, null: true}
				if excluded, _ := a.excluded([]constraint{c}, null, func(constraint) bool { return true }); excluded {
					notNull = append(notNull, list[n-1].Node("expr"))
				}
			}
			return false
		})
	}
	if len(notNull) == 0 {
		return o
	}
	narrow := a.output(a.newScope(sub.query, sub.parent, sub.within, notNull...), number-1, false)
	return o.ruled(narrow.can&isNull == 0, narrow.does&isNull == 0)
}

// ruledByBranches is what a column of a UNION can be: conditions about its other columns may leave out the rows of a branch.
func (a *analyzer) ruledByBranches(o outcome, sub, s *scope, table, number int, v env) outcome {
	var branches []int
	unions := true
	var collect func(n *pgtree.Node)
	collect = func(n *pgtree.Node) {
		if n.Is("RANGETBLREF") {
			branches = append(branches, num(n, "rtindex"))
			return
		}
		unions = unions && n.Is("SETOPERATIONSTMT") && num(n, "op") == 1 && len(branches) < maxRounds
		if unions {
			collect(n.Node("larg"))
			collect(n.Node("rarg"))
		}
	}
	collect(sub.query.Node("setOperations"))
	var about []constraint
	for _, c := range slices.Concat(s.cons, v.cons) {
		if c.scope == s && !c.having && a.mentions(c, s, func(t, n int) bool { return t == table && n != number }) {
			about = append(about, c)
		}
	}
	if !unions || len(about) == 0 || slices.ContainsFunc(s.joins, func(j *outerJoin) bool { return slices.Contains(j.tables, table) }) {
		return o
	}
	var narrow outcome
	for _, branch := range branches {
		rte := sub.table(branch)
		a.setOperation(sub, sub.query.Node("setOperations"), number-1, false, 0) // makes the scopes of the branches
		if sub.subs[branch] == nil {
			return o
		}
		// The query as it would be if the branch were all.
		at := *s
		at.tables = slices.Clone(s.tables)
		at.tables[table-1] = rte
		at.subs = maps.Clone(s.subs)
		at.subs[table] = sub.subs[branch]
		at.memo, at.busy, at.judged, at.known = map[columnKey]outcome{}, map[columnKey]bool{}, map[columnKey]bool{}, nil
		here := make([]constraint, len(about))
		for i, c := range about {
			here[i] = constraint{scope: &at, expr: c.expr, allowed: c.allowed}
		}
		if excluded, unsure := a.excluded(here, nil, func(constraint) bool { return true }); !excluded {
			narrow = narrow.or(a.output(sub.subs[branch], number-1, false).ruled(false, unsure))
		}
	}
	return o.ruled(narrow.can&isNull == 0, narrow.does&isNull == 0)
}

// queryOf is the query that an entry of the range table names: a subquery, an expression of WITH or a view; nil of others.
func (a *analyzer) queryOf(s *scope, table int) *scope {
	rte := s.table(table)
	switch num(rte, "rtekind") {
	case rteRelation:
		if r := a.catalog.relations[rte.OID("relid")]; r != nil && r.kind == "v" {
			a.viewColumn(r, 1, false)
			return a.views[r.oid]
		}
	case rteSubquery:
		a.base(s, table, 1, 0, everything)
		return s.subs[table]
	case rteCTE:
		if w := a.withQueryOf(s, rte); w != nil && !w.recursive {
			return w.scope
		}
	}
	return nil
}

// rowScope is a scope in which the columns of a table stand for those of one of its rows, as in its checks.
func rowScope(r *relation) *scope {
	tables, _ := pgtree.Parse(fmt.Sprintf("{RANGETBLENTRY :rtekind %d :relid %d :inh false}", rteRelation, r.oid))
	return &scope{query: &pgtree.Node{Tag: "QUERY"}, tables: tables, row: r, memo: map[columnKey]outcome{}, busy: map[columnKey]bool{}, judged: map[columnKey]bool{}, subs: map[int]*scope{}}
}

// viewColumn is what a column of a view can be.
func (a *analyzer) viewColumn(r *relation, number int, elems bool) outcome {
	s := a.views[r.oid]
	if s == nil {
		if r.view == nil || a.reached[r.oid] {
			return unknown(everything)
		}
		a.reached[r.oid] = true
		s = a.newScope(r.view, nil, env{})
		delete(a.reached, r.oid)
		a.views[r.oid] = s
	}
	return a.output(s, number-1, elems)
}
