package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	kindsSchema  = "internal/kinds/migrations"
	kindsQueries = "internal/kinds/queries"
)

// sharedServer is one for all tests, which ends with the process.
var sharedServer = sync.OnceValues(func() (string, error) {
	if url := os.Getenv(runningServer); url != "" {
		return url, nil
	}
	server, err := pgcmdtest.Start(context.Background())
	if err != nil {
		return "", err
	}
	return server.URL(), nil
})

// pgcmd runs the program, without the environment but for the server of the tests.
func pgcmd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return pgcmdWith(t, &app{stdin: strings.NewReader("")}, args...)
}

func pgcmdWith(t *testing.T, a *app, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	a.stdout, a.stderr = &out, &err
	if a.getenv == nil {
		a.getenv = func(name string) string {
			if name != runningServer {
				return ""
			}
			server, err := sharedServer()
			assert.NoError(t, err)
			return server
		}
	}
	code = a.main(t.Context(), args)
	return code, out.String(), err.String()
}

func TestWhatIsNoUseIsMisuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":                 {nil, "pgcmd describe"},
		"another command":         {[]string{"frobnicate"}, `"frobnicate" is no command of pgcmd: use describe, scaffold or verify`},
		"another flag":            {[]string{"describe", "-frob", "select 1"}, "flag provided but not defined: -frob\nSee pgcmd help describe."},
		"no statement":            {[]string{"describe"}, "give one statement, in quotes"},
		"two statements":          {[]string{"describe", "select", "1"}, "give one statement, in quotes"},
		"a second statement":      {[]string{"describe", "select 1; drop table a"}, "give one statement: another one begins after the semicolon"},
		"no database":             {[]string{"describe", "select 1"}, "no database: give -d URL or DATABASE_URL, or -schema"},
		"no files":                {[]string{"scaffold"}, "which files?"},
		"no such file":            {[]string{"scaffold", "nosuch/*.sql"}, "nosuch/*.sql: no such file"},
		"a folder without SQL":    {[]string{"scaffold", "internal"}, "internal: holds no file .sql"},
		"a check of nothing":      {[]string{"scaffold", "-check", kindsQueries}, "-check compares with the files of -o"},
		"a type that is none":     {[]string{"scaffold", "-type", "uuid", kindsQueries}, "-type uuid: write -type uuid=github.com/google/uuid.UUID"},
		"a name of no package":    {[]string{"scaffold", "-package", "a b", kindsQueries}, "-package a b: not a name of a package"},
		"no such schema":          {[]string{"describe", "-schema", "nosuch", "select 1"}, "nosuch: no such file"},
		"no server":               {[]string{"describe", "-d", "postgres://u:hidden@127.0.0.1:1/x?sslmode=disable", "select 1"}, "failed to connect"},
		"no packages":             {[]string{"verify", "-d", "postgres://x", "./nosuch"}, "go list"},
		"a URL that is none":      {[]string{"describe", "-d", "hidden", "select 1"}, "cannot be parsed (the reason is withheld"},
		"help of another command": {[]string{"help", "frobnicate"}, `"frobnicate" is no command of pgcmd`},
		"an empty statement":      {[]string{"describe", "-- nothing\n;"}, "give one statement: this is none"},
		"a name that is none":     {[]string{"describe", "-name", "a b", "select 1"}, "-name a b: not a name of Go"},
		"a type not of Go":        {[]string{"describe", "-schema", kindsSchema, "-type", "int4=a b", "select 1"}, "the type int4=a b is not one of Go"},
		"an unknown type":         {[]string{"scaffold", "-schema", kindsSchema, "-type", "nosuch=a.B", "-type", "Person=a.B", kindsQueries}, "-type Person: the database has no type and no column of this name: write"},
		"an unknown column":       {[]string{"describe", "-schema", kindsSchema, "-type", "people.nosuch=a.B", "select 1"}, "-type people.nosuch: the database has no type and no column of this name: write"},
		"files for packages":      {[]string{"verify", "-d", "postgres://x", "testdata/wrong/main.go"}, "give packages, as in ./internal/db or ./..., not files"},
		"a URL without -d":        {[]string{"scaffold", "postgres://u:hidden@h/x", kindsQueries}, "postgres://u:***@h/x: no such file"},
		"a URL for a schema":      {[]string{"describe", "-schema", "postgresql://u:hid/hidden@@h/x", "select 1"}, "postgresql://u:***@h/x: no such file"},
		"a URL for a flag":        {[]string{"describe", "-one=postgres://u:hidden@h/x", "select 1"}, "postgres://u:***@h/x"},
		"a URL for a package":     {[]string{"verify", "postgres://u:hidden@h/x"}, "postgres:/u:***@h/x"},
		"a URL for a command":     {[]string{"postgres://u:hidden@h/x"}, `"postgres://u:***@h/x" is no command of pgcmd`},
		"words without -d":        {[]string{"scaffold", "host=h password='so hidden' user=u", kindsQueries}, "host=h password=*** user=u: no such file"},
		"packages of no commands": {[]string{"verify", "-d", "postgres://x", "../../internal/queryfile"}, "no package of ../../internal/queryfile has a command in a package-level variable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := pgcmd(t, c.args...)
			assert.Equal(t, exitMisuse, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, c.want)
			assert.NotContains(t, stderr, "hidden")
			if len(c.args) == 0 {
				return
			}
			code, stdout, _ = pgcmd(t, slices.Insert(slices.Clone(c.args), 1, "-json")...)
			assert.Equal(t, exitMisuse, code)
			var said struct{ Error string }
			if assert.NotContains(t, stdout, "hidden"); stdout != "" { // a command that there is
				require.NoError(t, json.Unmarshal([]byte(stdout), &said))
				assert.Contains(t, stderr, said.Error)
			}
		})
	}
}

