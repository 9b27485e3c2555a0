package pgcmdmcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pgcmd/pgcmd"
	"go.uber.org/zap"
)

// A tool is a command as clients see it.
type tool struct {
	Tool
	name        string
	catalog     *pgcmd.Catalog // with its limits
	info        pgcmd.CommandInfo
	limits      Limits
	running     gate // of this tool's calls
	in, out     envelope
	short       shortening
	inputSchema json.RawMessage
	outSchema   json.RawMessage
}

func newTool(o Tool, catalog *pgcmd.Catalog, info pgcmd.CommandInfo, server Limits) *tool {
	t := &tool{Tool: o, name: o.name(), catalog: catalog, info: info, limits: o.Limits.or(server), running: newGate(o.Limits.Concurrent)}
	in, out := map[string]any(nil), map[string]any(nil)
	in, t.in = wrap(info.Input, "input", t.limits.Rows)
	out, t.out = wrap(info.Output, "output", 0)
	if !info.ReadOnly {
		t.short = shortenable(info.Name, out)
	} else {
		t.short.batch = batchOf(info.Name, out)
	}
	t.inputSchema, t.outSchema = render(portable(forModels(in))), render(portable(out))
	return t
}

func (t *tool) describe() *mcp.Tool {
	destructive, open := !t.info.ReadOnly && !t.Additive, false
	return &mcp.Tool{
		Name:         t.name,
		Title:        t.info.Name,
		Description:  t.description(),
		InputSchema:  t.inputSchema,
		OutputSchema: t.outSchema,
		Annotations: &mcp.ToolAnnotations{
			Title:           t.info.Name,
			ReadOnlyHint:    t.info.ReadOnly,
			DestructiveHint: &destructive,
			IdempotentHint:  t.info.ReadOnly || t.info.Once,
			OpenWorldHint:   &open,
		},
	}
}

// description is the command's, and what else a model does well to know.
func (t *tool) description() string {
	var b strings.Builder
	b.WriteString(strings.TrimRight(t.info.Description, ". "))
	b.WriteString(".")
	switch {
	case t.info.Once:
		b.WriteString(" Changes data, once for each key of its input: the same call again changes nothing more.")
	case !t.info.ReadOnly:
		b.WriteString(" Changes data.")
	}
	for i, c := range t.info.Constraints {
		b.WriteString([]string{" Can be refused: ", "; "}[min(i, 1)])
		b.WriteString(c.Message)
	}
	if len(t.info.Constraints) > 0 {
		b.WriteString(".")
	}
	return b.String()
}

// call runs the command. Whatever happens, the client gets an answer.
func (s *Server) call(ctx context.Context, t *tool, req *mcp.CallToolRequest) (result *mcp.CallToolResult) {
	start := time.Now()
	var failure *pgcmd.Error
	defer func() {
		if p := recover(); p != nil {
			s.panicked("tool", t.name, p)
			failure = &pgcmd.Error{Code: pgcmd.CodeInternal, Effect: pgcmd.Unknown, Command: t.info.Name, Message: "the command panicked"}
			if t.info.ReadOnly {
				failure.Effect = pgcmd.NotApplied
			}
			result = failed(failure, nil)
		}
		s.log(t, failure, time.Since(start))
	}()
	ctx, cancel := context.WithTimeout(ctx, t.limits.Time)
	defer cancel()
	ctx, told := progressOf(ctx, req)
	defer told() // without a place among the Concurrent calls: a client may be slow to read
	output, failure := s.run(ctx, t, req)
	if failure != nil {
		return failed(failure, output)
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(output)}}, StructuredContent: output}
}

// run is the call within its limits. Its failure is never a value of the input.
func (s *Server) run(ctx context.Context, t *tool, req *mcp.CallToolRequest) (output json.RawMessage, failure *pgcmd.Error) {
	if !s.running.enter() {
		return nil, t.fail(s.running.full("the server"))
	}
	defer s.running.leave()
	if !t.running.enter() {
		return nil, t.fail(t.running.full("the tool"))
	}
	defer t.running.leave()
	if s.open.Err() != nil {
		return nil, t.fail(&pgcmd.Error{Code: pgcmd.CodeUnavailable, Effect: pgcmd.NotApplied, Message: "the server is shutting down"})
	}
	input, failure := t.input(req.Params.Arguments)
	if failure != nil {
		return nil, failure
	}
	output, err := t.catalog.Run(ctx, s.db, t.info.Name, input)
	tooLong := t.tooLong(output)
	if err == nil {
		switch {
		case tooLong == nil:
			return t.out.close(output), nil
		case !t.info.ReadOnly:
			if shown := t.shorten(output); shown != nil {
				return shown, nil
			}
		}
		return nil, tooLong
	}
	failure, ok := errors.AsType[*pgcmd.Error](err)
	if !ok { // which the catalog does not return
		failure = t.fail(&pgcmd.Error{Code: pgcmd.CodeInternal, Effect: pgcmd.Unknown, Message: fmt.Sprintf("failed with a %T", err)})
	}
	own := failure.Code == pgcmd.CodeTooManyRows && failure.Command == t.info.Name
	rows := own && strings.HasPrefix(failure.Message, "more than MaxRows ")
	values := own && strings.HasPrefix(failure.Message, "more than MaxBytes ")
	switch {
	case rows && t.info.ReadOnly:
		return nil, t.tooMany("more than "+strconv.Itoa(t.info.MaxRows), t.info.MaxRows)
	case values && t.info.ReadOnly:
		return nil, t.beyond(fmt.Sprintf("the result has %s: ask for less", t.moreBytes(failure)))
	case rows && failure.Effect == pgcmd.Applied && t.short.field != "":
		return t.unread(fmt.Sprintf("more than %d rows", t.info.MaxRows)), nil
	case values && failure.Effect == pgcmd.Applied && t.short.field != "":
		return t.unread(t.moreBytes(failure)), nil
	case output == nil:
	case tooLong != nil && t.short.batch != nil:
		output = t.summary(output)
	case tooLong != nil:
		output = nil
	}
	return output, t.in.named(failure)
}

