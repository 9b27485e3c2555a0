package reads_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A lookup is a QueryOne that finds no row.
type lookup struct {
	sql    string
	effect pgcmd.Effect // by itself
	since  int          // the version of PostgreSQL that has it
}

// Of the statements without a row, those that changed none.
var lookups = map[string]lookup{
	"SELECT":               {sql: `select name from seats where id = $1`, effect: pgcmd.NotApplied},
	"UPDATE":               {sql: `update seats set free = free - 1 where id = $1 returning name`, effect: pgcmd.NotApplied},
	"DELETE":               {sql: `delete from seats where id = abs($1::int8) returning name`, effect: pgcmd.NotApplied},
	"INSERT":               {sql: `insert into seats (id, name) select 1, 'x' || $1::int8 on conflict do nothing returning name`, effect: pgcmd.NotApplied},
	"MERGE":                {sql: `merge into seats s using (select $1::int8 id) x on s.id = x.id when matched then update set free = 0 returning s.name`, effect: pgcmd.NotApplied, since: 170000},
	"WITH and UPDATE":      {sql: `with x as (select $1::int8 as id) update seats s set free = 0 from x where s.id = x.id returning name`, effect: pgcmd.NotApplied},
	"FOR UPDATE":           {sql: `select name from seats where id = $1 for update`, effect: pgcmd.NotApplied},
	"a write in WITH":      {sql: `with x as (update seats set free = 7 where id = 1) update seats set free = 0 where id = $1 returning name`, effect: pgcmd.Applied},
	"a SELECT of a write":  {sql: `with x as (update seats set free = 7 where id = 1 returning name) select name from x where $1 = 0`, effect: pgcmd.Applied},
	"a function of a user": {sql: `update seats set free = 0 where id = $1 and own(id) > 0 returning name`, effect: pgcmd.Applied},
	"a SELECT of such":     {sql: `select name from seats where id = $1 and own(id) > 0`, effect: pgcmd.Applied},
}

// hidden is a transaction that does not show what it is.
type hidden struct{ pgx.Tx }

func (hidden) Conn() *pgx.Conn { return nil }

// each runs f for every lookup that the server has, with a database of its own.
func each(t *testing.T, f func(t *testing.T, pool *pgxpool.Pool, l lookup, find *pgcmd.Command[int64, string])) {
	for name, l := range lookups {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgcmdtest.Pool(t, seatsDDL)
			var version int
			require.NoError(t, pool.QueryRow(t.Context(), `select current_setting('server_version_num')::int`).Scan(&version))
			if version < l.since {
				t.Skip("the server does not have it: scripts/matrix runs this on those that do")
			}
			f(t, pool, l, pgcmd.QueryOne[int64, string]("seats.find", l.sql))
		})
	}
}

// The seat that nobody has.
const nowhere = 99

func notFound(t *testing.T, err error, effect pgcmd.Effect, how string) {
	t.Helper()
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeNotFound, e.Code, "%s: %v", how, e)
	assert.ErrorIs(t, err, pgx.ErrNoRows)
	assert.Equal(t, effect, e.Effect, how)
}