// A type is named as PostgreSQL writes it, or as it stores it, and a column with its table; the statement need not use them.
func TestTypesThatTheDatabaseHas(t *testing.T) {
	t.Parallel()
	args := []string{"describe", "-schema", kindsSchema}
	for _, name := range []string{"int4", "integer", "timestamp with time zone", "bigint[]", "_int8", "mood", "people.born", "public.people.fullName", "popular.title"} {
		args = append(args, "-type", name+"=example.com/a.B")
	}
	code, stdout, stderr := pgcmd(t, append(args, "select count(*) from people")...)
	assert.Equal(t, exitOK, code, stderr)
	assert.Contains(t, stdout, "int64")
}

// A full is a file on a disk that is full, or a pipe that nobody reads.
type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestAnOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{syscall.ENOSPC: "pgcmd: the output could not be written: no space left on device\n", syscall.EPIPE: ""} {
		var stderr bytes.Buffer
		a := &app{stdout: full{err}, stderr: &stderr, getenv: os.Getenv}
		assert.Equal(t, exitMisuse, a.main(t.Context(), []string{"help"}))
		assert.Equal(t, want, stderr.String())
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"help"}, {"-h"}, {"help", "scaffold"}, {"scaffold", "-h"}, {"describe", "--help"}, {"verify", "-help"}} {
		code, stdout, stderr := pgcmd(t, args...)
		assert.Equal(t, exitOK, code)
		assert.Contains(t, stdout, "pgcmd")
		assert.Empty(t, stderr)
		for line := range strings.Lines(stdout) {
			if !strings.Contains(line, "go:generate") {
				assert.LessOrEqual(t, len(line), 102, line)
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	const sql = `select p.id, nick, t.title, note_count(p.id) as notes, now() as at from people p left join posts t on t.person_id = p.id where "fullName" = $1`
	code, stdout, stderr := pgcmd(t, "describe", "-schema", kindsSchema, sql)
	require.Equal(t, exitOK, code, stderr)
	assert.Equal(t, `Parameters
  $1  text  string
Columns
  id     bigint                    int64      never NULL
  nick   text                      *string    may be NULL: column "nick" of table people may be NULL
  title  text                      *string    may be NULL: column "title" of t is NULL where the LEFT JOIN finds no row
  notes  bigint                    *int64     not known
  at     timestamp with time zone  time.Time  never NULL
Tables
  people  read
  posts   read
Functions
  note_count  volatile
Effect
  function note_count, which is volatile, in plpgsql
Go
  type ChangePeopleRow struct {
  	ID    int64
  	Nick  *string
  	Title *string
  	Notes *int64
  	At    time.Time
  }

  var changePeople = pgcmd.Query[string, ChangePeopleRow]("people.change",
  	`+"`"+sql+"`"+`)
`, stdout)
	assert.NotContains(t, stdout, "\x1b")

	code, stdout, stderr = pgcmd(t, "describe", "-json", "-schema", kindsSchema, "-name", "FindNick", "-one", "select id, nick from people where id = @id")
	require.Equal(t, exitOK, code, stderr)
	var said answer
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	assert.Equal(t, []describedParam{{Name: "@id", Type: "bigint", Go: "int64"}}, said.Parameters)
	assert.Equal(t, describedColumn{Name: "id", Type: "bigint", Go: "int64", Null: "never", Origin: "people.id"}, said.Columns[0])
	assert.Equal(t, "maybe", said.Columns[1].Null)
	assert.True(t, *said.Reads)
	assert.Contains(t, said.Go, "var findNick = pgcmd.QueryOne[FindNickParams, FindNickRow](\"people.find_nick\",\n\t`select id, nick from people where id = @id`)")
}

func TestDescribeReadsTheStandardInput(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := pgcmdWith(t, &app{stdin: strings.NewReader("delete from posts\nwhere id = @id"), color: true}, "describe", "-schema", kindsSchema, "-")
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, stdout, "\x1b[1mParameters\x1b[0m\n  @id  \x1b[2mbigint\x1b[0m  \x1b[36mint64\x1b[0m\n")
	assert.Contains(t, stdout, "var changePosts = pgcmd.Exec[ChangePostsParams](\"posts.change\", `\n")
}

func TestDescribeTakesWhatIsPasted(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"-- The number.\nselect 1 as n", "--The number.\nselect 1 as n", "\ufeffselect 1 as n", "select 1 as n; -- done"} {
		code, stdout, stderr := pgcmd(t, "describe", "-schema", kindsSchema, sql)
		assert.Equal(t, exitOK, code, stderr)
		assert.Contains(t, stdout, "n  integer  int32  never NULL")
	}
}

