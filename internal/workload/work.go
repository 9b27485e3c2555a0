package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/canned"
	"github.com/pgcmd/pgcmd/internal/measure"
)

// A Work is something that every store can do.
type Work struct {
	Name string
	Rows int // that it returns
	Size int // how often it is repeated before another takes its turn, where only client work counts
	Run  func(ctx context.Context, s Store, i int) error
}

// Side is the work on one store.
func (w Work) Side(ctx context.Context, name string, s Store) measure.Side {
	return measure.Side{Name: name, Run: func(i int) error { return w.Run(ctx, s, i) }}
}

// Turn is how often the work is repeated on a real server before another takes its turn: a millisecond or
// so, for the shorter the turns, the more of what the machine does meanwhile hits all alike.
func (w Work) Turn() int { return max(1, w.Size/10) }

var (
	One    = Work{"one row", 1, 200, findOne}
	Named  = Work{"one row, four named arguments", 1, 200, searchOne}
	Simple = lists(10) // the report's simple query
	Many   = lists(1000)
	Large  = lists(100_000)
	Huge   = lists(1_000_000)

	// Complex joins and aggregates, with five parameters.
	Complex = Work{"joins and aggregates, five parameters", 10, 40, func(ctx context.Context, s Store, i int) error {
		from := int64(1 + i*500%90_000)
		branches, err := s.Branches(ctx, Filter{from, from + 499, 100, 5, 10})
		return expect(err, len(branches), 10)
	}}
	// Three is the transaction of three statements.
	Three = Work{"transaction of three statements", 0, 100, func(ctx context.Context, s Store, i int) error {
		n := int64(i)
		return s.Transfer(ctx, Transfer{Account: 1000 + n*7919%90_000, Teller: 1 + n%100, Branch: 1 + n%10, Amount: 300 + n%700})
	}}
	// Hundred is the batch of 100.
	Hundred = Work{"batch of 100 inserts", 0, 20, func(ctx context.Context, s Store, _ int) error { return s.Import(ctx, Items) }}
	// Failed is the statement that fails, by a unique constraint.
	Failed = Work{"statement that fails: a unique constraint", 0, 100, func(ctx context.Context, s Store, i int) error {
		err := s.Add(ctx, User{ID: Users + 1, Email: email(int64(300 + i%700)), Name: "Ada Lovelace", CreatedAt: created})
		if !errors.Is(err, ErrTaken) {
			return fmt.Errorf("not ErrTaken: %w", err)
		}
		return nil
	}}
)

// All are those that a Store does, but for large results.
var All = []Work{One, Named, Simple, Many, Complex, Three, Hundred, Failed}

// Items are the hundred.
var Items = func() []Item {
	items := make([]Item, 100)
	for i := range items {
		items[i] = Item{int64(1000 + i), "item", int64(1000 + i)}
	}
	return items
}()

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func email(id int64) string { return fmt.Sprintf("user%d@example.com", id) }

// Small integers cost Go no allocation, and so are not the ids of any work.
func findOne(ctx context.Context, s Store, i int) error {
	u, err := s.Find(ctx, int64(300+i%700))
	return expect(err, len(u.Name), len("Ada Lovelace"))
}

var searches = func() []Search {
	all := make([]Search, 700)
	for i := range all {
		all[i] = Search{email(int64(300 + i)), "Ada Lovelace", true, 300}
	}
	return all
}()

func searchOne(ctx context.Context, s Store, i int) error {
	u, err := s.Search(ctx, searches[i%len(searches)])
	return expect(err, len(u.Name), len("Ada Lovelace"))
}

func lists(n int) Work {
	return Work{fmt.Sprintf("%d rows", n), n, max(2, 2000/n), func(ctx context.Context, s Store, _ int) error {
		users, err := s.List(ctx, int64(n))
		return expect(err, len(users), n)
	}}
}

func expect(err error, got, want int) error {
	if err == nil && got != want {
		return fmt.Errorf("%d, and not %d as expected", got, want)
	}
	return err
}

// Canned is an in-process server, on which only the client's work is done. It answers what is asked for one of the
// works, whatever the parameters; also in the other spellings of a work's SQL.
func Canned(w Work, spellings ...string) *canned.Server {
	int8s := func(n int) []uint32 {
		types := make([]uint32, n)
		for i := range types {
			types[i] = pgtype.Int8OID
		}
		return types
	}
	columns := []canned.Column{
		{Name: "id", OID: pgtype.Int8OID}, {Name: "email", OID: pgtype.TextOID}, {Name: "name", OID: pgtype.TextOID},
		{Name: "active", OID: pgtype.BoolOID}, {Name: "created_at", OID: pgtype.TimestamptzOID}}
	users, branches := make([][]any, w.Rows), make([][]any, w.Rows)
	for i := range users {
		users[i] = []any{int64(i + 1), email(int64(i + 1)), "Ada Lovelace", true, created}
		branches[i] = []any{int64(i + 1), int64(10), int64(500), int64(1_000_000), 2000.5, 0.25}
	}
	server := canned.New()
	server.Rows(FindSQL, int8s(1), columns, users)
	server.Rows(ListSQL, int8s(1), columns, users)
	server.Rows(SearchSQL, []uint32{pgtype.TextOID, pgtype.TextOID, pgtype.BoolOID, pgtype.Int8OID}, columns, users)
	for _, sql := range spellings {
		params := 0
		for _, c := range sql {
			if c == '$' {
				params++
			}
		}
		server.Rows(sql, int8s(params), columns, users)
	}
	server.Rows(BranchesSQL, int8s(5), []canned.Column{
		{Name: "bid", OID: pgtype.Int8OID}, {Name: "tellers", OID: pgtype.Int8OID}, {Name: "accounts", OID: pgtype.Int8OID},
		{Name: "total", OID: pgtype.Int8OID}, {Name: "average", OID: pgtype.Float8OID}, {Name: "share", OID: pgtype.Float8OID}}, branches)
	server.Command(DebitSQL, int8s(2), "UPDATE 1")
	server.Command(CreditSQL, int8s(2), "UPDATE 1")
	server.Command(NoteSQL, int8s(4), "INSERT 0 1")
	server.Command(ImportSQL, []uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.Int8OID}, "INSERT 0 1")
	server.Error(AddSQL, []uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.TextOID, pgtype.BoolOID, pgtype.TimestamptzOID},
		&pgproto3.ErrorResponse{Severity: "ERROR", Code: "23505", Message: "duplicate key value violates unique constraint", ConstraintName: EmailKey, TableName: "bench_users"})
	return server
}
