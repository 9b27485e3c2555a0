package settings_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// onceOfTenants is the SQL that docs/tenants.md has for the ledger.
func onceOfTenants(t *testing.T) string {
	page, err := os.ReadFile("../../../docs/tenants.md")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "```sql\nalter table pgcmd.once")
	require.True(t, found)
	block, _, _ := strings.Cut(after, "```")
	return "alter table pgcmd.once" + block
}

// Two tenants use one key for one input: the run of the second is not a repetition of the first's.
func TestTheKeysOfATenantAreItsOwn(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Settings: func(ctx context.Context) ([]pgcmd.Setting, error) {
		settings, err := ofContext(ctx)
		return append(settings, pgcmd.Setting{Name: "role", Value: "pgcmd_tenant"}), err
	}}, ddl, pgcmd.OnceSchema, onceOfTenants(t), `
		do $$ begin create role pgcmd_tenant; exception when duplicate_object or unique_violation then end $$;
		grant usage on schema pgcmd to pgcmd_tenant; grant select, insert, update on pgcmd.once to pgcmd_tenant`)
	c := pgcmd.Once(who, func(none) string { return "order-1" })
	pgcmdtest.VerifyOn(t, pool, c)
	for _, tenant := range []string{"red", "blue"} {
		for _, replayed := range []bool{false, true} {
			o := pgcmd.Try(as(t.Context(), tenant), pool, c, none{})
			require.NoError(t, o.Err)
			assert.Equal(t, tenant, o.Value)
			assert.Equal(t, replayed, o.Replayed, tenant)
		}
	}
}
