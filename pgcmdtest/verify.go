package pgcmdtest

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

const databaseVariable = "DATABASE_URL"

// Verify compares commands with the database that the environment variable DATABASE_URL names, by [pgcmd.Verify]:
// every finding fails the test, every warning is logged. Nothing in the database is changed. Without DATABASE_URL the
// test fails, it never skips. [VerifyOn] is for a database that the test has made, and for commands that need
// [pgcmd.Config.Types]: with a pool that has them.
func Verify(t testing.TB, defs ...pgcmd.Definition) {
	t.Helper()
	address := os.Getenv(databaseVariable)
	if address == "" {
		t.Fatalf("pgcmdtest: %s is not set: set it to the database to verify, or use VerifyOn with pgcmdtest.Pool and your schema", databaseVariable)
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatalf("pgcmdtest: connect to %s: %v", databaseVariable, err) // pgx leaves out the password
	}
	defer conn.Close(t.Context())
	VerifyOn(t, conn, defs...)
}

// VerifyOn is [Verify] on db:
//
//	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema), findUser, createUser)
//	pgcmdtest.VerifyOn(t, pgcmdtest.Connect(t, pgcmd.Config{Types: types}, schema), findUser, createUser)
func VerifyOn(t testing.TB, db pgcmd.DB, defs ...pgcmd.Definition) {
	t.Helper()
	warnings, err := pgcmd.VerifyWarnings(t.Context(), db, defs...)
	for _, w := range warnings {
		t.Logf("warning: %s", w)
	}
	e, ok := err.(*pgcmd.Error)
	if ok && len(e.Problems) > 0 {
		for _, p := range e.Problems {
			t.Errorf("%s", p)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
}
