// Package mutant holds mutation tests: the classic mistakes of database code are made in copies of the library's source,
// and for each a test has to fail. The library itself is never changed.
package mutant
