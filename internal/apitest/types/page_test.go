package types_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The code of docs/types.md. A test compares the two.

type Status string

const (
	Open Status = "open"
	Paid Status = "paid"
)

type SetStatus struct {
	ID     int64
	Status Status `validate:"oneof=open paid"`
}

var setStatus = pgcmd.Exec[SetStatus]("invoices.set_status",
	`update invoices set status = @status where id = @id`)

// create type order_status as enum ('open', 'paid')
var byStatus = pgcmd.Query[[]Status, int64]("invoices.by_status",
	`select id from invoices where status = any($1) order by id`)

// create type address as (street text, zip text, floor int4)
type Address struct {
	Street string
	Zip    string
	Floor  *int32
}

type Customer struct {
	Name     string
	Home     *Address
	Previous []Address
}

var addCustomer = pgcmd.QueryOne[Customer, Customer]("customers.add",
	`insert into customers (name, home, previous) values (@name, @home, @previous)
	returning name, home, previous`)

// create domain cents as int8 check (value >= 0)
type Price struct {
	Net  int64
	Past []int64
}

var setPrice = pgcmd.QueryOne[Price, Price]("prices.set",
	`select @net::cents as net, @past::cents[] as past`)

type Stay struct {
	Room   int32
	During pgtype.Range[time.Time]
}

var book = pgcmd.Exec[Stay]("stays.book",
	`insert into stays (room, during) values (@room, @during)`)

type Post struct {
	Tags  []string
	Notes []*string
	Grid  [][]int32
}

var addPost = pgcmd.QueryOne[Post, Post]("posts.add",
	`select @tags::text[] as tags, @notes::text[] as notes, @grid::int4[] as grid`)

type Settings struct {
	Theme string   `json:"theme"`
	Tabs  []string `json:"tabs,omitempty"`
}

type Profile struct {
	Settings Settings
	Extra    json.RawMessage
}

var saveProfile = pgcmd.QueryOne[Profile, Profile]("profiles.save",
	`select @settings::jsonb as settings, @extra::jsonb as extra`)

type Amount struct {
	Exact pgtype.Numeric
	Cents int64
}

var total = pgcmd.QueryOne[struct{}, Amount]("totals.read",
	`select 12.50::numeric as exact, (12.50 * 100)::int8 as cents`)

type Event struct {
	At    time.Time
	Local time.Time
	Day   pgtype.Date
	Takes time.Duration
}

var addEvent = pgcmd.QueryOne[Event, Event]("events.add",
	`select @at::timestamptz as at, @local::timestamp as local, @day::date as day, @takes::interval as takes`)

func TestThePagesEnums(t *testing.T) {
	t.Parallel()
	const schema = `create type order_status as enum ('open', 'paid');
		create table invoices (id int8 primary key, status order_status not null);
		insert into invoices values (1, 'open'), (2, 'open')`
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"order_status"}}, schema)
	ctx := t.Context()
	pgcmdtest.VerifyOn(t, pool, setStatus, byStatus)

	_, err := setStatus.Run(ctx, pool, SetStatus{ID: 1, Status: Paid})
	require.NoError(t, err)
	ids, err := byStatus.Run(ctx, pool, []Status{Open, Paid})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2}, ids)
}

func TestThePagesComposites(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"address"}},
		`create type address as (street text, zip text, floor int4);
		create table customers (name text not null, home address, previous address[])`)
	pgcmdtest.VerifyOn(t, pool, addCustomer)
	in := Customer{"Ada", &Address{"Main Street 1", "12345", nil}, []Address{{"Side Street 2", "54321", of(int32(3))}}}
	got, err := addCustomer.Run(t.Context(), pool, in)
	require.NoError(t, err)
	require.Equal(t, in, got)
	got, err = addCustomer.Run(t.Context(), pool, Customer{Name: "Bob"})
	require.NoError(t, err)
	require.Equal(t, Customer{Name: "Bob"}, got)
	// A struct is a row: a composite that is the only column is a field of one, or an element.
	_, err = pgcmd.QueryOne[struct{}, Address]("home", `select home from customers where name = 'Ada'`).Run(t.Context(), pool, struct{}{})
	require.Error(t, err)
	// An attribute that is NULL needs a pointer.
	_, err = pgcmd.QueryOne[struct{}, value[Address]]("home", `select ('x', null, null)::address as v`).Run(t.Context(), pool, struct{}{})
	require.Error(t, err)
}

