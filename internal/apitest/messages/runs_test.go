package messages_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const usersDDL = `create table users (id int primary key, email text unique, name text, seen timestamptz);
	insert into users values (1, 'ada@example.com', null), (2, 'bob@example.com', 'Bob')`

func queryOne[Row any](p *page, db pgcmd.DB, sql string) error {
	return errOf(pgcmd.QueryOne[none, Row]("users.find", sql).Run(p.t.Context(), db, none{}))
}

type (
	person struct {
		ID   int
		Name string
	}
	mail struct {
		Address string `db:"email"`
		Email   string
	}
	nexts struct{}
)

func (*nexts) ScanRow(rows pgx.Rows) error { rows.Next(); return nil }

type (
	stranger   struct{ pgcmd.DB }
	hiddenConn struct{ pgx.Tx }
)

func (hiddenConn) Conn() *pgx.Conn { return nil }

// statements are errors of what a statement returns, and of how it is run.
func statements(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, usersDDL, `create type mood as enum ('sad'); create type pair as (a int, b int)`,
		`create function seen() returns timestamptz language sql as 'update users set seen = now() returning seen';
		create function counted() returns int language plpgsql immutable as $$ begin perform seen(); return 1; end $$`)

	p.heading("Rows")
	p.fails(
		queryOne[person](p, pool, `select id, name from users where id = 9`),
		queryOne[person](p, pool, `select id, coalesce(name, '') as name from users`),
		queryOne[int](p, pool, `select id, name from users`),
		queryOne[[]person](p, pool, `select id, name from users`),
		queryOne[int](p, pool, `update users set seen = now()`),
		queryOne[map[string]any](p, pool, `select 1 as n, 2 as n`),
		queryOne[person](p, pool, `select id from users`),
		queryOne[struct{ ID, Name any }](p, pool, `select id from users`),
		queryOne[person](p, pool, `select id, name, email from users`),
		queryOne[struct{ ID any }](p, pool, `select id, email from users`),
		queryOne[mail](p, pool, `select email from users limit 1`),
		queryOne[person](p, pool, `select id, name from users where id = 1`),
		queryOne[string](p, pool, `select name from users where id = 1`),
		queryOne[person](p, pool, `select 1e300::float8 as id, 'x' as name`),
		queryOne[int16](p, pool, `select 100000`),
		queryOne[struct{ ID int }](p, pool, `select point(1, 2) as id`),
		queryOne[struct{ ID int }](p, pool, `select array[point(1, 2)] as id`),
		queryOne[struct{ ID int }](p, pool, `select array['(1,2)'::pair] as id`),
		queryOne[struct{ ID person }](p, pool, `select '(1,2)'::pair as id`),
		queryOne[struct{ ID int }](p, pool, `select '[1,2)'::int4range as id`),
		queryOne[struct{ ID int }](p, pool, `select '{[1,2)}'::int4multirange as id`),
		queryOne[struct{ ID int }](p, pool, `select row(1, 2) as id`),
		queryOne[struct{ ID int }](p, pool, `select 'sad'::mood as id`),
		queryOne[struct{ ID int }](p, pool, `select '{}'::jsonb as id`),
		queryOne[struct{ ID int }](p, pool, `select ''::bytea as id`),
		queryOne[struct{ ID int }](p, pool, `select 'x'::text as id`),
		queryOne[struct{ ID pgtype.Circle }](p, pool, `select true as id`),
		queryOne[nexts](p, pool, `select 1`),
		errOf(list.With(pgcmd.Options{MaxRows: 1}).Run(ctx, pool, none{})),
		errOf(list.With(pgcmd.Options{MaxBytes: 1}).Run(ctx, pool, none{})),
		errOf(pgcmd.New("users.raw", func(ctx context.Context, db pgcmd.DB, _ none) (none, error) {
			rows, err := db.Query(ctx, `select id from users`)
			if err != nil {
				return none{}, err
			}
			_, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			return none{}, err
		}).Run(ctx, pool, none{})),
	)

	p.heading("Runs")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	slow := pgcmd.Exec[float64]("users.slow", `select pg_sleep($1)`)
	inTime, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	limited := connect(p, pool, "statement_timeout", "50")
	conn := connect(p, pool)
	require.NoError(p.t, conn.Close(ctx))
	busy := connect(p, pool)
	rows, err := busy.Query(ctx, `select 1`)
	require.NoError(p.t, err)
	var noContext context.Context
	p.fails(
		errOf(touch.Run(noContext, pool, findUser{})),
		errOf(touch.Run(ctx, nil, findUser{})),
		errOf(getOne.Run(canceled, pool, findUser{})),
		errOf(slow.Run(ctx, limited, 5)),
		errOf(slow.Run(inTime, pool, 5)),
		errOf(slow.With(pgcmd.Options{Timeout: 400 * time.Millisecond, InTx: true}).Run(ctx, pool, 5)),
		errOf(slow.Run(ctx, cancelsItself(p, pool), 5)),
		errOf(list.Run(ctx, conn, none{})),
		errOf(list.Run(ctx, busy, none{})),
		errOf(load.Run(ctx, stranger{pool}, pgcmd.Rows([]user{{ID: 9}}))),
		errOf(pgcmd.Explain(ctx, pool, (*pgcmd.Command[none, none])(nil), none{})),
		errOf(pgcmd.Explain(ctx, pool, body, none{})),
		errOf(pgcmd.Explain(ctx, pool, pgcmd.Exec[none]("users.clear", `truncate users`), none{})),
		errOf(pgcmd.Explain(ctx, pool, pgcmd.Exec[none]("users.count", `select counted()`), none{})),
	)
	rows.Close()
	p.fails(errOf(pgcmd.New("users.raw", func(ctx context.Context, db pgcmd.DB, _ none) (none, error) {
		_, err := db.Exec(ctx, `select $1::int4`, int64(1)<<40)
		return none{}, err
	}).Run(ctx, pool, none{})))
	for _, f := range []error{fmt.Errorf("a value"), (*pgcmd.Error)(nil), errClosed, pgx.ErrNoRows, pgx.ErrTooManyRows, pgx.ErrTxClosed, context.DeadlineExceeded} {
		p.fails(errOf(pgcmd.New("users.merge", func(context.Context, pgcmd.DB, none) (none, error) { return none{}, f }).Run(ctx, pool, none{})))
	}

	p.heading("Hooks and middleware")
	fails := errors.New("a value")
	under := func(m pgcmd.Middleware) error {
		return errOf(list.With(pgcmd.Options{Middleware: []pgcmd.Middleware{m}}).Run(ctx, pool, none{}))
	}
	p.fails(
		errOf(pgcmd.Before(list, func(context.Context, *none) error { return fails }).Run(ctx, pool, none{})),
		errOf(pgcmd.After(list, func(context.Context, none, *[]user) error { return fails }).Run(ctx, pool, none{})),
		under(func(pgcmd.Handler) pgcmd.Handler { return func(context.Context, *pgcmd.Call) error { return fails } }),
		under(func(pgcmd.Handler) pgcmd.Handler { return func(context.Context, *pgcmd.Call) error { return nil } }),
		under(func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, _ *pgcmd.Call) error { return next(ctx, &pgcmd.Call{}) }
		}),
		under(func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error {
				return errors.Join(next(ctx, call), next(ctx, call))
			}
		}),
		errOf(pgcmd.New("users.panic", func(context.Context, pgcmd.DB, none) (none, error) { panic("a value") }).
			With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
				return func(ctx context.Context, call *pgcmd.Call) (err error) {
					defer func() { _ = recover() }()
					return next(ctx, call)
				}
			}}}).Run(ctx, pool, none{})),
	)
	outcome := pgcmd.Try(ctx, pool, getOne, findUser{})
	outcome.Elapsed = time.Millisecond
	p.line(fmt.Sprint(outcome))
	ok := pgcmd.Try(ctx, pool, getOne, findUser{"ada@example.com"})
	ok.Elapsed, ok.DurabilityWarning = time.Millisecond, true
	p.line(fmt.Sprint(ok))
}

