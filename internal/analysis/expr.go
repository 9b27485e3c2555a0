package analysis

import (
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// logic is AND, OR and NOT with three values.
func (a *analyzer) logic(e *pgtree.Node, args []*pgtree.Node, s *scope, v env) outcome {
	op, _ := e.Text("boolop")
	switch op {
	case "not":
		if len(args) != 1 {
			break
		}
		o := a.eval(args[0], s, v)
		return outcome{negated(o.can), negated(o.does), o.why}
	case "and", "or":
		if len(args) == 0 {
			break
		}
		flip := func(m mask) mask { return m }
		if op == "or" {
			flip = negated
		}
		// As AND: false if one is, else NULL if one is, else true.
		all := outcome{can: isTrue, does: isTrue}
		for i, arg := range args {
			o := a.eval(arg, s, v)
			can, does := flip(o.can), flip(o.does)
			next := outcome{why: all.why}
			next.can = both(all.can, can)
			next.does = both(all.does, does)
			if next.why == nil {
				next.why = o.why
			}
			all = next
			// What follows matters where this is not false.
			if i < len(args)-1 && op == "and" {
				v = v.with(constraint{scope: s, expr: arg, allowed: isTrue | isNull})
			} else if i < len(args)-1 {
				v = v.with(constraint{scope: s, expr: arg, allowed: isFalse | isNull})
			}
		}
		return outcome{flip(all.can), flip(all.does), all.why}
	}
	return unknown(boolean)
}

// both are the outcomes of AND.
func both(a, b mask) (m mask) {
	m = (a | b) & isFalse
	if a&isTrue != 0 && b&isTrue != 0 {
		m |= isTrue
	}
	if a&isNull != 0 && b&(isNull|isTrue) != 0 || b&isNull != 0 && a&(isNull|isTrue) != 0 {
		m |= isNull
	}
	return m
}

func (a *analyzer) nullTest(e *pgtree.Node, s *scope, v env) outcome {
	arg := e.Node("arg")
	byRow, ok := e.Bool("argisrow")
	test, known := e.Int("nulltesttype")
	if arg == nil || !ok || !known {
		return outcome{can: boolean}
	}
	o := a.eval(arg, s, v)
	if byRow { // a row is not NULL, and yet all of its fields may be
		if o.can&^isNull != 0 {
			o = outcome{can: o.can | isNull | isValue}
		}
	}
	return tested(o, isNull, test == 1)
}

func (a *analyzer) boolTest(e *pgtree.Node, s *scope, v env) outcome {
	o := a.eval(e.Node("arg"), s, v)
	switch test, ok := e.Int("booltesttype"); {
	case !ok:
	case test == 0 || test == 1:
		return tested(o, isTrue, test == 1)
	case test == 2 || test == 3:
		return tested(o, isFalse, test == 3)
	case test == 4 || test == 5:
		return tested(o, isNull, test == 5)
	}
	return outcome{can: boolean}
}

// tested is whether an outcome is one of some, or is not.
func tested(o outcome, is mask, not bool) outcome {
	test := func(m mask) (out mask) {
		if m&is != 0 {
			out |= isTrue
		}
		if m&^is != 0 {
			out |= isFalse
		}
		if not {
			out = negated(out)
		}
		return out
	}
	return outcome{can: test(o.can), does: test(o.does)}
}

func (a *analyzer) distinct(args []*pgtree.Node, s *scope, v env) outcome {
	if len(args) != 2 {
		return outcome{can: boolean}
	}
	x, y := a.eval(args[0], s, v), a.eval(args[1], s, v)
	merge := func(x, y mask) (m mask) {
		if x&isNull != 0 && y&isNull != 0 || x&^isNull != 0 && y&^isNull != 0 {
			m |= isFalse
		}
		if x&isNull != 0 && y&^isNull != 0 || y&isNull != 0 && x&^isNull != 0 || x&^isNull != 0 && y&^isNull != 0 {
			m |= isTrue
		}
		return m
	}
	return outcome{can: merge(x.can, y.can), does: merge(x.does, y.does)}
}

// isConst reports whether an expression has the same value for all data and parameters.
func isConst(e *pgtree.Node) bool {
	constant := true
	e.Walk(func(n *pgtree.Node) bool {
		if n.Is("VAR", "PARAM", "SUBLINK", "AGGREF", "WINDOWFUNC", "CASETESTEXPR", "COERCETODOMAINVALUE") {
			constant = false
		}
		return constant
	})
	return constant
}

// guards are what conditions ask of a JSON, an array, a range or a text to make sure that it has what is taken from it.
var guards = []string{"?", "?&", "?|", "@>", "@?", "@@", "jsonb_exists", "jsonb_typeof", "json_typeof", "jsonb_path_exists", "array_length", "cardinality",
	"array_upper", "array_lower", "array_ndims", "jsonb_array_length", "json_array_length", "isempty", "upper_inf", "lower_inf", "&&", "<>", "=", "<", ">", "<=", ">=",
	"~", "~*", "~~", "~~*", "regexp_like", "strpos", "starts_with", "^@"}

// asked reports whether a condition, or a check, asks for what a function takes from a JSON, and not only for its key: a JSON null
// has one. It does so by the JSON as a whole, or by the same element of it.
func (a *analyzer) asked(args []*pgtree.Node, s *scope, v env) bool {
	asks := func(e *pgtree.Node, inCheck bool, isJSON func(arg *pgtree.Node) bool) bool {
		found := false
		e.Walk(func(n *pgtree.Node) bool {
			with, _ := n.List("args")
			if f := a.function(n); f != nil && len(with) > 0 && isJSON(bare(with[0])) && !strings.HasPrefix(f.src, "jsonb_exists") {
				name := f.name
				if op := a.catalog.operators[n.OID("opno")]; op != nil {
					name = op.name
				}
				found = found || slices.EqualFunc(with[1:], args[1:], pgtree.Equal) || !inCheck && slices.Contains(guards, name)
			}
			return !found
		})
		return found
	}
	json := bare(args[0])
	return slices.ContainsFunc(slices.Concat(s.cons, v.cons), func(c constraint) bool {
		return c.scope == s && asks(c.expr, false, func(arg *pgtree.Node) bool { return pgtree.Equal(arg, json) })
	}) || slices.ContainsFunc(a.checksOf(json, s), func(k check) bool {
		return asks(k.expr, true, func(arg *pgtree.Node) bool { return isColumn(arg, 1) && num(arg, "varattno") == num(json, "varattno") })
	})
}

// checksOf are the checks of the table that a column is of.
func (a *analyzer) checksOf(e *pgtree.Node, s *scope) []check {
	rte := s.table(num(e, "varno"))
	r := a.catalog.relations[rte.OID("relid")]
	if !e.Is("VAR") || num(e, "varlevelsup") != 0 || num(rte, "rtekind") != rteRelation || r == nil {
		return nil
	}
	return r.checks
}

// asksAbout reports whether an expression asks in such a way about one for which f holds.
func (a *analyzer) asksAbout(e *pgtree.Node, f func(arg *pgtree.Node) bool) bool {
	found := false
	e.Walk(func(n *pgtree.Node) bool {
		if n.Is("FUNCEXPR", "OPEXPR", "SCALARARRAYOPEXPR") {
			name := ""
			if f := a.function(n); f != nil {
				name = f.name
			}
			if op := a.catalog.operators[n.OID("opno")]; op != nil {
				name = op.name
			}
			args, _ := n.List("args")
			found = found || slices.Contains(guards, name) && slices.ContainsFunc(args, func(arg *pgtree.Node) bool { return f(bare(arg)) })
		}
		return !found
	})
	return found
}

// guarded reports whether a condition, or a check, asks about an expression in such a way. It is not worked out what that means.
func (a *analyzer) guarded(e *pgtree.Node, s *scope, v env) bool {
	if e.Is("CONST") {
		return false
	}
	return slices.ContainsFunc(a.checksOf(bare(e), s), func(k check) bool {
		return a.asksAbout(k.expr, func(arg *pgtree.Node) bool {
			return isColumn(arg, 1) && num(arg, "varattno") == num(bare(e), "varattno")
		})
	}) || slices.ContainsFunc(slices.Concat(s.cons, v.cons), func(c constraint) bool {
		return c.scope == s && a.asksAbout(c.expr, func(arg *pgtree.Node) bool { return pgtree.Equal(arg, bare(e)) })
	})
}

// probed reports whether a condition looks into one of the tables by a subquery: there may always be a row then.
func (s *scope) probed(tables []uint32) bool {
	return slices.ContainsFunc(s.cons, func(c constraint) bool {
		found := false
		c.expr.Walk(func(n *pgtree.Node) bool {
			if !n.Is("SUBLINK") {
				return !found
			}
			n.Walk(func(n *pgtree.Node) bool {
				found = found || n.Is("RANGETBLENTRY") && n.OID("relid") != 0 && slices.Contains(tables, n.OID("relid"))
				return !found
			})
			return false
		})
		return found
	})
}

// relationsOf are the tables that are named below a node.
func relationsOf(n *pgtree.Node) (all []uint32) {
	n.Walk(func(n *pgtree.Node) bool {
		if oid := n.OID("relid"); n.Is("RANGETBLENTRY") && oid != 0 {
			all = append(all, oid)
		}
		return true
	})
	return all
}

// reduce is the constant that an expression is, where all of COALESCE before it is NULL; else the expression.
func (a *analyzer) reduce(e *pgtree.Node, s *scope, v env) *pgtree.Node {
	args, _ := e.List("args")
	if a.isNumberCast(e) {
		if arg := a.reduce(args[0], s, v); arg != args[0] {
			if _, ok := a.smallInteger(arg); ok {
				return arg
			}
		}
	}
	if e.Is("VAR") && num(e, "varlevelsup") == 0 && num(s.table(num(e, "varno")), "rtekind") == rteSubquery &&
		!slices.ContainsFunc(s.joins, func(j *outerJoin) bool { return slices.Contains(j.tables, num(e, "varno")) }) {
		if sub := s.subs[num(e, "varno")]; sub != nil && sub.query.Node("setOperations") == nil && !sub.sets {
			if list, number := columnsOf(sub), num(e, "varattno"); number >= 1 && number <= len(list) && list[number-1].Node("expr").Is("CONST") {
				return list[number-1].Node("expr")
			}
		}
	}
	if !e.Is("COALESCEEXPR") {
		return e
	}
	for _, arg := range args {
		o := a.eval(arg, s, v)
		switch {
		case o.can == isNull:
		case isConst(arg):
			return arg
		default:
			return e
		}
	}
	return e
}

// anyOf is x = ANY (array), or ALL.
func (a *analyzer) anyOf(e *pgtree.Node, args []*pgtree.Node, s *scope, v env) outcome {
	f := a.function(e)
	any, ok := e.Bool("useOr")
	if f == nil || !f.strict || !ok || len(args) != 2 {
		return outcome{can: isNull | boolean}
	}
	x, array := a.eval(args[0], s, v), a.eval(args[1], s, v)
	if array.can == isNull {
		return outcome{can: isNull, does: isNull, why: array.why}
	}
	none := isFalse // of an empty array
	if !any {
		none = isTrue
	}
	filled := false
	if args[1].Is("ARRAYEXPR") {
		list, ok := args[1].List("elements")
		filled = ok && len(list) > 0
	}
	var o outcome
	if x.can != isNull {
		o = value(boolean)
		if isConst(args[0]) && isConst(args[1]) {
			o.does = 0
		}
		elems := a.elements(args[1], s, v)
		o = o.or(outcome{elems.can & isNull, elems.does & isNull, elems.why})
	}
	if !filled {
		if !args[1].Is("CONST") || emptyArray(args[1]) {
			o.can |= none
			o.does |= none
		}
	}
	o = o.or(outcome{x.can & isNull, x.does & isNull, x.why})
	return o.or(outcome{array.can & isNull, array.does & isNull, array.why})
}

// emptyArray reports whether a constant array may be one without elements: it has no dimensions, or is stored otherwise.
func emptyArray(e *pgtree.Node) bool {
	bytes, ok := e.Datum("constvalue")
	return !ok || len(bytes) < 8 || bytes[4]|bytes[5]|bytes[6]|bytes[7] == 0
}

// assume adds what an expression is to what holds.
func (a *analyzer) assume(v env, s *scope, e *pgtree.Node, null bool) env {
	if up, ok := e.Int("varlevelsup"); e.Is("VAR") && ok && up == 0 {
		if alias := s.aliased(num(e, "varno"), num(e, "varattno")); alias != nil {
			return a.assume(v, s, alias, null)
		}
		v.facts = &fact{before: v.facts, scope: s, table: num(e, "varno"), column: num(e, "varattno"), null: null}
		return v
	}
	if args, _ := e.List("args"); null && e.Is("COALESCEEXPR", "MINMAXEXPR") {
		for _, arg := range args {
			v = a.assume(v, s, arg, true)
		}
	}
	if arg := a.onlyArgument(e); null && arg != nil {
		v = a.assume(v, s, arg, true)
	}
	v.facts = &fact{before: v.facts, scope: s, expr: e, null: null}
	return v
}

// onlyArgument is what must be NULL where an expression is: the argument of a cast, or of a function that never makes NULL.
func (a *analyzer) onlyArgument(e *pgtree.Node) *pgtree.Node {
	if e.Is("RELABELTYPE", "COLLATEEXPR", "COERCEVIAIO") {
		return e.Node("arg")
	}
	args, _ := e.List("args")
	args = slices.DeleteFunc(slices.Clone(args), func(arg *pgtree.Node) bool {
		null, ok := arg.Bool("constisnull")
		return arg.Is("CONST") && ok && !null
	})
	if f := a.function(e); e.Is("FUNCEXPR") && len(args) == 1 && f.builtin() && f.strict && !f.set && f.lang == "internal" && inList(neverNullText, f.src) {
		return args[0]
	}
	return nil
}

// first is COALESCE, or GREATEST and LEAST: NULL only if all arguments are.
func (a *analyzer) first(args []*pgtree.Node, s *scope, v env, values mask, inOrder bool, f evaluation) outcome {
	if len(args) == 0 {
		return unknown(values)
	}
	o := outcome{can: isNull, does: isNull}
	for i, arg := range args {
		next := f(arg, s, v)
		null := outcome{o.can & next.can & isNull, o.does & next.does & isNull, next.why}
		if null.why == nil {
			null.why = o.why
		}
		o = outcome{(o.can | next.can) &^ isNull, (o.does | next.does) &^ isNull, nil}.or(null)
		if o.can&isNull == 0 && inOrder {
			break
		}
		if inOrder && i < len(args)-1 {
			v = a.assume(v, s, arg, true)
		}
	}
	return o
}

// branches is CASE.
func (a *analyzer) branches(e *pgtree.Node, whens []*pgtree.Node, s *scope, v env, f evaluation) outcome {
	var o outcome
	dead := false
	for _, when := range whens {
		cond, result := when.Node("expr"), when.Node("result")
		if !when.Is("CASEWHEN") || cond == nil || result == nil {
			return unknown(valuesOf(e))
		}
		c := outcome{can: isNull | boolean, does: boolean}
		if e.Node("arg") == nil {
			c = a.eval(cond, s, v)
		}
		if c.can&isTrue != 0 {
			then := v.with(conditions(s, cond)...)
			if test := a.function(cond); e.Node("arg") != nil && test != nil && test.strict {
				then = a.assume(then, s, bare(e.Node("arg")), false)
			}
			o = o.or(f(result, s, then))
		}
		if dead = c.can&^isTrue == 0; dead {
			break
		}
		v = v.with(constraint{scope: s, expr: cond, allowed: isFalse | isNull})
	}
	if dead || a.covers(e, whens, s, v) {
		return o
	}
	last := e.Node("defresult")
	if null, _ := last.Bool("constisnull"); last.Is("CONST") && null {
		last = nil
	}
	if last != nil {
		return o.or(f(last, s, v))
	}
	if a.ranges(e, whens) || a.restricted(e, whens, s, v) {
		return o.or(outcome{can: isNull})
	}
	return o.or(outcome{isNull, isNull, &reason{text: "CASE gives NULL where no WHEN is true, as it has no ELSE", near: []string{"case"}}})
}

// covers reports whether the conditions of a CASE name every value of an enum that is not NULL.
func (a *analyzer) covers(e *pgtree.Node, whens []*pgtree.Node, s *scope, v env) bool {
	subject := e.Node("arg")
	seen := map[string]bool{}
	var typ *sqlType
	for _, when := range whens {
		args, _ := when.Node("expr").List("args")
		op := a.catalog.operators[when.Node("expr").OID("opno")]
		if !when.Node("expr").Is("OPEXPR") || op == nil || op.name != "=" || !a.function(when.Node("expr")).builtin() || len(args) != 2 || !args[1].Is("CONST") {
			return false
		}
		if e.Node("arg") == nil {
			if subject == nil {
				subject = args[0]
			} else if !pgtree.Equal(subject, args[0]) {
				return false
			}
		}
		bytes, ok := args[1].Datum("constvalue")
		if typ = a.catalog.types[args[1].OID("consttype")]; typ == nil || typ.kind != "e" || !ok {
			return false
		}
		seen[string(bytes)] = true
	}
	return typ != nil && typ.labels > 0 && len(seen) == typ.labels && subject != nil && a.eval(subject, s, env{facts: v.facts, nested: v.nested, grouped: v.grouped, returning: v.returning, depth: v.depth}).can&isNull == 0
}

// ranges reports whether the conditions of a CASE compare one thing in several ways, so that together they may leave out
// no value.
func (a *analyzer) ranges(e *pgtree.Node, whens []*pgtree.Node) bool {
	if len(whens) < 2 || e.Node("arg") != nil {
		return false
	}
	var subject *pgtree.Node
	for _, when := range whens {
		for _, c := range conditions(nil, when.Node("expr")) {
			if c.expr.Is("NULLTEST") {
				continue
			}
			args, _ := c.expr.List("args")
			op := a.catalog.operators[c.expr.OID("opno")]
			if !c.expr.Is("OPEXPR") || op == nil || len(args) != 2 {
				return false
			}
			if subject == nil {
				subject = args[0]
			}
			if !pgtree.Equal(subject, args[0]) {
				return false
			}
			if op.name != "=" {
				return true
			}
		}
	}
	return false
}

// restricted reports whether a condition is about what the conditions of a CASE are about: together they may leave out no
// value.
func (a *analyzer) restricted(e *pgtree.Node, whens []*pgtree.Node, s *scope, v env) bool {
	found := false
	look := func(table, number int) bool {
		found = found || slices.ContainsFunc(slices.Concat(s.cons, v.cons[:max(0, len(v.cons)-len(whens))]), func(c constraint) bool {
			return c.scope == s && !c.expr.Is("NULLTEST") && a.mentions(c, s, func(t, n int) bool { return t == table && n == number })
		})
		return found
	}
	s.mentions(e.Node("arg"), 0, look, 0)
	for _, when := range whens {
		s.mentions(when.Node("expr"), 0, look, 0)
	}
	return found
}

func (a *analyzer) subscript(e *pgtree.Node, s *scope, v env, values mask) outcome {
	container := e.Node("refexpr")
	upper, ok := e.List("refupperindexpr")
	lower, okLower := e.List("reflowerindexpr")
	if e.Node("refassgnexpr") != nil || container == nil || !ok || !okLower || len(upper) == 0 {
		return unknown(values)
	}
	o := a.eval(container, s, v)
	t := a.catalog.types[e.OID("refcontainertype")]
	if oid := e.OID("refcontainertype"); t == nil && oid < firstUserOID && oid != jsonbOID {
		// The types with a fixed number of elements, such as point, are among those that no catalog was asked for.
		t = &sqlType{}
	}
	if len(lower) > 0 {
		return unknown(values)
	}
	// (array_agg(x))[1] is there if there is a row.
	if first := bare(container); first.Is("AGGREF") && len(upper) == 1 && a.isNamed(first, "array_agg") && isOne(upper[0]) && o.can&isNull == 0 {
		return a.elements(first, s, v).withValues(values)
	}
	if isConst(container) || container.Is("ARRAYEXPR") {
		return unknown(values)
	}
	if e.OID("refcontainertype") == jsonbOID && !a.guarded(container, s, v) {
		return maybe(values, &reason{text: "a subscript gives NULL where the JSON has no such key", near: []string{"["}})
	}
	if a.guarded(container, s, v) {
		return unknown(values)
	}
	switch e.OID("refcontainertype") {
	case 600, 601, 603, 628, 718, 22, 30, 19: // point, lseg, box, line, circle, int2vector, oidvector, name
		return unknown(values)
	}
	return maybe(values, &reason{text: "a subscript gives NULL outside of the array", near: []string{"["}})
}

const jsonbOID = 3802

func isOne(e *pgtree.Node) bool {
	bytes, ok := e.Datum("constvalue")
	return e.Is("CONST") && ok && len(bytes) > 1 && bytes[0] == 1 && !slices.ContainsFunc(bytes[1:], func(b byte) bool { return b != 0 })
}

func (a *analyzer) isNamed(e *pgtree.Node, names ...string) bool {
	f := a.function(e)
	return f.builtin() && slices.Contains(names, f.name)
}

func (a *analyzer) field(e *pgtree.Node, s *scope, v env, values mask) outcome {
	arg := e.Node("arg")
	o := a.eval(arg, s, v)
	if o.can == isNull {
		return o
	}
	number := num(e, "fieldnum")
	if arg.Is("VAR") && num(arg, "varattno") == 0 && num(arg, "varlevelsup") == 0 && v.returning != s {
		if rte := s.table(num(arg, "varno")); num(rte, "rtekind") == rteRelation {
			return a.base(s, num(arg, "varno"), number, 0, values)
		}
	}
	if v.returning != s && !(s.sets && v.grouped == s) && slices.ContainsFunc(slices.Concat(s.cons, v.cons), func(c constraint) bool {
		test, byRow := num(c.expr, "nulltesttype"), false
		byRow, _ = c.expr.Bool("argisrow")
		return c.scope == s && c.allowed == isTrue && c.expr.Is("NULLTEST") && byRow && test == 1 && pgtree.Equal(c.expr.Node("arg"), arg)
	}) { // none of its fields is NULL
		return value(values)
	}
	if arg.Is("VAR") && num(arg, "varattno") > 0 && !v.nested && !s.isWholeRow(arg) {
		return maybe(values, &reason{text: "a field of a composite value may be NULL", near: []string{"."}})
	}
	return unknown(values)
}

// scalar is what a column of a subquery is, or NULL where that finds no row.
func (a *analyzer) scalar(q *pgtree.Node, column int, s *scope, v env) outcome {
	sub := a.subquery(q, s, v)
	if v.nested && a.findsNone(sub, v.facts) {
		return outcome{can: isNull, does: isNull}
	}
	return a.ofRow(sub, column, v, s.probed(relationsOf(q)))
}

// ofRow is what a column of the one row of a query is, or NULL where that finds none; probed says that there may always be one.
func (a *analyzer) ofRow(sub *scope, column int, v env, probed bool) outcome {
	o := a.output(sub, column, false)
	if oneRow(sub.query) {
		return o
	}
	o.can |= isNull
	if mayBeEmpty(sub.query) && !a.findsByKey(sub, v) && !sub.findsOuter() && !probed {
		o.does |= isNull
		o.why = &reason{text: "a subquery gives NULL where it finds no row", near: []string{"(select"}}
	}
	return o
}

// isWholeRow reports whether a column is a row of a table that a subquery gives as a whole.
func (s *scope) isWholeRow(e *pgtree.Node) bool {
	for range num(e, "varlevelsup") {
		if s = s.parent; s == nil {
			return false
		}
	}
	sub := s.subs[num(e, "varno")]
	if sub == nil {
		return false
	}
	list, number := columnsOf(sub), num(e, "varattno")
	if number < 1 || number > len(list) {
		return false
	}
	of := list[number-1].Node("expr")
	return of.Is("VAR") && (num(of, "varattno") == 0 || sub.isWholeRow(of))
}

func (a *analyzer) sublink(e *pgtree.Node, s *scope, v env) outcome {
	q := e.Node("subselect")
	kind, ok := e.Int("subLinkType")
	if !ok || !q.Is("QUERY") {
		return unknown(everything)
	}
	if kind == linkArray {
		return value(isValue)
	}
	sub := a.subquery(q, s, v)
	empty := v.nested && a.findsNone(sub, v.facts)
	switch kind {
	case linkExists:
		if empty {
			return value(isFalse)
		}
		return value(boolean)
	case linkExpr:
		return a.scalar(q, 0, s, v)
	case linkAny, linkAll:
		test := e.Node("testexpr")
		args, _ := test.List("args")
		f := a.function(test)
		none := isFalse
		if kind == linkAll {
			none = isTrue
		}
		if empty {
			return value(none)
		}
		o := outcome{can: none}
		if mayBeEmpty(q) {
			o.does = none
		}
		if !test.Is("OPEXPR") || len(args) != 2 || f == nil || !f.strict {
			return outcome{can: isNull | boolean}.or(o)
		}
		x, y := a.eval(args[0], s, v), a.output(sub, 0, false)
		if x.can != isNull && y.can != isNull {
			o = o.or(value(boolean))
		}
		return o.or(outcome{x.can & isNull, x.does & isNull, x.why}).or(outcome{y.can & isNull, y.does & isNull, y.why})
	}
	return unknown(everything)
}

// subquery is the scope of a subquery in an expression.
func (a *analyzer) subquery(q *pgtree.Node, s *scope, v env) *scope {
	at := link{q, s, v.grouped, v.returning}
	if a.links[at] == nil {
		a.links[at] = a.newScope(q, s, v)
	}
	return a.links[at]
}

// findsNone reports whether the conditions of a subquery leave no row under the facts.
func (a *analyzer) findsNone(sub *scope, facts *fact) bool {
	if aggs, ok := sub.query.Bool("hasAggs"); !ok || aggs || sub.sets || sub.query.Node("setOperations") != nil || sub.cmd != cmdSelect {
		return false // it may have a row without finding one
	}
	excluded, _ := a.excluded(sub.cons, facts, func(constraint) bool { return true })
	return excluded
}

// findsByKey reports whether a subquery looks rows up by foreign keys, which then are there.
func (a *analyzer) findsByKey(sub *scope, v env) bool {
	for _, name := range []string{"setOperations", "havingQual", "limitOffset"} {
		if sub.query.Node(name) != nil {
			return false
		}
	}
	open, cons := slices.Clone(sub.from), slices.Clone(sub.cons)
	for _, j := range sub.joins { // may find none
		open = slices.DeleteFunc(open, func(t int) bool { return slices.Contains(j.tables, t) })
	}
	for found := true; found && len(open) > 0; {
		found = false
		for i, table := range open {
			others := slices.Delete(slices.Clone(open), i, i+1)
			var on, rest []constraint
			for _, c := range cons {
				names := func(tables ...int) bool {
					return sub.mentions(c.expr, 0, func(t, _ int) bool { return slices.Contains(tables, t) }, 0)
				}
				if names(table) && !names(others...) {
					on = append(on, c)
				} else {
					rest = append(rest, c)
				}
			}
			if found = a.hasMatch(sub, table, on, v); found {
				open, cons = others, rest
				break
			}
		}
	}
	return len(open) == 0 && len(cons) == 0
}
