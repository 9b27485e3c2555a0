// Package pgcmdmcp serves the commands of a [pgcmd.Catalog] to models, by the Model
// Context Protocol.
//
//	server, err := pgcmdmcp.New(catalog, pool, pgcmdmcp.Options{
//		Tools: []pgcmdmcp.Tool{
//			{Command: "accounts.find"},
//			{Command: "bank.transfer", AllowWrites: true},
//		},
//		Schemas: []string{"public"},
//	})
//	err = server.ServeStdio(ctx)                    // for a client that starts it
//	http.Handle("/mcp", server.Handler("mcp.example.com")) // for clients elsewhere
//	httpServer.RegisterOnShutdown(server.Close)
//
// # What a client can do
//
// It can call the commands that [Options.Tools] names, and nothing else: a command that
// is not named does not exist for it, one that may change data has to be allowed by
// itself, and there is no tool that takes SQL. [pgcmd.AdHoc] is refused. docs/mcp.md
// says why, with the attacks that this withstands.
//
// # Tools
//
// A tool is called as its command, with what MCP clients do not take replaced: letters,
// digits, _ and - stay, "[]" becomes "_batch", and everything else becomes "_", so that
// users.create[] is users_create_batch. The command's own name is the tool's title.
//
// Its schemas are those of the manifest, without what models' providers are known to refuse
// in an input; validation asks it all the same. MCP has objects alone for them: an input
// that is none is the field "input" of one, and an output that is none the field "output".
// An output comes both as structured content and as its text.
//
// The annotations follow from the definition. What counts as a read, by Options.ReadOnly or
// by its text (see [pgcmd.Query]), has readOnlyHint. Anything else is destructive unless
// [Tool.Additive] says otherwise. Reads and [pgcmd.Once] are idempotent. A Once takes its key from the input, where the client sets
// it: two calls with one key are one change.
//
// A failed command is a result with isError whose text is the JSON of the
// [pgcmd.Error], which holds no value of the database; of a batch that failed the second
// text is what became of the items. A command that changed data and whose result is too
// long has not failed: its field shortened says what is not shown. A client that sends a
// progress token is told of the progress of batches.
//
// A call ends, and its query on the server, when its client goes, cancels it or ends its
// session, and by [Server.Close].
//
// # Resources and prompts
//
// pgcmd://manifest is the manifest of the tools' commands. pgcmd://schema is the shape
// of the [Options.Schemas]: tables, columns, constraints and comments, as far as the
// pool's role may use them; pgcmd://schema/{schema}/{table} is one table of it. The
// prompt use_commands tells a model how to use all this.
package pgcmdmcp
