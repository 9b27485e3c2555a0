package pgrows

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A few rows beyond a limit are read to the end, if they are there already: that costs less
// than a connection. For a statement that may have written something the wait is longer,
// because its CommandComplete tells whether it did.
const (
	maxDrainRows   = 256
	MaxDrainTime   = 2 * time.Millisecond
	MaxOutcomeTime = 100 * time.Millisecond
)

// cancelTime bounds a request to cancel a statement.
const cancelTime = 5 * time.Second

// Rows are the rows of a reply whose reading can be stopped.
type Rows interface {
	Next() bool
	Close()
}

// DrainFew reads up to maxDrainRows rows, for patience at most, and reports whether those were
// all.
func DrainFew(rows Rows, patience time.Duration) bool {
	start := time.Now()
	for range maxDrainRows {
		if !rows.Next() {
			return true
		}
		if time.Since(start) > patience {
			break
		}
	}
	return false
}

// CloseWithoutDraining ends a reading without waiting. If there is more to read, it closes the
// connection.
func CloseWithoutDraining(conn *pgx.Conn, rows Rows) {
	socket := conn.PgConn().Conn()
	_ = socket.SetReadDeadline(time.Unix(1, 0))
	defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	rows.Close()
}

// Stop ends the reading of rows that are not needed. If they are more than a few, it closes the
// connection if that is pooled; another one must survive, and the server is requested to
// cancel, which Stop reports. Without mayBreak they are read to their end.
func Stop(ctx context.Context, conn *pgx.Conn, rows Rows, patience time.Duration, mayBreak, pooled bool) (canceled bool) {
	if mayBreak && pooled { // the rest may take long
		socket := conn.PgConn().Conn()
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	}
	if DrainFew(rows, patience) {
		return false
	}
	switch {
	case mayBreak && pooled:
		CloseWithoutDraining(conn, rows)
	case mayBreak:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		_ = conn.PgConn().CancelRequest(ctx)
		canceled = true
	}
	rows.Close()
	return canceled
}
