// Package tree holds tests of the source tree as a whole: of its words, and of which package imports which.
package tree
