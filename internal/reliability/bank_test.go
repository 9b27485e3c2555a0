package reliability_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	workers  = 32
	accounts = 100
	bankDDL  = `
create table accounts (id int8 primary key, balance int8 not null default 1000) with (fillfactor = 50);
insert into accounts select n from generate_series(1, 100) n;
create table transfers (id int8 primary key, src int8 not null, dst int8 not null, amount int8 not null);`
)

// A transfer has an id that its client chose.
type transfer struct{ ID, Src, Dst, Amount int64 }

var (
	note   = pgcmd.Exec[transfer]("transfers.note", `insert into transfers values (@id, @src, @dst, @amount)`)
	debit  = pgcmd.Exec[transfer]("accounts.debit", `update accounts set balance = balance - @amount where id = @src`)
	credit = pgcmd.Exec[transfer]("accounts.credit", `update accounts set balance = balance + @amount where id = @dst`)

	move = pgcmd.Transaction("bank.move", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
		for _, step := range []*pgcmd.Command[transfer, int64]{note, debit, credit} {
			if _, err := step.Run(ctx, tx, in); err != nil {
				return 0, err
			}
		}
		return in.ID, nil
	})
	transferKey = func(in transfer) string { return strconv.FormatInt(in.ID, 10) }
)

// A bank is the database, and what its clients were told of each transfer.
type bank struct {
	direct *pgxpool.Pool
	proxy  *faults.Proxy
	pool   *pgcmd.Pool
	told   []pgcmd.Effect // told[id]: Applied is an acknowledgement
	tries  atomic.Int64
}

// newBank opens a bank whose clients lose so many of their messages.
func newBank(t *testing.T, transfers int, rate float64) *bank {
	t.Helper()
	b := &bank{direct: pgcmdtest.Pool(t, bankDDL, pgcmd.OnceSchema), told: make([]pgcmd.Effect, transfers)}
	var err error
	b.proxy, err = faults.Start(b.direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.proxy.Close()) })
	conns := int32(workers)
	if testing.Short() {
		conns = 8
	}
	b.pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: b.proxy.URL(), MaxConns: conns})
	require.NoError(t, err)
	t.Cleanup(b.pool.Pool.Close)
	b.proxy.Random(rate, 1, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	return b
}

// work lets the workers run transfers, until each has been told of. Accounts are locked in order: deadlocks are for
// others to test.
func (b *bank) work(ctx context.Context, run func(ctx context.Context, in transfer) pgcmd.Outcome[int64]) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range b.pool.Config().MaxConns {
		running.Go(func() {
			for id := next.Add(1) - 1; id < int64(len(b.told)); id = next.Add(1) - 1 {
				in := transfer{ID: id, Src: 1 + rand.Int64N(accounts), Amount: 1 + rand.Int64N(9)}
				in.Dst = 1 + (in.Src+rand.Int64N(accounts-1))%accounts
				if in.Src > in.Dst {
					in.Src, in.Dst, in.Amount = in.Dst, in.Src, -in.Amount
				}
				out := run(ctx, in)
				b.tries.Add(int64(out.Attempts))
				b.told[id] = pgcmd.EffectOf(out.Err)
			}
		})
	}
	running.Wait()
}

// check waits until the last session of the pool has ended, compares what was told with what is there, and returns the
// number of transfers by what they were told.
func (b *bank) check(t *testing.T) (told map[pgcmd.Effect]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	b.proxy.Heal()
	require.NoError(t, b.pool.Close(ctx)) // an error if a connection is still held
	require.NoError(t, b.proxy.Close())
	require.Eventually(t, func() bool {
		return number(t, b.direct, `select count(*) from pg_stat_activity where datname = current_database() and pid not in
			(select pg_backend_pid()) and state is distinct from 'idle' and backend_type = 'client backend'`) == 0
	}, patience, 10*time.Millisecond, "sessions that do not end")

	assert.EqualValues(t, 100*1000, number(t, b.direct, `select sum(balance) from accounts`))
	assert.Zero(t, number(t, b.direct, `select count(*) from accounts a where balance <> 1000
		- (select coalesce(sum(amount), 0) from transfers where src = a.id)
		+ (select coalesce(sum(amount), 0) from transfers where dst = a.id)`), "accounts that do not agree with the ledger")

	var ids []int64
	require.NoError(t, b.direct.QueryRow(ctx, `select array(select id from transfers)`).Scan(&ids))
	there := make([]bool, len(b.told))
	for _, id := range ids {
		there[id] = true
	}
	told = map[pgcmd.Effect]int{}
	for id, effect := range b.told {
		told[effect]++
		assert.False(t, effect == pgcmd.Applied && !there[id], "transfer %d is lost", id)
		assert.False(t, effect == pgcmd.NotApplied && there[id], "transfer %d was said not to be applied, and is there", id)
	}
	return told
}

func number(t *testing.T, pool *pgxpool.Pool, sql string) (n int64) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.WithoutCancel(t.Context()), sql).Scan(&n))
	return n
}

// TestBank moves money under cuts. The short form takes the most cuts without a key, and less with one.
func TestBank(t *testing.T) {
	t.Parallel()
	transfers := 200
	switch {
	case long:
		transfers = 5000
	case testing.Short():
		transfers = 40
	}
	for _, c := range []struct {
		rate float64
		once bool
		long bool
	}{
		{0.001, false, true}, {0.001, true, true}, {0.01, false, true}, {0.01, true, false},
		{0.03, false, false}, // with a key hardly an attempt comes through
	} {
		if c.long && !long {
			continue
		}
		t.Run(fmt.Sprintf("%v%% of the messages, once %v", c.rate*100, c.once), func(t *testing.T) {
			b := newBank(t, transfers, c.rate)
			cmd := move.With(pgcmd.Options{Timeout: patience, Retry: pgcmd.Retry{Attempts: 5, MaxDelay: 20 * time.Millisecond}})
			if c.once {
				cmd = pgcmd.Once(cmd, transferKey)
			}
			b.work(t.Context(), func(ctx context.Context, in transfer) pgcmd.Outcome[int64] {
				out := pgcmd.Try(ctx, b.pool, cmd, in)
				// The budget for retries is made for less than this. With a key, to call again is safe.
				for again := 0; c.once && out.Err != nil && again < 1000; again++ {
					attempts := out.Attempts
					out = pgcmd.Try(ctx, b.pool, cmd, in)
					out.Attempts += attempts
				}
				return out
			})
			cuts := b.proxy.Fired()
			told := b.check(t)
			t.Logf("%d transfers, %d cuts, %d attempts: %d acknowledged, %d not applied, %d unknown",
				transfers, cuts, b.tries.Load(), told[pgcmd.Applied], told[pgcmd.NotApplied], told[pgcmd.Unknown])
			assert.NotZero(t, cuts)
			if c.once {
				assert.Equal(t, transfers, told[pgcmd.Applied])
			}
		})
	}
}
