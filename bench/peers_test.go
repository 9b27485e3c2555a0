package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/workload"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// What is compared is the same work: every peer does and finds what pgx by hand does and finds.
func TestPeersAgree(t *testing.T) {
	t.Parallel()
	for _, p := range append(mains(), peers()...) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			pool := pgcmdtest.Pool(t, workload.DDL)
			workload.Agree(t, pool, open(t, p, pool.Config().ConnConfig))
		})
	}
}

// On the in-process server too: its texts are known there.
func TestPeersReadOnTheInProcessServer(t *testing.T) {
	t.Parallel()
	for _, w := range clientWorks {
		for _, p := range append(onPgxpools(), peers()...) {
			s := open(t, p, workload.Canned(w, p.spellings...).ConnConfig())
			for i := range 3 {
				assert.NoError(t, w.Run(t.Context(), s, i), "%s: %s", p.name, w.Name)
			}
		}
	}
}

func open(t *testing.T, p peer, cfg *pgx.ConnConfig) workload.Store {
	t.Helper()
	s, done, err := p.open(context.Background(), cfg)
	require.NoError(t, err, p.name)
	t.Cleanup(done)
	return s
}
