package pgcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd/internal/address"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/txn"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// Config is what [Connect] connects to: a URL, or a Host with Port, Database and
// User; then how. A zero field means its default. It renders without URL, Password
// and Replicas everywhere.
type Config struct {
	URL      string // postgres://user:password@host:port/database?..., or key=value pairs, as pgx takes them
	Host     string // instead of URL: a name, an address, or the folder of a Unix socket
	Port     uint16 // with Host; zero: 5432
	Database string // with Host; empty: the name of User
	User     string // with Host; empty: the operating system's
	Password string // with Host, or with a URL that has none

	ApplicationName string // what pg_stat_activity calls the connections; empty: the program's name

	MaxConns int32 // the most connections at a time; zero: pool_max_conns of the URL, else 4, or the number of CPUs or MinConns if more
	MinConns int32 // made before Connect returns, and kept; zero: one is made, to see that it can be

	ConnectTimeout   time.Duration // bounds the making of one connection; zero: 5s
	AcquireTimeout   time.Duration // bounds a command's wait for a connection; zero: 3s; negative: the context alone
	StatementTimeout time.Duration // the server's statement_timeout; zero: what the server is set to
	LockTimeout      time.Duration // the server's lock_timeout; zero: what the server is set to
	CommitTimeout    time.Duration // bounds the wait for the reply to a COMMIT, which no caller's cancellation does; zero: 5s or the caller's deadline, whichever is later
	IdleInTxTimeout  time.Duration // the server's idle_in_transaction_session_timeout; zero: what the server is set to

	// Replicas are the URLs of standbys. Commands that are ReadOnly go there, as long
	// as one is up and no more than MaxReplicaLag (zero: 10s) behind.
	Replicas      []string
	MaxReplicaLag time.Duration

	// Multiplex is how many connections to each server are shared by commands that are
	// one read: a Query, a QueryOne or an Exec that counts as one (see [Query]). Zero: none,
	// each command has one of its own. They come on top of MaxConns, and as many again while slow reads are
	// left alone with theirs. See docs/multiplex.md for what it is good for, and not.
	Multiplex int

	// PgBouncer says that the server is a PgBouncer, or another pooler, that gives each
	// transaction another connection: no prepared statements then, and nothing that
	// lasts for a session.
	PgBouncer bool

	// Settings returns settings of the caller, such as a tenant or a user for row-level security,
	// from what its context holds; nil: none are set. They are set for every unit of work in its
	// own transaction and message, so that they cost no round trip and nothing is left on a
	// connection: for a statement, a transaction as it begins, a batch and each of its items, a
	// pipeline, a stream, a copy. What joins a transaction has those of the transaction.
	//
	// It is called before a connection is taken, once for each attempt of a unit of work, and once
	// for all items of a batch that are sent together; by several goroutines at once. It must
	// not run commands on the pool itself. An error of it ends the run: NotApplied, nothing was
	// sent, and it is not tried again.
	//
	// Only commands on the Pool have settings: not those on another DB, nor the methods of
	// pgxpool. See docs/tenants.md.
	Settings func(ctx context.Context) ([]Setting, error)

	// AllowInsecure allows connections off this machine without TLS that verifies the
	// server. Without it a URL that does not set sslmode gets verify-full, and one that
	// sets less is refused.
	AllowInsecure bool

	MaxRows     int // of each Query that sets none: see Options.MaxRows; zero: no limit
	MaxBytes    int // of commands that set none: see Options.MaxBytes; zero: no limit
	RetryBudget int // how many retries in a row the pool's commands may take together; zero: 100; negative: no limit

	// Logger is a *zap.Logger. It gets a line for every command, and what happens to the pool;
	// nil: nothing is logged. The type is the part of it that is used, since zap's own package
	// would link net/http into every program.
	Logger interface {
		Check(level zapcore.Level, message string) *zapcore.CheckedEntry
	}

	Middleware []Middleware // wraps every run on the pool, outside of the commands' own

	// Types are types of the database that every connection loads, those of replicas and
	// the shared ones of Multiplex too: enums, composites (tables too), domains, ranges and
	// types of extensions, named as PostgreSQL resolves names ("mood", "app.mood"). Each brings its
	// array, its multirange and the types that it is made of; their order does not matter.
	// Connect refuses a type that the database does not have, with CodeInvalid. A new connection loads them again, so
	// call [Pool.Reset] after a migration that drops and creates one. See docs/types.md for
	// which Go types need it. Nil: none.
	Types []string

	Pgx func(*pgxpool.Config) // changes pgx's settings, after the others: tracers, tokens, types of Go; its AfterConnect runs after Types are loaded; may be nil
}

// Format renders the config without its secrets, for every verb.
func (c Config) Format(f fmt.State, _ rune) {
	where := "[secret]"
	if c.URL == "" {
		where = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
	}
	fmt.Fprintf(f, "{%s MaxConns:%d MinConns:%d Replicas:%d}", where, c.MaxConns, c.MinConns, len(c.Replicas))
}

// MarshalJSON renders the config without its secrets.
func (c Config) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Host, Database, User string `json:",omitempty"`
		Port                 uint16 `json:",omitempty"`
		MaxConns, MinConns   int32
		Replicas             int
	}{c.Host, c.Database, c.User, c.Port, c.MaxConns, c.MinConns, len(c.Replicas)})
}

const (
	defaultConnectTimeout = 5 * time.Second
	defaultAcquireTimeout = 3 * time.Second
	defaultReplicaLag     = 10 * time.Second
)

