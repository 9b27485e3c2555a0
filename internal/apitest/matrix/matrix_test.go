package matrix_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var update = flag.Bool("update", false, "write testdata/matrix.md")

const goldenFile = "testdata/matrix.md"

// A cell is a value of a Go type for a type of PostgreSQL.
type cell struct {
	typ   string // of PostgreSQL
	sql   string // the value, as SQL
	value any
	field reflect.StructField
	table string
}

func (c cell) String() string { return fmt.Sprintf("%s by %s", c.typ, goType(c.field.Type)) }

func goType(t reflect.Type) string {
	return strings.NewReplacer("matrix_test.", "", "uint8", "byte", "interface {}", "any").Replace(t.String())
}

// cells makes the cells of a kind.
func (k kind) cells(t *testing.T) (all []cell) {
	add := func(typ, sql string, v any) {
		f, ok := fieldOf(reflect.TypeOf(v))
		require.Truef(t, ok, "a row has no field for a %T", v)
		if isNull(reflect.ValueOf(v)) {
			sql = "null::" + typ
		}
		all = append(all, cell{typ: typ, sql: sql, value: v, field: f})
	}
	literal := "'" + strings.ReplaceAll(k.text, "'", "''") + "'::" + k.typ
	for _, v := range append(texts(k.text), k.values...) {
		add(k.typ, literal, v)
	}
	for _, v := range append(textArrays(k.text), k.arrays...) {
		elements := []string{}
		list := reflect.ValueOf(v)
		if list.Kind() == reflect.Struct { // a pgtype.Array
			list = list.FieldByName("Elements")
		}
		for i := range list.Len() {
			if isNull(list.Index(i)) {
				elements = append(elements, "null")
			} else {
				elements = append(elements, literal)
			}
		}
		add(k.typ+"[]", "array["+strings.Join(elements, ", ")+"]::"+k.typ+"[]", v)
	}
	return all
}

// isNull reports whether v means NULL, in the conventions of Go.
func isNull(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice:
		return v.IsNil()
	case reflect.Struct:
		valid := v.FieldByName("Valid")
		return valid.IsValid() && !valid.Bool()
	}
	return false
}

// shown renders a value so that equal ones, and no others, look the same.
func shown(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case json.RawMessage:
		var parsed any
		if json.Unmarshal(v, &parsed) != nil {
			return fmt.Sprintf("%q", []byte(v))
		}
		text, _ := json.Marshal(parsed)
		return string(text)
	case pgtype.Numeric:
		text, _ := v.MarshalJSON()
		return string(text)
	case *big.Int:
		return v.String()
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return "nil"
		}
		return "&" + shown(r.Elem().Interface())
	case reflect.Struct:
		var fields []string
		for i := range r.NumField() {
			if r.Type().Field(i).IsExported() {
				fields = append(fields, shown(r.Field(i).Interface()))
			} else {
				fields = append(fields, fmt.Sprintf("%#v", r.Field(i)))
			}
		}
		return "{" + strings.Join(fields, " ") + "}"
	case reflect.Slice:
		if r.IsNil() {
			return "nil"
		}
		if r.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%q", r.Bytes())
		}
		items := []string{}
		for i := range r.Len() {
			items = append(items, shown(r.Index(i).Interface()))
		}
		return "[" + strings.Join(items, " ") + "]"
	}
	return fmt.Sprintf("%#v", v)
}

// A lab is where the cells are tried.
type lab struct {
	pool   *pgcmd.Pool
	shared *pgcmd.Pool // by Multiplex
}

type none = struct{}

// A way sends a row, or reads one.
type writeWay struct {
	name string
	run  func(ctx context.Context, l *lab, c cell) error
}

type readWay struct {
	name string
	run  func(ctx context.Context, l *lab, c cell) (row, error)
}

func (c cell) insert() *pgcmd.Command[row, int64] {
	return pgcmd.Exec[row]("matrix.insert", fmt.Sprintf("insert into %s (%s) values (@%[2]s)", c.table, c.field.Name))
}

func batchOf(mode pgcmd.BatchMode) writeWay {
	return writeWay{"Batch " + mode.String(), func(ctx context.Context, l *lab, c cell) error {
		result, err := pgcmd.Batch(c.insert(), mode).Run(ctx, l.pool, []row{with(c.value)})
		if err == nil {
			err = result.Outcomes[0].Err
		}
		return err
	}}
}