// An interrupt ends pgcmd while it waits for a statement, or for the server.
func TestAnInterrupt(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	defer writer.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer silent.Close()
	for _, args := range [][]string{{"describe", "-"}, {"describe", "-d", "postgres://u@" + silent.Addr().String() + "/x", "select 1"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		var stdout, stderr bytes.Buffer
		a := &app{stdin: reader, stdout: &stdout, stderr: &stderr, getenv: os.Getenv}
		assert.Equal(t, exitMisuse, a.main(ctx, args))
		assert.Equal(t, "pgcmd describe: interrupted\n", stderr.String())
		cancel()
	}
}

func TestDescribeOfWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := pgcmd(t, "describe", "-schema", kindsSchema, "select id,\n  nosuch from people")
	assert.Equal(t, exitFindings, code)
	assert.Empty(t, stdout)
	assert.Equal(t, "line 2: column \"nosuch\" does not exist, SQLSTATE 42703\n", stderr)
	code, stdout, stderr = pgcmd(t, "describe", "-schema", kindsSchema, "select id as x, nick as x from people") // which is no Exec either
	assert.Equal(t, exitFindings, code)
	assert.Empty(t, stdout)
	assert.Equal(t, "returns two columns named x, and a row has one field for both: rename one with AS\n", stderr)
	code, stdout, _ = pgcmd(t, "describe", "-json", "-schema", kindsSchema, "select 'a")
	assert.Equal(t, exitFindings, code)
	assert.Contains(t, stdout, `"error": "the string that begins here is never closed`)
}

// Who has a time limit is told how to have none.
func TestATimeLimit(t *testing.T) {
	t.Parallel()
	slow := filepath.Join(t.TempDir(), "a.sql")
	require.NoError(t, os.WriteFile(slow, []byte("set statement_timeout = '1ms'; select pg_sleep(10)"), 0o600))
	code, _, stderr := pgcmd(t, "describe", "-schema", slow, "select 1")
	assert.Equal(t, exitMisuse, code)
	assert.Contains(t, stderr, "a.sql:1: ERROR: canceling statement due to statement timeout (SQLSTATE 57014): the role or the server has a statement_timeout: add statement_timeout=0 to the URL")
}

