package reliability_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestABusyConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	conn, err := s.pool.Acquire(s.patient())
	require.NoError(t, err)
	defer conn.Release()
	rows, err := conn.Query(s.patient(), `select generate_series(1, 1000)`)
	require.NoError(t, err)
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}
	for _, c := range []column{read, write, inTx} {
		id := newID()
		out := pgcmd.Try(s.patient(), conn, s.healthy(c).With(again), id)
		e := s.failed(out.Err)
		assert.Equal(t, pgcmd.CodeInternal, e.Code, "%s: %v", c, e)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: %v", c, e)
		assert.Equal(t, 1, out.Attempts, c)
		assert.Zero(t, s.count(id), c)
	}
	rows.Close()
	require.NoError(t, rows.Err(), "what was open can be read on")
	_, err = s.healthy(inTx).Run(s.patient(), conn, newID())
	require.NoError(t, err)
}

// On a single connection only failures that leave it alive are tried again.
func TestRetriesOnASingleConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	for _, c := range []column{read, inTx} {
		conn, err := s.pool.Acquire(s.patient())
		require.NoError(t, err)
		s.exec(`select setval($1, 1, false)`, s.shots)
		out := pgcmd.Try(s.patient(), conn, raises("40001")(s, c).cmd.With(again), newID())
		require.NoError(t, out.Err, c)
		assert.Equal(t, 2, out.Attempts, c)

		id := newID()
		s.at(c, id, request, faults.Reset)
		out = pgcmd.Try(s.patient(), conn, s.healthy(c).With(again), id)
		e := s.failed(out.Err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, c)
		assert.Equal(t, 1, out.Attempts, c)
		conn.Release()
	}
}
