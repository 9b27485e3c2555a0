package pgcmd_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type (
	audit struct {
		CreatedAt time.Time
		UpdatedBy *string
	}
	Owner struct {
		OwnerID int64
		Kind    string `db:"owner_kind"`
	}
	mood string
	wide struct {
		ID int64
		audit
		*Owner
		Name    mood
		Ratio   float64 `db:"the ratio"`
		Tags    []string
		Doc     map[string]int
		Blob    []byte
		Maybe   *int
		Null    sql.NullString
		Addr    netip.Addr
		UUID    [16]byte
		Amount  pgtype.Numeric
		Any     any
		Ignored chan int `db:"-"`
		//lint:ignore U1000 it is there to be skipped
		hidden int
	}
)

const selectWide = `select 7::int8 as id, now() as created_at, null::text as updated_by, 9::int8 as owner_id, 'cat' as owner_kind,
	'glad' as name, 0.5::float8 as "the ratio", array['a','b'] as tags, '{"k":1}'::jsonb as doc, '\x00ff'::bytea as blob,
	null::int as maybe, null::text as null, '10.0.0.1'::inet as addr, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid as uuid,
	1.5::numeric as amount, 3::int4 as any`

func TestScanning(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	ctx := t.Context()

	t.Run("a struct with embedded ones, tags, pointers and types of all kinds", func(t *testing.T) {
		rows, err := pgcmd.Query[empty, wide]("x", selectWide+` union all `+selectWide).Run(ctx, pool, empty{})
		require.NoError(t, err)
		require.Len(t, rows, 2)
		w := rows[0]
		assert.EqualValues(t, 7, w.ID)
		assert.WithinDuration(t, time.Now(), w.CreatedAt, time.Hour)
		assert.Nil(t, w.UpdatedBy)
		assert.Equal(t, &Owner{9, "cat"}, w.Owner)
		assert.Equal(t, mood("glad"), w.Name)
		assert.Equal(t, 0.5, w.Ratio)
		assert.Equal(t, []string{"a", "b"}, w.Tags)
		assert.Equal(t, map[string]int{"k": 1}, w.Doc)
		assert.Equal(t, []byte{0, 255}, w.Blob)
		assert.Nil(t, w.Maybe)
		assert.False(t, w.Null.Valid)
		assert.Equal(t, "10.0.0.1", w.Addr.String())
		assert.Equal(t, byte(0xa0), w.UUID[0])
		assert.EqualValues(t, 3, w.Any)
		assert.NotSame(t, rows[0].Owner, rows[1].Owner, "each row has an embedded struct of its own")
		rows[0].Doc["k"] = 2
		assert.Equal(t, 1, rows[1].Doc["k"], "and a map of its own")
	})
	t.Run("maps and slices of a row are not those of the row before, nor of the run before", func(t *testing.T) {
		type doc struct {
			Doc  map[string]int
			List []int
		}
		cmd := pgcmd.Query[empty, doc]("x", `select jsonb_build_object('k' || n, n) as doc, jsonb_build_array(n) as list from generate_series(1, 3) n`)
		for range 2 {
			rows, err := cmd.Run(ctx, pool, empty{})
			require.NoError(t, err)
			assert.Equal(t, []doc{{map[string]int{"k1": 1}, []int{1}}, {map[string]int{"k2": 2}, []int{2}}, {map[string]int{"k3": 3}, []int{3}}}, rows)
		}
	})
	t.Run("scalars", func(t *testing.T) {
		n, err := pgcmd.QueryOne[int, int]("x", `select $1::int + 1`).Run(ctx, pool, 41)
		require.NoError(t, err)
		assert.Equal(t, 42, n)
		at, err := pgcmd.QueryOne[time.Time, time.Time]("x", `select $1::timestamptz`).Run(ctx, pool, time.Unix(1, 0))
		require.NoError(t, err)
		assert.True(t, time.Unix(1, 0).Equal(at))
		null, err := pgcmd.QueryOne[empty, *string]("x", `select null::text`).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Nil(t, null)
		list, err := pgcmd.Query[[]int64, int64]("x", `select unnest($1::int8[])`).Run(ctx, pool, []int64{3, 1, 2})
		require.NoError(t, err)
		assert.Equal(t, []int64{3, 1, 2}, list)
		text, err := pgcmd.QueryOne[pgtype.Text, pgtype.Text]("x", `select $1::text`).Run(ctx, pool, pgtype.Text{})
		require.NoError(t, err)
		assert.False(t, text.Valid)
	})
	t.Run("maps", func(t *testing.T) {
		rows, err := pgcmd.Query[empty, map[string]any]("x", `select 1::int4 as a, null as b, 'c' as c`).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, []map[string]any{{"a": int32(1), "b": nil, "c": "c"}}, rows)
		_, err = pgcmd.QueryOne[empty, map[string]any]("x", `select 1 as a, 2 as a`).Run(ctx, pool, empty{})
		assert.Contains(t, failure(t, err).Message, `two columns are called "a"`)
	})
	t.Run("no row is an empty slice", func(t *testing.T) {
		rows, err := pgcmd.Query[empty, user]("x", `select 1::int8 as id, '' as email, 1 as age where false`).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, []user{}, rows)
	})
	t.Run("a type registered on the connection later", func(t *testing.T) {
		conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		require.NoError(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `create type pair as (a int, b text)`)
		require.NoError(t, err)
		type pair struct {
			A int
			B string
		}
		type row struct{ P pair }
		cmd := pgcmd.QueryOne[empty, row]("x", `select row(1, 'x')::pair as p`)
		_, err = cmd.Run(ctx, conn, empty{})
		require.Error(t, err)
		typ, err := conn.LoadType(ctx, "pair")
		require.NoError(t, err)
		conn.TypeMap().RegisterType(typ)
		got, err := cmd.Run(ctx, conn, empty{})
		require.NoError(t, err)
		assert.Equal(t, row{pair{1, "x"}}, got)
	})
	t.Run("columns that change between runs", func(t *testing.T) {
		conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
		require.NoError(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, `create table shifting (a int, b text); insert into shifting values (1, 'x')`)
		require.NoError(t, err)
		type row struct {
			A int
			B string
		}
		cmd := pgcmd.QueryOne[empty, row]("x", `select * from shifting`)
		_, err = cmd.Run(ctx, conn, empty{})
		require.NoError(t, err)
		_, err = conn.Exec(ctx, `drop table shifting; create table shifting (b text, a int8); insert into shifting values ('y', 2)`)
		require.NoError(t, err)
		_, err = cmd.Run(ctx, conn, empty{}) // the server: cached plan must not change result type
		assert.Equal(t, "0A000", failure(t, err).SQLState)
		assert.Contains(t, err.Error(), "have changed since it was prepared: run it again")
		got, err := cmd.Run(ctx, conn, empty{})
		require.NoError(t, err)
		assert.Equal(t, row{2, "y"}, got)
	})
}

