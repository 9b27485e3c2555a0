package workload

import (
	"context"

	"github.com/pgcmd/pgcmd"
)

// reads is what a lookup should say of itself.
var reads = pgcmd.Options{ReadOnly: true}

// Commands is the store as commands.
type Commands struct{ DB pgcmd.DB }

var (
	find     = pgcmd.QueryOne[int64, User]("bench.find", FindSQL).With(reads)
	list     = pgcmd.Query[int64, User]("bench.list", ListSQL).With(reads)
	search   = pgcmd.QueryOne[Search, User]("bench.search", NamedSearchSQL).With(reads)
	branches = pgcmd.Query[Filter, Branch]("bench.branches",
		`select b.bid, count(distinct t.tid) as tellers, count(distinct a.aid) as accounts, sum(a.abalance)::bigint as total, avg(a.abalance)::float8 as average, sum(a.abalance) * 1.0::float8 / nullif(sum(sum(a.abalance)) over (), 0) as share from pgbench_branches b join pgbench_accounts a on a.bid = b.bid join pgbench_tellers t on t.bid = b.bid where a.aid between @from_account and @to_account and a.abalance >= @min_balance group by b.bid having count(distinct a.aid) >= @min_accounts order by total desc, b.bid limit @top`).With(reads)
	debit  = pgcmd.Exec[Transfer]("bench.debit", `update pgbench_accounts set abalance = abalance - @amount where aid = @account`)
	credit = pgcmd.Exec[Transfer]("bench.credit", `update pgbench_tellers set tbalance = tbalance + @amount where tid = @teller`)
	note   = pgcmd.Exec[Transfer]("bench.note", `insert into pgbench_history (tid, bid, aid, delta, mtime) values (@teller, @branch, @account, @amount, current_timestamp)`)
	move   = pgcmd.Transaction("bench.transfer", moveMoney)
	add    = pgcmd.Exec[User]("bench.add", `insert into bench_users (id, email, name, active, created_at) values (@id, @email, @name, @active, @created_at)`).
		With(pgcmd.Options{OnConstraint: map[string]error{EmailKey: ErrTaken}})
	keep     = pgcmd.Exec[Item]("bench.import", `insert into bench_items (id, name, qty) values (@id, @name, @qty)`)
	imported = [...]*pgcmd.Command[[]Item, pgcmd.BatchResult[int64]]{
		pgcmd.Atomic: pgcmd.Batch(keep, pgcmd.Atomic), pgcmd.Isolated: pgcmd.Batch(keep, pgcmd.Isolated),
		pgcmd.Independent: pgcmd.Batch(keep, pgcmd.Independent), pgcmd.Sequential: pgcmd.Batch(keep, pgcmd.Sequential),
	}

	// SignUp is a command that refuses inputs.
	SignUp = pgcmd.New("bench.signup", func(context.Context, pgcmd.DB, Signup) (int64, error) { return 0, nil })
	// Nothing is a command that does nothing.
	Nothing = pgcmd.New("bench.nothing", DoNothing)
)

// DoNothing is the body of Nothing.
//
//go:noinline
func DoNothing(_ context.Context, _ pgcmd.DB, id int64) (int64, error) { return id, nil }

func moveMoney(ctx context.Context, tx *pgcmd.Tx, in Transfer) (int64, error) {
	if _, err := debit.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	if _, err := credit.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	return note.Run(ctx, tx, in)
}

func (s Commands) Find(ctx context.Context, id int64) (User, error)  { return find.Run(ctx, s.DB, id) }
func (s Commands) List(ctx context.Context, n int64) ([]User, error) { return list.Run(ctx, s.DB, n) }
func (s Commands) Search(ctx context.Context, in Search) (User, error) {
	return search.Run(ctx, s.DB, in)
}

func (s Commands) Branches(ctx context.Context, in Filter) ([]Branch, error) {
	return branches.Run(ctx, s.DB, in)
}

func (s Commands) Transfer(ctx context.Context, in Transfer) error {
	_, err := move.Run(ctx, s.DB, in)
	return err
}

func (s Commands) Import(ctx context.Context, items []Item) error {
	return s.ImportIn(ctx, pgcmd.Atomic, items)
}

// ImportIn is Import in another mode.
func (s Commands) ImportIn(ctx context.Context, mode pgcmd.BatchMode, items []Item) error {
	_, err := imported[mode].Run(ctx, s.DB, items)
	return err
}

func (s Commands) Add(ctx context.Context, u User) error {
	_, err := add.Run(ctx, s.DB, u)
	return err
}

var (
	_ Store = Commands{}
	_ Store = Hand{}
	_ Store = Loop{}
	_ Store = Helpers{}
	_ Store = StructArgs{}
)
