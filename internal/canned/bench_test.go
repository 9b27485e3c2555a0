package canned_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/canned"
)

// What a benchmark of this package's users starts from: pgx as it is written by hand.

func BenchmarkQueryRow(b *testing.B) {
	conn := connect(b, newServer(1).ConnConfig())
	ctx := context.Background()
	b.ReportAllocs()
	for id := int64(1000); b.Loop(); id++ { // as in earnest, id is no constant and does not fit a byte
		var u user
		err := conn.QueryRow(ctx, findUser, id).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			conn := connect(b, newServer(n).ConnConfig())
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := list(ctx, conn, 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExec(b *testing.B) {
	conn := connect(b, newServer(1).ConnConfig())
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Exec(ctx, insertUser, "a@example.com"); err != nil {
			b.Fatal(err)
		}
	}
}

// The server alone, which every other figure contains.
func BenchmarkServer(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			answer := prepared(b, n)
			b.ReportAllocs()
			for b.Loop() {
				answer()
			}
		})
	}
}

func TestTheServerDoesNotAllocate(t *testing.T) {
	for name, answer := range map[string]func(){
		"for a prepared statement": prepared(t, 1000),
		"for a transaction":        transaction(t),
	} {
		t.Run(name, func(t *testing.T) { require.Zero(t, testing.AllocsPerRun(100, answer)) })
	}
}

// prepared has a prepared statement of n rows answered.
func prepared(tb testing.TB, n int) func() {
	tb.Helper()
	send := sender(tb, newServer(n))
	send(encode(&pgproto3.Parse{Name: "stmtcache_1", Query: listUsers}, &pgproto3.Sync{}))
	execute := encode(
		&pgproto3.Bind{
			PreparedStatement:    "stmtcache_1",
			ParameterFormatCodes: []int16{1},
			Parameters:           [][]byte{make([]byte, 8)},
			ResultFormatCodes:    []int16{1, 0, 0, 1, 1},
		},
		&pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{},
		&pgproto3.Sync{},
	)
	return func() { send(execute) }
}

// transaction has the commands of a nested transaction answered, as pgx writes them.
func transaction(tb testing.TB) func() {
	tb.Helper()
	send := sender(tb, canned.New())
	var messages [][]byte
	for _, sql := range []string{
		"begin isolation level serializable", "savepoint sp_1", "release savepoint sp_1", "savepoint sp_2",
		"rollback to savepoint sp_2", "commit",
	} {
		messages = append(messages, encode(&pgproto3.Query{String: sql}))
	}
	return func() {
		for _, m := range messages {
			send(m)
		}
	}
}

// sender returns a function that writes messages and reads their whole answer.
func sender(tb testing.TB, s *canned.Server) func(messages []byte) {
	c := dial(tb, s)
	tb.Cleanup(func() { c.Close() })
	buf := make([]byte, 1<<20)
	return func(messages []byte) {
		if _, err := c.Write(messages); err != nil {
			tb.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			tb.Fatal(err)
		}
	}
}

func encode(messages ...pgproto3.FrontendMessage) (b []byte) {
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return b
}