var errClosed = errors.New("the shop is closed")

// connect makes a connection of its own, with a setting.
func connect(p *page, pool *pgxpool.Pool, setting ...string) *pgx.Conn {
	config := pool.Config().ConnConfig.Copy()
	if len(setting) > 0 {
		config.RuntimeParams[setting[0]] = setting[1]
	}
	conn, err := pgx.ConnectConfig(p.t.Context(), config)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// cancelsItself is a connection whose statement is cancelled on the server as soon as it runs.
func cancelsItself(p *page, pool *pgxpool.Pool) *pgx.Conn {
	conn := connect(p, pool)
	pid := conn.PgConn().PID()
	go func() {
		ctx := context.Background()
		for done := false; !done; {
			if err := pool.QueryRow(ctx, `select coalesce(bool_or(pg_cancel_backend(pid)), false) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'`, pid).Scan(&done); err != nil {
				return
			}
		}
	}()
	return conn
}

// transactions are errors of transactions and of their bodies.
func transactions(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, usersDDL)
	in := func(o pgcmd.Options, body func(ctx context.Context, tx *pgcmd.Tx) error) error {
		return errOf(pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) { return none{}, body(ctx, tx) }).
			With(o).Run(ctx, pool, none{}))
	}
	plain := pgcmd.Options{}
	readOnly := pgcmd.Options{ReadOnly: true}
	p.heading("Transactions")
	external, err := pool.Begin(ctx)
	require.NoError(p.t, err)
	defer external.Rollback(ctx)
	ended, err := pool.Begin(ctx)
	require.NoError(p.t, err)
	require.NoError(p.t, ended.Rollback(ctx))
	p.fails(
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error { return errOf(getOne.Run(ctx, pool, findUser{})) }),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			return errOf(move.With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}}).Run(ctx, tx, none{}))
		}),
		in(readOnly, func(ctx context.Context, tx *pgcmd.Tx) error { return errOf(move.Run(ctx, tx, none{})) }),
		in(readOnly, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := tx.Exec(ctx, `insert into users values (1)`)
			return err
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error { return tx.Commit(ctx) }),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error { return tx.Rollback(ctx) }),
		errOf(pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) {
			tx.AfterCommit(func(context.Context) {})
			return none{}, nil
		}).Run(ctx, external, none{})),
		errOf(getOne.Run(ctx, ended, findUser{})),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := tx.Query(ctx, `select id from users`)
			return err
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			tx.SendBatch(ctx, &pgx.Batch{QueuedQueries: []*pgx.QueuedQuery{{SQL: `select 1`}, {SQL: `select 1`}}})
			return nil
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			rows, err := tx.Query(ctx, `select id from users`)
			require.NoError(p.t, err)
			defer rows.Close()
			return errOf(getOne.Run(ctx, tx, findUser{}))
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, _ = tx.Exec(ctx, `insert into users values (1)`)
			return nil
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, _ = tx.Conn().Exec(ctx, `insert into users values (1)`)
			return nil
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := tx.Exec(ctx, `commit`)
			return err
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			raise := pgcmd.Exec[none]("raise", `do $$ begin raise exception using errcode = '40001'; end $$`)
			_ = pgcmd.Try(ctx, tx, raise, none{})
			return nil
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error { _ = tx.Conn().Close(ctx); return nil }),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, _ = tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
			return nil
		}),
		in(plain, func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := tx.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
			_, err2 := tx.Exec(ctx, `select 1`)
			return errors.Join(err2, err)
		}),
	)
	gone, cancel := context.WithCancel(ctx)
	p.fails(errOf(pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) {
		cancel()
		return none{}, nil
	}).Run(gone, pool, none{})))
}

