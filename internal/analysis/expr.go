package analysis

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

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

// neverNullText are the functions of PostgreSQL in C that are strict and have no way to return NULL: none of them has
// PG_RETURN_NULL, or another way to set isnull, in the sources of versions 15 and 18. Their names in C do not change.
//
//go:embed nevernull.txt
var neverNullText string

func inList(list, name string) bool {
	for at := 0; ; {
		i := strings.Index(list[at:], name)
		if i < 0 {
			return false
		}
		i += at
		if (i == 0 || list[i-1] == '\n') && i+len(name) < len(list) && list[i+len(name)] == '\n' {
			return true
		}
		at = i + 1
	}
}

// neverNullSQL are functions of PostgreSQL in SQL that are strict and made of such functions alone.
var neverNullSQL = []string{"lpad", "rpad", "round", "trunc", "log10", "log", "age", "bit_length", "textanycat", "anytextcat", "interval_pl_date",
	"interval_pl_timetz", "interval_pl_timestamp", "interval_pl_timestamptz", "integer_pl_date", "timedate_pl", "timetzdate_pl", "int8pl_inet"}

// neverNullMore are functions of PostgreSQL that are not strict, or have no arguments, and never return NULL.
var neverNullMore = []string{"text_concat", "json_build_array", "json_build_array_noargs", "json_build_object", "json_build_object_noargs", "jsonb_build_array",
	"jsonb_build_array_noargs", "jsonb_build_object", "jsonb_build_object_noargs", "array_append", "array_prepend", "pg_num_nulls", "pg_num_nonnulls",
	"quote_nullable", "pg_typeof", "nextval_oid", "currval_oid", "setval_oid", "setval3_oid", "lastval"}

// nullByFirst are functions of PostgreSQL that are not strict, and return NULL only for NULL as their first argument.
var nullByFirst = []string{"text_concat_ws", "text_format", "text_format_nv", "array_remove", "array_replace"}

// nullForValues says why functions of PostgreSQL, by their names in C, return NULL for arguments that are not.
var nullForValues = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for why, names := range map[string]string{
		"gives NULL where the JSON has no such key": "json_object_field json_object_field_text json_array_element json_array_element_text json_extract_path " +
			"json_extract_path_text jsonb_object_field jsonb_object_field_text jsonb_array_element jsonb_array_element_text jsonb_extract_path jsonb_extract_path_text",
		"gives NULL where the path finds nothing":                 "jsonb_path_query_first jsonb_path_query_first_tz",
		"gives NULL where nothing matches":                        "textregexsubstr regexp_match regexp_match_no_flags regexp_substr regexp_substr_no_flags regexp_substr_no_n regexp_substr_no_start regexp_substr_no_subexpr",
		"of an empty array is NULL":                               "array_length array_upper array_lower array_dims array_ndims",
		"of an empty or unbounded range is NULL":                  "range_lower range_upper multirange_lower multirange_upper",
		"gives NULL where there is nothing of that name":          "to_regclass to_regtype to_regproc to_regprocedure to_regrole to_regnamespace to_regoper to_regoperator to_regcollation",
		"gives NULL where the array does not have the element":    "array_position array_position_start",
		"gives NULL for an unknown setting if that is missing_ok": "show_config_by_name_missing_ok",
	} {
		for _, name := range strings.Fields(names) {
			all[name] = why
		}
	}
	return all
})