func TestResultsThatDoNotFit(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	for name, c := range map[string]struct {
		sql    string
		want   string
		column string
	}{
		"NULL into a field that cannot hold it": {`select 1::int8 as id, null::text as email, 1 as age`,
			`column "email" (text) is NULL, and user.Email (string) cannot hold that: make it *string, or use coalesce`, "email"},
		"another type":           {`select 1::int8 as id, 'x' as email, point(1, 2) as age`, `column "age" (point) does not fit user.Age (int)`, "age"},
		"a value that overflows": {`select 1::int8 as id, 'x' as email, 1e300::float8 as age`, `column "age" (float8) has a value that does not fit user.Age (int)`, "age"},
		"a column more":          {`select 1::int8 as id, 'x' as email, 1 as age, 2 as extra`, `column "extra" has no field in user`, "extra"},
		"a column less":          {`select 1::int8 as id, 'x' as email`, `field user.Age has no column: the SQL returns id, email`, ""},
		"no columns":             {`create temp table t1 as select 1`, `field user.ID has no column: the SQL returns `, ""},
		"a column twice":         {`select 1::int8 as id, 'x' as email, 1 as age, 'y' as email`, `column "email" has no field`, "email"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			writes := pgcmd.Options{Writes: true}
			_, one := pgcmd.QueryOne[empty, user]("users.find", c.sql).With(writes).Run(t.Context(), pool, empty{})
			_, all := pgcmd.Query[empty, user]("users.find", strings.Replace(c.sql, "t1", "t2", 1)).With(writes).Run(t.Context(), pool, empty{})
			for _, err := range []error{one, all} {
				e := failure(t, err)
				assert.Contains(t, e.Message, c.want)
				assert.Equal(t, "users.find", e.Command)
				assert.Equal(t, c.column, e.Column)
				assert.Equal(t, pgcmd.CodeInternal, e.Code)
				assert.Equal(t, pgcmd.Applied, e.Effect, "the statement had committed")
			}
		})
	}
	_, err := pgcmd.Query[empty, int]("x", `select 1, 2`).Run(t.Context(), pool, empty{})
	assert.Contains(t, failure(t, err).Message, "the SQL returns ?column?, ?column?, and a row is one int")
}

