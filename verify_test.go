package pgcmd_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestCommandsThatWorkHaveNoFinding(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL, accountsDDL, pgcmd.OnceSchema)
	require.NoError(t, pgcmd.Verify(t.Context(), pool))
	require.NoError(t, pgcmd.Verify(t.Context(), pool,
		findUser, createUser, importUsers, pgcmd.Batch(createUser, pgcmd.Isolated), pgcmd.AdHoc, note,
		pgcmd.Once(move2, func(transfer) string { return "k" }).With(pgcmd.Options{OnConstraint: map[string]error{"enough": errTaken}})))
	// The ids of accounts are smaller than the fields: that is a finding.
	same(t, "accounts", want{"accounts.debit: transfer.From": "make it int32", "accounts.credit: transfer.To": "make it int32"},
		problemsOf(t, pgcmd.Verify(t.Context(), pool, debit, pay)))
}

func TestVerifyLeavesEveryDBAsItWas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, usersDDL)
	ours := connect(t, pool, 1)
	pooled, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	inTx, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	defer inTx.Close(ctx)
	_, err = inTx.Exec(ctx, `begin`)
	require.NoError(t, err)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)

	bad := pgcmd.Exec[empty]("bad.exec", `delete from nowhere`)
	grow := pgcmd.Exec[byEmail]("users.grow", `update users set age = age + 1 where email = @email`)
	check := func(name string, db pgcmd.DB) {
		t.Helper()
		err := pgcmd.Verify(ctx, db, bad, grow, bad.With(pgcmd.Options{Timeout: 1}), findUser)
		same(t, name, want{"bad.exec: SQL": `relation "nowhere" does not exist`, "bad.exec": "is the name of two commands, definitions 0 and 2"}, problemsOf(t, err))
		require.NoError(t, pgcmd.Verify(ctx, db, grow, findUser))
		assert.Zero(t, count(t, db, `select count(*) from pg_prepared_statements where statement like 'delete from nowhere%' or statement like 'update users%'`), name)
		assert.Zero(t, count(t, db, `select count(*) from pg_locks where pid = pg_backend_pid() and relation = 'users'::regclass`), name)
	}
	for name, db := range map[string]pgcmd.DB{"a pool": pool, "a pool of pgcmd's": ours, "a pooled connection": pooled, "a connection": conn, "a connection in a transaction": inTx, "a transaction": tx} {
		check(name, db)
	}
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		check("a Tx whose BEGIN was still to be sent", tx)
		_, err := grow.Run(ctx, tx, byEmail{"ada@example.com"})
		require.NoError(t, err)
		nested, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.Error(t, pgcmd.Verify(ctx, nested, bad))
		require.NoError(t, nested.Commit(ctx))
		return pgcmd.Verify(ctx, tx, findUser)
	}).Run(ctx, ours, empty{})
	require.NoError(t, err)
	assert.Equal(t, 37, count(t, pool, `select age from users where email = 'ada@example.com'`), "the transaction was committed")
	idle(t, ours.Pool)

	_, err = tx.Exec(ctx, `select 1/0`)
	require.Error(t, err)
	e := failure(t, pgcmd.Verify(ctx, tx, findUser))
	assert.Contains(t, e.Message, "the transaction is aborted")
	require.NoError(t, tx.Rollback(ctx))
	e = failure(t, pgcmd.Verify(ctx, tx, findUser))
	assert.Contains(t, e.Message, "the transaction has ended")
	e = failure(t, pgcmd.Verify(ctx, unusedDB{}, findUser))
	assert.Contains(t, e.Message, "does not give its connection")
	assert.Contains(t, failure(t, pgcmd.Verify(ctx, nil, findUser)).Message, "the DB is nil")
}

