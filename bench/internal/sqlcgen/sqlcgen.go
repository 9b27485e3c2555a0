// Package sqlcgen is the store's statements as sqlc compiles them to Go.
package sqlcgen

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

// Reads are the statements that find and list users, as they are sent.
var Reads = []string{findUser, listUsers}
