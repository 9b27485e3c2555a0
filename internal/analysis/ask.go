package analysis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgtree"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// A unit is how a transaction, or a savepoint in one, begins and is taken back.
type unit struct{ begin, rollback string }

func unitOf(conn *pgx.Conn, writes bool) unit {
	switch {
	case conn.PgConn().TxStatus() != 'I':
		return unit{"savepoint pgcmd_analysis", "rollback to savepoint pgcmd_analysis"}
	case writes: // also where transactions are read-only unless they say otherwise
		return unit{"begin read write", "rollback"}
	}
	return unit{"begin", "rollback"}
}

// release removes the savepoint, which keeps its name after it is rolled back to.
func release(ctx context.Context, conn *pgx.Conn) error {
	if conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	return conn.PgConn().Exec(ctx, "release savepoint pgcmd_analysis").Close()
}

// A reply is what the server says to one synchronization of a pipeline.
type reply struct {
	described *pgconn.StatementDescription
	rows      [][][]byte // of the last statement that has any
	refused   *pgconn.PgError
}

func read(p *pgconn.Pipeline) (r reply, err error) {
	for {
		results, err := p.GetResults()
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			r.refused = refused
			continue
		}
		if err != nil {
			return r, err
		}
		switch result := results.(type) {
		case *pgconn.StatementDescription:
			r.described = result
		case *pgconn.ResultReader:
			read := result.Read()
			if refused, ok := errors.AsType[*pgconn.PgError](read.Err); ok {
				r.refused = refused
			} else if read.Err != nil {
				return r, read.Err
			}
			if len(read.Rows) > 0 {
				r.rows = read.Rows
			}
		case *pgconn.PipelineSync:
			return r, nil
		default:
			return r, errors.New("the server did not answer what was asked")
		}
	}
}

// inUnits sends for each i of n what send adds to a pipeline, each in a unit of its own.
func inUnits(ctx context.Context, conn *pgx.Conn, writes bool, n int, send func(p *pgconn.Pipeline, i int) bool, take func(i int, r reply) error) (err error) {
	u := unitOf(conn, writes)
	p := conn.PgConn().StartPipeline(ctx)
	sent := make([]bool, n)
	any := false
	for i := range n {
		p.SendQueryParams(u.begin, nil, nil, nil, nil)
		if sent[i] = send(p, i); sent[i] {
			any = true
		}
		p.SendPipelineSync()
		p.SendQueryParams(u.rollback, nil, nil, nil, nil)
		p.SendPipelineSync()
	}
	err = p.Flush()
	for i := range n {
		var r, back reply
		if err == nil {
			r, err = read(p)
		}
		if err == nil {
			back, err = read(p)
		}
		if err == nil && back.refused != nil {
			err = back.refused
		}
		if err == nil && r.refused != nil && !sqlstate.IsOfStatement(r.refused.Code) {
			err = r.refused
		}
		if err == nil && sent[i] {
			err = take(i, r)
		}
	}
	if closing := p.Close(); err == nil {
		err = closing
	}
	if err == nil && any {
		err = release(ctx, conn)
	}
	return err
}