func TestVerifyThatCannotAskIsOneError(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, usersDDL)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	e := failure(t, pgcmd.Verify(gone, pool, findUser))
	assert.Equal(t, pgcmd.CodeCanceled, e.Code)
	assert.Empty(t, e.Problems)

	nobody, err := pgxpool.New(ctx, "postgres://nobody@127.0.0.1:1/none?connect_timeout=2")
	require.NoError(t, err)
	defer nobody.Close()
	e = failure(t, pgcmd.Verify(ctx, nobody, findUser, createUser))
	assert.Equal(t, pgcmd.CodeUnavailable, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Equal(t, "pgcmd.Verify", e.Command)
	assert.Empty(t, e.Problems)

	// A migration holds the lock: nothing is said of the schema.
	migration, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer migration.Rollback(ctx)
	_, err = migration.Exec(ctx, `lock table users`)
	require.NoError(t, err)
	late, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	e = failure(t, pgcmd.Verify(late, pool, findUser))
	assert.Equal(t, pgcmd.CodeTimeout, e.Code)
	impatient, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer impatient.Rollback(ctx)
	_, err = impatient.Exec(ctx, `set local lock_timeout = '50ms'`)
	require.NoError(t, err)
	e = failure(t, pgcmd.Verify(ctx, impatient, findUser))
	assert.Equal(t, pgcmd.CodeAborted, e.Code)
	assert.Equal(t, "55P03", e.SQLState)
	assert.Empty(t, e.Problems)
	assert.Equal(t, 1, count(t, impatient, `select 1`), "the transaction goes on")
}

func TestBadDefinitionsAreFindings(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	var missing *pgcmd.Command[empty, empty]
	err := pgcmd.Verify(t.Context(), pool, nil, findUser, missing, findUser)
	e := failure(t, err)
	assert.Equal(t, "pgcmd: pgcmd.Verify: 3 of 4 commands do not fit the database: "+
		"definition 0 is nil: is the variable set before it is verified?; "+
		"definition 2 is nil: is the variable set before it is verified?; "+
		"users.find is the name of two commands, definitions 1 and 3: rename one, since errors and the ledger of Once tell them apart by it "+
		"[internal, not applied]", e.Error())
}

// fiveHundred commands, of which each hundredth does not fit.
func fiveHundred() []pgcmd.Definition {
	defs := make([]pgcmd.Definition, 500)
	for i := range defs {
		table := "users"
		if i%100 == 99 {
			table = "nowhere"
		}
		defs[i] = pgcmd.QueryOne[FindUser, User](fmt.Sprintf("users.find%d", i),
			fmt.Sprintf(`select id, email, created_at from %s where email = @email and id > %d`, table, i)).
			With(pgcmd.Options{ReadOnly: i%2 == 0, OnConstraint: map[string]error{"users_email_key": ErrEmailTaken}})
	}
	return defs
}

