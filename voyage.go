package pgcmd

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A leg is one chunk of a flight within a transaction, and what came of it.
type chunkRun struct {
	f                 *batchExec
	s                 *txn
	commit            bool   // COMMIT travels with the chunk
	perItemSavepoints bool   // each item is under a savepoint of its own
	culprit           int    // the first item that failed; -1 if none, or if the failure is nobody's
	failure           *Error // of the item, or of all
}

// atomic carries the items in the transaction, and stops at the first that fails.
// It tells which that was, or -1 if the failure is that of no item. With finish the
// transaction ends with the last chunk, if the items allow it.
func (f *batchExec) atomic(tx *Tx, items []int, finish bool, done func(left int)) (culprit int, failure *Error) {
	for len(items) > 0 {
		culprit = -1
		chunk, rest, err := f.encodeChunk(items, func(i int, e *Error) bool {
			culprit, failure = i, e
			return false
		})
		if err != nil {
			culprit, failure = f.describeFailed(err)
			tx.s.recordResult(err)
		}
		if failure != nil {
			return culprit, failure
		}
		l := &chunkRun{f: f, s: tx.s, culprit: -1, commit: finish && len(rest) == 0}
		if l.run(chunk); l.failure != nil {
			return l.culprit, l.failure
		}
		done(len(rest))
		items = rest
	}
	return -1, nil
}

// run sends the chunk and reads the replies.
func (l *chunkRun) run(chunk []encodedItem) {
	w := l.f.newExchange(l.commit)
	defer w.close()
	l.sendDeferred(w)
	for i := range chunk {
		w.send(&chunk[i])
	}
	if l.commit {
		w.commit()
	} else {
		w.sync()
	}
	w.flush()
	refused := false
	var more []int // that the client cannot read, beside the culprit
	var theirs []*Error
	l.read(w, func(i int, e *Error, unreadable bool) {
		switch {
		case l.failure == nil:
			l.culprit, l.failure, refused = i, e, !unreadable
		case !refused && !unreadable: // that is why nothing is applied
			l.culprit, l.failure, refused = i, e.after(l.failure), true
		case unreadable:
			more, theirs = append(more, i), append(theirs, e)
		}
	})
	if l.s.commitSent && l.culprit >= 0 { // the client cannot read it, and it is there all the same
		l.failure.Effect = l.isKept()
		for n, i := range more {
			theirs[n].Effect = l.failure.Effect
			l.f.items.fail(i, theirs[n])
		}
	}
}

// isKept is the Effect of what failed after COMMIT.
func (l *chunkRun) isKept() Effect {
	if l.s.options.AccessMode == pgx.ReadOnly {
		return NotApplied
	}
	return Applied
}

// sendDeferred queues what waits for company: BEGIN, RELEASE.
func (l *chunkRun) sendDeferred(w *exchange) {
	for _, q := range l.s.deferred {
		w.sendInternal(internalReply, q.sql, q.args...)
	}
	l.s.deferred = nil
}

// read reads the replies of a wave. bad is called for every item that failed:
// spoilt, if it worked and the client cannot use what it returned. What fails all
// of them goes into l.failure.
func (l *chunkRun) read(w *exchange, bad func(i int, e *Error, spoilt bool)) {
	refused := false // an item, so that all up to the Sync was skipped: a COMMIT, too
	var first error  // that the transaction has to know of
	for {
		x, rows, err, ok := w.next()
		if !ok {
			break
		}
		if err == nil {
			l.s.beginSent = true
		}
		switch x.kind {
		case itemReply:
			var spoilt *Error
			if err == nil {
				spoilt, err = w.read(x.item.item, rows)
			}
			switch {
			case w.lost != nil:
			case err != nil:
				if l.s.aborted != nil && isInFailedTransaction(err) {
					err = l.s.aborted // the reason, and not its consequence
				}
				refused = refused || !l.perItemSavepoints
				bad(x.item.item, l.f.itemError(x.item.item, err).after(spoilt), false)
				if first == nil && !l.perItemSavepoints {
					first = err
				}
			case spoilt != nil:
				bad(x.item.item, spoilt, true)
			}
		case commitReply:
			l.committed(rows, err)
		default:
			if err != nil && l.failure == nil {
				l.failure = newUnsentError(l.f.ctx, err)
				if l.perItemSavepoints && l.failure.invalidatesConn() {
					stmtcache.OnConn(l.f.conn).SavepointsPrepared = false // somebody has deallocated them
				}
				first = err
			}
		}
	}
	w.close() // only now is the transaction's status known
	switch {
	case w.lost != nil:
		l.lost(w, refused)
	case first != nil && l.s.aborted == nil:
		l.s.recordResult(first)
	}
	if l.s.commitSent {
		l.s.closed.Store(true)
	}
}

