package pgcmd

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A Setting is a setting of the server that [Config.Settings] returns for a caller. Name is that of
// a setting of your own, such as app.tenant, or of PostgreSQL's; an empty one is refused with
// CodeInternal, as is a name that the server does not know. The Value is a secret: it is sent as a
// parameter, and no error, log line or metric holds it. An empty Value sets the empty text; a Value
// that the setting cannot have is CodeInvalid.
type Setting struct{ Name, Value string }

// Format renders the setting without its value, for every verb.
func (s Setting) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s [secret]}", s.Name) }

// MarshalJSON renders the setting without its value.
func (s Setting) MarshalJSON() ([]byte, error) {
	return encodeJSON(struct{ Name, Value string }{s.Name, "[secret]"})
}

// settingsKey marks the context of Config.Settings, which must not be called for what it runs
// itself.
type settingsKey struct{}

// settingsFor returns the settings of one unit of work, to be set before it in its own
// transaction. It is called before a connection is taken. A nil pool has none.
func (p *Pool) settingsFor(ctx context.Context) ([]stmtcache.Setting, *Error) {
	if p == nil || p.config.Settings == nil {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err)
	}
	if ctx.Value(settingsKey{}) != nil {
		return nil, settingsError(&Error{Code: CodeInternal, Message: "Config.Settings ran a command on the pool, for which it would be called again: give it what it needs by the context, or another pool"})
	}
	given, err := p.config.Settings(context.WithValue(ctx, settingsKey{}, true))
	if err != nil {
		return nil, settingsError(nameFailer("Config.Settings", classify(ctx, err)))
	}
	settings := make([]stmtcache.Setting, len(given))
	for i, s := range given {
		if !isSettingName(s.Name) { // it is not shown: it may be the value of a Setting whose fields were mixed up
			return nil, settingsError(&Error{Code: CodeInternal,
				Message: fmt.Sprintf("Config.Settings returned a Name that is none, of setting %d: use letters, digits, _ and dots, as in app.tenant", i)})
		}
		if typemap.NotText(s.Value) != "" {
			return nil, settingsError(&Error{Code: CodeInvalid, Message: "Config.Settings returned a value of " + s.Name + " that is not valid UTF-8, or holds a NUL byte"})
		}
		settings[i] = stmtcache.Setting{Name: s.Name, Value: stmtcache.SecretText(s.Value)}
	}
	return settings, nil
}

// settingsError is the error of a run that was refused since it has no settings.
func settingsError(e *Error) *Error {
	e.Effect, e.noRetry = NotApplied, true
	return e
}

// isSettingName reports whether all versions of PostgreSQL take the name of a setting.
func isSettingName(name string) bool {
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

// settingsProblem says why connections with these settings of pgx cannot have Config.Settings, or
// is empty.
func settingsProblem(cc *pgx.ConnConfig) string {
	if cc.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return "are sent as parameters, which the simple protocol puts into the SQL: use another DefaultQueryExecMode, or set PgBouncer"
	}
	return ""
}