func TestNoRowByItself(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, pool *pgxpool.Pool, l lookup, find *pgcmd.Command[int64, string]) {
		ctx := t.Context()
		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		simple := pool.Config()
		simple.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		plain, err := pgxpool.NewWithConfig(ctx, simple)
		require.NoError(t, err)
		defer plain.Close()
		dbs := map[string]pgcmd.DB{"a pgxpool": pool, "a connection of it": conn, "a connection": conn.Conn(), "the simple protocol": plain}
		settings := func(context.Context) ([]pgcmd.Setting, error) {
			return []pgcmd.Setting{{Name: "app.tenant", Value: "1"}}, nil
		}
		for name, cfg := range map[string]pgcmd.Config{"a pool": {}, "with Multiplex": {Multiplex: 1}, "with Settings": {Settings: settings},
			"with both": {Multiplex: 1, Settings: settings}} {
			cfg.URL, cfg.MaxConns = pool.Config().ConnString(), 2
			pool, err := pgcmd.Connect(ctx, cfg)
			require.NoError(t, err)
			defer pool.Close(ctx)
			dbs[name] = pool
		}
		for how, db := range dbs {
			_, err := find.Run(ctx, db, nowhere)
			notFound(t, err, l.effect, how)
			notFound(t, pgcmd.Try(ctx, db, find, nowhere).Err, l.effect, how+", by Try")
			hooked := pgcmd.Before(find, func(context.Context, *int64) error { return nil }).With(twice)
			_, err = hooked.Run(ctx, db, nowhere)
			notFound(t, err, l.effect, how+", with a hook")
			_, err = find.With(inTx).Run(ctx, db, nowhere)
			notFound(t, err, pgcmd.NotApplied, how+", InTx")
			if l.sql == lookups["SELECT"].sql {
				_, err = find.With(writes).Run(ctx, db, nowhere)
				notFound(t, err, pgcmd.Applied, how+", a SELECT that Writes")
			}
		}
	})
}

// In a transaction that goes on what it has changed is not known, unless it has changed nothing.
func TestNoRowInATransaction(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, pool *pgxpool.Pool, l lookup, find *pgcmd.Command[int64, string]) {
		ctx := t.Context()
		effect := l.effect
		if effect == pgcmd.Applied {
			effect = pgcmd.Unknown
		}
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		dbs := map[string]pgcmd.DB{"a transaction of pgx": tx, "its connection": tx.Conn(), "one that hides its connection": hidden{tx}}
		check := func(how string, db pgcmd.DB) {
			_, err := find.Run(ctx, db, nowhere)
			notFound(t, err, effect, how)
			_, err = find.With(inTx).Run(ctx, db, nowhere)
			notFound(t, err, effect, how+", InTx")
		}
		for how, db := range dbs {
			check(how, db)
			if _, hides := db.(hidden); !hides {
				notFound(t, pgcmd.Try(ctx, db, find, nowhere).Err, pgcmd.NotApplied, how+", by Try")
			}
		}
		require.NoError(t, tx.Rollback(ctx), "it holds locks")
		_, err = pgcmd.Transaction("seats.tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) (int, error) {
			check("a Tx", tx)
			notFound(t, pgcmd.Try(ctx, tx, find, nowhere).Err, pgcmd.NotApplied, "a Tx, by Try")
			_, err := find.Run(ctx, tx, nowhere)
			return 0, err
		}).Run(ctx, pool, none{})
		notFound(t, err, pgcmd.NotApplied, "the transaction is rolled back")
	})
}

func TestNoRowOfAnItem(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, pool *pgxpool.Pool, l lookup, find *pgcmd.Command[int64, string]) {
		ctx := t.Context()
		for _, c := range []*pgcmd.Command[int64, string]{find, pgcmd.Before(find, func(context.Context, *int64) error { return nil })} {
			for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
				effect := l.effect
				if mode == pgcmd.Atomic || mode == pgcmd.Isolated {
					effect = pgcmd.NotApplied // it is rolled back
				}
				for _, items := range [][]int64{{nowhere}, {nowhere, nowhere - 1}} {
					r, err := pgcmd.Batch(c, mode).Run(ctx, pool, items)
					notFound(t, r.Outcomes[0].Err, effect, mode.String())
					if mode == pgcmd.Atomic || mode == pgcmd.Sequential {
						notFound(t, err, effect, mode.String())
					} else {
						assert.NoError(t, err)
					}
				}
			}
		}
		for mode, effect := range map[pgcmd.BatchMode]pgcmd.Effect{pgcmd.Atomic: pgcmd.NotApplied, pgcmd.Independent: l.effect} {
			var p pgcmd.Pipeline
			r := pgcmd.Queue(&p, find, nowhere)
			notFound(t, p.Run(ctx, pool, mode), effect, "a pipeline")
			_, err := r.Get()
			notFound(t, err, effect, "an item of a pipeline")
		}
		_, err := pgcmd.Transaction("seats.tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) (int, error) {
			effect := l.effect
			if effect == pgcmd.Applied {
				effect = pgcmd.Unknown
			}
			r, err := pgcmd.Batch(find, pgcmd.Atomic).Run(ctx, tx, []int64{nowhere})
			notFound(t, r.Outcomes[0].Err, effect, "an Atomic batch in a Tx")
			notFound(t, err, effect, "an Atomic batch in a Tx, as a whole")
			r, err = pgcmd.Batch(find, pgcmd.Atomic).Run(ctx, tx, []int64{nowhere, 1})
			notFound(t, r.Outcomes[0].Err, effect, "an Atomic batch of two in a Tx")
			return 0, err
		}).Run(ctx, pool, none{})
		notFound(t, err, pgcmd.NotApplied, "the transaction is rolled back")
	})
}

