package pgcmd

// An array of PostgreSQL is rectangular, and a slice of slices need not be. pgx looks
// while it plans an encoding, and keeps the plan for all values of the Go type, so that
// it is looked at here, for every value. What is sent as JSON may be ragged.
