package txn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A statement is one that is sent with the next.
type statement struct {
	sql          string
	args         []any  // int64, or stmtcache.SecretText
	setting      string // that it sets; empty: none
	savepoint    int    // the number of the level's savepoint that it makes; zero: none
	closesCursor bool   // dropped when the transaction is aborted, which closes its cursors
}

// EndTime bounds ROLLBACK and what else ends something on the server, on a context that
// does not end with the caller's.
const EndTime = 2 * time.Second

// Defer adds a statement that is sent with the next one. Its arguments are integers.
func (t *Txn) Defer(sql string, args ...any) { t.add(statement{sql: sql, args: args}) }

// DeferSettings adds statements that set settings for the transaction.
func (t *Txn) DeferSettings(settings []stmtcache.Setting) {
	for _, s := range settings {
		t.add(statement{sql: stmtcache.SetSQL, args: []any{stmtcache.SecretText(s.Name), s.Value}, setting: s.Name})
	}
}

func (t *Txn) add(q statement) {
	if t.deferred == nil && !t.BeginSent {
		t.deferred = t.begin[:0]
	}
	t.deferred = append(t.deferred, q)
}

// TakeDeferred calls send for the deferred statements, which the caller sends in its place.
func (t *Txn) TakeDeferred(send func(setting, sql string, args ...[]byte)) {
	for _, q := range t.takeDeferred() {
		send(q.setting, q.sql, q.parameters()...)
	}
}

// takeDeferred returns the deferred statements, which are sent now.
func (t *Txn) takeDeferred() []statement {
	deferred := t.deferred
	t.deferred = nil
	if t.Status() == 'E' { // the server refuses them
		for _, q := range deferred {
			if q.savepoint > 0 {
				t.unmade = append(t.unmade, q.savepoint)
			}
		}
	}
	return deferred
}

// parameters are the arguments, in text format.
func (q *statement) parameters() (values [][]byte) {
	for _, arg := range q.args {
		switch arg := arg.(type) {
		case int64:
			values = append(values, strconv.AppendInt(nil, arg, 10))
		case stmtcache.SecretText:
			values = append(values, []byte(arg))
		}
	}
	return values
}

// deferredError is the error of what was sent after deferred statements, of which the last left
// were not completed: if one of them sets a setting, it is that of the setting.
func deferredError(deferred []statement, left int, err error) error {
	if left > 0 {
		if q := deferred[len(deferred)-left]; q.setting != "" {
			return stmtcache.RefusedSetting(q.setting, err)
		}
	}
	return err
}

// dropDeferred drops a statement and those after it, and reports whether it was not sent yet.
func (t *Txn) dropDeferred(sql string) bool {
	for i, q := range t.deferred {
		if q.sql == sql {
			t.deferred = t.deferred[:i] // and the statements within the savepoint
			return true
		}
	}
	return false
}

// Send sends the statement of a command, after the deferred ones. results, of which the rows are
// a part, is nil if there were none or if they were sent otherwise.
func (t *Txn) Send(ctx context.Context, sql string, args []any) (rows rowscan.Rows, results pgx.BatchResults, err error) {
	if !t.SendsPrepared() {
		sent, results, err := t.query(ctx, sql, args)
		if err != nil {
			return nil, nil, err
		}
		return sent, results, nil
	}
	r, err := t.sendPrepared(ctx, sql, args)
	if err != nil {
		return nil, nil, err
	}
	return r, nil, nil
}

// query is Send by pgx's methods, whose arguments may be options of theirs.
func (t *Txn) query(ctx context.Context, sql string, args []any) (rows pgx.Rows, results pgx.BatchResults, err error) {
	if len(t.deferred) > 0 {
		if sql, args, err = t.prepareToBatch(ctx, sql, args); err != nil {
			return nil, nil, err
		}
	}
	if len(t.deferred) == 0 {
		rows, err := stmtcache.Query(ctx, t.DB, sql, args)
		if err == nil && len(args) == 0 && t.Conn != nil {
			stmtcache.OnConn(t.Conn).SetParams(sql, nil) // pgx has prepared it
		}
		return rows, nil, err
	}
	if results, err = t.sendWithDeferred(ctx, []*pgx.QueuedQuery{{SQL: sql, Arguments: args}}); err != nil {
		return nil, nil, err
	}
	if rows, err = results.Query(); err != nil {
		_ = results.Close()
		return nil, nil, pgxerr.WithoutBatch(err)
	}
	return rows, results, nil
}

