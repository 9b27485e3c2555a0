package pgrows

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Failed returns the rows of a query that was not sent because of err.
func Failed(err error) pgx.Rows { return failed{err: err} }

// failed embeds the interface because that grows: a method that is missing here must not be
// called on rows that failed.
type failed struct {
	pgx.Rows
	err error
}

func (r failed) Close()                                       {}
func (r failed) Err() error                                   { return r.err }
func (r failed) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r failed) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r failed) Next() bool                                   { return false }
func (r failed) Scan(...any) error                            { return r.err }
func (r failed) Values() ([]any, error)                       { return nil, r.err }
func (r failed) RawValues() [][]byte                          { return nil }
func (r failed) Conn() *pgx.Conn                              { return nil }
