package sqltext

// A Call is the name of a function that a text calls.
type Call struct {
	Schema string // empty if the text leaves it to the search_path
	Name   string
}

// Calls lists what a text calls, a statement or the body of a function: every name
// before a parenthesis, so that some are keywords.
func Calls(sql string) []Call {
	toks, err := tokens(sql)
	if err != nil {
		return nil
	}
	var calls []Call
	for i := 1; i < len(toks); i++ {
		if toks[i].kind != '(' {
			continue
		}
		n, ok := name(sql, toks[i-1])
		if !ok {
			continue
		}
		call := Call{Name: n}
		if i >= 3 && toks[i-2].kind == '.' {
			call.Schema, _ = name(sql, toks[i-3])
		}
		calls = append(calls, call)
	}
	return calls
}
