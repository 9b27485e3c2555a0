package migrations_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/migrations"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// folders hold the same two migrations by the conventions of each tool, and what must not be run.
var folders = map[string]map[string]string{
	"goose": {
		"00002_more.sql": "-- +goose NO TRANSACTION\n-- +goose Up\nalter table widgets add added date;\ncreate index concurrently on widgets (added);\n-- +goose Down\ndrop table widgets;\n",
		"00001_first.sql": "-- +goose Up\n-- +goose StatementBegin\ncreate function one() returns int language plpgsql as $$ begin\n return 1; end; $$;\n-- +goose StatementEnd\n" +
			"create table widgets (id int, name text default 'a;b');\n\n-- +goose Down\n-- +goose StatementBegin\ndrop table widgets;\n-- +goose StatementEnd\n",
	},
	"golang-migrate": {
		"2_more.up.sql":    "alter table widgets add added date",
		"2_more.down.sql":  "alter table widgets drop added",
		"10_last.up.sql":   "insert into widgets (added) values (now())",
		"10_last.down.sql": "delete from widgets",
		"1_first.up.sql":   "create table widgets (id int, name text);",
		"1_first.down.sql": "drop table widgets",
	},
	"dbmate": {
		"20240101000000_first.sql": "-- migrate:up\ncreate table widgets (id int, name text);\n\n-- migrate:down\ndrop table widgets;\n",
		"20240102000000_more.sql":  "-- migrate:up transaction:false\nalter table widgets add added date;\n-- migrate:down\nalter table widgets drop added;\n",
	},
	"atlas": {
		"20240101000000.sql":            "create table gone (id int);",
		"20240102000000_checkpoint.sql": "-- atlas:checkpoint\n\ncreate table widgets (id int, name text);",
		"20240103000000.sql":            "-- atlas:txmode none\n\nalter table widgets add added date;",
		"atlas.sum":                     "h1:...",
	},
	"goose by atlas": { // which writes the folders of other tools too
		"20240101000000.sql": "-- +goose Up\ncreate table widgets (id int, name text);\nalter table widgets add added date;\n-- +goose Down\ndrop table widgets;",
		"atlas.sum":          "h1:...",
	},
	"tern": {
		"001_first.sql": "create table widgets (id int, name text);\n---- create above / drop below ----\ndrop table widgets;\n",
		"002_more.sql":  "alter table widgets add added date;\n",
	},
	"sql-migrate": {
		"1-first.sql": "-- +migrate Up\ncreate table widgets (id int, name text);\n-- +migrate Down\ndrop table widgets;\n",
		"2-more.sql":  "-- +migrate Up notransaction\nalter table widgets add added date;\n-- +migrate Down\nalter table widgets drop added;\n",
	},
	"folders": {
		"20240102_more/migration.sql": "alter table widgets add added date;",
		"20240101_first/up.sql":       "create table widgets (id int, name text);",
		"20240101_first/down.sql":     "drop table widgets;",
	},
	"plain": {
		"9_first.sql":  "begin;\ncreate table widgets (id int, name text);\nlock table widgets;\nsavepoint a;\ncommit;\nsavepoint b;\n",
		"10_more.sql":  "set local search_path = pg_catalog, public;\nalter table widgets add added date;\nselect 1;\n-- name: Find :one\nselect * from widgets where id = @id;\n",
		"11_query.sql": "create function two() returns int begin atomic select case when true then 1 end; select 2; end;\nselect two();",
		"README.md":    "not SQL",
	},
	"dump": {
		"schema.sql": "\\restrict abc\nSELECT pg_catalog.set_config('search_path', '', false);\nSET check_function_bodies = false;\nCREATE TABLE public.widgets (id int, name text);\n" +
			"COPY public.widgets (id, name) FROM stdin;\n1\tit's; a row\n\\.\n\nALTER TABLE public.widgets ADD added date;\n\\unrestrict abc\n",
	},
}

func TestTheMigrationsOfEachToolMakeTheSchema(t *testing.T) {
	t.Parallel()
	for tool, files := range folders {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			read, err := migrations.Read(write(t, files))
			require.NoError(t, err)
			want, _, _ := strings.Cut(tool, " ")
			if tool == "dump" || tool == "folders" {
				want = "plain"
			}
			assert.Equal(t, want, read[0].Tool)
			conn := connect(t)
			ran := 0
			require.NoError(t, migrations.Run(t.Context(), conn, read, func(migrations.File) { ran++ }))
			assert.Equal(t, len(read), ran)
			var columns string
			require.NoError(t, conn.QueryRow(t.Context(), "select string_agg(attname, ' ' order by attnum) from pg_attribute where attrelid = 'widgets'::regclass and attnum > 0").Scan(&columns))
			assert.Equal(t, "id name added", columns)
			var gone bool
			require.NoError(t, conn.QueryRow(t.Context(), "select to_regclass('gone') is null").Scan(&gone))
			assert.True(t, gone, "what came before a checkpoint was run")
		})
	}
}