// onces are errors of Once.
func onces(p *page) {
	ctx := p.t.Context()
	empty := pgcmdtest.Pool(p.t, usersDDL)
	pool := pgcmdtest.Pool(p.t, usersDDL, pgcmd.OnceSchema)
	once := func(db pgcmd.DB, key string) error {
		return errOf(pgcmd.Once(touch, func(findUser) string { return key }).Run(ctx, db, findUser{}))
	}
	p.heading("Once")
	named := func(name string) *pgcmd.Command[findUser, int64] {
		return pgcmd.Once(pgcmd.Exec[findUser](name, `update users set name = 'x' where email = @email`), func(findUser) string { return "k" })
	}
	require.NoError(p.t, errOf(named("users.touch").Run(ctx, pool, findUser{"ada@example.com"})))
	_, err := pool.Exec(ctx, `update pgcmd.once set result = '"text"'`)
	require.NoError(p.t, err)
	failing := pgcmd.Once(pgcmd.Exec[none]("users.fail", `insert into users values (9)`).With(pgcmd.Options{InTx: true}), keyOf[none])
	tx, err := pool.Begin(ctx)
	require.NoError(p.t, err)
	require.NoError(p.t, errOf(failing.Run(ctx, tx, none{})))
	_, err = tx.Exec(ctx, `update pgcmd.once set result = null where scope = 'users.fail'`)
	require.NoError(p.t, err)
	require.NoError(p.t, tx.Commit(ctx))
	result := func(name string, out any, also ...string) error {
		return errOf(pgcmd.Once(pgcmd.Transaction(name, func(ctx context.Context, tx *pgcmd.Tx, _ none) (map[string]float64, error) {
			for _, sql := range also {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return nil, err
				}
			}
			return out.(map[string]float64), nil
		}), keyOf[none]).Run(ctx, pool, none{}))
	}
	type node struct{ Next *node }
	ring := &node{}
	ring.Next = ring
	p.fails(
		once(empty, "k"),
		once(pool, ""),
		once(pool, strings.Repeat("k", 5000)),
		once(pool, "\x00"),
		errOf(named("users.touch").Run(ctx, pool, findUser{"bob@example.com"})),
		errOf(named("users.touch").Run(ctx, pool, findUser{"ada@example.com"})),
		errOf(failing.Run(ctx, pool, none{})),
		result("users.nan", map[string]float64{"n": nan}),
		result("users.nul", map[string]float64{"\x00": 1}),
		result("users.lost", map[string]float64{"\xff": 1}),
		result("users.gone", map[string]float64{}, `delete from pgcmd.once`),
		errOf(pgcmd.Once(pgcmd.Exec[none]("users.role", `select 1`), keyOf[none]).Run(ctx, nobody(p, pool), none{})),
		compared(p, pool, ring),
		compared[any](p, pool, func() {}),
		compared(p, pool, struct{ V valuing }{valuing{1}}),
		compared(p, pool, struct{ V valued }{valued{1}}),
		compared(p, pool, struct{ V texting }{texting{1}}),
		compared(p, pool, jsonings{jsoning{1}}),
		compared(p, pool, jsonings{jsoned{1}}),
	)
}

