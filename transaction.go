package pgcmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Transaction makes a command whose body runs in a transaction of its own: begun
// before it, committed if it returns no error, rolled back if it returns one or
// panics. On a DB that is a transaction already it joins that one, and shares its
// fate.
//
// BEGIN travels with the first statement, and costs no round trip. COMMIT runs on
// a context of its own, so that a caller's cancellation never tears it: the Effect
// of an error is NotApplied, unless the reply to COMMIT was lost. An attempt that
// failed can be repeated whole by Options.Retry, so the body should have no effect
// outside of tx but by [Tx.AfterCommit].
//
// A statement error that aborted the transaction on the server makes the run fail
// with that error, even if the body swallowed it; use [Command.Try] to let one
// statement fail alone.
func Transaction[In, Out any](name string, body func(ctx context.Context, tx *Tx, in In) (Out, error)) *Command[In, Out] {
	if body == nil {
		panic(fmt.Sprintf("pgcmd: %s: the body is nil", name))
	}
	c := newCommand(name, func(ctx context.Context, db DB, in In) (Out, error) {
		return body(ctx, db.(*Tx), in)
	})
	return c.edit(func(c *Command[In, Out]) { c.begins = true })
}

// checkTxOptions panics on options that pgx would put into its BEGIN as they are.
func checkTxOptions(command string, o pgx.TxOptions) {
	reject := func(what string, value any) {
		panic(fmt.Sprintf("pgcmd: %s: Options.Tx has the unknown %s %q: use pgx's constants", command, what, value))
	}
	if !slices.Contains([]pgx.TxIsoLevel{"", pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted}, o.IsoLevel) {
		reject("isolation level", o.IsoLevel)
	}
	if !slices.Contains([]pgx.TxAccessMode{"", pgx.ReadWrite, pgx.ReadOnly}, o.AccessMode) {
		reject("access mode", o.AccessMode)
	}
	if !slices.Contains([]pgx.TxDeferrableMode{"", pgx.Deferrable, pgx.NotDeferrable}, o.DeferrableMode) {
		reject("deferrable mode", o.DeferrableMode)
	}
	if o.BeginQuery != "" || o.CommitQuery != "" {
		panic(fmt.Sprintf("pgcmd: %s: Options.Tx sets BeginQuery or CommitQuery: pgcmd must know how a transaction begins and ends", command))
	}
}

// beginSQL is the statement that begins a transaction. Its options were checked.
func beginSQL(o pgx.TxOptions) string {
	sql := "begin"
	if o.IsoLevel != "" {
		sql += " isolation level " + string(o.IsoLevel)
	}
	if o.AccessMode != "" {
		sql += " " + string(o.AccessMode)
	}
	if o.DeferrableMode != "" {
		sql += " " + string(o.DeferrableMode)
	}
	return sql
}

// isolation orders the levels by what they promise; PostgreSQL reads uncommitted
// as committed.
func isolation(level pgx.TxIsoLevel) int {
	switch level {
	case pgx.RepeatableRead:
		return 1
	case pgx.Serializable:
		return 2
	}
	return 0
}
