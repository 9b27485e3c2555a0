package analysis

import (
	"fmt"
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// output is what a column of a query's result can be, or the elements of its arrays, counted from 0.
func (a *analyzer) output(s *scope, i int, elems bool) outcome {
	if s.query.Node("setOperations") != nil {
		return a.setOperation(s, s.query.Node("setOperations"), i, elems, 0)
	}
	list := columnsOf(s)
	if i < 0 || i >= len(list) {
		return unknown(everything)
	}
	e := list[i].Node("expr")
	v := s.within
	if s.cmd != cmdSelect {
		v.returning = s
	}
	grouping := notGrouped
	if s.sets {
		v.grouped = s
		if grouping = s.grouping(list[i]); grouping == inEverySet {
			v.grouped = nil
		}
	}
	if elems {
		return a.elements(e, s, v)
	}
	o := a.eval(e, s, v)
	if grouping == inSomeSets {
		name, _ := list[i].Text("resname")
		o.can, o.does = o.can|isNull, o.does|isNull
		o.why = &reason{text: fmt.Sprintf("%q is NULL in the rows of the grouping sets that leave it out", name), near: []string{"rollup", "cube", "grouping"}}
	}
	if sets, ok := s.query.Bool("hasTargetSRFs"); !ok || sets {
		several := 0
		for _, te := range list {
			te.Walk(func(n *pgtree.Node) bool {
				if b, _ := n.Bool("funcretset"); b {
					several++
				}
				if b, _ := n.Bool("opretset"); b {
					several++
				}
				return !n.Is("QUERY")
			})
		}
		if several != 1 { // the shorter ones go on with NULL
			o.can |= isNull
		}
	}
	return o
}

// columnsOf are the entries that make the result of a query.
func columnsOf(s *scope) []*pgtree.Node {
	field := "targetList"
	if s.cmd != cmdSelect {
		field = "returningList"
	}
	list, _ := s.query.List(field)
	return slices.DeleteFunc(slices.Clone(list), func(te *pgtree.Node) bool {
		junk, ok := te.Bool("resjunk")
		return !te.Is("TARGETENTRY") || !ok || junk
	})
}

func (a *analyzer) setOperation(s *scope, n *pgtree.Node, i int, elems bool, depth int) outcome {
	if n.Is("RANGETBLREF") {
		table := num(n, "rtindex")
		rte := s.table(table)
		if num(rte, "rtekind") != rteSubquery {
			return unknown(everything)
		}
		sub := s.subs[table]
		if sub == nil {
			sub = a.newScope(rte.Node("subquery"), s, s.within)
			s.subs[table] = sub
		}
		return a.output(sub, i, elems)
	}
	if !n.Is("SETOPERATIONSTMT") || depth > maxDepth {
		return unknown(everything)
	}
	const union, intersect, except = 1, 2, 3
	left := a.setOperation(s, n.Node("larg"), i, elems, depth+1)
	switch num(n, "op") {
	case union:
		return left.or(a.setOperation(s, n.Node("rarg"), i, elems, depth+1))
	case intersect:
		right := a.setOperation(s, n.Node("rarg"), i, elems, depth+1)
		o := outcome{can: left.can & right.can, does: left.does & right.does, why: left.why}
		return o
	case except:
		// The rows with NULL may be those that it takes away.
		right := a.setOperation(s, n.Node("rarg"), i, elems, depth+1)
		return left.ruled(false, right.can&isNull != 0)
	}
	return unknown(everything)
}

// How a column of the result is grouped by.
const (
	notGrouped = iota
	inEverySet
	inSomeSets
)

func (s *scope) grouping(te *pgtree.Node) int {
	ref := num(te, "ressortgroupref")
	groups, _ := s.query.List("groupClause")
	if ref <= 0 || !slices.ContainsFunc(groups, func(g *pgtree.Node) bool { return num(g, "tleSortGroupRef") == ref }) {
		return notGrouped
	}
	sets, _ := s.query.List("groupingSets")
	if slices.ContainsFunc(sets, func(set *pgtree.Node) bool { return holds(set, ref) }) { // each is combined with the others
		return inEverySet
	}
	return inSomeSets
}

// holds reports whether a group is in each of the sets that a node of GROUPING SETS stands for.
func holds(set *pgtree.Node, ref int) bool {
	const simple, sets = 1, 4
	switch num(set, "kind") {
	case simple:
		refs, _ := set.Ints("content")
		return slices.Contains(refs, ref)
	case sets:
		members, ok := set.List("content")
		return ok && len(members) > 0 && !slices.ContainsFunc(members, func(m *pgtree.Node) bool { return !holds(m, ref) })
	}
	return false
}

// A withQuery is what the columns of an expression of WITH can be.
type withQuery struct {
	cte       *pgtree.Node
	at        *scope // that of the query with the WITH
	scope     *scope
	recursive bool
	working   bool      // a recursive one is worked out: result is what is known so far
	result    []outcome // of a recursive one
}

// withQueryOf is the expression of WITH that an entry of the range table names; nil if it is not known.
func (a *analyzer) withQueryOf(s *scope, rte *pgtree.Node) *withQuery {
	name, _ := rte.Text("ctename")
	at := s
	up := num(rte, "ctelevelsup")
	for range up {
		if at = at.parent; at == nil {
			return nil
		}
	}
	if up == absent {
		return nil
	}
	list, _ := at.query.List("cteList")
	i := slices.IndexFunc(list, func(n *pgtree.Node) bool {
		named, _ := n.Text("ctename")
		return named == name
	})
	if i < 0 || !list[i].Node("ctequery").Is("QUERY") {
		return nil
	}
	cte := list[i]
	w := a.with[cte]
	if w == nil || w.scope != nil && w.scope.parent != at {
		recursive, ok := cte.Bool("cterecursive")
		w = &withQuery{cte: cte, recursive: recursive || !ok}
		a.with[cte] = w
		if !w.recursive {
			w.scope = a.newScope(cte.Node("ctequery"), at, at.within)
		}
	}
	w.at = at
	return w
}

func (a *analyzer) withColumn(s *scope, rte *pgtree.Node, number int, values mask, elems bool) outcome {
	w := a.withQueryOf(s, rte)
	if w == nil {
		return unknown(values)
	}
	cte, at := w.cte, w.at
	if !w.recursive {
		return a.output(w.scope, number-1, elems)
	}
	if elems {
		return unknown(values)
	}
	names, _ := cte.Texts("ctecolnames")
	own := a.countColumns(cte.Node("ctequery"))
	if number < 1 || number > len(names) || number > own {
		return unknown(values)
	}
	if w.working {
		return w.result[number-1]
	}
	if w.result == nil {
		// The first rows come from what is not recursive; each round may add NULL.
		w.result = make([]outcome, own)
		for round := 0; ; round++ {
			w.working = true
			w.scope = a.newScope(cte.Node("ctequery"), at, at.within)
			changed := false
			for i := range w.result {
				o := a.output(w.scope, i, false)
				if next := w.result[i].or(o); next.can != w.result[i].can || next.does != w.result[i].does {
					w.result[i], changed = next, true
				}
			}
			w.working = false
			if !changed {
				break
			}
			if round > own+maxRounds {
				for i := range w.result {
					w.result[i] = unknown(everything)
				}
				break
			}
		}
	}
	return w.result[number-1]
}

func (a *analyzer) countColumns(q *pgtree.Node) int {
	return len(columnsOf(&scope{query: q, cmd: num(q, "commandType")}))
}
