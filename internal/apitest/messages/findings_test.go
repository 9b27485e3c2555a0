package messages_test

import (
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// findings are those of Verify and VerifyWarnings.
func findings(p *page) {
	ctx := p.t.Context()
	ddl := `create type mood as enum ('sad', 'happy');
		create table users (id bigint primary key, email text not null unique check (email like '%@%'), age int, score float8, cents numeric, m mood, doc jsonb, ok bool, day date, small int2, amount numeric(20), at timestamptz);
		create table orders (number int generated always as identity, user_id bigint, note text not null, twice bigint generated always as (user_id * 2) stored);
		create view shown as select id, count(*) from users group by id;
		create schema app; create table app.secrets (id int);
		create function grow() returns int language sql as 'update users set age = age + 1 returning age';
		create table pgcmd_once ()`
	pool := pgcmdtest.Pool(p.t, ddl)
	report := func(problems []pgcmd.Problem) {
		for _, found := range problems {
			p.line(found.String())
		}
	}
	verify := func(db pgcmd.DB, defs ...pgcmd.Definition) {
		p.t.Helper()
		err := pgcmd.Verify(ctx, db, defs...)
		e, ok := err.(*pgcmd.Error)
		require.True(p.t, ok, "%v", err)
		report(e.Problems)
	}
	warn := func(defs ...pgcmd.Definition) {
		p.t.Helper()
		problems, err := pgcmd.VerifyWarnings(ctx, pool, defs...)
		_ = err
		report(problems)
	}
	sql := func(sql string) pgcmd.Definition { return pgcmd.Exec[none]("users.run", sql) }

	p.heading("Verify: definitions and connections")
	p.fails(pgcmd.Verify(ctx, pool, nil, list, list))
	p.fails(pgcmd.Verify(ctx, stranger{pool}, list))
	aborted, err := pool.Begin(ctx)
	require.NoError(p.t, err)
	_, err = aborted.Exec(ctx, `select 1/0`)
	require.Error(p.t, err)
	p.fails(pgcmd.Verify(ctx, aborted, list))
	require.NoError(p.t, aborted.Rollback(ctx))

	p.heading("Verify: SQL")
	for _, text := range []string{`select emial from users`, `select 1 from usrs`, `insert into shop.users values (1)`, `select nothing(1)`, `select null::nothing`,
		`select case when true then 1 else now() end`, `select 'one'::int`, `selekt 1`, `select 1 from users group by email having id`} {
		verify(pool, sql(text))
	}
	verify(pool, pgcmd.Exec[string]("users.run", `select $1 is null`))
	verify(pool, pgcmd.Exec[string]("users.run", `update users set id = $1, email = $1`))
	verify(pool, pgcmd.Exec[struct{ Email string }]("users.run", `update users set id = @email, email = @email`))
	verify(pool, sql(`update orders set number = number`))

	p.heading("Verify: inputs")
	verify(pool,
		takes[int64](`update users set age = $1`), takes[time.Duration](`update users set small = $1`),
		takes[float64](`update users set age = $1`), takes[string](`update users set age = $1`),
		takes[time.Time](`update users set email = $1`), takes[bool](`update users set age = $1`), takes[feeling](`update users set m = $1`), takes[int](`update users set m = $1`),
		pgcmd.Exec[struct {
			M string `validate:"oneof=sad angry"`
		}]("users.mood", `update users set m = @m`))
	warn(takes[string](`update users set doc = $1`), takes[time.Time](`update users set day = $1`), takes[int](`update users set email = $1::xid::text`), takes[int](`select $1::pg_lsn`))

	composite := pgcmdtest.Connect(p.t, pgcmd.Config{Types: []string{"pair"}}, `create type pair as (a date, b int); create table h (p pair)`)
	verify(composite, takesPair[struct{ A time.Time }](), takesPair[struct {
		B int
		A time.Time
	}](), takesPair[struct{ A, B bool }]())

	p.heading("Verify: rows")
	verify(pool,
		gives[map[string]any](`select id, id from users`),
		gives[int](`select id, email from users`),
		pgcmd.QueryOne[none, int]("users.none", `update users set age = 1`),
		gives[user](`select id from users`),
		gives[struct{ ID int64 }](`select id, email from users`),
		gives[mail](`select email from users`),
		gives[int16](`select id from users where id is not null`),
		gives[*int](`select score from users`),
		gives[*int](`select amount from users`),
		gives[*float32](`select score from users`),
		gives[*int](`select m from users`),
		gives[*time.Time](`select age from users`),
		gives[struct{ Age int }](`select age from users`),
		gives[int](`update orders set note = 'x' returning twice`),
	)
	_, err = composite.Exec(ctx, `create table pairs (p pair not null)`)
	require.NoError(p.t, err)
	problems, err := pgcmd.VerifyWarnings(ctx, composite, gives[string](`select p from pairs`))
	require.NoError(p.t, err)
	report(problems)
	warn(gives[*float64](`select cents from users`), gives[*string](`select doc from users`),
		gives[struct{ Note string }](`select o.note from users u left join orders o on o.user_id = u.id`))

	p.heading("Verify: rights, constraints and claims")
	nobody := nobody(p, pool)
	_, err = pool.Exec(ctx, `grant select (id) on users to `+p.roles[len(p.roles)-1])
	require.NoError(p.t, err)
	verify(nobody, pgcmd.Exec[none]("app.read", `select id from app.secrets`), sql(`delete from users`), pgcmd.Query[none, user]("users.mail", `select id, email from users`),
		pgcmd.Copy[user]("users.import", pgx.Identifier{"users"}), pgcmd.Copy[person]("app.import", pgx.Identifier{"app", "secrets"}))
	verify(pool, touch.With(pgcmd.Options{OnConstraint: map[string]error{"users_mail_key": errClosed}}))
	verify(pool, pgcmd.Query[none, int]("users.grow", `select grow()`).With(pgcmd.Options{ReadOnly: true}),
		pgcmd.Query[none, int64]("users.lock", `select id from users for update`).With(pgcmd.Options{ReadOnly: true}))
	warn(pgcmd.Exec[findUser]("users.add", `insert into users (id, email) values (1, @email)`), pgcmd.Exec[none]("users.mood", `update users set email = m::text`))

	problems, err = pgcmd.VerifyOptions{Unmapped: true}.Verify(ctx, pool, pgcmd.Exec[findUser]("users.add", `insert into users (id, email) values (1, @email)`))
	require.NoError(p.t, err)
	report(problems)
	nulls(p, verify)
	effects(p, report)

	p.heading("Verify: copies")
	verify(pool,
		pgcmd.Copy[user]("users.import", pgx.Identifier{"usrs"}),
		pgcmd.Copy[user]("users.copy", pgx.Identifier{"public.users"}),
		pgcmd.Copy[user]("users.import", pgx.Identifier{"shown"}),
		pgcmd.Copy[item]("orders.import", pgx.Identifier{"orders"}),
		pgcmd.Copy[struct {
			UserID bool
			Twice  int64
		}]("orders.copy", pgx.Identifier{"orders"}),
		pgcmd.Copy[mail]("users.mail", pgx.Identifier{"users"}),
	)

	p.heading("Verify: Once")
	once := pgcmd.Once(touch, keyOf[findUser])
	verify(pool, once)
	ledger := pgcmdtest.Pool(p.t, `create table users (email text, seen timestamptz);
		create schema pgcmd; create table pgcmd.once (scope text, key text, fingerprint bytea, run text, result jsonb, more text not null)`)
	verify(ledger, once)
	_, err = ledger.Exec(ctx, `alter table pgcmd.once drop column run`)
	require.NoError(p.t, err)
	verify(ledger, once)
	stranger := nobody2(p, ledger)
	verify(stranger, once)
	_, err = ledger.Exec(ctx, `grant usage on schema pgcmd to `+p.roles[len(p.roles)-1])
	require.NoError(p.t, err)
	verify(stranger, once)
}

var nobody2 = nobody

func takes[In any](sql string) pgcmd.Definition { return pgcmd.Exec[In](unique("users.takes"), sql) }
func gives[Row any](sql string) pgcmd.Definition {
	return pgcmd.Query[none, Row](unique("users.gives"), sql)
}

var serial int

// unique makes a name, which Verify wants to be that of one command.
func unique(name string) string {
	serial++
	return name + string(rune('a'+serial/26)) + string(rune('a'+serial%26))
}

func takesPair[T any]() pgcmd.Definition {
	return pgcmd.Exec[struct{ P T }](unique("pairs.takes"), `insert into h values (@p)`)
}

// nulls are findings about NULL.
func nulls(p *page, verify func(pgcmd.DB, ...pgcmd.Definition)) {
	p.heading("Verify: NULL")
	pool := pgcmdtest.Pool(p.t, `create type pair as (a text, b int);
		create table users (id bigint primary key, email text not null, age text, ok bool, doc jsonb not null, pair pair not null, tags text[] not null);
		create table orders (user_id bigint, note text not null);
		create view ages as select age from users`)
	for _, sql := range []string{
		`null::text`,
		`nullif(email, '') from users`,
		`age from users where age is null`,
		`age from ages`,
		`o.note from users u left join orders o on o.user_id = u.id`,
		`o::text from users u left join orders o on o.user_id = u.id`,
		`email from users group by rollup (email)`,
		`case when id > 1 then email end from users`,
		`(select note from orders o where o.user_id = u.id limit 1) from users u`,
		`doc ->> 'a' from users`,
		`doc['a']::text from users`,
		`jsonb_path_query_first(doc, '$.a')::text from users`,
		`value from users, jsonb_each_text(doc)`,
		`jsonb_array_elements_text(doc) from users`,
		`t.a from users, jsonb_to_record(doc) as t(a text)`,
		`t.a from users, jsonb_to_record(doc) as t(a text, b text)`,
		`substring(email from '^a') from users`,
		`tags[1] from users`,
		`array_length(tags, 1)::text from users`,
		`array_position(tags, email)::text from users`,
		`lower(int8range(1, id))::text from users`,
		`to_regclass(email)::text from users`,
		`current_setting(email, true) from users`,
		`(pair).a from users`,
		`max(email) from users`,
		`max(email) filter (where id > 1) from users group by ok`,
		`max(age) from users group by ok`,
		`stddev(id)::text from users group by ok`,
		`lag(email) over (order by id) from users`,
		`nth_value(email, 2) over (order by id) from users`,
		`max(email) over (order by id rows between 2 preceding and 1 preceding) from users`,
		`max(email) filter (where id > 1) over () from users`,
	} {
		verify(pool, gives[string]("select "+sql))
	}
	verify(pool,
		gives[string](`insert into users (id, email, doc, pair, tags) values (1, 'ada@example.com', '{}', '(a,1)', '{}') returning age`),
		gives[[]string](`select array_agg(age) from users group by ok`),
		pgcmd.Query[struct{ Email *string }, string]("users.same", `select @email::text`), pgcmd.Query[*string, string]("users.echo", `select $1::text`),
		pgcmd.Query[struct{ Email *string }, string]("users.optional", `select /*? coalesce(@email, */ age /*? , @email) */ from users`),
		pgcmd.Query[search, string]("users.sorted", `select /*= @sort email: email */ age /*=*/ from users`),
		takes[*string](`update users set email = $1`), takes[sql.NullString](`update users set email = $1`),
		pgcmd.Exec[none]("orders.add", `insert into orders (user_id) values (1)`), pgcmd.Exec[none]("users.clear", `update users set email = null`),
		pgcmd.Copy[struct {
			ID    int64
			Email *string
			Doc   any
			Pair  any
			Tags  []string
		}]("users.import", pgx.Identifier{"users"}),
	)
	problems, err := pgcmd.VerifyWarnings(p.t.Context(), pool,
		pgcmd.Exec[struct{ Tags []string }]("users.tag", `update users set tags = @tags`),
		pgcmd.Copy[struct {
			ID    int64
			Email string
			Doc   any
			Pair  any
			Tags  []string
		}]("users.import", pgx.Identifier{"users"}))
	require.NoError(p.t, err)
	for _, found := range problems {
		p.line(found.String())
	}
}

// effects are findings about writes, and what could not be analyzed.
func effects(p *page, report func([]pgcmd.Problem)) {
	ctx := p.t.Context()
	p.heading("Verify: reads, and what is not analyzed")
	pool := pgcmdtest.Pool(p.t, `create table users (id bigint, age int2);
		create function add() returns int language sql as 'insert into users values (1) returning 1';
		create function drop() returns int language sql as 'delete from users returning 1';
		create function toll() returns int language plpgsql as 'begin return 1; end';
		create view added as select add(); create view dropped as select drop(); create view tolls as select toll(); create view backed as select pg_switch_wal();
		create view locking as select id from users for update`)
	several := func(sql ...string) (defs []pgcmd.Definition) {
		for _, text := range sql {
			defs = append(defs, gives[any](text))
		}
		return defs
	}
	_, err := pgcmd.VerifyWarnings(ctx, pool, several(`select * from added`, `select * from dropped`)...)
	e, ok := err.(*pgcmd.Error)
	require.True(p.t, ok, "%v", err)
	report(e.Problems)
	problems, err := pgcmd.VerifyWarnings(ctx, pool, append(several(`select * from tolls`, `select * from backed`, `select id from locking`, `explain select 1`),
		pgcmd.Query[none, int]("users.toll", `select toll()`).With(pgcmd.Options{ReadOnly: true}),
		takes[int64](`update users set age = $1::int8::int2`))...)
	require.NoError(p.t, err)
	report(problems)

	_, err = pool.Exec(ctx, `do $$ begin execute format('revoke temporary on database %I from public', current_database()); end $$; grant select on users to public`)
	require.NoError(p.t, err)
	problems, err = pgcmd.VerifyWarnings(ctx, nobody(p, pool), several(`select id from users`)...)
	require.NoError(p.t, err)
	report(problems)
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	require.NoError(p.t, err)
	defer tx.Rollback(ctx)
	problems, err = pgcmd.VerifyWarnings(ctx, tx, several(`select id from users`)...)
	require.NoError(p.t, err)
	report(problems)
}