func TestFiveHundredCommandsTakeAsManyRoundTripsAsOne(t *testing.T) {
	t.Parallel()
	proxy, err := faults.Start(pgcmdtest.Pool(t, usersDDL).Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	conn, err := pgx.Connect(t.Context(), proxy.URL())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	defs := fiveHundred()

	for _, db := range []func() pgcmd.DB{
		func() pgcmd.DB { return conn },
		func() pgcmd.DB {
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			return tx
		},
	} {
		db := db()
		before := proxy.Counts().RoundTrips
		require.NoError(t, pgcmd.Verify(t.Context(), db, defs[0]))
		one := proxy.Counts().RoundTrips - before

		before = proxy.Counts().RoundTrips
		start := time.Now()
		e := failure(t, pgcmd.Verify(t.Context(), db, defs...))
		took := time.Since(start)
		all := proxy.Counts().RoundTrips - before
		// A reply that begins while the questions are still being written counts as one more.
		assert.LessOrEqual(t, all, one+3, "a pipeline is one round trip")
		t.Logf("500 commands on a %T: %v, %d round trips", db, took, all)
		require.Len(t, e.Problems, 5)
		for i, p := range e.Problems {
			assert.Equal(t, fmt.Sprintf("users.find%d: SQL", 100*i+99), p.Field, "in the order of the commands")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	conn, err := pgx.Connect(b.Context(), pgcmdtest.URL(b, usersDDL))
	require.NoError(b, err)
	defer conn.Close(context.Background())
	defs := fiveHundred()
	for b.Loop() {
		if len(failure(b, pgcmd.Verify(b.Context(), conn, defs...)).Problems) != 5 {
			b.Fatal("five do not fit")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/500-commands")
}

func TestVerifyExecutesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, usersDDL, pgcmd.OnceSchema, `
		create sequence canary;
		create function touch() returns int8 language sql as 'select nextval(''canary'')';
		create function fixed() returns int8 language plpgsql immutable as $$ begin return nextval('canary'); end $$;
		create function watch() returns trigger language plpgsql as $$ begin perform touch(); return null; end $$;
		create trigger watch after insert or update or delete on users for each statement execute function watch();
		create domain checked as int8 check (fixed() > value)`)
	defs := []pgcmd.Definition{
		pgcmd.QueryOne[empty, int64]("touch", `select touch()`),
		pgcmd.QueryOne[empty, int64]("fixed", `select fixed()`),
		pgcmd.QueryOne[empty, int64]("checked", `select 7::checked`),
		pgcmd.QueryOne[int64, int64]("checked.input", `select $1::checked`),
		pgcmd.Exec[empty]("clear", `delete from users where touch() > 0`),
		pgcmd.Exec[empty]("grow", `update users set age = fixed()::int`),
		pgcmd.Exec[empty]("drop", `drop table users`),
		pgcmd.Exec[empty]("do", `do $$ begin perform touch(); end $$`),
		pgcmd.Once(pgcmd.Exec[string]("add", `insert into users (email) values ($1)`), func(email string) string { return email }),
		pgcmd.Batch(createUser, pgcmd.Atomic), importUsers,
	}
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(ctx, `set local track_functions = 'all'`)
	require.NoError(t, err)
	require.NoError(t, pgcmd.Verify(ctx, tx, defs...))
	for what, sql := range map[string]string{
		"functions left":   `select count(*) from pg_proc where pronamespace = pg_my_temp_schema()`,
		"functions called": `select coalesce(sum(calls), 0) from pg_stat_xact_user_functions`,
		"rows written":     `select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_xact_user_tables`,
		"sequences moved":  `select is_called::int from canary`,
		"statements kept":  `select count(*) from pg_prepared_statements where statement ~ 'touch|fixed|checked|users|once' and statement !~ 'pg_prepared_statements|pg_stat'`,
	} {
		assert.Zero(t, count(t, tx, sql), what)
	}
	require.NoError(t, tx.Rollback(ctx))

	_, err = pool.Exec(ctx, `select touch()`)
	require.NoError(t, err)
	assert.Equal(t, 1, count(t, pool, `select is_called::int from canary`), "the canary sings")

	config := pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	reader, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, pgcmd.Verify(ctx, reader, defs...), "it needs no right to write")
}

func TestReadOnlyCommandsThatWriteAreFound(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL, `
		create schema app;
		create function add(text) returns int8 language sql as 'insert into users (email) values ($1) returning id';
		create function app.deep() returns int8 language sql as $$ select 1; select add('x') $$;
		create function swears() returns int8 language sql stable as $$ select 1::int8 $$;
		create function either(int) returns int8 language sql as 'select add(''x'')';
		create function either(text) returns int8 language sql as 'select 1::int8';
		create function reads() returns int8 language plpgsql as $$ begin return 1; end $$;
		create function only_reads() returns int8 language plpgsql stable as $$ begin return 1; end $$;
		create function turns(int) returns int8 language sql as 'select 1::int8';
		create or replace function turns(n int) returns int8 language sql as 'select case when n > 0 then turns(n - 1) end';
		create function same(int, int) returns bool language sql as 'select add(''x'') > 0';
		create operator === (leftarg = int, rightarg = int, function = same);
		create view deep as select app.deep() as v;
		create view deeper as select v from deep;
		create view plain as select count(*) as v from users;
		create view locking as select id from users for update;
		create function gives(in text, out v int8, out more int8) language sql as 'select add($1), 1::int8';
		create function counts(inout v int8) language sql as 'select v + (select count(*) from users)';
		create table kept (id int8); alter table kept enable row level security;
		create policy mine on kept using (add('x') > 0);
		create sequence numbers;
		create function abs(text) returns int8 language sql as 'select add($1)'`)
	inferred := map[string]bool{`select v from deeper`: true, `select abs('x'::text)`: true, `select id from kept`: true, `select 1::int8 where 1 === 2`: true}
	for sql, how := range map[string]string{
		`select 1::int8`:                               "",
		`select add('x')`:                              "function add, insert into users",
		`select app.deep()`:                            "function deep, function add, insert into users",
		`select swears()`:                              "",
		`select either('x'::text)`:                     "",
		`select either(1)`:                             "function either, function add, insert into users",
		`select 1::int8 where 1 === 2`:                 "operator ===, function same, function add, insert into users",
		`select only_reads()`:                          "",
		`select turns(1)`:                              "",
		`select v from deeper`:                         "view deeper, view deep, function deep, function add, insert into users",
		`select v from plain`:                          "",
		`select v from gives('x')`:                     "function gives, function add, insert into users",
		`select counts(1)`:                             "",
		`select id from kept`:                          "policy mine, function add, insert into users",
		`select abs('x'::text)`:                        "function abs, function add, insert into users",
		`select nextval('numbers')`:                    "function nextval",
		`select pg_catalog.setval('numbers', 3)`:       "function setval",
		`select id from users where id = 1 for update`: "that locks rows",
	} {
		err := pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, *int64]("peek", sql).With(pgcmd.Options{ReadOnly: true}))
		if how == "" {
			assert.NoError(t, err, sql)
			continue
		}
		same(t, sql, want{"peek: ReadOnly": how}, problemsOf(t, err))
		plain := pgcmd.Query[empty, *int64]("peek", sql)
		if err := pgcmd.Verify(t.Context(), pool, plain); inferred[sql] {
			same(t, sql, want{"peek: SQL": how + ": set Options.Writes"}, problemsOf(t, err))
		} else {
			assert.NoError(t, err, "it does not count as a read: %s", sql)
		}
		assert.NoError(t, pgcmd.Verify(t.Context(), pool, plain.With(pgcmd.Options{Writes: true})), sql)
	}
	// What a volatile function in another language does is not known.
	warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, pgcmd.Query[empty, *int64]("peek", `select reads()`).With(pgcmd.Options{ReadOnly: true}))
	require.NoError(t, err)
	same(t, "a function in PL/pgSQL", want{"peek: ReadOnly": "function reads, which is volatile, in plpgsql: declare the function stable"}, warnings)
	for sql, how := range map[string]string{
		`select id from locking`:          "SQL: counts as a read, and takes locks by way of view locking, locks rows of users, which a replica",
		`select pg_advisory_xact_lock(1)`: "ReadOnly: is set for SQL that calls function pg_advisory_xact_lock, which is volatile: take ReadOnly away",
	} {
		what, want, _ := strings.Cut(how, ": ")
		warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, pgcmd.Query[empty, any]("peek", sql).With(pgcmd.Options{ReadOnly: what == "ReadOnly"}))
		require.NoError(t, err)
		require.Len(t, warnings, 1)
		assert.Equal(t, "peek: "+what, warnings[0].Field)
		assert.Contains(t, warnings[0].Message, want)
	}
	if _, err := pool.Exec(t.Context(), `create function kept() returns int8 begin atomic insert into users (email) values ('x') returning id; end`); err == nil { // since PostgreSQL 14
		same(t, "a body in the standard's form", want{"peek: ReadOnly": "function kept, insert into users"}, problemsOf(t,
			pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, *int64]("peek", `select kept()`).With(pgcmd.Options{ReadOnly: true}))))
	}
}

