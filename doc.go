// Package pgcmd turns a PostgreSQL operation into a typed value: defined once,
// run on any pool, connection or transaction of pgx, and truthful about what
// happened.
//
//	var findUser = pgcmd.QueryOne[FindUser, User]("users.find",
//		`select id, email, created_at from users where email = @email`)
//
//	user, err := findUser.Run(ctx, pool, FindUser{Email: "ada@example.com"})
//
// # The life of a run
//
//  1. The input is validated: its validate tags (package validator), then its own
//     Validate method if it has one. Every problem is collected, nothing is sent.
//  2. Before hooks. An error ends the run.
//  3. Attempts: a connection, BEGIN if the command has a transaction, the body, then
//     After hooks in reverse order, COMMIT. Options.Retry repeats the whole of it
//     where that is proven to be safe.
//  4. After an error, OnError hooks, which may translate the error.
//  5. After a COMMIT, the functions of [Tx.AfterCommit].
//  6. Cleanup hooks, always, if step 2 was reached.
//
// Middleware wraps all of it. A command that has no hook, no middleware and no
// Timeout pays for none of it. A panic in user code passes through, after the
// connection was given back and Cleanup has run.
//
// # Errors
//
// Run returns an [*Error] or nil. Its [Code] says what a program can do about it,
// its [Effect] what is known of the database: NotApplied (proven), Applied (what
// failed came later) or Unknown. A single statement is one unit: an error of
// PostgreSQL's means that it was rolled back, but a row that cannot be scanned
// comes after it has committed, unless the statement counts as a read (see [Query]),
// whose errors are all NotApplied. A [New] body is not one unit, and its errors are
// Unknown unless it is ReadOnly. A [Transaction], and what has Options.InTx, is one
// unit: NotApplied, unless the reply to COMMIT was lost. What joins a transaction
// waits for its end.
//
// Errors are safe to log and to show: they hold no bound value, no row and no
// secret. That is why they do not repeat the text of an error that is not
// pgcmd's, unless it is a package-level error without formatting: the cause is in reach
// of [errors.Is] and [errors.As], and [Errorf] makes errors whose text is shown.
//
// # Placeholders
//
// SQL names the fields of the input as @name, outside literals, quoted
// identifiers, dollar-quoted bodies and comments. They become $1, $2, ... once, at
// definition. An @ that belongs to one of PostgreSQL's own operators, as in @> and
// @@, is left alone; where it can be read both ways, as in <@name, the definition
// panics and asks for a space.
//
// SQL may have optional parts and choices, which depend on the input, see [Query]; or a
// function makes it, see [QueryFunc].
//
// # Definitions
//
// A mistake in a definition panics, as [regexp.MustCompile] does, and the message
// names the command and the fix: an unknown placeholder, a row type without
// fields, a validate tag that does not exist. Definitions belong into package
// variables, so that they are found at start.
//
// # Definitions and the database
//
// [Verify] holds definitions against a live database without running them: columns,
// types, NULLs, constraints, rights. One test of it (pgcmdtest.Verify) finds what a
// migration has broken. A [Catalog] runs commands by name from JSON, strictly
// decoded, and describes them: [Catalog.Manifest] for programs, with JSON Schemas,
// and [Catalog.WriteMarkdown] for people. [Explain] is PostgreSQL's plan.
package pgcmd
