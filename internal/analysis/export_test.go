package analysis

import "github.com/pgcmd/pgcmd/internal/pgtree"

// WithText calls f while the texts of trees go through edit before they are read.
func WithText(edit func(text string) string, f func()) {
	parse = func(text string) ([]*pgtree.Node, error) { return pgtree.Parse(edit(text)) }
	defer func() { parse = pgtree.Parse }()
	f()
}
