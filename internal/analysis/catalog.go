package analysis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// A catalog is what PostgreSQL's catalog says of everything that trees name, by object id.
type catalog struct {
	relations map[uint32]*relation
	functions map[uint32]*function
	operators map[uint32]*operator
	types     map[uint32]*sqlType
	role      string
}

type relation struct {
	oid                     uint32
	schema, name, kind      string
	visible                 bool
	columns                 map[int]*column
	checks                  []check
	view                    *pgtree.Node // the query of a view or a materialized view
	rules                   []rule       // but not that of a view's query
	policies                []rule
	keys                    []foreignKey
	fillsInsert, fillsWrite filling // what BEFORE triggers for each row may change of what INSERT or UPDATE writes
	instead                 bool    // an INSTEAD OF trigger
	parent                  bool    // it has children or partitions
}

// A filling is what triggers may change of a row.
type filling struct {
	all     bool
	columns map[string]bool // in lower case
}

func (f filling) has(c *column) bool { return f.all || f.columns[strings.ToLower(c.name)] }

type column struct {
	name                 string
	number               int
	typ                  uint32
	notNull              bool // by the table, in which it is validated
	inherited            bool // in every child too
	hasDefault, identity bool
	generated            bool
	expr                 *pgtree.Node // the default, or what it is generated from
}

type check struct {
	expr      *pgtree.Node
	noInherit bool
}

type rule struct {
	name  string
	trees []*pgtree.Node
}

type foreignKey struct {
	columns, refColumns []int
	table               uint32
}

type function struct {
	oid                         uint32
	schema, name                string
	strict, set                 bool
	volatility, kind, lang, src string
	body                        []*pgtree.Node
	bodyKnown                   bool // the body is all that it does
	args                        string
	config                      string
	support                     []uint32       // of an aggregate: the functions that make it
	result                      *pgtree.Node   // of a function in SQL: the query whose rows it returns; nil if it is not known
	inputs                      int            // how many arguments it has
	defaults                    []*pgtree.Node // of the last of them
	returns                     []uint32       // the types of the columns of what it returns
}

func (f *function) builtin() bool {
	return f != nil && f.schema == "pg_catalog" && f.oid < firstUserOID
}

// returnsLastOf keeps the last statement of a body, whose rows a function in SQL returns.
func (f *function) returnsLastOf(body []*pgtree.Node) {
	if len(body) == 0 || f.lang != "sql" || f.kind != "f" {
		return
	}
	if last := body[len(body)-1]; last.Is("QUERY") && isKnown(last) {
		f.result = last
	}
}

// firstUserOID is FirstNormalObjectId of PostgreSQL's access/transam.h.
const firstUserOID = 16384

type operator struct {
	schema, name string
	function     uint32
	negator      uint32
}

type sqlType struct {
	name       string
	kind       string // of pg_type: b, c, d, e, r, m, p
	base       uint32 // of a domain
	notNull    bool   // of a domain
	hasDefault bool   // of a domain
	elem       uint32
	labels     int            // how many values an enum has
	checks     []*pgtree.Node // of a domain
	rel        uint32
}

// String is the name by which the SQL most likely knows it.
func (r *relation) String() string {
	if r.visible || r.schema == "public" {
		return r.name
	}
	return r.schema + "." + r.name
}

func newCatalog() *catalog {
	return &catalog{relations: map[uint32]*relation{}, functions: map[uint32]*function{}, operators: map[uint32]*operator{}, types: map[uint32]*sqlType{}}
}

// wants are the object ids in trees that a catalog does not know yet.
type wants struct{ relations, functions, operators, types map[uint32]bool }

func (c *catalog) wantsOf(trees []*pgtree.Node) *wants {
	w := &wants{map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}}
	add := func(to map[uint32]bool, known bool, oid uint32) {
		if oid != 0 && !known {
			to[oid] = true
		}
	}
	for _, tree := range trees {
		tree.Walk(func(n *pgtree.Node) bool {
			for _, name := range [...]string{"relid", "resorigtbl"} {
				oid := n.OID(name)
				add(w.relations, c.relations[oid] != nil, oid)
			}
			for _, name := range [...]string{"funcid", "opfuncid", "aggfnoid", "winfnoid"} {
				oid := n.OID(name)
				add(w.functions, c.functions[oid] != nil, oid)
			}
			oid := n.OID("opno")
			add(w.operators, c.operators[oid] != nil, oid)
			for _, name := range [...]string{"paramtype", "resulttype", "consttype", "vartype"} {
				oid := n.OID(name)
				add(w.types, c.types[oid] != nil, oid)
			}
			return true
		})
	}
	return w
}

