package errors_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd"
)

// Every field of Options on every kind of command: either it means something there, or it
// panics and says what to do.
func TestOptionsThatACommandCannotHavePanic(t *testing.T) {
	t.Parallel()
	type row struct{ N int }
	body := func(context.Context, pgcmd.DB, int) (int, error) { return 0, nil }
	inTx := func(context.Context, *pgcmd.Tx, int) (int, error) { return 0, nil }
	key := func(int) string { return "k" }
	query := pgcmd.Query[int, int]("x", `select $1::int`)
	write := pgcmd.Exec[int]("x", `insert into t values ($1)`)
	kinds := map[string]func(o pgcmd.Options){
		"New":               with(pgcmd.New("x", body)),
		"Transaction":       with(pgcmd.Transaction("x", inTx)),
		"Query":             with(query),
		"QueryOne":          with(pgcmd.QueryOne[int, int]("x", `select $1::int`)),
		"Exec":              with(pgcmd.Exec[int]("x", `select $1::int`)),
		"Exec of a write":   with(write),
		"AdHoc":             with(pgcmd.AdHoc),
		"Copy":              with(pgcmd.Copy[row]("x", pgx.Identifier{"t"})),
		"Once":              with(pgcmd.Once(pgcmd.Transaction("x", inTx), key)),
		"Once of a Query":   with(pgcmd.Once(query, key)),
		"Batch of New":      with(pgcmd.Batch(pgcmd.New("x", body), pgcmd.Atomic)),
		"Batch of Exec":     with(pgcmd.Batch(pgcmd.Exec[int]("x", `select $1::int`), pgcmd.Isolated)),
		"Batch of a write":  with(pgcmd.Batch(write, pgcmd.Atomic)),
		"Batch of QueryOne": with(pgcmd.Batch(pgcmd.QueryOne[int, int]("x", `select $1::int`), pgcmd.Atomic)),
		"Batch of Query":    with(pgcmd.Batch(query, pgcmd.Atomic)),
		"Independent Query": with(pgcmd.Batch(query, pgcmd.Independent)),
		"Sequential Query":  with(pgcmd.Batch(query, pgcmd.Sequential)),
		"Batch of Once":     with(pgcmd.Batch(pgcmd.Once(pgcmd.Transaction("x", inTx), key), pgcmd.Independent)),
		"Batch of batches":  with(pgcmd.Batch(pgcmd.Batch(query, pgcmd.Atomic), pgcmd.Independent)),
		"Batch of AdHoc":    with(pgcmd.Batch(pgcmd.AdHoc, pgcmd.Independent)),
		"Query with a hook": with(pgcmd.After(query, func(context.Context, int, *[]int) error { return nil })),
	}
	options := map[string]pgcmd.Options{
		"Description":  {Description: "x"},
		"Timeout":      {Timeout: time.Second},
		"Retry":        {Retry: pgcmd.Retry{Attempts: 2}},
		"Tx":           {Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}},
		"InTx":         {InTx: true},
		"ReadOnly":     {ReadOnly: true},
		"Writes":       {Writes: true},
		"MaxRows":      {MaxRows: 1},
		"MaxBytes":     {MaxBytes: 1},
		"Trusted":      {Trusted: true},
		"OnConstraint": {OnConstraint: map[string]error{"a": errors.New("a")}},
		"Middleware":   {Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler { return next }}},
		"Progress":     {Progress: func(int, int) {}},
	}
	for i := range reflect.TypeFor[pgcmd.Options]().NumField() {
		assert.Contains(t, options, reflect.TypeFor[pgcmd.Options]().Field(i).Name, "a new field needs a row here")
	}
	all := func(names ...string) map[string]bool {
		set := map[string]bool{}
		for _, name := range names {
			set[name] = true
		}
		return set
	}
	// Which kinds refuse an option; the others have it.
	refuse := map[string]map[string]bool{
		"Tx": all("New", "Query", "QueryOne", "Exec", "Exec of a write", "AdHoc", "Copy", "Independent Query", "Sequential Query",
			"Batch of Once", "Batch of batches", "Batch of AdHoc", "Query with a hook"),
		"InTx":     all("Independent Query", "Sequential Query", "Batch of Once", "Batch of batches", "Batch of AdHoc"),
		"ReadOnly": all("Exec of a write", "Batch of a write", "Copy", "Once", "Once of a Query", "Batch of Once"),
		"MaxRows": all("New", "Transaction", "QueryOne", "Exec", "Exec of a write", "Copy", "Once",
			"Batch of New", "Batch of Exec", "Batch of a write", "Batch of QueryOne", "Batch of Once"),
		"MaxBytes": all("New", "Transaction", "Exec", "Exec of a write", "Copy", "Once",
			"Batch of New", "Batch of Exec", "Batch of a write", "Batch of Once"),
		"Progress": all("New", "Transaction", "Query", "QueryOne", "Exec", "Exec of a write", "AdHoc", "Once", "Once of a Query", "Query with a hook"),
	}
	for kind, with := range kinds {
		for option, o := range options {
			text := panicText(func() { with(o) })
			if refuse[option][kind] {
				assert.Regexp(t, `^pgcmd: [^ ]+: .*(Options|read-only).*(: |but )`, text, "%s of %s", option, kind)
				continue
			}
			assert.Empty(t, text, "%s of %s", option, kind)
		}
	}
	assert.Panics(t, func() {
		pgcmd.Once(pgcmd.Transaction("x", inTx).With(pgcmd.Options{ReadOnly: true}), key)
	}, "the other way round")
	assert.Panics(t, func() {
		pgcmd.Once(pgcmd.Transaction("x", inTx).With(pgcmd.Options{Tx: pgx.TxOptions{AccessMode: pgx.ReadOnly}}), key)
	})
	assert.NotPanics(t, func() {
		pgcmd.NewCatalog(pgcmd.New("a", body), pgcmd.Transaction("b", inTx), query, pgcmd.Exec[int]("c", `select $1::int`),
			pgcmd.Batch(pgcmd.Exec[int]("d", `insert into t values ($1)`), pgcmd.Atomic), pgcmd.Batch(query, pgcmd.Independent).With(pgcmd.Options{MaxRows: 3})).Limit("a", 1, 1).Limit("c", 1, 1).Limit("x", 1, 1).Limit("x[]", 1, 1)
	}, "a catalog's limits are for those that can have them")
	assert.Equal(t, "pgcmd: x: Options.MaxRows, but a QueryOne returns one row and refuses a second: take MaxRows away",
		panicText(func() { kinds["QueryOne"](pgcmd.Options{MaxRows: 1}) }))
}

func with[In, Out any](c *pgcmd.Command[In, Out]) func(o pgcmd.Options) {
	return func(o pgcmd.Options) { c.With(o) }
}

func panicText(f func()) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text, _ = v.(string)
		}
	}()
	f()
	return ""
}
