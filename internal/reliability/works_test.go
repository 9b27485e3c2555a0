package reliability_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

// worksDDL is the database of the enumerator. The table ops has no key, so that what was done twice is there twice.
const worksDDL = `
create table ops (id int8 not null, part int8 not null constraint ops_part check (part > 0));
create index on ops (id);
create table fixed (n int8 primary key);
insert into fixed values (1), (2), (3);
create table late (id int8 unique deferrable initially deferred);

-- unreadable writes a part, returns what a client of int2 cannot read unless it is told otherwise, and then fails if it
-- is told to.
create function unreadable(op int8, part int8, n int, fails bool, readable bool default false) returns int8 language plpgsql as $$
begin
	if n > 1 and fails then
		raise exception 'late' using errcode = '23514';
	elsif n = 1 and part > 0 then
		insert into ops values (op, part);
	end if;
	return case when readable then part else 100000 end;
end $$;

-- parts waits until the sessions of app have ended, and returns what is there of an operation then, for good.
create function parts(app text, op int8) returns int8[] language plpgsql as $$
declare
	patience timestamptz := clock_timestamp() + interval '30 s';
begin
	while exists (select from pg_stat_activity where datname = current_database() and application_name = app) loop
		if clock_timestamp() > patience then
			raise exception 'a session of % does not end', app;
		end if;
		perform pg_sleep(0.001);
		perform pg_stat_clear_snapshot();
	end loop;
	return array(select part from ops where id = op order by part);
end $$;` + pgcmd.OnceSchema

// An op is one operation. Applied, it leaves the rows (ID, 1) to (ID, parts) in ops.
type op struct {
	ID     int64
	Schema int64 // names the objects whose definition changes before it, of a work that has them
	Mood   string
}

type part struct{ ID, Part int64 }

var (
	add      = pgcmd.Exec[part]("ops.add", `insert into ops (id, part) values (@id, @part)`)
	addFirst = pgcmd.Exec[op]("ops.first", `insert into ops (id, part) values (@id, 1)`)
	pick     = pgcmd.QueryOne[part, int64]("ops.pick", `insert into ops (id, part) values (@id, @part) returning part`)
	count    = pgcmd.QueryOne[op, int64]("ops.count", `select count(*) from ops where id = @id`)
	collide  = pgcmd.Exec[op]("ops.collide", `insert into late values (@id), (@id)`)
)

var errBody = errors.New("the body does not want to")

// A work is one kind of work.
type work struct {
	name  string
	run   func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any]
	parts int   // that it leaves if it is applied; 0 if it changes nothing
	value int64 // that it returns
	fails func(err error) bool
	// unit tells by which message the whole may have been applied: before that has left, nothing is unknown.
	unit    message
	once    bool
	replay  bool // an earlier run has applied it
	commits int32
	// Of a work whose schema changes between a first run and the one under the fault: SQL for what it is before, and
	// after. Its statements may fail once on a connection, and not at all if they may be tried again.
	before, after func(schema int64) string
	settings      []pgcmd.Setting // of the pool; nil: it has no Config.Settings
	single        bool            // it is never tried again
}

// A message is one that the client's socket looks out for.
type message int

const (
	noMessage message = iota // what changes nothing is never unknown
	byExecute
	byCommit
)

// of makes a work's run of a command.
func of[Out any](c *pgcmd.Command[op, Out]) func(context.Context, pgcmd.DB, op, pgcmd.Options) pgcmd.Outcome[any] {
	return func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
		r := pgcmd.Try(ctx, db, c.With(o), in)
		return pgcmd.Outcome[any]{Value: r.Value, Err: r.Err, Attempts: r.Attempts, Replayed: r.Replayed}
	}
}

// orZero is of for a command whose row is a pointer.
func orZero(c *pgcmd.Command[op, *int64]) func(context.Context, pgcmd.DB, op, pgcmd.Options) pgcmd.Outcome[any] {
	return func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
		r := of(c)(ctx, db, in, o)
		if n := r.Value.(*int64); n == nil {
			r.Value = int64(0)
		}
		return r
	}
}

// findsNone wants it to be known that nothing was changed.
func findsNone(err error) bool {
	return pgcmd.CodeOf(err) == pgcmd.CodeNotFound && pgcmd.EffectOf(err) == pgcmd.NotApplied
}

func transaction(name string, body func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error)) *pgcmd.Command[op, int64] {
	return pgcmd.Transaction("works."+name, body)
}

func key(in op) string { return strconv.FormatInt(in.ID, 10) }

func failsWith(state string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*pgcmd.Error](err)
		return ok && e.SQLState == state
	}
}

func failsInBody(err error) bool { return errors.Is(err, errBody) }

// committedKey leads to the counter of the runs of AfterCommit functions, an *atomic.Int32.
type committedKey struct{}

