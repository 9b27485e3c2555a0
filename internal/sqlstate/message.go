package sqlstate

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A sentence says what a SQLSTATE means to the author of a statement, and how to fix it, if that does
// not depend on the statement.
type sentence struct{ what, fix string }

// policies are what row-level security refuses: the function of the server that reports it says
// more than the SQLSTATE.
var policies = map[[2]string]sentence{
	{InsufficientPrivilege, "ExecWithCheckOptions"}: {"a row-level security policy does not allow the new row", "is it of another tenant, or is a setting missing that the policy compares?"},
	{FeatureNotSupported, "DoCopy"}:                 {"COPY cannot fill a table whose row-level security holds for the role", "use a Batch"},
}

// sentences are those of the conditions that programs meet. PostgreSQL's own messages may hold values.
var sentences = map[string]sentence{
	FeatureNotSupported: {"the server does not support what the SQL asks for", ""},

	"22001":                   {"a value is longer than its type allows", ""},
	"22003":                   {"a number is out of the range of its type", ""},
	"22004":                   {"a value is NULL where none may be", ""},
	"22007":                   {"a text does not have the form of a date or time", ""},
	"22008":                   {"a date or time is out of range", ""},
	"22012":                   {"the SQL divides by zero", "use nullif(divisor, 0)"},
	characterNotInRepertoire:  {"a text holds bytes that the database's encoding does not have", ""},
	"22023":                   {"an argument or a setting has a value that is not allowed", ""},
	invalidTextRepresentation: {"a text cannot be read as the type that the SQL gives it", ""},
	"2201W":                   {"LIMIT is negative", ""},
	"2201X":                   {"OFFSET is negative", ""},

	ReadOnlyTransaction: {"the transaction is read-only, or the server is a standby", ""},
	InFailedTransaction: {"an earlier statement has aborted the transaction", "return its error, or run by Try what may fail"},
	"25P03":             {"the transaction was idle for longer than idle_in_transaction_session_timeout", ""},
	"25P04":             {"the transaction took longer than transaction_timeout", ""},

	UndefinedStatement:    {"the connection has lost a prepared statement", "set Config.PgBouncer if a pooler shares the connections"},
	DuplicateStatement:    {"the connection has a prepared statement of this name already", "set Config.PgBouncer if a pooler shares the connections"},
	InvalidAuthorization:  {"the server refuses the user", "check its name, its right to log in, and pg_hba.conf"},
	InvalidPassword:       {"the server refuses the password", "check it, and pg_hba.conf"},
	UndefinedDatabase:     {"the database does not exist", "check its name, or create it"},
	UndefinedSchema:       {"the SQL names a schema that does not exist", "check its name, or create it"},
	SerializationFailure:  {"could not be serialized: another transaction changed or read the same rows", ""},
	CompletionUnknown:     {"the server does not know whether the statement was completed", ""},
	DeadlockDetected:      {"was chosen to end a deadlock with another transaction", ""},
	InsufficientPrivilege: {"the role may not do this", "grant it the privilege, or use another role"},

	SyntaxError:     {"the SQL has a syntax error", ""},
	"42702":         {"a column name in the SQL is that of several tables", "put the table's name before it"},
	"42703":         {"the SQL names a column that does not exist", "is it dropped or renamed?"},
	UndefinedObject: {"the SQL names a type or another object that does not exist", "is it dropped or renamed?"},
	"428C9":         {"the SQL sets a column that PostgreSQL generates", "leave the column out of the SQL"},
	"42804":         {"two types in the SQL do not fit each other", "cast one of them"},
	"42883":         {"the SQL calls a function or operator that does not exist for its arguments", "check its name, and cast the arguments to the types that it takes"},
	"42P02":         {"the SQL names a parameter that does not exist", ""},
	"42P08":         {"a parameter is used as two types", "cast each use to one of them, as in @name::text"},
	UndefinedTable:  {"the SQL names a table that does not exist", "is it dropped or renamed, or in a schema that is not in the search_path?"},
	"42P18":         {"the SQL does not say which type a parameter has", "cast it, as in @name::text"},
	InvalidColumnReference: {"the SQL refers to columns that it may not",
		"for ON CONFLICT a unique constraint must have exactly its columns"},

	"53100":             {"the server's disk is full", ""},
	"53200":             {"the server is out of memory", ""},
	TooManyConnections:  {"the server has no connection left", "lower MaxConns, raise max_connections, or use a pooler"},
	"55P03":             {"a lock was not available in time", ""},
	AdminShutdown:       {"the server is shutting down, or an administrator ended the connection", ""},
	CrashShutdown:       {"another process of the server crashed, and it restarts", ""},
	CannotConnectNow:    {"the server is starting up, shutting down or recovering", ""},
	DatabaseDropped:     {"the database was dropped", ""},
	IdleSessionTimeout:  {"the connection was idle for longer than idle_session_timeout", ""},
	"P0001":             {"a function or a trigger raised an exception", "its text is withheld, since it may hold values, and errors.AsType[*pgconn.PgError] has it"},
	InternalError:       {"the server reports an error of its own", "see its log"},
	IntegrityViolation:  {"violates a constraint", ""},
	RestrictViolation:   {"violates a foreign key that restricts it", ""},
	NotNullViolation:    {"is NULL, and must not be", ""},
	ForeignKeyViolation: {"violates a foreign key", ""},
	UniqueViolation:     {"violates a unique constraint", ""},
	CheckViolation:      {"violates a check", ""},
	ExclusionViolation:  {"violates an exclusion constraint", ""},
}

// constraints are what PostgreSQL calls the constraints whose name it reports.
var constraints = map[string]string{
	IntegrityViolation: "constraint", RestrictViolation: "foreign key constraint", ForeignKeyViolation: "foreign key constraint",
	UniqueViolation: "unique constraint", CheckViolation: "check constraint", ExclusionViolation: "exclusion constraint",
}

// Describe returns the code of an error, as [Lookup] does, and what happened: with the object
// that it is about, with near, which is a place in the SQL or empty, and with the fix. The
// message and the detail of PostgreSQL may hold values.
func Describe(err *pgconn.PgError, near string) (code, message string) {
	code, name := Lookup(err.Code)
	of, table := "", err.TableName
	switch {
	case table != "":
		of = " of table " + table
	case err.DataTypeName != "":
		of = " of type " + err.DataTypeName
	}
	kind := constraints[err.Code]
	s, known := policies[[2]string{err.Code, err.Routine}]
	if !known {
		s, known = sentences[err.Code]
	}
	what := s.what
	switch {
	case saysTypesChanged(err):
		what, s.fix = "the columns or the types of the statement have changed since it was prepared", "run it again, from the start of its transaction"
	case err.Code == NotNullViolation && err.ColumnName != "":
		what = "column " + err.ColumnName + of + " must not be NULL"
	case err.Code == NotNullViolation && of != "":
		what = "a value" + of + " must not be NULL"
	case kind != "" && err.ConstraintName != "":
		what = "violates " + kind + " " + err.ConstraintName + of
	case !known:
		what = "the server reports " + name + about(err)
	default:
		what += about(err)
	}
	message = what + near
	if s.fix != "" {
		message += ": " + s.fix
	}
	return code, message
}

// about names the object of an error whose sentence does not.
func about(err *pgconn.PgError) string {
	var names []string
	for _, object := range [...]struct{ kind, name string }{
		{"constraint ", err.ConstraintName}, {"column ", err.ColumnName}, {"table ", err.TableName}, {"type ", err.DataTypeName},
	} {
		if object.name != "" {
			names = append(names, object.kind+object.name)
		}
	}
	if names == nil {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}
