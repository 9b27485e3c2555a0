package messages_test

//lint:file-ignore U1000 the messages name these fields

import (
	"context"
	"database/sql"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd"
)

type (
	none     = struct{}
	findUser struct{ Email string }
	user     struct {
		ID    int
		Email string
	}
	hidden   struct{ email string }
	channels struct{ Events chan int }
	tree     []tree
	raw      struct{ Data sql.RawBytes }
	twice    struct {
		Email  string
		Mailed string `db:"email"`
		Email2 string `db:"email"`
	}
	unlimited struct {
		Name  string `validate:"required"`
		Email string `validate:"max"`
	}
	misruled struct {
		Email string `validate:"emial"`
	}
)

func noBody(context.Context, pgcmd.DB, none) (none, error)    { return none{}, nil }
func noTxBody(context.Context, *pgcmd.Tx, none) (none, error) { return none{}, nil }
func keyOf[In any](In) string                                 { return "key" }
func exec[In any](sql string) func()                          { return func() { pgcmd.Exec[In]("users.touch", sql) } }
func rowsOf[Row any]() func()                                 { return func() { pgcmd.Query[none, Row]("users.list", `select 1`) } }
func copyOf[Row any](table ...string) func() {
	return func() { pgcmd.Copy[Row]("users.import", table) }
}
func with[In, Out any](c *pgcmd.Command[In, Out], o pgcmd.Options) func() {
	return func() { c.With(o) }
}

var (
	touch  = pgcmd.Exec[findUser]("users.touch", `update users set seen = now() where email = @email`)
	list   = pgcmd.Query[none, user]("users.list", `select id, email from users`)
	getOne = pgcmd.QueryOne[findUser, user]("users.find", `select id, email from users where email = @email`)
	body   = pgcmd.New("users.merge", noBody)
	move   = pgcmd.Transaction("bank.transfer", noTxBody)
	load   = pgcmd.Copy[user]("users.import", pgx.Identifier{"users"})
)

// definitions panic when the program starts.
func definitions(p *page) {
	p.heading("Definitions: names")
	p.panics(
		func() { pgcmd.New("", noBody) },
		func() { pgcmd.New("\xff", noBody) },
		func() { pgcmd.New("users find", noBody) },
		func() { pgcmd.New[none, none]("users.merge", nil) },
	)
	p.heading("Definitions: SQL")
	p.panics(
		exec[none](``),
		exec[none](`select 1; select 2`),
		exec[none](`copy t from stdin`), exec[none](`copy t to stdout`),
		exec[none]("select \x00"),
		exec[none]("select '\xff'"),
		exec[none](`select 'ada`),
		exec[none](`select "ada`),
		exec[none](`select $$ada`),
		exec[none](`select 1 /* ada`),
		exec[findUser](`select tags <@email`),
		exec[none](`select $0`),
		exec[none](`select $70000`),
		exec[findUser]("select "+manyNames()),
		exec[findUser](`select @email, $1`),
	)
	p.heading("Definitions: inputs")
	p.panics(
		exec[map[string]any](`select 1`),
		exec[chan int](`select $1`),
		exec[*findUser](`select @email`),
		exec[int](`select @id`),
		exec[int](`select 1`),
		exec[int](`select $1, $2`),
		exec[none](`select $1`),
		exec[findUser](`select $1`),
		exec[struct{ ID int }](`select $1`),
		exec[hidden](`select @email`),
		exec[struct{ email string }](`select @email`),
		exec[findUser](`select @emial`),
		exec[struct{ Email string }](`select @emial`),
		exec[struct {
			Email string
			EMail string
		}](`select @email`),
		exec[hidden](`select @id`),
		exec[none](`select @email`),
		exec[channels](`select @events`),
		exec[struct{ Tree tree }](`select @tree`),
		exec[struct{ Events chan int }](`select @events`),
		exec[misruled](`select @email`),
		exec[unlimited](`select @email`),
	)
	p.heading("Definitions: rows")
	p.panics(
		rowsOf[*user](),
		rowsOf[chan int](),
		rowsOf[sql.RawBytes](),
		rowsOf[none](),
		rowsOf[struct{ email string }](),
		rowsOf[channels](),
		rowsOf[struct{ Events chan int }](),
		rowsOf[raw](),
		rowsOf[twice](),
	)
	p.heading("Definitions: copies")
	p.panics(
		copyOf[user](),
		copyOf[user]("users", ""),
		copyOf[*user]("users"),
		copyOf[int]("users"),
		copyOf[hidden]("users"),
		copyOf[channels]("users"),
		with(load, pgcmd.Options{ReadOnly: true}),
	)
	p.heading("Definitions: options")
	serializable := pgx.TxOptions{IsoLevel: pgx.Serializable}
	p.panics(
		with(touch, pgcmd.Options{Tx: serializable}),
		with(touch, pgcmd.Options{ReadOnly: true}),
		with(list, pgcmd.Options{ReadOnly: true, Writes: true}),
		with(touch, pgcmd.Options{MaxBytes: 1}),
		with(getOne, pgcmd.Options{MaxRows: 1}),
		with(body, pgcmd.Options{MaxRows: 1}),
		with(list, pgcmd.Options{MaxRows: -1}),
		with(list, pgcmd.Options{MaxBytes: -1}),
		with(list, pgcmd.Options{Progress: func(int, int) {}}),
		with(list, pgcmd.Options{Retry: pgcmd.Retry{Attempts: -1}}),
		with(list, pgcmd.Options{OnConstraint: map[string]error{"users_email_key": nil}}),
		with(list, pgcmd.Options{Middleware: []pgcmd.Middleware{nil}}),
		with(list, pgcmd.Options{Middleware: []pgcmd.Middleware{func(pgcmd.Handler) pgcmd.Handler { return nil }}}),
		with(move, pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: "snapshot"}}),
		with(move, pgcmd.Options{Tx: pgx.TxOptions{AccessMode: "append"}}),
		with(move, pgcmd.Options{Tx: pgx.TxOptions{DeferrableMode: "later"}}),
		with(move, pgcmd.Options{Tx: pgx.TxOptions{BeginQuery: "begin work"}}),
		func() { pgcmd.Before(list, nil) },
	)
	p.heading("Definitions: batches")
	p.panics(
		func() { pgcmd.Batch[none, none](nil, pgcmd.Atomic) },
		func() { pgcmd.Batch(touch, pgcmd.BatchMode(9)) },
		with(pgcmd.Batch(touch, pgcmd.Independent), pgcmd.Options{InTx: true}),
	)
	p.heading("Definitions: Once")
	p.panics(
		func() { pgcmd.Once[none, none](nil, keyOf[none]) },
		func() { pgcmd.Once(move, nil) },
		func() { pgcmd.Once(body, keyOf[none]) },
		func() { pgcmd.Once(load, keyOf[iter.Seq2[user, error]]) },
		func() {
			pgcmd.Once(pgcmd.Batch(pgcmd.Exec[none]("users.touch", `select 1`), pgcmd.Atomic), keyOf[[]none])
		},
		with(pgcmd.Once(move, keyOf[none]), pgcmd.Options{ReadOnly: true}),
		onceOf[channels, none](),
		onceOf[map[[2]struct{ c chan int }]int, none](),
		onceOf[hidden, none](),
		onceOf[struct {
			amount
			vat
		}, none](),
		onceOf[none, any](),
		onceOf[none, channels](),
		onceOf[none, map[float64]int](),
		onceOf[none, hidden](),
		onceOf[none, struct {
			ID int `json:"-"`
		}](),
		onceOf[none, struct {
			Password string `secret:"true"`
		}](),
		onceOf[none, struct{ *hidden }](),
		onceOf[none, list1](),
		onceOf[none, Tree](),
		onceOf[none, struct {
			hiddenID
			otherID
		}](),
		onceOf[none, writeOnly](),
		onceOf[none, uncomparable](),
	)
}

