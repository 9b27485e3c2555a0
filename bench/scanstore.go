package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stephenafamo/scan"
	"github.com/stephenafamo/scan/pgxscan"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// scanStore is the store with scan, which reads rows and leaves the rest to pgx.
type scanStore struct {
	workload.Hand
	pool pgxscan.Queryer
}

func openScan(pool *pgxpool.Pool) workload.Store { return scanStore{workload.Hand{DB: pool}, pool} }

var (
	mapUser   = scan.StructMapper[workload.User]()
	mapBranch = scan.StructMapper[workload.Branch]()
)

func (s scanStore) Find(ctx context.Context, id int64) (workload.User, error) {
	return pgxscan.One(ctx, s.pool, mapUser, workload.FindSQL, id)
}

func (s scanStore) List(ctx context.Context, n int64) ([]workload.User, error) {
	return pgxscan.All(ctx, s.pool, mapUser, workload.ListSQL, n)
}

func (s scanStore) Search(ctx context.Context, in workload.Search) (workload.User, error) {
	return pgxscan.One(ctx, s.pool, mapUser, workload.SearchSQL, in.Email, in.Name, in.Active, in.MinID)
}

func (s scanStore) Branches(ctx context.Context, in workload.Filter) ([]workload.Branch, error) {
	return pgxscan.All(ctx, s.pool, mapBranch, workload.BranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
}
