package pgcmd

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
)

// errUnreplicated is returned by a body beside its output, and is not a failure: the body's
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

// warning returns errUnreplicated if the standby did not confirm the statement, which has
// ended.
func (r *result) warning() error {
	if r.netConn != nil && r.netConn.Unreplicated() != r.unreplicated {
		return errUnreplicated
	}
	return nil
}
