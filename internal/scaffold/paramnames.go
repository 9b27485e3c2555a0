package scaffold

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// nameParams replaces $1, $2, ... by names that tell what they are for, if there are several or the SQL has names too.
// A single $1 stays, unless it has to have a name as well.
func nameParams(sql string, single bool) (string, error) {
	toks, err := sqltext.Lex(sql)
	if err != nil {
		return "", err
	}
	numbers, named := map[int]string{}, names{}
	for _, t := range toks {
		if t.Param {
			n, err := strconv.Atoi(sql[t.Start+1 : t.End])
			if err != nil || n < 1 || n > 65535 {
				return sql, nil // Parse has the better error
			}
			numbers[n] = ""
		}
		if t.Name != "" {
			named[t.Name] = true
		}
	}
	if len(numbers) == 0 || !single && len(named) == 0 && len(numbers) == 1 && numbers[1] == "" && has(numbers, 1) {
		return sql, nil
	}
	if template, err := sqltext.ParseTemplate(sql); err == nil && template != nil {
		for _, name := range template.Names {
			named[name] = true
		}
	}
	guess := guesses(sql, toks)
	var b strings.Builder
	copied := 0
	for i, t := range toks {
		if !t.Param {
			continue
		}
		n, _ := strconv.Atoi(sql[t.Start+1 : t.End])
		if numbers[n] == "" {
			name := guess[i]
			for later := i + 1; name == "" && later < len(toks); later++ { // used again
				if sql[toks[later].Start:toks[later].End] == sql[t.Start:t.End] {
					name = guess[later]
				}
			}
			if name == "" {
				name = fmt.Sprintf("arg%d", n)
			}
			numbers[n] = named.numbered(name)
		}
		b.WriteString(sql[copied:t.Start])
		if t.Start > 0 && strings.IndexByte("~!@#^&|`?+-*/%<>=", sql[t.Start-1]) >= 0 {
			b.WriteByte(' ')
		}
		b.WriteString("@" + numbers[n])
		if i+1 < len(toks) && toks[i+1].Start == t.End && toks[i+1].Word != "" { // which would be one name with it
			b.WriteByte(' ')
		}
		copied = t.End
	}
	b.WriteString(sql[copied:])
	return b.String(), nil
}

func has(m map[int]string, n int) bool {
	_, ok := m[n]
	return ok
}

// guesses names parameters, by the index of their token, from what is beside them in the SQL.
func guesses(sql string, toks []sqltext.Token) map[int]string {
	named := map[int]string{}
	index := map[int]int{} // of a token, by where it starts
	for i, t := range toks {
		index[t.Start] = i
	}
	for at := range toks { // also in a WITH
		if at+1 == len(toks) || toks[at].Word != "insert" || toks[at+1].Word != "into" {
			continue
		}
		_, columns, rows, _ := insertTarget(toks[at:])
		for _, row := range rows {
			for i, value := range row {
				if i >= len(columns) {
					break
				}
				var params []int
				for _, t := range value {
					if t.Param {
						params = append(params, index[t.Start])
					}
				}
				if len(params) == 1 && (len(rows) == 1 || len(row) == len(columns)) {
					named[params[0]] = identifier(sql, columns[i])
				}
			}
		}
	}
	for i, t := range toks {
		if t.Param && named[i] == "" {
			named[i] = guessAt(sql, toks, i)
		}
	}
	return named
}

// comparisons are the operators between a column and a parameter that is named like it.
var comparisons = []string{"=", "<", ">", "<=", ">=", "<>", "!=", "~", "~*", "!~", "!~*", "~~", "~~*", "&&", "@>", "||", "+", "-", "@@"}

