package analysis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// TestNeverNullIsNever runs random queries on random data: no column that is said never to be NULL may hold NULL.
// ANALYSIS_QUERIES is how many, ANALYSIS_SEED begins another sequence.
func TestNeverNullIsNever(t *testing.T) {
	t.Parallel()
	queries := 3000
	if testing.Short() {
		queries = 600
	}
	if n, err := strconv.Atoi(os.Getenv("ANALYSIS_QUERIES")); err == nil {
		queries = n
	}
	seed := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("ANALYSIS_SEED"), 10, 64); err == nil {
		seed = n
	}
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	// The planner overrates the queries on tables without statistics: to compile one took longer than all else.
	require.NoError(t, conn.PgConn().Exec(t.Context(), "set jit = off").Close())
	total := tally{}
	for total.queries < queries && !t.Failed() {
		total.add(play(t, conn, &world{Rand: rand.New(rand.NewPCG(seed, 7))}, seed, min(300, queries)))
		seed++
	}
	t.Logf("%d queries, %d of them refused; columns: %d never NULL, %d of queries with rows may be NULL (%d%% of them shown by data), %d unknown (%d%% of them NULL in the data)",
		total.queries, total.refused, total.never, total.maybe, 100*total.shown/max(total.maybe, 1), total.unknown, 100*total.unknownShown/max(total.unknown, 1))
	require.Less(t, total.refused*5, total.queries, "most queries have to run")
	require.Greater(t, total.shown*2, total.maybe, "what may be NULL is in most cases")
	require.Greater(t, total.never, total.unknown, "more is known than not")
}

type tally struct{ queries, refused, never, maybe, shown, unknown, unknownShown int }

func (a *tally) add(b tally) {
	a.queries, a.refused, a.never, a.maybe = a.queries+b.queries, a.refused+b.refused, a.never+b.never, a.maybe+b.maybe
	a.shown, a.unknown, a.unknownShown = a.shown+b.shown, a.unknown+b.unknown, a.unknownShown+b.unknownShown
}

const fills = 4 // how often the tables of a world are filled

// play makes one world, and runs queries in it.
func play(t *testing.T, conn *pgx.Conn, w *world, seed uint64, n int) (sum tally) {
	ctx := t.Context()
	exec := func(sql string) error { return conn.PgConn().Exec(ctx, sql).Close() }
	ddl := w.ddl()
	for i := range fills {
		if err := exec(fmt.Sprintf("create schema f%d; set search_path = f%d; %s", i, i, ddl)); err != nil {
			t.Logf("seed %d: %v", seed, err) // an expression that is none
			require.NoError(t, exec(fmt.Sprintf("drop schema if exists f%d cascade", i)))
			return sum
		}
		require.NoError(t, exec(w.data()))
	}
	defer func() {
		for i := range fills {
			require.NoError(t, exec(fmt.Sprintf("drop schema f%d cascade", i)))
		}
	}()
	queries := make([]analysis.Query, n)
	types := make([][]string, n)
	for i := range queries {
		w.params = nil
		sql := ""
		if w.chance(20) {
			sql = w.change()
		} else {
			sql, _ = w.query(nil, 1+w.IntN(2), true)
		}
		queries[i].SQL, types[i] = sql, w.params
		for range w.params {
			queries[i].Params = append(queries[i].Params, analysis.Null(w.IntN(3)))
		}
	}
	require.NoError(t, exec("set search_path = f0"))
	statements, err := analysis.Analyze(ctx, conn, queries...)
	require.NoError(t, err)
	seen, filled := make([]map[int]bool, n), make([]bool, n)
	for fill := range fills {
		require.NoError(t, exec(fmt.Sprintf("set search_path = f%d; set statement_timeout = '200ms'", fill)))
		p := conn.PgConn().StartPipeline(ctx)
		for i, q := range queries {
			var args [][]byte
			for j, typ := range types[i] {
				if q.Params[j] != analysis.Never && w.chance(50) {
					args = append(args, nil)
					continue
				}
				value, _, _ := strings.Cut(w.literal(typ), "::")
				args = append(args, []byte(strings.Trim(value, "'")))
			}
			p.SendQueryParams("begin", nil, nil, nil, nil)
			p.SendQueryParams(q.SQL, args, nil, nil, nil)
			p.SendPipelineSync()
			p.SendQueryParams("rollback", nil, nil, nil, nil)
			p.SendPipelineSync()
		}
		require.NoError(t, p.Flush())
		for i := range queries {
			for range 2 {
				for done := false; !done; {
					results, err := p.GetResults()
					if _, ok := errors.AsType[*pgconn.PgError](err); ok {
						continue
					}
					require.NoError(t, err)
					switch r := results.(type) {
					case *pgconn.ResultReader:
						for r.NextRow() {
							filled[i] = true
							for c, value := range r.Values() {
								if value == nil {
									if seen[i] == nil {
										seen[i] = map[int]bool{}
									}
									seen[i][c] = true
								}
							}
						}
						_, _ = r.Close()
					case *pgconn.PipelineSync:
						done = true
					}
				}
			}
		}
		require.NoError(t, p.Close())
	}
	require.NoError(t, exec("reset search_path; reset statement_timeout"))
	for i, st := range statements {
		sum.queries++
		if st.Refused != nil || st.NotAnalyzed != "" {
			sum.refused++
			if st.NotAnalyzed != "" {
				t.Errorf("seed %d: %s: %s", seed, queries[i].SQL, st.NotAnalyzed)
			}
			continue
		}
		for c, col := range st.Columns {
			switch col.Null {
			case analysis.Never:
				sum.never++
				if seen[i][c] {
					t.Errorf("seed %d: column %d is said never to be NULL, and is: %s\n%v\n%s", seed, c+1, queries[i].SQL, queries[i].Params, ddl)
				}
			case analysis.Maybe:
				if !filled[i] {
					continue // it shows nothing
				}
				sum.maybe++
				if seen[i][c] {
					sum.shown++
				} else if os.Getenv("ANALYSIS_SHOW") != "" {
					t.Logf("not shown: %d %s | %s", c+1, col.Reason, queries[i].SQL)
				}
			default:
				sum.unknown++
				if seen[i][c] {
					sum.unknownShown++
				}
			}
		}
	}
	return sum
}