func TestOuterJoinsAreFound(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table a (id int primary key, name text not null); create table b (id int primary key, name text not null)`)
	for sql, found := range map[string]bool{
		`select a.name from a join b using (id)`:                               false,
		`select a.name from a left join b using (id)`:                          false,
		`select b.name from a left join b using (id)`:                          true,
		`select a.name from a right join b using (id)`:                         true,
		`select b.name from a full join b using (id)`:                          true,
		`select b.name from a left join b using (id) where b.name is not null`: false,
		`select coalesce(b.name, '') from a left join b using (id)`:            false,
		`select b.name from a left join b using (id) join b c on true`:         true,
		`select c.name from a left join b using (id) join b c on true`:         false,
		`select x.name from a left join (select name from b) x on true`:        true,
	} {
		if err := pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, string]("names", sql)); found {
			same(t, sql, want{"names: row": "JOIN finds no row: make it *string, use coalesce, or exclude NULL by a condition"}, problemsOf(t, err))
		} else {
			assert.NoError(t, err, sql)
		}
		warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, pgcmd.Query[empty, *string]("names", sql))
		require.NoError(t, err)
		assert.Empty(t, warnings, sql)
	}
}

// What pgx can do is what Verify allows, and what it loses is what Verify says.
func TestTypesThatCanHoldEachOther(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create type mood as enum ('good'); create domain name as text; create domain old as int2;
		create type pair as (a int, b int)`)
	type id int64
	type reads struct {
		def  pgcmd.Definition
		rule string // of a finding; "?" before that of a warning
	}
	for what, c := range map[string]reads{
		"int2 to int8":         {read[int8]("1::int2"), "range"},
		"int4 to int":          {read[int]("1::int4"), ""},
		"int8 to int":          {read[int]("1::int8"), ""},
		"int8 to uint64":       {read[uint64]("1::int8"), ""},
		"int8 to id":           {read[id]("1::int8"), ""},
		"int8 to *int32":       {read[*int32]("1::int8"), "range"},
		"int8[] to []int32":    {read[[]int32]("array[1::int8]"), "range"},
		"int4[] to []int64":    {read[[]int64]("array[1::int4]"), ""},
		"int8 to Int4":         {read[pgtype.Int4]("1::int8"), ""},
		"int8 to string":       {read[string]("1::int8"), ""},
		"float8 to float32":    {read[float32]("1::float8"), "range"},
		"float8 to int":        {read[int]("1::float8"), "range"},
		"float4 to float64":    {read[float64]("1::float4"), ""},
		"numeric to int64":     {read[int64]("1::numeric"), "range"},
		"numeric(9) to int":    {read[int]("1::numeric(9)"), ""},
		"numeric(9,2) to int":  {read[int]("1::numeric(9,2)"), "range"},
		"numeric to float64":   {read[float64]("1::numeric"), "?range"},
		"numeric to string":    {read[string]("1::numeric"), ""},
		"numeric to Numeric":   {read[pgtype.Numeric]("1::numeric"), ""},
		"text to int":          {read[int]("'1'::text"), "type"},
		"text to bool":         {read[bool]("'1'::text"), "type"},
		"text to time":         {read[time.Time]("'1'::text"), "type"},
		"text to []byte":       {read[[]byte]("'1'::text"), ""},
		"text to any":          {read[any]("'1'::text"), ""},
		"bool to int":          {read[int]("true"), "type"},
		"date to time":         {read[time.Time]("current_date"), ""},
		"inet to Addr":         {read[netip.Addr]("'::1'::inet"), ""},
		"uuid to string":       {read[string]("gen_random_uuid()"), ""},
		"uuid to [16]byte":     {read[[16]byte]("gen_random_uuid()"), ""},
		"jsonb to struct":      {read[map[string]int]("'{}'::jsonb"), ""},
		"jsonb to string":      {read[string]("'{}'::jsonb"), "?type"},
		"enum to string":       {read[string]("'good'::mood"), ""},
		"enum to int":          {read[int]("'good'::mood"), "type"},
		"enum[] to []string":   {read[[]string]("array['good'::mood]"), ""},
		"domain to string":     {read[string]("'x'::name"), ""},
		"domain to int8":       {read[int8]("1::old"), "range"},
		"xml to string":        {read[*string]("null::xml"), ""},
		"row to string":        {read[string]("row(1, 2)::pair"), "?type"},
		"interval to Duration": {read[time.Duration]("'1s'::interval"), ""},

		"timetz to time":       {read[time.Time]("'12:00+00'::timetz"), "type"},
		"money to float64":     {read[float64]("1::money"), "type"},
		"money to string":      {read[string]("1::money"), ""},
		"regclass to int":      {read[int64]("'pg_class'::regclass"), "type"},
		"enum[] to []int":      {read[[]int]("array['good'::mood]"), "type"},
		"domain[] to []int32":  {read[[]int32]("array[1::old]"), ""},
		"row to int":           {read[int]("row(1, 2)::pair"), "type"},
		"text to NullTime":     {read[sql.NullTime]("'x'::text"), "type"},
		"text to NullInt64":    {read[sql.NullInt64]("'1'::text"), ""},
		"uuid to NullInt64":    {read[sql.NullInt64]("gen_random_uuid()"), "type"},
		"int4 to NullInt64":    {read[sql.NullInt64]("1"), ""},
		"bool to Null[int32]":  {read[sql.Null[int32]]("true"), "type"},
		"uuid to Null[string]": {read[sql.Null[string]]("gen_random_uuid()"), ""},
		"date to NullTime":     {read[sql.NullTime]("current_date"), ""},
		"date to Timestamptz":  {read[pgtype.Timestamptz]("current_date"), ""},
		"int4 to Timestamptz":  {read[pgtype.Timestamptz]("1"), "type"},
		"int4 to []NullTime":   {read[[]sql.NullTime]("array[1]"), "type"},
		"numeric to Int8":      {read[pgtype.Int8]("1::numeric"), ""},
		"int64 as int4":        {send[int64]("int4"), "?range"},
		"int as int4":          {send[int]("int4"), ""},
		"int32 as int8":        {send[int32]("int8"), ""},
		"int32 as int2":        {send[*int32]("int2"), "?range"},
		"[]int64 as int4[]":    {send[[]int64]("int4[]"), "range"},
		"int as text":          {send[int]("text"), "type"},
		"int as numeric":       {send[int]("numeric"), ""},
		"int as float8":        {send[int]("float8"), ""},
		"int as bool":          {send[int]("bool"), "type"},
		"int as enum":          {send[int]("mood"), "type"},
		"int as domain":        {send[int32]("old"), "?range"},
		"float64 as int4":      {send[float64]("int4"), "range"},
		"float64 as numeric":   {send[float64]("numeric"), ""},
		"float64 as float4":    {send[float64]("float4"), ""},
		"string as text":       {send[string]("text"), ""},
		"string as int4":       {send[string]("int4"), "type"},
		"string as bytea":      {send[string]("bytea"), "type"},
		"string as uuid":       {send[string]("uuid"), ""},
		"string as numeric":    {send[string]("numeric"), ""},
		"string as mood":       {send[string]("mood"), ""},
		"string as domain":     {send[string]("name"), ""},
		"string as pair":       {send[string]("pair"), ""},
		"string as jsonb":      {send[string]("jsonb"), "?type"},
		"[]string as text[]":   {send[[]string]("text[]"), ""},
		"[]string as mood[]":   {send[[]string]("mood[]"), ""},
		"[]string as text":     {send[[]string]("text"), "type"},
		"[]byte as bytea":      {send[[]byte]("bytea"), ""},
		"[]byte as jsonb":      {send[[]byte]("jsonb"), ""},
		"map as jsonb":         {send[struct{ V map[string]int }]("jsonb"), ""},
		"map as text":          {send[struct{ V map[string]int }]("text"), "type"},
		"time as timestamptz":  {send[time.Time]("timestamptz"), ""},
		"time as date":         {send[time.Time]("date"), ""},
		"time as text":         {send[time.Time]("text"), "type"},
		"Duration as interval": {send[time.Duration]("interval"), ""},
		"Date as date":         {send[pgtype.Date]("date"), ""},
		"time as int8":         {send[time.Time]("int8"), "type"},
		"time as interval":     {send[time.Time]("interval"), "type"},
		"time as text[]":       {send[time.Time]("text[]"), "type"},
		"Int4 as date":         {send[struct{ V pgtype.Int4 }]("date"), "type"},
		"NullInt64 as uuid":    {send[struct{ V sql.NullInt64 }]("uuid"), "type"},
		"NullInt64 as int4":    {send[struct{ V sql.NullInt64 }]("int4"), ""},
		"NullInt64 as numeric": {send[struct{ V sql.NullInt64 }]("numeric"), ""},
		"NullTime as int8":     {send[struct{ V sql.NullTime }]("int8"), "type"},
		"NullTime as date":     {send[struct{ V sql.NullTime }]("date"), ""},
		"Date as timestamptz":  {send[pgtype.Date]("timestamptz"), ""},
		"IP as inet":           {send[net.IP]("inet"), ""},
		"IP as date":           {send[net.IP]("date"), "type"},
		"NullTime as domain":   {send[struct{ V sql.NullTime }]("old"), "type"},
		"Addr as int4":         {send[netip.Addr]("int4"), "type"},
		"Addr as text":         {send[netip.Addr]("text"), ""},
		"UUID as int4":         {send[pgtype.UUID]("int4"), "type"},
		"UUID as text":         {send[pgtype.UUID]("text"), ""},
		"bool as domain":       {send[bool]("old"), "type"},
		"int as mood[]":        {send[int]("mood[]"), "type"},
		"int as pair":          {send[int]("pair"), "type"},
		"int as money":         {send[int]("money"), ""},
		"Valuer as text":       {send[pgtype.Text]("text"), ""},
		"any as int4":          {send[struct{ V any }]("int4"), ""},
	} {
		warnings, err := pgcmd.VerifyWarnings(t.Context(), pool, c.def)
		got := ""
		for _, p := range warnings {
			got += "?" + p.Rule
		}
		for _, p := range problemsOf(t, err) {
			got += p.Rule
		}
		assert.Equal(t, c.rule, got, "%s: %v %v", what, err, warnings)
	}
}

