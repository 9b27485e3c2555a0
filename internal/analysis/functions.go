package analysis

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

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
		"gives NULL where the path finds nothing":                    "jsonb_path_query_first jsonb_path_query_first_tz",
		"gives NULL where nothing matches":                           "textregexsubstr regexp_match regexp_match_no_flags regexp_substr regexp_substr_no_flags regexp_substr_no_n regexp_substr_no_start regexp_substr_no_subexpr",
		"of an empty array is NULL":                                  "array_length array_upper array_lower array_dims array_ndims",
		"of an empty or unbounded range is NULL":                     "range_lower range_upper multirange_lower multirange_upper",
		"gives NULL where there is nothing of that name":             "to_regclass to_regtype to_regproc to_regprocedure to_regrole to_regnamespace to_regoper to_regoperator to_regcollation",
		"gives NULL where the array does not have the element":       "array_position array_position_start",
		"gives NULL for an unknown setting where missing_ok is true": "show_config_by_name_missing_ok",
	} {
		for _, name := range strings.Fields(names) {
			all[name] = why
		}
	}
	return all
})

// jsonText are functions of PostgreSQL that give NULL for a JSON null too.
var jsonText = []string{"json_object_field_text", "jsonb_object_field_text", "json_array_element_text", "jsonb_array_element_text", "json_extract_path_text", "jsonb_extract_path_text"}