func TestThePagesDomains(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{}, `create domain cents as int8 check (value >= 0)`)
	in := Price{Net: 5, Past: []int64{1, 2}}
	got, err := setPrice.Run(t.Context(), pool, in)
	require.NoError(t, err)
	require.Equal(t, in, got)
	_, err = setPrice.Run(t.Context(), pool, Price{Net: -1})
	require.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
}

func TestThePagesRanges(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{}, `create table stays (room int4 not null, during tstzrange not null, exclude using gist (during with &&))`)
	from, until := time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 2, 3, 0, 0, 0, 0, time.UTC)
	stay := Stay{Room: 7, During: pgtype.Range[time.Time]{
		Lower: from, LowerType: pgtype.Inclusive,
		Upper: until, UpperType: pgtype.Exclusive,
		Valid: true,
	}}
	_, err := book.Run(t.Context(), pool, stay)
	require.NoError(t, err)
	_, err = book.Run(t.Context(), pool, stay)
	require.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))
	pgcmdtest.VerifyOn(t, pool, book)
}

func TestThePagesArrays(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{})
	for _, in := range []Post{
		{Tags: []string{"a", "b"}, Notes: []*string{of("x"), nil}, Grid: [][]int32{{1, 2}, {3, 4}}},
		{Tags: nil, Notes: []*string{}}, // NULL, and an array without elements
	} {
		got, err := addPost.Run(t.Context(), pool, in)
		require.NoError(t, err)
		require.Equal(t, in, got)
	}
	_, err := addPost.Run(t.Context(), pool, Post{Grid: [][]int32{{1, 2}, {3}}})
	require.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
	require.ErrorContains(t, err, "is not rectangular")
}

func TestThePagesJSON(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{})
	in := Profile{Settings{Theme: "dark", Tabs: []string{"a"}}, json.RawMessage(`{"any": "thing"}`)}
	got, err := saveProfile.Run(t.Context(), pool, in)
	require.NoError(t, err)
	require.Equal(t, in, got)
}

func TestThePagesNumerics(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{})
	got, err := total.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	require.EqualValues(t, 1250, got.Cents)
	text, err := got.Exact.Value()
	require.NoError(t, err)
	require.Equal(t, "12.50", text)
	warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, pgcmd.Query[struct{}, float64]("floats", `select 0.1::numeric`))
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0].String(), "cannot hold every digit of")
}

func TestThePagesTimes(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{})
	tokyo := time.FixedZone("Tokyo", 9*3600)
	noon := time.Date(2024, 2, 29, 12, 0, 0, 123456789, tokyo)
	got, err := addEvent.Run(t.Context(), pool, Event{At: noon, Local: noon, Day: pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true}, Takes: 90 * time.Minute})
	require.NoError(t, err)
	assert.True(t, noon.Truncate(time.Microsecond).Equal(got.At), "the same instant, in microseconds")
	assert.Equal(t, time.Local, got.At.Location())
	assert.Equal(t, time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC), got.Local, "the same clock, without its zone")
	assert.Equal(t, 90*time.Minute, got.Takes)
	assert.Equal(t, pgtype.Infinity, got.Day.InfinityModifier)
	month, err := pgcmd.QueryOne[struct{}, time.Duration]("month", `select interval '1 month'`).Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.Equal(t, 30*24*time.Hour, month)
	_, err = pgcmd.QueryOne[struct{}, time.Time]("infinity", `select timestamptz 'infinity'`).Run(t.Context(), pool, struct{}{})
	assert.Error(t, err)
}

// The code on the page is that of these tests.
func TestThePagesCodeIsTested(t *testing.T) {
	t.Parallel()
	var code []byte
	for _, file := range []string{"page_test.go", "load_test.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code = append(code, text...)
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	indent := regexp.MustCompile(`(?m)^[\t ]+`)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		for part := range strings.SplitSeq(block[1], "\n\n") {
			part = strings.TrimSpace(indent.ReplaceAllString(part, ""))
			assert.Contains(t, indent.ReplaceAllString(string(code), ""), part)
		}
	}
}