func TestAnExtensionThatTheServerLacks(t *testing.T) {
	t.Parallel()
	schema := filepath.Join(t.TempDir(), "a.sql")
	require.NoError(t, os.WriteFile(schema, []byte("\ncreate extension nosuch"), 0o600))
	code, _, stderr := pgcmd(t, "describe", "-schema", schema, "select 1")
	assert.Equal(t, exitMisuse, code)
	assert.Regexp(t, `a\.sql:2: ERROR: .*nosuch.*: install it for this PostgreSQL, or give -d a server that has it`, stderr)
}

// What cannot make a database says why: a role without the right to, or a server that takes none.
func TestADatabaseThatCannotBeMade(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, "do $$ begin create role pgcmd_makes_none login; exception when duplicate_object then end $$")
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	for role, want := range map[string]string{
		"pgcmd_makes_none": "create a database: ERROR: permission denied to create database (SQLSTATE 42501): give -d a role with CREATEDB, or leave it out",
		config.User:        "create a database: ERROR: cannot execute CREATE DATABASE in a read-only transaction (SQLSTATE 25006)\n",
	} {
		address := fmt.Sprintf("host='%s' port=%d user='%s' database='%s' password='%s' default_transaction_read_only=%t",
			config.Host, config.Port, role, config.Database, config.Password, role == config.User)
		code, _, stderr := pgcmd(t, "describe", "-d", address, "-schema", kindsSchema, "select 1")
		assert.Equal(t, exitMisuse, code)
		assert.Contains(t, stderr, want)
	}
}

// A role that may not create temporary functions is told what is not known.
func TestDescribeWithoutTheRightToLook(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, "create table a (id int not null, note text)", "do $$ begin execute 'revoke temp on database ' || current_database() || ' from public'; end $$",
		"do $$ begin create role pgcmd_describes login; exception when duplicate_object then end $$", "grant select on a to pgcmd_describes")
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	role := strings.Replace(url, "user="+config.User, "user=pgcmd_describes", 1)
	if role == url {
		role = strings.Replace(url, config.User+"@", "pgcmd_describes@", 1)
	}
	code, stdout, stderr := pgcmd(t, "describe", "-d", role, "select id, note from a")
	require.Equal(t, exitOK, code, stderr)
	assert.Contains(t, stdout, "Effect\n  not known: ")
	assert.Contains(t, stdout, "  id    integer  int32    not known\n  note  text     *string  not known\n")
}

func TestTheGoldenFilesAreWhatIsWritten(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := pgcmd(t, "scaffold", "-check", "-schema", kindsSchema, "-o", "internal/kinds", kindsQueries)
	assert.Equal(t, exitOK, code)
	assert.Empty(t, stdout, "go generate ./cmd/pgcmd/... writes them")
	assert.Equal(t, "48 queries of 3 files; the files are as they would be written\n", stderr)
}

