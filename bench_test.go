package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/canned"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A benchUser is the row of every benchmark: five columns of usual types.
type benchUser struct {
	ID        int64
	Email     string
	Name      string
	Active    bool
	CreatedAt time.Time
}

type byID struct{ ID int64 }

type search struct {
	Email  string
	Name   string
	Active bool
	MinID  int64
}

const (
	oneSQL      = `select id, email, name, active, created_at from bench_users where id = $1`
	manySQL     = `select id, email, name, active, created_at from bench_users where id <= $1`
	namedOneSQL = `select id, email, name, active, created_at from bench_users where id = @id`
	searchSQL   = `select id, email, name, active, created_at from bench_users where email = @email and name = @name and active = @active and id >= @min_id`
	searchedSQL = `select id, email, name, active, created_at from bench_users where email = $1 and name = $2 and active = $3 and id >= $4`
	benchDDL    = `create table bench_users (id bigint primary key, email text not null, name text not null, active bool not null, created_at timestamptz not null);
		insert into bench_users select n, 'user' || n || '@example.com', 'Ada Lovelace', true, now() from generate_series(1, 1000) n; create index on bench_users (email); analyze bench_users`
)

var (
	findBenchUser   = pgcmd.QueryOne[byID, benchUser]("bench.find", namedOneSQL)
	listBenchUsers  = pgcmd.Query[int64, benchUser]("bench.list", manySQL)
	searchBenchUser = pgcmd.QueryOne[search, benchUser]("bench.search", searchSQL)
	nothing         = pgcmd.New("bench.nothing", doNothing)
	searched        = search{Email: "user7@example.com", Name: "Ada Lovelace", Active: true, MinID: 1}
)

//go:noinline
func doNothing(_ context.Context, _ pgcmd.DB, in byID) (int64, error) { return in.ID, nil }

// A work is the same thing done by a command and by others, for a connection.
type work struct {
	name string
	rows int
	size int // how often it is repeated before the next takes its turn
	ours func(ctx context.Context, db pgcmd.DB) error
	// theirs[0] is hand-written pgx, the reference.
	theirs []other
}

type other struct {
	name string
	run  func(ctx context.Context, db pgcmd.DB) error
}

func works() []work {
	w := []work{
		{"QueryOne", 1, 200,
			func(ctx context.Context, db pgcmd.DB) error {
				_, err := findBenchUser.Run(ctx, db, byID{700})
				return err
			},
			[]other{
				{"QueryRow.Scan", func(ctx context.Context, db pgcmd.DB) error {
					var u benchUser
					return db.QueryRow(ctx, oneSQL, byID{700}.ID).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
				}},
				{"RowToStructByName", func(ctx context.Context, db pgcmd.DB) error {
					rows, _ := db.Query(ctx, oneSQL, byID{700}.ID)
					_, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[benchUser])
					return err
				}},
			}},
		{"named arguments", 1, 200,
			func(ctx context.Context, db pgcmd.DB) error {
				_, err := searchBenchUser.Run(ctx, db, searched)
				return err
			},
			[]other{
				{"QueryRow.Scan", func(ctx context.Context, db pgcmd.DB) error {
					var u benchUser
					return db.QueryRow(ctx, searchedSQL, searched.Email, searched.Name, searched.Active, searched.MinID).
						Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
				}},
				{"pgx.NamedArgs", func(ctx context.Context, db pgcmd.DB) error {
					var u benchUser
					return db.QueryRow(ctx, searchSQL, pgx.NamedArgs{"email": searched.Email, "name": searched.Name, "active": searched.Active, "min_id": searched.MinID}).
						Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
				}},
				{"pgx.StructArgs", func(ctx context.Context, db pgcmd.DB) error {
					type args struct {
						Email  string `db:"email"`
						Name   string `db:"name"`
						Active bool   `db:"active"`
						MinID  int64  `db:"min_id"`
					}
					var u benchUser
					return db.QueryRow(ctx, searchSQL, pgx.StructArgs(args(searched))).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
				}},
			}},
	}
	for _, n := range []int64{10, 1000} {
		w = append(w, work{fmt.Sprintf("Query of %d rows", n), int(n), int(2000 / n),
			func(ctx context.Context, db pgcmd.DB) error {
				users, err := listBenchUsers.Run(ctx, db, n)
				return expect(err, len(users) == int(n))
			},
			[]other{
				{"rows.Scan loop", func(ctx context.Context, db pgcmd.DB) error {
					rows, err := db.Query(ctx, manySQL, n)
					if err != nil {
						return err
					}
					defer rows.Close()
					var users []benchUser
					for rows.Next() {
						var u benchUser
						if err := rows.Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt); err != nil {
							return err
						}
						users = append(users, u)
					}
					return expect(rows.Err(), len(users) == int(n))
				}},
				{"RowToStructByName", func(ctx context.Context, db pgcmd.DB) error {
					rows, _ := db.Query(ctx, manySQL, n)
					users, err := pgx.CollectRows(rows, pgx.RowToStructByName[benchUser])
					return expect(err, len(users) == int(n))
				}},
			}})
	}
	return w
}

