// Package workload is the work that is measured: what a small service asks of PostgreSQL, written by hand with pgx, with
// pgx's helpers, and as commands. bench/ adds how others write it.
package workload

import (
	"context"
	"errors"
	"time"
)

// A Store is the service's database, as its handlers see it.
type Store interface {
	Find(ctx context.Context, id int64) (User, error)
	List(ctx context.Context, n int64) ([]User, error) // the first n
	Search(ctx context.Context, in Search) (User, error)
	Branches(ctx context.Context, in Filter) ([]Branch, error)
	Transfer(ctx context.Context, in Transfer) error // three statements in a transaction
	Import(ctx context.Context, items []Item) error  // all or none
	Add(ctx context.Context, u User) error           // ErrTaken if the email is
}

// A User is the row of most work: five columns of usual types. The tags are for those who do not guess.
type User struct {
	ID        int64     `db:"id"`
	Email     string    `db:"email"`
	Name      string    `db:"name"`
	Active    bool      `db:"active"`
	CreatedAt time.Time `db:"created_at"`
}

// A Search finds a user by four parameters.
type Search struct {
	Email  string `db:"email"`
	Name   string `db:"name"`
	Active bool   `db:"active"`
	MinID  int64  `db:"min_id"`
}

// A Filter has the five parameters of the complex query.
type Filter struct {
	FromAccount, ToAccount int64
	MinBalance             int64
	MinAccounts            int64
	Top                    int64
}

// A Branch is a row of the complex query, over pgbench's tables.
type Branch struct {
	BID      int64   `db:"bid" gorm:"column:bid" bun:"bid"`
	Tellers  int64   `db:"tellers"`
	Accounts int64   `db:"accounts"`
	Total    int64   `db:"total"`
	Average  float64 `db:"average"`
	Share    float64 `db:"share"` // of all branches' totals
}

// A Transfer moves money from an account to a teller, and writes it down.
type Transfer struct{ Account, Teller, Branch, Amount int64 }

// An Item is one of many to be stored.
type Item struct {
	ID   int64  `db:"id"`
	Name string `db:"name"`
	Qty  int64  `db:"qty"`
}

// ErrTaken is what a service says of a unique constraint.
var ErrTaken = errors.New("email is already registered")

// EmailKey is the constraint that means ErrTaken.
const EmailKey = "bench_users_email_key"

// The SQL that everybody who writes SQL uses.
const (
	FindSQL     = `select id, email, name, active, created_at from bench_users where id = $1`
	ListSQL     = `select id, email, name, active, created_at from bench_users where id <= $1`
	SearchSQL   = `select id, email, name, active, created_at from bench_users where email = $1 and name = $2 and active = $3 and id >= $4`
	BranchesSQL = `select b.bid, count(distinct t.tid) as tellers, count(distinct a.aid) as accounts, sum(a.abalance)::bigint as total, avg(a.abalance)::float8 as average, sum(a.abalance) * 1.0::float8 / nullif(sum(sum(a.abalance)) over (), 0) as share from pgbench_branches b join pgbench_accounts a on a.bid = b.bid join pgbench_tellers t on t.bid = b.bid where a.aid between $1 and $2 and a.abalance >= $3 group by b.bid having count(distinct a.aid) >= $4 order by total desc, b.bid limit $5`
	DebitSQL    = `update pgbench_accounts set abalance = abalance - $1 where aid = $2`
	CreditSQL   = `update pgbench_tellers set tbalance = tbalance + $1 where tid = $2`
	NoteSQL     = `insert into pgbench_history (tid, bid, aid, delta, mtime) values ($1, $2, $3, $4, current_timestamp)`
	ImportSQL   = `insert into bench_items (id, name, qty) values ($1, $2, $3)`
	AddSQL      = `insert into bench_users (id, email, name, active, created_at) values ($1, $2, $3, $4, $5)`
)

// Users is how many there are.
const Users = 1000

// DDL makes the tables: users, items, and those of pgbench at scale 1, with balances to add up.
const DDL = `
	create table bench_users (id bigint primary key, email text not null constraint bench_users_email_key unique, name text not null, active bool not null, created_at timestamptz not null);
	insert into bench_users select n, 'user' || n || '@example.com', 'Ada Lovelace', true, now() from generate_series(1, 1000) n;
	create table bench_items (id bigint not null, name text not null, qty bigint not null);
	create table pgbench_branches (bid int primary key, bbalance int, filler char(88)) with (fillfactor = 100);
	create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84)) with (fillfactor = 100);
	create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)) with (fillfactor = 100);
	create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
	insert into pgbench_branches select n, 0 from generate_series(1, 10) n;
	insert into pgbench_tellers select n, (n - 1) / 10 + 1, 0 from generate_series(1, 100) n;
	insert into pgbench_accounts select n, (n - 1) % 10 + 1, n % 5000, '' from generate_series(1, 100000) n;
	analyze`
