// Package sqlstate says what an error of PostgreSQL means, by its SQLSTATE: which condition
// it is, whether the statement was rolled back, whether it may pass, and whether the
// connection or a prepared statement can be used again. It does not know what the statement
// was, nor whether it ran in a transaction.
package sqlstate

import (
	_ "embed"
	"errors"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that the library distinguishes, under PostgreSQL's names.
const (
	FeatureNotSupported       = "0A000"
	ProtocolViolation         = "08P01"
	IntegrityViolation        = "23000" // integrity_constraint_violation
	RestrictViolation         = "23001"
	NotNullViolation          = "23502"
	ForeignKeyViolation       = "23503"
	UniqueViolation           = "23505"
	CheckViolation            = "23514"
	ExclusionViolation        = "23P01"
	ReadOnlyTransaction       = "25006"
	InFailedTransaction       = "25P02"
	UndefinedStatement        = "26000" // invalid_sql_statement_name
	InvalidAuthorization      = "28000"
	InvalidPassword           = "28P01"
	UndefinedDatabase         = "3D000" // invalid_catalog_name
	UndefinedSchema           = "3F000" // invalid_schema_name
	SerializationFailure      = "40001"
	CompletionUnknown         = "40003" // statement_completion_unknown
	DeadlockDetected          = "40P01"
	InsufficientPrivilege     = "42501"
	SyntaxError               = "42601"
	UndefinedObject           = "42704"
	DuplicateStatement        = "42P05" // duplicate_prepared_statement
	UndefinedTable            = "42P01"
	InvalidColumnReference    = "42P10"
	TooManyConnections        = "53300"
	QueryCanceled             = "57014"
	AdminShutdown             = "57P01"
	CrashShutdown             = "57P02"
	CannotConnectNow          = "57P03"
	DatabaseDropped           = "57P04"
	IdleSessionTimeout        = "57P05"
	InternalError             = "XX000"
	invalidTextRepresentation = "22P02"
	invalidBinary             = "22P03"
	characterNotInRepertoire  = "22021"
)

// table has a line for every SQLSTATE in Appendix A of PostgreSQL's manual: the state, its
// code, its condition name.
//
//go:embed sqlstate.txt
var table string

type condition struct{ code, name string }

// conditions is parsed at the first error, not at the program's start: most programs that
// import the package and stop never see an error.
var conditions = sync.OnceValue(func() map[string]condition {
	m := make(map[string]condition, 300)
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) == 3 {
			m[f[0]] = condition{code: f[1], name: f[2]}
		}
	}
	return m
})

// Lookup returns the code of a SQLSTATE, which is the string of a pgcmd.Code, and the name
// of its condition. A state that PostgreSQL does not list has the code of its class. Of
// a class that PostgreSQL does not list it is "failed": only RAISE makes such states.
func Lookup(state string) (code, name string) {
	if c, ok := conditions()[state]; ok {
		return c.code, c.name
	}
	if len(state) == 5 {
		if c, ok := conditions()[state[:2]+"000"]; ok {
			return c.code, "error of class " + state[:2]
		}
	}
	return "failed", "error"
}

// IsDefinite reports whether the error proves that the server has rolled the statement
// back, if the statement is atomic. FATAL and PANIC may come after a commit. Class 08 may
// come from a pooler that has lost its server, unless PostgreSQL refused a Bind; and 40003
// says by its name that the result is unknown.
func IsDefinite(err *pgconn.PgError) bool {
	severity := err.SeverityUnlocalized
	if severity == "" {
		severity = err.Severity
	}
	return severity == "ERROR" && (!strings.HasPrefix(err.Code, "08") || RefusedAtBind(err)) && err.Code != CompletionUnknown
}

// IsOfStatement reports whether an error is about the statement. A timeout, a shutdown, a deadlock
// or a lack of memory is about the attempt to analyze or run it: another attempt may succeed.
func IsOfStatement(state string) bool {
	switch code, _ := Lookup(state); code {
	case "timeout", "canceled", "unavailable", "exhausted", "aborted":
		return false
	}
	return true
}

// RefusedAtBind reports whether the server refused a Bind because its number of parameters
// or result formats differs from the statement's. A pooler's 08P01 names no routine.
func RefusedAtBind(err *pgconn.PgError) bool {
	return err.Code == ProtocolViolation && (err.Routine == "PortalSetResultFormat" || err.Routine == "exec_bind_message")
}

// IsConflict reports whether two transactions were in each other's way. Such an error ends
// the transaction: no savepoint helps.
func IsConflict(state string) bool { return state == SerializationFailure || state == DeadlockDetected }