// manyNames are more parameters than PostgreSQL takes.
func manyNames() string {
	var b strings.Builder
	for i := range 65_536 {
		b.WriteString("@n")
		for ; i > 0; i /= 10 {
			b.WriteByte(byte('0' + i%10))
		}
		b.WriteString(", ")
	}
	return b.String() + "1"
}

func onceOf[In, Out any]() func() {
	return func() {
		pgcmd.Once(pgcmd.Transaction("bank.transfer", func(context.Context, *pgcmd.Tx, In) (out Out, err error) { return out, nil }), keyOf[In])
	}
}

type (
	amount struct{ cents int }
	vat    struct{ cents int }
	list1  struct {
		Value int
		*list1
	}
	Tree struct {
		Value int
		*Tree
	}
	writeOnly    struct{ At time.Time }
	uncomparable struct{ V texts }
	texts        struct{ v chan int }
	cycle        *cycle
	points       interface{ X() int }
)

func (amount) MarshalText() ([]byte, error)    { return nil, nil }
func (writeOnly) MarshalJSON() ([]byte, error) { return []byte(`1`), nil }
func (vat) MarshalText() ([]byte, error)       { return nil, nil }
func (*texts) UnmarshalJSON([]byte) error      { return nil }

// catalogs panic when they are made.
func catalogs(p *page) {
	p.heading("Definitions: catalogs")
	made := func(defs ...pgcmd.Definition) func() { return func() { pgcmd.NewCatalog(defs...) } }
	p.panics(
		made(nil),
		made(list, list),
		made(load),
		made(inOut[channels, none]()),
		made(inOut[struct{ Next cycle }, none]()),
		made(inOut[points, none]()),
		made(inOut[hidden, none]()),
		made(inOut[none, hidden]()),
		made(inOut[map[bool]int, none]()),
		made(inOut[struct{ *hiddenID }, none]()),
		made(inOut[none, pgtype.DriverBytes]()),
		made(inOut[none, moment]()),
		func() { pgcmd.NewCatalog(list).Limit("users.lst", 1, 0) },
		func() { pgcmd.NewCatalog().Limit("users.list", 1, 0) },
	)
}

type (
	hiddenID struct{ ID int }
	otherID  struct{ ID int }
	moment   time.Time
)

func inOut[In, Out any]() pgcmd.Definition {
	return pgcmd.New("users.merge", func(context.Context, pgcmd.DB, In) (out Out, err error) { return out, nil })
}
