package pgcmd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var errSerialization = &pgconn.PgError{Code: "40001", Severity: "ERROR"}

func TestRetryDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retry pgcmd.Retry
		err   error
		tries int
	}{
		"the zero Retry tries once":    {pgcmd.Retry{}, errSerialization, 1},
		"as often as it says":          {pgcmd.Retry{Attempts: 4}, errSerialization, 4},
		"not what may be applied":      {pgcmd.Retry{Attempts: 4}, errors.New("x"), 1},
		"not a refusal":                {pgcmd.Retry{Attempts: 4}, &pgconn.PgError{Code: "23505"}, 1},
		"not what pgx calls safe":      {pgcmd.Retry{Attempts: 4}, safeToRetry{}, 1},
		"If narrows":                   {pgcmd.Retry{Attempts: 4, If: func(error) bool { return false }}, errSerialization, 1},
		"If cannot widen":              {pgcmd.Retry{Attempts: 4, If: func(error) bool { return true }}, errors.New("x"), 1},
		"an Error says it by its code": {pgcmd.Retry{Attempts: 2}, &pgcmd.Error{Code: pgcmd.CodeUnavailable, Effect: pgcmd.NotApplied}, 2},
		"and by its effect":            {pgcmd.Retry{Attempts: 2}, &pgcmd.Error{Code: pgcmd.CodeUnavailable}, 1},
	} {
		tries := 0
		err := c.retry.Do(t.Context(), func(context.Context) error { tries++; return c.err })
		assert.Equal(t, c.tries, tries, name)
		assert.ErrorIs(t, err, c.err, name)
	}
	tries := 0
	assert.NoError(t, pgcmd.Retry{Attempts: 3}.Do(t.Context(), func(context.Context) error {
		if tries++; tries < 3 {
			return errSerialization
		}
		return nil
	}))
	assert.False(t, pgcmd.Retryable(nil))
}

type safeToRetry struct{}

func (safeToRetry) Error() string     { return "conn closed" }
func (safeToRetry) SafeToRetry() bool { return true }

func TestTheWaitsOfRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := pgcmd.Retry{Attempts: 12, Delay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond}
		var waits []time.Duration
		last := time.Now()
		_ = r.Do(t.Context(), func(context.Context) error {
			waits = append(waits, time.Since(last))
			last = time.Now()
			return errSerialization
		})
		require.Len(t, waits, 12)
		limit, total := 10*time.Millisecond, time.Duration(0)
		for _, wait := range waits[1:] {
			assert.LessOrEqual(t, wait, limit)
			limit = min(2*limit, 100*time.Millisecond)
			total += wait
		}
		assert.Positive(t, total)

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tries := 0
		_ = pgcmd.Retry{Attempts: 1000, Delay: time.Hour, MaxDelay: time.Hour}.Do(short, func(context.Context) error { tries++; return errSerialization })
		assert.Less(t, tries, 5, "no wait beyond the deadline")
		assert.NoError(t, short.Err(), "and it is not waited for")
	})
}

func TestDefinitionsOfTransactionsThatPanic(t *testing.T) {
	t.Parallel()
	with := func(o pgcmd.Options) func() { return func() { move2.With(o) } }
	for want, define := range map[string]func(){
		"bank.transfer: Retry has a negative number":   with(pgcmd.Options{Retry: pgcmd.Retry{Attempts: -1}}),
		"bank.transfer: Retry has a negative number ":  with(pgcmd.Options{Retry: pgcmd.Retry{Delay: -1}}),
		`unknown isolation level "serializable; drop"`: with(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: "serializable; drop"}}),
		`unknown access mode "x"`:                      with(pgcmd.Options{Tx: pgx.TxOptions{AccessMode: "x"}}),
		`unknown deferrable mode "x"`:                  with(pgcmd.Options{Tx: pgx.TxOptions{DeferrableMode: "x"}}),
		"sets BeginQuery or CommitQuery":               with(pgcmd.Options{Tx: pgx.TxOptions{BeginQuery: "begin"}}),
		"begins no transaction":                        func() { note.With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}}) },
		"the body is nil":                              func() { pgcmd.Transaction[int, int]("x", nil) },
	} {
		assert.Contains(t, panics(t, define), want[:len(want)-1])
	}
	note.With(pgcmd.Options{InTx: true, Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}})
}

// Two transactions read what the other writes, and meet in the middle: one of them
// has to be tried again.
func TestASerializationFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 4)
	var meet sync.WaitGroup
	meet.Add(2)
	var mu sync.Mutex
	runs := map[int]int{}
	skew := pgcmd.Transaction("bank.skew", func(ctx context.Context, tx *pgcmd.Tx, id int) (int, error) {
		mu.Lock()
		runs[id]++
		first := runs[id] == 1
		mu.Unlock()
		var sum int
		if err := tx.QueryRow(ctx, `select sum(balance) from accounts where id in (1, 2)`).Scan(&sum); err != nil {
			return 0, err
		}
		if first {
			meet.Done()
			meet.Wait()
		}
		_, err := tx.Exec(ctx, `update accounts set balance = $1 where id = $2`, sum, id)
		return sum, err
	}).With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}, Retry: pgcmd.Retry{Attempts: 10}})
	outcomes := make(chan pgcmd.Outcome[int], 2)
	for _, id := range []int{1, 2} {
		go func() { outcomes <- pgcmd.Try(context.Background(), pool, skew, id) }()
	}
	a, b := <-outcomes, <-outcomes
	require.NoError(t, a.Err)
	require.NoError(t, b.Err)
	assert.Equal(t, 3, a.Attempts+b.Attempts)
	assert.ElementsMatch(t, []int{200, 300}, []int{a.Value, b.Value})
}

func TestTheRecordOfManyAttemptsIsALineEach(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		return runErr(tx.Exec(ctx, `do $$ begin raise exception using errcode = '40001'; end $$`))
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 30, MaxDelay: time.Millisecond}}).Run(t.Context(), pool, empty{})
	e := failure(t, err)
	assert.Equal(t, 30, e.Attempts)
	text, jsonErr := e.MarshalJSON()
	require.NoError(t, jsonErr)
	assert.Equal(t, 29, strings.Count(string(text), `"attempts":`)-1)
	assert.NotErrorIs(t, err, errHook)
	assert.False(t, pgcmd.Retryable(&pgcmd.Error{Effect: pgcmd.NotApplied, SQLState: "X"}))
}

func TestEveryAttemptsCauseIsOnRecord(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	n := 0
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		if n++; n == 2 {
			return errHook
		}
		return runErr(tx.Exec(ctx, `do $$ begin raise exception using errcode = '40001'; end $$`))
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(t.Context(), pool, empty{})
	e := failure(t, err)
	assert.Equal(t, 2, e.Attempts)
	assert.Equal(t, pgcmd.CodeFailed, e.Code)
	assert.ErrorIs(t, err, errHook)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr, "of the first attempt")
	assert.Equal(t, "40001", pgErr.Code)
	text, err := e.MarshalJSON()
	require.NoError(t, err)
	assert.Contains(t, string(text), `"earlier":[{"code":"aborted","effect":"not_applied"`)
}
