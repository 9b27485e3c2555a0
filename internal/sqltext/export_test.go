package sqltext

// Splits reports whether PostgreSQL may see a token begin at pos: where one of ours begins or ends, in an operator, which
// PostgreSQL may read as two, and at a doubled quote in a bit string, which it does read as two literals.
func Splits(sql string, pos int) bool {
	toks, err := tokens(sql)
	if err != nil {
		return false
	}
	for i, t := range toks {
		switch {
		case pos == t.start || pos == t.end:
			return true
		case t.start < pos && pos < t.end:
			return isOperator(sql[t.start]) || sql[pos] == '\'' && i > 0 && toks[i-1].is("b", "x")
		}
	}
	return pos == len(sql)
}

// TokenEnds returns where the tokens of sql end.
func TokenEnds(sql string) (ends []int) {
	toks, _ := tokens(sql)
	for _, t := range toks {
		ends = append(ends, t.end)
	}
	return ends
}
