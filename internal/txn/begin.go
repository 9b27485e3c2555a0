package txn

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// CheckOptions returns an error if options are not constants of pgx: they become part of BEGIN.
func CheckOptions(o pgx.TxOptions) error {
	unknown := func(what string, value any) error {
		return fmt.Errorf("has the unknown %s %q: use pgx's constants", what, value)
	}
	switch {
	case !slices.Contains([]pgx.TxIsoLevel{"", pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted}, o.IsoLevel):
		return unknown("isolation level", o.IsoLevel)
	case !slices.Contains([]pgx.TxAccessMode{"", pgx.ReadWrite, pgx.ReadOnly}, o.AccessMode):
		return unknown("access mode", o.AccessMode)
	case !slices.Contains([]pgx.TxDeferrableMode{"", pgx.Deferrable, pgx.NotDeferrable}, o.DeferrableMode):
		return unknown("deferrable mode", o.DeferrableMode)
	case o.BeginQuery != "" || o.CommitQuery != "":
		return errors.New("sets BeginQuery or CommitQuery: pgcmd must know how a transaction begins and ends")
	}
	return nil
}

// DeferBegin adds the BEGIN of a transaction with options, which were checked.
func (t *Txn) DeferBegin(o pgx.TxOptions) {
	t.Options = o
	sql := "begin"
	if o.IsoLevel != "" {
		sql += " isolation level " + string(o.IsoLevel)
	}
	if o.AccessMode != "" {
		sql += " " + string(o.AccessMode)
	}
	if o.DeferrableMode != "" {
		sql += " " + string(o.DeferrableMode)
	}
	t.Defer(sql)
}

// IsolatesLess reports whether the transaction has a weaker isolation than level.
func (t *Txn) IsolatesLess(level pgx.TxIsoLevel) bool { return rank(t.Options.IsoLevel) < rank(level) }

// rank orders the isolation levels by strength. In PostgreSQL read uncommitted is read
// committed.
func rank(level pgx.TxIsoLevel) int {
	switch level {
	case pgx.RepeatableRead:
		return 1
	case pgx.Serializable:
		return 2
	}
	return 0
}
