// Package catalogjson_test is about the JSON of a catalog: what goes out, and comes back.
package catalogjson_test

import (
	"context"
	"encoding/json"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type none = struct{}

type (
	day    time.Time
	amount struct{ cents int64 } //lint:ignore U1000 its being there is what counts
	shown  struct{ cents int64 }
	marker struct{ _ [0]func() }
	valued struct {
		Amount   int64
		currency string
	}
)

func (s shown) MarshalJSON() ([]byte, error) { return json.Marshal(s.cents) }

func (v *valued) Scan(any) error { v.Amount, v.currency = 1, "EUR"; return nil }

func body[In, Out any](name string) *pgcmd.Command[In, Out] {
	return pgcmd.New(name, func(context.Context, pgcmd.DB, In) (out Out, err error) { return out, nil })
}

func TestACatalogRefusesTypesWhoseStateJSONDoesNotShow(t *testing.T) {
	t.Parallel()
	for where, def := range map[string]pgcmd.Definition{
		"output.At is a zeronull.Timestamptz":       body[none, struct{ At zeronull.Timestamptz }]("x"),
		"input.At is a zeronull.Timestamptz":        body[struct{ At zeronull.Timestamptz }, none]("x"),
		"output[].At is a catalogjson_test.day":     body[none, []struct{ At *day }]("x"),
		"output[] is a catalogjson_test.day":        body[none, map[string]day]("x"),
		"input.Sum[] is a catalogjson_test.amount":  body[struct{ Sum []amount }, none]("x"),
		"output.Value is a catalogjson_test.amount": pgcmd.Batch(body[none, amount]("x"), pgcmd.Independent),
		"output is a catalogjson_test.valued":       pgcmd.QueryOne[none, valued]("x", "select 1"),
		"input.Sum is a catalogjson_test.shown":     body[struct{ Sum shown }, none]("x"),
		"output.URL.User is a url.Userinfo":         body[none, struct{ URL url.URL }]("x"),
		"output.N is a atomic.Int64":                body[none, struct{ N *atomic.Int64 }]("x"),
	} {
		t.Run(where, func(t *testing.T) {
			defer func() {
				reason, _ := recover().(string)
				assert.Contains(t, reason, "pgcmd: NewCatalog: x")
				assert.Contains(t, reason, where)
				assert.Contains(t, reason, "unexported")
			}()
			pgcmd.NewCatalog(def)
		})
	}
	pgcmd.NewCatalog(body[none, none]("a"), body[none, shown]("b"), body[none, marker]("c"), body[time.Time, pgtype.Timestamptz]("d"),
		body[json.RawMessage, any]("e"), body[pgtype.UUID, pgtype.Range[time.Time]]("f"))
}

// What goes out of a catalog comes back as it was.
func TestATimestampComesBackAsItWentOut(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table s (id int, at timestamptz)`)
	type stamp struct {
		ID int        `json:"id"`
		At *time.Time `json:"at"`
	}
	c := pgcmd.NewCatalog(pgcmd.Exec[stamp]("put", `insert into s values (@id, @at)`), pgcmd.QueryOne[none, stamp]("get", `select id, at from s`))
	for _, at := range []string{"2024-01-01 10:00:00.123456+00", ""} {
		_, err := pool.Exec(t.Context(), `insert into s values (1, nullif($1, '')::timestamptz)`, at)
		require.NoError(t, err)
		out, err := c.Run(t.Context(), pool, "get", nil)
		require.NoError(t, err)
		_, err = c.Run(t.Context(), pool, "put", out)
		require.NoError(t, err)
		var same bool
		require.NoError(t, pool.QueryRow(t.Context(), `select count(*) = 2 and count(distinct coalesce(at, 'infinity')) = 1 from s`).Scan(&same))
		require.True(t, same)
		_, err = pool.Exec(t.Context(), `truncate s`)
		require.NoError(t, err)
	}
}
