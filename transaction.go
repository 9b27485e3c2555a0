package pgcmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Transaction makes a command whose body runs in a transaction of its own, which is committed
// if the body returns no error, and rolled back if it returns one or panics. On a DB that is
// a transaction the body runs in that transaction, and is committed or rolled back with it.
//
// BEGIN is sent with the first statement, and costs no round trip. The caller's cancellation
// does not interrupt COMMIT: the Effect of an error is NotApplied, unless the reply to COMMIT
// was lost. Options.Retry repeats the whole transaction, so the body should have no effects
// outside of tx except by [Tx.AfterCommit].
//
// An error of a statement that aborted the transaction on the server makes the run fail with
// that error, even if the body ignored it. Use [Try] for a statement that may fail.
func Transaction[In, Out any](name string, body func(ctx context.Context, tx *Tx, in In) (Out, error)) *Command[In, Out] {
	return &Command[In, Out]{define(name, true, (*In)(nil), (*Out)(nil), body == nil, func(ctx context.Context, db DB, in, out any) error {
		value, err := body(ctx, db.(*Tx), *in.(*In))
		if err == nil {
			*out.(*Out) = value
		}
		return err
	})}
}

// runTx runs the body in a transaction: in db if that is one, else in a transaction of its own.
// It returns the AfterCommit functions, once that is committed.
func (c *definition) runTx(ctx context.Context, db DB, inv *invocation, key *idempotencyKey) (after []func(context.Context), failure *Error) {
	target := resolve(db)
	if tx := target.join(); tx != nil {
		if _, ours := db.(*Tx); !ours { // the Tx was made for this body
			defer tx.s.Close()
			defer tx.s.CloseRows()
		}
		return nil, c.joinTx(ctx, tx, inv, key)
	}
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err).prefixCommand(c.name)
	}
	settings, failure := target.own.settingsFor(ctx)
	if failure != nil {
		return nil, failure.prefixCommand(c.name)
	}
	l, failure := target.acquire(ctx, &c.name, c.opts.ReadOnly)
	if failure != nil {
		return nil, failure.prefixCommand(c.name)
	}
	defer l.release()
	tx := begin(ctx, l.conn, target.pool, c.txOptions(), settings)
	if target.own != nil {
		tx.s.commitTimeout = target.own.config.CommitTimeout
	}
	tx.s.limits, tx.s.reads = target.limits(), c.onlyReads
	defer func() {
		if !tx.s.Closed() { // a panic, or Goexit
			tx.s.Rollback(ctx)
		}
	}()
	tx.s.mayPiggybackCommit = c.batch != nil && key == nil && len(c.after) == 0
	failure = c.runIdempotent(tx.s.inside(ctx), tx, inv, key)
	switch {
	case tx.s.commitSent && failure == nil:
		if tx.s.unreplicated {
			inv.unreplicated = true
		}
		return tx.afterCommit, nil
	case tx.s.commitSent:
		return nil, failure
	case failure != nil:
		tx.s.Rollback(ctx)
		tx.s.rollbackError(failure)
		return nil, failure
	}
	if failure := tx.s.commit(ctx); failure != nil {
		failure.noRetry = failure.noRetry || tx.s.inputConsumed
		if key != nil && failure.Effect == Unknown {
			key.lost = tx.afterCommit
		}
		return nil, c.mapConstraint(failure.prefixCommand(c.name))
	}
	if tx.s.unreplicated {
		inv.unreplicated = true
	}
	if key != nil && !key.inserted && !key.replayed {
		return key.lost, nil // this run's own attempt had committed
	}
	return tx.afterCommit, nil
}

// runIdempotent runs the body, in a Once between the insertion of its key and the storing of
// its result.
func (c *definition) runIdempotent(ctx context.Context, tx *Tx, inv *invocation, key *idempotencyKey) *Error {
	if key == nil {
		return c.runBody(ctx, tx, inv)
	}
	found, failure := key.insertKey(ctx, tx, inv.out)
	switch {
	case failure != nil:
		return failure.prefixCommand(c.name)
	case found:
		return nil
	}
	if failure := c.runBody(ctx, tx, inv); failure != nil {
		return failure
	}
	if failure := key.storeResult(ctx, tx, c, inv.out); failure != nil {
		return failure.prefixCommand(c.name)
	}
	return nil
}

// joinTx runs the body in a transaction that the caller began, and ends.
func (c *definition) joinTx(ctx context.Context, tx *Tx, inv *invocation, key *idempotencyKey) *Error {
	if err := tx.level.Usable(ctx); err != nil {
		return newUnsentError(ctx, err).prefixCommand(c.name)
	}
	if e := tx.s.checkCompatible(c); e != nil {
		return c.notSentError(e)
	}
	if c.opts.Timeout > 0 {
		defer tx.s.LimitTimeout(ctx)()
	}
	failure := c.runIdempotent(ctx, tx, inv, key)
	if failure == nil && tx.s.State.Misused != nil && tx.s.External {
		e := *tx.s.State.Misused.(*Error)
		failure = e.prefixCommand(c.name)
	}
	switch {
	case failure == nil:
	case tx.s.MustRollBack():
		failure.Effect = NotApplied // it can no longer be committed
	case tx.s.OutcomeUnproven():
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

// checkTxOptions panics on options that are not constants of pgx: they become part of BEGIN.
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

// beginSQL returns the statement that begins a transaction. The options were checked.
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

// isolationRank orders the isolation levels by strength. In PostgreSQL read uncommitted is read
// committed.
func isolationRank(level pgx.TxIsoLevel) int {
	switch level {
	case pgx.RepeatableRead:
		return 1
	case pgx.Serializable:
		return 2
	}
	return 0
}
