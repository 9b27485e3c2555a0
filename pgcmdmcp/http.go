package pgcmdmcp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pgcmd/pgcmd/internal/hosts"
)

// Handler serves clients by streamable HTTP under any path. It asks for no password: put
// [auth.RequireBearerToken] around it, or what else the service has.
//
// A request has to name one of the hosts in its Host header, else it is refused: so a web
// page whose name was pointed at this machine (DNS rebinding) gets nowhere. Without hosts
// those of the machine itself will do: localhost and its addresses. A request that a
// browser sends for another web page is refused too.
//
// A call ends, and its query on the server with it, when its client disconnects, cancels
// it, or ends its session. To end them when the service stops, let [http.Server] tell:
//
//	httpServer.RegisterOnShutdown(server.Close)
//
// Nothing is kept between two requests: the session that a client is given is a name that
// its cancellations are known by.
//
// [auth.RequireBearerToken]: https://pkg.go.dev/github.com/modelcontextprotocol/go-sdk/auth#RequireBearerToken
func (s *Server) Handler(names ...string) http.Handler {
	limit := int64(max(mcp.DefaultMaxRequestBodyBytes, s.messageBytes()))
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, &mcp.StreamableHTTPOptions{
		Stateless:                  true, // nothing to hijack, and nothing that fills up
		MaxRequestBodyBytes:        limit,
		DisableLocalhostProtection: len(names) > 0, // the check of hosts takes its place
	})
	calls := &httpCalls{limit: limit, next: handler, running: map[callKey][]*httpCall{}}
	return hosts.Only(names, http.NewCrossOriginProtection().Handler(calls))
}

// httpCalls ends calls as their clients ask for it. The SDK does that for none of them in
// a server without sessions, but for those of the protocol 2026-07-28 whose client
// disconnects.
type httpCalls struct {
	limit int64
	next  http.Handler

	mu      sync.Mutex
	running map[callKey][]*httpCall
}

// A callKey is what a client calls one of its calls by.
type callKey struct {
	session string // that the client was given; empty if it names none
	user    string // whose token it has; empty without tokens
	address string // its host, if it names no session
	id      string // of the call, as JSON
}

// An httpCall is a POST with one call, or, as the protocols up to 2025-03-26 allow, with
// several: then it ends when all of them are cancelled.
type httpCall struct {
	keys   map[callKey]struct{} // that are not cancelled
	cancel context.CancelFunc
}

const (
	sessionHeader  = "Mcp-Session-Id"
	versionHeader  = "Mcp-Protocol-Version"
	withoutSession = "2026-07-28" // the first version that has none: to cancel is to disconnect
)

// A message is of a message of the protocol what says which call it makes or cancels.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		RequestID json.RawMessage `json:"requestId"`
	} `json:"params"`
}

func (h *httpCalls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := callKey{session: r.Header.Get(sessionHeader)}
	if token := auth.TokenInfoFromContext(r.Context()); token != nil {
		from.user = token.UserID
	}
	if from.session == "" {
		from.address, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method == http.MethodDelete && from.session != "":
		h.endSession(from)
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method != http.MethodPost || kind != "application/json":
		h.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.limit))
	if err != nil {
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			http.Error(w, fmt.Sprintf("request body exceeds %d bytes", h.limit), http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "failed to read body", http.StatusBadRequest)
		return
	}
	carrier, cancel := context.WithCancel(r.Context()) // not the request's own: a call that is cancelled is answered
	defer cancel()
	r = r.WithContext(context.WithValue(r.Context(), carrierKey{}, carrier))
	r.Body = io.NopCloser(bytes.NewReader(body))
	messages, err := messagesOf(body)
	switch {
	case err != nil:
		http.Error(w, "malformed payload: the list of messages is not JSON", http.StatusBadRequest)
		return
	case len(messages) > maxMessages:
		http.Error(w, fmt.Sprintf("request body has more than %d messages", maxMessages), http.StatusRequestEntityTooLarge)
		return
	}
	call := &httpCall{keys: map[callKey]struct{}{}, cancel: cancel}
	for _, m := range messages {
		key := from
		switch {
		case m.Method == "initialize":
			w.Header().Set(sessionHeader, rand.Text())
		case from.session == "" && r.Header.Get(versionHeader) >= withoutSession:
		case m.Method == "notifications/cancelled":
			key.id = string(m.Params.RequestID)
			h.cancel(key)
		case m.Method != "" && len(m.ID) > 0:
			key.id = string(m.ID)
			call.keys[key] = struct{}{}
		}
	}
	h.begin(call)
	defer h.end(call)
	h.next.ServeHTTP(w, r)
}

// maxMessages is how many messages a request may hold: without a bound one of 4 MiB keeps
// the server busy for many seconds.
const maxMessages = 100

// messagesOf returns the messages of a body, which may hold one or a list of them, and of a
// list one more than maxMessages at most. What is no message is for the SDK to refuse.
func messagesOf(body []byte) (list []message, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil || start != json.Delim('[') {
		list = make([]message, 1)
		_ = json.Unmarshal(body, &list[0])
		return list, nil
	}
	var text json.RawMessage
	for dec.More() && len(list) <= maxMessages {
		if err := dec.Decode(&text); err != nil {
			return nil, err
		}
		var m message
		_ = json.Unmarshal(text, &m)
		list = append(list, m)
	}
	return list, nil
}

func (h *httpCalls) begin(c *httpCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range c.keys {
		h.running[key] = append(h.running[key], c)
	}
}

func (h *httpCalls) end(c *httpCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range c.keys {
		h.forget(key, c)
	}
}

func (h *httpCalls) forget(key callKey, c *httpCall) {
	list := h.running[key]
	for i := range list {
		if list[i] == c {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if h.running[key] = list; len(list) == 0 {
		delete(h.running, key)
	}
}

// cancel ends the call that a client calls by key. Clients that name no session may call
// several by one: then none of them ends.
func (h *httpCalls) cancel(key callKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.running[key]
	if key.session == "" && len(list) > 1 {
		return
	}
	for _, c := range list {
		h.forget(key, c)
		if delete(c.keys, key); len(c.keys) == 0 {
			c.cancel()
		}
	}
}

func (h *httpCalls) endSession(of callKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, list := range h.running {
		if key.session == of.session && key.user == of.user {
			for _, c := range list {
				c.cancel()
			}
		}
	}
}

// carrierKey is for the context of what carries a call: an HTTP request, or [Server.Run].
// The SDK gives its values to the call, and not its end.
type carrierKey struct{}

// ending returns a context that ends with what carries the call, and with the server.
func (s *Server) ending(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stops := []func() bool{context.AfterFunc(s.open, cancel)}
	if carrier, ok := ctx.Value(carrierKey{}).(context.Context); ok {
		stops = append(stops, context.AfterFunc(carrier, cancel))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// endCalls is for every request to the server.
func (s *Server) endCalls(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		ctx, done := s.ending(ctx)
		defer done()
		return next(ctx, method, req)
	}
}
