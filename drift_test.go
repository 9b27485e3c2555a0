package pgcmd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const shopDDL = pgcmd.OnceSchema + `
	create type mood as enum ('good', 'bad');
	create domain cents as int8 check (value >= 0);
	create table shops (id int8 generated always as identity primary key, name text not null constraint shops_name_key unique);
	create table orders (
		id      int8 generated always as identity primary key,
		ref     uuid not null constraint orders_ref_key unique,
		shop_id int8 not null constraint orders_shop_fkey references shops,
		email   text not null,
		note    text,
		qty     int4 not null constraint orders_qty_check check (qty > 0),
		price   cents not null,
		weight  float8 not null,
		tags    text[] not null default '{}',
		data    jsonb not null default '{}',
		mood    mood not null default 'good',
		made_at timestamptz not null default now(),
		day     date not null default current_date
	);
	create view sold as select id, email, qty from orders;
	create schema audit;
	create table audit.log (id int8 generated always as identity, line text not null);
	create function fee(amount int8) returns int8 language sql immutable as 'select amount / 10';
	do $$ begin create role shop_clerk; exception when duplicate_object then null; end $$;
	grant usage on schema public, audit, pgcmd to shop_clerk;
	grant select, insert, update, delete on all tables in schema public, audit, pgcmd to shop_clerk`

type order struct {
	ID     int64
	Ref    [16]byte
	Email  string
	Note   *string
	Qty    int32
	Price  int64
	Weight float64
	Tags   []string
	Data   map[string]any
	Mood   string
	MadeAt time.Time
}

type newOrder struct {
	Ref    [16]byte
	ShopID int64
	Email  string
	Note   *string
	Qty    int32
	Price  int64
	Weight float64
	Tags   []string       `validate:"required"`
	Data   map[string]any `validate:"required"`
	Mood   string         `validate:"oneof=good bad"`
}

type soldOrder struct {
	ID    int64
	Email string
	Qty   int32
}

type shop struct {
	ID   int64
	Name string
}

var errTaken = errors.New("taken")

var (
	orderFind = pgcmd.QueryOne[int64, order]("orders.find",
		`select id, ref, email, note, qty, price, weight, tags, data, mood, made_at from orders where id = $1`)
	orderAdd = pgcmd.QueryOne[newOrder, int64]("orders.add",
		`insert into orders (ref, shop_id, email, note, qty, price, weight, tags, data, mood)
		values (@ref, @shop_id, @email, @note, @qty, @price, @weight, @tags, @data, @mood) returning id`).
		With(pgcmd.Options{OnConstraint: map[string]error{"orders_ref_key": errTaken, "orders_shop_fkey": errTaken, "orders_qty_check": errTaken}})
	orderGood  = pgcmd.Query[empty, int64]("orders.good", `select id from orders where mood = 'good'`)
	orderDrop  = pgcmd.Exec[int64]("orders.drop", `delete from orders where id = $1`)
	orderFees  = pgcmd.Query[int64, int64]("orders.fees", `select fee(price) from orders where shop_id = $1`).With(pgcmd.Options{ReadOnly: true})
	orderSince = pgcmd.Query[time.Time, int64]("orders.since", `select id from orders where made_at > $1`)
	soldList   = pgcmd.Query[empty, soldOrder]("sold.list", `select id, email, qty from sold`).With(pgcmd.Options{ReadOnly: true})
	shopList   = pgcmd.Query[empty, shop]("shops.list", `select * from shops`)
	shopAdd    = pgcmd.Exec[string]("shops.add", `insert into shops (name) values ($1)`).
			With(pgcmd.Options{OnConstraint: map[string]error{"shops_name_key": errTaken}})
	logAdd    = pgcmd.Once(pgcmd.Exec[string]("log.add", `insert into audit.log (line) values ($1)`), func(line string) string { return line })
	shopsCopy = pgcmd.Copy[struct{ Name string }]("shops.copy", pgx.Identifier{"shops"})

	shopCommands = []pgcmd.Definition{orderFind, orderAdd, orderGood, orderDrop, orderFees, orderSince, soldList, shopList, shopAdd, logAdd, shopsCopy,
		pgcmd.Batch(shopAdd.With(pgcmd.Options{}), pgcmd.Atomic)}
)

// A finding that is wanted: the command and the field, and a part of the sentence.
type want map[string]string