// call is what a function or an operator returns.
func (a *analyzer) call(e *pgtree.Node, args []*pgtree.Node, s *scope, v env, values mask) outcome {
	f := a.function(e)
	if f == nil || f.name == "" {
		return unknown(values)
	}
	fromArgs, constant, vague := outcome{}, true, false
	results := make([]outcome, len(args))
	args = slices.Clone(args)
	for i, arg := range args {
		o := a.eval(arg, s, v)
		results[i] = o
		if f.strict && o.can == isNull {
			return outcome{can: isNull, does: isNull, why: o.why}
		}
		fromArgs = fromArgs.or(outcome{o.can & isNull, o.does & isNull, o.why})
		vague = vague || o.can&^isNull != 0 && o.does&^isNull == 0
		args[i] = a.reduce(arg, s, v)
		constant = constant && isConst(args[i])
	}
	name := f.name
	if op := a.catalog.operators[e.OID("opno")]; op != nil {
		name = op.name
	}
	own := unknown(values)
	own.does = values
	near := []string{name}
	switch why, maybeNull := nullForValues()[f.src]; {
	case !f.builtin():
		if !f.strict {
			return unknown(values) // its values too: it may return the same always
		}
	case f.lang == "internal" && maybeNull:
		own = maybe(values, &reason{text: name + " " + why, near: near})
		if constant || len(args) > 0 && a.guarded(args[0], s, v) {
			own.does, own.why = own.does&^isNull, nil
		}
	case f.lang == "internal" && f.strict && inList(neverNullText, f.src),
		f.lang == "internal" && slices.Contains(neverNullMore, f.src),
		f.lang == "sql" && f.strict && slices.Contains(neverNullSQL, f.name):
		own = value(values)
	case f.lang == "internal" && slices.Contains(nullByFirst, f.src) && len(results) > 0:
		own = value(values).or(outcome{results[0].can & isNull, results[0].does & isNull, results[0].why})
	case f.lang == "internal" && f.src == "array_cat" && len(results) == 2:
		own = value(values)
		if x, y := results[0], results[1]; x.can&y.can&isNull != 0 {
			own = own.or(outcome{isNull, x.does & y.does & isNull, x.why})
		}
	}
	if len(args) == 2 && args[0].Is("CONST") && f.builtin() && e.Is("OPEXPR") && pgtree.Equal(args[0], args[1]) {
		switch name {
		case "=":
			return value(isTrue)
		case "<>":
			return value(isFalse)
		}
	}
	if constant { // which of the values it is, is not looked at
		own.does &= isNull
		if own.can == isValue {
			own.does = isValue
		}
	}
	if vague { // of what is not known nothing is
		own.does &= isNull
	}
	if f.strict {
		own = own.or(fromArgs)
	}
	if f.set {
		own = a.rows(f, e, args, s, v, own)
	}
	return own
}

// guards are what conditions ask of a JSON, an array, a range or a text to make sure that it has what is taken from it.
var guards = []string{"?", "?&", "?|", "@>", "@?", "@@", "jsonb_exists", "jsonb_typeof", "json_typeof", "jsonb_path_exists", "array_length", "cardinality",
	"array_upper", "array_lower", "array_ndims", "jsonb_array_length", "json_array_length", "isempty", "upper_inf", "lower_inf", "&&", "<>", "=", "<", ">", "<=", ">=",
	"~", "~*", "~~", "~~*", "regexp_like", "strpos", "starts_with", "^@"}