var writeWays = []writeWay{
	{"Exec", func(ctx context.Context, l *lab, c cell) error {
		_, err := c.insert().Run(ctx, l.pool, with(c.value))
		return err
	}},
	{"QueryOne", func(ctx context.Context, l *lab, c cell) error {
		insert := pgcmd.QueryOne[row, int]("matrix.returning", fmt.Sprintf("insert into %s (%s) values (@%[2]s) returning 1", c.table, c.field.Name))
		_, err := insert.Run(ctx, l.pool, with(c.value))
		return err
	}},
	{"Transaction", func(ctx context.Context, l *lab, c cell) error {
		_, err := c.insert().With(pgcmd.Options{InTx: true}).Run(ctx, l.pool, with(c.value))
		return err
	}},
	batchOf(pgcmd.Atomic), batchOf(pgcmd.Isolated), batchOf(pgcmd.Independent), batchOf(pgcmd.Sequential),
	{"Pipeline", func(ctx context.Context, l *lab, c cell) error {
		var p pgcmd.Pipeline
		result := pgcmd.Queue(&p, c.insert(), with(c.value))
		if err := p.Run(ctx, l.pool, pgcmd.Atomic); err != nil {
			return err
		}
		_, err := result.Get()
		return err
	}},
	{"Copy", func(ctx context.Context, l *lab, c cell) error {
		_, err := pgcmd.Copy[row]("matrix.copy", pgx.Identifier{c.table}).Run(ctx, l.pool, pgcmd.Rows([]row{with(c.value)}))
		return err
	}},
	{"Catalog", func(ctx context.Context, l *lab, c cell) error {
		fields := map[string]any{c.field.Name: c.value}
		if v := reflect.ValueOf(c.value); v.Kind() == reflect.Slice && v.IsNil() {
			clear(fields) // a nil slice is left out of JSON: its schema knows no null
		}
		input, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		_, err = pgcmd.NewCatalog(c.insert()).Run(ctx, l.pool, "matrix.insert", input)
		return err
	}},
}

func (c cell) one() *pgcmd.Command[none, row] {
	return pgcmd.QueryOne[none, row]("matrix.one", fmt.Sprintf("select %s from (select %s as v) c", columns(c.field.Name), c.sql)).With(pgcmd.Options{ReadOnly: true})
}

func (c cell) all() *pgcmd.Command[none, []row] {
	return pgcmd.Query[none, row]("matrix.all", fmt.Sprintf("select %s from (select %s as v) c", columns(c.field.Name), c.sql)).With(pgcmd.Options{ReadOnly: true})
}

func first(rows []row, err error) (row, error) {
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows", len(rows))
	}
	if err != nil {
		return row{}, err
	}
	return rows[0], nil
}

func firstOf(rows iter.Seq2[row, error]) (row, error) {
	for r, err := range rows {
		return r, err
	}
	return row{}, errors.New("no row")
}

func batchRead(mode pgcmd.BatchMode) readWay {
	return readWay{"Batch " + mode.String(), func(ctx context.Context, l *lab, c cell) (row, error) {
		result, err := pgcmd.Batch(c.one(), mode).Run(ctx, l.pool, []none{{}})
		if err != nil {
			return row{}, err
		}
		return result.Outcomes[0].Get()
	}}
}

var readWays = []readWay{
	{"QueryOne", func(ctx context.Context, l *lab, c cell) (row, error) { return c.one().Run(ctx, l.pool, none{}) }},
	{"QueryOne shared", func(ctx context.Context, l *lab, c cell) (row, error) { return c.one().Run(ctx, l.shared, none{}) }},
	{"Query", func(ctx context.Context, l *lab, c cell) (row, error) { return first(c.all().Run(ctx, l.pool, none{})) }},
	{"Stream", func(ctx context.Context, l *lab, c cell) (row, error) {
		return firstOf(pgcmd.Stream(ctx, l.pool, c.all(), none{}))
	}},
	{"Stream in a transaction", func(ctx context.Context, l *lab, c cell) (row, error) {
		body := func(ctx context.Context, tx *pgcmd.Tx, _ none) (row, error) {
			return firstOf(pgcmd.Stream(ctx, tx, c.all(), none{}))
		}
		return pgcmd.Transaction("matrix.stream", body).Run(ctx, l.pool, none{})
	}},
	batchRead(pgcmd.Atomic), batchRead(pgcmd.Isolated), batchRead(pgcmd.Independent), batchRead(pgcmd.Sequential),
	{"Pipeline", func(ctx context.Context, l *lab, c cell) (row, error) {
		var p pgcmd.Pipeline
		result := pgcmd.Queue(&p, c.one(), none{})
		if err := p.Run(ctx, l.pool, pgcmd.Independent); err != nil {
			return row{}, err
		}
		return result.Get()
	}},
	{"Catalog", func(ctx context.Context, l *lab, c cell) (r row, err error) {
		output, err := pgcmd.NewCatalog(c.one()).Run(ctx, l.pool, "matrix.one", nil)
		if err == nil {
			err = json.Unmarshal(output, &r)
		}
		return r, err
	}},
}

