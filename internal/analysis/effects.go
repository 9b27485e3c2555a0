package analysis

import (
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/pgtree"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// An explorer finds what a statement reads, writes and calls, with all that leads to it.
type explorer struct {
	a    *analyzer
	st   *Statement
	path []string
	seen map[*pgtree.Node]bool
}

func (x *explorer) through() string { return strings.Join(x.path, ", ") }

// within explores trees that something leads to.
func (x *explorer) within(what string, trees []*pgtree.Node) {
	x.path = append(x.path, what)
	for _, tree := range trees {
		x.explore(tree)
	}
	x.path = x.path[:len(x.path)-1]
}

func (x *explorer) write(what string, w Write) {
	w.What = strings.Join(append(slices.Clone(x.path), what), ", ")
	w.Direct = w.Direct && len(x.path) == 0
	if !slices.Contains(x.st.Writes, w) {
		x.st.Writes = append(x.st.Writes, w)
	}
}

func (x *explorer) explore(tree *pgtree.Node) {
	if tree == nil || x.seen[tree] || len(x.path) > maxRounds {
		return
	}
	x.seen[tree] = true
	tree.Walk(func(n *pgtree.Node) bool {
		if n.Is("QUERY") {
			x.query(n)
		}
		x.calls(n)
		return true
	})
}

// The rights that an entry of the range table asks for.
const (
	aclInsert = 1
	aclSelect = 2
	aclUpdate = 4
	aclDelete = 8
)

// The types of rules in pg_rewrite, and the words for what writes.
var writing = map[int]string{cmdInsert: "insert into", cmdUpdate: "update", cmdDelete: "delete from", cmdMerge: "merge into"}

func (x *explorer) query(q *pgtree.Node) {
	tables, _ := q.List("rtable")
	infos, _ := q.List("rteperminfos")
	cmd, target := num(q, "commandType"), num(q, "resultRelation")
	marks, _ := q.List("rowMarks")
	for i, rte := range tables {
		if kind, ok := rte.Int("rtekind"); !ok || kind != rteRelation {
			continue
		}
		r := x.a.catalog.relations[rte.OID("relid")]
		if r == nil {
			continue
		}
		needs, ok := rte.Int("requiredPerms")
		if at := num(rte, "perminfoindex"); !ok && at >= 1 && at <= len(infos) {
			needs = num(infos[at-1], "requiredPerms")
		}
		if needs <= 0 && i+1 != target {
			continue
		}
		locked := slices.ContainsFunc(marks, func(m *pgtree.Node) bool { return num(m, "rti") == i+1 })
		t := Table{OID: r.oid, Schema: r.schema, Name: r.name, Kind: r.kind, Through: x.through(), Visible: r.visible, Selected: needs&aclSelect != 0, Locked: locked}
		if i+1 == target {
			t.Inserted, t.Updated, t.Deleted = needs&aclInsert != 0, needs&aclUpdate != 0, needs&aclDelete != 0
		}
		x.table(t)
		if locked {
			x.write("locks rows of "+r.String(), Write{Certain: true, Lock: true, Direct: true})
		}
		if i+1 == target {
			words := writing[cmd]
			if words == "" {
				words = "write to"
			}
			x.write(words+" "+r.String(), Write{Certain: true, Direct: true})
			for _, rule := range r.rules {
				x.within("rule "+rule.name, rule.trees)
			}
		}
		for _, policy := range r.policies {
			x.within("policy "+policy.name, policy.trees)
		}
		if r.kind == "v" && r.view != nil {
			x.within("view "+r.String(), []*pgtree.Node{r.view})
		}
	}
	if cmd != cmdSelect && target <= 0 {
		x.write("a statement that is not known", Write{})
	}
}

// table adds a table, or what else is done to it.
func (x *explorer) table(t Table) {
	i := slices.IndexFunc(x.st.Tables, func(u Table) bool { return u.OID == t.OID && u.Through == t.Through })
	if i < 0 {
		x.st.Tables = append(x.st.Tables, t)
		return
	}
	u := &x.st.Tables[i]
	u.Selected, u.Inserted, u.Updated = u.Selected || t.Selected, u.Inserted || t.Inserted, u.Updated || t.Updated
	u.Deleted, u.Locked = u.Deleted || t.Deleted, u.Locked || t.Locked
}

// calls looks at what one node calls.
func (x *explorer) calls(n *pgtree.Node) {
	if n.Is("COERCETODOMAIN", "PARAM") {
		oid := typeOf(n)
		for t := x.a.catalog.types[oid]; t != nil && t.kind == "d"; t = x.a.catalog.types[t.base] {
			if len(t.checks) > 0 {
				x.within("domain "+t.name, t.checks)
			}
		}
	}
	if op := x.a.catalog.operators[n.OID("opno")]; op != nil {
		what := ""
		if op.schema != "pg_catalog" {
			what = "operator " + op.name
		}
		x.function(x.a.catalog.functions[op.function], what)
		return
	}
	for _, field := range [...]string{"funcid", "aggfnoid", "winfnoid"} {
		if oid := n.OID(field); oid != 0 {
			x.function(x.a.catalog.functions[oid], "")
		}
	}
}

func (x *explorer) function(f *function, by string) {
	if f == nil || f.name == "" {
		return
	}
	path := x.path
	if by != "" {
		x.path = append(slices.Clip(x.path), by)
	}
	defer func() { x.path = path }()
	called := Function{OID: f.oid, Schema: f.schema, Name: f.name, Volatility: f.volatility, Through: x.through()}
	if slices.Contains(x.st.Functions, called) {
		return
	}
	x.st.Functions = append(x.st.Functions, called)
	what := "function " + f.name
	for _, oid := range f.support {
		x.path = append(slices.Clip(x.path), "aggregate "+f.name)
		x.function(x.a.catalog.functions[oid], "")
		x.path = x.path[:len(x.path)-1]
	}
	switch {
	case f.bodyKnown:
		x.within(what, f.body)
	case f.volatility != "v", f.kind == "a":
	case f.builtin() && slices.Contains(writers, f.name):
		x.write(what, Write{Certain: true})
	case f.builtin() && sqltext.ChangesNothing(f.name):
	case f.builtin():
		x.write(what+", which is volatile", Write{Builtin: true})
	default:
		x.write(what+", which is volatile, in "+f.lang, Write{})
	}
}

// writers are the functions of PostgreSQL's own that a read-only transaction refuses.
var writers = []string{"nextval", "setval", "lo_create", "lo_creat", "lo_from_bytea", "lo_import", "lo_put", "lo_truncate", "lo_truncate64",
	"lo_unlink", "lowrite"}

// effects fills in what a statement does.
func (a *analyzer) effects(st *Statement, tree *pgtree.Node) {
	x := &explorer{a: a, st: st, seen: map[*pgtree.Node]bool{}}
	x.explore(tree)
}

// assignments fills in which parameters are assigned to which columns, the casts of parameters, and the columns that an
// INSERT leaves out.
func (a *analyzer) assignments(st *Statement, s *scope) {
	a.assigns(st, s)
	list, _ := s.query.List("cteList")
	for _, cte := range list {
		if q := cte.Node("ctequery"); q.Is("QUERY") && num(q, "commandType") != cmdSelect {
			a.assigns(st, a.newScope(q, s, env{}))
		}
	}
	s.query.Walk(func(n *pgtree.Node) bool {
		from, to := n.Node("arg"), n.OID("resulttype")
		format := absent
		for _, field := range [...]string{"relabelformat", "coerceformat", "coercionformat"} {
			if f, ok := n.Int(field); ok {
				format = f
			}
		}
		if n.Is("FUNCEXPR") {
			args, _ := n.List("args")
			format, to = num(n, "funcformat"), n.OID("funcresulttype")
			if len(args) > 0 {
				from = args[0]
			}
		}
		const explicit = 1
		if format != explicit || from == nil {
			return true
		}
		for _, number := range a.paramsOf(from, s, 0) {
			if number < 1 || number > len(st.Params) {
				continue
			}
			p, c := &st.Params[number-1], Cast{From: typeOf(from), To: to}
			if c.From != c.To && !slices.Contains(p.Casts, c) && !from.Is("VAR") {
				p.Casts = append(p.Casts, c)
			}
		}
		return true
	})
}

func (a *analyzer) assigns(st *Statement, s *scope) {
	r := a.catalog.relations[s.table(s.target).OID("relid")]
	if r == nil || s.cmd == cmdSelect {
		return
	}
	conflict := s.query.Node("onConflict")
	set := func(list []*pgtree.Node, inserts bool, where []constraint) {
		for _, te := range list {
			if junk, ok := te.Bool("resjunk"); !ok || junk {
				continue
			}
			base, number := a.stored(r, num(te, "resno"))
			ref := a.columnRef(base.oid, number)
			if ref == nil {
				continue
			}
			ref.Declared = ref.NotNull
			fills := base.fillsWrite
			if inserts {
				fills = base.fillsInsert
			}
			ref.NotNull = ref.NotNull && !fills.has(base.columns[number]) && len(base.rules) == 0
			if ref.NotNull {
				a.nullSet(st, te.Node("expr"), s, *ref, where)
			}
			for _, number := range a.paramsOf(te.Node("expr"), s, 0) {
				if number >= 1 && number <= len(st.Params) && !slices.Contains(st.Params[number-1].Sets, *ref) {
					st.Params[number-1].Sets = append(st.Params[number-1].Sets, *ref)
				}
			}
			if !ref.NotNull {
				continue
			}
			for i := range st.Params {
				if p := &st.Params[i]; !slices.Contains(p.Sets, *ref) && !slices.Contains(p.Fails, *ref) && a.isNullBecauseOf(i+1, len(st.Params), te.Node("expr"), s) {
					p.Fails = append(p.Fails, *ref)
				}
			}
		}
	}
	list, _ := s.query.List("targetList")
	switch s.cmd {
	case cmdInsert:
		set(list, true, nil)
		changed, _ := conflict.List("onConflictSet")
		set(changed, false, conditions(s, conflict.Node("onConflictWhere")))
		a.omitted(st, r, list)
	case cmdUpdate:
		set(list, false, nil)
	case cmdMerge:
		actions, _ := s.query.List("mergeActionList")
		for i, action := range actions {
			list, _ := action.List("targetList")
			switch num(action, "commandType") {
			case cmdInsert:
				set(list, true, mergeConditions(s, actions[:i+1]))
				a.omitted(st, r, list)
			case cmdUpdate:
				set(list, false, mergeConditions(s, actions[:i+1]))
			}
		}
	}
}

// mergeConditions are what holds where the last of some actions of a MERGE is taken: its condition, not that of one before it for
// such rows, and that of the join if it is for rows that match.
func mergeConditions(s *scope, actions []*pgtree.Node) (cons []constraint) {
	last := actions[len(actions)-1]
	on := s.query.Node("mergeJoinCondition") // since version 17
	if on == nil {
		on = s.query.Node("jointree").Node("quals")
	}
	kind := func(action *pgtree.Node) int { // before version 17 it matches or does not
		if matched, ok := action.Bool("matched"); ok && matched {
			return 0
		} else if ok {
			return 2
		}
		return num(action, "matchKind")
	}
	for i, action := range actions {
		qual := action.Node("qual")
		switch {
		case i == len(actions)-1:
			cons = append(cons, conditions(s, qual)...)
		case qual != nil && kind(action) == kind(last):
			cons = append(cons, constraint{scope: s, expr: qual, allowed: isFalse | isNull})
		}
	}
	if kind(last) == 0 {
		cons = append(cons, conditions(s, on)...)
	}
	return cons
}

// stored is the column of a table that holds what is written to a column of a view; what is not a view has it itself.
func (a *analyzer) stored(r *relation, number int) (*relation, int) {
	for range maxRounds {
		from, _ := r.view.Node("jointree").List("fromlist")
		if r.kind != "v" || r.instead || len(r.rules) > 0 || len(from) != 1 || !from[0].Is("RANGETBLREF") {
			break
		}
		view := &scope{query: r.view, cmd: cmdSelect}
		view.tables, _ = r.view.List("rtable")
		list := columnsOf(view)
		if number < 1 || number > len(list) {
			break
		}
		e := list[number-1].Node("expr")
		base := a.catalog.relations[view.table(num(e, "varno")).OID("relid")]
		if !isColumn(e, num(from[0], "rtindex")) || base == nil {
			break
		}
		r, number = base, num(e, "varattno")
	}
	return r, number
}

// nullSet adds a column that is NOT NULL and is set to what may be NULL whatever the parameters are, where a condition holds.
func (a *analyzer) nullSet(st *Statement, e *pgtree.Node, s *scope, ref ColumnRef, where []constraint) {
	if e.Is("SETTODEFAULT") {
		return
	}
	b := a.withParams(slices.Repeat([]Null{Never}, len(st.Params)))
	at := b.again(s)
	v := env{}
	for _, c := range where {
		v = v.with(constraint{scope: at, expr: c.expr, allowed: c.allowed})
	}
	o := b.eval(e, at, v)
	if b.steps > maxSteps || o.does&isNull == 0 || o.why == nil {
		return
	}
	set := NullSet{ColumnRef: ref, Reason: o.why.text, Always: o.can == isNull}
	if !slices.Contains(st.NullSets, set) {
		st.NullSets = append(st.NullSets, set)
	}
}

// withParams is an analyzer of the same statement with other parameters.
func (a *analyzer) withParams(params []Null) *analyzer {
	return &analyzer{catalog: a.catalog, params: params, views: map[uint32]*scope{}, links: map[link]*scope{},
		reached: map[uint32]bool{}, with: map[*pgtree.Node]*withQuery{}}
}

// again is a scope that another analyzer made.
func (a *analyzer) again(s *scope) *scope {
	if s == nil {
		return nil
	}
	return a.newScope(s.query, a.again(s.parent), env{})
}

// isNullBecauseOf reports whether an expression is NULL where one of the parameters is and the others are not.
func (a *analyzer) isNullBecauseOf(number, params int, e *pgtree.Node, s *scope) bool {
	named := false
	see := func(n *pgtree.Node) bool {
		kind, ok := n.Int("paramkind")
		named = named || n.Is("PARAM") && ok && kind == 0 && num(n, "paramid") == number
		return !named
	}
	e.Walk(func(n *pgtree.Node) bool {
		if n.Is("VAR") && num(n, "varlevelsup") == 0 {
			s.table(num(n, "varno")).Walk(see)
		}
		return see(n)
	})
	if !named {
		return false
	}
	b := a.withParams(slices.Repeat([]Null{Never}, params))
	b.params[number-1] = Maybe
	o := b.eval(e, b.again(s), env{})
	return b.steps <= maxSteps && o.does&isNull != 0 && o.why != nil && o.why.param == number
}

// omitted adds the columns that an INSERT leaves out and that then fail.
func (a *analyzer) omitted(st *Statement, r *relation, list []*pgtree.Node) {
	given := map[int]bool{}
	base := r
	for number, c := range r.columns {
		at, n := a.stored(r, number)
		if at.kind != "v" {
			base = at
		}
		e := assigned(list, number)
		given[n] = given[n] || e != nil && !e.Is("SETTODEFAULT") || c.hasDefault && r != at
	}
	if base.kind != "r" && base.kind != "p" || len(base.rules) > 0 {
		return
	}
	for _, c := range base.columns {
		t := a.catalog.types[c.typ]
		if given[c.number] || base.fillsInsert.has(c) || c.hasDefault || c.identity || c.generated || t == nil || t.hasDefault || !c.notNull && a.column(base, c.number, nil).can&isNull != 0 {
			continue
		}
		if ref := a.columnRef(base.oid, c.number); !slices.Contains(st.Omitted, *ref) {
			st.Omitted = append(st.Omitted, *ref)
		}
	}
	slices.SortFunc(st.Omitted, func(x, y ColumnRef) int { return int(x.Number) - int(y.Number) })
}

// paramsOf are the parameters that an expression is, as they are or after casts that keep NULL: several where rows of
// VALUES differ.
func (a *analyzer) paramsOf(e *pgtree.Node, s *scope, depth int) []int {
	if e == nil || s == nil || depth > maxDepth {
		return nil
	}
	switch {
	case e.Is("PARAM"):
		if kind, ok := e.Int("paramkind"); ok && kind == 0 {
			return []int{num(e, "paramid")}
		}
	case e.Is("RELABELTYPE", "COERCEVIAIO", "COERCETODOMAIN", "ARRAYCOERCEEXPR", "COLLATEEXPR"):
		return a.paramsOf(e.Node("arg"), s, depth+1)
	case e.Is("FUNCEXPR"):
		const explicitCast, implicitCast = 1, 2
		args, _ := e.List("args")
		f := a.function(e)
		if format := num(e, "funcformat"); len(args) > 0 && f != nil && f.strict && (format == explicitCast || format == implicitCast) {
			return a.paramsOf(args[0], s, depth+1)
		}
	case e.Is("VAR"):
		if num(e, "varlevelsup") != 0 {
			return nil
		}
		rte, number := s.table(num(e, "varno")), num(e, "varattno")
		switch num(rte, "rtekind") {
		case rteValues:
			lists, _ := rte.Lists("values_lists")
			var all []int
			for _, list := range lists {
				if number >= 1 && number <= len(list) {
					all = append(all, a.paramsOf(list[number-1], s, depth+1)...)
				}
			}
			return all
		case rteSubquery:
			q := rte.Node("subquery")
			if !q.Is("QUERY") || q.Node("setOperations") != nil {
				return nil
			}
			sub := &scope{query: q, parent: s, cmd: num(q, "commandType")}
			sub.tables, _ = q.List("rtable")
			if list := columnsOf(sub); number >= 1 && number <= len(list) {
				return a.paramsOf(list[number-1].Node("expr"), sub, depth+1)
			}
		}
	}
	return nil
}
