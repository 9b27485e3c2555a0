package main

import (
	"context"

	"github.com/georgysavva/scany/v2/pgxscan"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// scanyStore is the store with scany, which reads rows and leaves the rest to pgx.
type scanyStore struct{ workload.Hand }

func (s scanyStore) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = pgxscan.Get(ctx, s.DB, &u, workload.FindSQL, id)
	return u, err
}

func (s scanyStore) List(ctx context.Context, n int64) (users []workload.User, err error) {
	err = pgxscan.Select(ctx, s.DB, &users, workload.ListSQL, n)
	return users, err
}

func (s scanyStore) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = pgxscan.Get(ctx, s.DB, &u, workload.SearchSQL, in.Email, in.Name, in.Active, in.MinID)
	return u, err
}

func (s scanyStore) Branches(ctx context.Context, in workload.Filter) (branches []workload.Branch, err error) {
	err = pgxscan.Select(ctx, s.DB, &branches, workload.BranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
	return branches, err
}
