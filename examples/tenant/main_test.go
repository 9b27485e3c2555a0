package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"strings"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestTheExampleTellsWhatItClaims(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, 9000))
	for _, want := range []string{
		"a pool: 3000 reads by 100 goroutines for two tenants,",
		"a pool with Multiplex: 3000 reads by 100 goroutines for two tenants,",
		"a pool behind PgBouncer: 3000 reads by 100 goroutines for two tenants,",
		"  15000 rows seen, 0 of them the other tenant's",
		"  a context without a tenant: pgcmd: invoices.list: the context has no tenant [permission, not applied]",
		"  rows seen by a query of pgx, which has no settings: 0",
	} {
		assert.Contains(t, out.String(), want)
	}
}

func TestTheCommandsFitTheTable(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, strings.Split(schema, "create role")[0]), list, add, raise, forge) // a role outlives its database
}