// describe describes the queries that have no description yet. The statements have no name: nothing stays prepared.
func describe(ctx context.Context, conn *pgx.Conn, queries []Query, statements []*Statement) error {
	var open []int
	for i, q := range queries {
		if q.Described == nil {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return inUnits(ctx, conn, false, len(open), func(p *pgconn.Pipeline, i int) bool {
		p.SendPrepare("", queries[open[i]].SQL, nil)
		return true
	}, func(i int, r reply) error {
		queries[open[i]].Described, statements[open[i]].Refused = r.described, r.refused
		return nil
	})
}

// typeNames asks for the names of the types of parameters and columns.
func typeNames(ctx context.Context, conn *pgx.Conn, queries []Query) (map[uint32]string, error) {
	oids := map[uint32]bool{}
	for _, q := range queries {
		if q.Described == nil {
			continue
		}
		for _, oid := range q.Described.ParamOIDs {
			oids[oid] = true
		}
		for _, f := range q.Described.Fields {
			oids[f.DataTypeOID] = true
		}
	}
	names := map[uint32]string{}
	if len(oids) == 0 {
		return names, nil
	}
	rows, err := pgrows.Query(ctx, conn, `select oid, pg_catalog.format_type(oid, null) from pg_catalog.pg_type where oid = any ($1::oid[])`, texts(oids))
	for _, row := range rows {
		names[pgrows.ParseOID(row[0])] = row[1]
	}
	return names, err
}

// trees asks for the query trees, and says in the statements why one could not be had.
func trees(ctx context.Context, conn *pgx.Conn, queries []Query, statements []*Statement, names map[uint32]string) ([][]*pgtree.Node, error) {
	bodies := make([][]*pgtree.Node, len(queries))
	why, err := unable(ctx, conn)
	if err != nil {
		return nil, err
	}
	var open []int
	for i, q := range queries {
		switch {
		case statements[i].Refused != nil:
		case why != "":
			statements[i].NotAnalyzed = why
		case len(q.Described.ParamOIDs) > maxParams:
			statements[i].NotAnalyzed = fmt.Sprintf("it has more than %d parameters", maxParams)
		case !analyzed(q.SQL):
			statements[i].NotAnalyzed = "the server does not analyze such a statement before it executes it"
		default:
			open = append(open, i)
		}
	}
	for len(open) > 0 {
		part := open[:min(len(open), maxUnits)]
		open = open[len(part):]
		err := inUnits(ctx, conn, true, len(part), func(p *pgconn.Pipeline, i int) bool {
			q := queries[part[i]]
			types := make([]string, len(q.Described.ParamOIDs))
			for i, oid := range q.Described.ParamOIDs {
				types[i] = names[oid]
			}
			p.SendQueryParams(functionOf(q.SQL, strings.Join(types, ", ")), nil, nil, nil, nil)
			p.SendQueryParams(bodySQL, nil, nil, nil, nil)
			return true
		}, func(i int, r reply) error {
			st := statements[part[i]]
			switch {
			case r.refused != nil:
				st.NotAnalyzed = "the server does not make a temporary function of it: " + r.refused.Message
			case len(r.rows) != 1:
				st.NotAnalyzed = "the server does not show its query tree"
			default:
				nodes, err := parse(string(r.rows[0][0]))
				if err != nil || len(nodes) != 1 || !nodes[0].Is("QUERY") || !isKnown(nodes[0]) {
					st.NotAnalyzed = "its query tree is not of a form that is known"
					return nil
				}
				bodies[part[i]] = nodes
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

const (
	maxParams = 100  // FUNC_MAX_ARGS of PostgreSQL
	maxUnits  = 1000 // in one pipeline, whose replies are read after all is sent
)

const functionName = "pgcmd_analysis"

// functionOf is a temporary function with a statement as its body.
func functionOf(sql, args string) string {
	return "create function pg_temp." + functionName + "(" + args + ") returns void language sql begin atomic\n" + sql + "\n; end"
}

// parse is another function in a test of trees that no version has.
var parse = pgtree.Parse

const bodySQL = "select prosqlbody::pg_catalog.text from pg_catalog.pg_proc where proname = '" + functionName + "' and pronamespace = pg_catalog.pg_my_temp_schema()"

// analyzed reports whether the server analyzes a statement when it is prepared.
func analyzed(sql string) bool {
	sql = strings.ToLower(strings.TrimLeft(skipComments(sql), "( \t\r\n"))
	for _, verb := range [...]string{"select", "insert", "update", "delete", "merge", "with", "values", "table"} {
		if strings.HasPrefix(sql, verb) {
			return true
		}
	}
	return false
}

// skipComments removes the comments before a statement.
func skipComments(sql string) string {
	for {
		sql = strings.TrimLeft(sql, "( \t\r\n")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql, "*/")
		default:
			return sql
		}
	}
}

// unable says why no tree can be had on the connection; "" if they can.
func unable(ctx context.Context, conn *pgx.Conn) (string, error) {
	if !storesTrees(conn) {
		return fmt.Sprintf("PostgreSQL %d does not store query trees: that begins with 14", serverVersion(conn)), nil
	}
	rows, err := pgrows.Query(ctx, conn, `
		select pg_catalog.pg_is_in_recovery(), pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP'),
			pg_catalog.current_setting('transaction_read_only'), current_user`)
	if err != nil {
		return "", err
	}
	switch row := rows[0]; {
	case row[0] == "t":
		return "the server is a standby, which cannot make a temporary function", nil
	case row[1] != "t":
		return "the role " + row[3] + " may not make temporary functions: grant temporary on the database to it", nil
	case row[2] == "on" && conn.PgConn().TxStatus() != 'I':
		return "the transaction is read-only, and cannot make a temporary function", nil
	}
	return "", nil
}

// loadCatalog reads what the trees name, with the bodies of the functions in SQL.
func loadCatalog(ctx context.Context, conn *pgx.Conn, bodies [][]*pgtree.Node) (*catalog, error) {
	c := newCatalog()
	var all []*pgtree.Node
	for _, body := range bodies {
		all = append(all, body...)
	}
	tried := map[uint32]bool{}
	for range maxRounds {
		if err := c.load(ctx, conn, all); err != nil {
			return nil, err
		}
		var open []*function
		for _, f := range c.functions {
			if f.lang == "sql" && f.oid >= firstUserOID && !f.bodyKnown && !tried[f.oid] && f.kind != "a" {
				tried[f.oid] = true
				open = append(open, f)
			}
		}
		if len(open) == 0 {
			break
		}
		all = nil
		err := inUnits(ctx, conn, true, len(open), func(p *pgconn.Pipeline, i int) bool {
			for _, setting := range strings.Split(open[i].config, "\n") {
				if name, value, ok := strings.Cut(setting, "="); ok {
					p.SendQueryParams("select pg_catalog.set_config($1, $2, true)", [][]byte{[]byte(name), []byte(value)}, nil, nil, nil)
				}
			}
			p.SendQueryParams(functionOf(open[i].src, open[i].args), nil, nil, nil, nil)
			p.SendQueryParams(bodySQL, nil, nil, nil, nil)
			return true
		}, func(i int, r reply) error {
			if r.refused != nil || len(r.rows) != 1 {
				return nil
			}
			nodes, err := pgtree.Parse(string(r.rows[0][0]))
			if err == nil {
				if open[i].volatility == "v" { // another is not taken to write
					open[i].body, open[i].bodyKnown = nodes, true
				}
				open[i].returnsLastOf(nodes)
				all = append(all, nodes...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}