// batches are errors of batches and pipelines.
func batches(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, usersDDL)
	p.heading("Batches and pipelines")
	add := pgcmd.Exec[int]("users.add", `insert into users values ($1)`)
	checked := pgcmd.Exec[item]("users.item", `select @sku`)
	tx, err := pool.Begin(ctx)
	require.NoError(p.t, err)
	defer tx.Rollback(ctx)
	pipeline := func(queue func(p *pgcmd.Pipeline)) error {
		var line pgcmd.Pipeline
		queue(&line)
		return line.Run(ctx, pool, pgcmd.Atomic)
	}
	var ran pgcmd.Pipeline
	require.NoError(p.t, ran.Run(ctx, pool, pgcmd.Atomic))
	var never pgcmd.Pipeline
	var missing *pgcmd.Pipeline
	onStranger := func() error {
		var line pgcmd.Pipeline
		pgcmd.Queue(&line, add, 12)
		return line.Run(ctx, stranger{tx}, pgcmd.Atomic)
	}
	later := func() error {
		var line pgcmd.Pipeline
		require.NoError(p.t, line.Run(ctx, pool, pgcmd.Atomic))
		return errOf(pgcmd.Queue(&line, add, 9).Get())
	}
	skipped, _ := pgcmd.Batch(add, pgcmd.Sequential).Run(ctx, pool, []int{10, 1, 11})
	p.fails(
		errOf(pgcmd.Batch(add, pgcmd.Atomic).Run(ctx, pool, []int{20, 1, 21})),
		errOf(pgcmd.Batch(add, pgcmd.Sequential).Run(ctx, pool, []int{22, 1, 23})),
		skipped.Outcomes[2].Err,
		errOf(pgcmd.Batch(checked, pgcmd.Atomic).Run(ctx, pool, []item{{SKU: "P-1"}, {SKU: "1"}})),
		pgcmd.Batch(checked, pgcmd.Atomic).Validate([]item{{SKU: "2"}, {SKU: "1"}}),
		errOf(pgcmd.Batch(add, pgcmd.Independent).Run(ctx, tx, []int{1})),
		missing.Run(ctx, pool, pgcmd.Atomic),
		ran.Run(ctx, pool, pgcmd.Atomic),
		new(pgcmd.Pipeline).Run(ctx, pool, pgcmd.Isolated),
		pipeline(func(l *pgcmd.Pipeline) { pgcmd.Queue(l, (*pgcmd.Command[none, none])(nil), none{}) }),
		pipeline(func(l *pgcmd.Pipeline) { pgcmd.Queue(l, body, none{}) }),
		errOf(pgcmd.Queue(&never, add, 1).Get()),
		never.Run(ctx, tx, pgcmd.Independent),
		later(),
		onStranger(),
		func() error {
			var l pgcmd.Pipeline
			pgcmd.Queue(&l, add, 12)
			return l.Run(ctx, hiddenConn{tx}, pgcmd.Atomic)
		}(),
	)
	outcomes, err := pgcmd.Batch(pgcmd.Exec[none]("users.begin", `begin`), pgcmd.Independent).Run(ctx, pool, []none{{}, {}})
	p.fails(outcomes.Outcomes[0].Err)
	_ = err
	late := func() error {
		var line pgcmd.Pipeline
		pgcmd.Queue(&line, add, 30)
		_ = line.Run(ctx, pool, pgcmd.Atomic)
		_, err := pgcmd.Queue(&line, add, 31).Get()
		return err
	}
	p.fails(late())
}

