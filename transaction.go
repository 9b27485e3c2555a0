package pgcmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Transaction makes a command whose body runs in a transaction of its own: begun
// before it, committed if it returns no error, rolled back if it returns one or
// panics. On a DB that is a transaction already it joins that one, and ends
// with it.
//
// BEGIN is sent with the first statement, and costs no round trip. COMMIT runs on
// a context of its own, so that a caller's cancellation never tears it: the Effect
// of an error is NotApplied, unless the reply to COMMIT was lost. An attempt that
// failed can be repeated whole by Options.Retry, so the body should have no effect
// outside of tx but by [Tx.AfterCommit].
//
// A statement error that aborted the transaction on the server makes the run fail
// with that error, even if the body swallowed it; use [Try] to let one
// statement fail alone.
func Transaction[In, Out any](name string, body func(ctx context.Context, tx *Tx, in In) (Out, error)) *Command[In, Out] {
	return &Command[In, Out]{define(name, true, (*In)(nil), (*Out)(nil), body == nil, func(ctx context.Context, db DB, in, out any) error {
		value, err := body(ctx, db.(*Tx), *in.(*In))
		if err == nil {
			*out.(*Out) = value
		}
		return err
	})}
}

// runTx runs work in a transaction: one that db is already, or one of its own.
// It returns the functions to be run now that it has committed.
func (c *definition) runTx(ctx context.Context, db DB, inv *invocation, cl *idempotencyKey) (after []func(context.Context), failure *Error) {
	target := resolve(db)
	if tx := target.join(); tx != nil {
		if _, ours := db.(*Tx); !ours { // it is for this body alone
			defer tx.s.closed.Store(true)
			defer tx.s.closeRows()
		}
		return nil, c.joinTx(ctx, tx, inv, cl)
	}
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err).prefixCommand(c.name)
	}
	l, failure := target.acquire(ctx, &c.name, c.opts.ReadOnly)
	if failure != nil {
		return nil, failure.prefixCommand(c.name)
	}
	defer l.release()
	tx := begin(ctx, l.conn, target.pool, c.txOptions())
	tx.s.commitTimeout = target.commitTimeout()
	tx.s.limits = target.limits()
	defer func() {
		if !tx.s.closed.Load() { // a panic, or Goexit
			tx.s.rollback(ctx)
		}
	}()
	tx.s.mayPiggybackCommit = c.batch != nil && cl == nil && len(c.after) == 0
	failure = c.runIdempotent(insideTx(ctx, tx.s), tx, inv, cl)
	switch {
	case tx.s.commitSent && failure == nil:
		if tx.s.unreplicated {
			inv.unreplicated = true
		}
		return tx.after, nil
	case tx.s.commitSent:
		return nil, failure
	case failure != nil:
		tx.s.rollback(ctx)
		tx.s.rollbackError(failure)
		return nil, failure
	}
	if failure := tx.s.commit(ctx); failure != nil {
		failure.noRetry = failure.noRetry || tx.s.inputConsumed
		if cl != nil && failure.Effect == Unknown {
			cl.lost = tx.after
		}
		return nil, c.mapConstraint(failure.prefixCommand(c.name))
	}
	if tx.s.unreplicated {
		inv.unreplicated = true
	}
	if cl != nil && !cl.inserted && !cl.replayed {
		return cl.lost, nil // this run's own attempt had committed
	}
	return tx.after, nil
}

// runIdempotent is work between the claim of a Once and the storing of its result.
func (c *definition) runIdempotent(ctx context.Context, tx *Tx, inv *invocation, cl *idempotencyKey) *Error {
	if cl == nil {
		return c.runBody(ctx, tx, inv)
	}
	found, failure := cl.insertKey(ctx, tx, inv.out)
	switch {
	case failure != nil:
		return failure.prefixCommand(c.name)
	case found:
		return nil
	}
	if failure := c.runBody(ctx, tx, inv); failure != nil {
		return failure
	}
	if failure := cl.storeResult(ctx, tx, c, inv.out); failure != nil {
		return failure.prefixCommand(c.name)
	}
	return nil
}

// joinTx runs work in a transaction that has begun, and ends with somebody else.
func (c *definition) joinTx(ctx context.Context, tx *Tx, inv *invocation, cl *idempotencyKey) *Error {
	if err := tx.usable(ctx); err != nil {
		return newUnsentError(ctx, err).prefixCommand(c.name)
	}
	if e := tx.s.checkCompatible(c.opts); e != nil {
		return c.notSentError(e)
	}
	if c.opts.Timeout > 0 {
		defer tx.s.limitTimeout(ctx)()
	}
	failure := c.runIdempotent(ctx, tx, inv, cl)
	if failure == nil && tx.s.misused != nil && tx.s.external {
		e := *tx.s.misused
		failure = e.prefixCommand(c.name)
	}
	switch {
	case failure == nil:
	case tx.s.mustRollBack():
		failure.Effect = NotApplied // it cannot be committed any more
	case tx.s.outcomeUnproven():
		failure.Effect = Unknown
	}
	return failure
}

func (c *definition) txOptions() pgx.TxOptions {
	o := c.opts.Tx
	if c.opts.ReadOnly && o.AccessMode == "" {
		o.AccessMode = pgx.ReadOnly
	}
	return o
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