// exec executes a statement, after the deferred ones.
func (t *Txn) exec(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if len(t.deferred) > 0 && len(args) == 0 {
		// pgx sends it by the simple protocol, where several statements are one message:
		// the deferred ones too, unless they have arguments.
		if prefix, ok := t.deferredSQL(); ok {
			t.takeDeferred()
			sql = prefix + sql
			defer func() {
				t.noteBegin(err)
				shiftPosition(prefix, err)
			}()
		}
	}
	if len(t.deferred) > 0 {
		if sql, args, err = t.prepareToBatch(ctx, sql, args); err != nil {
			return tag, err
		}
	}
	if len(t.deferred) == 0 {
		return t.DB.Exec(ctx, sql, args...)
	}
	results, err := t.sendWithDeferred(ctx, []*pgx.QueuedQuery{{SQL: sql, Arguments: args}})
	if err != nil {
		return tag, err
	}
	tag, err = results.Exec()
	if closing := results.Close(); err == nil {
		err = closing
	}
	return tag, pgxerr.WithoutBatch(err)
}

// shiftPosition makes the position in an error of the server count in the caller's SQL,
// before which prefix was sent.
func shiftPosition(prefix string, err error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && int(pgErr.Position) > len(prefix) {
		pgErr.Position -= int32(len(prefix))
	}
}

// deferredSQL returns the deferred statements as SQL; ok is false if they have arguments.
func (t *Txn) deferredSQL() (sql string, ok bool) {
	var b strings.Builder
	for _, q := range t.deferred {
		if len(q.args) > 0 {
			return "", false
		}
		b.WriteString(q.sql + "; ")
	}
	return b.String(), true
}

// prepareToBatch prepares a statement to be sent in a batch after the deferred ones. In a
// batch pgx would notice too late that an argument cannot be encoded, and close the
// connection; and it prepares unknown statements in a round trip before the batch. For a
// statement that cannot be in a batch it sends the deferred ones alone.
func (t *Txn) prepareToBatch(ctx context.Context, sql string, args []any) (string, []any, error) {
	if t.Conn == nil {
		return sql, args, t.SendDeferred(ctx)
	}
	if len(args) == 0 {
		known := stmtcache.OnConn(t.Conn)
		if _, ok := known.Params(sql); !ok && preparesFirst(t.Conn) {
			return sql, args, t.SendDeferred(ctx)
		}
		known.SetParams(sql, nil)
		return sql, args, nil
	}
	switch first := args[0].(type) {
	case pgx.QueryRewriter:
		var err error
		if sql, args, err = first.RewriteQuery(ctx, t.Conn, sql, args[1:]); err != nil {
			return sql, args, err
		}
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return sql, args, t.SendDeferred(ctx)
	}
	known := stmtcache.OnConn(t.Conn)
	types, ok := known.Params(sql)
	for {
		if !ok {
			// If the server refuses the statement, that must not abort the transaction before
			// the deferred savepoint is made, nor leave it without its BEGIN.
			if err := t.SendDeferred(ctx); err != nil {
				return sql, args, err
			}
			sd, err := t.Conn.Prepare(ctx, "", sql)
			if err != nil {
				return sql, args, err
			}
			types = sd.ParamOIDs
			known.SetParams(sql, types)
		}
		err := new(params.Encoder).Build(t.Conn.TypeMap(), &pgconn.StatementDescription{ParamOIDs: types}, args)
		if err == nil || !ok {
			return sql, args, err
		}
		ok = false // the schema may have changed since
	}
}

// preparesFirst reports whether pgx prepares the statements of a batch in a round trip before
// it.
func preparesFirst(conn *pgx.Conn) bool {
	switch stmtcache.ModeOf(conn) {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return false
	}
	return true
}

// sendWithDeferred sends statements after the deferred ones, in one batch, and reads the
// results of the deferred ones. In the simple protocol, where a batch is one text, those are
// sent alone: else a syntax error would refuse BEGIN as well, and positions in errors would
// count from there.
func (t *Txn) sendWithDeferred(ctx context.Context, queries []*pgx.QueuedQuery) (pgx.BatchResults, error) {
	if len(queries) > 0 && t.Conn != nil && stmtcache.ModeOf(t.Conn) == pgx.QueryExecModeSimpleProtocol {
		if err := t.SendDeferred(ctx); err != nil {
			return nil, err
		}
	}
	b := &pgx.Batch{}
	deferred := t.takeDeferred()
	for _, q := range deferred {
		b.Queue(q.sql, q.args...)
	}
	b.QueuedQueries = append(b.QueuedQueries, queries...)
	results := t.DB.SendBatch(ctx, b)
	for i := range deferred {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			t.noteBegin(err)
			return nil, deferredError(deferred, len(deferred)-i, pgxerr.WithoutBatch(err))
		}
	}
	t.BeginSent = true
	return results, nil
}

