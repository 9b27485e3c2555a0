package rows_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// Behind a row that could not be scanned the connection is lost, at every message of the
// reply: before the statement has ended nobody knows, and what is told is so.
func TestAConnectionThatIsLostBehindAScanError(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL)
	proxy, err := faults.Start(url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	look := observer(t, url)
	// A SELECT, since PostgreSQL runs an INSERT to its end before it sends a row.
	many := pgcmd.Query[tagged, small]("w.many", `select w(@tag, i, @unreadable, @fail) as v from generate_series(1, 3) i`)
	for name, run := range map[string]func(ctx context.Context, db pgcmd.DB, in tagged) error{
		"Query": func(ctx context.Context, db pgcmd.DB, in tagged) error { _, err := many.Run(ctx, db, in); return err },
		"InTx": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			_, err := many.With(pgcmd.Options{InTx: true}).Run(ctx, db, in)
			return err
		},
		"Atomic": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			_, err := pgcmd.Batch(many, pgcmd.Atomic).Run(ctx, db, []tagged{in})
			return err
		},
		"Isolated": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			out := pgcmd.Try(ctx, db, pgcmd.Batch(many, pgcmd.Isolated), []tagged{in})
			return out.Value.Outcomes[0].Err
		},
		"Independent": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			out := pgcmd.Try(ctx, db, pgcmd.Batch(many, pgcmd.Independent), []tagged{in})
			return out.Value.Outcomes[0].Err
		},
		"Stream": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			for _, err := range pgcmd.Stream(ctx, db, many, in) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Pipeline": func(ctx context.Context, db pgcmd.DB, in tagged) error {
			p := new(pgcmd.Pipeline)
			r := pgcmd.Queue(p, many, in)
			_ = p.Run(ctx, db, pgcmd.Atomic)
			_, err := r.Get()
			return err
		},
	} {
		unknown := 0
		inputs := []tagged{{Tag: 1, Unreadable: 1}, {Tag: 1, Unreadable: 1, Fail: 3}}
		if testing.Short() {
			inputs = inputs[:1]
		}
		for _, in := range inputs {
			for at := 1; ; at++ {
				pool := connect(t, proxy.URL(), func(c *pgcmd.Config) { c.MaxConns = 1 })
				require.NoError(t, run(t.Context(), pool, tagged{Tag: 9}), "warm")
				there(t, look, "w")
				proxy.Set(&faults.Fault{Direction: faults.Backend, Message: at, Action: faults.CutBefore})
				err := run(t.Context(), pool, in)
				fired := proxy.Fired()
				proxy.Heal()
				what := fmt.Sprintf("%s of %+v, cut before message %d of the server", name, in, at)
				require.Error(t, err, what)
				n := there(t, look, "w")[1]
				switch pgcmd.EffectOf(err) {
				case pgcmd.Applied:
					assert.NotZero(t, n, "%s: %v", what, err)
				case pgcmd.NotApplied:
					assert.Zero(t, n, "%s: %v", what, err)
				default:
					unknown++
				}
				if fired == 0 {
					break
				}
			}
		}
		assert.Equal(t, name != "InTx", unknown > 0, "%s: %d cuts have left a doubt", name, unknown) // there COMMIT is not sent
	}
}
