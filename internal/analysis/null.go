package analysis

import (
	"fmt"
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// A mask is a set of the values that an expression can have.
type mask uint8

const (
	isNull  mask = 1 << iota
	isTrue       // of a boolean
	isFalse      // of a boolean
	isValue      // of any other type
	boolean = isTrue | isFalse
	// everything is for an expression whose type is not known.
	everything = boolean | isValue
)

const boolOID = 16

// An outcome says which values an expression can have. can holds those that are not proven impossible, and does those
// that it surely has for some data. Whether it ever has a value that is in can alone is not known.
type outcome struct {
	can, does mask
	why       *reason // of NULL in does
}

// A reason says why something may be NULL.
type reason struct {
	text  string
	near  []string // names by which its place is found in the SQL, the most telling first
	param int      // the parameter that is NULL; 0 if it is something else
	tied  bool     // a check ties it to other columns: a condition about those may exclude it
	outer bool     // an outer join finds no row: other columns of that are NULL too
	group bool     // an aggregate has no row, or none that is not NULL: another of the same rows may show that it has
}

func value(values mask) outcome   { return outcome{can: values, does: values} }
func unknown(values mask) outcome { return outcome{can: values | isNull} }
func maybe(values mask, why *reason) outcome {
	return outcome{can: values | isNull, does: values | isNull, why: why}
}

// or returns the outcome of an expression that is one of two.
func (o outcome) or(p outcome) outcome {
	if o.why == nil {
		o.why = p.why
	}
	return outcome{o.can | p.can, o.does | p.does, o.why}
}

// never is the outcome without NULL.
func (o outcome) never() outcome { return outcome{can: o.can &^ isNull, does: o.does &^ isNull} }

// withValues is the outcome with other values, and the same chance of NULL.
func (o outcome) withValues(values mask) outcome {
	out := outcome{can: o.can & isNull, does: o.does & isNull, why: o.why}
	if o.can&^isNull != 0 {
		out.can |= values
	}
	if o.does&^isNull != 0 {
		out.does |= values
	}
	return out
}

// An env holds what is known at the place where an expression is evaluated.
type env struct {
	facts     *fact
	cons      []constraint // of the branch of a CASE or the like
	nested    bool         // it is evaluated to judge a condition: conditions are not judged in turn
	grouped   *scope       // the query whose groups, and not rows, it is evaluated for
	returning *scope       // the query whose RETURNING it is in
	depth     int
}

func (v env) with(cons ...constraint) env {
	v.cons = append(slices.Clip(v.cons), cons...)
	return v
}

// An evaluation is eval, or elements.
type evaluation func(e *pgtree.Node, s *scope, v env) outcome

// An analyzer analyzes one statement.
type analyzer struct {
	catalog *catalog
	params  []Null
	views   map[uint32]*scope
	links   map[link]*scope
	reached map[uint32]bool // views that are being looked at
	with    map[*pgtree.Node]*withQuery
	steps   int
	// Of the body of a function: what its arguments can be, and how many functions are around it.
	inBody int
	args   []outcome
}

// A link is a subquery in an expression, and where.
type link struct {
	query              *pgtree.Node
	parent             *scope
	grouped, returning *scope
}

// maxSteps bounds the work for one statement: beyond it everything is unknown.
const maxSteps = 200000

// typeField is the field that holds the type of an expression, by its name.
func typeField(tag string) string {
	switch tag {
	case "VAR":
		return "vartype"
	case "CONST":
		return "consttype"
	case "PARAM":
		return "paramtype"
	case "FUNCEXPR":
		return "funcresulttype"
	case "OPEXPR", "DISTINCTEXPR", "NULLIFEXPR":
		return "opresulttype"
	case "CASEEXPR":
		return "casetype"
	case "COALESCEEXPR":
		return "coalescetype"
	case "MINMAXEXPR":
		return "minmaxtype"
	case "AGGREF":
		return "aggtype"
	case "WINDOWFUNC":
		return "wintype"
	case "SUBSCRIPTINGREF":
		return "refrestype"
	case "SQLVALUEFUNCTION", "XMLEXPR":
		return "type"
	case "ARRAYEXPR":
		return "array_typeid"
	case "ROWEXPR":
		return "row_typeid"
	case "CASETESTEXPR", "SETTODEFAULT", "COERCETODOMAINVALUE", "NEXTVALUEEXPR":
		return "typeId"
	}
	return "resulttype"
}

// typeOf is the type of an expression; 0 if it is not known.
func typeOf(e *pgtree.Node) uint32 {
	if e == nil {
		return 0
	}
	return e.OID(typeField(e.Tag))
}

// valuesOf are the values that an expression can have besides NULL, by its type.
func valuesOf(e *pgtree.Node) mask {
	if e.Is("BOOLEXPR", "NULLTEST", "BOOLEANTEST", "SCALARARRAYOPEXPR", "ROWCOMPAREEXPR") {
		return boolean
	}
	switch typeOf(e) {
	case 0:
		return everything
	case boolOID:
		return boolean
	}
	return isValue
}

// eval returns what an expression can be.
func (a *analyzer) eval(e *pgtree.Node, s *scope, v env) outcome {
	a.steps++
	v.depth++
	if e == nil || s == nil || v.depth > maxDepth || a.steps > maxSteps {
		return unknown(everything)
	}
	if f := v.facts.ofExpr(s, e); f != nil {
		if f.null {
			return outcome{can: isNull, does: isNull}
		}
		return value(valuesOf(e))
	}
	o := a.evalNode(e, s, v)
	if !v.nested && o.can&isNull != 0 && len(s.cons)+len(v.cons) > 0 && v.returning != s && !e.Is("VAR", "CONST") && !(s.sets && v.grouped == s) {
		o = a.restrict(o, s, e, v)
	}
	// A condition of the branch that is about the same expression, or its negation.
	cons := v.cons
	if !v.nested && v.returning != s && !(s.sets && v.grouped == s) && o.can&boolean != 0 {
		cons = slices.Concat(s.cons, v.cons)
	}
	for _, c := range cons {
		if c.scope != s {
			continue
		}
		if pgtree.Equal(c.expr, e) {
			o.can &= c.allowed
			o.does &= c.allowed
		} else if a.negates(c.expr, e) {
			o.can &= negated(c.allowed)
			o.does &= negated(c.allowed)
		}
	}
	return o
}

func negated(m mask) mask {
	out := m & isNull
	if m&isTrue != 0 {
		out |= isFalse
	}
	if m&isFalse != 0 {
		out |= isTrue
	}
	return out
}

// negates reports whether two comparisons are each other's opposite.
func (a *analyzer) negates(e, f *pgtree.Node) bool {
	if !e.Is("OPEXPR") || !f.Is("OPEXPR") {
		return false
	}
	op := a.catalog.operators[e.OID("opno")]
	fn := a.function(f)
	if op == nil || op.negator == 0 || op.negator != f.OID("opno") || !fn.builtin() {
		return false
	}
	x, _ := e.List("args")
	y, _ := f.List("args")
	return slices.EqualFunc(x, y, pgtree.Equal)
}

// function is what an expression calls; nil if that is not known.
func (a *analyzer) function(e *pgtree.Node) *function {
	for _, field := range [...]string{"funcid", "opfuncid", "aggfnoid", "winfnoid"} {
		if oid := e.OID(field); oid != 0 {
			return a.catalog.functions[oid]
		}
	}
	if op := a.catalog.operators[e.OID("opno")]; op != nil {
		return a.catalog.functions[op.function]
	}
	return nil
}

func (a *analyzer) evalNode(e *pgtree.Node, s *scope, v env) outcome {
	values := valuesOf(e)
	args, _ := e.List("args")
	switch e.Tag {
	case "VAR":
		return a.variable(e, s, v)
	case "CONST":
		null, ok := e.Bool("constisnull")
		switch b, isBool := constBool(e); {
		case !ok:
			return unknown(values)
		case null:
			return outcome{can: isNull, does: isNull, why: &reason{text: "it is NULL in the SQL", near: []string{"null"}}}
		case isBool && b:
			return value(isTrue)
		case isBool:
			return value(isFalse)
		}
		return value(values)
	case "PARAM":
		return a.param(e, s, v, values)
	case "RELABELTYPE", "COLLATEEXPR", "CONVERTROWTYPEEXPR", "NAMEDARGEXPR":
		o := a.eval(e.Node("arg"), s, v)
		if typ := typeOf(e); e.Is("CONVERTROWTYPEEXPR") || (typ == boolOID) != (typeOf(e.Node("arg")) == boolOID) { // a domain over bool
			return o.withValues(values)
		}
		return o
	case "COERCEVIAIO", "ARRAYCOERCEEXPR":
		// The input and output functions of a type are strict, and the server refuses one that returns NULL.
		return a.eval(e.Node("arg"), s, v).withValues(values)
	case "COERCETODOMAIN":
		o := a.eval(e.Node("arg"), s, v)
		if a.catalog.isNotNullDomain(e.OID("resulttype")) {
			return value(values)
		}
		return o.withValues(values)
	case "FUNCEXPR":
		return a.call(e, args, s, v, values)
	case "OPEXPR":
		return a.call(e, args, s, v, values)
	case "DISTINCTEXPR":
		return a.distinct(args, s, v)
	case "NULLIFEXPR":
		if len(args) != 2 {
			return unknown(values)
		}
		o := a.eval(args[0], s, v)
		if o.can&^isNull == 0 {
			return o
		}
		if a.countsSome(args[0], s, v) || a.guarded(args[0], s, v) || isConst(args[0]) && isConst(args[1]) {
			return outcome{can: isNull | values, does: values}
		}
		return maybe(values, &reason{text: "nullif gives NULL where its arguments are equal", near: []string{"nullif"}})
	case "SCALARARRAYOPEXPR":
		return a.anyOf(e, args, s, v)
	case "BOOLEXPR":
		return a.logic(e, args, s, v)
	case "CASEEXPR":
		return a.branches(e, args, s, v, a.eval)
	case "COALESCEEXPR", "MINMAXEXPR":
		o := a.first(args, s, v, values, e.Is("COALESCEEXPR"), a.eval)
		if o.can&isNull != 0 && v.returning != s && !(s.sets && v.grouped == s) {
			o = o.ruled(a.checked(args, s))
		}
		return o
	case "NULLTEST":
		return a.nullTest(e, s, v)
	case "BOOLEANTEST":
		return a.boolTest(e, s, v)
	case "ROWEXPR", "ARRAYEXPR", "GROUPINGFUNC", "CURRENTOFEXPR", "NEXTVALUEEXPR", "MERGESUPPORTFUNC", "FIELDSTORE":
		return value(values)
	case "ROWCOMPAREEXPR":
		left, _ := e.List("largs")
		right, _ := e.List("rargs")
		if len(left) > 0 && len(right) > 0 && (a.eval(left[0], s, v).can == isNull || a.eval(right[0], s, v).can == isNull) {
			return outcome{can: isNull, does: isNull}
		}
		return outcome{can: isNull | boolean, does: boolean}
	case "SQLVALUEFUNCTION":
		const currentSchema = 14
		if op, ok := e.Int("op"); !ok || op >= currentSchema {
			return unknown(values)
		}
		return value(values)
	case "SUBSCRIPTINGREF":
		return a.subscript(e, s, v, values)
	case "FIELDSELECT":
		return a.field(e, s, v, values)
	case "SUBLINK":
		return a.sublink(e, s, v)
	case "AGGREF":
		return a.aggregate(e, s, v, values)
	case "WINDOWFUNC":
		return a.window(e, s, v, values)
	}
	return unknown(values)
}

func (a *analyzer) param(e *pgtree.Node, s *scope, v env, values mask) outcome {
	const external, multiExpr = 0, 3
	number, ok := e.Int("paramid")
	kind, known := e.Int("paramkind")
	if ok && known && kind == multiExpr {
		return a.ofSeveral(number>>16, number&0xffff, s, v, values)
	}
	if !ok || !known || kind != external || number < 1 {
		return unknown(values)
	}
	if a.inBody > 0 {
		if number > len(a.args) {
			return unknown(values)
		}
		return a.args[number-1]
	}
	null := Unknown
	if number <= len(a.params) {
		null = a.params[number-1]
	}
	switch null {
	case Never:
		return value(values)
	case Unknown:
		return outcome{can: isNull | values, does: values}
	}
	o := maybe(values, &reason{text: fmt.Sprintf("parameter $%d may be NULL", number), near: []string{fmt.Sprintf("$%d", number)}, param: number})
	return o
}

// ofSeveral is what the subquery of UPDATE ... SET (a, b) = (SELECT ...) gives a column.
func (a *analyzer) ofSeveral(id, column int, s *scope, v env, values mask) outcome {
	list, _ := s.query.List("targetList")
	for _, te := range list {
		if e := te.Node("expr"); e.Is("SUBLINK") && num(e, "subLinkId") == id && e.Node("subselect").Is("QUERY") {
			return a.scalar(e.Node("subselect"), column-1, s, v).withValues(values)
		}
	}
	return unknown(values)
}

// restrict takes NULL from an outcome if a condition rules it out for the expression.
func (a *analyzer) restrict(o outcome, s *scope, e *pgtree.Node, v env) outcome {
	if o.can&isNull == 0 {
		return o
	}
	cons := slices.Concat(s.cons, v.cons)
	facts := a.assume(env{facts: s.known}, s, e, true).facts
	excluded, unsure := a.excluded(cons, facts, func(c constraint) bool {
		return c.scope == s && (contains(c.expr, e) || e.Is("COALESCEEXPR", "MINMAXEXPR") && a.mentions(c, s, func(table, column int) bool {
			return s.mentions(e, 0, func(t, n int) bool { return t == table && n == column }, 0)
		}))
	})
	return o.ruled(excluded, unsure)
}

func (o outcome) ruled(excluded, unsure bool) outcome {
	if excluded {
		return o.never()
	}
	if unsure {
		o.does, o.why = o.does&^isNull, nil
	}
	return o
}

func contains(e, part *pgtree.Node) bool {
	found := false
	e.Walk(func(n *pgtree.Node) bool {
		found = found || pgtree.Equal(n, part)
		return !found
	})
	return found
}
