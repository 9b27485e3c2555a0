package analysis

import (
	"slices"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// num returns a field that is a number, or absent.
func num(n *pgtree.Node, field string) int {
	if i, ok := n.Int(field); ok {
		return i
	}
	return absent
}

// absent is what no number of a tree is.
const absent = -1 << 20

// The numbers of PostgreSQL's enums, which are the same since version 14.
const (
	cmdSelect = 1
	cmdUpdate = 2
	cmdInsert = 3
	cmdDelete = 4
	cmdMerge  = 5 // CMD_UTILITY in version 14, which no tree here has

	rteRelation  = 0
	rteSubquery  = 1
	rteJoin      = 2
	rteFunction  = 3
	rteTableFunc = 4
	rteValues    = 5
	rteCTE       = 6
	rteGroup     = 9 // since version 18

	joinInner = 0
	joinLeft  = 1
	joinFull  = 2
	joinRight = 3

	linkExists = 0
	linkAll    = 1
	linkAny    = 2
	linkExpr   = 4
	linkArray  = 6
)

// A scope is one query of a statement: the statement itself, a subquery, an expression of WITH, or the query of a view.
type scope struct {
	query  *pgtree.Node
	parent *scope
	tables []*pgtree.Node // the range table
	cmd    int
	target int // the place of the written table in the range table; 0 if none

	from  []int        // the places in the range table of what FROM joins
	cons  []constraint // that hold for every row of the result
	joins []*outerJoin // those that may have found no row
	known *fact        // what cons prove of columns

	sets   bool // it has grouping sets
	subs   map[int]*scope
	memo   map[columnKey]outcome
	busy   map[columnKey]bool
	judged map[columnKey]bool // columns whose conditions are being looked at
	row    *relation          // of a scope for the columns of one row of a table

	within env // what holds around it: whether it is evaluated for groups, or in a RETURNING
}

type columnKey struct{ table, column, returning int }

// A constraint is a condition whose outcome is one of some.
type constraint struct {
	scope   *scope
	expr    *pgtree.Node
	allowed mask
	having  bool // of groups
}

// An outerJoin is a side of a join that is NULL where there is no row for the other.
type outerJoin struct {
	words  string       // LEFT JOIN
	on     []constraint // its condition
	tables []int        // places in the range table
	cons   []constraint // that hold where there is a row
	joins  []*outerJoin // below it
	unsure bool         // there may be no case without a row
	other  *outerJoin   // the other side of a FULL JOIN, one of which has a row
}

// A fact is what is assumed, or proven, of a column, of all columns of a table, or of an expression.
type fact struct {
	before *fact
	scope  *scope
	table  int
	column int // allColumns for every one
	expr   *pgtree.Node
	null   bool
}

const allColumns = -1 << 30

func (f *fact) ofColumn(s *scope, table, column int) *fact {
	for ; f != nil; f = f.before {
		if f.expr == nil && f.scope == s && f.table == table && (f.column == column || f.column == allColumns) {
			return f
		}
	}
	return nil
}

func (f *fact) ofExpr(s *scope, e *pgtree.Node) *fact {
	for ; f != nil; f = f.before {
		if f.expr != nil && f.scope == s && pgtree.Equal(f.expr, e) {
			return f
		}
	}
	return nil
}

// newScope makes the scope of a query; notNull are expressions of which it is known that they are not NULL in its rows.
func (a *analyzer) newScope(query *pgtree.Node, parent *scope, within env, notNull ...*pgtree.Node) *scope {
	s := &scope{query: query, parent: parent, within: env{grouped: within.grouped, returning: within.returning}, subs: map[int]*scope{}, memo: map[columnKey]outcome{}, busy: map[columnKey]bool{}, judged: map[columnKey]bool{}}
	s.tables, _ = query.List("rtable")
	s.cmd = num(query, "commandType")
	s.target = num(query, "resultRelation")
	sets, ok := query.List("groupingSets")
	s.sets = !ok || len(sets) > 0
	if s.cmd != cmdMerge {
		s.from, s.cons, s.joins = a.joinTree(s, query.Node("jointree"))
		if having := query.Node("havingQual"); having != nil {
			for _, c := range conditions(s, having) {
				c.having = true
				s.cons = append(s.cons, c)
			}
		}
	}
	for _, e := range notNull {
		s.cons = append(s.cons, constraint{scope: s, expr: e, allowed: everything})
	}
	a.infer(s)
	return s
}

func (s *scope) table(number int) *pgtree.Node {
	if number < 1 || number > len(s.tables) {
		return nil
	}
	return s.tables[number-1]
}

// conditions splits what has to be true into what AND connects.
func conditions(s *scope, e *pgtree.Node) []constraint {
	if e == nil {
		return nil
	}
	if op, _ := e.Text("boolop"); e.Is("BOOLEXPR") && op == "and" {
		var all []constraint
		args, _ := e.List("args")
		for _, arg := range args {
			all = append(all, conditions(s, arg)...)
		}
		return all
	}
	return []constraint{{scope: s, expr: e, allowed: isTrue}}
}

// joinTree returns the tables below a node of FROM, what holds for its rows, and the outer joins that may have found none.
func (a *analyzer) joinTree(s *scope, n *pgtree.Node) (tables []int, cons []constraint, joins []*outerJoin) {
	switch {
	case n.Is("FROMEXPR"):
		list, _ := n.List("fromlist")
		for _, item := range list {
			t, c, j := a.joinTree(s, item)
			tables, cons, joins = append(tables, t...), append(cons, c...), append(joins, j...)
		}
		return tables, append(cons, conditions(s, n.Node("quals"))...), joins
	case n.Is("RANGETBLREF"):
		if number, ok := n.Int("rtindex"); ok {
			return []int{number}, nil, nil
		}
	case n.Is("JOINEXPR"):
		lt, lc, lj := a.joinTree(s, n.Node("larg"))
		rt, rc, rj := a.joinTree(s, n.Node("rarg"))
		tables = append(lt, rt...)
		on := conditions(s, n.Node("quals"))
		kind, ok := n.Int("jointype")
		switch {
		case ok && kind == joinInner:
			return tables, append(append(lc, rc...), on...), append(lj, rj...)
		case ok && kind == joinLeft:
			return tables, lc, append(lj, a.outerJoin(s, "LEFT JOIN", rt, append(rc, on...), rj, on, lt))
		case ok && kind == joinRight:
			return tables, rc, append(rj, a.outerJoin(s, "RIGHT JOIN", lt, append(lc, on...), lj, on, rt))
		case ok && kind == joinFull:
			left, right := a.outerJoin(s, "FULL JOIN", lt, lc, lj, nil, nil), a.outerJoin(s, "FULL JOIN", rt, rc, rj, nil, nil)
			left.other, right.other = right, left
			return tables, nil, []*outerJoin{left, right}
		}
	}
	// Not known: all of it may be NULL.
	return tables, nil, []*outerJoin{{tables: tables, unsure: true}}
}

// outerJoin makes one from its side that may be NULL.
func (a *analyzer) outerJoin(s *scope, words string, tables []int, cons []constraint, joins []*outerJoin, on []constraint, others []int) *outerJoin {
	j := &outerJoin{words: words, on: on, tables: tables, cons: cons, joins: joins}
	if others == nil {
		return j
	}
	if len(tables) == 1 {
		rte := s.table(tables[0])
		kind := num(rte, "rtekind")
		j.unsure = kind != rteRelation && kind != rteSubquery && kind != rteCTE && !(kind == rteFunction && a.mayGiveNoRow(rte, on))
		// A subquery that always has one row, joined on true, has it.
		if always(on) && kind == rteSubquery && oneRow(rte.Node("subquery")) {
			j.tables = nil
		}
	}
	return j
}

// mayGiveNoRow reports whether a function in FROM gives no row for some arguments, or the condition excludes it.
func (a *analyzer) mayGiveNoRow(rte *pgtree.Node, on []constraint) bool {
	functions, _ := rte.List("functions")
	if len(functions) != 1 {
		return false
	}
	e := functions[0].Node("funcexpr")
	f := a.function(e)
	args, _ := e.List("args")
	if f != nil && f.set && f.result != nil && mayBeEmpty(f.result) {
		return true
	}
	return f.builtin() && f.set && (!always(on) || slices.ContainsFunc(args, func(arg *pgtree.Node) bool { return !isConst(arg) }))
}

// always reports whether the conditions are none, or the constant true.
func always(on []constraint) bool {
	for _, c := range on {
		if b, ok := constBool(c.expr); !ok || !b {
			return false
		}
	}
	return true
}

func constBool(e *pgtree.Node) (b, ok bool) {
	null, _ := e.Bool("constisnull")
	bytes, ok := e.Datum("constvalue")
	if !e.Is("CONST") || e.OID("consttype") != boolOID || null || !ok || len(bytes) == 0 {
		return false, false
	}
	return bytes[0] != 0, true
}

// oneRow reports whether a query has exactly one row, whatever the data.
func oneRow(q *pgtree.Node) bool {
	if cmd := num(q, "commandType"); !q.Is("QUERY") || cmd != cmdSelect {
		return false
	}
	for _, name := range []string{"setOperations", "havingQual", "limitOffset", "limitCount"} {
		if q.Node(name) != nil || !q.Has(name) {
			return false
		}
	}
	for _, name := range []string{"groupClause", "groupingSets"} {
		if list, ok := q.List(name); !ok || len(list) > 0 {
			return false
		}
	}
	if sets, ok := q.Bool("hasTargetSRFs"); !ok || sets {
		return false
	}
	if aggs, ok := q.Bool("hasAggs"); !ok || aggs {
		return ok
	}
	from, ok := q.Node("jointree").List("fromlist")
	return ok && len(from) == 0 && q.Node("jointree").Node("quals") == nil
}

// mayBeEmpty reports whether some data leave a query without a row, for all that its tree tells: it reads a table.
func mayBeEmpty(q *pgtree.Node) bool {
	const union = 1
	if set := q.Node("setOperations"); num(set, "op") == union {
		return branchMayBeEmpty(q, set)
	}
	return !oneRow(q) && readsTable(q)
}

// branchMayBeEmpty is mayBeEmpty of a part of a UNION, which is empty if all of it is.
func branchMayBeEmpty(q, n *pgtree.Node) bool {
	if n.Is("SETOPERATIONSTMT") {
		return branchMayBeEmpty(q, n.Node("larg")) && branchMayBeEmpty(q, n.Node("rarg"))
	}
	tables, _ := q.List("rtable")
	i := num(n, "rtindex")
	return i >= 1 && i <= len(tables) && mayBeEmpty(tables[i-1].Node("subquery"))
}

func readsTable(q *pgtree.Node) bool {
	found := false
	tables, _ := q.List("rtable")
	for _, rte := range tables {
		kind, ok := rte.Int("rtekind")
		switch {
		case ok && kind == rteRelation:
			found = true
		case ok && kind == rteCTE:
			list, _ := q.List("cteList")
			name, _ := rte.Text("ctename")
			i := slices.IndexFunc(list, func(cte *pgtree.Node) bool {
				named, _ := cte.Text("ctename")
				return named == name && num(rte, "ctelevelsup") == 0
			})
			found = found || i < 0 || mayBeEmpty(list[i].Node("ctequery"))
		case ok && kind == rteSubquery:
			found = found || mayBeEmpty(rte.Node("subquery"))
		}
	}
	return found
}

// mustMatch reports whether a foreign key makes sure that an outer join finds a row, or may.
func (a *analyzer) mustMatch(s *scope, j *outerJoin, v env) bool {
	if j.other != nil || len(j.tables) != 1 {
		return false
	}
	if rte := s.table(j.tables[0]); num(rte, "rtekind") == rteSubquery && always(j.on) {
		sub := a.queryOf(s, j.tables[0])
		return sub != nil && a.findsByKey(sub, v)
	}
	return a.hasMatch(s, j.tables[0], j.on, v)
}

// hasMatch reports whether a foreign key makes sure that the conditions find a row of the table, or may. The two sides may be
// columns of subqueries, of expressions of WITH and of views that pass on those of the tables.
func (a *analyzer) hasMatch(s *scope, number int, on []constraint, v env) bool {
	if len(on) == 0 {
		return false
	}
	var ours, theirs *source
	var columns, refs []int
	for _, c := range on {
		args, _ := c.expr.List("args")
		op := a.catalog.operators[c.expr.OID("opno")]
		if !c.expr.Is("OPEXPR") || op == nil || op.name != "=" || len(args) != 2 {
			return false
		}
		our, their := bare(args[0]), bare(args[1])
		if !isColumn(our, number) {
			our, their = their, our
		}
		if !isColumn(our, number) || !their.Is("VAR") || isColumn(their, number) {
			return false
		}
		at := s
		for range num(their, "varlevelsup") {
			if at = at.parent; at == nil {
				return false
			}
		}
		to, from := a.sourceOf(s, number, num(our, "varattno"), 0), a.sourceOf(at, num(their, "varno"), num(their, "varattno"), 0)
		if to == nil || from == nil || !to.all || ours != nil && (!ours.sameRow(to) || !theirs.sameRow(from)) || a.eval(their, s, v).does&isNull != 0 {
			return false
		}
		ours, theirs = to, from
		columns, refs = append(columns, from.column), append(refs, to.column)
	}
	if theirs.relation == nil {
		return true
	}
	covers := func(keys, of []int) bool {
		return len(keys) >= len(columns) && !slices.ContainsFunc(columns, func(column int) bool {
			i := slices.Index(keys, column)
			return i < 0 || of[i] != refs[slices.Index(columns, column)]
		})
	}
	return theirs.oid == ours.oid && covers(columns, columns) || slices.ContainsFunc(theirs.relation.keys, func(k foreignKey) bool {
		return k.table == ours.oid && len(k.refColumns) == len(k.columns) && covers(k.columns, k.refColumns)
	})
}

// A source is the column of a table whose values a column of a query has.
type source struct {
	scope    *scope
	table    int // its place in the range table of the scope
	column   int
	oid      uint32
	relation *relation // nil if it is not known
	all      bool      // the query has every row of the table
}

func (x *source) sameRow(y *source) bool { return x.scope == y.scope && x.table == y.table }

// sourceOf is the source of a column; nil if it has another value than that of a table.
func (a *analyzer) sourceOf(s *scope, table, number, depth int) *source {
	if alias := s.aliased(table, number); alias != nil {
		if e := bare(alias); e.Is("VAR") && num(e, "varlevelsup") == 0 && depth < maxDepth {
			return a.sourceOf(s, num(e, "varno"), num(e, "varattno"), depth+1)
		}
		return nil
	}
	rte := s.table(table)
	if oid := rte.OID("relid"); num(rte, "rtekind") == rteRelation {
		if r := a.catalog.relations[oid]; r == nil || r.kind != "v" {
			return &source{s, table, number, oid, r, true}
		}
	}
	sub := a.queryOf(s, table)
	if sub != nil && sub.query.Node("setOperations") != nil {
		return &source{scope: s, table: table, column: number}
	}
	if sub == nil || depth > maxDepth {
		return nil
	}
	list := columnsOf(sub)
	if number < 1 || number > len(list) {
		return nil
	}
	e := bare(list[number-1].Node("expr"))
	if !e.Is("VAR") || num(e, "varlevelsup") != 0 {
		return nil
	}
	from := a.sourceOf(sub, num(e, "varno"), num(e, "varattno"), depth+1)
	if from != nil {
		from.all = from.all && sub.hasAll(num(e, "varno"), num(e, "varattno"))
	}
	return from
}

// hasAll reports whether a query has every row of the table that a column is of.
func (s *scope) hasAll(table, number int) bool {
	if e := bare(s.aliased(table, number)); e != nil {
		return e.Is("VAR") && s.hasAll(num(e, "varno"), num(e, "varattno"))
	}
	distinctOn, _ := s.query.Bool("hasDistinctOn")
	sets, _ := s.query.Bool("hasTargetSRFs")
	if s.cmd != cmdSelect || s.sets || sets || distinctOn || len(s.cons) > 0 || s.query.Node("limitCount") != nil || s.query.Node("limitOffset") != nil {
		return false
	}
	tables := append([]int(nil), s.from...)
	for _, j := range s.joins {
		tables = slices.DeleteFunc(tables, func(t int) bool { return slices.Contains(j.tables, t) })
	}
	return len(tables) == 1 && tables[0] == table
}

// bare is an expression without the casts that change nothing.
func bare(e *pgtree.Node) *pgtree.Node {
	for e.Is("RELABELTYPE", "COLLATEEXPR") {
		e = e.Node("arg")
	}
	return e
}

func isColumn(e *pgtree.Node, table int) bool {
	number := num(e, "varno")
	up, ok := e.Int("varlevelsup")
	return e.Is("VAR") && ok && up == 0 && number == table
}

// infer finds the outer joins that must have found a row, and the columns that are not NULL, by the conditions.
func (a *analyzer) infer(s *scope) {
	for changed := true; changed; {
		changed = false
		for _, c := range s.cons {
			arg := c.expr.Node("arg")
			test := num(c.expr, "nulltesttype")
			if byRow, ok := c.expr.Bool("argisrow"); c.allowed == isTrue && c.expr.Is("NULLTEST") && ok && !byRow && test == 0 && arg.Is("VAR") {
				if up, ok := arg.Int("varlevelsup"); ok && up == 0 {
					table := num(arg, "varno")
					number := num(arg, "varattno")
					if s.known.ofColumn(s, table, number) == nil {
						s.known = &fact{before: s.known, scope: s, table: table, column: number, null: true}
						changed = true
					}
				}
			}
		}
		for i, j := range s.joins {
			facts := s.known
			for _, table := range j.tables {
				facts = &fact{before: facts, scope: s, table: table, column: allColumns, null: true}
			}
			excluded, unsure := a.excluded(s.cons, facts, func(c constraint) bool {
				return a.mentions(c, s, func(table, _ int) bool { return slices.Contains(j.tables, table) })
			})
			if excluded || len(j.tables) == 0 {
				s.joins = append(slices.Delete(slices.Clone(s.joins), i, i+1), j.joins...)
				s.cons = append(s.cons, j.cons...)
				changed = true
				break
			}
			if !j.unsure && (unsure || s.probed(s.relations(j.tables)) || a.mustMatch(s, j, env{grouped: s.within.grouped})) {
				j.unsure = true
				clear(s.memo) // what it joins may be what others are joined by
			}
		}
		if changed {
			clear(s.memo)
			continue
		}
		for _, c := range s.cons {
			a.mentions(c, s, func(table, number int) bool {
				if s.known.ofColumn(s, table, number) != nil || a.base(s, table, number, 0, everything).can&isNull == 0 {
					return false
				}
				facts := &fact{before: s.known, scope: s, table: table, column: number, null: true}
				if excluded, _ := a.excluded(s.cons, facts, func(c constraint) bool {
					return a.mentions(c, s, func(t, n int) bool { return t == table && n == number })
				}); excluded {
					s.known = &fact{before: s.known, scope: s, table: table, column: number}
					changed = true
				}
				return false
			})
		}
	}
	clear(s.memo) // it was filled before all was known of the joins
}

// relations are the tables that entries of the range table are.
func (s *scope) relations(tables []int) (all []uint32) {
	for _, number := range tables {
		all = append(all, relationsOf(s.table(number))...)
	}
	return all
}

// excluded reports whether one of the conditions that matter cannot hold under the facts, and whether it is not known if
// all can.
func (a *analyzer) excluded(cons []constraint, facts *fact, matters func(constraint) bool) (excluded, unsure bool) {
	for _, c := range cons {
		if !matters(c) {
			continue
		}
		v := env{facts: facts, nested: true, grouped: c.scope.within.grouped, returning: c.scope.within.returning}
		if c.having && c.scope.sets {
			v.grouped = c.scope
		}
		o := a.eval(c.expr, c.scope, v)
		if o.can&c.allowed == 0 {
			return true, false
		}
		unsure = unsure || o.does&c.allowed == 0
	}
	return false, unsure
}

// mentions reports whether f holds for a column of the scope that the condition names, in subqueries too.
func (a *analyzer) mentions(c constraint, s *scope, f func(table, column int) bool) bool {
	up := 0
	for at := c.scope; at != s; at = at.parent {
		if at == nil {
			return false
		}
		up++
	}
	return s.mentions(c.expr, up, f, 0)
}

func (s *scope) mentions(e *pgtree.Node, up int, f func(table, column int) bool, depth int) bool {
	if e == nil || depth > maxDepth {
		return false
	}
	switch {
	case e.Is("VAR"):
		levels := num(e, "varlevelsup")
		if levels != up {
			return false
		}
		table := num(e, "varno")
		number := num(e, "varattno")
		if alias := s.aliased(table, number); alias != nil {
			return s.mentions(alias, 0, f, depth+1)
		}
		return f(table, number)
	case e.Is("QUERY"):
		up++
	}
	found := false
	e.Children(func(_ string, child *pgtree.Node) { found = found || s.mentions(child, up, f, depth+1) })
	return found
}

// aliased is the expression that a column of a join, or of what is grouped by, stands for; nil of any other column.
func (s *scope) aliased(table, number int) *pgtree.Node {
	rte := s.table(table)
	field := ""
	switch num(rte, "rtekind") {
	case rteJoin:
		field = "joinaliasvars"
	case rteGroup:
		field = "groupexprs"
	default:
		return nil
	}
	list, _ := rte.List(field)
	if number < 1 || number > len(list) {
		return nil
	}
	return list[number-1]
}

// maxDepth is how deep expressions are looked into.
const maxDepth = 200