func TestScaffoldWritesReplacesAndLeavesAlone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	schema := filepath.Join(folder, "schema.sql")
	queries := filepath.Join(folder, "users.sql")
	out := filepath.Join(folder, "db")
	write := func(path, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	scaffold := func(args ...string) (int, string, string) {
		t.Helper()
		return pgcmd(t, append(append([]string{"scaffold"}, args...), "-schema", schema, queries)...)
	}
	write(schema, "create table users (id int primary key, name text not null)")
	write(queries, "-- name: FindUser :one\nselect * from users where id = $1")

	code, stdout, stderr := scaffold("-o", out)
	require.Equal(t, exitOK, code, stderr)
	assert.Empty(t, stdout)
	assert.Equal(t, "1 query of 1 file; 2 files written\n", stderr)
	_, _, stderr = scaffold("-o", out)
	assert.Equal(t, "1 query of 1 file; 0 files written\n", stderr)

	write(schema, "create table users (id int primary key, name text, born date)")
	code, stdout, stderr = scaffold("-o", out, "-check")
	assert.Equal(t, exitFindings, code)
	types := filepath.Join(out, "types.go")
	assert.Contains(t, stdout, "--- "+types+"\n+++ "+types+" (as it would be written)\n@@ ")
	assert.Contains(t, stdout, "-\tName string\n+\tName *string\n+\tBorn pgtype.Date\n")
	assert.Equal(t, "1 query of 1 file; "+types+", "+filepath.Join(out, "users.sql.go")+" would change: run pgcmd scaffold without -check\n", stderr)
	code, stdout, _ = scaffold("-o", out, "-check", "-json")
	assert.Equal(t, exitFindings, code)
	var said report
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	assert.Equal(t, []string{types, filepath.Join(out, "users.sql.go")}, said.Changed)

	source, err := os.ReadFile(types)
	require.NoError(t, err)
	mine := strings.SplitN(string(source), "\n", 3)[2]
	write(types, mine)
	code, _, stderr = scaffold("-o", out)
	assert.Equal(t, exitMisuse, code)
	assert.Contains(t, stderr, types+" is yours: its first line is not")
	left, err := os.ReadFile(types)
	require.NoError(t, err)
	assert.Equal(t, mine, string(left))

	require.NoError(t, os.Remove(types))
	one := filepath.Join(folder, "one", "commands.go")
	code, _, stderr = scaffold("-o", one, "-exported", "-package", "store", "-type", "users.id=example.com/ids/v2.User", "-type", "date=*cloud.google.com/go/civil.Date")
	require.Equal(t, exitOK, code, stderr)
	source, err = os.ReadFile(one)
	require.NoError(t, err)
	for _, want := range []string{"package store\n", "\t\"cloud.google.com/go/civil\"\n\t\"example.com/ids/v2\"\n\t\"github.com/pgcmd/pgcmd\"\n", "\tID   ids.User\n", "\tBorn *civil.Date\n", "var FindUser = pgcmd.QueryOne[int32, User](\"users.find\","} {
		assert.Contains(t, string(source), want)
	}
}

func TestScaffoldTellsWhatIsRefusedAndWritesTheRest(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "a.sql")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join([]string{
		"-- name: Good :one", "select id from people where id = $1;", // 1
		"-- name: NoTable :one", "select 1", "from nosuch;", // 3
		"-- name: Twice :many", "select id as x, nick as x from people;", // 6
		"-- name: Nothing :many", "delete from posts;", // 8
		"-- name: Mixed :exec", "select @a::int; select 2;", // 10
		"-- name: Copy :copyfrom", "insert into posts (title) values (lower($1));", // 12
		"-- name: Record :many", "select (1, 2) as pair;", // 14
		"-- name: Untyped :one", "select $1 is null;", // 16
		"-- name: Void :one", "select pg_notify('a', 'b');", // 18
		"-- name: CopyMore :copyfrom", "insert into posts (title) values ($1) on conflict do nothing;", // 20
		"-- name: CopyNowhere :copyfrom", "insert into nosuch (title) values ($1);", // 22
		"-- name: CopyNothing :copyfrom", "insert into posts (nosuch) values ($1);", // 24
		"-- name: Slice :many", "select id from people where id = sqlc.slice(ids);", // 26
		"-- name: Zero :many", "select id from people where id = $0;", // 28
		"-- name: Half :exec", "delete from posts; truncate people;", // 30
		"-- name: Comma :many", `select id, id as "a,notnull" from people;`, // 32
		"-- name: Dash :one", `select nick as "-" from people;`, // 34
		"-- name: Value :many", `select id as "-" from people;`, // 36
		"-- name: Embedded :many", "select sqlc.embed(people), SQLC.EMBED(p), p.person_id from people join posts p on p.person_id = people.id;", // 38
	}, "\n")), 0o600))
	code, stdout, stderr := pgcmd(t, "scaffold", "-schema", kindsSchema, path)
	assert.Equal(t, exitFindings, code)
	assert.Contains(t, stdout, "var good = pgcmd.QueryOne[int64, int64](\"a.good\",")
	assert.Contains(t, stdout, "select people.id as person_id_2, people.email as person_email,")
	for _, want := range []string{
		":3: NoTable: line 5: relation \"nosuch\" does not exist, SQLSTATE 42P01\n",
		":6: Twice: returns two columns named x, and a row has one field for both: rename one with AS\n",
		":8: Nothing: returns no columns: use :exec, or RETURNING\n",
		":11: note: a statement without a name is left out",
		":12: Copy: a :copyfrom is written as insert into a_table (a, b) values ($1, $2): the value for title is not a parameter\n",
		":14: Record: the column pair has the type record, which no Go type holds: cast it, or name its columns\n",
		":16: Untyped: could not determine data type of parameter $1: cast the parameter in the SQL, as in @name::text, SQLSTATE 42P18\n",
		":18: Void: the column pg_notify has the type void, which no Go type holds: use :exec\n",
		":20: CopyMore: a :copyfrom is written as insert into a_table (a, b) values ($1, $2), and nothing after it\n",
		":22: CopyNowhere: line 23: the table nosuch does not exist\n",
		":24: CopyNothing: the table posts has no column nosuch\n",
		":26: Slice: sqlc.slice(ids) is a list, and the SQL takes one bigint there: write x in (sqlc.slice(ids)), or sqlc.arg(ids)\n",
		":28: Zero: line 29: $0 is no parameter",
		":31: note: a statement without a name is left out",
		":32: Comma: returns a column named \"a,notnull\", which the tag of a field cannot name: rename it with AS\n",
		":34: Dash: returns a column named \"-\", which the tag of a field cannot name: rename it with AS\n",
		"5 queries of 1 file, 14 refused\n",
	} {
		if strings.HasPrefix(want, ":") {
			want = path + want
		}
		assert.Contains(t, stderr, want)
	}
}