// problems lists everything that is wrong with the settings.
func (c *Config) problems() (problems []Problem) {
	add := func(field, format string, args ...any) {
		problems = append(problems, Problem{Field: field, Rule: "config", Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case c.URL == "" && c.Host == "":
		add("URL", "is empty, and so is Host: give one of them, as in postgres://user:password@host:port/database")
	case c.URL != "" && (c.Host != "" || c.Port != 0 || c.Database != "" || c.User != ""):
		add("URL", "is set, and so are fields that it holds (Host, Port, Database, User): use one or the other")
	}
	for _, n := range [...]struct {
		field string
		value int64
	}{
		{"MaxConns", int64(c.MaxConns)}, {"MinConns", int64(c.MinConns)}, {"MaxRows", int64(c.MaxRows)}, {"MaxBytes", int64(c.MaxBytes)}, {"Multiplex", int64(c.Multiplex)},
		{"ConnectTimeout", int64(c.ConnectTimeout)}, {"StatementTimeout", int64(c.StatementTimeout)},
		{"LockTimeout", int64(c.LockTimeout)}, {"IdleInTxTimeout", int64(c.IdleInTxTimeout)}, {"CommitTimeout", int64(c.CommitTimeout)}, {"MaxReplicaLag", int64(c.MaxReplicaLag)},
	} {
		if n.value < 0 {
			add(n.field, "is negative: zero is its default")
		}
	}
	if c.MaxConns > 0 && c.MinConns > c.MaxConns {
		add("MinConns", "is %d, more than MaxConns, which is %d", c.MinConns, c.MaxConns)
	}
	for _, t := range [...]struct {
		field string
		value time.Duration
	}{{"StatementTimeout", c.StatementTimeout}, {"LockTimeout", c.LockTimeout}, {"IdleInTxTimeout", c.IdleInTxTimeout}} {
		switch {
		case t.value > 0 && t.value < time.Millisecond:
			add(t.field, "is shorter than a millisecond, PostgreSQL's unit")
		case t.value > 0 && c.PgBouncer:
			add(t.field, "lasts for a session, which PgBouncer does not keep: set it for the role or the database")
		}
	}
	if c.PgBouncer && c.Multiplex > 0 {
		add("Multiplex", "needs a server connection of its own for its prepared statements, which PgBouncer does not give: leave it at zero, PgBouncer shares connections itself")
	}
	if c.PgBouncer && len(c.Replicas) > 0 {
		add("Replicas", "cannot be told apart behind a PgBouncer: make a pool for them, or let PgBouncer route")
	}
	for i, name := range c.Types {
		if strings.TrimSpace(name) == "" {
			add(fmt.Sprintf("Types[%d]", i), "is empty: name a type of the database")
		}
	}
	check := func(field, source string) {
		settings, err := address.Parse(source, c.AllowInsecure)
		switch {
		case err != nil && field == "URL" && c.URL == "":
			if c.Host != "" {
				add("Host", "and the other fields make no address that pgx takes")
			}
		case err != nil || source == "":
			add(field, "cannot be parsed (the reason is withheld, since it may hold the password): give it as postgres://user:password@host:port/database")
		case !c.AllowInsecure && address.IsInsecure(settings):
			problems = append(problems, Problem{Field: field, Rule: "tls",
				Message: "leads off this machine without TLS that verifies the server: use sslmode=verify-full, or set AllowInsecure"})
		}
	}
	check("URL", c.source())
	for i, replica := range c.Replicas {
		check(fmt.Sprintf("Replicas[%d]", i), replica)
	}
	for i, m := range c.Middleware {
		if m == nil {
			add(fmt.Sprintf("Middleware[%d]", i), "is nil: take it out")
		}
	}
	return problems
}

// source is the URL, or what the fields say in its form.
func (c *Config) source() string {
	if c.URL != "" {
		return c.URL
	}
	return address.Of(c.Host, c.Port, c.Database, c.User)
}

// settings makes pgx's settings for an address.
func (c *Config) settings(source string) (*pgxpool.Config, error) {
	settings, err := address.Parse(source, c.AllowInsecure)
	if err != nil {
		return nil, err
	}
	cc := settings.ConnConfig
	cc.Password = cmp.Or(cc.Password, c.Password)
	settings.MinConns = c.MinConns
	settings.MaxConns = max(cmp.Or(c.MaxConns, settings.MaxConns), c.MinConns)
	cc.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultConnectTimeout)
	if c.ApplicationName != "" {
		cc.RuntimeParams["application_name"] = c.ApplicationName
	} else if cc.RuntimeParams["application_name"] == "" && len(os.Args) > 0 {
		name := path.Base(os.Args[0])
		cc.RuntimeParams["application_name"] = name[:min(len(name), 63)]
	}
	for name, value := range map[string]time.Duration{
		"statement_timeout": c.StatementTimeout, "lock_timeout": c.LockTimeout, "idle_in_transaction_session_timeout": c.IdleInTxTimeout,
	} {
		if value > 0 {
			cc.RuntimeParams[name] = strconv.FormatInt(txn.TimeoutSetting(value), 10)
		}
	}
	if c.PgBouncer {
		// The description of a statement is cached, and the statement is not prepared under a
		// name: all messages of an execution go to one server, in one transaction.
		cc.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	address.KeepAlive(cc)
	return settings, nil
}

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
		if !stmtcache.IsSettingName(s.Name) { // it is not shown: it may be the value of a Setting whose fields were mixed up
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

// settingsProblem says why connections with these settings of pgx cannot have Config.Settings, or
// is empty.
func settingsProblem(cc *pgx.ConnConfig) string {
	if cc.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return "are sent as parameters, which the simple protocol puts into the SQL: use another DefaultQueryExecMode, or set PgBouncer"
	}
	return ""
}
