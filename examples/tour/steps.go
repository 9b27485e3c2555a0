package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/pgcmd/pgcmd"
)

// A step is a function whose last parameter is see. The tour shows what is
// declared before it, then its body, where see(x, want) becomes the outcome of x.

type FindAccount struct {
	ID int32 `validate:"gt=0"`
}

type Account struct { // pgbench writes no NULL
	ID      int32
	Branch  int32 `db:"branch,notnull"`
	Balance int32 `db:"balance,notnull"`
}

var findAccount = pgcmd.QueryOne[FindAccount, Account]("accounts.find",
	`select aid as id, bid as branch, abalance as balance
	 from pgbench_accounts where aid = @id`)

func lookup(ctx context.Context, pool *pgxpool.Pool, see see) {
	account, err := findAccount.Run(ctx, pool, FindAccount{ID: 42})
	see(account, "{ID:42 Branch:1 Balance:0}")
	see(err, "nil")
}

type AccountPage struct {
	After int32
	Limit int64
}

var listAccounts = pgcmd.Query[AccountPage, Account]("accounts.list",
	`select aid as id, bid as branch, abalance as balance
	 from pgbench_accounts where aid > @after order by aid limit @limit`)

func list(ctx context.Context, pool *pgxpool.Pool, see see) {
	accounts, err := listAccounts.Run(ctx, pool,
		AccountPage{After: 42, Limit: 2})
	see(accounts, "[{ID:43 Branch:1 Balance:0} {ID:44 Branch:1 Balance:0}]")
	see(err, "nil")
}

type OpenAccount struct {
	ID      int32 `validate:"gt=0"`
	Branch  int32 `validate:"required"`
	Deposit int32 `validate:"gte=10,lte=5000"`
}

var ErrAccountTaken = errors.New("this account number is taken")

var openAccount = pgcmd.QueryOne[OpenAccount, Account]("accounts.open",
	`insert into pgbench_accounts (aid, bid, abalance)
	 values (@id, @branch, @deposit)
	 returning aid as id, bid as branch, abalance as balance`).
	With(pgcmd.Options{OnConstraint: map[string]error{
		"pgbench_accounts_pkey": ErrAccountTaken,
	}})

func conflict(ctx context.Context, pool *pgxpool.Pool, see see) {
	_, err := openAccount.Run(ctx, pool,
		OpenAccount{ID: 42, Branch: 1, Deposit: 50})
	see(errors.Is(err, ErrAccountTaken), "true")
	see(err, "pgcmd: accounts.open: this account number is taken [conflict, not applied, SQLSTATE 23505]")
}

func refusal(ctx context.Context, pool *pgxpool.Pool, see see) {
	before := pool.Stat().AcquireCount()
	_, err := openAccount.Run(ctx, pool, OpenAccount{ID: -7, Deposit: 9000})
	see(err, "pgcmd: accounts.open: the input was refused for 3 reasons: ID must be greater than 0; "+
		"Branch is a required field; Deposit must be 5,000 or less [invalid, not applied]")
	see(pool.Stat().AcquireCount()-before, "0")
}

func notFound(ctx context.Context, pool *pgxpool.Pool, see see) {
	_, err := findAccount.Run(ctx, pool, FindAccount{ID: 999_999})
	see(pgcmd.CodeOf(err), "not_found")
	see(pgcmd.EffectOf(err), "not_applied")
	see(errors.Is(err, pgx.ErrNoRows), "true")
}

var slowSum = pgcmd.QueryOne[struct{}, int64]("accounts.sum",
	`select coalesce(sum(abalance), 0) from pgbench_accounts, pg_sleep(5)`).
	With(pgcmd.Options{Timeout: 500 * time.Millisecond})

var slowDeposit = pgcmd.Exec[int32]("tellers.deposit",
	`update pgbench_tellers set tbalance = tbalance + $1
	 where tid = 7 and pg_sleep(5) is not null`).
	With(pgcmd.Options{Timeout: 500 * time.Millisecond})

func timeout(ctx context.Context, pool *pgxpool.Pool, see see) {
	_, err := slowSum.Run(ctx, pool, struct{}{})
	see(errors.Is(err, context.DeadlineExceeded), "true")
	see(pgcmd.CodeOf(err), "timeout")
	see(pgcmd.EffectOf(err), "not_applied")

	_, err = slowDeposit.Run(ctx, pool, 100)
	see(pgcmd.EffectOf(err), "unknown")
}

type Booking struct {
	Account, Delta int32
	Note           string `validate:"max=22"`
}

func logging(next pgcmd.Handler) pgcmd.Handler {
	return func(ctx context.Context, call *pgcmd.Call) error {
		start := time.Now()
		err := next(ctx, call)
		zap.L().Info(call.Command,
			zap.Int("attempts", call.Attempts), zap.Int64("rows", call.Rows),
			zap.Duration("elapsed", time.Since(start)))
		return err
	}
}

var insertBooking = pgcmd.QueryOne[Booking, Booking]("history.book",
	`insert into pgbench_history (tid, bid, aid, delta, mtime, filler)
	 values (1, 1, @account, @delta, now(), @note)
	 returning aid as account, delta, filler as note`).
	With(pgcmd.Options{Middleware: []pgcmd.Middleware{logging}})

var bookLower = pgcmd.Before(insertBooking,
	func(_ context.Context, in *Booking) error {
		in.Note = strings.ToLower(in.Note)
		return nil
	})

var book = pgcmd.After(bookLower,
	func(_ context.Context, _ Booking, out *Booking) error {
		out.Note = strings.TrimRight(out.Note, " ") // of char(22)
		return nil
	})

func hooks(ctx context.Context, pool *pgxpool.Pool, see see) {
	booking, err := book.Run(ctx, pool,
		Booking{Account: 42, Delta: 100, Note: "RENT June"})
	see(booking, "{Account:42 Delta:100 Note:rent june}")
	see(err, "nil")
}

func outcome(ctx context.Context, pool *pgxpool.Pool, see see) {
	found := pgcmd.Try(ctx, pool, findAccount, FindAccount{ID: 42})
	good, _ := json.Marshal(found)
	see(good, `{"ok":true,"value":{"ID":42,"Branch":1,"Balance":0},"attempts":1,"elapsed_ms":*}`)

	refused := pgcmd.Try(ctx, pool, findAccount, FindAccount{ID: -1})
	bad, _ := json.Marshal(refused)
	see(bad, `{"ok":false,"error":{"code":"invalid","effect":"not_applied",*,"attempts":0}}`)
}