func expect(err error, ok bool) error {
	if err == nil && !ok {
		return fmt.Errorf("not the expected number of rows")
	}
	return err
}

// cannedConn connects to an in-process server, where only client work is done. It
// answers whatever is asked with so many rows.
func cannedConn(t testing.TB, n int) *pgx.Conn {
	t.Helper()
	columns := []canned.Column{
		{Name: "id", OID: pgtype.Int8OID}, {Name: "email", OID: pgtype.TextOID}, {Name: "name", OID: pgtype.TextOID},
		{Name: "active", OID: pgtype.BoolOID}, {Name: "created_at", OID: pgtype.TimestamptzOID}}
	rows := make([][]any, n)
	for i := range rows {
		rows[i] = []any{int64(i + 1), fmt.Sprintf("user%d@example.com", i+1), "Ada Lovelace", true, time.Now()}
	}
	server := canned.New()
	server.Rows(oneSQL, []uint32{pgtype.Int8OID}, columns, rows)
	server.Rows(manySQL, []uint32{pgtype.Int8OID}, columns, rows)
	server.Rows(searchedSQL, []uint32{pgtype.TextOID, pgtype.TextOID, pgtype.BoolOID, pgtype.Int8OID}, columns, rows)
	conn, err := pgx.ConnectConfig(context.Background(), server.ConnConfig())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// paired measures ours and theirs in turns, so that the machine's drift hits both
// alike, and reports the medians of both and of their ratio, with the interval
// that holds the middle half of the ratios.
func paired(b *testing.B, size int, ours, theirs func() error) {
	timed := func(f func() error) float64 {
		start := time.Now()
		for range size {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(start).Nanoseconds()) / float64(size)
	}
	timed(ours)
	timed(theirs)
	var us, them, ratios []float64
	for b.Loop() {
		var our, their float64
		if len(us)%2 == 0 {
			our, their = timed(ours), timed(theirs)
		} else {
			their, our = timed(theirs), timed(ours)
		}
		us, them, ratios = append(us, our), append(them, their), append(ratios, our/their)
	}
	for _, v := range [][]float64{us, them, ratios} {
		slices.Sort(v)
	}
	n := len(ratios)
	b.ReportMetric(0, "ns/op") // of a pair of batches: means nothing
	b.ReportMetric(us[n/2], "ours-ns")
	b.ReportMetric(them[n/2], "theirs-ns")
	b.ReportMetric(ratios[n/2], "ratio")
	b.ReportMetric(ratios[n/4], "ratio-q1")
	b.ReportMetric(ratios[n*3/4], "ratio-q3")
}

// BenchmarkOverhead compares commands with pgx by hand and with pgx's own
// helpers, on the in-process server and on a real one.
func BenchmarkOverhead(b *testing.B) {
	ctx := context.Background()
	url := pgcmdtest.URL(b, benchDDL)
	postgres, err := pgx.Connect(ctx, url)
	require.NoError(b, err)
	defer postgres.Close(ctx)
	for _, w := range works() {
		for server, conn := range map[string]*pgx.Conn{"canned": cannedConn(b, w.rows), "postgres": postgres} {
			var db pgcmd.DB = conn
			for _, o := range w.theirs {
				b.Run(fmt.Sprintf("%s/%s/over %s", server, w.name, o.name), func(b *testing.B) {
					paired(b, w.size, func() error { return w.ours(ctx, db) }, func() error { return o.run(ctx, db) })
				})
			}
		}
	}
}

// BenchmarkNew is the overhead of a command over calling its body.
func BenchmarkNew(b *testing.B) {
	ctx := context.Background()
	var db pgcmd.DB = cannedConn(b, 1)
	direct := func() error { _, err := doNothing(ctx, db, byID{1}); return err }
	b.Run("Run", func(b *testing.B) {
		paired(b, 10_000, func() error { _, err := nothing.Run(ctx, db, byID{1}); return err }, direct)
	})
	b.Run("Try", func(b *testing.B) {
		paired(b, 10_000, func() error { return nothing.Try(ctx, db, byID{1}).Err }, direct)
	})
}

// BenchmarkRefused makes an *Error of an input with three problems.
func BenchmarkRefused(b *testing.B) {
	cmd := accept[signup]("users.signup")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cmd.Run(b.Context(), unusedDB{}, signup{Email: "ada", Age: 7, Password: "short"}); err == nil {
			b.Fatal("not refused")
		}
	}
}