func TestARoleThatASchemaGrantsToIsCreated(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	conn, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	read, err := migrations.Read(write(t, map[string]string{"a.sql": `create table a (); grant select on a to "Report ing", other`}))
	require.NoError(t, err)
	require.NoError(t, migrations.Run(t.Context(), conn, read, nil))
	var may bool
	require.NoError(t, conn.QueryRow(t.Context(), `select has_table_privilege('Report ing', 'a', 'select') and has_table_privilege('other', 'a', 'select')`).Scan(&may))
	assert.True(t, may)
}

// What is about databases as wholes is left out: a dump may drop the one that it is of. Roles and tablespaces are not
// changed either: the server may be one that others use.
func TestTheServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	read, err := migrations.Read(write(t, map[string]string{"a.sql": `drop database if exists postgres with (force); create database mine; alter database postgres set work_mem = '4MB';
		comment on database postgres is 'x'; grant connect on database nosuch to public; alter system set work_mem = '4MB';
		create role pgcmd_migrations_twice; create role pgcmd_migrations_twice; create table a (id int); comment on table a is 'on database'; grant select on a to public;
		alter role pgcmd_migrations_twice login; alter user pgcmd_migrations_twice set work_mem = '4MB'; alter group pgcmd_migrations_twice add user postgres;
		drop user mapping if exists for public server nosuch; drop role if exists pgcmd_migrations_twice; create tablespace nosuch location '/nosuch'; drop tablespace nosuch`}))
	require.NoError(t, err)
	require.Len(t, read[0].Statements, 6)
	require.NoError(t, migrations.Run(t.Context(), conn, read, nil))
	var login bool
	require.NoError(t, conn.QueryRow(t.Context(), "select rolcanlogin from pg_roles where rolname = 'pgcmd_migrations_twice'").Scan(&login))
	assert.False(t, login)
}

func TestAnErrorNamesTheFileAndTheLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, want string }{
		"refused":          {"create table a ();\n\ncreate table b (\n  id nosuchtype\n);", `a.sql:4: ERROR: type "nosuchtype" does not exist`},
		"without a place":  {"create table a ();\n\ndrop table b;", `a.sql:3: ERROR: table "b" does not exist`},
		"does not parse":   {"create table a ();\nselect 'x", "a.sql:2:8: the string that begins here is never closed"},
		"an unknown thing": {"alter table nosuch add x int;", `a.sql:1: ERROR: relation "nosuch" does not exist`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read, err := migrations.Read(write(t, map[string]string{"a.sql": c.sql}))
			if err == nil {
				err = migrations.Run(t.Context(), connect(t), read, nil)
			}
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
		})
	}
}

func TestWhatIsNoSchemaIsAnError(t *testing.T) {
	t.Parallel()
	_, err := migrations.Read(t.TempDir())
	assert.ErrorContains(t, err, "holds no file .sql")
	_, err = migrations.Read(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Editors and macOS leave files beside the migrations that hold no SQL.
func TestHiddenFilesAreNoMigrations(t *testing.T) {
	t.Parallel()
	read, err := migrations.Read(write(t, map[string]string{"a.sql": "select 1", ".#a.sql": "'", "._a.sql": "\x00\x05"}))
	require.NoError(t, err)
	assert.Len(t, read, 1)
}

func TestMigrationsInGoAreKnown(t *testing.T) {
	t.Parallel()
	folder := write(t, map[string]string{"001_a.sql": "", "002_b.go": "", "002_b_test.go": "", "main.go": ""})
	assert.Equal(t, []string{"002_b.go"}, migrations.InGo(folder))
}

func TestALineOfAStatementIsThatOfItsFile(t *testing.T) {
	t.Parallel()
	read, err := migrations.Read(write(t, map[string]string{"a.sql": "-- +goose Up\n\ncreate table a ();\n-- +goose Down\ndrop table a;\n-- +goose Up\ncreate table b ()"}))
	require.NoError(t, err)
	require.Len(t, read[0].Statements, 2)
	assert.Equal(t, migrations.Statement{SQL: "create table a ()", Line: 3}, read[0].Statements[0])
	assert.Equal(t, migrations.Statement{SQL: "create table b ()", Line: 7}, read[0].Statements[1])
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	return folder
}

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}
