package main

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// sqlxStore is the store with sqlx over pgx's stdlib driver.
type sqlxStore struct {
	db     *sqlx.DB
	search *sqlx.NamedStmt
}

const sqlxSearchSQL = `select id, email, name, active, created_at from bench_users where email = :email and name = :name and active = :active and id >= :min_id`

func openSQLX(db *sql.DB) (workload.Store, error) {
	x := sqlx.NewDb(db, "pgx")
	search, err := x.PrepareNamed(sqlxSearchSQL)
	if err != nil {
		return nil, err
	}
	return sqlxStore{x, search}, nil
}

func (s sqlxStore) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = s.db.GetContext(ctx, &u, workload.FindSQL, id)
	return u, err
}

func (s sqlxStore) List(ctx context.Context, n int64) (users []workload.User, err error) {
	err = s.db.SelectContext(ctx, &users, workload.ListSQL, n)
	return users, err
}

func (s sqlxStore) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = s.search.GetContext(ctx, &u, in)
	return u, err
}

func (s sqlxStore) Branches(ctx context.Context, in workload.Filter) (branches []workload.Branch, err error) {
	err = s.db.SelectContext(ctx, &branches, workload.BranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
	return branches, err
}

func (s sqlxStore) Transfer(ctx context.Context, in workload.Transfer) error {
	tx, err := s.db.BeginTxx(ctx, nil)
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

// Import is one statement with 300 parameters, as sqlx advises.
func (s sqlxStore) Import(ctx context.Context, items []workload.Item) error {
	_, err := s.db.NamedExecContext(ctx, `insert into bench_items (id, name, qty) values (:id, :name, :qty)`, items)
	return err
}

func (s sqlxStore) Add(ctx context.Context, u workload.User) error {
	_, err := s.db.NamedExecContext(ctx, `insert into bench_users (id, email, name, active, created_at) values (:id, :email, :name, :active, :created_at)`, u)
	return workload.Taken(err)
}