func read[Row any](expression string) pgcmd.Definition {
	return pgcmd.QueryOne[empty, Row]("types.read", "select "+expression+" as v")
}

func send[In any](typ string) pgcmd.Definition {
	name := "$1"
	if fmt.Sprintf("%T", *new(In))[0] == 's' && fmt.Sprintf("%T", *new(In)) != "string" {
		name = "@v"
	}
	return pgcmd.Exec[In]("types.send", "select "+name+"::"+typ)
}

func TestNullsAreLookedForWhereTheyCanBe(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table notes (id int primary key, text text, at timestamptz);
		create view seen as select * from notes`)
	for sql, found := range map[string]bool{
		`select text from notes`:                                      true,
		`select n.text as v from notes n where id > 1`:                true,
		`select text from notes where text is not null`:               false,
		`select text from notes where text like 'a%'`:                 false,
		`select coalesce(text, '') from notes`:                        false,
		`select text from seen`:                                       true,
		`insert into notes (id, text) values (1, 'x') returning text`: false,
		`insert into notes (id) values (1) returning text`:            true,
		`select v.id::text from notes left join notes v on false`:     true,
		`with x as (select text from notes) select text from x`:       true,
	} {
		err := pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, string]("notes.text", sql))
		assert.Equal(t, found, err != nil, "%s: %v", sql, err)
		for _, p := range problemsOf(t, err) {
			assert.Equal(t, "null", p.Rule)
			assert.Equal(t, "notes.text: row", p.Field)
		}
	}
	type row struct {
		ID   int
		Text *string
		At   pgtype.Timestamptz
	}
	require.NoError(t, pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, row]("notes.all", `select * from notes`)))
	type strict struct {
		ID   int
		Text []byte
		At   time.Time
	}
	same(t, "strict", want{"notes.all: strict.At": "make it *time.Time"},
		problemsOf(t, pgcmd.Verify(t.Context(), pool, pgcmd.Query[empty, strict]("notes.all", `select * from notes`))))
}

func TestRowsOfEveryShapeAreCompared(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	type odd struct{ Email, Age, Gone string }
	for _, c := range []struct {
		def  pgcmd.Definition
		want want
	}{
		{pgcmd.Query[empty, map[string]any]("m", `select id, email from users`), nil},
		{pgcmd.Query[empty, map[string]any]("m", `select id, 1 as id from users`), want{"m: column id": "comes twice"}},
		{pgcmd.Query[empty, string]("s", `select id, email from users`), want{"s: row": "is one string, and the SQL returns id, email"}},
		{pgcmd.Query[empty, string]("s", `delete from users`), want{"s: row": "returns no columns"}},
		{pgcmd.Query[empty, odd]("o", `select email, id, note from users`), want{
			"o: odd.Age": "has no column, the SQL returns email, id, note", "o: odd.Gone": "has no column",
			"o: column id": "has no field in odd", "o: column note": "has no field"}},
		{pgcmd.Exec[empty]("e", `delete from users returning id, email`), nil},
		{pgcmd.Batch(pgcmd.Query[empty, odd]("o", `select email, age, 'x' as gone, 1 as more from users`), pgcmd.Isolated), want{"o[]: column more": "has no field"}},
		{pgcmd.New("n", func(context.Context, pgcmd.DB, empty) (empty, error) { return empty{}, nil }).
			With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": errTaken, "none": errTaken}}), want{"n: OnConstraint": "names none, which the database does not have"}},
		{pgcmd.Exec[empty]("u", `create table more (id int)`), nil},
		{pgcmd.Copy[struct {
			Email int
			Age   int64
		}]("c", pgx.Identifier{"public", "users"}), want{"c: row.Email": `(int) cannot be sent as column "email" (text): change the field's type, or the column's`, "c: row.Age": `(int64) holds more than column "age" (int4)`}},
		{pgcmd.Copy[user]("c", pgx.Identifier{"secret", "users"}), want{`c: table "secret"."users"`: "does not exist"}},
	} {
		same(t, c.def.Name(), c.want, problemsOf(t, pgcmd.Verify(t.Context(), pool, c.def)))
	}
}