func texts(set map[uint32]bool) []string {
	out := make([]string, 0, len(set))
	for oid := range set {
		out = append(out, strconv.FormatUint(uint64(oid), 10))
	}
	slices.Sort(out)
	return out
}

func parseInts(text string) (ints []int) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == '{' || r == '}' || r == ',' || r == ' ' }) {
		i, err := strconv.Atoi(word)
		if err != nil {
			return nil
		}
		ints = append(ints, i)
	}
	return ints
}

func parseTree(text string) *pgtree.Node {
	nodes, err := pgtree.Parse(text)
	if err != nil || len(nodes) != 1 {
		return nil
	}
	return nodes[0]
}

// load reads what the trees name, and what that names, until nothing is left.
func (c *catalog) load(ctx context.Context, conn *pgx.Conn, trees []*pgtree.Node) error {
	if c.role == "" {
		rows, err := pgrows.Query(ctx, conn, "select current_user")
		if err != nil {
			return err
		}
		c.role = rows[0][0]
	}
	for range maxRounds {
		w := c.wantsOf(trees)
		if len(w.relations)+len(w.functions)+len(w.operators)+len(w.types) == 0 {
			return nil
		}
		trees = nil
		for _, part := range []struct {
			oids map[uint32]bool
			read func(ctx context.Context, conn *pgx.Conn, oids []string) ([]*pgtree.Node, error)
		}{{w.operators, c.readOperators}, {w.relations, c.readRelations}, {w.functions, c.readFunctions}, {w.types, c.readTypes}} {
			if len(part.oids) == 0 {
				continue
			}
			more, err := part.read(ctx, conn, texts(part.oids))
			if err != nil {
				return err
			}
			trees = append(trees, more...)
		}
		// What is found for a name that is gone in the meantime stays unknown, and is not asked for again.
		for oid := range w.relations {
			if c.relations[oid] == nil {
				c.relations[oid] = &relation{oid: oid, kind: "?"}
			}
		}
		for oid := range w.functions {
			if c.functions[oid] == nil {
				c.functions[oid] = &function{oid: oid}
			}
		}
		for oid := range w.operators {
			if c.operators[oid] == nil {
				c.operators[oid] = &operator{}
			}
		}
		for oid := range w.types {
			if c.types[oid] == nil {
				c.types[oid] = &sqlType{}
			}
		}
	}
	return nil
}

// maxRounds is how deep views and functions within each other are followed.
const maxRounds = 32