// write tries a way to send the cell's value and tells how it went.
func (l *lab) write(ctx context.Context, w writeWay, c cell, want *string) (result string) {
	defer func() {
		if p := recover(); p != nil {
			result = fmt.Sprintf("PANIC %v", p)
		}
	}()
	err := w.run(ctx, l, c)
	rows, _ := l.pool.Query(ctx, fmt.Sprintf("delete from %s returning %s::text", c.table, c.field.Name))
	stored, failure := pgx.CollectRows(rows, pgx.RowTo[*string])
	switch {
	case failure != nil:
		return "WRONG: " + failure.Error()
	case err == nil && len(stored) == 1 && reflect.DeepEqual(stored[0], want):
		return "yes"
	case err == nil && len(stored) == 1 && stored[0] != nil:
		return "WRONG: stored " + *stored[0]
	case err == nil:
		return fmt.Sprintf("WRONG: stored %d rows, or NULL", len(stored))
	}
	e, ok := errors.AsType[*pgcmd.Error](err)
	switch {
	case !ok:
		return "WRONG: " + err.Error()
	case len(stored) > 0 || e.Effect != pgcmd.NotApplied:
		return fmt.Sprintf("WRONG: %d rows are there: %v", len(stored), err)
	case e.SQLState != "":
		return "WRONG: sent, and refused by the server: " + err.Error()
	}
	return "refused, " + string(e.Code)
}

// read tries a way to read the cell's value and tells how it went.
func (l *lab) read(ctx context.Context, w readWay, c cell) (result string) {
	defer func() {
		if p := recover(); p != nil {
			result = fmt.Sprintf("PANIC %v", p)
		}
	}()
	r, err := w.run(ctx, l, c)
	if err == nil {
		got := value(r, c.field)
		if shown(got) == shown(c.value) {
			return "yes"
		}
		if l.isTheSameText(ctx, c, got) {
			return "yes, in another spelling"
		}
		return "WRONG: read " + shown(got)
	}
	e, ok := errors.AsType[*pgcmd.Error](err)
	switch {
	case !ok:
		return "WRONG: " + err.Error()
	case e.SQLState != "":
		return "WRONG: the server refused it: " + err.Error()
	}
	return "refused, " + string(e.Code)
}

// isTheSameText reports whether a text that was read is the cell's value to PostgreSQL, though not to the letter.
func (l *lab) isTheSameText(ctx context.Context, c cell, got any) bool {
	if !slices.ContainsFunc(slices.Concat(texts(""), textArrays("")), func(v any) bool { return reflect.TypeOf(v) == c.field.Type }) {
		return false
	}
	sent := c
	sent.value = got
	if _, err := sent.insert().Run(ctx, l.pool, with(got)); err != nil {
		return false
	}
	var same bool
	err := l.pool.QueryRow(ctx, fmt.Sprintf("with d as (delete from %s returning %s::text as t) select t is not distinct from (%s)::text from d",
		c.table, c.field.Name, c.sql)).Scan(&same)
	return err == nil && same
}

// same returns what all ways agree on, or what they say if they do not.
func same(results []string, names func(i int) string) (result string, agreed bool) {
	agreed = !slices.ContainsFunc(results, func(r string) bool {
		return r != results[0] || strings.HasPrefix(r, "WRONG") || strings.HasPrefix(r, "PANIC")
	})
	if agreed {
		return results[0], true
	}
	var b strings.Builder
	for i, r := range results {
		fmt.Fprintf(&b, "\n\t%-24s %s", names(i), r)
	}
	return b.String(), false
}

