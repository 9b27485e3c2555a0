package messages_test

//lint:file-ignore U1000 the messages name these fields

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type (
	UUID  [16]byte
	money struct{ text string }
	price struct{ json string }

	order struct {
		ID      int64             `json:"id"`
		Email   string            `json:"email" validate:"required,email"`
		Small   int8              `json:"small"`
		Price   float32           `json:"price"`
		Rate    float64           `json:"rate"`
		Paid    bool              `json:"paid"`
		At      time.Time         `json:"at"`
		Ref     UUID              `json:"ref"`
		From    netip.Addr        `json:"from"`
		Net     netip.Prefix      `json:"net"`
		Peer    netip.AddrPort    `json:"peer"`
		Total   money             `json:"total"`
		Custom  price             `json:"custom"`
		Big     big.Int           `json:"big"`
		Exact   json.Number       `json:"exact"`
		Digest  []byte            `json:"digest"`
		Items   []item            `json:"items"`
		Pair    [2]int            `json:"pair"`
		Labels  map[string]string `json:"labels"`
		ByRow   map[int8]string   `json:"by_row"`
		Quoted  int               `json:"quoted,string"`
		Any     any               `json:"any"`
		Shipped *time.Time        `json:"shipped"`
	}
	item struct {
		SKU string `json:"sku" validate:"startswith=P-"`
		Qty int    `json:"qty"`
	}
	digits struct {
		Phone string `validate:"mongodb"`
	}
	sized struct {
		N any `validate:"len=3"`
	}
	own     struct{ ID int }
	Contact struct{ Phone string }
)

func (*UUID) UnmarshalText(text []byte) error {
	if len(text) != 36 {
		return errors.New("no UUID")
	}
	return nil
}
func (*money) UnmarshalText([]byte) error { return errors.New("no money") }
func (*price) UnmarshalJSON([]byte) error { return errors.New("no price") }
func (own) Validate() error {
	return errors.Join(errors.New("the order is closed"), pgcmd.Errorf(pgcmd.CodeInvalid, "the shop is closed"))
}

func accept[In any](name string) *pgcmd.Command[In, none] {
	return pgcmd.New(name, func(context.Context, pgcmd.DB, In) (none, error) { return none{}, nil })
}

