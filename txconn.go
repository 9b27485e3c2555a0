package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// Conn returns the connection, after a BEGIN that was still waiting for company has
// been sent. What is done on it directly the Tx cannot see. A transaction that was ended
// there is found all the same, also if another one was begun: the run then fails, what is
// under way is rolled back, and the Effect is Unknown. To know that costs a round trip
// here, and another one at the end, if something was sent on it, as [Instrument] counts.
func (tx *Tx) Conn() *pgx.Conn {
	s := tx.s
	s.connFor(tx, s.setMarker)
	if !s.connHandedOut && s.conn != nil && !s.conn.IsClosed() {
		s.connHandedOut = true
		s.sent, _ = connpool.Sent(s.conn)
	}
	return s.conn
}

// checkMarker finds out whether somebody else has used the connection since it was last used
// here. One that does not count counts as used.
func (s *txn) checkMarker() {
	if s.connHandedOut && !s.used {
		now, counted := connpool.Sent(s.conn)
		s.used = !counted || now != s.sent
	}
}

// unlock ends a use of the connection.
func (s *txn) unlock() {
	if s.connHandedOut && !s.used {
		s.sent, _ = connpool.Sent(s.conn)
	}
	s.inUse.Store(false)
}

// connFor returns the connection, made ready by a function, which does nothing if the
// transaction is not usable.
func (s *txn) connFor(tx *Tx, ready func(ctx context.Context) error) *pgx.Conn {
	if tx.lock(context.Background()) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		_ = s.unlockWith(ready(ctx))
	}
	return s.conn
}

// setMarker sends the prefix, and makes a portal that marks the transaction, if there is none:
// it goes with the transaction, and not before, unless a savepoint of SQL text is older. It
// is never executed.
func (s *txn) setMarker(ctx context.Context) error {
	if s.conn == nil || s.marker != "" || s.savepointsUsed || s.status() == 'E' {
		return s.sendDeferred(ctx)
	}
	name := fmt.Sprintf("pgcmd_marker_%d", stmtcache.OnConn(s.conn).NextID())
	prefix := s.deferred
	s.deferred = nil
	err := s.exchange(func(to *pgproto3.Frontend) {
		for _, q := range prefix {
			sendInternal(to, q)
		}
		to.SendParse(&pgproto3.Parse{Query: "set local pgcmd.marker to 'never executed'"})
		to.SendBind(&pgproto3.Bind{DestinationPortal: name})
	})
	s.beginSent = s.beginSent || err == nil || s.status() != 'I'
	if err == nil {
		s.marker = name
	}
	return err
}

// exchange sends messages of our own and a Sync, and reads the replies, whose rows do not
// matter. A connection on which that takes too long is closed.
func (s *txn) exchange(send func(to *pgproto3.Frontend)) error {
	pg := s.conn.PgConn()
	if pg.IsBusy() {
		return errors.New("conn busy")
	}
	s.checkMarker()
	defer func() { s.sent, _ = connpool.Sent(s.conn) }()
	_ = pg.Conn().SetDeadline(time.Now().Add(endTime))
	send(pg.Frontend())
	pg.Frontend().SendSync(&pgproto3.Sync{})
	err := pgrows.Exchange(pg)
	if !pg.IsClosed() {
		_ = pg.Conn().SetDeadline(time.Time{})
	}
	return err
}

// checkStatus finds out whether somebody who has the connection has ended the transaction,
// as far as that shows without asking the server.
func (s *txn) checkStatus() {
	switch status := s.status(); {
	case s.endedBySQL || !s.beginSent || s.conn != nil && s.conn.PgConn().IsBusy(): // its status is that before what is under way
	case status == 'I':
		s.endedBySQL = s.aborted == nil || s.connHandedOut
	case status == 0 && s.connHandedOut && s.connLost == nil: // perhaps while it committed
		s.checkMarker()
		s.endedBySQL = s.used
	}
}

// verify asks the server whether its transaction is the one that was begun. If it is not,
// it is aborted.
func (s *txn) verify() {
	if s.checkMarker(); !s.used {
		s.checkStatus()
		return
	}
	if s.checkStatus(); s.endedBySQL || !s.beginSent || s.marker == "" || s.status() == 0 || s.conn.PgConn().IsBusy() {
		return
	}
	err := s.exchange(func(to *pgproto3.Frontend) { to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: s.marker}) })
	if s.endedBySQL = err != nil; s.conn.IsClosed() && s.connLost == nil {
		s.connLost = err
	}
}

// outcomeUnproven reports whether it cannot be told what became of the transaction's work,
// although it was not committed here.
func (s *txn) outcomeUnproven() bool {
	return s.endedBySQL || s.used && s.marker == ""
}

// distrustMarker forgets the marker if a statement of the body's, in lower case, may take
// it away in a transaction that goes on.
func (s *txn) distrustMarker(sql string) {
	s.savepointsUsed = s.savepointsUsed || s.marker == "" && strings.Contains(sql, "savepoint")
	if s.marker != "" && (strings.Contains(sql, "rollback") || strings.Contains(sql, "close")) {
		s.marker = ""
	}
}