// No file is replaced if one of them cannot be, and a file keeps its mode.
func TestAFileThatCannotBeReplaced(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	paths := []string{filepath.Join(folder, "a.go"), filepath.Join(folder, "a.go", "b.go")}
	require.NoError(t, os.Mkdir(paths[0], 0o700))
	texts := map[string][]byte{paths[0]: []byte("a"), paths[1]: []byte("b")}
	assert.ErrorContains(t, replaceFiles(paths, texts), "is a directory; nothing was written")

	shared := filepath.Join(folder, "shared.go")
	require.NoError(t, os.WriteFile(shared, nil, 0o600))
	require.NoError(t, os.Chmod(shared, 0o666)) // whatever the umask is
	assert.NoError(t, replaceFiles([]string{shared}, map[string][]byte{shared: []byte("new")}))
	info, err := os.Stat(shared)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o666), info.Mode().Perm())
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, entries, 2)
}

// A reader of the files, such as the compiler, sees old or new ones, also while another run writes them.
func TestRunsAtOnceDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.go")
	var runs sync.WaitGroup
	for range 8 {
		runs.Go(func() {
			for range 50 {
				assert.NoError(t, replaceFiles([]string{path}, map[string][]byte{path: []byte("text")}))
			}
		})
	}
	runs.Wait()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// Folders of Windows, of editors and of Next.js: brackets in names, files that are hidden, lines that Git changed.
func TestFilesWithOddNames(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a [b]")
	out := filepath.Join(folder, "my db")
	require.NoError(t, os.MkdirAll(out, 0o700))
	for name, text := range map[string]string{
		"[id].sql": "-- name: One :one\r\nselect 1 as x -- a \ufeff\r\n;", ".#[id].sql": "'", "devices_ios.sql": "-- name: Devices :many\nselect replace($1, '\ufeff', '')",
		"my db/x.go": "//go:build ignore\n\npackage main\n", "my db/y.go": "package yours\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	scaffold := func(args ...string) (int, string, string) {
		return pgcmd(t, append([]string{"scaffold", "-schema", kindsSchema, "-o", out}, args...)...)
	}
	code, _, stderr := scaffold(folder, folder+"/[id].sql", folder+"/./devices_ios.sql")
	require.Equal(t, exitOK, code, stderr)
	assert.Equal(t, "2 queries of 2 files; 2 files written\n", stderr)
	for _, name := range []string{"id].sql.go", "devices_ios_sql.go"} {
		source, err := os.ReadFile(filepath.Join(out, name))
		require.NoError(t, err)
		assert.Contains(t, string(source), "\npackage yours\n")
		require.NoError(t, os.WriteFile(filepath.Join(out, name), bytes.ReplaceAll(source, []byte("\n"), []byte("\r\n")), 0o600))
	}
	code, stdout, stderr := scaffold("-check", folder)
	assert.Equal(t, exitOK, code, stdout+stderr)

	// What an earlier run wrote is still in the package, and may hold what this one defines elsewhere.
	require.NoError(t, os.Rename(filepath.Join(folder, "devices_ios.sql"), filepath.Join(folder, "devices.sql")))
	require.NoError(t, os.WriteFile(filepath.Join(out, "one.go"), []byte("// Code generated by pgcmd scaffold. DO NOT EDIT."), 0o600))
	code, _, stderr = scaffold(folder)
	assert.Equal(t, exitOK, code)
	note := "an earlier run wrote this file, and this one has nothing for it: delete it, or give its SQL file too"
	assert.Equal(t, filepath.Join(out, "devices_ios_sql.go")+":1: note: "+note+"\n2 queries of 2 files; 1 file written\n", stderr)
	code, stdout, _ = scaffold("-json=1", folder)
	assert.Equal(t, exitOK, code)
	var said report
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	assert.Equal(t, []refusal{{File: filepath.Join(out, "devices_ios_sql.go"), Line: 1, Message: note}}, said.Notes)
}