// committed takes the reply of the COMMIT that travelled along.
func (l *chunkRun) committed(rows resultRows, err error) {
	var tag pgconn.CommandTag
	if err == nil {
		rows.Close()
		tag, err = rows.CommandTag(), rows.Err()
	}
	l.s.commitSent = true
	switch {
	case err != nil:
		l.culprit, l.failure = -1, l.s.commitFailed(l.f.ctx, err, false).after(l.failure)
	case tag.String() != "COMMIT":
		l.culprit, l.failure = -1, answeredRollback().after(l.failure)
	}
}

// lost is the failure of all: the connection went.
func (l *chunkRun) lost(w *exchange, refused bool) {
	l.s.recordResult(w.lost)
	if l.failure != nil && refused || l.s.commitSent {
		return // what is known is known
	}
	e := w.connError()
	switch {
	case l.s.options.AccessMode == pgx.ReadOnly, w.unsent(), refused, !l.commit:
		e.Effect = NotApplied
	default:
		e.Effect, l.s.commitSent = Unknown, true
		if e.Code == CodeUnavailable {
			e.Message = noReplyToCommit
		}
	}
	e.reconcileCode()
	l.culprit, l.failure = -1, e
}

// connError is the error of a connection that went.
func (w *exchange) connError() *Error {
	e, _ := (&statement{}).classifyStatement(w.f.ctx, w.lost)
	if w.bytes > 0 && refusedLength(w.lost) {
		e = tooManyBytes(w.bytes)
		e.Err = w.lost
	}
	return e
}

// itemError is the error of an item that the server refused.
func (f *batchExec) itemError(i int, err error) *Error {
	s := f.items.statement(i)
	e, _ := s.classifyStatement(f.ctx, err)
	e.Effect = NotApplied
	invalidateAfter(f.conn, s.text.SQL, err)
	e.outdated = s.isOutdated(f.conn, err)
	return e
}

// describeFailed is the error of an item that the server cannot describe, or of a
// connection that went meanwhile.
func (f *batchExec) describeFailed(err error) (culprit int, e *Error) {
	d := err.(*describeError)
	e = f.itemError(d.item, d.err)
	if _, answered := errors.AsType[*pgconn.PgError](d.err); answered && !f.conn.IsClosed() {
		return d.item, e
	}
	return -1, e
}

// isolated carries the items in the transaction, each as if under a savepoint of its
// own. Those that fail are told so; the failure that it returns is that of all.
func (f *batchExec) isolated(tx *Tx, items []int, finish bool, done func(left int)) *Error {
	for len(items) > 0 {
		chunk, rest, err := f.encodeChunk(items, func(i int, e *Error) bool {
			f.items.fail(i, e)
			return true
		})
		if err != nil {
			_, failure := f.describeFailed(err)
			tx.s.recordResult(err)
			return failure
		}
		if len(chunk) > 0 {
			if failure := f.runChunkIsolated(tx, chunk, finish && len(rest) == 0); failure != nil {
				return failure
			}
		}
		done(len(rest))
		items = rest
	}
	return nil
}