// call is what a function or an operator returns.
func (a *analyzer) call(e *pgtree.Node, args []*pgtree.Node, s *scope, v env, values mask) outcome {
	f := a.function(e)
	if f == nil || f.name == "" {
		return unknown(values)
	}
	fromArgs, constant, vague := outcome{}, true, false
	args = slices.Clone(f.withDefaults(args))
	results := make([]outcome, len(args))
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
		if o, ok := a.ofBody(f, args, results, values); ok {
			own = o
			break
		}
		if !f.strict {
			return unknown(values) // its values too: it may return the same always
		}
	case f.lang == "internal" && maybeNull:
		own = maybe(values, &reason{text: name + " " + why, near: near})
		if f.name == "array_length" && len(args) == 2 && a.isNamed(bare(args[0]), "array_agg") && isOne(args[1]) { // it has an element
			own = value(values)
			break
		}
		guarded := len(args) > 0 && (args[0].Is("ARRAYEXPR") || !slices.Contains(jsonText, f.src) && a.guarded(args[0], s, v) || slices.Contains(jsonText, f.src) && a.asked(args, s, v))
		if guarded || constant && f.src != "show_config_by_name_missing_ok" {
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
	if o, ok := a.compareConstants(name, args); ok && f.builtin() && e.Is("OPEXPR") {
		return o
	}
	if f.builtin() && len(args) == 2 && (f.src == "booleq" || f.src == "boolne") {
		if b, ok := constBool(args[1]); ok && b == (f.src == "booleq") {
			return results[0]
		} else if ok {
			return outcome{negated(results[0].can), negated(results[0].does), results[0].why}
		}
	}
	if f.builtin() && len(args) == 2 && (f.src == "booleq" || f.src == "boolne") { // neither is a constant
		x, y := results[0].can, results[1].can
		if f.src == "boolne" {
			y = negated(y)
		}
		own = value(0)
		if x&y&boolean != 0 {
			own.can |= isTrue
		}
		if x&negated(y)&boolean != 0 {
			own.can |= isFalse
		}
		own.does = own.can
	}
	if o, ok := a.countedNulls(e, name, args, s, v); ok && f.builtin() {
		own = o
	}
	if f.builtin() && a.holdsNullOnly(f.src, args, s, v) {
		own = value(isFalse)
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

// body is the query of a function in SQL as a scope, with the analyzer that looks at it; nil if it is not known.
func (a *analyzer) body(f *function, args []*pgtree.Node, results []outcome) (*analyzer, *scope) {
	if f.result == nil || len(args) != f.inputs || a.inBody >= maxBodies || slices.ContainsFunc(args, isNamedArg) {
		return nil, nil
	}
	b := a.withParams(nil)
	b.inBody, b.steps = a.inBody+1, a.steps
	for _, o := range results {
		if f.strict { // it is not called with NULL
			o = o.never()
		}
		b.args = append(b.args, o)
	}
	body := b.newScope(f.result, nil, env{})
	if len(columnsOf(body)) != len(f.returns) {
		return nil, nil
	}
	return b, body
}

func isNamedArg(e *pgtree.Node) bool { return e.Is("NAMEDARGEXPR") }

// withDefaults adds to the arguments of a call the defaults of those that it leaves out.
func (f *function) withDefaults(args []*pgtree.Node) []*pgtree.Node {
	missing := f.inputs - len(args)
	if missing <= 0 || missing > len(f.defaults) || slices.ContainsFunc(args, isNamedArg) {
		return args
	}
	return slices.Concat(args, f.defaults[len(f.defaults)-missing:])
}

// maxBodies is how many functions within each other are looked into.
const maxBodies = 5

// ofBody is what a function in SQL that returns one value does, by its query.
func (a *analyzer) ofBody(f *function, args []*pgtree.Node, results []outcome, values mask) (o outcome, ok bool) {
	if f.set || len(f.returns) != 1 {
		return outcome{}, false
	}
	b, body := a.body(f, args, results)
	if body == nil {
		return outcome{}, false
	}
	if body.cmd == cmdSelect {
		o = b.ofRow(body, 0, env{}, false)
	} else { // it may write no row
		o = b.output(body, 0, false)
		o.can |= isNull
	}
	return a.leave(b, f, results, o, f.returns[0], typeOf(columnsOf(body)[0].Node("expr")), values), true
}

// leave is what a column of a function's query is to those who call the function.
func (a *analyzer) leave(b *analyzer, f *function, results []outcome, o outcome, declared, typ uint32, values mask) outcome {
	a.steps = b.steps
	if declared != typ { // a cast follows
		o.can |= isNull
	}
	if declared != typ || typ != boolOID { // of a polymorphic one it is another type
		o = o.withValues(values)
	}
	if o.why != nil && !slices.ContainsFunc(results, func(r outcome) bool { return r.why == o.why }) {
		o.why = &reason{text: o.why.text + ", in function " + f.name, near: []string{f.name}, param: o.why.param}
	}
	return outcome{o.can & (isNull | values), o.does & (isNull | values), o.why}
}

// compareConstants is what a comparison of two constants gives: of two small integers, casts of them included, or of two texts
// or labels of an enum that differ, of which it is not relied on that they are not equal.
func (a *analyzer) compareConstants(name string, args []*pgtree.Node) (o outcome, ok bool) {
	if len(args) != 2 {
		return outcome{}, false
	}
	truth := func(b bool) (outcome, bool) {
		if b {
			return value(isTrue), true
		}
		return value(isFalse), true
	}
	x, xok := a.smallInteger(args[0])
	y, yok := a.smallInteger(args[1])
	switch {
	case !xok || !yok:
	case name == "=":
		return truth(x == y)
	case name == "<>":
		return truth(x != y)
	case name == "<":
		return truth(x < y)
	case name == "<=":
		return truth(x <= y)
	case name == ">":
		return truth(x > y)
	case name == ">=":
		return truth(x >= y)
	}
	if side, ok := a.besideNow(args[0]); ok && a.isClock(args[1]) {
		return compareSides(name, side)
	}
	if side, ok := a.besideNow(args[1]); ok && a.isClock(args[0]) {
		return compareSides(name, -side)
	}
	x1, y1 := bare(args[0]), bare(args[1])
	b1, ok1 := x1.Datum("constvalue")
	b2, ok2 := y1.Datum("constvalue")
	if t := a.catalog.types[x1.OID("consttype")]; ok1 && ok2 && x1.OID("consttype") == y1.OID("consttype") && !bytes.Equal(b1, b2) &&
		(x1.OID("consttype") == textOID || t != nil && t.kind == "e") {
		switch name {
		case "=":
			return outcome{can: boolean, does: isFalse}, true
		case "<>":
			return outcome{can: boolean, does: isTrue}, true
		}
	}
	return outcome{}, false
}

// besideNow is -1 for a constant time that is before any that the clock shows, as it is before the year 2000, and 1 for infinity.
func (a *analyzer) besideNow(e *pgtree.Node) (side int, ok bool) {
	const date, timestamp, timestamptz = 1082, 1114, 1184
	bytes, ok := e.Datum("constvalue")
	width := map[uint32]int{date: 4, timestamp: 8, timestamptz: 8}[e.OID("consttype")]
	if !e.Is("CONST") || !ok || width == 0 || len(bytes) < width {
		return 0, false
	}
	bytes = bytes[:width] // since 2000, in two's complement, the lowest byte first
	if bytes[width-1] >= 0x80 {
		return -1, true
	}
	return 1, bytes[width-1] == 0x7f && !slices.ContainsFunc(bytes[:width-1], func(b byte) bool { return b != 0xff })
}

// isClock reports whether an expression is the present time, or day.
func (a *analyzer) isClock(e *pgtree.Node) bool {
	const currentDate, currentTimestamp, localtimestampN = 0, 3, 8
	args, _ := e.List("args")
	switch op := num(e, "op"); {
	case e.Is("SQLVALUEFUNCTION"):
		return op == currentDate || op == currentTimestamp || op == currentTimestamp+1 || op == localtimestampN-1 || op == localtimestampN
	case !e.Is("FUNCEXPR"):
		return false
	case len(args) == 1:
		return a.isNamed(e, "timestamptz", "timestamp", "date") && a.isClock(args[0])
	case len(args) == 2:
		return a.isNamed(e, "timezone") && isConst(args[0]) && a.isClock(args[1])
	}
	return a.isNamed(e, "now", "transaction_timestamp", "statement_timestamp", "clock_timestamp")
}

// compareSides is what a comparison gives of what is on one side of what it is compared with.
func compareSides(name string, side int) (o outcome, ok bool) {
	holds, ok := map[string]bool{"=": false, "<>": true, "<": side < 0, "<=": side < 0, ">": side > 0, ">=": side > 0}[name]
	if holds {
		return value(isTrue), ok
	}
	return value(isFalse), ok
}

// countedNulls is what a comparison of num_nonnulls(...) or num_nulls(...) with a constant gives.
func (a *analyzer) countedNulls(e *pgtree.Node, name string, args []*pgtree.Node, s *scope, v env) (o outcome, ok bool) {
	if !e.Is("OPEXPR") || len(args) != 2 || !a.isNamed(args[0], "num_nonnulls", "num_nulls") {
		return outcome{}, false
	}
	with, ok := a.smallInteger(args[1])
	counted, _ := args[0].List("args")
	if variadic, known := args[0].Bool("funcvariadic"); !ok || !known || variadic {
		return outcome{}, false
	}
	least, most := 0, 0
	for _, arg := range counted {
		x := a.eval(arg, s, v)
		if a.isNamed(args[0], "num_nulls") {
			x.can = map[bool]mask{true: isValue}[x.can&isNull != 0] | map[bool]mask{true: isNull}[x.can&^isNull != 0]
		}
		if x.can&isNull == 0 {
			least++
		}
		if x.can != isNull {
			most++
		}
	}
	for n := least; n <= most; n++ {
		holds, known := map[string]bool{"=": n == with, "<>": n != with, "<": n < with, "<=": n <= with, ">": n > with, ">=": n >= with}[name]
		if !known {
			return outcome{}, false
		}
		o = o.or(value(map[bool]mask{true: isTrue, false: isFalse}[holds]))
	}
	return o, true
}

// holdsNullOnly reports whether an array with a NULL makes an operator of arrays false: NULL is in no array for <@, @> and &&.
func (a *analyzer) holdsNullOnly(src string, args []*pgtree.Node, s *scope, v env) bool {
	nulls := func(e *pgtree.Node, all bool) bool {
		list, _ := bare(e).List("elements")
		several, known := bare(e).Bool("multidims")
		isNot := func(e *pgtree.Node) bool { return a.eval(e, s, v).can != isNull }
		if !bare(e).Is("ARRAYEXPR") || !known || several || len(list) == 0 {
			return false
		}
		if all {
			return !slices.ContainsFunc(list, isNot)
		}
		return slices.ContainsFunc(list, func(e *pgtree.Node) bool { return !isNot(e) })
	}
	switch src {
	case "arraycontained":
		return nulls(args[0], false)
	case "arraycontains":
		return nulls(args[1], false)
	case "arrayoverlap":
		return nulls(args[0], true) || nulls(args[1], true)
	}
	return false
}

// smallInteger is the value of a constant from 0 to 255, or of a cast of one to another type of numbers.
func (a *analyzer) smallInteger(e *pgtree.Node) (n int, ok bool) {
	for a.isNumberCast(e) {
		args, _ := e.List("args")
		e = args[0]
	}
	value, ok := e.Datum("constvalue")
	switch oid := e.OID("consttype"); {
	case !e.Is("CONST") || !ok || len(value) == 0 || slices.ContainsFunc(value[1:], func(b byte) bool { return b != 0 }):
		return 0, false
	case oid == 21 || oid == 23 || oid == 20: // int2, int4, int8
		return int(value[0]), true
	}
	return 0, false
}

func (a *analyzer) isNumberCast(e *pgtree.Node) bool {
	args, _ := e.List("args")
	return e.Is("FUNCEXPR") && len(args) == 1 && a.isNamed(e, "int2", "int4", "int8", "float4", "float8", "numeric")
}

const textOID = 25

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
	if !f.builtin() && f != nil && f.set {
		args = f.withDefaults(args)
		results := make([]outcome, len(args))
		for i, arg := range args {
			results[i] = a.eval(arg, s, s.within)
		}
		if b, body := a.body(f, args, results); body != nil && columns == len(f.returns) {
			return a.leave(b, f, results, b.output(body, number-1, false), f.returns[number-1], typeOf(columnsOf(body)[number-1].Node("expr")), values)
		}
		return unknown(values)
	}
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
