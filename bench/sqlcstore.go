package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// queries is in the style of what sqlc generates for sql_package "pgx/v5", where pgx prepares.
type queries struct{ db dbtx }

type dbtx interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

func (q *queries) withTx(tx pgx.Tx) *queries { return &queries{tx} }

func (q *queries) findUser(ctx context.Context, id int64) (workload.User, error) {
	row := q.db.QueryRow(ctx, workload.FindSQL, id)
	var i workload.User
	err := row.Scan(&i.ID, &i.Email, &i.Name, &i.Active, &i.CreatedAt)
	return i, err
}

func (q *queries) listUsers(ctx context.Context, id int64) ([]workload.User, error) {
	rows, err := q.db.Query(ctx, workload.ListSQL, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []workload.User
	for rows.Next() {
		var i workload.User
		if err := rows.Scan(&i.ID, &i.Email, &i.Name, &i.Active, &i.CreatedAt); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return items, nil
}

func (q *queries) searchUser(ctx context.Context, arg workload.Search) (workload.User, error) {
	row := q.db.QueryRow(ctx, workload.SearchSQL, arg.Email, arg.Name, arg.Active, arg.MinID)
	var i workload.User
	err := row.Scan(&i.ID, &i.Email, &i.Name, &i.Active, &i.CreatedAt)
	return i, err
}

func (q *queries) listBranches(ctx context.Context, arg workload.Filter) ([]workload.Branch, error) {
	rows, err := q.db.Query(ctx, workload.BranchesSQL, arg.FromAccount, arg.ToAccount, arg.MinBalance, arg.MinAccounts, arg.Top)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []workload.Branch
	for rows.Next() {
		var i workload.Branch
		if err := rows.Scan(&i.BID, &i.Tellers, &i.Accounts, &i.Total, &i.Average, &i.Share); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return items, nil
}

func (q *queries) debit(ctx context.Context, amount, account int64) error {
	_, err := q.db.Exec(ctx, workload.DebitSQL, amount, account)
	return err
}

func (q *queries) credit(ctx context.Context, amount, teller int64) error {
	_, err := q.db.Exec(ctx, workload.CreditSQL, amount, teller)
	return err
}

func (q *queries) note(ctx context.Context, arg workload.Transfer) error {
	_, err := q.db.Exec(ctx, workload.NoteSQL, arg.Teller, arg.Branch, arg.Account, arg.Amount)
	return err
}

func (q *queries) addUser(ctx context.Context, arg workload.User) error {
	_, err := q.db.Exec(ctx, workload.AddSQL, arg.ID, arg.Email, arg.Name, arg.Active, arg.CreatedAt)
	return err
}

// importItems is a :batchexec.
func (q *queries) importItems(ctx context.Context, arg []workload.Item) *importItemsResults {
	batch := &pgx.Batch{}
	for _, a := range arg {
		vals := []any{a.ID, a.Name, a.Qty}
		batch.Queue(workload.ImportSQL, vals...)
	}
	return &importItemsResults{q.db.SendBatch(ctx, batch), len(arg)}
}

type importItemsResults struct {
	br  pgx.BatchResults
	tot int
}

func (b *importItemsResults) exec(f func(int, error)) error {
	defer b.br.Close()
	for t := range b.tot {
		_, err := b.br.Exec()
		if f != nil {
			f(t, err)
		}
	}
	return b.br.Close()
}

// sqlcStore is the store on top of it.
type sqlcStore struct {
	pool *pgxpool.Pool
	q    *queries
}

func (s *sqlcStore) Find(ctx context.Context, id int64) (workload.User, error) {
	return s.q.findUser(ctx, id)
}

func (s *sqlcStore) List(ctx context.Context, n int64) ([]workload.User, error) {
	return s.q.listUsers(ctx, n)
}

func (s *sqlcStore) Search(ctx context.Context, in workload.Search) (workload.User, error) {
	return s.q.searchUser(ctx, in)
}

func (s *sqlcStore) Branches(ctx context.Context, in workload.Filter) ([]workload.Branch, error) {
	return s.q.listBranches(ctx, in)
}

func (s *sqlcStore) Transfer(ctx context.Context, in workload.Transfer) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := s.q.withTx(tx)
		if err := q.debit(ctx, in.Amount, in.Account); err != nil {
			return err
		}
		if err := q.credit(ctx, in.Amount, in.Teller); err != nil {
			return err
		}
		return q.note(ctx, in)
	})
}

func (s *sqlcStore) Import(ctx context.Context, items []workload.Item) error {
	var first error
	err := s.q.importItems(ctx, items).exec(func(_ int, err error) {
		if first == nil {
			first = err
		}
	})
	if first != nil {
		return first
	}
	return err
}

func (s *sqlcStore) Add(ctx context.Context, u workload.User) error {
	return workload.Taken(s.q.addUser(ctx, u))
}
