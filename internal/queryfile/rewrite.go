package queryfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A placed error is one at a place of the file.
type placedError struct {
	at      int
	message string
}

// rewrite sets the SQL, the parameters and the embeds from the tokens of the statement, which ends at a place.
func (q *Query) rewrite(text string, toks []sqltext.Token, end int) *placedError {
	var out strings.Builder
	copied := toks[0].Start
	replace := func(from, to int, by string) {
		out.WriteString(text[copied:from])
		// An operator directly before the @ would be one with it.
		if strings.HasPrefix(by, "@") && from > 0 && strings.IndexByte("~!@#^&|`?+-*/%<>=", text[from-1]) >= 0 {
			out.WriteByte(' ')
		}
		out.WriteString(by)
		copied = to
	}
	for i := 0; i < len(toks); i++ {
		t := toks[i]
		if t.Name != "" {
			q.param(t.Name)
			continue
		}
		if t.Word != "sqlc" || i+2 >= len(toks) || toks[i+1].Char != '.' || toks[i+2].Word == "" {
			continue
		}
		function := toks[i+2].Word
		if !slices.Contains([]string{"arg", "narg", "slice", "embed"}, function) {
			return &placedError{t.Start, fmt.Sprintf("sqlc.%s is none of sqlc.arg, sqlc.narg, sqlc.slice, sqlc.embed", function)}
		}
		if i+5 >= len(toks) || toks[i+3].Char != '(' || toks[i+5].Char != ')' {
			return &placedError{t.Start, fmt.Sprintf("sqlc.%s takes one name: write sqlc.%s(name)", function, function)}
		}
		argument := text[toks[i+4].Start:toks[i+4].End]
		name := strings.Trim(argument, `'"`)
		after := toks[i+5].End
		switch function {
		case "embed":
			replace(t.Start, after, argument+".*")
			q.Embeds = append(q.Embeds, Embed{Name: name, Star: out.Len() - 1})
		default:
			if !IsIdentifier(name) {
				return &placedError{t.Start, fmt.Sprintf("%s is not a name for a parameter: use letters, digits and _, and begin with a letter", argument)}
			}
			param := q.param(name)
			param.Null = param.Null || function == "narg"
			param.Slice = param.Slice || function == "slice"
			// x in (sqlc.slice(ids)) is any of a list.
			if from, to, operator, ok := inList(toks, i); function == "slice" && ok {
				replace(toks[from].Start, toks[to].End, operator+"(@"+name+")")
			} else {
				if i+6 < len(toks) && toks[i+6].Start == after && toks[i+6].Word != "" { // which would be one name with it
					name += " "
				}
				replace(t.Start, after, "@"+name)
			}
		}
		i += 5
	}
	out.WriteString(text[copied:end])
	q.SQL = out.String()
	return nil
}

// inList reports whether the sqlc.slice at token i is all that an IN has in its parentheses, from which token to
// which, and what to write for it.
func inList(toks []sqltext.Token, i int) (from, to int, operator string, ok bool) {
	if i < 2 || toks[i-1].Char != '(' || toks[i-2].Word != "in" || i+6 >= len(toks) || toks[i+6].Char != ')' {
		return 0, 0, "", false
	}
	if i > 2 && toks[i-3].Word == "not" {
		return i - 3, i + 6, "<> all", true
	}
	return i - 2, i + 6, "= any", true
}

// param returns the parameter of a name, which it adds if there is none.
func (q *Query) param(name string) *Param {
	for i := range q.Params {
		if q.Params[i].Name == name {
			return &q.Params[i]
		}
	}
	q.Params = append(q.Params, Param{Name: name})
	return &q.Params[len(q.Params)-1]
}