func TestDriftIsFound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, shopDDL)

	everything := pgcmd.VerifyOptions{Unmapped: true}
	warnings, err := everything.Verify(ctx, pool, shopCommands...)
	require.NoError(t, err)
	require.Empty(t, warnings)

	for what, c := range map[string]struct {
		ddl      string
		findings want
		warnings want
	}{
		"a renamed column": {ddl: `alter table orders rename email to mail`, findings: want{
			"orders.find: SQL": `column "email" does not exist (line 1 of the SQL, at "email")`,
			"orders.add: SQL":  `column "email" of relation "orders" does not exist`,
		}},
		"a dropped column": {ddl: `alter table orders drop note`, findings: want{
			"orders.find: SQL": `column "note" does not exist`,
			"orders.add: SQL":  `column "note" of relation "orders" does not exist`,
		}},
		"a column of select *, renamed": {ddl: `alter table shops rename name to title`, findings: want{
			"shops.list: shop.Name":    "has no column, the SQL returns id, title",
			"shops.list: column title": "has no field in shop",
			"shops.add: SQL":           `column "name" of relation "shops" does not exist`,
			"shops.add[]: SQL":         `column "name" of relation "shops" does not exist`,
			"shops.copy: row.Name":     "has no column, table shops has id, title",
			"shops.copy: column title": "is NOT NULL without a default, and no field fills it",
		}},
		"a column added": {ddl: `alter table shops add city text`, findings: want{
			"shops.list: column city": "has no field in shop",
		}},
		"a column added that must be filled": {ddl: `alter table shops add city text not null`, findings: want{
			"shops.list: column city":  "has no field in shop",
			"shops.copy: column city":  "is NOT NULL without a default",
			"shops.add: column city":   "is NOT NULL without a default, and the INSERT into shops leaves it out",
			"shops.add[]: column city": "is NOT NULL without a default, and the INSERT into shops leaves it out",
		}},
		"a column that is generated now": {ddl: `alter table shops drop name; alter table shops add name text generated always as ('shop') stored constraint shops_name_key unique`, findings: want{
			"shops.copy: row.Name": `is for column "name", which is generated`,
			"shops.add: SQL":       `cannot insert a non-DEFAULT value into column "name"`,
			"shops.add[]: SQL":     `cannot insert a non-DEFAULT value into column "name"`,
		}},
		"uuid to text": {ddl: `alter table orders alter ref type text`, findings: want{
			"orders.find: order.Ref":   `([16]uint8) cannot hold column "ref" (text)`,
			"orders.add: newOrder.Ref": `([16]uint8) cannot be sent as @ref (text)`,
		}},
		"text to an int": {ddl: `drop view sold; alter table orders alter email type int4 using 1; create view sold as select id, email, qty from orders`, findings: want{
			"orders.add: newOrder.Email": `(string) is text, which only sometimes reads as @email (int4)`,
		}},
		"int8 to int4": {ddl: `alter table orders drop constraint orders_shop_fkey, alter shop_id type int4, add constraint orders_shop_fkey foreign key (shop_id) references shops`, findings: want{
			"orders.fees: input":          "(int64) holds more than $1 (int4)",
			"orders.add: newOrder.ShopID": "(int64) holds more than @shop_id (int4): make it int32, or widen the column",
		}},
		"int4 to int8": {ddl: `drop view sold; alter table orders alter qty type int8; create view sold as select id, email, qty from orders`, findings: want{
			"orders.find: order.Qty":   `(int32) cannot hold every value of column "qty" (int8): make it int64`,
			"sold.list: soldOrder.Qty": `(int32) cannot hold every value of column "qty" (int8)`,
		}},
		"int8 to numeric": {ddl: `alter table orders alter price type numeric`, findings: want{
			"orders.find: order.Price": `(int64) cannot hold every value of column "price" (numeric)`,
			"orders.fees: SQL":         "function fee(numeric) does not exist",
		}},
		"float8 to numeric": {ddl: `alter table orders alter weight type numeric`, warnings: want{
			"orders.find: order.Weight": `(float64) cannot hold every digit of column "weight" (numeric)`,
		}},
		"float8 to int4": {ddl: `alter table orders alter weight type int4`, findings: want{
			"orders.add: newOrder.Weight": "(float64) holds fractions, which cannot be sent as @weight (int4)",
		}},
		"int4 to float8": {ddl: `drop view sold; alter table orders alter qty type float8; create view sold as select id, email, qty from orders`, findings: want{
			"orders.find: order.Qty":   `(int32) cannot hold the fractions of column "qty" (float8)`,
			"sold.list: soldOrder.Qty": "cannot hold the fractions",
		}},
		"an array to a scalar": {ddl: `alter table orders alter tags drop default, alter tags type text using ''`, findings: want{
			"orders.find: order.Tags":   `([]string) cannot hold column "tags" (text)`,
			"orders.add: newOrder.Tags": `([]string) cannot be sent as @tags (text)`,
		}},
		"a scalar to an array": {ddl: `alter table orders alter weight type float8[] using array[weight]`, findings: want{
			"orders.find: order.Weight":   `(float64) cannot hold column "weight" (float8[])`,
			"orders.add: newOrder.Weight": `(float64) cannot be sent as @weight (float8[])`,
		}},
		"an array's elements": {ddl: `alter table orders alter tags drop default, alter tags type uuid[] using '{}'`},
		"text to jsonb": {ddl: `drop view sold; alter table orders alter email type jsonb using '{}'; create view sold as select id, email, qty from orders`, warnings: want{
			"orders.find: order.Email":   `(string) gets the JSON text of column "email" (jsonb)`,
			"orders.add: newOrder.Email": `(string) must hold JSON text to be sent as @email (jsonb)`,
			"sold.list: soldOrder.Email": "gets the JSON text",
		}},
		"jsonb to text": {ddl: `alter table orders alter data drop default, alter data type text`, findings: want{
			"orders.find: order.Data":   `(map[string]interface {}) cannot hold column "data" (text)`,
			"orders.add: newOrder.Data": `(map[string]interface {}) cannot be sent as @data (text)`,
		}},
		"timestamptz to date": {ddl: `alter table orders alter made_at type date`, warnings: want{
			"orders.since: input": "(time.Time) loses its time of day when it is sent as $1 (date)",
		}},
		"timestamptz to text": {ddl: `alter table orders alter made_at drop default, alter made_at type text`, findings: want{
			"orders.find: order.MadeAt":  `(time.Time) cannot hold column "made_at" (text)`,
			"orders.since: input":        "(time.Time) is written as Go prints it when it is sent as $1 (text)",
			"orders.add: column made_at": "is NOT NULL without a default",
		}},
		"a column that may be NULL": {ddl: `alter table orders alter email drop not null`, findings: want{
			"orders.find: order.Email":   `(string) cannot hold NULL, and column "email" of table orders may be NULL: make it *string`,
			"sold.list: soldOrder.Email": `(string) cannot hold NULL, and column "email" of table orders may be NULL, in view sold: make it *string`,
		}},
		"a dropped table": {ddl: `drop table orders cascade`, findings: want{
			"orders.find: SQL": `relation "orders" does not exist`, "orders.add: SQL": `relation "orders" does not exist`,
			"orders.good: SQL": `relation "orders" does not exist`, "orders.drop: SQL": `relation "orders" does not exist`,
			"orders.fees: SQL": `relation "orders" does not exist`, "orders.since: SQL": `relation "orders" does not exist`,
			"sold.list: SQL":           `relation "sold" does not exist`,
			"orders.add: OnConstraint": "names orders_qty_check",
		}},
		"a renamed table": {ddl: `alter table shops rename to stores`, findings: want{
			"shops.list: SQL": `relation "shops" does not exist`, "shops.add: SQL": `relation "shops" does not exist`,
			"shops.add[]: SQL": `relation "shops" does not exist`, `shops.copy: table "shops"`: "does not exist",
		}},
		"a table in another schema": {ddl: `alter table shops set schema audit`, findings: want{
			"shops.list: SQL": `relation "shops" does not exist`, "shops.add: SQL": `relation "shops" does not exist`,
			"shops.add[]: SQL": `relation "shops" does not exist`, `shops.copy: table "shops"`: "does not exist",
		}},
		"a dropped schema": {ddl: `drop schema audit cascade`, findings: want{
			"log.add: SQL": `relation "audit.log" does not exist`,
		}},
		"a dropped constraint": {ddl: `alter table orders drop constraint orders_qty_check`, findings: want{
			"orders.add: OnConstraint": "names orders_qty_check, which the database does not have: correct the name, or restore the constraint (orders has orders_ref_key, orders_shop_fkey)",
		}},
		"a renamed constraint": {ddl: `alter table shops rename constraint shops_name_key to shops_unique`, findings: want{
			"shops.add: OnConstraint":   "names shops_name_key, which the database does not have: correct the name, or restore the constraint (shops has shops_unique)",
			"shops.add[]: OnConstraint": "names shops_name_key",
		}, warnings: want{
			"shops.add: table shops": "has constraints that no OnConstraint names: shops_unique",
		}},
		"a constraint more": {ddl: `alter table shops add constraint shops_named check (name <> '')`, warnings: want{
			"shops.add: table shops": "has constraints that no OnConstraint names: shops_named",
		}},
		"a unique index more": {ddl: `create unique index shops_lower on shops (lower(name))`, warnings: want{
			"shops.add: table shops": "has constraints that no OnConstraint names: shops_lower",
		}},
		"an enum's value removed": {ddl: `alter table orders alter mood drop default, alter mood type text; drop type mood; create type mood as enum ('bad');
			alter table orders alter mood type mood using 'bad'`, findings: want{
			"orders.good: SQL":          `invalid input value for enum mood: "good"`,
			"orders.add: newOrder.Mood": `may be "good" by its validate tag, and mood has no such value (has: bad)`,
		}},
		"an enum's value renamed": {ddl: `alter type mood rename value 'bad' to 'sad'`, findings: want{
			"orders.add: newOrder.Mood": `may be "bad" by its validate tag, and mood has no such value (has: good, sad)`,
		}},
		"an enum to an int": {ddl: `alter table orders alter mood drop default, alter mood type int2 using 1`, findings: want{
			"orders.good: SQL":          `invalid input syntax for type smallint: "good"`,
			"orders.add: newOrder.Mood": "(string) is text, which only sometimes reads as @mood (int2)",
		}},
		"a dropped function":               {ddl: `drop function fee`, findings: want{"orders.fees: SQL": "function fee(cents) does not exist"}},
		"a function of other arguments":    {ddl: `drop function fee; create function fee(a int8, b int8) returns int8 language sql as 'select 1::int8'`, findings: want{"orders.fees: SQL": "function fee(cents) does not exist"}},
		"a function with another result":   {ddl: `drop function fee; create function fee(int8) returns text language sql as 'select ''x'''`, findings: want{"orders.fees: row": `(int64) cannot hold column "fee" (text)`}},
		"a function's arguments reordered": {ddl: `drop function fee; create function fee(text, int8) returns int8 language sql as 'select 1::int8'`, findings: want{"orders.fees: SQL": "function fee(cents) does not exist"}},
		"columns reordered": {ddl: `drop table shops cascade; create table shops (name text not null constraint shops_name_key unique, id int8 generated always as identity primary key);
			alter table orders add constraint orders_shop_fkey foreign key (shop_id) references shops`},
		"a function that writes now": {ddl: `drop function fee; create function fee(amount int8) returns int8 language sql as 'insert into audit.log (line) values (''fee''); select amount / 10'`, findings: want{
			"orders.fees: ReadOnly": "is set for SQL that writes, by way of function fee, insert into audit.log",
		}},
		"a view that writes now": {ddl: `create function toll() returns int8 language plpgsql as $$ begin return nextval('shops_id_seq'); end $$;
			drop view sold; create view sold as select id, email, qty from orders where toll() > 0`, warnings: want{
			"sold.list: ReadOnly": "is set for SQL that calls view sold, function toll, which is volatile, in plpgsql",
		}},
		"a view that writes by SQL now": {ddl: `create function toll() returns int8 language sql as $$ select nextval('shops_id_seq') $$;
			drop view sold; create view sold as select id, email, qty from orders where toll() > 0`, findings: want{
			"sold.list: ReadOnly": "by way of view sold, function toll, function nextval",
		}},
		"a domain of something else":      {ddl: `drop function fee; create function fee(text) returns int8 language sql as 'select 1::int8'; alter table orders alter price type text; drop domain cents; create domain cents as text; alter table orders alter price type cents`, findings: want{"orders.find: order.Price": `(int64) cannot hold column "price" (text)`}, warnings: want{"orders.add: newOrder.Price": "(int64) is turned into text when it is sent as @price (cents)"}},
		"a dropped view":                  {ddl: `drop view sold`, findings: want{"sold.list: SQL": `relation "sold" does not exist`}},
		"a view with a column renamed":    {ddl: `drop view sold; create view sold as select id, email as mail, qty from orders`, findings: want{"sold.list: SQL": `column "email" does not exist`}},
		"a view with a column of another": {ddl: `drop view sold; create view sold as select id, email, qty::text from orders`, findings: want{"sold.list: soldOrder.Qty": `(int32) cannot hold column "qty" (text)`}},
		"a table that became a view": {ddl: `alter table shops rename to shops_all; create view shops as select * from shops_all`, findings: want{
			`shops.copy: table "shops"`: "is a view, and a copy needs a table",
		}},
		"no ledger":                     {ddl: `drop table pgcmd.once`, findings: want{"log.add: Once": "needs the table pgcmd.once, which does not exist: run pgcmd.OnceSchema"}},
		"no schema of the ledger":       {ddl: `drop schema pgcmd cascade`, findings: want{"log.add: Once": "run pgcmd.OnceSchema"}},
		"a column of the ledger":        {ddl: `alter table pgcmd.once drop fingerprint`, findings: want{"log.add: Once": `needs column "fingerprint" of pgcmd.once, which does not exist`}},
		"a type of the ledger":          {ddl: `alter table pgcmd.once alter run type text`, findings: want{"log.add: Once": `needs column "run" of pgcmd.once to be uuid, and it is text`}},
		"a column more of the ledger":   {ddl: `alter table pgcmd.once add who text not null`, findings: want{"log.add: Once": `leaves column "who" of pgcmd.once to its default, and it is NOT NULL without one`}},
		"a ledger with a larger key":    {ddl: `alter table pgcmd.once drop constraint once_pkey, add primary key (scope, key, run)`, findings: want{"log.add: Once": "needs a unique constraint on (scope, key)"}},
		"a ledger without its key":      {ddl: `alter table pgcmd.once drop constraint once_pkey`, findings: want{"log.add: Once": "needs a unique constraint on (scope, key)"}},
		"no right to write the ledger":  {ddl: `revoke update on pgcmd.once from shop_clerk; set local role shop_clerk`, findings: want{"log.add: Once": "needs to update pgcmd.once, which the role shop_clerk may not: grant update on pgcmd.once"}},
		"no right to the ledger's home": {ddl: `revoke usage on schema pgcmd from shop_clerk; set local role shop_clerk`, findings: want{"log.add: Once": "grant usage on schema pgcmd"}},
		"the role may all it needs":     {ddl: `set local role shop_clerk`},
		"no right to a schema":          {ddl: `revoke usage on schema audit from shop_clerk; set local role shop_clerk`, findings: want{"log.add: SQL": "permission denied for schema audit"}},
		"no right to read a table":      {ddl: `revoke select on shops from shop_clerk; set local role shop_clerk`, findings: want{"shops.list: table shops": "does not allow the role shop_clerk to select: grant select on shops"}},
		"no right to read a column": {ddl: `revoke select on shops from shop_clerk; grant select (id) on shops to shop_clerk; set local role shop_clerk`, findings: want{
			"shops.list: column name": "may not be read by the role shop_clerk: grant select on shops",
		}},
		"no right to insert": {ddl: `revoke insert on shops from shop_clerk; set local role shop_clerk`, findings: want{
			"shops.add: table shops":   "does not allow the role shop_clerk to insert: grant insert on shops",
			"shops.add[]: table shops": "grant insert on shops",
			"shops.copy: table shops":  "grant insert on shops",
		}},
		"no right to delete": {ddl: `revoke delete on orders from shop_clerk; set local role shop_clerk`, findings: want{
			"orders.drop: table orders": "does not allow the role shop_clerk to delete: grant delete on orders",
		}},
	} {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, c.ddl)
		require.NoError(t, err, what)
		warnings, err := everything.Verify(ctx, tx, shopCommands...)
		same(t, what, c.findings, problemsOf(t, err))
		same(t, what+" (warnings)", c.warnings, warnings)
		_, err = tx.Exec(ctx, `select 1`)
		require.NoError(t, err, "%s: the transaction goes on", what)
		require.NoError(t, tx.Rollback(context.WithoutCancel(ctx)))
	}
	require.NoError(t, pgcmd.Verify(ctx, pool, shopCommands...), "all of it was rolled back")
}

func problemsOf(t testing.TB, err error) []pgcmd.Problem {
	t.Helper()
	if err == nil {
		return nil
	}
	e := failure(t, err)
	assert.Equal(t, "pgcmd.Verify", e.Command)
	assert.Equal(t, pgcmd.CodeInternal, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	require.NotEmpty(t, e.Problems, e.Error())
	return e.Problems
}

// same asserts that there is a problem for every one that is wanted, and no other.
func same(t testing.TB, what string, wanted want, got []pgcmd.Problem) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range got {
		part, ok := wanted[p.Field]
		if !assert.True(t, ok, "%s: not wanted: %s", what, p) {
			continue
		}
		seen[p.Field] = seen[p.Field] || strings.Contains(p.Message, part)
	}
	for field, part := range wanted {
		assert.True(t, seen[field], "%s: not found: %s ... %s\n%v", what, field, part, got)
	}
}