// guarded reports whether a condition asks about an expression in such a way. It is not worked out what that means.
func (a *analyzer) guarded(e *pgtree.Node, s *scope, v env) bool {
	if e.Is("CONST") {
		return false
	}
	return slices.ContainsFunc(slices.Concat(s.cons, v.cons), func(c constraint) bool {
		found := false
		c.expr.Walk(func(n *pgtree.Node) bool {
			if n.Is("FUNCEXPR", "OPEXPR", "SCALARARRAYOPEXPR") && c.scope == s {
				name := ""
				if f := a.function(n); f != nil {
					name = f.name
				}
				if op := a.catalog.operators[n.OID("opno")]; op != nil {
					name = op.name
				}
				args, _ := n.List("args")
				found = found || slices.Contains(guards, name) && slices.ContainsFunc(args, func(arg *pgtree.Node) bool { return pgtree.Equal(bare(arg), bare(e)) })
			}
			return !found
		})
		return found
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
	if !e.Is("COALESCEEXPR") {
		return e
	}
	args, _ := e.List("args")
	for _, arg := range args {
		o := a.eval(arg, s, v)
		switch {
		case o.can == isNull:
		case arg.Is("CONST"):
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
	if up, ok := e.Int("varlevelsup"); e.Is("VAR") && ok && up == 0 && s.aliased(num(e, "varno"), num(e, "varattno")) == nil {
		v.facts = &fact{before: v.facts, scope: s, table: num(e, "varno"), column: num(e, "varattno"), null: null}
		return v
	}
	v.facts = &fact{before: v.facts, scope: s, expr: e, null: null}
	return v
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
	return typ != nil && typ.labels > 0 && len(seen) == typ.labels && subject != nil && a.eval(subject, s, env{facts: v.facts, nested: v.nested, depth: v.depth}).can&isNull == 0
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
	if arg.Is("VAR") && num(arg, "varattno") > 0 && !v.nested {
		return maybe(values, &reason{text: "a field of a composite value may be NULL", near: []string{"."}})
	}
	return unknown(values)
}

func (a *analyzer) sublink(e *pgtree.Node, s *scope, v env) outcome {
	q := e.Node("subselect")
	kind, ok := e.Int("subLinkType")
	if !ok || !q.Is("QUERY") {
		return unknown(everything)
	}
	if kind == linkExists {
		return value(boolean)
	}
	if kind == linkArray {
		return value(isValue)
	}
	sub := a.subquery(q, s, v)
	switch kind {
	case linkExpr:
		o := a.output(sub, 0, false)
		if oneRow(q) {
			return o
		}
		o.can |= isNull
		if mayBeEmpty(q) && !a.findsByKey(sub, q) && !s.probed(relationsOf(q)) {
			o.does |= isNull
			o.why = &reason{text: "a subquery gives NULL where it finds no row", near: []string{"(select"}}
		}
		return o
	case linkAny, linkAll:
		test := e.Node("testexpr")
		args, _ := test.List("args")
		f := a.function(test)
		none := isFalse
		if kind == linkAll {
			none = isTrue
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

// findsByKey reports whether a subquery looks a row up by a foreign key, which then is there.
func (a *analyzer) findsByKey(sub *scope, q *pgtree.Node) bool {
	if len(sub.tables) != 1 || len(sub.joins) > 0 {
		return false
	}
	return a.mustMatch(sub, sub.tables[0], 1, conditions(sub, q.Node("jointree").Node("quals")))
}

// aggregate is what an aggregate gives for the rows of a group, or for all.
func (a *analyzer) aggregate(e *pgtree.Node, s *scope, v env, values mask) outcome {
	f := a.function(e)
	up := num(e, "agglevelsup")
	filter := e.Node("aggfilter")
	if !f.builtin() || up != 0 {
		return unknown(values)
	}
	switch f.name {
	case "count", "regr_count":
		return value(values)
	}
	at := v
	at.grouped = nil
	var arg outcome
	args, _ := e.List("args")
	for i, te := range args {
		o := a.eval(te.Node("expr"), s, at.with(conditions(s, filter)...))
		if i == 0 {
			arg = o
		}
	}
	groups, ok := s.query.List("groupClause")
	if !ok || s.sets {
		return unknown(values)
	}
	kind, _ := e.Text("aggkind")
	if len(groups) == 0 {
		if !readsTable(s.query) || s.query.Node("havingQual") != nil || s.parent != nil && s.parent.probed(relationsOf(s.query)) {
			return unknown(values)
		}
		return maybe(values, &reason{text: f.name + " of no rows is NULL", near: []string{f.name}})
	}
	if filter != nil {
		return maybe(values, &reason{text: f.name + " is NULL where its FILTER leaves no row", near: []string{f.name}})
	}
	switch f.name {
	case "array_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "json_agg_strict", "jsonb_agg_strict":
		return value(values)
	case "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "string_agg", "var_pop", "stddev_pop", "any_value",
		"range_agg", "range_intersect_agg", "xmlagg":
		if f.name == "string_agg" && len(args) > 1 || kind == "n" {
			o := outcome{can: arg.can&isNull | values, does: arg.does&isNull | values}
			if arg.why != nil {
				o.why = &reason{text: fmt.Sprintf("%s is NULL where all of its rows are (%s)", f.name, arg.why.text), near: append([]string{f.name}, arg.why.near...)}
			}
			return o
		}
	case "stddev", "stddev_samp", "variance", "var_samp":
		return maybe(values, &reason{text: f.name + " of one row is NULL", near: []string{f.name}})
	}
	return unknown(values)
}

// The bits of frameOptions.
const (
	frameRows           = 0x4
	frameStartUnbounded = 0x20
	frameEndUnbounded   = 0x100
	frameStartCurrent   = 0x200
	frameEndCurrent     = 0x400
	frameStartPreceding = 0x800
	frameEndFollowing   = 0x4000
	frameExclusions     = 0x8000 | 0x10000 | 0x20000
	frameStarts         = frameStartUnbounded | frameStartCurrent
	frameEnds           = frameEndUnbounded | frameEndCurrent
)

// window is what a window function gives.
func (a *analyzer) window(e *pgtree.Node, s *scope, v env, values mask) outcome {
	f := a.function(e)
	args, _ := e.List("args")
	if !f.builtin() {
		return unknown(values)
	}
	arg := value(values)
	if len(args) > 0 {
		arg = a.eval(args[0], s, v.with(conditions(s, e.Node("aggfilter"))...))
	}
	switch f.name {
	case "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "count":
		return value(values)
	case "ntile":
		return arg.withValues(values)
	case "lag", "lead":
		if len(args) == 3 {
			offset, other := a.eval(args[1], s, v), a.eval(args[2], s, v)
			return arg.or(other).or(outcome{offset.can & isNull, offset.does & isNull, offset.why}).withValues(values)
		}
		where := map[string]string{"lag": "before", "lead": "after"}[f.name]
		return maybe(values, &reason{text: f.name + " gives NULL where there is no row " + where + " it", near: []string{f.name}})
	case "nth_value":
		return maybe(values, &reason{text: "nth_value gives NULL where the frame has fewer rows", near: []string{f.name}})
	}
	clauses, _ := s.query.List("windowClause")
	i := slices.IndexFunc(clauses, func(c *pgtree.Node) bool { return num(c, "winref") == num(e, "winref") })
	if i < 0 {
		return unknown(values)
	}
	frame, ok := clauses[i].Int("frameOptions")
	if !ok {
		return unknown(values)
	}
	start := frame&frameStarts != 0 || frame&frameStartPreceding != 0 && frame&frameRows != 0 && frame&frameEnds != 0
	end := frame&frameEnds != 0 || frame&frameEndFollowing != 0 && frame&frameRows != 0
	if !start || !end || frame&frameExclusions != 0 {
		return maybe(values, &reason{text: f.name + " gives NULL where its frame has no row", near: []string{f.name}})
	}
	if e.Node("aggfilter") != nil {
		return maybe(values, &reason{text: f.name + " is NULL where its FILTER leaves no row", near: []string{f.name}})
	}
	switch f.name {
	case "first_value", "last_value", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "string_agg", "bit_and", "bit_or", "var_pop", "stddev_pop", "any_value":
		return arg.withValues(values)
	case "array_agg", "json_agg", "jsonb_agg":
		return value(values)
	}
	return unknown(values)
}

// functionColumn is what a column of a function in FROM can be.
func (a *analyzer) functionColumn(rte *pgtree.Node, number int, s *scope, values mask) outcome {
	functions, ok := rte.List("functions")
	ordinality, known := rte.Bool("funcordinality")
	if !ok || !known || len(functions) == 0 {
		return unknown(values)
	}
	columns := 0
	for _, f := range functions {
		n := num(f, "funccolcount")
		if n < 0 {
			return unknown(values)
		}
		columns += n
	}
	if ordinality && number == columns+1 {
		return value(values)
	}
	if len(functions) != 1 || number > columns { // the shorter ones go on with NULL
		return unknown(values)
	}
	e := functions[0].Node("funcexpr")
	if !e.Is("FUNCEXPR") {
		if columns == 1 {
			return a.eval(e, s, s.within)
		}
		return unknown(values)
	}
	f := a.function(e)
	args, _ := e.List("args")
	if !f.builtin() {
		return unknown(values)
	}
	if columns > 1 {
		switch f.name {
		case "jsonb_each", "json_each":
			return value(values)
		case "jsonb_each_text", "json_each_text":
			if number == 1 {
				return value(values)
			}
			return maybe(values, &reason{text: fmt.Sprintf("a JSON null is NULL in %s", f.name), near: []string{f.name}})
		case "json_to_recordset", "jsonb_to_recordset", "json_to_record", "jsonb_to_record", "json_populate_record", "jsonb_populate_record",
			"json_populate_recordset", "jsonb_populate_recordset":
			return maybe(values, &reason{text: f.name + " gives NULL where the JSON has no such key", near: []string{f.name}})
		}
		return unknown(values)
	}
	switch f.name {
	case "json_to_recordset", "jsonb_to_recordset", "json_to_record", "jsonb_to_record":
		return maybe(values, &reason{text: f.name + " gives NULL where the JSON has no such key", near: []string{f.name}})
	}
	o := a.call(e, args, s, s.within, values)
	if f.set && f.strict { // it gives no row for NULL
		o = a.rows(f, e, args, s, s.within, outcome{})
	}
	return o
}

// rows is what the rows of a set-returning function can be; own is what it returns besides.
func (a *analyzer) rows(f *function, e *pgtree.Node, args []*pgtree.Node, s *scope, v env, own outcome) outcome {
	values := valuesOf(e)
	if !f.builtin() {
		return unknown(values)
	}
	switch f.name {
	case "generate_series", "generate_subscripts", "json_array_elements", "jsonb_array_elements", "json_object_keys", "jsonb_object_keys",
		"regexp_split_to_table", "regexp_matches":
		return value(values)
	case "json_array_elements_text", "jsonb_array_elements_text":
		return maybe(values, &reason{text: fmt.Sprintf("a JSON null is NULL in %s", f.name), near: []string{f.name}})
	case "unnest":
		if len(args) == 1 {
			return a.elements(args[0], s, v).withValues(values)
		}
	}
	return unknown(values)
}

// elements is what the elements of an array can be.
func (a *analyzer) elements(e *pgtree.Node, s *scope, v env) outcome {
	a.steps++
	v.depth++
	none := unknown(everything)
	if e == nil || v.depth > maxDepth || a.steps > maxSteps {
		return none
	}
	args, _ := e.List("args")
	switch e.Tag {
	case "RELABELTYPE", "COLLATEEXPR", "COERCETODOMAIN":
		return a.elements(e.Node("arg"), s, v)
	case "ARRAYCOERCEEXPR":
		if per := e.Node("elemexpr"); per.Is("RELABELTYPE", "COERCEVIAIO", "CASETESTEXPR") {
			return a.elements(e.Node("arg"), s, v)
		}
		return none
	case "ARRAYEXPR":
		var o outcome
		list, ok := e.List("elements")
		if several, known := e.Bool("multidims"); !ok || !known || several {
			return none
		}
		for _, element := range list {
			o = o.or(a.eval(element, s, v))
		}
		return o
	case "SUBLINK":
		if kind, ok := e.Int("subLinkType"); ok && (kind == linkArray || kind == linkExpr) && e.Node("subselect").Is("QUERY") {
			return a.output(a.subquery(e.Node("subselect"), s, v), 0, kind == linkExpr)
		}
	case "COALESCEEXPR":
		var o outcome
		for _, arg := range args {
			o = o.or(a.elements(arg, s, v))
		}
		return o
	case "CASEEXPR":
		o := a.branches(e, args, s, v, a.elements)
		if e.Node("defresult").Is("CONST") { // an array that is NULL has no elements
			o.does, o.why = o.does&^isNull, nil
		}
		return o
	case "CONST":
		if emptyArray(e) {
			bytes, ok := e.Datum("constvalue")
			if null, known := e.Bool("constisnull"); known && null || ok && len(bytes) >= 8 {
				return outcome{}
			}
			return none
		}
		// Whether it has a NULL, the offset of its data says: without, there is no bitmap.
		bytes, _ := e.Datum("constvalue")
		if len(bytes) >= 12 && bytes[8]|bytes[9]|bytes[10]|bytes[11] == 0 {
			return value(everything)
		}
	case "FUNCEXPR", "OPEXPR":
		f := a.function(e)
		if !f.builtin() || f.lang != "internal" {
			return none
		}
		switch f.src {
		case "array_remove":
			if null, _ := args[1].Bool("constisnull"); len(args) == 2 && args[1].Is("CONST") && null {
				return value(everything)
			}
			return a.elements(args[0], s, v)
		case "array_cat":
			return a.elements(args[0], s, v).or(a.elements(args[1], s, v))
		case "array_append":
			return a.elements(args[0], s, v).or(a.eval(args[1], s, v))
		case "array_prepend":
			return a.elements(args[1], s, v).or(a.eval(args[0], s, v))
		case "text_to_array", "regexp_split_to_array", "regexp_split_to_array_no_flags":
			return value(everything)
		}
	case "AGGREF", "WINDOWFUNC":
		if !a.isNamed(e, "array_agg") || len(args) == 0 {
			return none
		}
		arg := args[0]
		if arg.Is("TARGETENTRY") {
			arg = arg.Node("expr")
		}
		if t := a.catalog.types[e.OID("aggtype")]; t == nil || typeOf(arg) == e.OID("aggtype") { // of arrays: their elements
			if typeOf(arg) == 0 || typeOf(arg) == e.OID("aggtype") {
				return a.elements(arg, s, v)
			}
		}
		v.grouped = nil
		return a.eval(arg, s, v.with(conditions(s, e.Node("aggfilter"))...))
	case "VAR":
		table, number, up := num(e, "varno"), num(e, "varattno"), num(e, "varlevelsup")
		for range up {
			if s = s.parent; s == nil {
				return none
			}
		}
		if up == absent || v.returning == s {
			return none
		}
		if alias := s.aliased(table, number); alias != nil {
			return a.elements(alias, s, v)
		}
		rte := s.table(table)
		switch num(rte, "rtekind") {
		case rteSubquery:
			a.base(s, table, number, 0, everything)
			if sub := s.subs[table]; sub != nil {
				return a.output(sub, number-1, true)
			}
		case rteCTE:
			return a.withColumn(s, rte, number, everything, true)
		case rteRelation:
			if r := a.catalog.relations[rte.OID("relid")]; r != nil && r.kind == "v" {
				return a.viewColumn(r, number, true)
			}
		}
	}
	return none
}

// returned is what RETURNING gives of a column of the written table.
func (a *analyzer) returned(s *scope, table, number, returning int, values mask) outcome {
	const old, new = 1, 2
	rte := s.table(table)
	r := a.catalog.relations[rte.OID("relid")]
	none := func(what string) outcome {
		return outcome{can: isNull, does: isNull, why: &reason{text: what, near: []string{"returning"}}}
	}
	if r == nil || table != s.target || len(r.rules) > 0 { // a rule may return something else
		return unknown(values)
	}
	conflict := s.query.Node("onConflict")
	updates := num(conflict, "action") == 2
	switch {
	case s.cmd == cmdInsert && returning == old && !updates:
		return none("there is no old row of an INSERT")
	case s.cmd == cmdDelete && returning == new:
		return none("there is no new row of a DELETE")
	}
	if number == 0 {
		return value(values)
	}
	if r.kind != "r" && r.kind != "p" {
		return unknown(values)
	}
	stored := a.column(r, number, rte)
	if s.cmd == cmdInsert && returning == old || s.cmd == cmdMerge && returning != 0 {
		return outcome{can: stored.can&values | isNull, does: stored.does & values &^ isNull}
	}
	if stored.can&isNull == 0 {
		return value(values)
	}
	c := r.columns[number]
	if c == nil || s.cmd == cmdMerge || s.cmd == absent {
		return unknown(values)
	}
	before := func() outcome { // of the row that was there
		o := a.base(s, table, number, 0, values)
		if f := s.known.ofColumn(s, table, number); f != nil && !f.null {
			return value(values)
		}
		facts := &fact{before: s.known, scope: s, table: table, column: number, null: true}
		excluded, unsure := a.excluded(s.cons, facts, func(c constraint) bool {
			return a.mentions(c, s, func(t, n int) bool { return t == table && n == number })
		})
		return o.ruled(excluded, unsure)
	}
	switch {
	case s.cmd == cmdDelete, s.cmd == cmdUpdate && returning == old:
		return before()
	case s.cmd == cmdUpdate:
		if r.fillsWrite || c.generated {
			return unknown(values)
		}
		list, _ := s.query.List("targetList")
		if e := assigned(list, number); e != nil {
			return a.eval(e, s, s.within).withValues(values)
		}
		return before()
	case s.cmd == cmdInsert && !updates:
		return a.inserted(s, number, values)
	case s.cmd == cmdInsert:
		o := a.inserted(s, number, values)
		if r.fillsWrite || c.generated {
			return unknown(values)
		}
		list, _ := conflict.List("onConflictSet")
		if e := assigned(list, number); e != nil {
			return o.or(a.eval(e, s, s.within).withValues(values))
		}
		o = o.or(stored).withValues(values)
		return o
	}
	return unknown(values)
}

// assigned is what a column is set to; nil if it is not.
func assigned(list []*pgtree.Node, number int) *pgtree.Node {
	for _, te := range list {
		if junk, ok := te.Bool("resjunk"); ok && !junk && num(te, "resno") == number {
			return te.Node("expr")
		}
	}
	return nil
}

// inserted is what an INSERT puts into a column.
func (a *analyzer) inserted(s *scope, number int, values mask) outcome {
	r := a.catalog.relations[s.table(s.target).OID("relid")]
	if r == nil || r.columns[number] == nil || r.fillsInsert || r.kind != "r" && r.kind != "p" {
		return unknown(values)
	}
	c := r.columns[number]
	if stored := a.column(r, number, s.table(s.target)); stored.can&isNull == 0 {
		return value(values)
	}
	if c.generated {
		return unknown(values)
	}
	list, ok := s.query.List("targetList")
	if !ok {
		return unknown(values)
	}
	if e := assigned(list, number); e != nil && !e.Is("SETTODEFAULT") {
		o := a.eval(e, s, s.within).withValues(values)
		if e.Is("FIELDSTORE") || e.Is("SUBSCRIPTINGREF") {
			return unknown(values)
		}
		return o
	}
	t := a.catalog.types[c.typ]
	switch {
	case c.identity:
		return value(values)
	case c.hasDefault && c.expr != nil:
		return a.eval(c.expr, rowScope(r), env{nested: true}).ruled(false, true)
	case c.hasDefault || t == nil || t.kind == "d":
		return unknown(values)
	}
	return outcome{can: isNull, does: isNull, why: &reason{text: fmt.Sprintf("the INSERT leaves out column %q of table %s, which has no default", c.name, r), near: []string{c.name}}}
}
