package pgcmd_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/workload"
)

var copyBenchUsers = pgcmd.Copy[workload.User]("bench.copy", pgx.Identifier{"copied"})

var insertBenchUser = pgcmd.Exec[workload.User]("bench.insert",
	`insert into copied values (@id, @email, @name, @active, @created_at)`)

// copied are users as a program would have them: made before the clock starts.
func copiedUsers(n int) []workload.User {
	users := make([]workload.User, n)
	for i := range users {
		users[i] = workload.User{ID: int64(i), Email: fmt.Sprintf("user%d@example.com", i), Name: "Ada Lovelace", Active: i%2 == 0, CreatedAt: time.Now()}
	}
	return users
}

// BenchmarkCopy compares a copy with pgx's CopyFrom by hand, and with a loop of
// inserts in one transaction.
func BenchmarkCopy(b *testing.B) {
	ctx := context.Background()
	// No index, no log: what is left is the protocol, which is what differs.
	const ddl = `create unlogged table copied (id bigint, email text, name text, active bool, created_at timestamptz)`
	for _, rtt := range roundTrips {
		b.Run(fmt.Sprintf("rtt %v", rtt), func(b *testing.B) {
			conn, err := pgx.Connect(ctx, delayed(b, rtt, ddl))
			require.NoError(b, err)
			defer conn.Close(ctx)
			benchmarkCopy(ctx, b, conn)
		})
	}
}

func benchmarkCopy(ctx context.Context, b *testing.B, conn *pgx.Conn) {
	empty := func() error { _, err := conn.Exec(ctx, `truncate copied`); return err }
	ours := func(rows iter.Seq2[workload.User, error], n int) func() error {
		return func() error {
			copied, err := copyBenchUsers.Run(ctx, conn, rows)
			if err := expect(err, copied == int64(n)); err != nil {
				return err
			}
			return empty()
		}
	}
	columns := []string{"id", "email", "name", "active", "created_at"}
	for _, n := range []int{100, 100_000, 1_000_000} {
		users := copiedUsers(n)
		b.Run(fmt.Sprintf("%d rows over CopyFromSlice", n), func(b *testing.B) {
			paired(b, max(1, 1000/n), ours(pgcmd.Rows(users), n), func() error {
				copied, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
					u := &users[i]
					return []any{u.ID, u.Email, u.Name, u.Active, u.CreatedAt}, nil
				}))
				if err := expect(err, copied == int64(n)); err != nil {
					return err
				}
				return empty()
			})
		})
	}
	users := copiedUsers(2000)
	b.Run("2000 rows over a loop of inserts", func(b *testing.B) {
		paired(b, 1, ours(pgcmd.Rows(users), len(users)), func() error {
			err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				for _, u := range users {
					if _, err := insertBenchUser.Run(ctx, tx, u); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return empty()
		})
	})
}
