// Package pgcmdotel shows in OpenTelemetry what commands do: a span for each run, a
// histogram of their durations, and the state of the pool.
//
//	cfg.Middleware = append(cfg.Middleware, pgcmdotel.Middleware(pgcmdotel.WithServer(cfg)))
//	pool, err := pgcmd.Connect(ctx, cfg)
//	unregister, err := pgcmdotel.RegisterPool(pool)
//
// Both use OpenTelemetry's global providers, unless an [Option] names others. Names
// and attributes are those of the stable semantic conventions for databases, which leave
// those of connections (db.client.connection) in development; what is pgcmd's own begins
// with "pgcmd.".
//
// # Spans
//
// A run has one span of kind client, with all its attempts in it. It bears the name of
// the command, and
//
//   - db.system.name: "postgresql"
//   - db.operation.name and db.query.summary: the command
//   - db.namespace, server.address and server.port: see [WithServer]
//   - pgcmd.attempts and pgcmd.rows: as [pgcmd.Call] counts them
//
// and, if it failed,
//
//   - pgcmd.code and pgcmd.effect: of the [pgcmd.Error]
//   - pgcmd.path: where it failed, if it was in a command within, as in
//     "bank.transfer > accounts.debit"
//   - db.response.status_code: the SQLSTATE, if the server gave one
//   - error.type: if the failure is an error: the SQLSTATE, else the code; "panic" for
//     a panic
//
// Which failures are errors: the conventions count every error that is returned, but
// let an instrumentation that knows more be more exact. pgcmd knows that
// [pgcmd.CodeInvalid], [pgcmd.CodeNotFound], [pgcmd.CodeConflict], [pgcmd.CodeCanceled]
// and [pgcmd.CodeSkipped] are answers to the caller, as a 404 is to a browser: the status
// of their spans stays unset. All others are errors of the system, and set the
// status to Error with the error's Message.
//
// A span never holds an input, a row, the text of SQL or that of a cause: there are no
// exception events and no db.query.text. A Message is what pgcmd shows in its logs: it is
// safe, as long as no one puts values into [pgcmd.Errorf]; of SQL it names at most the word
// at which the server stopped, never a literal.
//
// # Commands within commands
//
// The pool's middleware sees what is run on the pool. A command that is run on the
// transaction of another has a span, as a child of the other's, if its own
// Options.Middleware holds [Middleware]; run on a pool that has it too, it still has
// one span, the pool's. A command with a middleware of its own goes through a
// [pgcmd.Batch] item by item, so give it to those whose times you ask for, and of a
// batch to the Batch. On the pool a [pgcmd.Stream] has a span with the name of its command,
// and a [pgcmd.Pipeline] one with the name "pipeline"; elsewhere a stream has its command's
// middleware, and a pipeline none.
//
// # Metrics
//
// [Middleware] records db.client.operation.duration, in seconds, with the attributes of
// the span but db.query.summary, pgcmd.attempts, pgcmd.rows, pgcmd.effect and
// pgcmd.path. [RegisterPool] lists what it reports of a pool.
package pgcmdotel
