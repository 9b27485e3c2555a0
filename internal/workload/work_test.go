package workload_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/workload"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// With every store, and on both servers, the work is done: what is measured is what was asked for.
func TestEveryStoreDoesEveryWork(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, workload.DDL)
	for _, w := range workload.All {
		conn, err := pgx.ConnectConfig(ctx, workload.Canned(w).ConnConfig())
		require.NoError(t, err)
		defer conn.Close(ctx)
		for _, s := range []workload.Store{workload.Commands{DB: conn}, workload.Hand{DB: conn}, workload.Helpers{Hand: workload.Hand{DB: conn}},
			workload.StructArgs{Helpers: workload.Helpers{Hand: workload.Hand{DB: conn}}}, workload.Loop{Hand: workload.Hand{DB: conn}}} {
			for i := range 3 {
				assert.NoError(t, w.Run(ctx, s, i), "%T on the in-process server: %s", s, w.Name)
			}
		}
		for _, s := range []workload.Store{workload.Commands{DB: pool}, workload.Hand{DB: pool}, workload.Helpers{Hand: workload.Hand{DB: pool}},
			workload.StructArgs{Helpers: workload.Helpers{Hand: workload.Hand{DB: pool}}}, workload.Loop{Hand: workload.Hand{DB: pool}}} {
			assert.NoError(t, w.Run(ctx, s, 1), "%T: %s", s, w.Name)
		}
	}
}

func TestStoresAgree(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, workload.DDL)
	workload.Agree(t, pool, workload.Commands{DB: pool}, workload.Helpers{Hand: workload.Hand{DB: pool}})
}
