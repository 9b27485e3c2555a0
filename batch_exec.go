package pgcmd

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgpipeline"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A chunk is what is sent before its replies are read: up to chunkItems items or
// chunkBytes bytes, whichever comes first. It bounds the memory of both sides.
const (
	chunkItems = 1000
	chunkBytes = 8 << 20
)

// batchItems is the set of statements that one batchExec sends, of a Batch or a Pipeline.
// For every item read or fail is called.
type batchItems interface {
	statement(i int) *statement
	checkColumns(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error
	arguments(i int) ([]any, *Error)
	limits(i int) limits
	bounded() bool                                  // some have MaxBytes
	read(i int, rows rowscan.Rows, l limits) *Error // keeps the value, or returns why it cannot
	fail(i int, e *Error)                           // instead of the value, or after it was kept
	warnUnreplicated(i int)                         // it is committed, and the synchronous standby has not got it
}

// A batchExec runs items on one connection with a round trip a chunk: it sends a chunk
// whole, and then reads the replies.
type batchExec struct {
	ctx     context.Context
	conn    *pgx.Conn
	s       *serverTx // the transaction that it is part of; nil if each item has its own
	items   batchItems
	encoded *[]encodedItem

	settings []stmtcache.Setting // of each item that has a transaction of its own
}

// An encodedItem holds an item's encoded arguments. All items of a chunk are encoded before
// any is sent, because encoding may run user code that panics.
type encodedItem struct {
	index   int // its number
	sd      *pgconn.StatementDescription
	encoded params.Encoder
}

var encodedItems = sync.Pool{New: func() any { return new([]encodedItem) }}

func newBatchExec(ctx context.Context, conn *pgx.Conn, s *serverTx, items batchItems) *batchExec {
	return &batchExec{ctx: ctx, conn: conn, s: s, items: items, encoded: encodedItems.Get().(*[]encodedItem)}
}

// release gives the memory to the next batchExec.
func (x *batchExec) release() {
	encodedItems.Put(x.encoded)
	x.encoded = nil
}

// encodeChunk encodes items until the chunk is full, and returns it and the items that are
// left. refused is called for an item that cannot be encoded, and says whether to go on.
// The error is of the server or the connection.
func (x *batchExec) encodeChunk(items []int, refused func(i int, e *Error) (goOn bool)) (chunk []encodedItem, rest []int, failure error) {
	size := 0
	known := stmtcache.OnConn(x.conn)
	defer func() { known.Held = false }()
	for n, i := range items {
		if len(chunk) == chunkItems || size >= chunkBytes {
			return chunk, items[n:], nil
		}
		if len(chunk) == len(*x.encoded) {
			*x.encoded = append(*x.encoded, encodedItem{})
		}
		item := &(*x.encoded)[len(chunk)]
		known.Held = len(chunk) > 0
		e, err := x.encode(item, i)
		if err != nil {
			return nil, items[n:], err
		}
		if e != nil {
			if !refused(i, e) {
				return nil, items[n+1:], nil
			}
			continue
		}
		for _, v := range item.encoded.ParamValues {
			size += len(v)
		}
		chunk = (*x.encoded)[:len(chunk)+1]
	}
	return chunk, nil, nil
}

// encode encodes item i. e is why the item cannot be sent; err is of the server or the
// connection.
func (x *batchExec) encode(item *encodedItem, i int) (e *Error, err error) {
	s := x.items.statement(i)
	args, e := x.items.arguments(i)
	if e != nil {
		return e, nil
	}
	unverified, refused := s.checks.Check(args)
	if refused != nil {
		return s.argError(refused), nil
	}
	known := stmtcache.OnConn(x.conn)
	for cached := known.Described(s.text.SQL); ; cached = false {
		sd, e, err := s.encode(x.ctx, x.conn, x.s, args, unverified, cached, &item.encoded)
		if err != nil {
			return nil, &describeError{i, err}
		}
		if e == nil && len(sd.Fields) > 0 {
			e = x.items.checkColumns(i, x.conn.TypeMap(), sd.Fields)
		}
		switch {
		case e == nil:
			item.index, item.sd = i, sd
			return nil, nil
		case !cached:
			e.Effect = NotApplied
			return e, nil
		}
		known.Invalidate(s.text.SQL) // the schema may have changed since
		if args, e = x.items.arguments(i); e != nil {
			return e, nil
		}
	}
}

// describeError is an error of the server or the connection while the statement of an item
// was described, before anything of the chunk was sent.
type describeError struct {
	item int
	err  error
}

func (d *describeError) Error() string { return d.err.Error() }
func (d *describeError) Unwrap() error { return d.err }

// newExchange begins an exchange of so many items, which may end with COMMIT.
func (x *batchExec) newExchange(items int, commit bool) *pgpipeline.Exchange {
	if commit {
		return pgpipeline.NewCommit(x.ctx, x.conn, stmtcache.ConfigOf(x.conn), x.s.commitTimeout, items, x.items.bounded())
	}
	return pgpipeline.New(x.ctx, x.conn, items, x.items.bounded())
}

// send queues an item.
func (x *batchExec) send(ex *pgpipeline.Exchange, item *encodedItem) {
	ex.Send(item.index, x.items.statement(item.index).text.SQL, item.sd, &item.encoded, x.items.limits(item.index).bytes)
}

// read reads the reply of an item, to its end. unreadable is why the client cannot use it,
// err is of the server or the connection.
func (x *batchExec) read(ex *pgpipeline.Exchange, i int, rows rowscan.Rows) (unreadable *Error, err error) {
	defer rows.Close()
	l := x.items.limits(i)
	l.filter = ex.RowFilter()
	unreadable = x.items.read(i, rows, l)
	return unreadable, ex.CloseRows(rows)
}

// connError is the error of a connection that was lost.
func (x *batchExec) connError(ex *pgpipeline.Exchange) *Error {
	e, _ := new(statement).classifyStatement(x.ctx, ex.Lost)
	if limit := ex.ExceededBytes(); limit > 0 {
		e = tooManyBytes(limit)
		e.Err = ex.Lost
	}
	return e
}

// A chunkRun executes one chunk inside a transaction and records the first error.
type chunkRun struct {
	exec              *batchExec
	s                 *serverTx
	commit            bool   // COMMIT travels with the chunk
	perItemSavepoints bool   // each item is under a savepoint of its own
	culprit           int    // the first item that failed; -1 if none, or if the error is of no item
	failure           *Error // of the item, or of all
}

// atomic runs the items in the transaction, and stops at the first that fails. It returns
// which that was, or -1 if the error is of no item. With finish COMMIT is sent with the
// last chunk.
func (x *batchExec) atomic(tx *Tx, items []int, finish bool, done func(left int)) (culprit int, failure *Error) {
	for len(items) > 0 {
		culprit = -1
		chunk, rest, err := x.encodeChunk(items, func(i int, e *Error) bool {
			culprit, failure = i, e
			return false
		})
		if err != nil {
			culprit, failure = x.describeFailed(err)
			tx.s.Record(err)
		}
		if failure != nil {
			return culprit, failure
		}
		c := &chunkRun{exec: x, s: tx.s, culprit: -1, commit: finish && len(rest) == 0}
		if c.run(chunk); c.failure != nil {
			return c.culprit, c.failure
		}
		done(len(rest))
		items = rest
	}
	return -1, nil
}

// run runs the chunk of an Atomic batch.
func (c *chunkRun) run(chunk []encodedItem) {
	refused := false
	var more []int // that the client cannot read, beside the culprit
	var errs []*Error
	c.exchange(chunk, "", false, func(i int, e *Error, unreadable bool) {
		switch {
		case c.failure == nil:
			c.culprit, c.failure, refused = i, e, !unreadable
		case !refused && !unreadable: // that is why nothing is applied
			c.culprit, c.failure, refused = i, e.after(c.failure), true
		case unreadable:
			more, errs = append(more, i), append(errs, e)
		}
	})
	if c.s.commitSent && c.culprit >= 0 { // the client cannot read its result, and all is applied
		c.failure.Effect = c.s.effectAfterCommit()
		for n, i := range more {
			errs[n].Effect = c.s.effectAfterCommit()
			c.exec.items.fail(i, errs[n].ofItem())
		}
	}
}

// read reads the replies of an exchange. bad is called for every item that failed;
// unreadable is true if it worked and the client cannot use what it returned. An error of
// all items goes into c.failure.
func (c *chunkRun) read(ex *pgpipeline.Exchange, bad func(i int, e *Error, unreadable bool)) {
	refused := false // an item, so that all up to the Sync was skipped: a COMMIT, too
	var first error  // that is recorded in the transaction
	for {
		reply, rows, err, ok := ex.Next()
		if !ok {
			break
		}
		if err == nil {
			c.s.BeginSent = true
		}
		switch reply.Kind {
		case pgpipeline.ItemReply:
			var unreadable *Error
			if err == nil {
				unreadable, err = c.exec.read(ex, reply.Item, rows)
			}
			switch {
			case ex.Lost != nil:
			case err != nil:
				err = c.s.State.Cause(err)
				refused = refused || !c.perItemSavepoints
				bad(reply.Item, c.exec.itemError(reply.Item, err).after(unreadable), false)
				if first == nil && !c.perItemSavepoints {
					first = err
				}
			case unreadable != nil:
				bad(reply.Item, unreadable, true)
			}
		case pgpipeline.CommitReply:
			c.committed(ex, rows, err)
		default:
			if err != nil && c.failure == nil {
				c.failure = newUnsentError(c.exec.ctx, err)
				if c.perItemSavepoints && c.failure.invalidatesConn() {
					stmtcache.OnConn(c.exec.conn).SavepointsPrepared = 0 // they were deallocated
				}
				first = err
			}
		}
	}
	ex.Close() // only now is the transaction's status known
	switch {
	case ex.Lost != nil:
		c.lost(ex, refused)
	case first != nil && !c.s.State.Aborted:
		c.s.Record(first)
	}
	if c.s.commitSent {
		c.s.Close()
	}
}

// committed takes the reply of the COMMIT that was sent with the chunk.
func (c *chunkRun) committed(ex *pgpipeline.Exchange, rows rowscan.Rows, err error) {
	var tag pgconn.CommandTag
	if err == nil {
		rows.Close()
		tag, err = rows.CommandTag(), rows.Err()
	}
	c.s.commitSent, c.s.unreplicated = true, ex.Unreplicated()
	switch {
	case err != nil:
		c.culprit, c.failure = -1, c.s.commitFailed(c.exec.ctx, err, false).after(c.failure)
	case tag.String() != "COMMIT":
		c.culprit, c.failure = -1, answeredRollback().after(c.failure)
	}
}

// lost makes the error of all items: the connection was lost.
func (c *chunkRun) lost(ex *pgpipeline.Exchange, refused bool) {
	c.s.Record(ex.Lost)
	if c.failure != nil && refused || c.s.commitSent {
		return // the effect is known
	}
	e := c.exec.connError(ex)
	switch {
	case c.s.changesNothing(), ex.Unsent(), refused, !c.commit:
		e.Effect = NotApplied
	default:
		e.Effect, c.s.commitSent = Unknown, true
		if e.Code == CodeUnavailable {
			e.Message = noReplyToCommit
		}
	}
	e.reconcileCode()
	c.culprit, c.failure = -1, e
}

// itemError is the error of an item that the server refused.
func (x *batchExec) itemError(i int, err error) *Error {
	s := x.items.statement(i)
	e, _ := s.classifyStatement(x.ctx, err)
	e.Effect = NotApplied
	x.s.explainReadOnly(e)
	stmtcache.OnConn(x.conn).InvalidateAfter(s.text.SQL, err)
	e.outdated = s.isOutdated(x.conn, err)
	return e
}

// describeFailed is the error of an item that the server cannot describe, or of a
// connection that was lost meanwhile.
func (x *batchExec) describeFailed(err error) (culprit int, e *Error) {
	d := err.(*describeError)
	e = x.itemError(d.item, d.err)
	if _, answered := errors.AsType[*pgconn.PgError](d.err); answered && !x.conn.IsClosed() {
		return d.item, e
	}
	return -1, e
}

// isolated runs the items in the transaction, each as if under a savepoint of its own. The
// error that it returns is of all items.
func (x *batchExec) isolated(tx *Tx, items []int, finish bool, done func(left int)) *Error {
	for len(items) > 0 {
		chunk, rest, err := x.encodeChunk(items, func(i int, e *Error) bool {
			x.items.fail(i, e)
			return true
		})
		if err != nil {
			_, failure := x.describeFailed(err)
			tx.s.Record(err)
			return failure
		}
		if len(chunk) > 0 {
			if failure := x.runChunkIsolated(tx, chunk, finish && len(rest) == 0); failure != nil {
				return failure
			}
		}
		done(len(rest))
		items = rest
	}
	return nil
}

// runChunkIsolated runs a chunk under one savepoint. If an item fails, the chunk is rolled
// back and run again with a savepoint per item, so that a chunk without errors costs a
// single subtransaction.
func (x *batchExec) runChunkIsolated(tx *Tx, chunk []encodedItem, commit bool) *Error {
	s := tx.s
	outer := s.NewSavepoint()
	described := false
	for perItem, again := false, false; ; again = true {
		c := &chunkRun{exec: x, s: s, culprit: -1, commit: commit, perItemSavepoints: perItem}
		refused, outdated := false, false
		var unread []int
		c.exchange(chunk, outer, again, func(i int, e *Error, unreadable bool) {
			switch {
			case unreadable && !c.commit: // and to be rolled back
				e.Effect = NotApplied
				x.items.fail(i, e)
				unread = append(unread, i)
			case unreadable:
				e.Effect = s.effectAfterCommit()
				x.items.fail(i, e.ofItem())
			case perItem:
				x.items.fail(i, e)
			case !refused:
				refused, outdated = true, e.outdated
				if c.failure == nil && (sqlstate.IsConflict(e.SQLState)) {
					c.failure = e // no savepoint helps
				}
			}
		})
		switch {
		case c.failure != nil:
			return c.failure
		case !refused && len(unread) == 0:
			if !s.commitSent {
				s.Defer("release savepoint " + outer)
			}
			return nil
		}
		s.State.Recovered()
		chunk = keep(chunk, func(item *encodedItem) bool { return !slices.Contains(unread, item.index) })
		if outdated && !described {
			described = true
			var failure *Error
			if chunk, failure = x.encodeChunkAgain(s, chunk, outer); failure != nil {
				return failure
			}
			continue
		}
		perItem = perItem || refused
	}
}

// encodeChunkAgain rolls the transaction back to a savepoint, and encodes the items for the
// statements as the server describes them now: the schema has changed since they were
// described. It returns those that can still be encoded.
func (x *batchExec) encodeChunkAgain(s *serverTx, items []encodedItem, savepoint string) (left []encodedItem, failure *Error) {
	if _, err := s.DB.Exec(x.ctx, "rollback to savepoint "+savepoint); err != nil {
		s.Record(err)
		return nil, unappliedError(x.ctx, err)
	}
	left = keep(items, func(item *encodedItem) bool {
		if failure != nil {
			return false
		}
		e, err := x.encode(item, item.index)
		if err != nil {
			s.Record(err)
			_, failure = x.describeFailed(err)
		} else if e != nil {
			x.items.fail(item.index, e)
		}
		return e == nil && err == nil
	})
	return left, failure
}

// keep moves the items that f is true of to the front, in their order, and returns them. All
// keep their memory, for the next chunk.
func keep(items []encodedItem, f func(item *encodedItem) bool) []encodedItem {
	n := 0
	for i := range items {
		if f(&items[i]) {
			items[n], items[i] = items[i], items[n]
			n++
		}
	}
	return items[:n]
}

// exchange sends the items, under a savepoint if that has a name, and reads the replies. The
// savepoint is set, or, if the items are sent again, rolled back to. With savepoints per item
// each has a Sync of its own: after an item that failed the server skips its RELEASE up to that
// Sync, and the ROLLBACK TO before the next item makes the transaction usable; after one that
// worked there is nothing to roll back. So it takes one round trip, too.
func (c *chunkRun) exchange(items []encodedItem, savepoint string, again bool, bad func(i int, e *Error, unreadable bool)) {
	statements := len(items)
	if savepoint != "" {
		statements *= 3 // each with its savepoints
	}
	ex := c.exec.newExchange(statements, c.commit)
	defer ex.Close()
	c.s.TakeDeferred(ex.SendInternal)
	switch {
	case again:
		ex.SendInternal("", "rollback to savepoint "+savepoint)
	case savepoint != "":
		ex.SendInternal("", "savepoint "+savepoint)
	}
	if c.perItemSavepoints {
		if stmtcache.CachesStatements(c.exec.conn) {
			ex.PrepareSavepoints()
		}
		ex.Savepoint(pgpipeline.SetSavepoint)
	}
	for i := range items {
		c.exec.send(ex, &items[i])
		if c.perItemSavepoints {
			ex.Savepoint(pgpipeline.ReleaseSavepoint)
			ex.Savepoint(pgpipeline.SetSavepoint)
			ex.Sync()
			ex.Savepoint(pgpipeline.RollbackSavepoint)
		}
	}
	if c.commit {
		ex.SendCommit()
	} else {
		ex.Sync()
	}
	ex.Flush()
	c.read(ex, bad)
}

// independent runs each item in a transaction of its own. The error that it returns is of
// the connection.
func (x *batchExec) independent(items []int, done func(left int)) (failure *Error) {
	for len(items) > 0 {
		chunk, rest, err := x.encodeChunk(items, func(i int, e *Error) bool {
			x.items.fail(i, e)
			return true
		})
		if err != nil {
			culprit, e := x.describeFailed(err)
			if culprit < 0 {
				return x.failUnsent(items, e)
			}
			same := x.items.statement(culprit)
			items = slices.DeleteFunc(slices.Clone(items), func(i int) bool {
				fails := x.items.statement(i) == same
				if fails {
					clone := *e
					x.items.fail(i, &clone)
				}
				return fails
			})
			continue
		}
		if e := x.runChunkIndependent(chunk); e != nil {
			return x.failUnsent(rest, e)
		}
		done(len(rest))
		items = rest
	}
	return nil
}

// failUnsent fails the items that were never sent.
func (x *batchExec) failUnsent(items []int, cause *Error) *Error {
	for _, i := range items {
		e := *cause
		e.Effect = NotApplied
		if e.Code == CodeUnknownEffect || e.Code == CodeUnavailable {
			e.Code, e.Message = CodeUnavailable, "the connection failed before it was sent"
		}
		x.items.fail(i, &e)
	}
	return cause
}

// runChunkIndependent sends a chunk of items with a Sync each, and reads the replies.
func (x *batchExec) runChunkIndependent(chunk []encodedItem) *Error {
	setting, err := stmtcache.OnConn(x.conn).DescribeSettings(x.ctx, x.conn, x.settings)
	if err != nil {
		items := make([]int, len(chunk))
		for i := range chunk {
			items[i] = chunk[i].index
		}
		return x.failUnsent(items, unappliedError(x.ctx, err))
	}
	ex := x.newExchange((2+len(x.settings))*len(chunk), false) // each with a Sync
	defer ex.Close()
	for i := range chunk {
		ex.SendSettings(setting, x.settings)
		x.send(ex, &chunk[i])
		ex.Sync()
	}
	ex.Flush()
	unanswered, refused := x.readIndependent(ex, chunk)
	ex.Close()
	switch {
	case len(unanswered) == 0:
		return nil
	case refused != nil: // and the connection was lost after that
		x.items.fail(unanswered[0].index, refused)
		unanswered = unanswered[1:]
	}
	return x.failUnanswered(ex, unanswered)
}

// readIndependent reads the replies to items with a Sync each, and returns the items without
// one, whose connection was lost; refused is the error of the first of them, if that came. An item
// has worked at its ReadyForQuery, and not before: its transaction ends there.
func (x *batchExec) readIndependent(ex *pgpipeline.Exchange, chunk []encodedItem) (unanswered []encodedItem, refused *Error) {
	below := connpool.Of(x.conn)
	unreplicated := below.Unreplicated()
	var unreadable *Error // of the first of chunk
	for {
		reply, rows, err, ok := ex.Next()
		if !ok {
			break
		}
		i := chunk[0].index
		switch reply.Kind {
		case pgpipeline.InternalReply: // of a setting
			if err != nil {
				refused = x.independentItemError(i, err)
				stmtcache.OnConn(x.conn).InvalidateAfter(stmtcache.SetSQL, err)
			}
			continue
		case pgpipeline.ItemReply:
			if err == nil {
				unreadable, err = x.read(ex, i, rows)
			}
			if err != nil && ex.Lost == nil {
				refused = x.independentItemError(i, err).after(unreadable)
			}
			continue
		}
		if err != nil && refused == nil { // a deferred constraint
			refused = x.independentItemError(i, err).after(unreadable)
		}
		if refused == nil && x.conn.PgConn().TxStatus() != 'I' {
			refused = &Error{Code: CodeInternal, Message: "the statement began a transaction, which an item of a batch must not: use a Transaction"}
		}
		switch {
		case refused != nil:
			x.items.fail(i, refused)
		case unreadable != nil:
			unreadable.Effect = Applied
			if x.items.statement(i).reads {
				unreadable.Effect = NotApplied
			}
			x.items.fail(i, unreadable.ofItem())
		case below.Unreplicated() != unreplicated:
			x.items.warnUnreplicated(i)
		}
		chunk, unreadable, refused, unreplicated = chunk[1:], nil, nil, below.Unreplicated()
	}
	return chunk, refused
}

// failUnanswered fails the items whose connection was lost before their reply came.
func (x *batchExec) failUnanswered(ex *pgpipeline.Exchange, items []encodedItem) *Error {
	failure := x.connError(ex)
	for _, item := range items {
		e := *failure
		if ex.Unsent() || x.items.statement(item.index).reads {
			e.Effect = NotApplied
		} else {
			e.Effect = Unknown
			if e.Code == CodeUnavailable {
				e.Message += " after it was sent: it may or may not be applied"
			}
		}
		e.reconcileCode()
		x.items.fail(item.index, &e)
	}
	if ex.Unsent() {
		failure.Effect = NotApplied
	}
	failure.reconcileCode()
	return failure
}

// independentItemError is itemError for an item that has a transaction of its own.
func (x *batchExec) independentItemError(i int, err error) *Error {
	e := x.itemError(i, err)
	s := x.items.statement(i)
	if pgErr, _ := errors.AsType[*pgconn.PgError](err); !s.reads && !isOfSetting(err) && !(s.text.Atomic() && sqlstate.IsDefinite(pgErr)) {
		e.Effect = Unknown
	}
	e.reconcileCode()
	return e
}
