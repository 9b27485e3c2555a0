package analysis

import (
	"github.com/pgcmd/pgcmd/internal/pgtree"
)

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
