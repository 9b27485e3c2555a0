package pgcmd

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

func TestTheStateOfATransaction(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	consequence := &pgconn.PgError{Code: "25P02"}

	t.Run("names the first error as the cause", func(t *testing.T) {
		var s txnState
		assert.Equal(t, error(consequence), s.cause(consequence), "another client may have aborted it")
		s.abort(first)
		s.abort(second)
		assert.Equal(t, first, s.cause(consequence))
		assert.Equal(t, second, s.cause(second))
	})
	t.Run("is active again after a rollback to a savepoint", func(t *testing.T) {
		var s txnState
		s.abort(first)
		s.recovered()
		assert.Equal(t, txnState{}, s)
		s.abort(second)
		assert.Equal(t, second, s.cause(consequence))
	})
	t.Run("stays unrecoverable after a conflict", func(t *testing.T) {
		var s txnState
		s.conflict(first)
		s.abort(first)
		s.recovered()
		assert.Equal(t, txnState{err: first, unrecoverable: true}, s)
		s.abort(second)
		assert.Equal(t, txnState{err: first, aborted: true, unrecoverable: true}, s)
	})
	t.Run("keeps other reasons after a rollback to a savepoint", func(t *testing.T) {
		s := txnState{connLost: first, misused: errConnLost, endedBySQL: true}
		s.abort(second)
		s.recovered()
		assert.Equal(t, txnState{connLost: first, misused: errConnLost, endedBySQL: true}, s)
	})
}
