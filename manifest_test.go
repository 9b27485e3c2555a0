package pgcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

var errGone = pgcmd.Errorf("gone", "the account was closed")

func TestManifestDescribesEveryCommand(t *testing.T) {
	t.Parallel()
	add := pgcmd.Exec[byEmail]("users.grow", `update users set age = age + 1 where email = @email`).
		With(pgcmd.Options{OnConstraint: map[string]error{"b": errGone, "a": errors.New("plain")}, Description: "Ages a user."})
	catalog := pgcmd.NewCatalog(
		pgcmd.QueryOne[byEmail, user]("users.find", `select id, email, age from users where email = @email`).With(pgcmd.Options{ReadOnly: true}),
		pgcmd.Query[struct{}, user]("users.list", `select id, email, age from users`).With(pgcmd.Options{MaxRows: 7}),
		add,
		pgcmd.Batch(add, pgcmd.Atomic),
		pgcmd.Batch(pgcmd.Query[byEmail, int]("lists.small", `select 1 where @email = ''`).With(pgcmd.Options{MaxRows: 5}), pgcmd.Independent),
		pgcmd.Batch(pgcmd.Query[byEmail, int]("lists", `select 1 where @email = ''`), pgcmd.Independent),
		pgcmd.Once(pgcmd.Transaction("bank.pay", func(context.Context, *pgcmd.Tx, transfer) (int, error) { return 0, nil }).
			With(pgcmd.Options{Timeout: 1500 * time.Millisecond, Retry: pgcmd.Retry{Attempts: 3}}), func(transfer) string { return "k" }),
	)
	m := catalog.Manifest()
	by := map[string]pgcmd.CommandInfo{}
	var names []string
	for _, info := range m.Commands {
		by[info.Name] = info
		names = append(names, info.Name)
	}
	assert.Equal(t, []string{"bank.pay", "lists.small[]", "lists[]", "users.find", "users.grow", "users.grow[]", "users.list"}, names)

	pay := by["bank.pay"]
	assert.Equal(t, []any{true, true, false, 3, 1500 * time.Millisecond}, []any{pay.Once, pay.Transaction, pay.ReadOnly, pay.Attempts, pay.Timeout})
	assert.Len(t, pay.Codes, 15, "a body may return any")

	find := by["users.find"]
	assert.Equal(t, []any{false, false, true, 1, time.Duration(0), 0}, []any{find.Once, find.Transaction, find.ReadOnly, find.Attempts, find.Timeout, find.MaxRows})
	assert.Contains(t, find.Codes, pgcmd.CodeNotFound)
	assert.NotContains(t, find.Codes, pgcmd.CodeConflict)
	assert.NotContains(t, find.Codes, pgcmd.CodeUnknownEffect)

	list := by["users.list"]
	assert.Equal(t, 7, list.MaxRows)
	assert.Contains(t, list.Codes, pgcmd.CodeTooManyRows)
	assert.NotContains(t, list.Codes, pgcmd.CodeNotFound)

	grow := by["users.grow"]
	assert.Equal(t, "Ages a user.", grow.Description)
	assert.NotContains(t, grow.Codes, pgcmd.CodeTooManyRows)
	assert.Equal(t, pgcmd.Code("gone"), grow.Codes[len(grow.Codes)-1])
	assert.Equal(t, []pgcmd.ConstraintInfo{{Name: "a", Message: "plain"}, {Name: "b", Code: "gone", Message: "the account was closed"}}, grow.Constraints)
	assert.Equal(t, grow.Constraints, by["users.grow[]"].Constraints, "a batch has those of its items")
	assert.Equal(t, 5, by["lists.small[]"].MaxRows)
	assert.Equal(t, 10_000, by["lists[]"].MaxRows)

	text, err := json.Marshal(m)
	require.NoError(t, err)
	again, err := json.Marshal(catalog.Manifest())
	require.NoError(t, err)
	assert.Equal(t, string(text), string(again))
	var read pgcmd.Manifest
	require.NoError(t, json.Unmarshal(text, &read))
	assert.Equal(t, m, read)
	assert.Contains(t, string(text), `{"commands":[{"name":"bank.pay","input":{"$schema":`)
	assert.Contains(t, string(text), `"read_only":false,"transaction":true,"once":true,"attempts":3,"timeout_ms":1500,"codes":["invalid",`)

	m.Commands[0].Codes[0] = "changed"
	m.Commands[0].Input[0] = 'x'
	again, err = json.Marshal(catalog.Manifest())
	require.NoError(t, err)
	assert.Equal(t, string(text), string(again), "a manifest is a copy")
}

func TestManifestAsMarkdown(t *testing.T) {
	t.Parallel()
	type line struct {
		Sku string  `json:"sku" validate:"required,max=20"`
		Qty int     `json:"qty" validate:"gte=1"`
		Was *string `json:"was" validate:"omitempty,oneof=a b"`
	}
	type create struct {
		Email    string `json:"email" validate:"required,email"`
		Lines    []line `json:"lines" validate:"min=1,dive"`
		Password string `json:"password" secret:"true"`
	}
	type created struct {
		ID int64 `json:"id"`
	}
	catalog := pgcmd.NewCatalog(
		pgcmd.QueryOne[create, created]("Orders.create", `
			insert into orders (email)
			  select @email where @email <> '| a'
			returning id`).
			With(pgcmd.Options{
				Description:  "Takes an order | and\nnothing <else>.",
				OnConstraint: map[string]error{"orders_open": errGone},
			}),
		pgcmd.Exec[struct{}]("orders.clear", `delete from orders`).With(pgcmd.Options{InTx: true, Timeout: time.Second}),
	)
	var b bytes.Buffer
	require.NoError(t, catalog.WriteMarkdown(&b))
	golden := "testdata/catalog.md"
	if *updateAPI {
		require.NoError(t, os.WriteFile(golden, b.Bytes(), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String())

	assert.Error(t, catalog.WriteMarkdown(brokenWriter{}))
	for range 3 {
		var again strings.Builder
		require.NoError(t, catalog.WriteMarkdown(&again))
		assert.Equal(t, b.String(), again.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no room") }
