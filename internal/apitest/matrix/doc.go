// Package matrix holds every scalar type of PostgreSQL, and its array, against the Go types that a user would choose for
// it, through every way that a value can be sent and read. No cell may differ between the ways.
package matrix
