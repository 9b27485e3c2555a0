package pgcmdtest_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const seats = `create table seats (row int not null, name text constraint seats_name unique)`

var (
	listSeats = pgcmd.Query[struct{}, *string]("seats.list", `select name from seats order by name`)
	addSeat   = pgcmd.Exec[int]("seats.add", `insert into seats (row) values ($1)`)
	dropSeats = pgcmd.Exec[struct{}]("seats.drop", `drop table seats`)
	names     = pgcmd.Query[struct{}, string]("seats.names", `select name from seats`)
)

func TestVerifyReadsDatabaseURL(t *testing.T) {
	t.Setenv("DATABASE_URL", pgcmdtest.URL(t, seats))
	pgcmdtest.Verify(t, listSeats, addSeat)
	r := record(t, func(t testing.TB) { pgcmdtest.Verify(t, names) })
	require.Equal(t, []string{`error: seats.names: row (string) cannot hold NULL, and column "name" of table seats may be NULL: make it *string, use coalesce, or exclude NULL by a condition`}, r)

	t.Setenv("DATABASE_URL", "")
	r = record(t, func(t testing.TB) { pgcmdtest.Verify(t, names) })
	require.Len(t, r, 1)
	require.Contains(t, r[0], "fatal: pgcmdtest: DATABASE_URL is not set")

	t.Setenv("DATABASE_URL", "postgres://u:hidden@127.0.0.1:1/none")
	r = record(t, func(t testing.TB) { pgcmdtest.Verify(t, names) })
	require.Len(t, r, 1)
	require.Contains(t, r[0], "fatal: pgcmdtest: connect to DATABASE_URL")
	require.NotContains(t, r[0], "hidden")
}

func TestVerifyOnReportsEachFinding(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, seats)
	pgcmdtest.VerifyOn(t, pool)
	r := record(t, func(t testing.TB) { pgcmdtest.VerifyOn(t, pool, dropSeats, names, names) })
	require.Equal(t, []string{
		`log: warning: pgcmd.Verify did not look at NULLs, writes and rights of seats.drop: the server does not analyze such a statement before it executes it`,
		`error: seats.names: row (string) cannot hold NULL, and column "name" of table seats may be NULL: make it *string, use coalesce, or exclude NULL by a condition`,
		`error: seats.names is the name of two commands, definitions 1 and 2: rename one, since errors and the ledger of Once tell them apart by it`,
		`error: seats.names: row (string) cannot hold NULL, and column "name" of table seats may be NULL: make it *string, use coalesce, or exclude NULL by a condition`,
	}, r)
	r = record(t, func(t testing.TB) { pgcmdtest.VerifyOn(t, nil, names) })
	require.Equal(t, []string{"fatal: pgcmd: pgcmd.Verify: the DB is nil: pass a pool, a connection or a transaction [internal, not applied]"}, r)
}

// record runs f with a test whose failure is not this one's, and returns what it said.
func record(t *testing.T, f func(t testing.TB)) []string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.lines
}

type recorder struct {
	testing.TB
	lines []string
}

func (r *recorder) say(kind, format string, args ...any) {
	r.lines = append(r.lines, kind+": "+fmt.Sprintf(format, args...))
}
func (r *recorder) Logf(format string, args ...any)   { r.say("log", format, args...) }
func (r *recorder) Errorf(format string, args ...any) { r.say("error", format, args...) }
func (r *recorder) Fatal(args ...any)                 { r.say("fatal", "%s", fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.say("fatal", format, args...)
	runtime.Goexit()
}
