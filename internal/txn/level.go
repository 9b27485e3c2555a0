package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// A Level is a transaction, or one nested in it by a savepoint. It is for one goroutine at a
// time; concurrent use returns an error.
type Level struct {
	*Txn
	savepoint string
	number    int // of the savepoint, in the order in which they were made; 0 for the outermost
}

// Usable returns nil, or the error of every use of the level, for which nothing is sent.
func (l *Level) Usable(ctx context.Context) error {
	if l.Ended() {
		return pgx.ErrTxClosed
	}
	return l.usable(ctx)
}

// Ended reports whether the level has ended, by itself or with one around it.
func (l *Level) Ended() bool {
	return l.Closed() || l.number > 0 && !slices.Contains(l.nested, l.number)
}

// Lock locks the transaction for one statement, if the level is usable.
func (l *Level) Lock(ctx context.Context) error {
	if !l.inUse.CompareAndSwap(false, true) {
		return l.Errors.InUse
	}
	if err := l.Usable(ctx); err != nil {
		l.inUse.Store(false)
		return err
	}
	l.checkDirectUse()
	return nil
}

// Nested makes a level with a savepoint, which is sent with its first statement.
func (l *Level) Nested() Level {
	name := l.NewSavepoint()
	l.add(statement{sql: "savepoint " + name, savepoint: l.savepoints})
	l.nested = append(l.nested, l.savepoints)
	return Level{Txn: l.Txn, savepoint: name, number: l.savepoints}
}

// End releases the savepoint of the level, or rolls back to it and releases it. It returns nil
// if that is what was asked for. The levels whose savepoints were made later end with it, as the
// savepoints do on the server.
func (l *Level) End(ctx context.Context, commit bool) error {
	t := l.Txn
	if l.Ended() {
		return pgx.ErrTxClosed
	}
	t.nested = t.nested[:slices.Index(t.nested, l.number)]
	if t.dropDeferred("savepoint " + l.savepoint) {
		return nil // nothing was sent since
	}
	if commit && t.Status() != 'E' && !t.State.Unrecoverable {
		t.Defer("release savepoint " + l.savepoint)
		return nil
	}
	switch {
	case t.Status() != 'E':
	case slices.Contains(t.unmade, l.number) && !commit:
		return nil // nothing of it was executed, and another savepoint may have the name
	case t.External && t.State.Unrecoverable:
		return t.State.Err // only the server can keep others from committing it
	}
	t.VerifyMarker()
	t.deferred = nil // the RELEASE of an inner savepoint
	t.cursorsRolledBack(l.number)
	if t.Conn == nil || !t.Conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EndTime)
		defer cancel()
		t.CloseRows()
		_, err := t.DB.Exec(ctx, "rollback to savepoint "+l.savepoint+"; release savepoint "+l.savepoint)
		t.Record(err)
		if err != nil {
			return err
		}
		t.State.Recovered()
		if t.direct.marker != "" && !t.State.EndedBySQL { // it may be gone with the savepoint
			t.direct.marker = ""
			t.Record(t.setMarker(ctx))
		}
		t.direct.sent, _ = connpool.Sent(t.Conn)
	}
	if commit {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// HandOut returns the connection, for use beside the transaction: see [Txn.VerifyMarker].
func (l *Level) HandOut() *pgx.Conn {
	t := l.Txn
	l.ready(t.setMarker)
	if !t.direct.handedOut && t.Conn != nil && !t.Conn.IsClosed() {
		t.direct.handedOut = true
		t.direct.sent, _ = connpool.Sent(t.Conn)
	}
	return t.Conn
}

// ready calls send, unless the level is not usable.
func (l *Level) ready(send func(ctx context.Context) error) {
	if l.Lock(context.Background()) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), EndTime)
		defer cancel()
		_ = l.UnlockWith(send(ctx))
	}
}

// Exec executes SQL of the body.
func (l *Level) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := l.Lock(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	l.inspectSQL(sql)
	tag, err := l.exec(ctx, sql, args)
	if len(args) > 0 { // without arguments it is sent without a description
		l.recordOutdated(sql, err)
	}
	return tag, l.UnlockWith(err)
}

// Query sends SQL of the body. The rows lock the transaction until they are closed.
func (l *Level) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := l.Lock(ctx); err != nil {
		return pgrows.Failed(err), err
	}
	l.inspectSQL(sql)
	sent, results, err := l.query(ctx, sql, args)
	if err != nil {
		l.recordOutdated(sql, err)
		err = l.UnlockWith(err)
		return pgrows.Failed(err), err
	}
	l.openRows = &rows{Rows: sent, row: rowscan.RowOf(sent), t: l.Txn, sql: sql, results: results}
	return l.openRows, nil
}

// QueryRow is Query for the first row.
func (l *Level) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := l.Query(ctx, sql, args...)
	return row{rows}
}

// SendBatch sends a batch of the body. Its results lock the transaction until they are closed.
func (l *Level) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := l.Lock(ctx); err != nil {
		return failedBatch{err: err}
	}
	for _, q := range b.QueuedQueries {
		l.inspectSQL(q.SQL)
	}
	results, err := l.sendWithDeferred(ctx, b.QueuedQueries)
	if err != nil {
		return failedBatch{err: l.UnlockWith(err)}
	}
	return &batch{BatchResults: results, queries: b.QueuedQueries, t: l.Txn}
}

// CopyFrom copies rows of the body.
func (l *Level) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := l.Lock(ctx); err != nil {
		return 0, err
	}
	err := l.SendDeferred(ctx)
	var n int64
	if err == nil {
		n, err = l.DB.CopyFrom(ctx, table, columns, rows)
	}
	return n, l.UnlockWith(err)
}

// Prepare prepares SQL of the body.
func (l *Level) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if l.ready(l.SendDeferred); l.Conn == nil {
		return nil, errors.New("the transaction does not give its connection")
	}
	if err := l.Lock(ctx); err != nil {
		return nil, err
	}
	l.inspectSQL(sql) // it may be executed by its name
	sd, err := l.Conn.Prepare(ctx, name, sql)
	return sd, l.UnlockWith(err)
}

// LargeObjects returns the large objects of the transaction.
func (l *Level) LargeObjects() pgx.LargeObjects {
	if l.ready(l.SendDeferred); l.Conn == nil {
		return pgx.LargeObjects{}
	}
	// Only a transaction of pgx can make them. This one sends an empty statement as its BEGIN.
	ctx, cancel := context.WithTimeout(context.Background(), EndTime)
	defer cancel()
	raw, err := l.Conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: ";"})
	if err != nil {
		return pgx.LargeObjects{}
	}
	return raw.LargeObjects()
}
