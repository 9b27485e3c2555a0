// Package kinds holds the definitions that pgcmd scaffold writes for queries of every kind, so that the compiler sees them
// and its tests run them. The queries and the schema are in its folders.
package kinds

//go:generate go run github.com/pgcmd/pgcmd/cmd/pgcmd scaffold -schema migrations -o . queries
