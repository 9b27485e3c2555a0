package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/liveschema"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/txn"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// Verify compares commands with a live database, so that a schema that has drifted
// away from the code is found by a test or at start-up, and not by a user. It
// returns nil, or one [*Error] whose Problems hold every finding, in the order of
// the commands.
//
// Of every statement it asks the server what it takes and returns (Parse and
// Describe), and for PostgreSQL's own analysis of it, by a temporary function that
// has it as its body and is rolled back. It compares that with the fields of the
// command's types: columns that are missing or too many, types that cannot hold each
// other or hold less, columns that may be NULL in fields that cannot, and fields that
// may be nil in columns that are NOT NULL. A column counts as one that may be NULL
// only if some data that the schema allows make it NULL, and the finding says how; tag
// the field `db:"name,notnull"` where you know better. It looks up the constraints that
// OnConstraint names, the tables and the columns of a [Copy], the ledger of [Once], the
// role's rights on the tables that the SQL names, and what a command that reads writes
// by way of functions, views, rules and policies. No statement is executed, and nothing
// is left behind: in a transaction savepoints keep it usable.
//
// Of SQL with optional parts or choices it checks every variant that an input can have, if
// there are at most 256; else those without parts, with all, with each part alone, with all
// that do not need one of the fields, and every choice. A finding that not all variants
// have names the first that has it.
//
// What it does not see: the statements that a Go body runs (give it those commands
// too), the SQL that a function makes ([QueryFunc]), and what PostgreSQL does not
// analyse before it runs it (create, call, set). An
// int may go into a smaller column without a finding, an int64 may not. Before
// PostgreSQL 14, on a standby, in a read-only transaction and for a role without the
// TEMPORARY right the analysis cannot be made: a warning says so, and the rest is
// checked.
func Verify(ctx context.Context, db DB, defs ...Definition) error {
	_, err := VerifyWarnings(ctx, db, defs...)
	return err
}

// VerifyWarnings is [Verify], and returns besides its error what may be meant and
// may be a mistake: numerics in floats, parts of the schema that hold less than the
// Go type, JSON in strings, and what it could not look at. It is the Verify of the
// zero [VerifyOptions].
func VerifyWarnings(ctx context.Context, db DB, defs ...Definition) (warnings []Problem, err error) {
	return VerifyOptions{}.Verify(ctx, db, defs...)
}

// VerifyOptions are what [Verify] looks for besides. Zero is what VerifyWarnings does.
type VerifyOptions struct {
	// Unmapped adds a warning for each table that a command writes and whose
	// constraints no OnConstraint names.
	Unmapped bool
}

// Verify is [VerifyWarnings] with these options.
func (o VerifyOptions) Verify(ctx context.Context, db DB, defs ...Definition) (warnings []Problem, err error) {
	t := resolve(db)
	if e := checkCall(ctx, &t); e != nil {
		return nil, notVerified(e)
	}
	if len(defs) == 0 {
		return nil, nil
	}
	v := &checker{names: map[string]int{}}
	for i, def := range defs {
		v.add(i, def)
	}
	if e := v.collect(ctx, db); e != nil {
		return nil, notVerified(e)
	}
	for _, s := range v.subjects {
		v.compare(s)
	}
	if o.Unmapped {
		v.unmapped()
	}
	warnings, err = v.report()
	return append(v.notAnalyzed(), warnings...), err
}

func notVerified(e *Error) *Error {
	e.Command, e.Effect = "pgcmd.Verify", NotApplied
	return e
}

// A subject is a command, or a variant of one, with what is found out about it.
type subject struct {
	descriptor
	command   *subject               // that this is a variant of; nil if it is none
	variant   string                 // what an input sets to have it
	isSet     func(path string) bool // whether a field is set in all inputs that have the variant; nil if it is none
	described description            // by the server
	analysis  *analysis.Statement    // by PostgreSQL's parser; nil if it was not asked
	findings  []Problem
	warnings  []Problem
}

// A checker is the state of one Verify.
type checker struct {
	commands int
	names    map[string]int
	subjects []*subject
	types    typemap.Types
	live     *liveschema.Schema
}

// add adds definition i.
func (v *checker) add(i int, def Definition) {
	s := &subject{}
	if def != nil && def.definition() != nil {
		s.descriptor = *def.definition().descriptor()
	} else {
		s.name = fmt.Sprintf("definition %d", i)
		s.report("", "nil", "is nil: is the variable set before it is verified?")
	}
	if at, taken := v.names[s.name]; taken {
		s.report("", "name", "is the name of two commands, definitions %d and %d: rename one, since errors and the ledger of Once tell them apart by it", at, i)
	} else {
		v.names[s.name] = i
	}
	v.commands++
	if s.variants == nil {
		v.subjects = append(v.subjects, s)
		return
	}
	for _, variant := range s.variants.fields.List(maxListed) {
		of := *s
		of.isSet = func(path string) bool { return s.variants.fields.IsSet(variant, path) }
		of.command, of.variant, of.findings = s, s.variants.describe(variant), slices.Clip(s.findings)
		if statement, failure := s.variants.statement(s.name, variant); failure == nil {
			of.statement = statement
		}
		v.subjects = append(v.subjects, &of)
	}
}

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
	l, failure := leaseExclusively(ctx, db, &verifying)
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

