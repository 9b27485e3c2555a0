package analysis

import (
	"fmt"
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

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
	if !ok || s.sets && (!s.hasEmptySet() || len(v.cons) > 0) {
		return unknown(values)
	}
	kind, _ := e.Text("aggkind")
	if len(groups) == 0 || s.sets { // all rows are a group too, and there may be none
		if s.isTested() || !readsTable(s.query) || s.query.Node("havingQual") != nil || mentionsAggregate(v.cons, true) || s.findsOuter() || a.findsByKey(s, s.within) || s.parent != nil && s.parent.probed(relationsOf(s.query)) {
			return unknown(values)
		}
		return maybe(values, &reason{text: f.name + " of no rows is NULL", near: []string{f.name}, group: true})
	}
	if filter != nil {
		if mentionsAggregate(slices.Concat(s.cons, v.cons), false) {
			return unknown(values)
		}
		return maybe(values, &reason{text: f.name + " is NULL where its FILTER leaves no row", near: []string{f.name}, group: true})
	}
	switch f.name {
	case "array_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "json_agg_strict", "jsonb_agg_strict":
		return value(values)
	case "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "string_agg", "var_pop", "stddev_pop", "any_value",
		"range_agg", "range_intersect_agg", "xmlagg", "percentile_cont", "percentile_disc", "mode":
		direct, _ := e.List("aggdirectargs")
		for _, d := range direct { // the fraction
			arg = arg.or(a.eval(d, s, v))
		}
		if f.name == "string_agg" && len(args) > 1 || kind == "n" || kind == "o" {
			o := outcome{can: arg.can&isNull | values, does: arg.does&isNull | values}
			if mentionsAggregate(slices.Concat(s.cons, v.cons), false) { // it may ask for a row that is not NULL
				return outcome{can: o.can, does: o.does &^ isNull}
			}
			if arg.why != nil {
				o.why = &reason{text: fmt.Sprintf("%s is NULL where all of its rows are (%s)", f.name, arg.why.text), near: append([]string{f.name}, arg.why.near...),
					tied: arg.why.tied, group: true}
			}
			return o
		}
	case "stddev", "stddev_samp", "variance", "var_samp", "corr", "covar_samp", "regr_slope", "regr_intercept", "regr_r2":
		if mentionsAggregate(slices.Concat(s.cons, v.cons), true) { // it may ask for more rows
			return unknown(values)
		}
		return maybe(values, &reason{text: f.name + " of one row is NULL", near: []string{f.name}, group: true})
	}
	return unknown(values)
}

// hasEmptySet reports whether all rows are one of the groups of GROUPING SETS, ROLLUP or CUBE.
func (s *scope) hasEmptySet() bool {
	const empty, rollup, cube, sets = 0, 2, 3, 4
	var isEmpty func(set *pgtree.Node) bool
	isEmpty = func(set *pgtree.Node) bool {
		switch num(set, "kind") {
		case empty, rollup, cube:
			return true
		case sets:
			members, _ := set.List("content")
			return slices.ContainsFunc(members, isEmpty)
		}
		return false
	}
	all, _ := s.query.List("groupingSets") // each is combined with the others
	return len(all) > 0 && !slices.ContainsFunc(all, func(set *pgtree.Node) bool { return !isEmpty(set) })
}

// isTested reports whether a condition of the query around a subquery is about what that gives: it may ask for a row.
func (s *scope) isTested() bool {
	if s.parent == nil {
		return false
	}
	return slices.ContainsFunc(s.parent.cons, func(c constraint) bool {
		return c.scope == s.parent && s.parent.mentions(c.expr, 0, func(table, _ int) bool { return s.parent.subs[table] == s }, 0)
	})
}

// countsSome reports whether an expression is a count of rows that a group, or a frame, may always have.
func (a *analyzer) countsSome(e *pgtree.Node, s *scope, v env) bool {
	for a.onlyArgument(e) != nil { // a cast
		e = a.onlyArgument(e)
	}
	groups, _ := s.query.List("groupClause")
	if !a.isNamed(e, "count") || e.Is("AGGREF") && len(groups) == 0 {
		return false
	}
	args, _ := e.List("args")
	for _, arg := range args {
		if arg.Is("TARGETENTRY") {
			arg = arg.Node("expr")
		}
		v.grouped = nil
		if a.eval(arg, s, v).does&isNull != 0 {
			return s.sets || mentionsAggregate(slices.Concat(s.cons, v.cons), false)
		}
	}
	return e.Node("aggfilter") == nil || s.sets || mentionsAggregate(slices.Concat(s.cons, v.cons), false)
}

// findsOuter reports whether a subquery reads a table without a condition that the query around it reads too: it has a row.
func (s *scope) findsOuter() bool {
	if s.parent == nil || len(s.tables) != 1 || len(s.cons) > 0 {
		return false
	}
	oid := s.tables[0].OID("relid")
	for i, rte := range s.parent.tables {
		if oid != 0 && rte.OID("relid") == oid && !(s.parent.cmd == cmdInsert && i+1 == s.parent.target) {
			return true
		}
	}
	return false
}

// mentionsAggregate reports whether a condition is about an aggregate: there may be a row, and one that is not NULL, where it holds.
// One about count(*) matters if there may be no row.
func mentionsAggregate(cons []constraint, rows bool) bool {
	return slices.ContainsFunc(cons, func(c constraint) bool {
		found := false
		c.expr.Walk(func(n *pgtree.Node) bool {
			args, _ := n.List("args")
			found = found || n.Is("AGGREF") && (rows || len(args) > 0 || n.Node("aggfilter") != nil)
			return !found
		})
		return found
	})
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
		every := v // of other rows than the one of which something is known
		every.facts, every.cons = nil, conditions(s, e.Node("aggfilter"))
		arg = a.eval(args[0], s, every)
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
	if frame&frameRows == 0 && frame&frameStartPreceding != 0 && frame&frameEnds != 0 && frame&frameExclusions == 0 {
		return outcome{can: arg.can | isNull, does: arg.does} // a range or groups before the row, and the row
	}
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
