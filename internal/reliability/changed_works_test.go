package reliability_test

import (
	"context"
	"fmt"

	"github.com/pgcmd/pgcmd"
)

// mood is a value of the parameters whose type changes: a label of an enum, a text, a uuid.
const mood = "6b0c4c4e-3f0e-4d53-9c5f-0a3a4a6f7a11"

// A change is what a migration does under a statement that was prepared before it: before and after are SQL with the
// number of the objects for %[1]d, and so is the statement, which writes the part 1 of an op and returns 1.
type change struct{ name, before, after, statement string }

var changes = []change{
	{"a function is replaced",
		`create function part_%[1]d(n int4) returns int4 language sql as 'select n'`,
		`drop function part_%[1]d(int4); create function part_%[1]d(n int8) returns int8 language sql as 'select n'`,
		`insert into ops (id, part) values (@id, part_%[1]d('1')) returning part_%[1]d('1')`},
	{"an enum is created again",
		`create type mood_%[1]d as enum ('` + mood + `', 'two')`,
		`drop type mood_%[1]d; create type mood_%[1]d as enum ('two', '` + mood + `')`,
		`insert into ops (id, part) values (@id, length(@mood::mood_%[1]d::text) - 35) returning part`},
	{"a parameter gets another type",
		`create table key_%[1]d (k text primary key); insert into key_%[1]d values ('` + mood + `')`,
		`alter table key_%[1]d alter k type uuid using k::uuid`,
		`insert into ops (id, part) select @id, 1 from key_%[1]d where k = @mood returning part`},
}

// changedWorks are works under which the schema changes between two runs. The first run has prepared the statements.
// Every change is tried by a statement and in a transaction; the other ways share the changes among them.
func changedWorks() (all []work) {
	for nth, c := range changes {
		command := func(in op) *pgcmd.Command[op, int64] {
			return pgcmd.QueryOne[op, int64]("works.changed", fmt.Sprintf(c.statement, in.Schema))
		}
		for way, w := range []work{
			{name: "a statement", unit: byExecute,
				run: func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
					return of(command(in))(ctx, db, in, o)
				}},
			{name: "a transaction", unit: byCommit,
				run: func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
					return of(transaction("changed", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
						return command(in).Run(ctx, tx, in)
					}))(ctx, db, in, o)
				}},
			{name: "a stream in a transaction", unit: byCommit,
				run: func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
					rows := pgcmd.Query[op, int64]("works.changed", fmt.Sprintf(c.statement, in.Schema))
					return of(transaction("changed", func(ctx context.Context, tx *pgcmd.Tx, in op) (n int64, err error) {
						for n, err = range pgcmd.Stream(ctx, tx, rows, in) {
							if err != nil {
								return 0, err
							}
						}
						return n, nil
					}))(ctx, db, in, o)
				}},
			{name: "an atomic batch", unit: byCommit, run: changedBatch(command, pgcmd.Atomic)},
			{name: "an isolated batch", unit: byCommit, run: changedBatch(command, pgcmd.Isolated)},
			{name: "an independent batch", unit: byExecute, run: changedBatch(command, pgcmd.Independent)},
		} {
			if way >= 2 && way%len(changes) != nth {
				continue
			}
			w.name = c.name + " under " + w.name
			w.parts, w.value = 1, 1
			w.before = func(n int64) string { return fmt.Sprintf(c.before, n) }
			w.after = func(n int64) string { return fmt.Sprintf(c.after, n) }
			all = append(all, w)
		}
	}
	return all
}

// changedBatch makes a work's run of a batch of one item.
func changedBatch(command func(in op) *pgcmd.Command[op, int64], mode pgcmd.BatchMode) func(context.Context, pgcmd.DB, op, pgcmd.Options) pgcmd.Outcome[any] {
	return func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
		r := pgcmd.Try(ctx, db, pgcmd.Batch(command(in), mode).With(o), []op{in})
		out := pgcmd.Outcome[any]{Err: r.Err, Attempts: r.Attempts}
		if out.Err == nil {
			item := r.Value.Outcomes[0]
			out.Value, out.Err = item.Value, item.Err
		}
		return out
	}
}
