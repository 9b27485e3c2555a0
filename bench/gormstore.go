package main

import (
	"context"
	"database/sql"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// gormStore is the store with gorm, with both of the settings that its page on performance advises.
type gormStore struct{ db *gorm.DB }

func openGorm(db *sql.DB) (workload.Store, error) {
	g, err := gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{
		PrepareStmt: true, SkipDefaultTransaction: true,
		Logger: logger.Discard, // it would print every statement that fails
	})
	return gormStore{g}, err
}

func (s gormStore) users(ctx context.Context) *gorm.DB {
	return s.db.WithContext(ctx).Table("bench_users")
}

func (s gormStore) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = s.users(ctx).Where("id = ?", id).Take(&u).Error
	return u, err
}

func (s gormStore) List(ctx context.Context, n int64) (users []workload.User, err error) {
	err = s.users(ctx).Where("id <= ?", n).Find(&users).Error
	return users, err
}

func (s gormStore) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = s.users(ctx).Where("email = ? and name = ? and active = ? and id >= ?", in.Email, in.Name, in.Active, in.MinID).Take(&u).Error
	return u, err
}

func (s gormStore) Branches(ctx context.Context, in workload.Filter) (branches []workload.Branch, err error) {
	err = s.db.WithContext(ctx).Raw(bunBranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top).Scan(&branches).Error
	return branches, err
}

func (s gormStore) Transfer(ctx context.Context, in workload.Transfer) error {
	return s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Table("pgbench_accounts").Where("aid = ?", in.Account).Update("abalance", gorm.Expr("abalance - ?", in.Amount)).Error; err != nil {
			return err
		}
		if err := tx.Table("pgbench_tellers").Where("tid = ?", in.Teller).Update("tbalance", gorm.Expr("tbalance + ?", in.Amount)).Error; err != nil {
			return err
		}
		return tx.Table("pgbench_history").Create(map[string]any{
			"tid": in.Teller, "bid": in.Branch, "aid": in.Account, "delta": in.Amount, "mtime": gorm.Expr("current_timestamp")}).Error
	})
}

func (s gormStore) Import(ctx context.Context, items []workload.Item) error {
	return s.db.WithContext(ctx).Table("bench_items").Create(&items).Error
}

func (s gormStore) Add(ctx context.Context, u workload.User) error {
	return workload.Taken(s.users(ctx).Create(&u).Error)
}

// gormSpellings are its texts for the works of the in-process server.
var gormSpellings = []string{
	`SELECT * FROM "bench_users" WHERE id = $1 LIMIT $2`,
	`SELECT * FROM "bench_users" WHERE id <= $1`,
}
