package analysis

import (
	"fmt"
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

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
	if s.cmd == cmdInsert && returning == old {
		return maybe(values, &reason{text: "there is no old row where ON CONFLICT finds none", near: []string{"returning"}})
	}
	if s.cmd == cmdMerge && returning != 0 {
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
		return a.unsureIfTied(o.ruled(excluded, unsure), s, table, number, env{})
	}
	sets := func(list []*pgtree.Node) bool { // what a check ties the column to
		return slices.ContainsFunc(r.checks, func(k check) bool {
			columns := columnsIn(k.expr)
			return slices.Contains(columns, number) && a.ties(r, k, number) &&
				slices.ContainsFunc(list, func(te *pgtree.Node) bool { return slices.Contains(columns, num(te, "resno")) })
		})
	}
	switch {
	case s.cmd == cmdDelete, s.cmd == cmdUpdate && returning == old:
		return before()
	case s.cmd == cmdUpdate:
		if r.fillsWrite.has(c) {
			return unknown(values)
		}
		if c.generated {
			return a.generated(r, c, func(n int) outcome { return a.returned(s, table, n, returning, everything) }).withValues(values)
		}
		list, _ := s.query.List("targetList")
		if e := assigned(list, number); e != nil {
			return a.eval(e, s, s.within).withValues(values)
		}
		return before().ruled(false, sets(list))
	case s.cmd == cmdInsert && !updates:
		return a.inserted(s, number, values)
	case s.cmd == cmdInsert:
		o := a.inserted(s, number, values)
		if r.fillsWrite.has(c) {
			return unknown(values)
		}
		if c.generated {
			return a.generated(r, c, func(n int) outcome { return a.returned(s, table, n, returning, everything) }).withValues(values)
		}
		list, _ := conflict.List("onConflictSet")
		where := conditions(s, conflict.Node("onConflictWhere"))
		if e := assigned(list, number); e != nil {
			return o.or(a.eval(e, s, s.within.with(where...)).withValues(values))
		}
		about := slices.ContainsFunc(where, func(c constraint) bool {
			return a.mentions(c, s, func(t, n int) bool { return t == table && n == number })
		})
		return o.or(stored.ruled(false, about || sets(list))).withValues(values)
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
	if r == nil || r.columns[number] == nil || r.fillsInsert.has(r.columns[number]) || r.kind != "r" && r.kind != "p" {
		return unknown(values)
	}
	c := r.columns[number]
	if stored := a.column(r, number, s.table(s.target)); stored.can&isNull == 0 {
		return value(values)
	}
	if c.generated {
		return a.generated(r, c, func(n int) outcome { return a.inserted(s, n, everything) }).withValues(values)
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