// BenchmarkPool compares commands on a Pool, counted and timed as they are there, and on
// a pgxpool, with the hand-written twin on a pgxpool, by one goroutine and by 100.
func BenchmarkPool(b *testing.B) {
	ctx := context.Background()
	url := pgcmdtest.URL(b, benchDDL)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 10})
	require.NoError(b, err)
	defer pool.Pool.Close()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(b, err)
	cfg.MaxConns = 10
	plain, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(b, err)
	defer plain.Close()
	w := works()[0]
	for _, goroutines := range []int{1, 100} {
		many := func(run func(context.Context, pgcmd.DB) error, db pgcmd.DB) func() error {
			return func() error {
				var all sync.WaitGroup
				errs := make([]error, goroutines)
				for i := range goroutines {
					all.Go(func() {
						for n := 0; n < 2000/goroutines && errs[i] == nil; n++ {
							errs[i] = run(ctx, db)
						}
					})
				}
				all.Wait()
				return errors.Join(errs...)
			}
		}
		for name, db := range map[string]pgcmd.DB{"Pool": pool, "pgxpool": plain} {
			b.Run(fmt.Sprintf("%d goroutines/%s over pgxpool by hand", goroutines, name), func(b *testing.B) {
				paired(b, 1, many(w.ours, db), many(w.theirs[0].run, plain))
			})
		}
	}
}

// Allocations are exact, so that they are a test: the budgets are those of the
// design, against hand-written pgx in the same run.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	allocs := func(f func(ctx context.Context, db pgcmd.DB) error, db pgcmd.DB) float64 {
		require.NoError(t, f(ctx, db))
		return testing.AllocsPerRun(200, func() {
			if err := f(ctx, db); err != nil {
				t.Error(err)
			}
		})
	}
	for _, w := range works() {
		db := cannedConn(t, w.rows)
		ours, hand := allocs(w.ours, db), allocs(w.theirs[0].run, db)
		t.Logf("%-20s %5.0f allocations, by hand %5.0f", w.name, ours, hand)
		if w.rows == 1 {
			assert.LessOrEqual(t, ours, hand+1, w.name)
		} else {
			assert.LessOrEqual(t, ours, 0.70*hand, w.name)
		}
		for _, o := range w.theirs[1:] {
			assert.Less(t, ours, allocs(o.run, db), "%s against %s", w.name, o.name)
		}
	}
	none := func(f func()) { assert.Zero(t, testing.AllocsPerRun(200, f)) }
	var db pgcmd.DB = cannedConn(t, 1)
	none(func() { _, _ = nothing.Run(ctx, db, byID{1}) })
	none(func() { nothing.Try(ctx, db, byID{1}) })
}
