package sqltext

// A Token is a word, a placeholder, a literal, an operator or a single character of SQL.
type Token struct {
	Start, End int    // bytes of the source
	Word       string // the keyword or the unquoted identifier that it is, in lower case; else ""
	Char       byte   // the single character that it is, such as '(', ',' or ';'; else 0
	Name       string // of a placeholder, without its @; else ""
	Param      bool   // it is $1 or the like
}

// Lex splits SQL, of one statement or of several, as [Parse] does, which leaves out space and comments. An error
// begins with line:column.
func Lex(sql string) ([]Token, error) {
	toks, err := tokens(sql)
	if err != nil {
		return nil, err
	}
	exported := make([]Token, len(toks))
	for i, t := range toks {
		exported[i] = Token{Start: t.start, End: t.end, Word: t.word, Param: t.kind == parameter}
		switch {
		case t.kind == placeholder:
			exported[i].Name = sql[t.start+1 : t.end]
		case t.kind < other:
			exported[i].Char = byte(t.kind)
		}
	}
	return exported, nil
}