func TestHowManyRows(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	ctx := t.Context()

	_, err := pgcmd.QueryOne[byEmail, user]("x", `select id, email, age from users where email = @email`).Run(ctx, pool, byEmail{"nobody"})
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	assert.ErrorIs(t, err, pgx.ErrNoRows)
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))

	_, err = pgcmd.QueryOne[empty, user]("x", `select id, email, age from users`).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, empty{})
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	assert.ErrorIs(t, err, pgx.ErrTooManyRows)
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))

	list := pgcmd.Query[empty, string]("x", `select email from users`)
	rows, err := list.With(pgcmd.Options{MaxRows: 3}).Run(ctx, pool, empty{})
	require.NoError(t, err)
	assert.Len(t, rows, 3)
	rows, err = list.With(pgcmd.Options{MaxRows: 2}).Run(ctx, pool, empty{})
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	assert.Empty(t, rows)
	idle(t, pool)
}

// The rows that a server has sent tell whether the reading stopped: draining
// 30,000,000 of them is what these tests would otherwise be seen doing.
func TestMaxRowsStopsReadingAtOnce(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create sequence seen`)
	ctx := t.Context()
	endless := pgcmd.Query[empty, int64]("x", `select nextval('seen') from (select generate_series(1, 30000000)) rows`).With(pgcmd.Options{MaxRows: 10})
	seen := func() (n int64) {
		require.NoError(t, pool.QueryRow(ctx, `select last_value from seen`).Scan(&n))
		return n
	}
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()

	for name, db := range map[string]pgcmd.DB{"a pool's": pool, "the caller's": conn, "the caller's own": conn.Conn()} {
		was := seen()
		_, err := endless.Run(ctx, db, empty{})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeTooManyRows, e.Code, name)
		assert.Equal(t, pgcmd.Unknown, e.Effect, "%s: it was broken off, and it writes a sequence", name)
		assert.Less(t, seen()-was, int64(5_000_000), name)
	}
	require.NoError(t, conn.Ping(ctx), "the caller's connection lives")

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = pgcmd.Query[empty, int]("x", `select generate_series(1, 5000)`).With(pgcmd.Options{MaxRows: 10}).Run(ctx, tx, empty{})
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	_, err = tx.Exec(ctx, `select 1`)
	assert.NoError(t, err, "a transaction is usable after it")

	_, err = pgcmd.Query[empty, int]("x", `insert into kept select generate_series(1, 5000) returning id`).With(pgcmd.Options{MaxRows: 10}).
		Run(ctx, must(t, pool.Exec, `create table kept (id int)`, pool), empty{})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeTooManyRows, e.Code)
	assert.Equal(t, pgcmd.Applied, e.Effect, "a write is read to its end")
	var kept int
	require.NoError(t, pool.QueryRow(ctx, `select count(*) from kept`).Scan(&kept))
	assert.Equal(t, 5000, kept)
}

func must(t *testing.T, exec func(context.Context, string, ...any) (pgconn.CommandTag, error), sql string, db pgcmd.DB) pgcmd.DB {
	t.Helper()
	_, err := exec(t.Context(), sql)
	require.NoError(t, err)
	return db
}

var errEmailTaken = errors.New("email is already registered")

func TestWhatErrorsReach(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	ctx := t.Context()
	create := pgcmd.Exec[byEmail]("users.create", `insert into users (email) values (@email)`)

	t.Run("PgError and the domain error of OnConstraint", func(t *testing.T) {
		_, err := create.With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": errEmailTaken}}).Run(ctx, pool, byEmail{"ada@example.com"})
		e := failure(t, err)
		assert.ErrorIs(t, err, errEmailTaken)
		var pgErr *pgconn.PgError
		assert.ErrorAs(t, err, &pgErr)
		assert.Equal(t, pgcmd.CodeConflict, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, []string{"23505", "users_email_key", "users"}, []string{e.SQLState, e.Constraint, e.Table})
		assert.EqualError(t, err, "pgcmd: users.create: email is already registered [conflict, not applied, SQLSTATE 23505]")
	})
	t.Run("the same through a body, with the path of names", func(t *testing.T) {
		errOwn := errors.New("own")
		inner := pgcmd.OnError(create, func(context.Context, byEmail, error) error { return errOwn })
		outer := pgcmd.New("users.signup", func(ctx context.Context, db pgcmd.DB, in byEmail) (int64, error) {
			n, err := inner.Run(ctx, db, in)
			return n, errorsWrap(err)
		}).With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": errEmailTaken}})
		_, err := outer.Run(ctx, pool, byEmail{"ada@example.com"})
		e := failure(t, err)
		assert.Equal(t, "users.signup > users.create", e.Command)
		assert.ErrorIs(t, err, errEmailTaken)
		assert.ErrorIs(t, err, errOwn)
		assert.Equal(t, pgcmd.CodeConflict, e.Code)
		assert.Equal(t, pgcmd.Unknown, e.Effect, "a body is not one unit")
	})
	t.Run("a sentinel made by Errorf", func(t *testing.T) {
		errFunds := pgcmd.Errorf(pgcmd.CodeConflict, "insufficient funds")
		_, err := pgcmd.New("bank.pay", func(context.Context, pgcmd.DB, empty) (int, error) { return 1, errFunds }).Run(ctx, pool, empty{})
		assert.ErrorIs(t, err, errFunds)
		assert.EqualError(t, err, "pgcmd: bank.pay: insufficient funds [conflict, effect unknown]")
		assert.Empty(t, errFunds.(*pgcmd.Error).Command, "the sentinel is as it was")
	})
	t.Run("a deadline: the command's, the caller's, the server's", func(t *testing.T) {
		sleep := pgcmd.Exec[empty]("x", `select pg_sleep(60)`)
		_, err := sleep.With(pgcmd.Options{Timeout: 30 * time.Millisecond, Writes: true}).Run(ctx, pool, empty{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, pgcmd.CodeTimeout, pgcmd.CodeOf(err))
		assert.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err))
		for _, o := range []pgcmd.Options{{Timeout: 30 * time.Millisecond}, {Timeout: 30 * time.Millisecond, ReadOnly: true}} {
			_, err = sleep.With(o).Run(ctx, pool, empty{})
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		}

		short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		_, err = sleep.Run(short, pool, empty{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = sleep.Run(short, pool, empty{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), "it had passed before anything was sent")

		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(ctx, `set statement_timeout = '30ms'`)
		require.NoError(t, err)
		_, err = sleep.Run(ctx, conn, empty{})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeTimeout, e.Code)
		assert.Equal(t, "the server's statement_timeout passed", e.Message)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		_, err = conn.Exec(ctx, `reset statement_timeout`)
		require.NoError(t, err)
	})
	t.Run("no connection in time", func(t *testing.T) {
		config := pool.Config()
		config.MaxConns = 1
		small, err := newPool(ctx, config)
		require.NoError(t, err)
		defer small.Close()
		held, err := small.Acquire(ctx)
		require.NoError(t, err)
		defer held.Release()
		_, err = create.With(pgcmd.Options{Timeout: 30 * time.Millisecond}).Run(ctx, small, byEmail{"new@example.com"})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeExhausted, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Contains(t, e.Message, "1 of 1 were in use")
	})
	t.Run("nobody listens", func(t *testing.T) {
		config := pool.Config()
		config.ConnConfig.Host = t.TempDir()
		nowhere, err := newPool(ctx, config)
		require.NoError(t, err)
		defer nowhere.Close()
		_, err = create.Run(ctx, nowhere, byEmail{"new@example.com"})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		nowhere.Close()
		_, err = create.Run(ctx, nowhere, byEmail{"new@example.com"})
		assert.Equal(t, pgcmd.CodeUnavailable, pgcmd.CodeOf(err))
		assert.Contains(t, err.Error(), "the pool is closed")
	})
	t.Run("the connection dies under the statement", func(t *testing.T) {
		_, err := pgcmd.Exec[empty]("x", `select pg_terminate_backend(pg_backend_pid())`).Run(ctx, pool, empty{})
		e := failure(t, err)
		assert.Equal(t, "57P01", e.SQLState)
		assert.Equal(t, pgcmd.Unknown, e.Effect, "a FATAL can race with the end of a statement")
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		_, err = pgcmd.Exec[empty]("x", `select pg_terminate_backend(pg_backend_pid())`).Run(ctx, tx, empty{})
		assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect, "its transaction cannot be committed any more")
	})
	t.Run("an error that is not ours", func(t *testing.T) {
		assert.Equal(t, pgcmd.CodeFailed, pgcmd.CodeOf(errEmailTaken))
		assert.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(errEmailTaken))
		assert.Equal(t, pgcmd.Code(""), pgcmd.CodeOf(nil))
		assert.Equal(t, pgcmd.Applied, pgcmd.EffectOf(nil))
	})
	idle(t, pool)
}

// Plans to scan a row are kept for each connection, and for no more than 64.
func TestRowsAreReadOnAnyNumberOfConnections(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	type row struct {
		N    int32
		Text *string
		List []int16
	}
	find := pgcmd.QueryOne[int32, row]("any.number", `select $1::int4 as n, 'n' || $1 as text, array[$1::int2, 7::int2] as list`)
	conns := int32(70)
	if testing.Short() {
		conns = 20
	}
	for i := range conns {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		for n := i; n < i+2; n++ {
			got, err := find.Run(t.Context(), conn, n)
			require.NoError(t, err)
			text := fmt.Sprint("n", n)
			require.Equal(t, row{n, &text, []int16{int16(n), 7}}, got)
		}
		require.NoError(t, conn.Close(t.Context()))
	}
}
