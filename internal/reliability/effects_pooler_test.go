package reliability_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// A pooler stands between a client and a server as PgBouncer does, and can say what a server does not say on demand:
// a FATAL after the work was done, a reply that is no reply. The work behind it is a real server's, so that there is
// a truth to compare with.
type pooler struct {
	config           *pgconn.Config
	network, address string
	listener         net.Listener
	running          sync.WaitGroup

	mu    sync.Mutex
	trick *trick
	conns map[net.Conn]struct{} // nil once closed
}

// A trick is what happens once, to the request that holds its marker.
type trick struct {
	marker  []byte // nil stands for the start of a connection
	serve   bool   // the server gets the request and does it; its answer is lost
	instead string // a statement that the server gets instead, whose answer is passed on; empty for none
	say     []byte // to the client, in place of an answer
	hangUp  bool   // then the connection ends; else the client is told that the server is ready
}

func startPooler(t testing.TB, serverURL string) *pooler {
	t.Helper()
	config, err := pgconn.ParseConfig(serverURL)
	require.NoError(t, err)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	p := &pooler{config: config, listener: listener, conns: map[net.Conn]struct{}{}}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	p.running.Go(p.accept)
	return p
}

func (p *pooler) URL() string {
	query := url.Values{"sslmode": {"disable"}}
	for key, value := range p.config.RuntimeParams {
		query.Set(key, value)
	}
	address := url.URL{
		Scheme: "postgres", User: url.User(p.config.User), Host: p.listener.Addr().String(),
		Path: "/" + p.config.Database, RawQuery: query.Encode(),
	}
	return address.String()
}

func (p *pooler) Close() {
	p.mu.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.listener.Close()
	p.running.Wait()
}

// Play lets t happen, once.
func (p *pooler) Play(t *trick) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trick = t
}

// take returns the trick for a request, which is then spent.
func (p *pooler) take(request []byte) *trick {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trick
	if t == nil || (request == nil) != (t.marker == nil) || !bytes.Contains(request, t.marker) {
		return nil
	}
	p.trick = nil
	return t
}

func (p *pooler) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() {
			if p.hold(client) {
				_ = p.serve(client) // its end is all that there is to be told
			}
			p.drop(client)
		})
	}
}

// hold registers a connection for Close to end.
func (p *pooler) hold(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *pooler) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn.Close()
	delete(p.conns, conn)
}

func (p *pooler) serve(client net.Conn) error {
	requests := bufio.NewReader(client)
	greeting, err := packet(requests, 0)
	if err != nil {
		return err
	}
	const cancelRequest = 80877102
	cancels := binary.BigEndian.Uint32(greeting[4:]) == cancelRequest
	if !cancels {
		if t := p.take(nil); t != nil {
			_, err := client.Write(t.say)
			return err
		}
	}
	server, err := net.Dial(p.network, p.address)
	if err != nil {
		return err
	}
	defer p.drop(server)
	if !p.hold(server) {
		return net.ErrClosed
	}
	if _, err := server.Write(greeting); err != nil || cancels {
		_, _ = io.Copy(io.Discard, server)
		return err
	}
	answers := bufio.NewReader(server)
	status, err := passOn(client, answers)
	for err == nil {
		status, err = p.exchange(client, requests, server, answers, status)
	}
	return err
}

// exchange passes on one request, up to where the client waits, and its answer. It returns the transaction's status.
func (p *pooler) exchange(client io.Writer, requests *bufio.Reader, server io.Writer, answers *bufio.Reader, status byte) (byte, error) {
	var request []byte
	for {
		message, err := packet(requests, 1)
		if err != nil {
			return 0, err
		}
		request = append(request, message...)
		if message[0] == 'X' {
			_, _ = server.Write(request)
			return 0, io.EOF
		}
		if message[0] == 'S' || message[0] == 'Q' {
			break
		}
	}
	t := p.take(request)
	to := client
	switch {
	case t != nil && t.instead != "":
		request, _ = (&pgproto3.Query{String: t.instead}).Encode(nil)
	case t != nil && t.serve:
		to = io.Discard
	case t != nil:
		_, err := client.Write(append(bytes.Clone(t.say), t.end(status)...))
		if t.hangUp {
			err = io.EOF
		}
		return status, err
	}
	if _, err := server.Write(request); err != nil {
		return 0, err
	}
	status, err := passOn(to, answers)
	if err != nil || to != io.Discard {
		return status, err
	}
	_, err = client.Write(append(bytes.Clone(t.say), t.end(status)...))
	if t.hangUp {
		err = io.EOF
	}
	return status, err
}

// end is how a server goes on after an error.
func (t *trick) end(status byte) []byte {
	if t.hangUp {
		return nil
	}
	if status == 'T' {
		status = 'E'
	}
	ready, _ := (&pgproto3.ReadyForQuery{TxStatus: status}).Encode(nil)
	return ready
}

// passOn passes on an answer up to its end.
func passOn(client io.Writer, answers *bufio.Reader) (status byte, err error) {
	for {
		message, err := packet(answers, 1)
		if err != nil {
			return 0, err
		}
		if _, err := client.Write(message); err != nil {
			return 0, err
		}
		if message[0] == 'Z' {
			return message[5], nil
		}
	}
}

// packet reads a message whose length follows tagged bytes.
func packet(r *bufio.Reader, tagged int) ([]byte, error) {
	header, err := r.Peek(tagged + 4)
	if err != nil {
		return nil, err
	}
	size := tagged + int(binary.BigEndian.Uint32(header[tagged:]))
	if size < len(header) || size > 1<<20 {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	message := make([]byte, size)
	_, err = io.ReadFull(r, message)
	return message, err
}

// refusal is an ErrorResponse, encoded.
func refusal(severity, state, message string) []byte {
	b, err := (&pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: state, Message: message}).Encode(nil)
	if err != nil {
		panic(err)
	}
	return b
}

// warning is a NoticeResponse, encoded.
func warning(severity, state, message string) []byte {
	b, err := (&pgproto3.NoticeResponse{Severity: severity, SeverityUnlocalized: severity, Code: state, Message: message}).Encode(nil)
	if err != nil {
		panic(err)
	}
	return b
}
