package analysis_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A world is a random schema, and makes random data and queries for it.
type world struct {
	*rand.Rand
	tables []relation
	funcs  []function
	params []string // the types of the parameters of a query
	names  int
}

// A function is one in SQL. It returns a value, or rows.
type function struct {
	name     string
	args     []string // their types
	defaults int      // how many of the last of them may be left out
	returns  []field
	set      bool
}

type relation struct {
	name string
	cols []field
	base bool // a table with rows of its own
}

type field struct {
	name, typ string // int, text, bool, mood, ints, js
	null      bool   // data may hold NULL
	generated bool
}

// scope are the tables that an expression can name.
type scope []relation

func (w *world) one(of ...string) string { return of[w.IntN(len(of))] }
func (w *world) chance(percent int) bool { return w.IntN(100) < percent }
func (w *world) name(prefix string) string {
	w.names++
	return fmt.Sprintf("%s%d", prefix, w.names)
}

var kinds = []string{"int", "int", "text", "text", "bool", "mood", "ints", "js"}

var sqlTypes = map[string]string{"int": "int", "text": "text", "bool": "bool", "mood": "mood", "ints": "int[]", "js": "jsonb"}

// ddl makes tables and views.
func (w *world) ddl() string {
	var b strings.Builder
	b.WriteString("create type mood as enum ('sad', 'ok'); create domain word as text not null; create domain flag as bool;\n")
	for i := range 3 + w.IntN(3) {
		t := relation{name: fmt.Sprintf("t%d", i), base: true, cols: []field{{name: "id", typ: "int"}}}
		fmt.Fprintf(&b, "create table t%d (id int primary key", i)
		for range 3 + w.IntN(5) {
			f := field{name: w.name("c"), typ: w.one(kinds...), null: w.chance(60)}
			sql := sqlTypes[f.typ]
			if f.typ == "bool" && w.chance(30) {
				sql = "flag"
			}
			if f.typ == "text" && !f.null && w.chance(20) {
				sql = "word"
			} else if !f.null && f.typ == "int" && w.chance(20) {
				sql += fmt.Sprintf(" check (%s is not null)", f.name)
			} else if !f.null {
				sql += " not null"
			} else if f.typ == "int" && w.chance(30) {
				sql += fmt.Sprintf(" check (%s > -1000)", f.name)
			} else if f.typ == "text" && w.chance(15) {
				f.generated = true
				sql += " generated always as (" + w.expr("text", scope{{cols: t.cols}}, 1, pure) + ") stored"
			}
			fmt.Fprintf(&b, ", %s %s", f.name, sql)
			t.cols = append(t.cols, f)
		}
		if i > 0 && w.chance(60) {
			f := field{name: w.name("fk"), typ: "int", null: w.chance(50)}
			null := " not null"
			if f.null {
				null = ""
			}
			fmt.Fprintf(&b, ", %s int%s references t%d", f.name, null, w.IntN(i))
			t.cols = append(t.cols, f)
		}
		if w.chance(30) {
			fmt.Fprintf(&b, ", check (%s)", w.expr("bool", scope{{cols: t.cols}}, 2, pure))
		}
		b.WriteString(");\n")
		w.tables = append(w.tables, t)
	}
	for range w.IntN(4) {
		b.WriteString(w.function())
	}
	for _, t := range w.tables {
		if w.chance(25) {
			b.WriteString(w.trigger(t))
		}
	}
	for i := range 1 + w.IntN(2) {
		sql, cols := w.query(nil, 2, false)
		if len(w.params) == 0 {
			fmt.Fprintf(&b, "create view v%d as %s;\n", i, sql)
			w.tables = append(w.tables, relation{name: fmt.Sprintf("v%d", i), cols: cols})
		}
		w.params = nil
	}
	return b.String()
}