func countCommit(ctx context.Context) {
	if n, ok := ctx.Value(committedKey{}).(*atomic.Int32); ok {
		n.Add(1)
	}
}

// three is the transaction that most others are variants of.
var three = transaction("three", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
	for n := range int64(2) {
		if _, err := add.Run(ctx, tx, part{in.ID, n + 1}); err != nil {
			return 0, err
		}
	}
	return pick.Run(ctx, tx, part{in.ID, 3})
})

var viaNew = pgcmd.New("works.new", func(ctx context.Context, db pgcmd.DB, in op) (int64, error) {
	if _, err := addFirst.Run(ctx, db, in); err != nil {
		return 0, err
	}
	return pick.Run(ctx, db, part{in.ID, 2})
}).With(pgcmd.Options{InTx: true})

var strict = pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, Timeout: patience}

var works = slices.Concat(plainWorks, unreadableWorks, changedWorks(), settingsWorks)

var plainWorks = []work{
	{name: "a row", value: 3,
		run: of(pgcmd.QueryOne[op, int64]("works.row", `select count(*) + @id * 0 from fixed`).With(pgcmd.Options{ReadOnly: true}))},
	{name: "rows", value: 6,
		run: of(sum("works.rows", `select n from fixed where n > @id * 0`))},
	{name: "a statement that reads", value: 3,
		run: of(pgcmd.Exec[op]("works.reads", `select n from fixed where n > @id * 0`).With(pgcmd.Options{ReadOnly: true}))},
	{name: "a row, without ReadOnly", value: 3,
		run: of(pgcmd.QueryOne[op, int64]("works.plain", `select count(*) + @id * 0 from fixed`))},
	{name: "a row in a transaction of its own, without ReadOnly", value: 3,
		run: of(pgcmd.QueryOne[op, int64]("works.plain-tx", `select count(*) + @id * 0 from fixed`).With(pgcmd.Options{InTx: true}))},
	{name: "a lookup that finds no row", fails: findsNone,
		run: of(pgcmd.QueryOne[op, int64]("works.lookup", `select part from ops where id = -@id::int8`))},
	{name: "an update that finds no row", unit: byExecute, fails: findsNone,
		run: of(pgcmd.QueryOne[op, int64]("works.nowhere", `update ops set part = part + 1 where id = -@id::int8 returning part`))},
	{name: "an insert of no row", unit: byExecute, fails: findsNone,
		run: of(pgcmd.QueryOne[op, int64]("works.nothing", `insert into fixed select 1 + 0 * @id on conflict do nothing returning n`))},
	{name: "an update of a row or none", unit: byExecute, value: 0,
		run: orZero(pgcmd.QueryOne[op, *int64]("works.if-any", `update ops set part = part + 1 where id = -@id::int8 returning part`))},
	{name: "a statement that writes", unit: byExecute, parts: 1, value: 1,
		run: of(addFirst)},
	{name: "a row of a statement that writes", unit: byExecute, parts: 1, value: 1,
		run: of(pgcmd.QueryOne[op, int64]("works.returning", `insert into ops (id, part) values (@id, 1) returning part`))},
	{name: "a row of a variant that writes", unit: byExecute, parts: 1, value: 1,
		run: of(pgcmd.QueryOne[op, int64]("works.variant", `insert into ops (id, part) values (@id, /*= @mood `+mood+`: 1 */ 2 /*=*/) returning part`))},
	{name: "a row of SQL that a function makes", unit: byExecute, parts: 1, value: 1,
		run: of(pgcmd.QueryOneFunc[op, int64]("works.built", func(in op) (string, []any, error) {
			return `insert into ops (id, part) values ($1, 1) returning part`, []any{in.ID}, nil
		}))},
	{name: "a statement in a transaction of its own", unit: byCommit, parts: 1, value: 1,
		run: of(addFirst.With(pgcmd.Options{InTx: true}))},
	{name: "a function in a transaction of its own", unit: byCommit, parts: 2, value: 2,
		run: of(viaNew)},
	{name: "a transaction that reads", value: 0,
		run: of(transaction("reads", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := count.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			return count.Run(ctx, tx, in)
		}).With(pgcmd.Options{ReadOnly: true}))},
	{name: "three commands", unit: byCommit, parts: 3, value: 3,
		run: of(three)},
	{name: "three commands under a deadline", unit: byCommit, parts: 3, value: 3,
		run: of(three.With(strict))},
	{name: "calls of pgx", unit: byCommit, parts: 7, value: 7,
		run: of(transaction("pgx", pgxCalls))},
	{name: "SQL without arguments", unit: byCommit, parts: 1, value: 1,
		run: of(transaction("simple", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			tag, err := tx.Exec(ctx, `insert into ops values (`+key(in)+`, 1)`)
			return tag.RowsAffected(), err
		}))},
	{name: "a savepoint of pgx", unit: byCommit, parts: 2, value: 2,
		run: of(transaction("savepoint", func(ctx context.Context, tx *pgcmd.Tx, in op) (n int64, err error) {
			if _, err = addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			err = pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
				return nested.QueryRow(ctx, `insert into ops values ($1, 2) returning part`, in.ID).Scan(&n)
			})
			return n, err
		}))},
	{name: "a transaction that another joins", unit: byCommit, parts: 4, value: 3,
		run: of(transaction("nested", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := add.Run(ctx, tx, part{in.ID, 4}); err != nil {
				return 0, err
			}
			return three.Run(ctx, tx, in)
		}))},
	{name: "one that is tried", unit: byCommit, parts: 4, value: 3,
		run: of(transaction("try", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if err := pgcmd.Try(ctx, tx, add, part{in.ID, 4}).Err; err != nil {
				return 0, err
			}
			return pgcmd.Try(ctx, tx, three, in).Get()
		}))},
	{name: "one that is tried and fails", unit: byCommit, parts: 2, value: 2,
		run: of(transaction("try-failing", tryFailing))},
	{name: "a function after the commit", unit: byCommit, parts: 1, value: 1, commits: 1,
		run: of(afterCommit)},
	{name: "a body that fails", fails: failsInBody,
		run: of(transaction("fails", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := three.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			return 0, errBody
		}))},
	{name: "a body with a statement that is refused", fails: failsWith("23514"),
		run: of(transaction("refused", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			return add.Run(ctx, tx, part{in.ID, -1})
		}))},
	{name: "a body that swallows an error", fails: failsWith("23514"),
		run: of(transaction("swallows", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			_, _ = addFirst.Run(ctx, tx, in)
			_, _ = add.Run(ctx, tx, part{in.ID, -1})
			return 1, nil
		}))},
	{name: "a commit that is refused", unit: byCommit, fails: failsWith("23505"),
		run: of(transaction("late", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			return collide.Run(ctx, tx, in)
		}))},
	{name: "once", unit: byCommit, once: true, parts: 3, value: 3,
		run: of(pgcmd.Once(three, key))},
	{name: "once with a function after the commit", unit: byCommit, once: true, parts: 1, value: 1, commits: 1,
		run: of(pgcmd.Once(afterCommit, key).With(strict))},
	{name: "a statement once", unit: byCommit, once: true, parts: 1, value: 1,
		run: of(pgcmd.Once(addFirst, key))},
	{name: "a function once", unit: byCommit, once: true, parts: 2, value: 2,
		run: of(pgcmd.Once(viaNew, key))},
	{name: "once again", unit: byCommit, once: true, replay: true, parts: 3, value: 3,
		run: of(pgcmd.Once(three.With(pgcmd.Options{}), key))},
}

