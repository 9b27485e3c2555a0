package txn

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
		var s State
		assert.Equal(t, error(consequence), s.Cause(consequence), "another client may have aborted it")
		s.abort(first)
		s.abort(second)
		assert.Equal(t, first, s.Cause(consequence))
		assert.Equal(t, second, s.Cause(second))
	})
	t.Run("is active again after a rollback to a savepoint", func(t *testing.T) {
		var s State
		s.abort(first)
		s.Recovered()
		assert.Equal(t, State{}, s)
		s.abort(second)
		assert.Equal(t, second, s.Cause(consequence))
	})
	t.Run("stays unrecoverable after a conflict", func(t *testing.T) {
		var s State
		s.conflict(first)
		s.abort(first)
		s.Recovered()
		assert.Equal(t, State{Err: first, Unrecoverable: true}, s)
		s.abort(second)
		assert.Equal(t, State{Err: first, Aborted: true, Unrecoverable: true}, s)
	})
	t.Run("keeps other reasons after a rollback to a savepoint", func(t *testing.T) {
		s := State{ConnLost: first, Misused: second, EndedBySQL: true}
		s.abort(second)
		s.Recovered()
		assert.Equal(t, State{ConnLost: first, Misused: second, EndedBySQL: true}, s)
	})
}
