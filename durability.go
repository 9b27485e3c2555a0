package pgcmd

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// errUnreplicated is what a body returns beside its output, and no error: what it did is
// committed, and the synchronous standby has not got it.
var errUnreplicated = errors.New("pgcmd: committed, but the synchronous standby has not got it")

// lacksStandby reports whether a notice says that a COMMIT is not on the synchronous
// standby: somebody has cancelled its wait. The text is in the server's language, the name
// of its routine is not.
func lacksStandby(n *pgconn.Notice) bool { return n.Routine == "SyncRepWaitForLSN" }

// countUnreplicated lets the connections that are made from cfg count what they commit
// without the standby.
func countUnreplicated(cfg *pgconn.Config) {
	hook := cfg.OnNotice
	cfg.OnNotice = func(pg *pgconn.PgConn, n *pgconn.Notice) {
		if lacksStandby(n) {
			if w := unwrapNetConn(pg.Conn()); w != nil {
				w.unreplicated.Add(1)
			}
		}
		if hook != nil {
			hook(pg, n)
		}
	}
}

// warning returns errUnreplicated if that is what became of the statement, which has ended.
func (r *result) warning() error {
	if r.netConn != nil && r.netConn.unreplicated.Load() != r.unreplicated {
		return errUnreplicated
	}
	return nil
}

// unreplicatedOn is how often a connection has committed without the standby, as far as it
// is counted; w may be nil.
func unreplicatedOn(w *netConn) int32 {
	if w == nil {
		return 0
	}
	return w.unreplicated.Load()
}
