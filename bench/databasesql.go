package main

import (
	"context"
	"database/sql"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// sqlStore is the store with the standard library. The driver prepares each text once for a connection.
type sqlStore struct{ db *sql.DB }

func (s sqlStore) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = s.db.QueryRowContext(ctx, workload.FindSQL, id).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

func (s sqlStore) List(ctx context.Context, n int64) ([]workload.User, error) {
	rows, err := s.db.QueryContext(ctx, workload.ListSQL, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var users []workload.User
	for rows.Next() {
		var u workload.User
		if err := rows.Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

func (s sqlStore) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = s.db.QueryRowContext(ctx, workload.SearchSQL, in.Email, in.Name, in.Active, in.MinID).
		Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

func (s sqlStore) Branches(ctx context.Context, in workload.Filter) ([]workload.Branch, error) {
	rows, err := s.db.QueryContext(ctx, workload.BranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var branches []workload.Branch
	for rows.Next() {
		var b workload.Branch
		if err := rows.Scan(&b.BID, &b.Tellers, &b.Accounts, &b.Total, &b.Average, &b.Share); err != nil {
			return nil, err
		}
		branches = append(branches, b)
	}
	return branches, rows.Err()
}

func (s sqlStore) Transfer(ctx context.Context, in workload.Transfer) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, workload.DebitSQL, in.Amount, in.Account); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, workload.CreditSQL, in.Amount, in.Teller); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, workload.NoteSQL, in.Teller, in.Branch, in.Account, in.Amount); err != nil {
		return err
	}
	return tx.Commit()
}

func (s sqlStore) Import(ctx context.Context, items []workload.Item) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt, err := tx.PrepareContext(ctx, workload.ImportSQL)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, in := range items {
		if _, err := stmt.ExecContext(ctx, in.ID, in.Name, in.Qty); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s sqlStore) Add(ctx context.Context, u workload.User) error {
	_, err := s.db.ExecContext(ctx, workload.AddSQL, u.ID, u.Email, u.Name, u.Active, u.CreatedAt)
	return workload.Taken(err)
}
