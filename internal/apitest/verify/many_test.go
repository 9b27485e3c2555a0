package verify_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type manyIn struct {
	ID   int64
	Name string
	Note *string
}

type manyRow struct {
	ID    int64
	Name  string
	Other *string
	N     int64
}

// many makes n commands on forty tables with twenty columns each.
func many(n int) (ddl string, defs []pgcmd.Definition) {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "create table t%d (id int8 generated always as identity primary key, name text not null, note text, above int8 references t%d", i, max(i-1, 0))
		for j := range 16 {
			fmt.Fprintf(&b, ", c%d text", j)
		}
		b.WriteString(");\n")
	}
	for i := range n {
		t, u := i%40, (i*7+3)%40
		name := fmt.Sprintf("c%d", i)
		switch i % 4 {
		case 0:
			defs = append(defs, pgcmd.Query[manyIn, manyRow](name, fmt.Sprintf(`select a.id, a.name, b.name as other, count(*) over () as n
				from t%d a left join t%d b on b.above = a.id where a.id = @id and a.name = @name and %d = %d`, t, u, i, i)))
		case 1:
			defs = append(defs, pgcmd.Exec[manyIn](name, fmt.Sprintf(`update t%d set name = @name, note = @note where id = @id and %d = %d`, t, i, i)))
		case 2:
			defs = append(defs, pgcmd.QueryOne[manyIn, manyRow](name, fmt.Sprintf(`with x as (select id, name, note from t%d where name = @name)
				select x.id, x.name, x.note as other, (select count(*) from t%d where above = x.id) as n from x where exists (select from t%d where id = @id) and %d = %d`, t, u, u, i, i)))
		default:
			defs = append(defs, pgcmd.QueryOne[manyIn, int64](name, fmt.Sprintf(`insert into t%d (name, note) values (@name, @note || '%d') returning id`, t, i)))
		}
	}
	return b.String(), defs
}

func TestManyCommandsAreVerifiedAtOnceAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	n := 2000
	if testing.Short() {
		n = 200
	}
	ddl, defs := many(n)
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, ddl))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	start := time.Now()
	warnings, err := pgcmd.VerifyWarnings(t.Context(), conn, defs...)
	t.Logf("%d commands: %v", n, time.Since(start))
	require.NoError(t, err)
	assert.Empty(t, warnings)
	for what, sql := range map[string]string{
		"functions":  `select count(*) from pg_proc where proname ~ 'pgcmd'`,
		"schemas":    `select count(*) from pg_namespace where oid = pg_my_temp_schema()`,
		"locks":      `select count(*) from pg_locks where pid = pg_backend_pid() and relation in (select oid from pg_class where relname ~ '^t[0-9]+$')`,
		"statements": `select count(*) from pg_prepared_statements where statement ~ 't[0-9]+'`,
		"a rest":     `select case when pg_current_xact_id_if_assigned() is null then 0 else 1 end`,
	} {
		var left int
		require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&left))
		assert.Zero(t, left, what)
	}
}