func TestAValueIsTheSameByEveryWay(t *testing.T) {
	ctx := t.Context()
	url := pgcmdtest.URL(t)
	l := &lab{}
	for _, p := range []struct {
		pool   **pgcmd.Pool
		shared int
	}{{&l.pool, 0}, {&l.shared, 2}} {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 4, Multiplex: p.shared, Pgx: func(c *pgxpool.Config) {
			c.ConnConfig.RuntimeParams["timezone"] = "UTC"
			c.ConnConfig.RuntimeParams["lc_monetary"] = "C"
		}})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, pool.Close(context.WithoutCancel(ctx))) })
		*p.pool = pool
	}
	var mu sync.Mutex
	lines := make([][]string, len(kinds))
	t.Run("of", func(t *testing.T) {
		for i, k := range kinds {
			t.Run(k.typ, func(t *testing.T) {
				t.Parallel()
				var own []string
				for n, c := range k.cells(t) {
					if testing.Short() && (n+i)%4 != 0 { // a fourth of the table, with something of every type
						own = append(own, "")
						continue
					}
					c.table = fmt.Sprintf("cell_%d_%d", i, n)
					own = append(own, l.try(t, ctx, c))
				}
				mu.Lock()
				lines[i] = own
				mu.Unlock()
			})
		}
	})
	all := slices.Concat([]string{"| PostgreSQL | Go | can be sent | can be read |", "|---|---|---|---|"}, slices.Concat(lines...), []string{""})
	if *update {
		require.False(t, testing.Short(), "the table is written as a whole")
		require.NoError(t, os.WriteFile(goldenFile, []byte(strings.Join(all, "\n")), 0o644))
	}
	text, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	golden := strings.Split(string(text), "\n")
	for i := range min(len(all), len(golden)) {
		if all[i] == "" { // was left out
			all[i] = golden[i]
		}
	}
	assert.Equal(t, golden, all, "go test -update writes the table anew, if the change is meant")
}

// try tries a cell by every way and returns its line of the table.
func (l *lab) try(t *testing.T, ctx context.Context, c cell) string {
	var own []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		_, typ, _ := strings.Cut(homes[f.Name], "::")
		if f.Name == c.field.Name {
			typ = c.typ
		}
		own = append(own, f.Name+" "+typ)
	}
	_, err := l.pool.Exec(ctx, fmt.Sprintf("create unlogged table %s (%s)", c.table, strings.Join(own, ", ")))
	require.NoError(t, err)
	var want *string
	require.NoErrorf(t, l.pool.QueryRow(ctx, "select ("+c.sql+")::text").Scan(&want), "%s", c.sql)

	var writes, reads []string
	for _, w := range writeWays {
		writes = append(writes, l.write(ctx, w, c, want))
	}
	for _, w := range readWays {
		reads = append(reads, l.read(ctx, w, c))
	}
	null := ""
	if want == nil {
		null = " (NULL)"
	}
	sent, agreed := same(writes, func(i int) string { return writeWays[i].name })
	assert.Truef(t, agreed, "%v%s, sent: %s", c, null, sent)
	read, agreed := same(reads, func(i int) string { return readWays[i].name })
	assert.Truef(t, agreed, "%v%s, read: %s", c, null, read)
	return fmt.Sprintf("| %s%s | `%s` | %s | %s |", c.typ, null, goType(c.field.Type), sent, read)
}

func TestTheMatrixHoldsEveryScalarType(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	covered := []uint32{}
	for _, k := range kinds {
		var oid uint32
		require.NoError(t, pool.QueryRow(t.Context(), "select '"+strings.ReplaceAll(k.typ, "'", "''")+"'::regtype::oid").Scan(&oid), k.typ)
		covered = append(covered, oid)
		assert.GreaterOrEqual(t, len(k.values)+len(texts(k.text)), 3, k.typ)
	}
	rows, err := pool.Query(t.Context(), `select typname from pg_type
		where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typcategory <> 'A' and not oid = any($1) order by 1`, covered)
	require.NoError(t, err)
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	missing = slices.DeleteFunc(missing, func(name string) bool { return without[name] != "" })
	assert.Empty(t, missing, "the matrix lacks them")
}
