package verify_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const shopSchema = `
create type mood as enum ('sad', 'ok');
create domain label as text not null;
create table shops (id int8 generated always as identity primary key, name text not null, note text, mood mood not null default 'ok',
	tags text[] not null default '{}', size int2 not null default 0, label label default 'x');
create table filled (id int8 generated always as identity primary key, name text not null);
create function fill() returns trigger language plpgsql as 'begin new.name := coalesce(new.name, ''x''); return new; end';
create trigger fill before insert or update on filled for each row execute function fill();`

// sayings are the findings and the warnings about commands, as one text.
func sayings(t *testing.T, db pgcmd.DB, defs ...pgcmd.Definition) (findings, warnings string) {
	t.Helper()
	list, err := pgcmd.VerifyWarnings(t.Context(), db, defs...)
	for _, p := range list {
		warnings += fmt.Sprintf("%s: %s %s\n", p.Rule, p.Field, p.Message)
	}
	var e *pgcmd.Error
	if errors.As(err, &e) {
		for _, p := range e.Problems {
			findings += fmt.Sprintf("%s: %s %s\n", p.Rule, p.Field, p.Message)
		}
		require.NotEmpty(t, e.Problems, err)
	}
	return findings, warnings
}

func TestWhatIsSentToAColumnThatIsNotNull(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, shopSchema)
	type pointer struct{ V *string }
	type required struct {
		V *string `validate:"required"`
	}
	type text struct{ V string }
	type slice struct{ V []string }
	type null struct{ V pgtype.Text }
	type sqlNull struct{ V sql.NullString }
	const may, warn, fine = "finding", "warning", ""
	for name, c := range map[string]struct {
		def  pgcmd.Definition
		said string
	}{
		"a pointer":                           {pgcmd.Exec[pointer]("x", `update shops set name = @v`), may},
		"a pointer that is validated":         {pgcmd.Exec[required]("x", `update shops set name = @v`), fine},
		"one that is not, as it is trusted":   {pgcmd.Exec[required]("x", `update shops set name = @v`).With(pgcmd.Options{Trusted: true}), may},
		"a string":                            {pgcmd.Exec[text]("x", `update shops set name = @v`), fine},
		"a pgtype.Text":                       {pgcmd.Exec[null]("x", `update shops set name = @v`), may},
		"a sql.NullString":                    {pgcmd.Exec[sqlNull]("x", `update shops set name = @v`), may},
		"a slice":                             {pgcmd.Exec[slice]("x", `update shops set tags = @v`), warn},
		"to a column that takes it":           {pgcmd.Exec[pointer]("x", `update shops set note = @v`), fine},
		"to a domain":                         {pgcmd.Exec[pointer]("x", `update shops set label = @v`), may},
		"with coalesce":                       {pgcmd.Exec[pointer]("x", `update shops set name = coalesce(@v, name)`), fine},
		"through a cast":                      {pgcmd.Exec[pointer]("x", `update shops set name = @v::varchar(5)`), may},
		"in an expression":                    {pgcmd.Exec[pointer]("x", `update shops set note = @v || 'x'`), fine},
		"through a function":                  {pgcmd.Exec[pointer]("x", `update shops set name = lower(@v)`), may},
		"through a function with coalesce":    {pgcmd.Exec[pointer]("x", `update shops set name = coalesce(lower(@v), name)`), fine},
		"through a function that excludes it": {pgcmd.Exec[pointer]("x", `insert into shops (name) select lower(@v) where @v is not null`), fine},
		"by an insert":                        {pgcmd.Exec[pointer]("x", `insert into shops (name) values ('a'), (@v)`), may},
		"by an insert of a query":             {pgcmd.Exec[pointer]("x", `insert into shops (name) select @v from shops`), may},
		"on conflict":                         {pgcmd.Exec[pointer]("x", `insert into shops (name) values ('a') on conflict (id) do update set name = @v`), may},
		"in a common table expression":        {pgcmd.Query[pointer, int64]("x", `with u as (update shops set name = @v returning id) select id from u`), may},
		"that a trigger fills":                {pgcmd.Exec[pointer]("x", `update filled set name = @v`), fine},
		"in an optional part, which is sent if it is set": {pgcmd.Exec[pointer]("x", `update shops set note = '' /*? , name = @v */`), fine},
		"beside an optional part":                         {pgcmd.Exec[pointer]("x", `update shops set name = @v where true /*? and note = @v */`), may},
		"in a condition":                                  {pgcmd.Exec[pointer]("x", `update shops set note = '' where name = @v`), fine},
		"left out":                                        {pgcmd.Exec[text]("x", `insert into shops (note) values (@v)`), may},
		"left out, filled by a trigger":                   {pgcmd.Exec[struct{}]("x", `insert into filled default values`), fine},
		"a copy of a pointer":                             {pgcmd.Copy[struct{ Name *string }]("x", pgx.Identifier{"shops"}), may},
		"a copy of a slice": {pgcmd.Copy[struct {
			Name string
			Tags []string
		}]("x", pgx.Identifier{"shops"}), warn},
		"a copy of a slice that is never nil": {pgcmd.Copy[struct {
			Name string
			Tags []string `db:"tags,notnull"`
		}]("x", pgx.Identifier{"shops"}), fine},
		"a copy of a slice that is validated": {pgcmd.Copy[struct {
			Name string
			Tags []string `validate:"required"`
		}]("x", pgx.Identifier{"shops"}), fine},
		"a copy that a trigger fills": {pgcmd.Copy[struct{ Name *string }]("x", pgx.Identifier{"filled"}), fine},
	} {
		findings, warnings := sayings(t, pool, c.def)
		switch c.said {
		case may:
			assert.Contains(t, findings, "null: x", name)
		case warn:
			assert.Empty(t, findings, name)
			assert.Contains(t, warnings, "null: x", name)
		default:
			assert.Empty(t, findings+warnings, name)
		}
	}
	findings, _ := sayings(t, pool, pgcmd.Exec[pointer]("shops.rename", `update shops set name = @v`), pgcmd.Exec[text]("shops.note", `insert into shops (note) values (@v)`))
	assert.Equal(t, "null: shops.rename: pointer.V (*string) may be nil, which is NULL, and @v sets column \"name\" of table shops, which is NOT NULL: make it string, or use coalesce(@v, ...) in the SQL\n"+
		"null: shops.note: column name is NOT NULL without a default, and the INSERT into shops leaves it out: add it to the SQL, or give it a default\n", findings)
}

