package types_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestALabelThatIsAddedNeedsNoReset(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"mood"}}, schema)
	_, err := moods.Run(t.Context(), pool, []mood{"sad"})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `alter type mood add value 'proud'`)
	require.NoError(t, err)
	got, err := moods.Run(t.Context(), pool, []mood{"proud"})
	require.NoError(t, err)
	assert.Equal(t, []mood{"proud"}, got)
}

// A struct has to have all attributes that its type has when the connection is made.
func TestAnAttributeThatIsAdded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"pair"}}, `create type pair as (a int4, b text)`)
	type old struct {
		A int32
		B *string
	}
	type added struct {
		A int32
		B *string
		C *int32
	}
	reads := pgcmd.QueryOne[struct{}, value[old]]("old", `select p.v from (select row(1, 'x')::pair as v) p`)
	sends := pgcmd.QueryOne[value[old], string]("send", `select @v::pair::text`)
	sendsAll := pgcmd.QueryOne[value[added], string]("send", `select @v::pair::text`)
	_, err := reads.Run(ctx, pool, struct{}{})
	require.NoError(t, err)
	_, err = pool.Exec(ctx, `alter type pair add attribute c int4`)
	require.NoError(t, err)
	_, err = pgcmd.QueryOne[struct{}, value[old]]("old", `select row(1, 'x', 3)::pair as v`).Run(ctx, pool, struct{}{})
	assert.NoError(t, err, "what is loaded has two, and the third is left")
	_, err = sends.Run(ctx, pool, value[old]{old{A: 1}})
	assert.Error(t, err, "the server wants three")
	pool.Reset()
	_, err = sends.Run(ctx, pool, value[old]{old{A: 1}})
	assert.Error(t, err, "the struct has two")
	_, err = pgcmd.QueryOne[struct{}, value[old]]("old", `select row(1, 'x', 3)::pair as v`).Run(ctx, pool, struct{}{})
	assert.Error(t, err)
	text, err := sendsAll.Run(ctx, pool, value[added]{added{A: 1}})
	require.NoError(t, err)
	assert.Equal(t, "(1,,)", text)
}

func TestAModeWithoutTypesTakesRegisteredGoTypes(t *testing.T) {
	t.Parallel()
	for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"mood"}, Pgx: func(c *pgxpool.Config) {
			c.ConnConfig.DefaultQueryExecMode = m
			c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
				conn.TypeMap().RegisterDefaultPgType([]mood{}, "_mood")
				return nil
			}
		}}, schema)
		got, err := moods.Run(t.Context(), pool, []mood{"sad"})
		require.NoError(t, err, m)
		assert.Equal(t, []mood{"sad"}, got)
	}
}

func TestARangeToInfinityIsNoRangeOfTimes(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	const sql = `select tstzrange('2024-01-01', 'infinity') as v`
	_, err := pgcmd.QueryOne[struct{}, value[pgtype.Range[time.Time]]]("r", sql).Run(t.Context(), pool, struct{}{})
	assert.Error(t, err)
	got, err := pgcmd.QueryOne[struct{}, value[pgtype.Range[pgtype.Timestamptz]]]("r", sql).Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.Equal(t, pgtype.Infinity, got.V.Upper.InfinityModifier)
}