func TestFilesOfOneNameAreOneFileOfGo(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, sql := range map[string]string{
		"people/find_nick.sql": "-- name: FindNick :one\nselect nick from people where id = $1;\n-- name: FindPeopleByNick :many\nselect nick from people where nick = $1",
		"people/find.sql":      "-- name: FindPerson :one\nselect nick from people where id = $1",
		"posts/find.sql":       "-- name: FindPost :one\nselect title from posts where id = $1",
	} {
		path := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(sql), 0o600))
	}
	out := filepath.Join(folder, "db")
	code, _, stderr := pgcmd(t, "scaffold", "-schema", kindsSchema, "-o", out, filepath.Join(folder, "*/find*.sql"))
	require.Equal(t, exitOK, code, stderr)
	assert.Equal(t, "4 queries of 3 files; 2 files written\n", stderr)
	source, err := os.ReadFile(filepath.Join(out, "find.sql.go"))
	require.NoError(t, err)
	assert.Contains(t, string(source), "var findPerson = ")
	assert.Contains(t, string(source), "var findPost = ")

	// A file that is named after its queries leaves the first part of the names to its folder.
	source, err = os.ReadFile(filepath.Join(out, "find_nick.sql.go"))
	require.NoError(t, err)
	assert.Contains(t, string(source), `"people.find_nick"`)
	assert.Contains(t, string(source), `"people.find_by_nick"`)
}

// The example of docs/scaffold.md is what is written.
func TestTheExampleOfTheDocuments(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/scaffold.md")
	require.NoError(t, err)
	block := func(language, holds string) string {
		for _, part := range strings.Split(string(page), "```"+language+"\n")[1:] {
			if text, _, _ := strings.Cut(part, "```"); strings.Contains(text, holds) {
				return text
			}
		}
		t.Fatalf("docs/scaffold.md has no block of %s that holds %s", language, holds)
		return ""
	}
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	schema := write("schema.sql", `create type mood as enum ('happy', 'sad');
		create table users (id bigint primary key, email text not null, nick text, mood mood not null, created_at timestamptz not null)`)
	queries := write("users.sql", block("sql", "-- name: FindUser :one"))
	code, _, stderr := pgcmd(t, "scaffold", "-schema", schema, "-o", folder, queries)
	require.Equal(t, exitOK, code, stderr)
	source, err := os.ReadFile(filepath.Join(folder, "users.sql.go"))
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(source), block("go", "FindUserParams")), string(source))
}

func TestVerifyOfWhatFits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a package: make test-race")
	}
	code, stdout, stderr := pgcmd(t, "verify", "-schema", kindsSchema, "./internal/kinds")
	assert.Equal(t, exitOK, code, stderr)
	assert.NotContains(t, stdout, ": finding: ")
	assert.Regexp(t, `\b[1-9][0-9]* commands of 1 package: 0 findings, `, stderr)
}

