package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// want is what a reader must see, in this order. A space stands for any white space.
var want = []string{
	"1. One row",
	"account, err := findAccount.Run(ctx, pool, FindAccount{ID: 42}) → account = {ID:42 Branch:1 Balance:0} → err = nil",
	"2. Many rows",
	"→ accounts = [{ID:43 Branch:1 Balance:0} {ID:44 Branch:1 Balance:0}] → err = nil",
	"3. A violated constraint",
	"→ errors.Is(err, ErrAccountTaken) = true",
	"→ err = pgcmd: accounts.open: this account number is taken [conflict, not applied, SQLSTATE 23505]",
	"4. A refused input",
	"ID must be greater than 0; Branch is a required field; Deposit must be 5,000 or less [invalid, not applied]",
	"→ pool.Stat().AcquireCount()-before = 0",
	"5. Nothing found",
	"→ pgcmd.CodeOf(err) = not_found → pgcmd.EffectOf(err) = not_applied → errors.Is(err, pgx.ErrNoRows) = true",
	"6. A timeout",
	"→ errors.Is(err, context.DeadlineExceeded) = true → pgcmd.CodeOf(err) = timeout → pgcmd.EffectOf(err) = not_applied",
	"slowDeposit.Run(ctx, pool, 100) → pgcmd.EffectOf(err) = unknown",
	"7. Hooks",
	`INFO history.book {"attempts": 1, "rows": 1, "elapsed": "`,
	"→ booking = {Account:42 Delta:100 Note:rent june} → err = nil",
	"8. An outcome as JSON",
	`→ good = {"ok":true,"value":{"ID":42,"Branch":1,"Balance":0},"attempts":1,`,
	`→ bad = {"ok":false,"error":{"code":"invalid","effect":"not_applied",`,
	"9. What it costs",
	"→ rows1 = by hand ", " µs, command ", " µs, ratio ", " pairs)",
	"→ rows100 = by hand ", " µs, command ", " µs, ratio ", " pairs)",
}

func TestTourShowsWhatItClaims(t *testing.T) {
	measuring = 50 * time.Millisecond
	pool := pgcmdtest.Pool(t)
	require.NoError(t, load(t.Context(), pool.Config().ConnString()))
	pgcmdtest.VerifyOn(t, pool, findAccount, listAccounts, openAccount, slowSum, slowDeposit, insertBooking)
	var out bytes.Buffer
	require.NoError(t, show(t.Context(), &terminal{out: &out}, pool), &out)

	rest := strings.Join(strings.Fields(out.String()), " ")
	for _, text := range want {
		_, after, found := strings.Cut(rest, text)
		require.True(t, found, "%q is missing, or comes too early, in:\n%s", text, &out)
		rest = after
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		require.LessOrEqual(t, utf8.RuneCountInString(line), width, line)
		require.NotContains(t, line, "\t")
		require.NotContains(t, line, "\x1b")
	}
}

func TestTourEndsAtAnotherOutcome(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, "create table pgbench_accounts (aid int, bid int, abalance int)",
		"insert into pgbench_accounts values (42, 1, 7)")
	var out bytes.Buffer
	err := show(t.Context(), &terminal{out: &out, colour: true}, pool)
	require.EqualError(t, err, "step 1: account is not {ID:42 Branch:1 Balance:0}")
	require.Contains(t, out.String(), "\x1b[31m→ \x1b[0maccount\x1b[31m = {ID:42 Branch:1 Balance:7}\x1b[0m")
	require.NotContains(t, out.String(), "2. Many rows")
}

func TestTheCodeShownIsTheSource(t *testing.T) {
	t.Parallel()
	listings, err := listings()
	require.NoError(t, err)
	require.Len(t, listings, len(steps))
	require.Equal(t, listing{
		pieces: []string{
			"_, err := findAccount.Run(ctx, pool, FindAccount{ID: 999_999})", "", "", "",
		},
		outcomes: []string{"pgcmd.CodeOf(err)", "pgcmd.EffectOf(err)", "errors.Is(err, pgx.ErrNoRows)"},
	}, listings["notFound"])
}

func TestDatabaseOnANamedServerIsRemoved(t *testing.T) {
	t.Parallel()
	server := pgcmdtest.URL(t)
	db, err := createDatabase(t.Context(), server)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), db.url)
	require.NoError(t, err)
	require.Regexp(t, "^pgcmd_tour_", conn.Config().Database)
	require.NoError(t, db.remove(), "although somebody is connected")
	require.NoError(t, conn.Close(t.Context()))

	_, err = pgx.Connect(t.Context(), db.url)
	require.ErrorContains(t, err, "3D000")

	_, err = createDatabase(t.Context(), "host=localhost")
	require.ErrorContains(t, err, "DATABASE_URL must be a URL")
}

func TestColourIsForTerminals(t *testing.T) {
	device, err := os.Open(os.DevNull) // a character device, as terminals are
	require.NoError(t, err)
	defer device.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()

	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	require.True(t, newTerminal(device).colour)
	require.False(t, newTerminal(file).colour)
	t.Setenv("TERM", "dumb")
	require.False(t, newTerminal(device).colour)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	require.False(t, newTerminal(device).colour)
}