// runChunkIsolated carries one chunk under one savepoint. A chunk that held a bad item is rolled
// back and repeated, each item under its own: so that good ones cost no
// subtransactions.
func (f *batchExec) runChunkIsolated(tx *Tx, chunk []encodedItem, commit bool) *Error {
	s := tx.s
	outer := s.savepointName()
	going := make([]*encodedItem, len(chunk))
	for i := range chunk {
		going[i] = &chunk[i]
	}
	described := false
	for healing, again := false, false; ; again = true {
		l := &chunkRun{f: f, s: s, culprit: -1, commit: commit, perItemSavepoints: healing}
		doomed, refused, outdated := false, false, false
		var spoilt []int
		l.sendChunk(going, outer, again, func(i int, e *Error, readable bool) {
			switch {
			case readable && !l.commit: // and to be undone
				e.Effect = NotApplied
				f.items.fail(i, e)
				spoilt = append(spoilt, i)
			case readable:
				e.Effect = l.isKept()
				f.items.fail(i, e)
			case healing:
				f.items.fail(i, e)
			case !refused:
				refused, outdated = true, e.outdated
				doomed = e.SQLState == serializationFailure || e.SQLState == deadlockDetected
				if doomed && l.failure == nil {
					l.failure = e
				}
			}
		})
		switch {
		case l.failure != nil:
			return l.failure
		case !refused && len(spoilt) == 0:
			if !s.commitSent {
				s.deferred = append(s.deferred, deferredStmt{sql: "release savepoint " + outer})
			}
			return nil
		}
		s.aborted = nil
		going = slices.DeleteFunc(going, func(l *encodedItem) bool { return slices.Contains(spoilt, l.item) })
		if outdated && !described {
			described = true
			var failure *Error
			if going, failure = f.encodeChunkAgain(s, going, outer); failure != nil {
				return failure
			}
			continue
		}
		healing = healing || refused
	}
}

// encodeChunkAgain rolls the transaction back to a savepoint, and encodes the items for what
// the server says of their statements now: the schema has changed since they were
// described. Those that cannot be encoded any more are told so; it returns the others.
func (f *batchExec) encodeChunkAgain(s *txn, items []*encodedItem, savepoint string) ([]*encodedItem, *Error) {
	if _, err := s.db.Exec(f.ctx, "rollback to savepoint "+savepoint); err != nil {
		s.recordResult(err)
		e, _ := new(statement).classifyStatement(f.ctx, err)
		e.Effect = NotApplied
		return nil, e
	}
	left := items[:0]
	for _, l := range items {
		e, err := f.encode(l, l.item)
		switch {
		case err != nil:
			s.recordResult(err)
			_, failure := f.describeFailed(err)
			return nil, failure
		case e != nil:
			f.items.fail(l.item, e)
		default:
			left = append(left, l)
		}
	}
	return left, nil
}

// sendChunk sends the items once. Healing, each item has a Sync of its own: after one that
// failed, what would keep it is skipped up to there, and the ROLLBACK TO before the next
// mends the transaction; after one that worked there is nothing to roll back. So it
// takes one round trip, too.
func (l *chunkRun) sendChunk(going []*encodedItem, outer string, again bool, bad func(i int, e *Error, spoilt bool)) {
	w := l.f.newExchange(l.commit)
	defer w.close()
	l.sendDeferred(w)
	if again {
		w.sendInternal(internalReply, "rollback to savepoint "+outer)
	} else {
		w.sendInternal(internalReply, "savepoint "+outer)
	}
	if l.perItemSavepoints {
		w.prepareSavepoints()
		w.savepoint(savepointStmt)
	}
	for _, item := range going {
		w.send(item)
		if l.perItemSavepoints {
			w.savepoint(releaseStmt)
			w.savepoint(savepointStmt)
			w.sync()
			w.savepoint(rollbackToStmt)
		}
	}
	if l.commit {
		w.commit()
	} else {
		w.sync()
	}
	w.flush()
	l.read(w, bad)
}

