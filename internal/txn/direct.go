package txn

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// directUse is what is known of the use of a connection that Conn returned.
type directUse struct {
	handedOut      bool   // by Conn
	used           bool   // statements may have been sent on it since
	sent           int64  // bytes, at the last use by the transaction
	marker         string // the portal that exists as long as the transaction; empty if there is none
	savepointsUsed bool   // SQL of the body made savepoints before there was a marker
}

// checkDirectUse sets direct.used if something was sent on Conn since the last use by the
// transaction, or if the connection does not count what is sent.
func (t *Txn) checkDirectUse() {
	if t.direct.handedOut && !t.direct.used {
		now, counted := connpool.Sent(t.Conn)
		t.direct.used = !counted || now != t.direct.sent
	}
}

// setMarker sends the deferred statements, and makes a portal that marks the transaction, if
// there is none: PostgreSQL closes it with the transaction, and not before, unless SQL of the
// body rolls back to a savepoint that is older. It is never executed.
func (t *Txn) setMarker(ctx context.Context) error {
	if t.Conn == nil || t.direct.marker != "" || t.direct.savepointsUsed || t.Status() == 'E' {
		return t.SendDeferred(ctx)
	}
	name := fmt.Sprintf("pgcmd_marker_%d", stmtcache.OnConn(t.Conn).NextID())
	deferred := t.deferred
	left, err := t.exchange(len(deferred), func(to *pgproto3.Frontend) {
		t.queueDeferred(to)
		to.SendParse(&pgproto3.Parse{Query: "set local pgcmd.marker to 'never executed'"})
		to.SendBind(&pgproto3.Bind{DestinationPortal: name})
	})
	t.noteBegin(err)
	if err == nil {
		t.direct.marker = name
	}
	return deferredError(deferred, left, err)
}

// CheckStatus sets EndedBySQL if the transaction was ended on Conn, as far as the client knows
// without a round trip.
func (t *Txn) CheckStatus() {
	switch status := t.Status(); {
	case t.State.EndedBySQL || !t.BeginSent || t.Conn != nil && t.Conn.PgConn().IsBusy(): // the status is that before the statement in progress
	case status == 'I':
		t.State.EndedBySQL = !t.State.Aborted || t.direct.handedOut
	case status == 0 && t.direct.handedOut && t.State.ConnLost == nil: // perhaps during a COMMIT on Conn
		t.checkDirectUse()
		t.State.EndedBySQL = t.direct.used
	}
}

// VerifyMarker sets EndedBySQL if the transaction on the server is not the one that was begun;
// the check aborts such a transaction. It costs a round trip if Conn was used directly.
func (t *Txn) VerifyMarker() {
	if t.checkDirectUse(); !t.direct.used {
		t.CheckStatus()
		return
	}
	if t.CheckStatus(); t.State.EndedBySQL || !t.BeginSent || t.direct.marker == "" || t.Status() == 0 || t.Conn.PgConn().IsBusy() {
		return
	}
	_, err := t.exchange(0, func(to *pgproto3.Frontend) {
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: t.direct.marker})
	})
	if t.State.EndedBySQL = err != nil; t.Conn.IsClosed() && t.State.ConnLost == nil {
		t.State.ConnLost = err
	}
}

// OutcomeUnproven reports whether the transaction may have been committed on Conn or by SQL of
// the body.
func (t *Txn) OutcomeUnproven() bool {
	return t.State.EndedBySQL || t.direct.used && t.direct.marker == ""
}

// invalidateMarker forgets the marker if a statement, in lower case, may close it without
// ending the transaction.
func (t *Txn) invalidateMarker(sql string) {
	t.direct.savepointsUsed = t.direct.savepointsUsed || t.direct.marker == "" && strings.Contains(sql, "savepoint")
	if t.direct.marker != "" && (strings.Contains(sql, "rollback") || strings.Contains(sql, "close")) {
		t.direct.marker = ""
	}
}
