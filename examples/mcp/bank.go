package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
)

type (
	Account struct {
		Account int32 `json:"account" db:"aid"`
		Branch  int32 `json:"branch" db:"bid"`
		Balance int32 `json:"balance" db:"abalance"`
	}
	Branch struct {
		Branch   int32 `json:"branch" db:"bid"`
		Balance  int64 `json:"balance"`
		Accounts int64 `json:"accounts"`
	}
	Booking struct {
		Account int32     `json:"account" db:"aid"`
		Amount  int32     `json:"amount" db:"delta"`
		At      time.Time `json:"at" db:"mtime"`
	}

	FindAccount struct {
		Account int32 `json:"account" db:"aid" validate:"gt=0"`
	}
	ListRichest struct {
		Branch *int32 `json:"branch" db:"bid" validate:"omitempty,gt=0"` // all, if it is left out
		Limit  int32  `json:"limit" validate:"gte=1,lte=100"`
	}
	ListBookings struct {
		Account int32 `json:"account" db:"aid" validate:"gt=0"`
		Limit   int32 `json:"limit" validate:"gte=1,lte=100"`
	}
	OpenAccount struct {
		Account int32 `json:"account" db:"aid" validate:"gt=0"`
		Branch  int32 `json:"branch" db:"bid" validate:"gt=0"`
	}
	Deposit struct {
		Account int32 `json:"account" db:"aid" validate:"gt=0"`
		Amount  int32 `json:"amount" validate:"gt=0,lte=1000000"`
	}
	Transfer struct {
		Key    string `json:"key" validate:"required,max=100"` // the client's: the same when it asks again
		From   int32  `json:"from" validate:"gt=0"`
		To     int32  `json:"to" validate:"gt=0,nefield=From"`
		Amount int32  `json:"amount" validate:"gt=0,lte=1000000"`
	}
	Transferred struct {
		From Account `json:"from"`
		To   Account `json:"to"`
	}
)

var (
	ErrFunds  = errors.New("insufficient funds")
	ErrBranch = errors.New("there is no such branch")
	ErrOpen   = errors.New("the account is open already")

	means = map[string]error{"pgbench_accounts_funds": ErrFunds, "pgbench_accounts_bid_fkey": ErrBranch, "pgbench_accounts_pkey": ErrOpen}
)

func lists(description string) pgcmd.Options {
	o := reads(description)
	o.MaxRows = 100
	return o
}

func reads(description string) pgcmd.Options {
	return pgcmd.Options{Description: description, Timeout: 5 * time.Second, Retry: pgcmd.Retry{Attempts: 3}}
}

var (
	findAccount = pgcmd.QueryOne[FindAccount, Account]("accounts.find",
		`select aid, bid, abalance from pgbench_accounts where aid = @aid`).
		With(reads("Finds an account by its number."))

	listRichest = pgcmd.Query[ListRichest, Account]("accounts.richest",
		`select aid, bid, abalance from pgbench_accounts where @bid::int is null or bid = @bid order by abalance desc, aid limit @limit`).
		With(lists("Lists the accounts with the largest balances, of one branch or of all."))

	listBranches = pgcmd.Query[struct{}, Branch]("branches.list",
		`select bid, coalesce(sum(abalance), 0) as balance, count(aid) as accounts
			from pgbench_branches left join pgbench_accounts using (bid) group by bid order by bid`).
		With(lists("Lists the branches with what their accounts hold together."))

	listBookings = pgcmd.Query[ListBookings, Booking]("accounts.bookings",
		`select aid, delta, mtime at time zone 'UTC' as mtime from pgbench_history where aid = @aid order by mtime desc limit @limit`).
		With(lists("Lists the latest bookings of an account, the newest first."))

	openAccount = pgcmd.QueryOne[OpenAccount, Account]("accounts.open",
		`insert into pgbench_accounts (aid, bid, abalance, filler) values (@aid, @bid, 0, '') returning aid, bid, abalance`).
		With(pgcmd.Options{Description: "Opens an account with a balance of 0.", OnConstraint: means})

	deposit = pgcmd.QueryOne[Deposit, Account]("accounts.deposit",
		`with booked as (
				insert into pgbench_history (tid, bid, aid, delta, mtime)
				select min(tid), bid, @aid, @amount, now() at time zone 'UTC'
				from pgbench_accounts join pgbench_tellers using (bid) where aid = @aid group by bid)
			update pgbench_accounts set abalance = abalance + @amount where aid = @aid returning aid, bid, abalance`).
		With(pgcmd.Options{Description: "Pays an amount into an account.", OnConstraint: means})

	depositAll = pgcmd.Batch(deposit, pgcmd.Isolated).
			With(pgcmd.Options{Description: "Pays amounts into accounts. The good ones are booked, and of the others it says why not."})

	closeAccount = pgcmd.Exec[FindAccount]("accounts.close", `delete from pgbench_accounts where aid = @aid`).
			With(pgcmd.Options{Description: "Closes an account, whatever is in it."})

	withdraw = pgcmd.QueryOne[Deposit, Account]("accounts.withdraw",
		`with booked as (
				insert into pgbench_history (tid, bid, aid, delta, mtime)
				select min(tid), bid, @aid, -@amount::int, now() at time zone 'UTC'
				from pgbench_accounts join pgbench_tellers using (bid) where aid = @aid group by bid)
			update pgbench_accounts set abalance = abalance - @amount where aid = @aid returning aid, bid, abalance`).
		With(pgcmd.Options{OnConstraint: means})

	transfer = pgcmd.Once(pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, in Transfer) (out Transferred, err error) {
		if out.From, err = withdraw.Run(ctx, tx, Deposit{Account: in.From, Amount: in.Amount}); err != nil {
			return out, err
		}
		out.To, err = deposit.Run(ctx, tx, Deposit{Account: in.To, Amount: in.Amount})
		return out, err
	}), func(in Transfer) string { return in.Key }).With(pgcmd.Options{
		Description:  "Moves an amount from one account to another.",
		Timeout:      5 * time.Second,
		Retry:        pgcmd.Retry{Attempts: 5},
		Tx:           pgx.TxOptions{IsoLevel: pgx.Serializable},
		OnConstraint: map[string]error{"pgbench_accounts_funds": ErrFunds},
	})
)

// bank is what the service has.
var bank = pgcmd.NewCatalog(findAccount, listRichest, listBranches, listBookings, openAccount, deposit, depositAll, closeAccount, transfer)

// served is what of it models get: not the closing of accounts, say.
var served = pgcmdmcp.Options{
	Name:    "bank",
	Version: "1.0.0",
	Tools: []pgcmdmcp.Tool{
		{Command: "accounts.find"},
		{Command: "accounts.richest"},
		{Command: "accounts.bookings"},
		{Command: "branches.list"},
		{Command: "accounts.open", AllowWrites: true, Additive: true},
		{Command: "accounts.deposit[]", AllowWrites: true, Additive: true},
		{Command: "bank.transfer", AllowWrites: true},
	},
	Schemas: []string{"public"},
	Limits:  pgcmdmcp.Limits{Rows: 5000, Concurrent: 4}, // of the pool's 8 connections
}
