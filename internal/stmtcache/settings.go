package stmtcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// A Setting is one of the server's, for one transaction.
type Setting struct {
	Name  string
	Value SecretText
}

// A SecretText is sent as text, and rendered as [secret] wherever a tracer of pgx prints it.
type SecretText string

// TextValue implements pgtype.TextValuer.
func (s SecretText) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: string(s), Valid: true}, nil
}

// Format renders [secret], for every verb.
func (s SecretText) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalJSON renders [secret].
func (s SecretText) MarshalJSON() ([]byte, error) { return json.Marshal("[secret]") }

// SetSQL sets a setting for the transaction that it is part of: a transaction of an extended
// query ends at its Sync. It returns no row, so that the reply does not hold the value.
const SetSQL = `select where pg_catalog.set_config($1, $2, true) is null`

// QueueSettings queues the messages that set settings. sd is that of SetSQL; if it is nil, SetSQL is
// parsed first.
func QueueSettings(to *pgproto3.Frontend, sd *pgconn.StatementDescription, settings []Setting) {
	name := ""
	if sd != nil {
		name = sd.Name
	} else {
		to.SendParse(&pgproto3.Parse{Query: SetSQL})
	}
	for i := range settings {
		to.SendBind(&pgproto3.Bind{PreparedStatement: name, Parameters: settings[i].Parameters()})
		to.SendExecute(&pgproto3.Execute{})
	}
}

// Parameters are the arguments of SetSQL, in text format.
func (s *Setting) Parameters() [][]byte { return [][]byte{[]byte(s.Name), []byte(s.Value)} }

// AppendSettings is QueueSettings for a message that is sent later, and a prepared statement.
func AppendSettings(message []byte, name string, settings []Setting) (_ []byte, err error) {
	for i := range settings {
		if message, err = (&pgproto3.Bind{PreparedStatement: name, Parameters: settings[i].Parameters()}).Encode(message); err != nil {
			return message, err
		}
		if message, err = (&pgproto3.Execute{}).Encode(message); err != nil {
			return message, err
		}
	}
	return message, nil
}

// DescribeSettings returns the description of SetSQL if there is anything to set, as
// [Cache.Describe] does; nil if the connection is not set to use prepared statements. It deallocates
// nothing, so that what is encoded already can be sent after it.
func (c *Cache) DescribeSettings(ctx context.Context, conn *pgx.Conn, settings []Setting) (*pgconn.StatementDescription, error) {
	if len(settings) == 0 || !c.cachesStatements() {
		return nil, nil
	}
	if sd, known, err := c.known(ctx, conn, SetSQL); known {
		return sd, err
	}
	c.Held = true
	defer func() { c.Held = false }()
	return c.Describe(ctx, conn, SetSQL)
}

// A SettingError is the server's error about a setting. What came after it in the same
// transaction was not executed.
type SettingError struct {
	Name string
	Err  *pgconn.PgError // without its texts, which hold the value
}

func (e *SettingError) Error() string { return "the setting " + e.Name + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// RefusedSetting returns a SettingError if err is the server's error about the setting. It returns
// other errors as they are: those of the connection, a cancellation, a shutdown.
func RefusedSetting(name string, err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !sqlstate.IsDefinite(pgErr) || pgErr.Code == sqlstate.UndefinedStatement || strings.HasPrefix(pgErr.Code, "57") {
		return err
	}
	return &SettingError{Name: name, Err: &pgconn.PgError{Severity: pgErr.Severity, SeverityUnlocalized: pgErr.SeverityUnlocalized,
		Code: pgErr.Code, File: pgErr.File, Line: pgErr.Line, Routine: pgErr.Routine, Message: "the setting was refused"}}
}

// IsSettingName reports whether all versions of PostgreSQL take the name of a setting.
func IsSettingName(name string) bool {
	start := true // of a part of the name
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			start = false
		case !start && (c >= '0' && c <= '9'):
		case !start && c == '.':
			start = true
		default:
			return false
		}
	}
	return !start
}