// independent carries each item in a transaction of its own. The failure that it
// returns is that of the connection; every item is told what is known of it.
func (f *batchExec) independent(items []int, done func(left int)) (failure *Error) {
	for len(items) > 0 {
		chunk, rest, err := f.encodeChunk(items, func(i int, e *Error) bool {
			f.items.fail(i, e)
			return true
		})
		if err != nil {
			culprit, e := f.describeFailed(err)
			if culprit < 0 {
				return f.failUnsent(items, e)
			}
			same := f.items.statement(culprit)
			items = slices.DeleteFunc(slices.Clone(items), func(i int) bool {
				hopeless := f.items.statement(i) == same
				if hopeless {
					clone := *e
					f.items.fail(i, &clone)
				}
				return hopeless
			})
			continue
		}
		if e := f.runChunkIndependent(chunk); e != nil {
			return f.failUnsent(rest, e)
		}
		done(len(rest))
		items = rest
	}
	return nil
}

// failUnsent tells the items that were never sent.
func (f *batchExec) failUnsent(items []int, cause *Error) *Error {
	for _, i := range items {
		e := *cause
		e.Effect = NotApplied
		if e.Code == CodeUnknownEffect || e.Code == CodeUnavailable {
			e.Code, e.Message = CodeUnavailable, "the connection failed before it was sent"
		}
		f.items.fail(i, &e)
	}
	return cause
}

// runChunkIndependent sends a chunk of items with a Sync each. An item has worked once the
// server is ready for the next, and not before: its transaction ends there.
func (f *batchExec) runChunkIndependent(chunk []encodedItem) (failure *Error) {
	w := f.newExchange(false)
	defer w.close()
	for i := range chunk {
		w.send(&chunk[i])
		w.sync()
	}
	w.flush()
	settled := 0
	below := netConnOf(f.conn)
	unreplicated := unreplicatedOn(below)
	var spoilt, refused *Error
	for {
		x, rows, err, ok := w.next()
		if !ok {
			break
		}
		i := chunk[settled].item
		if x.kind == itemReply {
			if err == nil {
				spoilt, err = w.read(i, rows)
			}
			if err != nil && w.lost == nil {
				refused = f.failRefused(i, err).after(spoilt)
			}
			continue
		}
		if err != nil && refused == nil { // a deferred constraint
			refused = f.failRefused(i, err).after(spoilt)
		}
		if refused == nil && f.conn.PgConn().TxStatus() != 'I' {
			refused = &Error{Code: CodeInternal, Message: "the statement began a transaction: the items of a batch must not"}
		}
		switch {
		case refused != nil:
			f.items.fail(i, refused)
		case spoilt != nil:
			spoilt.Effect = Applied
			if f.items.statement(i).readOnly {
				spoilt.Effect = NotApplied
			}
			f.items.fail(i, spoilt)
		default:
			if now := unreplicatedOn(below); now != unreplicated {
				f.items.warnUnreplicated(i)
			}
		}
		spoilt, refused, unreplicated = nil, nil, unreplicatedOn(below)
		settled++
	}
	w.close()
	if settled == len(chunk) {
		return nil
	}
	if refused != nil { // it was refused, and the connection went after that
		f.items.fail(chunk[settled].item, refused)
		settled++
	}
	failure = w.connError()
	for _, l := range chunk[settled:] {
		e := *failure
		if w.unsent() || f.items.statement(l.item).readOnly {
			e.Effect = NotApplied
		} else {
			e.Effect = Unknown
			if e.Code == CodeUnavailable {
				e.Message += " after it was sent: it may or may not be applied"
			}
		}
		e.reconcileCode()
		f.items.fail(l.item, &e)
	}
	if w.unsent() {
		failure.Effect = NotApplied
	}
	failure.reconcileCode()
	return failure
}

// failRefused is the error of an item that the server refused, in a transaction of its
// own.
func (f *batchExec) failRefused(i int, err error) *Error {
	e := f.itemError(i, err)
	s := f.items.statement(i)
	if pgErr, _ := errors.AsType[*pgconn.PgError](err); !s.readOnly && !(s.atomic() && isDefinite(pgErr)) {
		e.Effect = Unknown
	}
	e.reconcileCode()
	return e
}
