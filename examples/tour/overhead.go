package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

func lookupByHand(ctx context.Context, pool *pgxpool.Pool) (a Account, err error) {
	err = pool.QueryRow(ctx, `select aid as id, bid as branch, abalance as balance
		from pgbench_accounts where aid = $1`, 42).Scan(&a.ID, &a.Branch, &a.Balance)
	return a, err
}

func lookupByCommand(ctx context.Context, pool *pgxpool.Pool) (Account, error) {
	return findAccount.Run(ctx, pool, FindAccount{ID: 42})
}

func listByHand(ctx context.Context, pool *pgxpool.Pool) ([]Account, error) {
	rows, err := pool.Query(ctx, `select aid as id, bid as branch, abalance as balance
		from pgbench_accounts where aid > $1 order by aid limit $2`, 0, 100)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var accounts []Account
	for rows.Next() {
		var a Account
		if err := rows.Scan(&a.ID, &a.Branch, &a.Balance); err != nil {
			return nil, err
		}
		accounts = append(accounts, a)
	}
	return accounts, rows.Err()
}

func listByCommand(ctx context.Context, pool *pgxpool.Pool) ([]Account, error) {
	return listAccounts.Run(ctx, pool, AccountPage{Limit: 100})
}

func overhead(ctx context.Context, pool *pgxpool.Pool, see see) {
	one, err := compare(ctx, pool, lookupByHand, lookupByCommand)
	see(one, "by hand * µs, command * µs, ratio * (medians of * pairs)")
	see(err, "nil")

	hundred, err := compare(ctx, pool, listByHand, listByCommand)
	see(hundred, "by hand * µs, command * µs, ratio * (medians of * pairs)")
	see(err, "nil")
}