func (c *catalog) readOperators(ctx context.Context, conn *pgx.Conn, oids []string) ([]*pgtree.Node, error) {
	rows, err := pgrows.Query(ctx, conn, `
		select o.oid, n.nspname, o.oprname, o.oprcode::pg_catalog.oid, o.oprnegate
		from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace where o.oid = any ($1::oid[])`, oids)
	if err != nil {
		return nil, err
	}
	var missing = map[uint32]bool{}
	for _, row := range rows {
		o := &operator{schema: row[1], name: row[2], function: pgrows.ParseOID(row[3]), negator: pgrows.ParseOID(row[4])}
		c.operators[pgrows.ParseOID(row[0])] = o
		if c.functions[o.function] == nil {
			missing[o.function] = true
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return c.readFunctions(ctx, conn, texts(missing))
}

func (c *catalog) readFunctions(ctx context.Context, conn *pgx.Conn, oids []string) (trees []*pgtree.Node, err error) {
	body := "p.prosqlbody::text"
	if !storesTrees(conn) {
		body = "null"
	}
	rows, err := pgrows.Query(ctx, conn, `
		select p.oid, n.nspname, p.proname, p.proisstrict, p.proretset, p.provolatile, p.prokind, l.lanname,
			case when l.lanname = 'internal' or l.lanname = 'sql' and p.oid >= 16384 then p.prosrc else '' end,
			case when p.oid >= 16384 then `+body+` end,
			(select pg_catalog.string_agg(case a.mode when 'v' then 'variadic ' else '' end || case when a.name <> '' then pg_catalog.quote_ident(a.name) || ' ' else '' end ||
					pg_catalog.format_type(a.type, null), ', ' order by a.number)
				from unnest(coalesce(p.proallargtypes, p.proargtypes::pg_catalog.oid[]), p.proargmodes, p.proargnames) with ordinality a (type, mode, name, number)
				where a.mode is null or a.mode in ('i', 'b', 'v')),
			pg_catalog.array_to_string(p.proconfig, e'\n'),
			(select pg_catalog.concat_ws(',', a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid)
				from pg_catalog.pg_aggregate a where a.aggfnoid = p.oid and p.oid >= 16384),
			p.pronargs,
			case when p.oid >= 16384 and l.lanname = 'sql' then coalesce(
				(select pg_catalog.string_agg(a.type::text, ',' order by a.number) from unnest(p.proallargtypes, p.proargmodes) with ordinality a (type, mode, number) where a.mode in ('o', 'b', 't')),
				(select pg_catalog.string_agg(a.atttypid::text, ',' order by a.attnum) from pg_catalog.pg_type t join pg_catalog.pg_attribute a on a.attrelid = t.typrelid
					where t.oid = p.prorettype and t.typrelid <> 0 and a.attnum > 0 and not a.attisdropped),
				p.prorettype::pg_catalog.oid::text) end,
			case when p.oid >= 16384 and l.lanname = 'sql' then p.proargdefaults::text end
		from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang
		where p.oid = any ($1::oid[])`, oids)
	if err != nil {
		return nil, err
	}
	support := map[uint32]bool{}
	for _, row := range rows {
		f := &function{oid: pgrows.ParseOID(row[0]), schema: row[1], name: row[2], strict: row[3] == "t", set: row[4] == "t",
			volatility: row[5], kind: row[6], lang: row[7], src: row[8], args: row[10], config: row[11]}
		f.inputs, _ = strconv.Atoi(row[13])
		for _, oid := range parseInts(row[14]) {
			f.returns = append(f.returns, uint32(oid))
		}
		if row[15] != "" {
			f.defaults, _ = pgtree.Parse(row[15])
			trees = append(trees, f.defaults...)
		}
		if row[9] != "" {
			nodes, err := pgtree.Parse(row[9])
			f.body, f.bodyKnown = nodes, err == nil
			f.returnsLastOf(nodes)
			trees = append(trees, nodes...)
		}
		for _, text := range strings.Split(row[12], ",") {
			if oid := pgrows.ParseOID(text); oid != 0 {
				f.support = append(f.support, oid)
				support[oid] = true
			}
		}
		c.functions[f.oid] = f
	}
	for oid := range support {
		if c.functions[oid] != nil {
			delete(support, oid)
		}
	}
	if len(support) > 0 {
		more, err := c.readFunctions(ctx, conn, texts(support))
		return append(trees, more...), err
	}
	return trees, nil
}

func (c *catalog) readTypes(ctx context.Context, conn *pgx.Conn, oids []string) (trees []*pgtree.Node, err error) {
	rows, err := pgrows.Query(ctx, conn, `
		with recursive t as (
			select oid, typname, typtype, typbasetype, typnotnull, typelem, typcategory, typrelid, typdefault from pg_catalog.pg_type where oid = any ($1::oid[])
			union
			select b.oid, b.typname, b.typtype, b.typbasetype, b.typnotnull, b.typelem, b.typcategory, b.typrelid, b.typdefault from t join pg_catalog.pg_type b on b.oid = t.typbasetype
		)
		select t.oid, pg_catalog.format_type(t.oid, null), t.typtype, t.typbasetype, t.typnotnull,
			case when t.typcategory = 'A' then t.typelem else 0 end,
			(select pg_catalog.count(*) from pg_catalog.pg_enum e where e.enumtypid = t.oid), t.typrelid, t.typdefault is not null
		from t`, oids)
	if err != nil {
		return nil, err
	}
	domains := map[uint32]bool{}
	for _, row := range rows {
		labels, _ := strconv.Atoi(row[6])
		oid := pgrows.ParseOID(row[0])
		c.types[oid] = &sqlType{name: row[1], kind: row[2], base: pgrows.ParseOID(row[3]), notNull: row[4] == "t",
			elem: pgrows.ParseOID(row[5]), labels: labels, rel: pgrows.ParseOID(row[7]), hasDefault: row[8] == "t"}
		if row[2] == "d" {
			domains[oid] = true
		}
	}
	if len(domains) == 0 {
		return nil, nil
	}
	rows, err = pgrows.Query(ctx, conn, `select contypid, conbin::text from pg_catalog.pg_constraint where contypid = any ($1::oid[]) and contype = 'c'`, texts(domains))
	for _, row := range rows {
		if tree := parseTree(row[1]); tree != nil {
			t := c.types[pgrows.ParseOID(row[0])]
			t.checks = append(t.checks, tree)
			trees = append(trees, tree)
		}
	}
	return trees, err
}

// isNotNullDomain reports whether the type is a domain, or one over a domain, that is NOT NULL.
func (c *catalog) isNotNullDomain(oid uint32) bool {
	for range maxRounds {
		t := c.types[oid]
		if t == nil || t.kind != "d" {
			return false
		}
		if t.notNull {
			return true
		}
		oid = t.base
	}
	return false
}

func (c *catalog) readRelations(ctx context.Context, conn *pgx.Conn, oids []string) (trees []*pgtree.Node, err error) {
	keep := func(text string) *pgtree.Node {
		tree := parseTree(text)
		if tree != nil {
			trees = append(trees, tree)
		}
		return tree
	}
	rows, err := pgrows.Query(ctx, conn, `
		with recursive member as (
			select k as parent, k as oid from pg_catalog.unnest($1::oid[]) k
			union
			select m.parent, i.inhrelid from member m join pg_catalog.pg_inherits i on i.inhparent = m.oid
		), fired as (
			select m.parent, t.tgtype from member m join pg_catalog.pg_trigger t on t.tgrelid = m.oid and t.tgenabled <> 'D'
		)
		select c.oid, n.nspname, c.relname, c.relkind, pg_catalog.pg_table_is_visible(c.oid),
			exists (select from fired f where f.parent = c.oid and f.tgtype & 64 = 64),
			exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid)
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = any ($1::oid[])`, oids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		oid := pgrows.ParseOID(row[0])
		c.relations[oid] = &relation{oid: oid, schema: row[1], name: row[2], kind: row[3], visible: row[4] == "t",
			instead: row[5] == "t", parent: row[6] == "t", columns: map[int]*column{}}
	}
	if err := c.readTriggers(ctx, conn, oids); err != nil {
		return nil, err
	}
	// A NOT NULL constraint need not be validated since PostgreSQL 18, and a child need not have it.
	rows, err = pgrows.Query(ctx, conn, `
		with recursive child as (
			select k::pg_catalog.oid as parent, i.inhrelid as oid from pg_catalog.unnest($1::oid[]) k join pg_catalog.pg_inherits i on i.inhparent = k
			union
			select c.parent, i.inhrelid from child c join pg_catalog.pg_inherits i on i.inhparent = c.oid
		)
		select a.attrelid, a.attnum, a.attname, a.atttypid,
			a.attnotnull and not exists (select from pg_catalog.pg_constraint n where n.conrelid = a.attrelid and n.contype = 'n' and n.conkey = array[a.attnum] and not n.convalidated),
			not exists (select from child c join pg_catalog.pg_class r on r.oid = c.oid
				left join pg_catalog.pg_attribute b on b.attrelid = c.oid and b.attname = a.attname and not b.attisdropped
				where c.parent = a.attrelid and (b.attnotnull is not true or r.relkind = 'f'
					or exists (select from pg_catalog.pg_constraint n where n.conrelid = b.attrelid and n.contype = 'n' and n.conkey = array[b.attnum] and not n.convalidated))),
			a.atthasdef, a.attidentity <> '', a.attgenerated <> '', d.adbin::text
		from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where a.attrelid = any ($1::oid[]) and a.attnum > 0 and not a.attisdropped`, oids)
	if err != nil {
		return nil, err
	}
	types := map[uint32]bool{}
	for _, row := range rows {
		number, _ := strconv.Atoi(row[1])
		col := &column{name: row[2], number: number, typ: pgrows.ParseOID(row[3]), notNull: row[4] == "t", inherited: row[5] == "t",
			hasDefault: row[6] == "t", identity: row[7] == "t", generated: row[8] == "t"}
		if row[9] != "" {
			col.expr = keep(row[9])
		}
		if c.types[col.typ] == nil {
			types[col.typ] = true
		}
		if r := c.relations[pgrows.ParseOID(row[0])]; r != nil {
			r.columns[number] = col
		}
	}
	if len(types) > 0 {
		more, err := c.readTypes(ctx, conn, texts(types))
		if err != nil {
			return nil, err
		}
		trees = append(trees, more...)
	}
	rows, err = pgrows.Query(ctx, conn, `
		select conrelid, contype, connoinherit, conkey, confrelid, confkey, conbin::text
		from pg_catalog.pg_constraint where conrelid = any ($1::oid[]) and convalidated and contype in ('c', 'f')`, oids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		r := c.relations[pgrows.ParseOID(row[0])]
		if r == nil {
			continue
		}
		if row[1] == "f" {
			r.keys = append(r.keys, foreignKey{parseInts(row[3]), parseInts(row[5]), pgrows.ParseOID(row[4])})
		} else if tree := keep(row[6]); tree != nil {
			r.checks = append(r.checks, check{tree, row[2] == "t"})
		}
	}
	rows, err = pgrows.Query(ctx, conn, `
		select ev_class, rulename, ev_type, is_instead, ev_action::text, ev_qual::text
		from pg_catalog.pg_rewrite where ev_class = any ($1::oid[]) and ev_enabled <> 'D'`, oids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		r := c.relations[pgrows.ParseOID(row[0])]
		nodes, err := pgtree.Parse(row[4])
		if r == nil || err != nil {
			continue
		}
		trees = append(trees, nodes...)
		if row[2] == "1" && len(nodes) == 1 {
			if r.view = nodes[0]; !isKnown(r.view) {
				r.view = nil
			}
			continue
		}
		if qual := keep(row[5]); qual != nil {
			nodes = append(nodes, qual)
		}
		r.rules = append(r.rules, rule{row[1], nodes})
	}
	rows, err = pgrows.Query(ctx, conn, `
		select p.polrelid, p.polname, p.polqual::text, p.polwithcheck::text
		from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid and c.relrowsecurity where c.oid = any ($1::oid[])`, oids)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		p := rule{name: row[1]}
		for _, text := range row[2:] {
			if tree := keep(text); tree != nil {
				p.trees = append(p.trees, tree)
			}
		}
		if r := c.relations[pgrows.ParseOID(row[0])]; r != nil {
			r.policies = append(r.policies, p)
		}
	}
	return trees, nil
}

// readTriggers reads the triggers that may change what is written.
func (c *catalog) readTriggers(ctx context.Context, conn *pgx.Conn, oids []string) error {
	rows, err := pgrows.Query(ctx, conn, `
		with recursive member as (
			select k as parent, k as oid from pg_catalog.unnest($1::oid[]) k
			union
			select m.parent, i.inhrelid from member m join pg_catalog.pg_inherits i on i.inhparent = m.oid
		)
		select m.parent, t.tgtype & 71 = 7, t.tgtype & 83 = 19, l.lanname, p.prosrc
		from member m join pg_catalog.pg_trigger t on t.tgrelid = m.oid and t.tgenabled <> 'D' and t.tgtype & 67 = 3
		join pg_catalog.pg_proc p on p.oid = t.tgfoid join pg_catalog.pg_language l on l.oid = p.prolang`, oids)
	for _, row := range rows {
		r := c.relations[pgrows.ParseOID(row[0])]
		if r == nil {
			continue
		}
		for i, f := range [...]*filling{&r.fillsInsert, &r.fillsWrite} {
			if row[1+i] != "t" {
				continue
			}
			columns, ok := namedOfNew(row[4])
			f.all = f.all || !ok || row[3] != "plpgsql"
			for _, name := range columns {
				if f.columns == nil {
					f.columns = map[string]bool{}
				}
				f.columns[name] = true
			}
		}
	}
	return err
}

// namedOfNew are the columns of NEW that the text of a function in PL/pgSQL names, in lower case: it changes no others. It is
// not ok if it may do so in another way: by NEW as a whole, or by returning something else.
func namedOfNew(text string) (columns []string, ok bool) {
	text = strings.ToLower(text)
	if strings.Contains(text, `"new"`) || strings.Contains(text, `u&"`) {
		return nil, false
	}
	word := func(s string) string {
		return s[:len(s)-len(strings.TrimLeftFunc(s, func(r rune) bool { return r >= 0x80 || r == '$' || isWord(byte(r)) }))]
	}
	space := func(s string) string { return strings.TrimLeft(s, " \t\r\n") }
	before := ""
	for text != "" {
		w := word(text)
		if w == "" {
			if text[0] != ' ' && text[0] != '\t' && text[0] != '\r' && text[0] != '\n' {
				before = text[:1]
			}
			text = text[1:]
			continue
		}
		text = text[len(w):]
		after := space(text)
		switch {
		case before == "return" && (w == "new" || w == "null"):
			if !strings.HasPrefix(after, ";") {
				return nil, false
			}
		case before == "return":
			return nil, false
		case w == "return" && word(after) == "":
			return nil, false
		case w == "new" && strings.HasPrefix(after, "."):
			name := space(after[1:])
			quoted, _, closed := strings.Cut(strings.TrimPrefix(name, `"`), `"`)
			switch {
			case strings.HasPrefix(name, `"`) && closed:
				columns = append(columns, quoted)
			case word(name) != "":
				columns = append(columns, word(name))
			default:
				return nil, false
			}
		case w == "new":
			return nil, false
		}
		before = w
	}
	return columns, true
}

// storesTrees reports whether the server stores the query trees of functions.
func storesTrees(conn *pgx.Conn) bool { return serverVersion(conn) >= 14 }

func serverVersion(conn *pgx.Conn) int {
	var major int
	_, _ = fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d", &major)
	return major
}
