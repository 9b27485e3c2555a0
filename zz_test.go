package pgcmd_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/canned"
)

type U struct {
	ID        int64
	Email     string
	Name      string
	Active    bool
	CreatedAt time.Time
}
type ByID struct{ ID int64 }

const sql1 = "select one"
const sqlN = "select thousand"
const sql10 = "select ten"

func serve(b *testing.B) *pgx.Conn {
	s := canned.New()
	cols := []canned.Column{{Name: "id", OID: 20}, {Name: "email", OID: 25}, {Name: "name", OID: 25}, {Name: "active", OID: 16}, {Name: "created_at", OID: 1184}}
	rows := func(n int) (r [][]any) {
		for i := range n {
			r = append(r, []any{int64(i + 1000), "ada@example.com", "Ada Lovelace", true, time.Now()})
		}
		return
	}
	s.Rows("select one where id = $1", []uint32{20}, cols, rows(1))
	s.Rows(sql10, nil, cols, rows(10))
	s.Rows(sqlN, nil, cols, rows(1000))
	c, err := pgx.ConnectConfig(context.Background(), s.ConnConfig())
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkX(b *testing.B) {
	ctx := context.Background()
	c := serve(b)
	var db pgcmd.DB = c
	one := pgcmd.QueryOne[ByID, U]("one", "select one where id = @id")
	ten := pgcmd.Query[struct{}, U]("ten", sql10)
	thou := pgcmd.Query[struct{}, U]("thou", sqlN)
	b.Run("one/cmd", func(b *testing.B) {
		b.ReportAllocs()
		var id int64 = 1000
		for b.Loop() {
			if _, err := one.Run(ctx, db, ByID{id}); err != nil {
				b.Fatal(err)
			}
			id++
		}
	})
	b.Run("one/hand", func(b *testing.B) {
		b.ReportAllocs()
		var id int64 = 1000
		for b.Loop() {
			var u U
			if err := db.QueryRow(ctx, "select one where id = $1", id).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt); err != nil {
				b.Fatal(err)
			}
			id++
		}
	})
	for _, n := range []struct {
		name, sql string
		q         *pgcmd.Command[struct{}, []U]
	}{{"ten", sql10, ten}, {"thou", sqlN, thou}} {
		b.Run(n.name+"/cmd", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.q.Run(ctx, db, struct{}{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(n.name+"/hand", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rows, err := db.Query(ctx, n.sql)
				if err != nil {
					b.Fatal(err)
				}
				var us []U
				for rows.Next() {
					var u U
					if err := rows.Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt); err != nil {
						b.Fatal(err)
					}
					us = append(us, u)
				}
				if rows.Err() != nil {
					b.Fatal(rows.Err())
				}
			}
		})
		b.Run(n.name+"/byname", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rows, _ := db.Query(ctx, n.sql)
				if _, err := pgx.CollectRows(rows, pgx.RowToStructByName[U]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	nop := pgcmd.New("nop", func(ctx context.Context, db pgcmd.DB, in ByID) (int64, error) { return in.ID, nil })
	b.Run("new/run", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			nop.Run(ctx, db, ByID{1})
		}
	})
	b.Run("new/try", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			nop.Try(ctx, db, ByID{1})
		}
	})
	type Bad struct {
		Email string `validate:"required,email"`
		Age   int    `validate:"gte=18"`
		Name  string `validate:"min=3"`
	}
	bad := pgcmd.New("bad", func(ctx context.Context, db pgcmd.DB, in Bad) (int64, error) { return 0, nil })
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bad.Run(ctx, db, Bad{"x", 1, "y"})
		}
	})
	_, err := bad.Run(ctx, db, Bad{"x", 1, "y"})
	b.Log(err)
}