func guessAt(sql string, toks []sqltext.Token, i int) string {
	text := func(at int) string {
		if at < 0 || at >= len(toks) {
			return ""
		}
		return sql[toks[at].Start:toks[at].End]
	}
	word := func(at int) string {
		if at < 0 || at >= len(toks) {
			return ""
		}
		return toks[at].Word
	}
	before := i - 1
	switch word(before) {
	case "limit", "offset":
		return word(before)
	case "like", "ilike", "to":
		if word(before) == "to" && word(before-1) != "similar" {
			break
		}
		if word(before-1) == "not" {
			before--
		}
		if name := columnBefore(sql, toks, before); name != "" {
			return name
		}
	case "between":
		if name := columnBefore(sql, toks, before); name != "" {
			return name + "_from"
		}
	case "and":
		for at := before - 1; at >= 0 && at > before-8; at-- {
			if word(at) == "between" {
				if name := columnBefore(sql, toks, at); name != "" {
					return name + "_to"
				}
			}
		}
	}
	first := before
	for first > 1 && text(first) == "," && toks[first-1].Param {
		first -= 2
	}
	if text(first) == "(" { // in ($1, $2)
		before = first
	}
	if text(before) == "=>" && word(before-1) != "" {
		return word(before - 1)
	}
	if slices.Contains(comparisons, text(before)) {
		if name := columnBefore(sql, toks, before); name != "" {
			return name
		}
	}
	if text(before) == "(" {
		switch word(before - 1) {
		case "any", "all", "some":
			if name := columnBefore(sql, toks, before-2); name != "" {
				return plural(name)
			}
		case "in":
			at := before - 1
			if word(at-1) == "not" {
				at--
			}
			if name := columnBefore(sql, toks, at); name != "" {
				return name
			}
		case "unnest": // in (select unnest($1))
			if word(before-2) == "select" && text(before-3) == "(" && word(before-4) == "in" {
				at := before - 4
				if word(at-1) == "not" {
					at--
				}
				if name := columnBefore(sql, toks, at); name != "" {
					return plural(name)
				}
			}
		case "lower", "upper", "coalesce", "nullif", "to_tsquery", "plainto_tsquery", "websearch_to_tsquery":
			if slices.Contains(comparisons, text(before-2)) || slices.Contains([]string{"like", "ilike"}, word(before-2)) {
				if name := columnBefore(sql, toks, before-2); name != "" {
					return name
				}
			}
		}
	}
	// After it: $1 = column, and $1::text = column.
	after := afterCast(toks, i+1)
	if slices.Contains(comparisons, text(after)) && after+1 < len(toks) {
		return columnAt(sql, toks, after+1)
	}
	return ""
}

// isCast reports whether a cast, ::, begins at token i.
func isCast(toks []sqltext.Token, i int) bool {
	return i >= 0 && i+1 < len(toks) && toks[i].Char == ':' && toks[i+1].Char == ':'
}

// afterCast returns the token after the casts that begin at token i; i if none does.
func afterCast(toks []sqltext.Token, i int) int {
	ends := []string{"and", "or", "is", "not", "from", "where", "as", "like", "ilike", "in", "order", "limit", "offset", "group", "then", "else", "end", "when", "returning", "on"}
	for isCast(toks, i) {
		for i += 2; i < len(toks); i++ {
			switch t := toks[i]; {
			case t.Word != "" && !slices.Contains(ends, t.Word), t.Char == '.', t.Char == '[', t.Char == ']':
				continue
			case t.Char == '(' && i+2 < len(toks) && toks[i+2].Char == ')': // numeric(10)
				i += 2
				continue
			case t.Char == '(' && i+4 < len(toks) && toks[i+4].Char == ')': // numeric(10, 2)
				i += 4
				continue
			}
			break
		}
	}
	return i
}

// columnBefore returns the name of the column that ends before token at, also within a function such as lower(email);
// empty if there is none.
func columnBefore(sql string, toks []sqltext.Token, at int) string {
	i := at - 1
	if i >= 0 && toks[i].Char == ')' { // of a function of one column
		if i--; i < 1 || toks[i-1].Char != '(' && toks[i-1].Char != '.' {
			return ""
		}
	}
	if isCast(toks, i-2) { // of the column
		i -= 3
	}
	if i < 0 {
		return ""
	}
	return identifier(sql, toks[i])
}

func columnAt(sql string, toks []sqltext.Token, at int) string {
	for at+2 < len(toks) && toks[at+1].Char == '.' {
		at += 2
	}
	if at+1 < len(toks) && toks[at+1].Char == '(' { // a function
		if word := toks[at].Word; word == "any" || word == "all" {
			name := columnAt(sql, toks, at+2)
			return singular(name)
		}
		return ""
	}
	return identifier(sql, toks[at])
}

// notColumns are words that stand where a column could and are none.
var notColumns = []string{"and", "or", "not", "null", "true", "false", "select", "from", "where", "case", "when", "then", "else", "end",
	"interval", "array", "row", "current_timestamp", "current_date", "is", "in", "by", "on", "set", "values", "as", "default", "distinct"}

// identifier returns the name that a token is, as snake_case; empty if it is none.
func identifier(sql string, t sqltext.Token) string {
	name := t.Word
	if quoted := sql[t.Start:t.End]; strings.HasPrefix(quoted, `"`) {
		name = strings.ReplaceAll(strings.Trim(quoted, `"`), `""`, `"`)
	} else if slices.Contains(notColumns, name) {
		return ""
	}
	return columnWord(name)
}

// columnWord is the name of a column as that of a parameter.
func columnWord(name string) string {
	name = strings.Join(words(name), "_")
	if name != "" && name[0] >= '0' && name[0] <= '9' { // which no placeholder begins with
		return "x" + name
	}
	return name
}