// function makes a function in SQL.
func (w *world) function() string {
	f := function{name: w.name("f"), set: w.chance(35)}
	var inputs relation
	var args []string
	for range w.IntN(3) {
		in := field{name: w.name("a"), typ: w.one("int", "text", "bool", "mood")}
		sql := in.name + " " + sqlTypes[in.typ]
		if f.defaults > 0 || w.chance(25) {
			f.defaults++
			sql += " default " + w.one("null", w.literal(in.typ))
		}
		f.args, inputs.cols, args = append(f.args, in.typ), append(inputs.cols, in), append(args, sql)
	}
	var columns, list []string
	t := w.tables[w.IntN(len(w.tables))]
	around := scope{inputs}
	from := ""
	if f.set || w.chance(40) {
		around = append(around, t)
		from = " from " + t.name
		if w.chance(70) {
			from += " where " + w.condition(around, 2, plain)
		}
	}
	for range 1 + w.IntN(2) {
		c := field{name: w.name("o"), typ: w.one(kinds...), null: true}
		f.returns, columns, list = append(f.returns, c), append(columns, c.name+" "+sqlTypes[c.typ]), append(list, w.expr(c.typ, around, 2, plain))
		if !f.set {
			break
		}
	}
	if len(w.params) > 0 { // they would be the arguments
		w.params = nil
		return ""
	}
	returns := sqlTypes[f.returns[0].typ]
	switch {
	case f.set && len(list) == 1 && w.chance(50):
		returns = "setof " + returns
	case f.set:
		returns = "table (" + strings.Join(columns, ", ") + ")"
	}
	body := "select " + strings.Join(list, ", ") + from
	if w.chance(50) {
		body = " as $$ " + body + " $$"
	} else {
		body = " begin atomic " + body + "; end"
	}
	w.funcs = append(w.funcs, f)
	return fmt.Sprintf("create function %s(%s) returns %s language sql%s%s%s;\n", f.name, strings.Join(args, ", "), returns,
		w.one("", " stable"), w.one("", "", " strict"), body)
}

// call is a call of a function.
func (w *world) call(f function, s scope, depth int) string {
	var args []string
	for i, typ := range f.args {
		if i >= len(f.args)-f.defaults && w.chance(40) {
			break
		}
		args = append(args, w.expr(typ, s, depth, plain))
	}
	return f.name + "(" + strings.Join(args, ", ") + ")"
}

// trigger makes a trigger that changes some columns of the rows that are written.
func (w *world) trigger(t relation) string {
	row := relation{name: "new", cols: t.cols}
	var body strings.Builder
	for _, f := range t.cols[1:] {
		if f.generated || !w.chance(25) {
			continue
		}
		change := "new." + f.name + " := " + w.expr(f.typ, scope{row}, 1, pure) + "; "
		if w.chance(40) {
			change = "if " + w.condition(scope{row}, 1, pure) + " then " + change + "end if; "
		}
		body.WriteString(change)
	}
	name := w.name("g")
	return fmt.Sprintf("create function %[1]s() returns trigger language plpgsql as $$ begin %[2]sreturn new; end $$;\ncreate trigger %[1]s before %[3]s on %[4]s for each row execute function %[1]s();\n",
		name, body.String(), w.one("insert", "update", "insert or update"), t.name)
}

// data fills the tables.
func (w *world) data() string {
	var b strings.Builder
	for _, t := range w.tables {
		if !t.base {
			continue
		}
		rows := 2 + w.IntN(7)
		if w.chance(15) {
			rows = 0
		}
		for id := range rows {
			var names, values []string
			for _, f := range t.cols {
				if f.generated {
					continue
				}
				value := w.literal(f.typ)
				switch {
				case f.name == "id":
					value = fmt.Sprint(id)
				case f.null && w.chance(40):
					value = "null"
				case strings.HasPrefix(f.name, "fk"):
					value = "" // below
				}
				names, values = append(names, f.name), append(values, value)
			}
			for j := range names {
				if values[j] != "" {
					continue
				}
				// Any table before it, the right one among them: what is wrong is not inserted.
				values[j] = fmt.Sprint(w.IntN(3))
			}
			fmt.Fprintf(&b, "do $$ begin insert into %s (%s) values (%s); exception when others then null; end $$;\n", t.name, strings.Join(names, ", "), strings.Join(values, ", "))
		}
	}
	return b.String()
}

func (w *world) literal(typ string) string {
	switch typ {
	case "int":
		return fmt.Sprint(w.IntN(4))
	case "text":
		return w.one("''", "'a'", "'b'", "'ab'")
	case "bool":
		return w.one("true", "false")
	case "mood":
		return w.one("'sad'::mood", "'ok'::mood")
	case "ints":
		return w.one("'{}'::int[]", "'{1}'::int[]", "'{1,2}'::int[]", "'{1,null}'::int[]")
	default:
		return w.one(`'{}'::jsonb`, `'{"a": 1}'::jsonb`, `'{"a": null, "b": "x"}'::jsonb`)
	}
}

