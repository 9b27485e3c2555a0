package multiplex

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	// ErrClosed is the error of a query on a Mux that is closed.
	ErrClosed = errors.New("pgcmd: the shared connections are closed")
	// ErrDedicated means that the query has to run on a connection of its own. It was not
	// executed.
	ErrDedicated = errors.New("pgcmd: the statement cannot run on a shared connection")
	// ErrOpenTx is the error of a connection that AfterConnect left in a transaction.
	ErrOpenTx = errors.New("pgcmd: AfterConnect left a transaction open")

	errLostInSetup   = errors.New("pgcmd: the connection was lost while it was set up")
	errNoReply       = errors.New("pgcmd: the server does not answer within its statement_timeout")
	errInTransaction = errors.New("pgcmd: a statement began a transaction on a shared connection")
	errDrained       = errors.New("pgcmd: the shared connection has answered all requests")
)

// A CapacityError is the error of a query that was not sent, because its context or its
// patience ended while it waited for a slot or for a connection.
type CapacityError struct {
	Load
	Err error // the context's
}

func (e *CapacityError) Error() string {
	return "pgcmd: no shared connection was available: " + e.Err.Error()
}

func (e *CapacityError) Unwrap() error { return e.Err }

// An EncodeError is the error of an argument that pgx could not encode.
type EncodeError struct {
	Types *pgtype.Map // that it was encoded with
	Err   error       // pgx's
}

func (e *EncodeError) Error() string { return e.Err.Error() }

func (e *EncodeError) Unwrap() error { return e.Err }

// A Load is how busy a Mux is.
type Load struct {
	Accepting int            // connections that accept queries
	Conns     int            // connections, draining ones too
	InFlight  int            // queries that have a slot
	Waiting   int            // queries that wait for one
	Commands  []CommandCount // of the queries that are queued or sent, the most frequent first
}

// A CommandCount is how many queries of one name there are.
type CommandCount struct {
	Name  string
	Count int
}

// load returns the Load. m.mu must be held.
func (m *Mux) load() Load {
	counts := map[string]int{}
	for c := range m.allConns() {
		for _, req := range c.sent {
			counts[req.command]++
		}
		for _, req := range c.queue {
			counts[req.command]++
		}
	}
	l := Load{Accepting: len(m.conns), Conns: len(m.conns) + len(m.draining), InFlight: m.admitted, Waiting: len(m.waiting)}
	for name, n := range counts {
		l.Commands = append(l.Commands, CommandCount{name, n})
	}
	slices.SortFunc(l.Commands, func(a, b CommandCount) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.Name, b.Name))
	})
	return l
}

// String describes the load of a Mux that is full.
func (l Load) String() string {
	return fmt.Sprintf("%d reads were under way on %d shared connections, and %d others waited (raise Multiplex, or run fewer reads at a time)%s",
		l.InFlight, l.Conns, l.Waiting, l.CommandsText())
}

// CommandsText describes which commands the queries belong to.
func (l Load) CommandsText() string {
	if len(l.Commands) == 0 {
		return ""
	}
	var parts []string
	for _, c := range l.Commands[:min(len(l.Commands), 3)] {
		parts = append(parts, fmt.Sprintf("%s has %d", c.Name, c.Count))
	}
	if len(l.Commands) > 3 {
		parts = append(parts, fmt.Sprintf("and %d other commands", len(l.Commands)-3))
	}
	return ": " + strings.Join(parts, "; ")
}

// Refusals says which settings of pgx do not allow shared connections, and why.
func Refusals(settings *pgxpool.Config) (messages []string) {
	//lint:ignore SA1019 a pool that sets it has to be refused
	if settings.PrepareConn != nil || settings.BeforeAcquire != nil {
		messages = append(messages, "cannot be used with PrepareConn or BeforeAcquire: they prepare a connection for one caller, and many share it")
	}
	if settings.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		messages = append(messages, "needs prepared statements: leave DefaultQueryExecMode at QueryExecModeCacheStatement, or Multiplex at zero")
	}
	return messages
}
