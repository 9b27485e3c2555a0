package sqltext

import (
	"strconv"
	"strings"
)

// Casts are the numbers of the parameters that the SQL casts, with :: or CAST, everywhere: from the type of the cast comes
// that of the parameter.
func (t Text) Casts() map[int]bool {
	toks, err := tokens(t.SQL)
	if err != nil {
		return nil
	}
	casts := map[int]bool{}
	for i, tok := range toks {
		if tok.kind != parameter {
			continue
		}
		n, err := strconv.Atoi(t.SQL[tok.start+1 : tok.end])
		if err != nil {
			continue
		}
		cast := strings.HasPrefix(strings.TrimLeft(t.SQL[tok.end:], " \t\r\n"), "::") ||
			i > 1 && i+1 < len(toks) && toks[i-1].kind == '(' && toks[i-2].is("cast") && toks[i+1].is("as")
		if before, seen := casts[n]; !seen || before {
			casts[n] = cast
		}
	}
	return casts
}