// A row that a trigger keeps from being inserted is found to be missing after COMMIT: it is not there, and the others
// are.
func TestNoRowOfAnItemThatATriggerLeavesOut(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seatsDDL, `
		create function leave_out() returns trigger language plpgsql as $$ begin return case when new.id = 99 then null else new end; end $$;
		create trigger leave_out before insert on seats for each row execute function leave_out()`)
	take := pgcmd.QueryOne[int64, int64]("seats.take", `insert into seats (id, name) values ($1, 'new') returning id`)
	r, err := pgcmd.Batch(take, pgcmd.Atomic).Run(t.Context(), pool, []int64{10, nowhere, 11})
	notFound(t, err, pgcmd.Applied, "the whole")
	notFound(t, r.Outcomes[1].Err, pgcmd.NotApplied, "the item")
	var there []int64
	require.NoError(t, pool.QueryRow(t.Context(), `select array_agg(id order by id) from seats where id > 9`).Scan(&there))
	assert.Equal(t, []int64{10, 11}, there)

	_, err = pgcmd.Batch(take, pgcmd.Atomic).Run(t.Context(), pool, []int64{nowhere})
	notFound(t, err, pgcmd.NotApplied, "the only item")
	r, err = pgcmd.Batch(take, pgcmd.Isolated).Run(t.Context(), pool, []int64{12, nowhere})
	require.NoError(t, err)
	notFound(t, r.Outcomes[1].Err, pgcmd.NotApplied, "an item of an Isolated batch")
	assert.NoError(t, r.Outcomes[0].Err)
}

// A trigger may put the row elsewhere, and the command tag counts none then: Options.Writes says so.
func TestNoRowThatATriggerPutsElsewhere(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seatsDDL, `
		create table archive (id int8); create view seat_view as select * from seats;
		create function archive() returns trigger language plpgsql as $$ begin insert into archive values (new.id); return null; end $$;
		create trigger archive before insert on seats for each row execute function archive();
		create trigger archive instead of insert on seat_view for each row execute function archive()`)
	for _, table := range []string{"seats", "seat_view"} {
		take := pgcmd.QueryOne[int64, int64]("seats.take", `insert into `+table+` (id, name) values ($1, 'new') returning id`).With(pgcmd.Options{Writes: true})
		_, err := take.Run(t.Context(), pool, 1)
		notFound(t, err, pgcmd.Applied, table)
		_, err = take.With(pgcmd.Options{InTx: true}).Run(t.Context(), pool, 1)
		notFound(t, err, pgcmd.NotApplied, "its own transaction is rolled back")
		r, err := pgcmd.Batch(take, pgcmd.Independent).Run(t.Context(), pool, []int64{1})
		require.NoError(t, err)
		notFound(t, r.Outcomes[0].Err, pgcmd.Applied, "an item of an Independent batch")
	}
	var archived int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from archive`).Scan(&archived))
	assert.Equal(t, 4, archived)
}
