package pgcmdmcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pgcmd/pgcmd"
)

const (
	manifestURI = "pgcmd://manifest"
	schemaURI   = "pgcmd://schema"
	jsonType    = "application/json"
)

func (s *Server) addResources() {
	s.mcp.AddResource(&mcp.Resource{URI: manifestURI, Name: "manifest", Title: "The commands", MIMEType: jsonType,
		Description: "The commands behind the tools: input, output, possible errors, constraints"}, s.readManifest)
	if len(s.schemas) == 0 {
		return
	}
	s.mcp.AddResource(&mcp.Resource{URI: schemaURI, Name: "schema", Title: "The tables", MIMEType: jsonType,
		Description: "Tables, columns, constraints and comments of the schemas " + strings.Join(s.schemas, ", ")}, s.readSchema)
	s.mcp.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: schemaURI + "/{schema}/{table}", Name: "table", Title: "One table", MIMEType: jsonType,
		Description: "One table of " + schemaURI}, s.readTable)
}

// readManifest describes the commands of the tools, and no others.
func (s *Server) readManifest(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	manifest := pgcmd.Manifest{Commands: []pgcmd.CommandInfo{}}
	for _, t := range s.tools {
		manifest.Commands = append(manifest.Commands, t.info)
	}
	slices.SortStableFunc(manifest.Commands, func(a, b pgcmd.CommandInfo) int { return strings.Compare(a.Name, b.Name) })
	// A command may be several tools.
	manifest.Commands = slices.CompactFunc(manifest.Commands, func(a, b pgcmd.CommandInfo) bool { return a.Name == b.Name })
	return contents(manifestURI, manifest)
}

func (s *Server) readSchema(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	all, err := s.tables(ctx, asked{Schemas: s.schemas})
	if err != nil {
		return nil, err
	}
	return s.bounded(req.Params.URI, struct {
		Schemas []string `json:"schemas"`
		Tables  []table  `json:"tables"`
	}{s.schemas, all})
}

func (s *Server) readTable(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	schema, name, ok := tableOf(req.Params.URI)
	if !ok || !slices.Contains(s.schemas, schema) {
		return nil, mcp.ResourceNotFoundError(req.Params.URI)
	}
	found, err := s.tables(ctx, asked{Schemas: []string{schema}, Table: &name})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, mcp.ResourceNotFoundError(req.Params.URI)
	}
	return s.bounded(req.Params.URI, found[0])
}

// tableOf takes the schema and the table out of a URI.
func tableOf(uri string) (schema, table string, ok bool) {
	rest, ok := strings.CutPrefix(uri, schemaURI+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 2 {
		return "", "", false
	}
	schema, err := url.PathUnescape(parts[0])
	if err != nil {
		return "", "", false
	}
	table, err = url.PathUnescape(parts[1])
	return schema, table, err == nil && utf8.ValidString(schema+table) && !strings.Contains(schema+table, "\x00")
}

// tables asks the database, within the limits of a call.
func (s *Server) tables(ctx context.Context, which asked) ([]table, error) {
	if !s.running.enter() {
		return nil, protocolError(s.running.full("the server"))
	}
	defer s.running.leave()
	ctx, cancel := context.WithTimeout(ctx, s.limits.Time)
	defer cancel()
	found, err := describeTables.Run(ctx, s.db, which)
	if err != nil {
		return nil, protocolError(err)
	}
	return found, nil
}

// protocolError is for what has no results with isError. The text of a pgcmd.Error is
// safe to show.
func protocolError(err error) error {
	return &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: err.Error()}
}

func (s *Server) bounded(uri string, v any) (*mcp.ReadResourceResult, error) {
	r, err := contents(uri, v)
	if err != nil {
		return nil, err
	}
	if n := len(r.Contents[0].Text); n > s.limits.OutputBytes {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError,
			Message: fmt.Sprintf("the description has %d bytes, and a client is given at most %d: read one table, as %s/{schema}/{table}", n, s.limits.OutputBytes, schemaURI)}
	}
	return r, nil
}

func contents(uri string, v any) (*mcp.ReadResourceResult, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: jsonType, Text: string(text)}}}, nil
}