// The ways in which an expression may be made.
type way int

const (
	plain   way = iota
	pure        // without subqueries, parameters and functions that are not immutable
	grouped     // over groups: columns only in aggregates
)

// column is a column of the scope, "" if there is none of the type.
func (w *world) column(typ string, s scope) string {
	var all []string
	for _, r := range s {
		for _, f := range r.cols {
			if f.typ == typ && !(r.name == "" && f.generated) {
				if r.name == "" {
					all = append(all, f.name)
				} else {
					all = append(all, r.name+"."+f.name)
				}
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	return all[w.IntN(len(all))]
}

func (w *world) expr(typ string, s scope, depth int, how way) string {
	if how == grouped {
		return w.aggregate(typ, s, depth)
	}
	if depth <= 0 || w.chance(25) {
		if c := w.column(typ, s); c != "" && w.chance(95) {
			return c
		}
		if how != pure && w.chance(20) && typ != "ints" && typ != "js" {
			w.params = append(w.params, typ)
			return fmt.Sprintf("$%d::%s", len(w.params), sqlTypes[typ])
		}
		if w.chance(8) {
			return "null::" + sqlTypes[typ]
		}
		return w.literal(typ)
	}
	e := func(typ string) string { return w.expr(typ, s, depth-1, how) }
	switch n := w.IntN(10); {
	case n == 0:
		return "coalesce(" + e(typ) + ", " + e(typ) + ")"
	case n == 1:
		return fmt.Sprintf("case when %s then %s else %s end", e("bool"), e(typ), e(typ))
	case n == 2 && w.chance(50):
		return fmt.Sprintf("case when %s then %s end", e("bool"), e(typ))
	case n == 2 && typ != "js":
		return "nullif(" + e(typ) + ", " + e(typ) + ")"
	case n == 3 && how == plain && typ != "js":
		return w.scalar(typ, s, depth-1)
	case n == 5 && how == plain:
		for _, f := range w.funcs {
			if !f.set && f.returns[0].typ == typ {
				return w.call(f, s, depth-1)
			}
		}
	case n == 4 && typ == "mood":
		return fmt.Sprintf("case %s when 'sad' then %s when 'ok' then %s end", e("mood"), e(typ), e(typ))
	}
	switch typ {
	case "int":
		switch w.IntN(8) {
		case 0, 1:
			return "(" + e("int") + w.one(" + ", " - ", " * ") + e("int") + ")"
		case 2:
			return "length(" + e("text") + ")"
		case 3:
			return "greatest(" + e("int") + ", " + e("int") + ")"
		case 4:
			return w.one("array_length(", "array_upper(") + e("ints") + ", 1)"
		case 5:
			return "(" + e("ints") + ")[1]"
		case 6:
			return "cardinality(" + e("ints") + ")"
		default:
			return "abs(" + e("int") + ")"
		}
	case "text":
		switch w.IntN(9) {
		case 0:
			return "(" + e("text") + " || " + e("text") + ")"
		case 1:
			if how == pure {
				return "lower(" + e("text") + ")"
			}
			return "concat(" + e("text") + ", " + e("text") + ")"
		case 2:
			return "substring(" + e("text") + " from 'a(.)')"
		case 3:
			return "(" + e("js") + w.one(" ->> 'a')", " ->> 'b')", " #>> '{a}')")
		case 4:
			return e("int") + "::text"
		case 5:
			return "upper(" + e("text") + ")"
		case 6:
			return "least(" + e("text") + ", " + e("text") + ")"
		case 7:
			return "split_part(" + e("text") + ", 'a', 1)"
		default:
			return "replace(" + e("text") + ", 'a', 'b')"
		}
	case "bool":
		return w.condition(s, depth, how)
	case "ints":
		switch w.IntN(4) {
		case 0:
			return "array[" + e("int") + ", " + e("int") + "]"
		case 1:
			return "(" + e("ints") + " || " + e("int") + ")"
		case 2:
			return "array_remove(" + e("ints") + ", null)"
		default:
			return e("ints")
		}
	case "js":
		if w.chance(50) && how == plain {
			return "jsonb_build_object('a', " + e("int") + ")"
		}
		return "(" + e("js") + " -> 'a')"
	}
	return e(typ)
}

func (w *world) condition(s scope, depth int, how way) string {
	e := func(typ string) string { return w.expr(typ, s, depth-1, how) }
	typ := w.one("int", "text", "mood", "bool")
	switch w.IntN(18) {
	case 0, 1:
		return "(" + e("bool") + w.one(" and ", " or ", " or ") + e("bool") + ")"
	case 2:
		return "(not " + e("bool") + ")"
	case 3, 4:
		return "(" + e(w.one(kinds...)) + w.one(" is null)", " is not null)", " is not null)")
	case 5:
		return "(" + e(typ) + w.one(" is distinct from ", " is not distinct from ") + e(typ) + ")"
	case 6:
		return "(" + e("bool") + " is " + w.one("true", "not true", "false", "not false", "unknown", "not unknown") + ")"
	case 7:
		return "(" + e("int") + w.one(" in (", " not in (") + e("int") + ", " + e("int") + "))"
	case 8:
		return "(" + e("int") + w.one(" = any (", " <> all (", " > any (", " = all (") + e("ints") + "))"
	case 9:
		return "(" + e("text") + w.one(" like 'a%'", " ~ 'a'", " not like 'a%'") + ")"
	case 10:
		if how == plain {
			sql, cols := w.sub(s, depth-1, typ)
			if len(cols) == 1 {
				return "(" + e(typ) + w.one(" in (", " not in (", " = any (", " <> all (") + sql + "))"
			}
		}
	case 11:
		if how == plain {
			sql, _ := w.sub(s, depth-1, "int")
			return w.one("(exists (", "(not exists (") + sql + "))"
		}
	case 12:
		return "(" + e("int") + " between " + e("int") + " and " + e("int") + ")"
	case 13:
		return "(" + w.one("num_nonnulls(", "num_nulls(") + e(typ) + ", " + e(typ) + w.one(") = ", ") <> ", ") > ", ") <= ") + w.literal("int") + ")"
	case 14:
		return "(array[" + e("int") + w.one("] <@ array[", "] @> array[", "] && array[") + e("int") + ", " + e("int") + "])"
	}
	return "(" + e(typ) + w.one(" = ", " <> ", " < ", " >= ") + e(typ) + ")"
}

// scalar is a subquery of one value.
func (w *world) scalar(typ string, s scope, depth int) string {
	sql, _ := w.sub(s, depth, typ)
	if w.chance(50) && typ != "bool" && typ != "mood" && typ != "ints" {
		return "(select " + w.one("max", "min") + "(x) from (" + sql + ") q(x))"
	}
	return "(select x from (" + sql + ") q(x) order by 1 limit 1)"
}

// sub is a query of one column, which may name the tables around it.
func (w *world) sub(s scope, depth int, typ string) (string, []field) {
	r := w.tables[w.IntN(len(w.tables))]
	r.name, s = w.name("s"), append(scope{}, s...)
	from := w.tableNamed(r) + " " + r.name
	s = append(s, r)
	sql := "select " + w.expr(typ, s, depth-1, plain) + " from " + from
	if w.chance(70) {
		sql += " where " + w.condition(s, depth, plain)
	}
	return sql, []field{{name: "x", typ: typ}}
}

// tableNamed is the name of the table whose columns a relation has.
func (w *world) tableNamed(r relation) string {
	for _, t := range w.tables {
		if len(t.cols) > 0 && &t.cols[0] == &r.cols[0] {
			return t.name
		}
	}
	return "?"
}

func (w *world) aggregate(typ string, s scope, depth int) string {
	e := func(typ string) string { return w.expr(typ, s, depth-1, plain) }
	filter := ""
	if w.chance(20) {
		filter = " filter (where " + w.condition(s, depth-1, plain) + ")"
	}
	switch typ {
	case "int":
		return w.one("count(*)::int", "count("+e("int")+")::int", "sum("+e("int")+")"+filter+"::int", "max("+e("int")+")"+filter, "coalesce(min("+e("int")+")"+filter+", 0)",
			"(array_agg("+e("int")+"))[1]")
	case "text":
		return w.one("max("+e("text")+")"+filter, "string_agg("+e("text")+", ',')"+filter, "upper(min("+e("text")+"))")
	case "bool":
		return w.one("bool_or("+e("bool")+")"+filter, "count(*) > 1", "every("+e("bool")+")"+filter)
	case "ints":
		return "array_agg(" + e("int") + ")" + filter
	case "js":
		return "jsonb_agg(" + e("int") + ")" + filter
	default:
		return "max(" + e("mood") + ")" + filter
	}
}

// source is an item of FROM.
func (w *world) source(outer scope, so scope, depth int) (string, relation) {
	alias := w.name("r")
	switch n := w.IntN(12); {
	case n == 0 && depth > 0:
		sql, cols := w.query(nil, depth-1, false)
		return "(" + sql + ") " + alias, relation{name: alias, cols: cols}
	case n == 1 && depth > 0:
		sql, cols := w.query(append(append(scope{}, outer...), so...), depth-1, false)
		return "lateral (" + sql + ") " + alias, relation{name: alias, cols: cols}
	case n == 2:
		return fmt.Sprintf("(values (%s, %s), (%s, %s)) %s(x, y)", w.literal("int"), w.literal("text"), w.one("null", "2"), w.literal("text"), alias),
			relation{name: alias, cols: []field{{name: "x", typ: "int"}, {name: "y", typ: "text"}}}
	case n == 3:
		return fmt.Sprintf("unnest(%s) with ordinality %s(x, y)", w.expr("ints", append(append(scope{}, outer...), so...), 1, plain), alias),
			relation{name: alias, cols: []field{{name: "x", typ: "int"}}}
	case n == 4:
		return fmt.Sprintf("generate_series(1, %d) %s(x)", w.IntN(3), alias), relation{name: alias, cols: []field{{name: "x", typ: "int"}}}
	}
	if len(w.funcs) > 0 && w.chance(12) {
		if f := w.funcs[w.IntN(len(w.funcs))]; f.set {
			r := relation{name: alias, cols: slices.Clone(f.returns)}
			names := make([]string, len(r.cols))
			for i := range r.cols {
				r.cols[i].name = w.name("o")
				names[i] = r.cols[i].name
			}
			return w.call(f, append(append(scope{}, outer...), so...), 1) + " " + alias + "(" + strings.Join(names, ", ") + ")", r
		}
	}
	t := w.tables[w.IntN(len(w.tables))]
	return t.name + " " + alias, relation{name: alias, cols: t.cols}
}

// query makes a SELECT and says what columns it has.
func (w *world) query(outer scope, depth int, top bool) (string, []field) {
	if depth > 0 && w.chance(12) {
		types := make([]string, 1+w.IntN(3))
		for i := range types {
			types[i] = w.one("int", "text", "bool")
		}
		left, cols := w.selectOf(outer, depth-1, types)
		right, _ := w.selectOf(outer, depth-1, types)
		return "(" + left + ")" + w.one(" union ", " union all ", " intersect ", " except ") + "(" + right + ")", cols
	}
	if depth > 0 && top && w.chance(15) {
		sql, cols := w.query(nil, depth-1, false)
		name := w.name("w")
		saved := w.tables
		w.tables = append(append([]relation{}, w.tables...), relation{name: name, cols: cols}, relation{name: name, cols: cols})
		main, columns := w.selectOf(outer, depth, nil)
		w.tables = saved
		return "with " + name + " as (" + sql + ") " + main, columns
	}
	return w.selectOf(outer, depth, nil)
}

func (w *world) selectOf(outer scope, depth int, types []string) (string, []field) {
	from, r := w.source(outer, nil, depth)
	so := scope{r}
	var keys []string // a column of each side of a FULL JOIN
	for range w.IntN(3) {
		item, r := w.source(outer, so, depth)
		kind := w.one(" join ", " left join ", " left join ", " right join ", " full join ", " cross join ")
		if strings.HasPrefix(item, "lateral") || strings.HasPrefix(item, "unnest") {
			kind = w.one(" join ", " left join ")
		}
		both := append(append(scope{}, so...), r)
		from += kind + item
		switch x, y := w.column("int", scope{r}), w.column("int", so); {
		case kind == " cross join ":
		case x != "" && y != "" && (kind == " full join " || w.chance(60)):
			from += " on " + x + " = " + y
			if kind == " full join " {
				keys = append(keys, "coalesce("+x+", "+y+")", "case when "+x+" is null then "+y+" else 0 end", "coalesce(abs("+y+"), "+x+")")
			}
			if kind != " full join " && w.chance(30) {
				from += " and " + w.condition(both, 1, plain)
			}
		case kind == " full join ":
			from += " on false"
		case w.chance(20):
			from += " on true"
		default:
			from += " on " + w.condition(both, 1, plain)
		}
		so = both
	}
	all := append(append(scope{}, outer...), so...)
	where := ""
	if w.chance(65) {
		where = " where " + w.condition(all, 2, plain)
		for w.chance(40) {
			where += " and " + w.condition(all, 1, plain)
		}
	}
	if types == nil {
		types = make([]string, 1+w.IntN(4))
		for i := range types {
			types[i] = w.one(kinds...)
		}
	}
	var list []string
	var cols []field
	add := func(typ, sql string) {
		name := w.name("o")
		list, cols = append(list, sql+" as "+name), append(cols, field{name: name, typ: typ, null: true})
	}
	after := ""
	switch {
	case w.chance(25): // groups
		var groups []string
		n := w.IntN(3)
		for i, typ := range types {
			if i < n && typ != "js" {
				g := w.column(typ, so)
				if g == "" {
					g = "0"
				}
				if typ == "text" && w.chance(30) {
					g = "upper(" + g + ")"
				}
				if g != "0" {
					groups = append(groups, g)
					add(typ, g)
					continue
				}
			}
			add(typ, w.expr(typ, so, 2, grouped))
		}
		switch {
		case len(groups) == 0:
		case w.chance(20):
			after = " group by " + w.one("rollup", "cube") + " (" + strings.Join(groups, ", ") + ")"
		case w.chance(10):
			after = " group by grouping sets ((" + strings.Join(groups, ", ") + "), (" + groups[0] + "))"
		default:
			after = " group by " + strings.Join(groups, ", ")
		}
		if w.chance(25) {
			after += " having " + w.aggregate("int", so, 1) + " " + w.one("> 1", "= 0", "is not null", "is null")
		}
	default:
		for _, typ := range types {
			switch {
			case typ == "int" && len(keys) > 0 && w.chance(40):
				add(typ, w.one(keys...))
			case w.chance(6) && typ == "int":
				of := w.expr("int", all, 1, plain)
				add(typ, w.one("row_number() over ()::int", "case when "+of+" is not null then first_value("+of+") over () else 0 end", "lag("+w.expr("int", all, 1, plain)+") over (order by 1)", "lead("+w.expr("int", all, 1, plain)+", 1, 0) over ()",
					"sum("+w.expr("int", all, 1, plain)+") over (order by "+w.expr("int", all, 1, plain)+")::int", "first_value("+w.expr("int", all, 1, plain)+") over ()",
					"max("+w.expr("int", all, 1, plain)+") over (rows between 1 following and 2 following)"))
			default:
				add(typ, w.expr(typ, all, 2, plain))
			}
		}
		if w.chance(8) {
			after = " limit 3"
		}
	}
	return "select " + strings.Join(list, ", ") + " from " + from + where + after, cols
}

// change makes an INSERT, an UPDATE or a DELETE that returns something.
func (w *world) change() string {
	var t relation
	for t = w.tables[w.IntN(len(w.tables))]; !t.base; t = w.tables[w.IntN(len(w.tables))] {
	}
	so := scope{t}
	returning := func() string {
		var list []string
		for range 1 + w.IntN(3) {
			list = append(list, w.expr(w.one(kinds...), so, 1, plain))
		}
		return " returning " + strings.Join(list, ", ")
	}
	switch w.IntN(4) {
	case 0:
		return "delete from " + t.name + " where " + w.condition(so, 2, plain) + returning()
	case 1, 2:
		var set []string
		for _, f := range t.cols[1:] {
			if !f.generated && w.chance(40) {
				set = append(set, f.name+" = "+w.expr(f.typ, so, 1, plain))
			}
		}
		if len(set) > 0 {
			return "update " + t.name + " set " + strings.Join(set, ", ") + " where " + w.condition(so, 2, plain) + returning()
		}
	}
	var names, values []string
	for _, f := range t.cols {
		if f.generated || f.null && w.chance(30) {
			continue
		}
		value := w.expr(f.typ, nil, 1, plain)
		if f.name == "id" {
			value = w.one("1", "100", "101")
		}
		names, values = append(names, f.name), append(values, value)
	}
	sql := "insert into " + t.name + " (" + strings.Join(names, ", ") + ") values (" + strings.Join(values, ", ") + ")"
	if w.chance(40) {
		f := t.cols[w.IntN(len(t.cols))]
		if f.generated {
			return sql + returning()
		}
		sql += " on conflict (id) do update set " + f.name + " = " + w.one("excluded."+f.name, w.expr(f.typ, so, 1, plain))
	}
	return sql + returning()
}