// inputs are refused before anything is sent.
func inputs(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t)
	catalog := pgcmd.NewCatalog(accept[order]("orders.add"), accept[none]("orders.close"),
		pgcmd.New("orders.rate", func(context.Context, pgcmd.DB, none) (float64, error) { return math.NaN(), nil }))
	run := func(fields string) error {
		return errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{"email":"ada@example.com"`+fields+`}`)))
	}
	p.heading("Inputs in JSON")
	p.fails(
		errOf(catalog.Run(ctx, pool, "orders.ad", nil)),
		errOf(catalog.Run(ctx, pool, "users.find", nil)),
		errOf(pgcmd.NewCatalog().Run(ctx, pool, "orders.add", nil)),
		refuses[pgtype.Bool](ctx), refuses[pgtype.Text](ctx), refuses[pgtype.Int2](ctx), refuses[pgtype.Int4](ctx), refuses[pgtype.Int8](ctx),
		refuses[pgtype.Uint32](ctx), refuses[pgtype.Float4](ctx), refuses[pgtype.Float8](ctx), refuses[pgtype.Numeric](ctx), refuses[pgtype.Date](ctx),
		refuses[pgtype.Timestamp](ctx), refuses[pgtype.Timestamptz](ctx), refuses[pgtype.UUID](ctx), refuses[pgtype.Point](ctx),
		errOf(catalog.Run(ctx, pool, "orders.close", json.RawMessage(`{"id":1}`))),
		errOf(catalog.Run(ctx, pool, "orders.rate", nil)),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`null`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`[]`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{"email"`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{"email":ada}`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage("{\"email\":\"\xff\"}"))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{"email":"\ud83d"}`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{} {}`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(strings.Repeat("[", 200)))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{}`))),
		errOf(catalog.Run(ctx, pool, "orders.add", json.RawMessage(`{"items":[`+strings.Repeat(`1,`, 200)+`1]}`))),
		run(`,"emial":1`),
		run(`,"colour":1`),
		run(`,"items":[{"skew":1}]`),
		run(`,"id":1,"id":1`),
		run(`,"labels":{"a":"b","a":"b"}`),
		run(`,"any":{"a":1,"a":2}`),
		run(`,"id":null`),
		run(`,"id":"1"`),
		run(`,"id":1e1000000000`),
		run(`,"big":1e1000000000`),
		run(`,"small":300`),
		run(`,"price":1e39`),
		run(`,"price":"1"`),
		run(`,"any":1e400`),
		run(`,"paid":1`),
		run(`,"at":"today"`),
		run(`,"ref":"1"`),
		run(`,"from":"localhost"`),
		run(`,"net":"localhost"`),
		run(`,"peer":"localhost"`),
		run(`,"total":"1"`),
		run(`,"custom":"1"`),
		run(`,"big":"1"`),
		run(`,"exact":"1"`),
		run(`,"digest":"?"`),
		run(`,"digest":1`),
		run(`,"items":{}`),
		run(`,"items":[1]`),
		run(`,"pair":[1]`),
		run(`,"labels":[]`),
		run(`,"labels":{"a":1}`),
		run(`,"by_row":{"300":"x"}`),
		run(`,"quoted":1`),
		run(`,"quoted":"one"`),
	)

	p.heading("Inputs: rules")
	p.fails(
		accept[order]("orders.add").Validate(order{Email: "ada"}),
		accept[order]("orders.add").Validate(order{Email: "ada", Items: []item{{SKU: "1"}}}),
		accept[[]item]("orders.items").Validate([]item{{SKU: "1"}}),
		accept[*order]("orders.add").Validate(nil),
		accept[*own]("orders.own").Validate(nil),
		accept[sized]("orders.length").Validate(sized{N: struct{}{}}),
		accept[own]("orders.own").Validate(own{}),
		accept[digits]("orders.phone").Validate(digits{"1"}),
	)

	p.heading("Inputs: arguments")
	tables := pgcmdtest.Pool(p.t, `create type mood as enum ('sad', 'happy');
		create type pair as (a date, b int); create table t (p pair, n int, small int2, doc jsonb, m mood, grid int[], b bytea, s text)`)
	simple, err := pgx.ParseConfig(tables.Config().ConnString())
	require.NoError(p.t, err)
	simple.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, simple)
	require.NoError(p.t, err)
	defer conn.Close(ctx)
	p.fails(
		errOf(sendTo[int64]("n").Run(ctx, tables, 1<<40)),
		errOf(pgcmd.Exec[struct{ Qty int64 }]("t.add", `insert into t (n) values (@qty)`).Run(ctx, tables, struct{ Qty int64 }{1 << 40})),
		errOf(sendTo[string]("n").Run(ctx, tables, "one")),
		errOf(sendMap("n", tables)), errOf(sendMap("m", tables)), errOf(sendMap("p", tables)),
		errOf(sendTo[feeling]("m").Run(ctx, tables, feeling{1})),
		errOf(sendTo[truth]("n").Run(ctx, tables, truth{})),
		errOf(sendTo[point]("m").Run(ctx, tables, point{})),
		errOf(pgcmd.Exec[struct{ V map[string]int }]("t.add", `insert into t (s) values (@v)`).Run(ctx, conn, struct{ V map[string]int }{map[string]int{}})),
		errOf(sendTo[pgtype.Bits]("s").Run(ctx, tables, pgtype.Bits{Len: 9, Valid: true})),
		errOf(sendTo[[][]int]("grid").Run(ctx, tables, [][]int{{1}, {2, 3}})),
		errOf(sendTo[string]("s").Run(ctx, tables, "a\x00")),
		errOf(sendTo[string]("s").Run(ctx, tables, "a\xff")),
		errOf(sendTo[refused]("s").Run(ctx, tables, refused{})),
		errOf(sendTo[pgx.QueryExecMode]("n").Run(ctx, tables, pgx.QueryExecModeExec)),
		errOf(pgcmd.Exec[struct{ *Contact }]("t.add", `insert into t (s) values (@phone)`).Run(ctx, tables, struct{ *Contact }{})),
	)

	p.heading("Inputs of AdHoc")
	adHoc := func(q pgcmd.AdHocQuery) error { return errOf(pgcmd.AdHoc.Run(ctx, tables, q)) }
	p.fails(
		adHoc(pgcmd.AdHocQuery{}),
		adHoc(pgcmd.AdHocQuery{SQL: `select 1; select 2`}),
		adHoc(pgcmd.AdHocQuery{SQL: `select $1`}),
		adHoc(pgcmd.AdHocQuery{SQL: `select @n`}),
		adHoc(pgcmd.AdHocQuery{SQL: `select @n::text`, Args: map[string]any{"n": cyclic()}}),
		adHoc(pgcmd.AdHocQuery{SQL: `select @n::text`, Args: map[string]any{"n": "\x00"}}),
		errOf(pgcmd.AdHoc.With(pgcmd.Options{ReadOnly: true}).Run(ctx, tables, pgcmd.AdHocQuery{SQL: `delete from t`})),
	)
}

func sendTo[In any](column string) *pgcmd.Command[In, int64] {
	return pgcmd.Exec[In]("t.add", `insert into t (`+column+`) values ($1)`)
}

type (
	feeling struct{ n int }
	weight  struct{}
	point   struct{}
	refused struct{}
)

func (f feeling) Value() (driver.Value, error) { return int64(f.n), nil }
func (weight) Value() (driver.Value, error)    { return "heavy", nil }
func (point) Value() (driver.Value, error)     { return []byte{1}, nil }
func (refused) Value() (driver.Value, error)   { return nil, errors.New("no value") }

type truth struct{}

func (truth) Value() (driver.Value, error) { return true, nil }

func sendMap(column string, db pgcmd.DB) (int64, error) {
	return pgcmd.Exec[struct{ V map[string]int }]("t.add", `insert into t (`+column+`) values (@v)`).Run(context.Background(), db, struct{ V map[string]int }{map[string]int{}})
}

func cyclic() any {
	list := []any{nil}
	list[0] = list
	return list
}

// refuses is the error of an object that is given for a T.
func refuses[T any](ctx context.Context) error {
	type in struct{ V T }
	return errOf(pgcmd.NewCatalog(accept[in]("t.take")).Run(ctx, nil, "t.take", json.RawMessage(`{"V":{}}`)))
}