func TestAColumnThatTheAuthorKnowsNotToBeNull(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, shopSchema)
	findings, _ := sayings(t, pool, pgcmd.Query[struct{}, struct{ Note string }]("x", `select note from shops`))
	assert.Equal(t, "null: x: row.Note (string) cannot hold NULL, and column \"note\" of table shops may be NULL: make it *string, use coalesce, or exclude NULL by a condition\n", findings)
	findings, _ = sayings(t, pool, pgcmd.Query[struct{}, struct {
		Text string `db:"note,notnull"`
	}]("x", `select note from shops`), pgcmd.Query[struct{}, struct {
		Note string `db:",notnull"`
	}]("y", `select note from shops`))
	assert.Empty(t, findings)
	findings, _ = sayings(t, pool, pgcmd.Query[struct{}, struct{ Note string }]("x", "select\n\tnote\nfrom shops"))
	assert.Contains(t, findings, `may be NULL (line 2 of the SQL): make it *string`)
}

func TestEnumsAndNarrowingBehindCasts(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, shopSchema)
	type in struct {
		Mood string `validate:"oneof=sad glad"`
	}
	for sql, found := range map[string]bool{
		`select id from shops where mood = @mood`:             true,
		`select id from shops where mood = @mood::mood`:       true,
		`select id from shops where mood = @mood::text::mood`: true,
		`select id from shops where name = @mood`:             false,
	} {
		findings, _ := sayings(t, pool, pgcmd.Query[in, int64]("x", sql))
		assert.Equal(t, found, findings != "", "%s: %s", sql, findings)
	}
	findings, _ := sayings(t, pool, pgcmd.Copy[struct {
		Name string
		Mood string `validate:"oneof=sad glad"`
	}]("x", pgx.Identifier{"shops"}))
	assert.Contains(t, findings, `may be "glad" by its validate tag, and mood has no such value`)

	type size struct{ Size int64 }
	findings, _ = sayings(t, pool, pgcmd.Exec[size]("x", `update shops set size = @size`))
	assert.Contains(t, findings, "range: x: size.Size (int64) holds more than @size (int2)")
	for _, sql := range []string{`update shops set size = @size::int2`, `update shops set size = cast(@size as int2)`, `update shops set size = @size::int8::int2`} {
		findings, warnings := sayings(t, pool, pgcmd.Exec[size]("x", sql))
		assert.Empty(t, findings, sql)
		assert.Contains(t, warnings, "range: x: size.Size (int64) holds more than", sql)
	}
}

func TestWhatCannotBeAnalyzedIsSaidOnceAndTheRestIsChecked(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	url, err := server.Database(t.Context(), shopSchema+`
		create role clerk login; grant all on all tables in schema public to clerk;
		do $$ begin execute 'revoke temporary on database ' || quote_ident(current_database()) || ' from public'; end $$`)
	require.NoError(t, err)
	defs := []pgcmd.Definition{
		pgcmd.Query[struct{}, string]("shops.notes", `select note from shops`),
		pgcmd.Query[struct{}, struct{ Gone string }]("shops.gone", `select note from shops`),
		pgcmd.Exec[struct{}]("shops.drop", `drop table shops`),
	}
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.ConnConfig.User = "clerk"
	clerk, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer clerk.Close()
	findings, warnings := sayings(t, clerk, defs...)
	assert.Contains(t, findings, "column: shops.gone")
	assert.NotContains(t, findings, "null:")
	assert.Equal(t, "analysis: pgcmd.Verify did not look at NULLs, writes and rights of shops.notes, shops.gone, shops.drop: "+
		"the role clerk may not make temporary functions: grant temporary on the database to it\n", warnings)

	owner, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer owner.Close()
	findings, warnings = sayings(t, owner, defs...)
	assert.Contains(t, findings, "null: shops.notes")
	assert.Equal(t, "analysis: pgcmd.Verify did not look at NULLs, writes and rights of shops.drop: the server does not analyze such a statement before it executes it\n", warnings)
	tx, err := owner.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	_, warnings = sayings(t, tx, defs[0])
	assert.Contains(t, warnings, "the transaction is read-only, and cannot make a temporary function")
	require.NoError(t, tx.Rollback(t.Context()))

	standby, err := server.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	there, err := standby.URLOf(url)
	require.NoError(t, err)
	reader, err := pgxpool.New(t.Context(), there)
	require.NoError(t, err)
	defer reader.Close()
	findings, warnings = sayings(t, reader, defs...)
	assert.Contains(t, findings, "column: shops.gone")
	assert.Contains(t, warnings, "the server is a standby, which cannot make a temporary function")
}
