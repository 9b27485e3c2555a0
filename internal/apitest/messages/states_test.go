package messages_test

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type invoice struct {
	ID     int
	Tenant string
}

// states are the errors of PostgreSQL: those that name an object or a place in the SQL, and then every SQLSTATE that an
// exception may have.
func states(p *page) {
	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, `
		create domain address as text not null check (value like '%@%');
		create table users (id int primary key, email text unique check (email like '%@%'), name varchar(3) not null, at address, during int4range,
			exclude using gist (during with &&));
		create table orders (user_id int references users, id int generated always as identity);
		insert into users values (1, 'ada@example.com', 'Ada', 'a@b', '[1,3)'); insert into orders values (1);
		create function raise(state text) returns int language plpgsql as $$ begin raise exception using errcode = state, message = 'a value'; end $$`)
	run := func(sql string) error { return errOf(pgcmd.Exec[none]("users.run", sql).Run(ctx, pool, none{})) }
	order := pgcmd.QueryOne[none, int]("orders.first", `select user_id from orders limit 1`)

	p.heading("Errors of PostgreSQL: constraints")
	p.fails(
		run(`insert into users values (1, 'bob@example.com', 'Bob', 'a@b', null)`),
		run(`insert into users values (2, 'bob', 'Bob', 'a@b', null)`),
		run(`insert into users values (2, 'bob@example.com', null, 'a@b', null)`),
		run(`insert into users values (2, 'bob@example.com', 'Bob', 'b', null)`),
		run(`insert into users values (2, 'bob@example.com', 'Bob', null, null)`),
		run(`insert into users values (2, 'bob@example.com', 'Bob', 'a@b', '[2,4)')`),
		run(`insert into orders values (7)`),
		run(`delete from users`),
	)
	p.heading("Errors of PostgreSQL: the SQL")
	p.fails(
		run(`selekt 1`),
		run(`select 1 from usrs`),
		run(`select 1 from app.users`),
		run(`insert into app.users values (1)`),
		run(`select emial from users`),
		run(`select id from users join orders on true join users u on true`),
		run(`select nothing(1)`),
		run(`update orders set id = id`),
		run(`select 1 + array[1]`),
		run(`select null::nothing`),
		run(`select case when true then 1 else now() end`),
		run(`select 'one'::int`),
		run(`insert into users (id) values (1) on conflict (name) do nothing`),
		run(`insert into users values (2, 'bob@example.com', 'Robert', 'a@b', null)`),
		run(`select 1/0`),
		run(`select 1 limit -1`),
		run(`select now()::text::date + 'x'::text`),
		errOf(pgcmd.Exec[string]("users.run", `select $1 is null`).Run(ctx, pool, "x")),
		errOf(pgcmd.Exec[string]("users.run", `update users set id = $1, email = $1`).Run(ctx, pool, "1")),
		run(`select raise('P0001')`),
		run(`select raise('APP01')`),
		run(`select raise('42999')`),
		errOf(pgcmd.Transaction("orders.change", func(ctx context.Context, tx *pgcmd.Tx, _ none) (int, error) {
			_, err := order.Run(ctx, tx, none{})
			require.NoError(p.t, err)
			_, err = tx.Exec(ctx, `alter table orders alter user_id type int8`)
			require.NoError(p.t, err)
			return order.Run(ctx, tx, none{})
		}).Run(ctx, pool, none{})),
	)
	p.heading("Errors of PostgreSQL: row-level security")
	tenants := pgcmdtest.Pool(p.t, `create table invoices (id int, tenant text); alter table invoices enable row level security;
		create policy tenant on invoices using (tenant = 'red'); grant all on invoices to public`)
	role := nobody(p, tenants)
	invoices := pgcmd.Copy[invoice]("invoices.import", pgx.Identifier{"invoices"})
	p.fails(
		errOf(pgcmd.Exec[none]("invoices.add", `insert into invoices values (1, 'blue')`).Run(ctx, role, none{})),
		errOf(invoices.Run(ctx, role, pgcmd.Rows([]invoice{{ID: 1, Tenant: "red"}}))),
	)
	for _, db := range []pgcmd.DB{role, tenants} { // a superuser may copy
		e, _ := pgcmd.Verify(ctx, db, invoices).(*pgcmd.Error)
		require.Equal(p.t, db == role, e != nil)
		if e != nil {
			p.line(e.Problems[0].String())
		}
	}
	p.heading("Errors of PostgreSQL: every SQLSTATE, without a place or an object")
	list, err := os.Open(filepath.Join("..", "..", "sqlstate", "sqlstate.txt"))
	require.NoError(p.t, err)
	defer list.Close()
	raise := pgcmd.Exec[string]("users.run", `select raise($1)`)
	for lines := bufio.NewScanner(list); lines.Scan(); {
		state := strings.Fields(lines.Text())
		if len(state) == 3 && !strings.HasPrefix(state[0], "00") {
			p.fails(errOf(raise.Run(ctx, pool, state[0])))
		}
	}
}