func (t *tool) fail(e *pgcmd.Error) *pgcmd.Error {
	e.Command = t.info.Name
	return e
}

// input is what the command is to be given.
func (t *tool) input(arguments json.RawMessage) (json.RawMessage, *pgcmd.Error) {
	refused := func(p pgcmd.Problem) *pgcmd.Error {
		return t.fail(&pgcmd.Error{Code: pgcmd.CodeInvalid, Effect: pgcmd.NotApplied, Message: "the input was refused", Problems: []pgcmd.Problem{p}})
	}
	if n := len(arguments); n > t.limits.InputBytes {
		return nil, refused(pgcmd.Problem{Rule: "bytes", Message: fmt.Sprintf("has %d bytes of JSON: at most %d at once", n, t.limits.InputBytes)})
	}
	input, problem := t.in.open(arguments)
	if problem != nil {
		return nil, refused(*problem)
	}
	if t.in.array {
		if n := length(input); n > t.limits.Rows {
			return nil, refused(pgcmd.Problem{Field: t.in.field, Rule: "max", Message: fmt.Sprintf("has %d items: at most %d at once", n, t.limits.Rows)})
		}
	}
	return input, nil
}

// tooLong returns what is wrong with an output that goes beyond the limits. A command
// that changes data has changed it by then.
func (t *tool) tooLong(output json.RawMessage) *pgcmd.Error {
	if t.out.array {
		if n := length(output); n > t.limits.Rows {
			return t.tooMany(strconv.Itoa(n), t.limits.Rows)
		}
	}
	if n := len(output); n > t.limits.OutputBytes {
		return t.beyond(fmt.Sprintf("the result has %d bytes, and a client is given at most %d: ask for less", n, t.limits.OutputBytes))
	}
	if why := unreadable(output); why != "" {
		return t.beyond("the result " + why + ", which clients do not read")
	}
	return nil
}

// maxNesting is how deep the JSON of a result may be nested. Clients end the connection at a
// message that is nested deeper than they read: the SDK's own at 1,000 levels.
const maxNesting = 500

// unreadable returns why clients do not read a result, whose json columns may hold anything
// that is JSON; empty if they do.
func unreadable(result json.RawMessage) string {
	depth, inText := 0, false
	for i := 0; i < len(result); i++ {
		switch c := result[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return fmt.Sprintf("is nested more than %d levels deep", maxNesting)
			}
		case c == ']' || c == '}':
			depth--
		case c >= '0' && c <= '9':
			number := result[i:]
			if end := bytes.IndexAny(number, ",]}"); end >= 0 {
				number = number[:end]
			}
			if len(number) > 300 || bytes.ContainsAny(number, "eE") {
				if _, err := strconv.ParseFloat(string(bytes.TrimSpace(number)), 64); err != nil {
					return "holds a number that is too large for a 64-bit float"
				}
			}
			i += len(number) - 1
		}
	}
	return ""
}

// moreBytes says how long a result was of which pgcmd stopped reading. The command itself
// may allow less than the tool does.
func (t *tool) moreBytes(failure *pgcmd.Error) string {
	if strings.HasPrefix(failure.Message, fmt.Sprintf("more than MaxBytes (%d) ", t.limits.valueBytes())) {
		return fmt.Sprintf("more than %d bytes", t.limits.OutputBytes)
	}
	return "more bytes than the command may return"
}

func (t *tool) tooMany(rows string, most int) *pgcmd.Error {
	return t.beyond(fmt.Sprintf("the result has %s rows, and a client is given at most %d: ask for less", rows, most))
}

func (t *tool) beyond(message string) *pgcmd.Error {
	e := t.fail(&pgcmd.Error{Code: pgcmd.CodeTooManyRows, Effect: pgcmd.Applied, Attempts: 1, Message: message})
	if t.info.ReadOnly {
		e.Effect = pgcmd.NotApplied
	}
	return e
}

// failed is the result of a call that failed: the error, and what became of the items of
// a batch. It has no structured content, which would have to fit the output schema.
func failed(e *pgcmd.Error, output json.RawMessage) *mcp.CallToolResult {
	r := &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: string(errorJSON(e))}}}
	if output != nil {
		r.Content = append(r.Content, &mcp.TextContent{Text: string(output)})
	}
	return r
}

func errorJSON(e *pgcmd.Error) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		panic(err) // an Error has a JSON form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (s *Server) log(t *tool, failure *pgcmd.Error, elapsed time.Duration) {
	if s.logger == nil {
		return
	}
	fields := []zap.Field{zap.String("tool", t.name), zap.String("command", t.info.Name), zap.Duration("elapsed", elapsed)}
	if failure == nil {
		s.logger.Info("tool called", fields...)
		return
	}
	s.logger.Info("tool call failed", append(fields, zap.Object("error", failure))...)
}

// panicked reports a panic of a command's code, or of the pool's, as net/http does: one call
// must not end the calls of others.
func (s *Server) panicked(kind, name string, p any) {
	if s.logger != nil {
		s.logger.Error(kind+" panicked", zap.String(kind, name), zap.String("panic", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
		return
	}
	fmt.Fprintf(os.Stderr, "pgcmdmcp: %s panicked with a %T\n%s", name, p, debug.Stack())
}
