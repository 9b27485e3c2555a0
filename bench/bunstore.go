package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/pgcmd/pgcmd/internal/workload"
)

// bunStore is the store with bun's query builder. It writes the values into the SQL, so that its texts are never the
// same twice: to prepare them would cost a round trip each, and its documentation advises the simple protocol.
type bunStore struct{ db *bun.DB }

type (
	bunAccount struct {
		bun.BaseModel `bun:"table:pgbench_accounts"`
		AID           int64 `bun:"aid"`
	}
	bunTeller struct {
		bun.BaseModel `bun:"table:pgbench_tellers"`
		TID           int64 `bun:"tid"`
	}
	bunNote struct {
		bun.BaseModel `bun:"table:pgbench_history"`
		TID           int64     `bun:"tid"`
		BID           int64     `bun:"bid"`
		AID           int64     `bun:"aid"`
		Delta         int64     `bun:"delta"`
		MTime         time.Time `bun:"mtime"`
	}
)

const bunUsers = `bench_users AS "user"`

func openBun(_ context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error) {
	simple := cfg.Copy()
	simple.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	db := openSQL(simple)
	return bunStore{bun.NewDB(db, pgdialect.New())}, func() { db.Close() }, nil
}

func (s bunStore) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = s.db.NewSelect().Model(&u).ModelTableExpr(bunUsers).Where("id = ?", id).Scan(ctx)
	return u, err
}

func (s bunStore) List(ctx context.Context, n int64) (users []workload.User, err error) {
	err = s.db.NewSelect().Model(&users).ModelTableExpr(bunUsers).Where("id <= ?", n).Scan(ctx)
	return users, err
}

func (s bunStore) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = s.db.NewSelect().Model(&u).ModelTableExpr(bunUsers).
		Where("email = ?", in.Email).Where("name = ?", in.Name).Where("active = ?", in.Active).Where("id >= ?", in.MinID).Scan(ctx)
	return u, err
}

var bunBranchesSQL = func() string {
	text := workload.BranchesSQL
	for i := range 5 {
		text = strings.Replace(text, fmt.Sprintf("$%d", i+1), "?", 1)
	}
	return text
}()

func (s bunStore) Branches(ctx context.Context, in workload.Filter) (branches []workload.Branch, err error) {
	err = s.db.NewRaw(bunBranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top).Scan(ctx, &branches)
	return branches, err
}

func (s bunStore) Transfer(ctx context.Context, in workload.Transfer) error {
	return s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewUpdate().Model((*bunAccount)(nil)).Set("abalance = abalance - ?", in.Amount).Where("aid = ?", in.Account).Exec(ctx); err != nil {
			return err
		}
		if _, err := tx.NewUpdate().Model((*bunTeller)(nil)).Set("tbalance = tbalance + ?", in.Amount).Where("tid = ?", in.Teller).Exec(ctx); err != nil {
			return err
		}
		note := bunNote{TID: in.Teller, BID: in.Branch, AID: in.Account, Delta: in.Amount}
		_, err := tx.NewInsert().Model(&note).Value("mtime", "current_timestamp").Exec(ctx)
		return err
	})
}

func (s bunStore) Import(ctx context.Context, items []workload.Item) error {
	_, err := s.db.NewInsert().Model(&items).ModelTableExpr("bench_items").Exec(ctx)
	return err
}

func (s bunStore) Add(ctx context.Context, u workload.User) error {
	_, err := s.db.NewInsert().Model(&u).ModelTableExpr("bench_users").Exec(ctx)
	return workload.Taken(err)
}

// bunSpellings are its texts for the works of the in-process server: with each value that they use.
func bunSpellings() []string {
	const list = `SELECT "user"."id", "user"."email", "user"."name", "user"."active", "user"."created_at" FROM ` + bunUsers + ` WHERE `
	texts := []string{list + `(id <= 10)`, list + `(id <= 1000)`}
	for id := 300; id < 1000; id++ {
		texts = append(texts, fmt.Sprintf(list+`(id = %d)`, id))
	}
	return texts
}

// bunPrepared is the store with statements that are prepared once, whose rows bun reads.
type bunPrepared struct {
	bunStore
	find, list, search, branches bun.Stmt
}

func openBunPrepared(ctx context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error) {
	db := openSQL(cfg)
	s := bunPrepared{bunStore: bunStore{bun.NewDB(db, pgdialect.New())}}
	for sql, stmt := range map[string]*bun.Stmt{
		workload.FindSQL: &s.find, workload.ListSQL: &s.list, workload.SearchSQL: &s.search, workload.BranchesSQL: &s.branches} {
		var err error
		if *stmt, err = s.db.PrepareContext(ctx, sql); err != nil {
			return nil, nil, err
		}
	}
	return s, func() { db.Close() }, nil
}

func (s bunPrepared) scan(ctx context.Context, into any, stmt bun.Stmt, args ...any) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	return s.db.ScanRows(ctx, rows, into)
}

func (s bunPrepared) Find(ctx context.Context, id int64) (u workload.User, err error) {
	err = s.scan(ctx, &u, s.find, id)
	return u, err
}

func (s bunPrepared) List(ctx context.Context, n int64) (users []workload.User, err error) {
	err = s.scan(ctx, &users, s.list, n)
	return users, err
}

func (s bunPrepared) Search(ctx context.Context, in workload.Search) (u workload.User, err error) {
	err = s.scan(ctx, &u, s.search, in.Email, in.Name, in.Active, in.MinID)
	return u, err
}

func (s bunPrepared) Branches(ctx context.Context, in workload.Filter) (branches []workload.Branch, err error) {
	err = s.scan(ctx, &branches, s.branches, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
	return branches, err
}