func (v *checker) describeStatements(ctx context.Context, l *exclusiveLease) error {
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
	live, err := liveschema.Load(ctx, l.conn, v.wanted())
	if err != nil {
		return err
	}
	v.live, v.types = live, typemap.Types{Known: l.conn.TypeMap(), Live: live.Types}
	return nil
}

// wanted lists what has to be looked up in the catalog.
func (v *checker) wanted() (w liveschema.Wanted) {
	for _, s := range v.subjects {
		w.Tables = append(w.Tables, s.columnTables()...)
		w.Constraints = slices.AppendSeq(w.Constraints, maps.Keys(s.options.OnConstraint))
		if sd := s.described.sd; sd != nil {
			w.Types = append(w.Types, sd.ParamOIDs...)
			for _, f := range sd.Fields {
				w.Types = append(w.Types, f.DataTypeOID)
				w.Origins = append(w.Origins, liveschema.Origin{Table: f.TableOID, Column: f.TableAttributeNumber})
			}
		}
		if s.analysis == nil {
			continue
		}
		for _, t := range s.analysis.Tables {
			w.TableOIDs = append(w.TableOIDs, t.OID)
		}
		for _, p := range s.analysis.Params {
			for _, cast := range p.Casts {
				w.Types = append(w.Types, cast.To)
			}
		}
	}
	return w
}

const verifySavepoint = "pgcmd_verify"

func execute(ctx context.Context, conn *pgx.Conn, sql string) error {
	return conn.PgConn().Exec(ctx, sql).Close()
}

// describeAll asks for every statement in one round trip. Each is a unit of its
// own, so that one that is refused leaves the others alone. They have no name:
// nothing stays prepared.
func (v *checker) describeAll(ctx context.Context, l *exclusiveLease) error {
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
		if refused := s.described.refused; err == nil && refused != nil && !sqlstate.IsOfStatement(refused.Code) {
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

// verifying is the holder of the connection, as messages about leases name it.
var verifying = "pgcmd.Verify"

// report adds a finding about a part of the command, or about all of it if what is
// empty.
func (s *subject) report(what, rule, format string, args ...any) {
	s.findings = append(s.findings, s.problem(what, rule, format, args...))
}

// reportWarning adds a warning.
func (s *subject) reportWarning(what, rule, format string, args ...any) {
	s.warnings = append(s.warnings, s.problem(what, rule, format, args...))
}

func (s *subject) problem(what, rule, format string, args ...any) Problem {
	p := Problem{Field: s.name, Rule: rule, Message: fmt.Sprintf(format, args...)}
	if what != "" {
		p.Field += ": " + what
	}
	return p
}

// report makes the result of the findings.
func (v *checker) report() (warnings []Problem, err error) {
	e := &Error{Code: CodeInternal}
	troubled := 0
	for rest := v.subjects; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[0].command != nil && rest[n].command == rest[0].command {
			n++
		}
		findings := ofVariants(rest[:n], func(s *subject) []Problem { return s.findings })
		warnings = append(warnings, ofVariants(rest[:n], func(s *subject) []Problem { return s.warnings })...)
		e.Problems = append(e.Problems, findings...)
		if len(findings) > 0 {
			troubled++
		}
		rest = rest[n:]
	}
	if troubled == 0 {
		return warnings, nil
	}
	e.Message = fmt.Sprintf("%d of %d commands do not fit the database", troubled, v.commands)
	return warnings, notVerified(e)
}

// ofVariants lists the findings of the variants of a command, each once. One that not all
// variants have names the first that has it.
func ofVariants(variants []*subject, of func(s *subject) []Problem) (list []Problem) {
	if len(variants) == 1 {
		return of(variants[0])
	}
	count, first := map[Problem]int{}, map[Problem]string{}
	for _, s := range variants {
		for _, p := range of(s) {
			if count[p]++; count[p] == 1 {
				first[p], list = s.variant, append(list, p)
			}
		}
	}
	for i, p := range list {
		if count[p] < len(variants) {
			name := variants[0].name
			list[i].Field = name + " (" + first[p] + ")" + strings.TrimPrefix(p.Field, name)
		}
	}
	return list
}
