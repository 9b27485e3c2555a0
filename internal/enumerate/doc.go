// Package enumerate holds the test that puts a fault at every message of every kind
// of work.
package enumerate