func TestVerifyOfWhatDoesNot(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := pgcmd(t, "verify", "-schema", kindsSchema, "./testdata/wrong")
	assert.Equal(t, exitFindings, code, stderr)
	for _, want := range []string{
		`testdata/wrong/main.go:11: finding: people.get: person.Nick (string) cannot hold NULL`,
		`testdata/wrong/main.go:15: finding: people.drop: SQL is refused by the server: relation "persons" does not exist`,
		`testdata/wrong/main.go:19: finding: definition 4 is nil: is the variable set before it is verified?`,
		`testdata/wrong/main.go:40: finding: people.search (with email): SQL is refused by the server: column "mail" does not exist`,
	} {
		assert.Contains(t, stdout, want)
	}
	assert.NotContains(t, stdout, "people.count")
	assert.NotContains(t, stdout, "people.delete")
	assert.NotContains(t, stdout, "two commands")
	assert.Contains(t, stderr, "9 commands of 1 package: 4 findings, ")
	files, err := filepath.Glob("testdata/wrong/*")
	require.NoError(t, err)
	assert.Len(t, files, 2, "something was left in the package")
}

func TestVerifyOfWhatGoCannotRead(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("testdata", "unread-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	itself := library + "/cmd/pgcmd/" + filepath.ToSlash(folder)
	path := filepath.Join(folder, "a.go")
	for source, want := range map[string]string{
		"package a\n\nimport \"x\n":                path + ":3:8: string literal not terminated\n",
		"package a\n\nvar x =\n":                   "# " + itself + "\n" + path + ":4:1: syntax error",
		"package a\n\nimport _ \"" + itself + "\"": itself + ": import cycle not allowed\n",
	} {
		require.NoError(t, os.WriteFile(path, []byte(source), 0o600))
		code, _, stderr := pgcmd(t, "verify", "-d", "postgres://x", "./"+folder)
		assert.Equal(t, exitMisuse, code)
		assert.Contains(t, stderr, "pgcmd verify: go list: "+want)
	}
}

func TestVerifyOfADefinitionThatPanics(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a package: make test-race")
	}
	code, stdout, stderr := pgcmd(t, "verify", "-json", "-schema", kindsSchema, "./testdata/panics")
	assert.Equal(t, exitFindings, code, stderr)
	var said struct{ Findings []finding }
	require.NoError(t, json.Unmarshal([]byte(stdout), &said))
	require.Len(t, said.Findings, 1)
	assert.Contains(t, said.Findings[0].Message, "pgcmd: users.find: SQL names @emial")
	assert.Equal(t, "testdata/panics/panics.go:7", fmt.Sprintf("%s:%d", said.Findings[0].File, said.Findings[0].Line))
}

func TestADatabaseThatCannotBeDroppedIsNamed(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	var stderr bytes.Buffer
	d, err := create(t.Context(), &app{stderr: &stderr}, server.URL())
	require.NoError(t, err)
	require.NoError(t, server.Close())
	d.close()
	assert.Regexp(t, "^pgcmd: the database "+d.name+" is left on the server: .*: drop it\n$", stderr.String())
}

func TestNothingIsLeftOnTheServer(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	for _, args := range [][]string{
		{"describe", "-d", server.URL(), "-schema", kindsSchema, "select 1"},
		{"describe", "-d", server.URL(), "-schema", "main_test.go", "select 1"}, // not SQL
	} {
		_, _, _ = pgcmd(t, args...)
	}
	for wait := time.Millisecond; wait < time.Second/4; wait += wait { // interrupted at any moment
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		a := &app{stdout: io.Discard, stderr: io.Discard, getenv: os.Getenv}
		_ = a.main(ctx, []string{"describe", "-d", server.URL(), "-schema", kindsSchema, "select 1"})
		cancel()
	}
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), server.URL())
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var databases int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_database where datname like 'pgcmd%'").Scan(&databases))
	assert.Zero(t, databases)
}

func TestDiff(t *testing.T) {
	t.Parallel()
	assert.Empty(t, diffLines(lines("a\nb"), lines("a\nb")))
	assert.Equal(t, []string{"@@ -1,0 +1,1 @@", "+a"}, diffLines(nil, lines("a")))
	assert.Equal(t, []string{"@@ -1,4 +1,4 @@", "-1", "+x", " 2", " 3", " 4", "@@ -8,3 +8,4 @@", " 8", " 9", " 10", "+11"},
		diffLines(lines("1\n2\n3\n4\n5\n6\n7\n8\n9\n10"), lines("x\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11")))
}
