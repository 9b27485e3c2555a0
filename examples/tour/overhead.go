package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

func lookupByHand(ctx context.Context, pool *pgxpool.Pool) (Account, error) {
	var a Account
	err := pool.QueryRow(ctx,
		`select aid as id, bid as branch, abalance as balance
		 from pgbench_accounts where aid = $1`, 42).
		Scan(&a.ID, &a.Branch, &a.Balance)
	return a, err
}

func listByHand(ctx context.Context, pool *pgxpool.Pool) ([]Account, error) {
	rows, err := pool.Query(ctx,
		`select aid as id, bid as branch, abalance as balance
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

func overhead(ctx context.Context, pool *pgxpool.Pool, see see) {
	rows1 := compare(ctx, pool, lookupByHand, findAccount,
		FindAccount{ID: 42})
	rows100 := compare(ctx, pool, listByHand, listAccounts,
		AccountPage{Limit: 100})
	see(rows1, "by hand * µs, command * µs, ratio * (* pairs)")
	see(rows100, "by hand * µs, command * µs, ratio * (* pairs)")
}
