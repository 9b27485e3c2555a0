package pgcmd

import (
	"context"
	"fmt"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// Verify compares commands with a live database, so that a schema that has drifted
// away from the code is found by a test or at start-up, and not by a user. It
// returns nil, or one [*Error] whose Problems hold every finding, in the order of
// the commands.
//
// Of every statement it asks the server what it takes and returns (Parse and
// Describe), and compares that with the fields of the command's types: columns that
// are missing or too many, types that cannot hold each other or hold less, and
// columns that may be NULL in fields that cannot. It looks up the constraints that
// OnConstraint names, the tables and the columns of a [Copy], the ledger of [Once],
// and the role's rights on the tables that the SQL names. Nothing is executed but
// queries of the catalog, and nothing is left behind: in a transaction a savepoint
// keeps it usable.
//
// What it does not see: the statements that a Go body runs (give it those commands
// too), whether an outer join makes a column NULL, NULLs behind views and
// expressions, what a function does or may, and the statements that PostgreSQL does
// not analyse before it runs them (create, call, set). An int may go into a smaller
// column without a finding, an int64 may not.
func Verify(ctx context.Context, db DB, defs ...Definition) error {
	_, err := VerifyWarnings(ctx, db, defs...)
	return err
}

// VerifyWarnings is [Verify], and returns besides its error what may be meant and
// may be a mistake: constraints of the tables that the commands write which no
// OnConstraint names, numerics in floats, times of day cut off by a date, JSON in
// strings.
func VerifyWarnings(ctx context.Context, db DB, defs ...Definition) (warnings []Problem, err error) {
	t := resolve(db)
	if e := checkArgs(ctx, &t); e != nil {
		return nil, notVerified(e)
	}
	if len(defs) == 0 {
		return nil, nil
	}
	v := &checker{}
	for i, def := range defs {
		v.add(i, def)
	}
	if e := v.collect(ctx, db); e != nil {
		return nil, notVerified(e)
	}
	for _, s := range v.subjects {
		v.compare(s)
	}
	v.unmapped()
	return v.report()
}

func notVerified(e *Error) *Error {
	e.Command, e.Effect = "pgcmd.Verify", NotApplied
	return e
}

// A verification is what one Verify knows.
type checker struct {
	subjects []*descriptor
	types    typemap.Types
	live     *liveSchema
}

// add takes in the definition that was given at place i.
func (v *checker) add(i int, def Definition) {
	var s *descriptor
	if def != nil && def.definition() != nil {
		s = def.definition().descriptor()
	}
	if s == nil {
		s = &descriptor{name: fmt.Sprintf("definition %d", i)}
		s.report("", "nil", "is nil: is the variable set before it is verified?")
	}
	if s.statement != nil {
		s.tablesNamed = sqltext.Tables(s.statement.text.SQL)
	}
	for at, other := range v.subjects {
		if other.name == s.name {
			s.report("", "name", "is the name of two commands, definitions %d and %d: rename one, since errors and the ledger of Once tell them apart by it", at, i)
			break
		}
	}
	v.subjects = append(v.subjects, s)
}

// report adds a finding about a part of the command, or about all of it if what is
// empty.
func (s *descriptor) report(what, rule, format string, args ...any) {
	s.findings = append(s.findings, s.problem(what, rule, format, args...))
}

// reportWarning adds a warning.
func (s *descriptor) reportWarning(what, rule, format string, args ...any) {
	s.warnings = append(s.warnings, s.problem(what, rule, format, args...))
}

func (s *descriptor) problem(what, rule, format string, args ...any) Problem {
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
	for _, s := range v.subjects {
		warnings = append(warnings, s.warnings...)
		e.Problems = append(e.Problems, s.findings...)
		if len(s.findings) > 0 {
			troubled++
		}
	}
	if troubled == 0 {
		return warnings, nil
	}
	e.Message = fmt.Sprintf("%d of %d commands do not fit the database", troubled, len(v.subjects))
	return warnings, notVerified(e)
}