// SendDeferred sends the deferred statements alone.
func (t *Txn) SendDeferred(ctx context.Context) error {
	if len(t.deferred) == 0 {
		return nil
	}
	results, err := t.sendWithDeferred(ctx, nil)
	if err == nil {
		err = results.Close()
	}
	return err
}

// exchange sends messages and a Sync, and reads the replies, ignoring rows. It returns how many of
// the first statements were not completed. If it takes longer than EndTime, the connection is
// closed.
func (t *Txn) exchange(statements int, send func(to *pgproto3.Frontend)) (left int, err error) {
	if err := t.Idle(); err != nil {
		return statements, err
	}
	pg := t.Conn.PgConn()
	t.checkDirectUse()
	defer func() { t.direct.sent, _ = connpool.Sent(t.Conn) }()
	_ = pg.Conn().SetDeadline(time.Now().Add(EndTime))
	send(pg.Frontend())
	pg.Frontend().SendSync(&pgproto3.Sync{})
	left, err = pgrows.Exchange(pg, statements)
	if !pg.IsClosed() {
		_ = pg.Conn().SetDeadline(time.Time{})
	}
	return left, err
}

// queueDeferred queues the messages of the deferred statements, and returns these.
func (t *Txn) queueDeferred(to *pgproto3.Frontend) []statement {
	deferred := t.takeDeferred()
	for i := range deferred {
		q := &deferred[i]
		if i == 0 || q.sql != deferred[i-1].sql { // else it is parsed already
			to.SendParse(&pgproto3.Parse{Query: q.sql})
		}
		to.SendBind(&pgproto3.Bind{Parameters: q.parameters()})
		to.SendExecute(&pgproto3.Execute{})
	}
	return deferred
}

// noteBegin records that BEGIN was sent, by the result of what was sent with it.
func (t *Txn) noteBegin(err error) {
	t.BeginSent = t.BeginSent || err == nil || t.Status() != 'I'
}

// Idle returns an error if the connection is in use beside the transaction.
func (t *Txn) Idle() error {
	if t.Conn.PgConn().IsBusy() {
		return errBusy
	}
	return nil
}

// errBusy is pgconn's for a connection in use, without its type.
var errBusy = errors.New("conn busy")

// setTimeoutSQL sets statement_timeout for the transaction to $1 milliseconds, unless it is
// shorter already.
const setTimeoutSQL = `select set_config('statement_timeout', least($1::int8,
	nullif((extract(epoch from current_setting('statement_timeout')::interval) * 1000)::int8, 0))::text, true)`

// LimitUntil defers the statement that sets statement_timeout to the time until a deadline.
func (t *Txn) LimitUntil(deadline time.Time) {
	t.Defer(setTimeoutSQL, TimeoutSetting(serverTimeout(time.Until(deadline))))
}

// TimeoutSetting returns a duration in milliseconds, the unit of PostgreSQL's timeouts, which
// have 32 bits: 24.8 days at most.
func TimeoutSetting(d time.Duration) int64 {
	return min(d.Milliseconds(), math.MaxInt32)
}

// LimitTimeout lowers statement_timeout to the deadline of a command that joins the
// transaction, until restore is called. Both are sent with the next statement.
func (t *Txn) LimitTimeout(ctx context.Context) (restore func()) {
	deadline, ok := ctx.Deadline()
	if !ok || t.External {
		return func() {}
	}
	t.timeouts++
	saved := fmt.Sprintf("pgcmd.timeout_%d", t.timeouts)
	save := "select set_config('" + saved + "', current_setting('statement_timeout'), true)"
	t.Defer(save)
	t.LimitUntil(deadline)
	return func() {
		if !t.dropDeferred(save) && t.Status() == 'T' {
			t.Defer("select set_config('statement_timeout', current_setting('" + saved + "'), true)")
		}
	}
}

// serverTimeout returns a bit less than the client's timeout, so that the server ends a slow
// statement and the connection stays usable. The context's end, which closes the connection,
// is the last resort.
func serverTimeout(remaining time.Duration) time.Duration {
	return max(time.Millisecond, remaining-TimeoutMargin(remaining))
}

// TimeoutMargin is how much shorter the server's timeout is than the client's.
func TimeoutMargin(remaining time.Duration) time.Duration {
	return min(50*time.Millisecond, remaining/4)
}