// copies are errors of Copy.
func copies(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, `create table teams (id int primary key);
		create table users (id int primary key, email varchar(9), name text, team int references teams deferrable initially immediate, twice int generated always as (id * 2) stored, phone text)`)
	p.heading("Copies")
	table := pgx.Identifier{"users"}
	p.fails(
		errOf(load.Run(ctx, pool, nil)),
		errOf(load.Run(ctx, pool, func(yield func(user, error) bool) { yield(user{}, fmt.Errorf("a value")) })),
		errOf(load.Run(ctx, pool, func(yield func(user, error) bool) {
			yield(user{}, pgcmd.Errorf(pgcmd.CodeInvalid, "the line has no email"))
		})),
		errOf(load.Run(ctx, pool, pgcmd.Rows([]user{{ID: 1}, {ID: 1}}))),
		errOf(load.Run(ctx, pool, pgcmd.Rows([]user{{ID: 1}, {ID: 2, Email: "long@example.com"}}))),
		errOf(load.Run(ctx, pool, pgcmd.Rows([]user{{ID: 1 << 40}}))),
		errOf(load.Run(ctx, pool, pgcmd.Rows([]user{{Email: "\x00"}}))),
		errOf(pgcmd.Copy[item]("items.import", table).Run(ctx, pool, pgcmd.Rows([]item{{SKU: "1"}}))),
		errOf(pgcmd.Copy[user]("users.import", pgx.Identifier{"usrs"}).Run(ctx, pool, pgcmd.Rows([]user{{}}))),
		errOf(pgcmd.Copy[user]("users.import", pgx.Identifier{"public.users"}).Run(ctx, pool, pgcmd.Rows([]user{{}}))),
		errOf(pgcmd.Copy[item]("items.import", table).Run(ctx, pool, pgcmd.Rows([]item{}))),
		errOf(pgcmd.Copy[struct{ SKU string }]("items.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ SKU string }{}))),
		errOf(pgcmd.Copy[mail]("users.import", table).Run(ctx, pool, pgcmd.Rows([]mail{}))),
		errOf(pgcmd.Copy[struct{ ID, Twice int }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID, Twice int }{{1, 2}}))),
		errOf(pgcmd.Copy[struct{ ID, Team int }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID, Team int }{{1, 2}}))),
		errOf(pgcmd.Copy[struct{ ID time.Time }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID time.Time }{{}}))),
		errOf(pgcmd.Copy[struct{ ID map[string]int }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID map[string]int }{}))),
		errOf(pgcmd.Copy[struct{ ID weight }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID weight }{{}}))),
		errOf(pgcmd.Copy[struct{ ID any }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID any }{{"x"}}))),
		errOf(pgcmd.Copy[struct{ ID sql.NullInt64 }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ ID sql.NullInt64 }{{}}))),
		errOf(pgcmd.Copy[struct{ *Contact }]("users.import", table).Run(ctx, pool, pgcmd.Rows([]struct{ *Contact }{{}}))),
	)
}

// streams are errors of Stream.
func streams(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, usersDDL, pgcmd.OnceSchema)
	p.heading("Streams")
	last := func(rows iter.Seq2[user, error]) (err error) {
		for _, err = range rows {
		}
		return err
	}
	used := pgcmd.Stream(ctx, pool, list, none{})
	require.NoError(p.t, last(used))
	p.fails(
		last(used),
		last(pgcmd.Stream(ctx, pool, (*pgcmd.Command[none, []user])(nil), none{})),
		last(pgcmd.Stream(ctx, pool, pgcmd.New("users.all", func(context.Context, pgcmd.DB, none) ([]user, error) { return nil, nil }), none{})),
		last(pgcmd.Stream(ctx, pool, pgcmd.Once(list, keyOf[none]), none{})),
		last(pgcmd.Stream(ctx, pool, pgcmd.After(list, func(context.Context, none, *[]user) error { return nil }), none{})),
	)
}

// compared is the error of a Once with an input.
func compared[In any](p *page, pool *pgxpool.Pool, in In) error {
	return errOf(pgcmd.Once(pgcmd.Transaction("users.any", func(context.Context, *pgcmd.Tx, In) (none, error) { return none{}, nil }), keyOf[In]).Run(p.t.Context(), pool, in))
}
