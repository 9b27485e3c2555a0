package pgcmd

import (
	"slices"

	"github.com/pgcmd/pgcmd/internal/analysis"
)

// reads looks for what a command that counts as a read does besides.
func (v *checker) reads(s *descriptor) {
	if !s.statement.reads || s.analysis == nil {
		return
	}
	first := func(f func(w analysis.Write) bool) analysis.Write {
		if i := slices.IndexFunc(s.analysis.Writes, f); i >= 0 {
			return s.analysis.Writes[i]
		}
		return analysis.Write{}
	}
	change := first(func(w analysis.Write) bool { return w.Certain && !w.Lock }).What
	lock := first(func(w analysis.Write) bool { return w.Lock }).What
	other := first(func(w analysis.Write) bool { return true })
	fix := "declare the function stable if it only reads, else "
	if other.Builtin {
		fix = ""
	}
	switch {
	case change != "" && !s.options.ReadOnly:
		s.report("SQL", "writes", "counts as a read, and writes by way of %s: set Options.Writes, or a retry applies that twice", change)
	case change != "":
		s.report("ReadOnly", "read_only", "is set for SQL that writes, by way of %s: take it away, or a retry applies that twice", change)
	case lock != "" && s.options.ReadOnly:
		s.report("ReadOnly", "read_only", "is set for SQL that %s, which a replica and a read-only transaction refuse: take it away, or the lock", lock)
	case lock != "":
		s.reportWarning("SQL", "writes", "counts as a read, and by way of %s, which a replica and a read-only transaction refuse: set Options.Writes", lock)
	case other.What != "" && !s.options.ReadOnly:
		s.reportWarning("SQL", "writes", "counts as a read, and calls %s: %sset Options.Writes", other.What, fix)
	case other.What != "":
		s.reportWarning("ReadOnly", "read_only", "is set for SQL that calls %s: %stake ReadOnly away, or a retry does that twice", other.What, fix)
	}
}
