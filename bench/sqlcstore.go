package main

import (
	"context"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/bench/internal/sqlcgen"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// sqlcStore is the store on top of what sqlc generates.
type sqlcStore struct {
	pool *pgxpool.Pool
	q    *sqlcgen.Queries
}

func openSqlc(pool *pgxpool.Pool) workload.Store { return sqlcStore{pool, sqlcgen.New(pool)} }

func (s sqlcStore) Find(ctx context.Context, id int64) (workload.User, error) {
	u, err := s.q.FindUser(ctx, id)
	return workload.User(u), err
}

func (s sqlcStore) List(ctx context.Context, n int64) ([]workload.User, error) {
	users, err := s.q.ListUsers(ctx, n)
	return sameUsers(users), err
}

// sameUsers are the users as the store's: a service uses sqlc's own type, and copies nothing. Find
// would not compile if the two types were not the same but for their tags.
func sameUsers(users []sqlcgen.BenchUser) []workload.User {
	return unsafe.Slice((*workload.User)(unsafe.Pointer(unsafe.SliceData(users))), len(users))
}

func (s sqlcStore) Search(ctx context.Context, in workload.Search) (workload.User, error) {
	u, err := s.q.SearchUser(ctx, sqlcgen.SearchUserParams{Email: in.Email, Name: in.Name, Active: in.Active, ID: in.MinID})
	return workload.User(u), err
}

func (s sqlcStore) Branches(ctx context.Context, in workload.Filter) ([]workload.Branch, error) {
	found, err := s.q.ListBranches(ctx, sqlcgen.ListBranchesParams{FromAccount: int32(in.FromAccount), ToAccount: int32(in.ToAccount),
		MinBalance: int32(in.MinBalance), MinAccounts: in.MinAccounts, Top: in.Top})
	branches := make([]workload.Branch, len(found))
	for i, b := range found {
		branches[i] = workload.Branch{BID: int64(b.Bid), Tellers: b.Tellers, Accounts: b.Accounts, Total: b.Total, Average: b.Average, Share: b.Share}
	}
	return branches, err
}

func (s sqlcStore) Transfer(ctx context.Context, in workload.Transfer) error {
	amount, account, teller, branch := int32(in.Amount), int32(in.Account), int32(in.Teller), int32(in.Branch)
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := s.q.WithTx(tx)
		if err := q.Debit(ctx, sqlcgen.DebitParams{Amount: amount, Account: account}); err != nil {
			return err
		}
		if err := q.Credit(ctx, sqlcgen.CreditParams{Amount: amount, Teller: teller}); err != nil {
			return err
		}
		return q.Note(ctx, sqlcgen.NoteParams{Teller: teller, Branch: branch, Account: account, Amount: amount})
	})
}

func (s sqlcStore) Import(ctx context.Context, items []workload.Item) error {
	params := make([]sqlcgen.ImportItemsParams, len(items))
	for i, item := range items {
		params[i] = sqlcgen.ImportItemsParams(item)
	}
	var first error
	s.q.ImportItems(ctx, params).Exec(func(_ int, err error) {
		if first == nil {
			first = err
		}
	})
	return first
}

func (s sqlcStore) Add(ctx context.Context, u workload.User) error {
	return workload.Taken(s.q.AddUser(ctx, sqlcgen.AddUserParams(u)))
}