// IsTransient reports whether the error may not come again: a conflict, a server that is
// full, is going away or has become a standby, a prepared statement that a pooler has lost.
func IsTransient(state string) bool {
	switch state {
	case SerializationFailure, DeadlockDetected,
		TooManyConnections, ReadOnlyTransaction, AdminShutdown, CrashShutdown, CannotConnectNow, DatabaseDropped, IdleSessionTimeout, CompletionUnknown,
		UndefinedStatement, DuplicateStatement:
		return true
	}
	return strings.HasPrefix(state, "08")
}

// RetryOnce reports whether one more attempt is all that can help: it uses a new plan or
// another connection.
func RetryOnce(state string) bool {
	return state == UndefinedStatement || state == DuplicateStatement || state == FeatureNotSupported
}

// IsPlanChange reports whether a cached plan could not be used because its result type has
// changed. pgx forgets the statement then, so that the next attempt has a new plan.
func IsPlanChange(err *pgconn.PgError) bool {
	return err.Code == FeatureNotSupported && err.Routine == "RevalidateCachedQuery"
}

// InvalidatesConn reports whether another attempt needs another connection: the server has
// become a standby, or the prepared statements of the connection are lost.
func InvalidatesConn(state string) bool {
	return state == ReadOnlyTransaction || state == UndefinedStatement || state == DuplicateStatement
}

// InvalidatesPool reports whether the other connections of the pool are likely to fail too:
// the server has become a standby, or is shutting down.
func InvalidatesPool(state string) bool {
	return state == ReadOnlyTransaction || state == AdminShutdown || state == CrashShutdown
}

// InvalidatesStatement reports whether an error with this SQLSTATE may mean that a cached
// description of the statement, its parameter and result types, is outdated. Only an error
// that a valid plan raises when it is executed cannot.
func InvalidatesStatement(state string) bool {
	switch state {
	case invalidTextRepresentation, invalidBinary, characterNotInRepertoire: // of a parameter, too
		return true
	case InFailedTransaction, SerializationFailure, DeadlockDetected, QueryCanceled, "P0001", "P0002", "P0003", "P0004":
		return false
	}
	return !strings.HasPrefix(state, "22") && !strings.HasPrefix(state, "23")
}

// ProvesOutdated reports whether err proves that the server refused a statement, before it
// executed anything, because the schema has changed since it was described or prepared.
// The statement must have been sent with a description. An error in the text of a
// statement (Position) is found when the statement is described; if it is found later, the
// text was right then. Only the parameter types are not looked up again.
func ProvesOutdated(err error) bool {
	if _, describing := errors.AsType[*pgconn.PrepareError](err); describing {
		return false
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !IsDefinite(pgErr) {
		return false
	}
	return pgErr.Position > 0 || saysTypesChanged(pgErr)
}

// saysTypesChanged reports whether err says that the columns, or the types of the parameters
// or columns, have changed since the statement was prepared or described.
func saysTypesChanged(err *pgconn.PgError) bool {
	switch err.Code {
	case FeatureNotSupported:
		return IsPlanChange(err)
	case ProtocolViolation:
		return RefusedAtBind(err)
	case InternalError:
		return strings.HasPrefix(err.Message, "cache lookup failed for type ") // never translated
	case UndefinedObject:
		return err.Routine == "lookup_type_cache"
	}
	return false
}

// ConnectHint says why the server did not take a connection, and what to do about it; "" of
// another error.
func ConnectHint(state string) string {
	switch state {
	case InvalidPassword, InvalidAuthorization:
		return "the server refuses the user or the password: check them, and pg_hba.conf"
	case UndefinedObject:
		return "the server does not know a setting in the URL: check its parameters"
	case UndefinedDatabase:
		return "the database does not exist: check its name, or create it"
	case InsufficientPrivilege:
		return "the user may not connect to the database: GRANT CONNECT"
	case TooManyConnections:
		return "the server has no connection left: lower MaxConns, raise max_connections, or use a pooler"
	case ProtocolViolation:
		return "the server, or a pooler before it, does not take the connection: it may not know a setting in the URL"
	case CannotConnectNow:
		return "the server is starting up, shutting down or recovering: it was waited for until the deadline"
	}
	return ""
}

// SettingHint says why the server did not take a setting, and what to do about it; "" of another error.
func SettingHint(state string) string {
	switch state {
	case UndefinedObject:
		return "the server has none of this name, and one of your own needs a dot, as in app.tenant"
	case "55P02": // cant_change_runtime_param
		return "it cannot be changed while the server runs, or in a session"
	}
	return ""
}
