package pgcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
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
	tx := beginTx(ctx, l.conn, target.pool, c.txOptions(), settings)
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
		inv.unreplicated = inv.unreplicated || tx.s.unreplicated
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
	inv.unreplicated = inv.unreplicated || tx.s.unreplicated
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

const noReplyToCommit = "COMMIT was sent, and no reply came: it may or may not be applied"

// commit ends the transaction, and returns nil if and only if it is committed.
func (s *serverTx) commit(ctx context.Context) *Error {
	if e := s.mayCommit(ctx); e != nil {
		s.Rollback(ctx)
		e.Effect = NotApplied
		if s.OutcomeUnproven() {
			e.Effect, e.noRetry = Unknown, true
		}
		return e
	}
	s.Close()
	if !s.BeginSent {
		return nil // nothing was sent
	}
	before, counted := connpool.Sent(s.Conn)
	tag, err := s.sendCommit(ctx)
	if err == nil && tag.String() == "COMMIT" {
		return nil
	}
	if err == nil {
		return answeredRollback()
	}
	after, _ := connpool.Sent(s.Conn)
	return s.commitFailed(ctx, err, counted && after == before)
}

// sendCommit sends COMMIT, and returns the tag of the server's reply.
func (s *serverTx) sendCommit(ctx context.Context) (tag pgconn.CommandTag, err error) {
	tag, s.unreplicated, err = pgcommit.Send(ctx, s.Conn, stmtcache.ConfigOf(s.Conn), s.commitTimeout)
	return tag, err
}

// mayCommit returns nil, or the error of a transaction that cannot be committed although its
// body returned no error.
func (s *serverTx) mayCommit(ctx context.Context) *Error {
	swallowed := func(err error, message string) *Error {
		e := classify(ctx, err)
		s.explainReadOnly(e)
		e.Message = message + ": " + e.Message
		return e
	}
	s.VerifyMarker()
	switch {
	case s.CloseRows():
		return &Error{Code: CodeInternal, Message: "the body left rows open, whose error is lost: close them, and return their Err"}
	case s.InUse():
		return &Error{Code: CodeInternal, Message: "the body left a batch open, whose error is lost: close it, and return the error of Close"}
	case s.State.Misused != nil:
		e := *s.State.Misused.(*Error)
		return &e
	case s.State.Unrecoverable:
		return swallowed(s.State.Err, "the body went on after an error that ends the transaction")
	case s.State.EndedBySQL || s.BeginSent && s.Status() == 'I':
		s.State.EndedBySQL = true
		e := *s.Errors.EndedBySQL.(*Error)
		if s.State.ConnLost != nil {
			e.Message, e.Err = "the connection was lost after the body had used the transaction's Conn: what it did may be applied", s.State.ConnLost
		}
		return &e
	case s.State.Aborted && s.Status() != 'T':
		return swallowed(s.State.Err, "the body swallowed the error that aborted the transaction")
	case s.BeginSent && s.Status() == 'E':
		return &Error{Code: CodeInternal, Message: "the transaction was aborted, and the body swallowed the error: return it"}
	case s.State.ConnLost != nil:
		e := swallowed(s.State.ConnLost, "the body swallowed the error with which the connection was lost")
		if e.SQLState == "" && e.Code == CodeFailed {
			e.Code, e.Message = CodeUnavailable, "the body went on after the connection was lost"
		}
		return e
	case s.Conn.IsClosed():
		return &Error{Code: CodeUnavailable, Message: "the connection was closed before COMMIT"}
	case ctx.Err() != nil:
		e := classify(ctx, ctx.Err())
		e.Message += " before COMMIT"
		return e
	}
	return nil
}

// answeredRollback makes the error of a COMMIT that the server answered with ROLLBACK.
func answeredRollback() *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied, Err: pgx.ErrTxCommitRollback,
		Message: "the server answered COMMIT with ROLLBACK: an earlier statement failed, and its error was ignored"}
}

// commitFailed makes the error of a COMMIT that failed. unsent is true if it was not sent.
func (s *serverTx) commitFailed(ctx context.Context, err error, unsent bool) *Error {
	e := classify(context.WithoutCancel(ctx), err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case s.changesNothing():
		e.Effect = NotApplied
	case answered && sqlstate.IsDefinite(pgErr) && !strings.HasPrefix(pgErr.Code, "XX"), unsent:
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
	}
	if !answered {
		if s.changesNothing() {
			e.Code, e.Message = CodeUnavailable, "there was no reply to the COMMIT of a transaction that only read"
		} else if e.Effect == NotApplied {
			e.Code, e.Message = CodeUnavailable, "the connection failed before COMMIT was sent"
		} else {
			e.Code, e.Message = CodeUnknownEffect, noReplyToCommit
		}
	}
	e.reconcileCode()
	if s.Status() != 'I' {
		pgcommit.Close(s.Conn)
	}
	return e
}

// changesNothing reports whether the transaction only reads.
func (s *serverTx) changesNothing() bool { return s.reads || s.Options.AccessMode == pgx.ReadOnly }

// effectAfterCommit is the Effect of an error that came after COMMIT.
func (s *serverTx) effectAfterCommit() Effect {
	if s.changesNothing() {
		return NotApplied
	}
	return Applied
}

// rollbackError completes the error of a body, after its transaction was rolled back.
func (s *serverTx) rollbackError(e *Error) {
	e.Effect = NotApplied
	s.explainReadOnly(e)
	e.noRetry = e.noRetry || s.inputConsumed
	e.outdated = e.outdated || s.Outdated != nil && errors.Is(e.Err, s.Outdated)
	defer e.reconcileCode()
	if s.pool != nil && s.Options.AccessMode != pgx.ReadOnly {
		discardConn(s.Conn, e)
	}
	switch {
	case s.OutcomeUnproven():
		e.Effect, e.noRetry = Unknown, true
	case s.State.ConnLost != nil && e.SQLState == "" && errors.Is(e.Err, s.State.ConnLost):
		if e.Code == CodeFailed || e.Code == CodeUnknownEffect {
			e.Code, e.Message = CodeUnavailable, "the connection failed in the transaction"
		}
	}
}

// errUnreplicated is returned by a body together with its output, as a warning: the body's
// work is committed, and the synchronous standby did not confirm it.
var errUnreplicated = errors.New("pgcmd: committed, but the synchronous standby has not got it")

// countUnreplicated makes the connections of cfg count their commits that the standby did
// not confirm.
func countUnreplicated(cfg *pgconn.Config) {
	hook := cfg.OnNotice
	cfg.OnNotice = func(pg *pgconn.PgConn, n *pgconn.Notice) {
		if pgcommit.LacksStandby(n) {
			connpool.OfPgConn(pg).AddUnreplicated()
		}
		if hook != nil {
			hook(pg, n)
		}
	}
}

// warning returns errUnreplicated if the standby did not confirm the statement. It is called
// after the statement has ended.
func (r *result) warning() error {
	if r.netConn != nil && r.netConn.Unreplicated() != r.unreplicated {
		return errUnreplicated
	}
	return nil
}
