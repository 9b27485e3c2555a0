package pgcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/txn"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A description is what the server said of one statement: what it takes and
// returns, or why it refuses it.
type description struct {
	sd      *pgconn.StatementDescription
	refused *pgconn.PgError
}

// collect asks the server everything that has to be known, and leaves the connection,
// or the transaction, as it was.
func (v *checker) collect(ctx context.Context, db DB) (failure *Error) {
	switch db.(type) {
	case *Pool, *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn, pgx.Tx:
	default:
		return &Error{Code: CodeInternal, Message: fmt.Sprintf("a %T does not give its connection: pass a pool, a connection or a transaction of pgcmd's or pgx's", db)}
	}
	l, failure := copyLeaseOf(ctx, db, &verifying)
	if failure != nil {
		return failure
	}
	defer l.leave()
	if l.err = v.describeStatements(ctx, l); l.err == nil {
		return nil
	}
	e, _ := new(statement).classifyStatement(ctx, l.err)
	if e.SQLState == sqlstate.InFailedTransaction {
		e.Message = "the transaction is aborted, and nothing can be asked in it: verify before it, or on a connection"
	}
	return e
}

func (v *checker) describeStatements(ctx context.Context, l *copyLease) error {
	if l.joined {
		// By way of the transaction, which knows whether it has ended.
		if _, err := l.prepare.Prepare(ctx, "", "savepoint "+verifySavepoint); err != nil {
			return err
		}
		if err := execute(ctx, l.conn, "savepoint "+verifySavepoint); err != nil {
			return err
		}
		defer func() {
			// Of its own, since the transaction is the caller's and goes on.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), txn.EndTime)
			defer cancel()
			if !l.conn.IsClosed() {
				_ = execute(ctx, l.conn, "rollback to savepoint "+verifySavepoint+"; release savepoint "+verifySavepoint)
			}
		}()
	}
	if err := v.describeAll(ctx, l); err != nil {
		return err
	}
	if err := v.analyze(ctx, l.conn); err != nil {
		return err
	}
	v.types = typemap.Types{Known: l.conn.TypeMap()}
	live, err := askCatalog(ctx, l.conn, v)
	v.live = live
	return err
}

const verifySavepoint = "pgcmd_verify"

func execute(ctx context.Context, conn *pgx.Conn, sql string) error {
	return conn.PgConn().Exec(ctx, sql).Close()
}

// describeAll asks for every statement in one round trip. Each is a unit of its
// own, so that one that is refused leaves the others alone. They have no name:
// nothing stays prepared.
func (v *checker) describeAll(ctx context.Context, l *copyLease) error {
	p := l.conn.PgConn().StartPipeline(ctx)
	for _, s := range v.subjects {
		if s.statement == nil {
			continue
		}
		p.SendPrepare("", s.statement.text.SQL, nil)
		p.SendPipelineSync()
		if l.joined {
			p.SendQueryParams("rollback to savepoint "+verifySavepoint, nil, nil, nil, nil)
			p.SendPipelineSync()
		}
	}
	err := p.Flush()
	for _, s := range v.subjects {
		if s.statement == nil || err != nil {
			continue
		}
		if s.described, err = readDescription(p); err == nil && l.joined {
			var restored description
			if restored, err = readDescription(p); err == nil && restored.refused != nil {
				err = restored.refused
			}
		}
		if refused := s.described.refused; err == nil && refused != nil && !isVerdict(refused) {
			err = refused
		}
	}
	if closing := p.Close(); err == nil {
		err = closing
	}
	return err
}

// readDescription reads to the end of one unit.
func readDescription(p *pgconn.Pipeline) (d description, err error) {
	for {
		results, err := p.GetResults()
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			d.refused = refused
			continue
		}
		if err != nil {
			return d, err
		}
		switch r := results.(type) {
		case *pgconn.StatementDescription:
			d.sd = r
		case *pgconn.ResultReader:
			if _, err := r.Close(); err != nil {
				return d, err
			}
		case *pgconn.PipelineSync:
			return d, nil
		default:
			return d, errors.New("the server did not answer what was asked")
		}
	}
}

// isVerdict reports whether an error is the statement's own, and not that the
// server could not look at it: a timeout, a shutdown.
func isVerdict(e *pgconn.PgError) bool {
	switch code, _ := sqlstate.Lookup(e.Code); Code(code) {
	case CodeTimeout, CodeCanceled, CodeUnavailable, CodeExhausted, CodeAborted:
		return false
	}
	return true
}

// verifying is who holds the connection meanwhile.
var verifying = "pgcmd.Verify"