// sum makes a Query look like the others.
func sum(name, sql string) *pgcmd.Command[op, int64] {
	query := pgcmd.Query[op, int64](name, sql).With(pgcmd.Options{ReadOnly: true})
	return pgcmd.New(name, func(ctx context.Context, db pgcmd.DB, in op) (total int64, err error) {
		rows, err := query.Run(ctx, db, in)
		for _, n := range rows {
			total += n
		}
		return total, err
	}).With(pgcmd.Options{ReadOnly: true})
}

// pgxCalls is a body as somebody wrote it for pgx.
func pgxCalls(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
	const insert = `insert into ops values ($1, $2)`
	if _, err := tx.Exec(ctx, insert, in.ID, 1); err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, insert+` returning part`, in.ID, 2)
	if err != nil {
		return 0, err
	}
	if _, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return 0, err
	}
	batch := &pgx.Batch{}
	batch.Queue(insert, in.ID, 3)
	batch.Queue(insert, in.ID, 4)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, err
	}
	copied := pgx.CopyFromRows([][]any{{in.ID, int64(5)}, {in.ID, int64(6)}})
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"ops"}, []string{"id", "part"}, copied); err != nil {
		return 0, err
	}
	var n int64
	return 7, tx.QueryRow(ctx, insert+` returning part`, in.ID, 7).Scan(&n)
}

func tryFailing(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
	if _, err := addFirst.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	failing := transaction("inner", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
		if _, err := add.Run(ctx, tx, part{in.ID, 9}); err != nil {
			return 0, err
		}
		return add.Run(ctx, tx, part{in.ID, -1})
	})
	if err := pgcmd.Try(ctx, tx, failing, in).Err; err == nil || !failsWith("23514")(err) {
		return 0, errors.Join(errBody, err)
	}
	return pick.Run(ctx, tx, part{in.ID, 2})
}

var afterCommit = transaction("after", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
	tx.AfterCommit(countCommit)
	return addFirst.Run(ctx, tx, in)
})
