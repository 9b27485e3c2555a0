package pgcmd

// This file decides how a value of a Go type is sent as a value of an SQL type: for
// statements, batches, copies and Verify alike.
//
// A type that pgx knows is sent by pgx's plan. One that it does not know (an enum, a
// domain, an extension's type, money) is sent as text, which the type's own input
// function reads. pgx would send bytes to it as bytea's text, which such a type takes
// for a text that begins with \x: so bytes are sent as they are, unless the type is
// bytea below a domain.
