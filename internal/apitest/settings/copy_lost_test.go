package settings_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The rows and the Terminate that answers a FATAL are written by two goroutines: the race detector finds it if they are at the
// same time.
func TestACopyWhoseServerEndsTheConnectionWhileRowsAreSent(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Settings: ofContext, ApplicationName: "copying"}, ddl)
	for n := range 5 {
		_, err := copyIn.Run(as(t.Context(), "acme"), pool, func(yield func(note, error) bool) {
			for i := range int64(200_000) {
				if i == 20_000 {
					_, err := pool.Exec(t.Context(), fmt.Sprintf(`select pg_terminate_backend(pid) from pg_stat_activity
						where application_name = 'copying' and datname = current_database() and pid <> pg_backend_pid() -- %d`, n))
					assert.NoError(t, err)
				}
				if !yield(note{ID: i}, nil) {
					return
				}
			}
		})
		e, ok := err.(*pgcmd.Error)
		require.True(t, ok, "%v", err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
	}
}
