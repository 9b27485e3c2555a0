package settings_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// What a body sends by the simple protocol, before anything else, the settings are sent before in a round trip of their
// own: they are parameters, which that has not.
const sentBySimpleProtocol = "Transaction of SQL without arguments"

// A proxy counts the round trips of every kind of command, in every way, with and without settings.
func TestSettingsCostNoRoundTrip(t *testing.T) {
	t.Parallel()
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var proxy *faults.Proxy
			pool := connect(t, w, func(c *pgcmd.Config) {
				var err error
				proxy, err = faults.Start(c.URL)
				require.NoError(t, err)
				c.URL = proxy.URL()
			})
			t.Cleanup(func() { assert.NoError(t, proxy.Close()) })
			for kind, run := range kinds() {
				if name == "no descriptions" && kind == "Once" {
					continue
				}
				count := func(ctx context.Context) int64 {
					for range 2 {
						_, err := run(ctx, pool)
						require.NoError(t, err, kind)
					}
					proxy.ResetCounts()
					_, err := run(ctx, pool)
					require.NoError(t, err, kind)
					return proxy.Counts().RoundTrips
				}
				without, with := count(t.Context()), count(as(t.Context(), "red"))
				require.Positive(t, without, kind)
				if kind == sentBySimpleProtocol {
					without += 2 // where each statement is described before it is sent, else 1
				}
				assert.LessOrEqual(t, with, without, kind)
			}
		})
	}
}
