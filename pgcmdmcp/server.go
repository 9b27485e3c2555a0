package pgcmdmcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pgcmd/pgcmd"
	"go.uber.org/zap"
)

// A Server serves commands to the clients of the Model Context Protocol. It never
// changes once made, and serves any number of clients at once.
type Server struct {
	mcp     *mcp.Server
	db      pgcmd.DB
	limits  Limits
	running gate // of all calls
	logger  *zap.Logger
	tools   []*tool // sorted by name
	schemas []string
	open    context.Context // until Close
	close   context.CancelFunc
}

// New makes a server of commands of the catalog, which run on db. Its error names all
// that is wrong with the options at once.
func New(catalog *pgcmd.Catalog, db pgcmd.DB, o Options) (*Server, error) {
	if catalog == nil || db == nil {
		return nil, errors.New("pgcmdmcp: New was given a nil Catalog or a nil DB")
	}
	known := infosOf(catalog)
	if err := o.check(known); err != nil {
		return nil, err
	}
	s := &Server{db: db, limits: o.Limits.or(defaults), logger: o.Logger, schemas: slices.Clone(o.Schemas)}
	s.open, s.close = context.WithCancel(context.Background())
	s.running = newGate(s.limits.Concurrent)
	s.makeTools(catalog, known, o.Tools)
	slices.SortFunc(s.tools, func(a, b *tool) int { return strings.Compare(a.name, b.name) })

	me := &mcp.Implementation{Name: o.Name, Version: o.Version}
	if me.Name == "" {
		me.Name = "pgcmd"
	}
	if me.Version == "" {
		me.Version = "0"
	}
	s.mcp = mcp.NewServer(me, &mcp.ServerOptions{
		Instructions: s.instructions(),
		// What is served never changes, and there is no log for clients.
		Capabilities: &mcp.ServerCapabilities{
			Tools: &mcp.ToolCapabilities{}, Resources: &mcp.ResourceCapabilities{}, Prompts: &mcp.PromptCapabilities{},
		},
	})
	for _, t := range s.tools {
		s.mcp.AddTool(t.describe(), func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return s.call(ctx, t, req), nil
		})
	}
	s.mcp.AddReceivingMiddleware(s.recoverPanics, s.endCalls)
	s.addResources()
	s.addPrompts()
	return s, nil
}

// makeTools makes the tools, each of a catalog in which the limits of its command are those
// of the tool. A command that is several tools is in as many catalogs.
func (s *Server) makeTools(catalog *pgcmd.Catalog, known map[string]pgcmd.CommandInfo, tools []Tool) {
	limited, taken := catalog, map[string]bool{}
	var now, later []Tool
	for _, t := range tools {
		if taken[t.Command] {
			later = append(later, t)
			continue
		}
		taken[t.Command] = true
		now = append(now, t)
		info, limits := known[t.Command], t.Limits.or(s.limits)
		rows, bytes := 0, limits.valueBytes()
		switch batch := batchOf(info.Name, parse(info.Output)) != nil; {
		case batch && !info.ReadOnly: // whose items would be refused, and rolled back
			bytes = 0
		case !batch && info.ReadOnly: // what would be too long is not read; the rows of a write are shown as far as they may be
			rows = limits.Rows
		}
		limited = limited.Limit(t.Command, rows, bytes)
	}
	infos := infosOf(limited)
	for _, t := range now {
		s.tools = append(s.tools, newTool(t, limited, infos[t.Command], s.limits))
	}
	if later != nil {
		s.makeTools(catalog, known, later)
	}
}

func infosOf(catalog *pgcmd.Catalog) map[string]pgcmd.CommandInfo {
	infos := map[string]pgcmd.CommandInfo{}
	for _, info := range catalog.Manifest().Commands {
		infos[info.Name] = info
	}
	return infos
}

// recoverPanics is for every request to the server: the SDK would let the process end. What
// reads a resource runs code of the service too, such as Config.Settings.
func (s *Server) recoverPanics(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (result mcp.Result, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.panicked("request", method, p)
				result, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: "the server's code panicked: its log has the stack"}
			}
		}()
		return next(ctx, method, req)
	}
}

// MCP returns the SDK's server, for what is to be served beside the commands, and for
// middleware.
func (s *Server) MCP() *mcp.Server { return s.mcp }

// Run serves one client by a transport of the SDK's, until it goes or ctx is done, which
// ends its calls.
func (s *Server) Run(ctx context.Context, t mcp.Transport) error {
	return s.mcp.Run(context.WithValue(ctx, carrierKey{}, ctx), t)
}

// ServeStdio serves the client that started the process, by standard input and output,
// which are then the protocol's: logs go to standard error. A message that is longer than
// 16 MiB, or than what a tool's InputBytes need, ends it.
func (s *Server) ServeStdio(ctx context.Context) error {
	return s.Run(ctx, &mcp.StdioTransport{MaxLineLength: max(mcp.DefaultMaxLineLength, s.messageBytes())})
}

// Close ends the calls that run, whatever carries them, and refuses those that come. It
// waits for none of them, and does not close the DB.
func (s *Server) Close() { s.close() }

// messageBytes is how long a message may be that calls a tool: what is not the input needs
// little.
func (s *Server) messageBytes() int {
	most := 0
	for _, t := range s.tools {
		most = max(most, t.limits.InputBytes)
	}
	return most + 64<<10
}

// A gate lets so many through at once, and turns the others away. Nil has no bound.
type gate chan struct{}

func newGate(places int) gate {
	if places == 0 {
		return nil
	}
	return make(gate, places)
}

func (g gate) enter() bool {
	if g == nil {
		return true
	}
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() {
	if g != nil {
		<-g
	}
}

func (g gate) full(whose string) *pgcmd.Error {
	return &pgcmd.Error{Code: pgcmd.CodeExhausted, Effect: pgcmd.NotApplied,
		Message: fmt.Sprintf("%s runs %d calls at once already, the most that it may: try again when one has ended", whose, cap(g))}
}
