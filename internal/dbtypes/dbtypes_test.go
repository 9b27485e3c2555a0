package dbtypes_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/dbtypes"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
	return conn
}

func TestLoadingTakesOneRoundTrip(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgcmdtest.URL(t, `create type mood as enum ('sad'); create type pair as (a mood[], b int4)`))
	l := &dbtypes.Loader{Names: []string{"pair", "mood"}, Timeout: time.Minute}
	assert.Equal(t, 1, pgcmdtest.CountRoundTrips(t, conn, func() { require.NoError(t, l.Load(t.Context(), conn)) }))
	for _, name := range []string{"pair", "_pair", "mood", "_mood", "public.mood"} {
		typ, ok := conn.TypeMap().TypeForName(name)
		require.True(t, ok, name)
		known, _ := conn.TypeMap().TypeForOID(typ.OID)
		assert.True(t, dbtypes.IsLoaded(conn, known), name)
	}
	text, _ := conn.TypeMap().TypeForName("text")
	assert.False(t, dbtypes.IsLoaded(conn, text))
}

func TestOnlyTheFirstConnectionHasToFindAll(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, `create type mood as enum ('sad'); create type pair as (a int4, b int4)`)
	conn := connect(t, url)
	var gone []string
	l := &dbtypes.Loader{Names: []string{"pair", "mood"}, Timeout: time.Minute, OnMissing: func(names []string) { gone = names }}
	require.NoError(t, l.Load(t.Context(), conn))
	_, err := conn.Exec(t.Context(), `drop type mood`)
	require.NoError(t, err)
	second := connect(t, url)
	require.NoError(t, l.Load(t.Context(), second))
	assert.Equal(t, []string{"mood"}, gone)
	_, ok := second.TypeMap().TypeForName("pair")
	assert.True(t, ok)
	_, ok = second.TypeMap().TypeForName("mood")
	assert.False(t, ok)

	strict := &dbtypes.Loader{Names: l.Names, Timeout: time.Minute}
	e := dbtypes.As(strict.Load(t.Context(), second))
	require.NotNil(t, e)
	assert.Equal(t, []string{"mood"}, e.Missing)
	assert.EqualError(t, e, "pgcmd: the database does not have the types mood")
}

func TestLoadingEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	blocker := connect(t, url)
	tx, err := blocker.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `lock table pg_catalog.pg_range in access exclusive mode`)
	require.NoError(t, err)
	l := &dbtypes.Loader{Names: []string{"int4range"}, Timeout: 50 * time.Millisecond}
	e := dbtypes.As(l.Load(context.Background(), connect(t, url)))
	require.NotNil(t, e)
	assert.ErrorIs(t, e, context.DeadlineExceeded)
	require.NoError(t, tx.Rollback(t.Context()))
}
