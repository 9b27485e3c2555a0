// Package canned is a PostgreSQL server that answers each statement with the reply registered for its text.
//
//	server := canned.New()
//	server.Command("insert into users (email) values ($1)", []uint32{pgtype.TextOID}, "INSERT 0 1")
//	conn, err := pgx.ConnectConfig(ctx, server.ConnConfig())
//
// It is for benchmarks that are to count the client's work alone. There is no socket, and no goroutine of the server:
// replies are encoded when they are registered, a connection's Write queues them and its Read copies them out, so that
// a prepared statement is answered without an allocation. It is no database: what is written cannot be read.
//
// # What it speaks
//
// The extended protocol with the unnamed portal, the simple protocol with one statement a message, and cancel requests.
// Beside the registered texts it knows the commands of transactions and savepoints, set, deallocate, discard, select 1
// and the empty statement. Any other text is refused with a syntax error, 42601, that names it. There is no COPY, no
// LISTEN and no TLS.
package canned

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Server answers every statement with the reply registered for its text. It is safe for concurrent use, also while
// connections are open: a text that is registered again has its new reply wherever it is prepared from then on.
type Server struct {
	greeting   string // opens every session
	builtin    builtin
	roundTrips atomic.Int64

	mu      sync.RWMutex
	replies map[string]*reply
	conns   map[uint32]*conn // by the id that a cancel request names
	lastID  uint32
}

// New returns a server that knows the built-in statements only.
func New() *Server {
	return &Server{
		greeting: encode(
			&pgproto3.AuthenticationOk{},
			&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0 (canned)"},
			&pgproto3.ParameterStatus{Name: "server_encoding", Value: "UTF8"},
			&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
			&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
			&pgproto3.ParameterStatus{Name: "integer_datetimes", Value: "on"},
			&pgproto3.ParameterStatus{Name: "DateStyle", Value: "ISO, MDY"},
			&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
		),
		builtin: newBuiltin(),
		replies: map[string]*reply{},
		conns:   map[uint32]*conn{},
	}
}

// Rows registers a statement that returns rows; params are the types of its parameters. The first word of sql makes the
// tag: "INSERT 0 n", "UPDATE n", "DELETE n" or "MERGE n", and "SELECT n" for any other. Rows panics if a row has not
// one value a column, or one that pgx cannot encode as the column's type.
func (s *Server) Rows(sql string, params []uint32, columns []Column, rows [][]any) {
	s.register(sql, newRows(sql, params, columns, rows))
}

// Command registers a statement that returns no rows but tag, such as "INSERT 0 1". The tags BEGIN, COMMIT and ROLLBACK
// open and end a transaction.
func (s *Server) Command(sql string, params []uint32, tag string) {
	s.register(sql, newCommand(params, tag))
}

// Error registers a statement that can be prepared and fails when it is executed. An empty severity is ERROR; FATAL
// ends the connection too.
func (s *Server) Error(sql string, params []uint32, failure *pgproto3.ErrorResponse) {
	s.register(sql, newFailure(params, failure))
}

// Hang registers a statement that can be prepared and, when it is executed, is never answered: only a cancel request
// ends it, with 57014, query_canceled.
func (s *Server) Hang(sql string, params []uint32) {
	r := newCommand(params, "")
	r.hangs = true
	s.register(sql, r)
}

// RoundTrips is the number of times that clients have waited for the server: the Sync and Query messages of all
// connections. Start-up is not counted.
func (s *Server) RoundTrips() int64 {
	return s.roundTrips.Load()
}

// ConnConfig returns a configuration whose connections lead to this server, whatever the environment says. It is the
// caller's to change.
func (s *Server) ConnConfig() *pgx.ConnConfig {
	config, err := pgx.ParseConfig(connString)
	if err != nil {
		panic(fmt.Sprintf("canned: the PG variables of the environment: %v", err))
	}
	s.lead(&config.Config)
	return config
}

// PoolConfig is [Server.ConnConfig] for a pool of up to maxConns connections.
func (s *Server) PoolConfig(maxConns int32) *pgxpool.Config {
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		panic(fmt.Sprintf("canned: the PG variables of the environment: %v", err))
	}
	s.lead(&config.ConnConfig.Config)
	config.MaxConns = maxConns
	return config
}

// A password keeps pgx from looking for one in the user's home.
const connString = "host=canned port=5432 user=canned password=canned dbname=canned sslmode=disable " +
	"sslcertmode=disable channel_binding=disable target_session_attrs=any " +
	"min_protocol_version=3.0 max_protocol_version=3.0"

// lead sets what connString cannot.
func (s *Server) lead(config *pgconn.Config) {
	config.DialFunc = s.Dial
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.RuntimeParams = map[string]string{}
	config.RequireAuth = ""
	config.ConnectTimeout = 0
}

// Dial opens a connection to the server. It ignores network and address, and is a [pgconn.DialFunc].
func (s *Server) Dial(_ context.Context, _, _ string) (net.Conn, error) {
	return newConn(s), nil
}

func (s *Server) register(sql string, r *reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[sql] = r
}

// reply is nil for an unknown text. What is registered goes first, so that a built-in statement can be replaced.
func (s *Server) reply(sql []byte) *reply {
	s.mu.RLock()
	r := s.replies[string(sql)]
	s.mu.RUnlock()
	if r == nil {
		r = s.builtin.reply(sql)
	}
	return r
}

// join opens c to cancel requests, under the id it returns.
func (s *Server) join(c *conn) (id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	s.conns[s.lastID] = c
	return s.lastID
}

func (s *Server) leave(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, id)
}

func (s *Server) cancel(id uint32) {
	s.mu.RLock()
	c := s.conns[id]
	s.mu.RUnlock()
	if c != nil {
		c.cancel()
	}
}
