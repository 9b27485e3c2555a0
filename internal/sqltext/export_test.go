package sqltext

// Splits reports whether a token begins or ends at pos, or pos is inside of an operator: PostgreSQL may read that as two,
// and sees a syntax error only where a token begins.
func Splits(sql string, pos int) bool {
	toks, err := tokens(sql)
	if err != nil {
		return false
	}
	for _, t := range toks {
		if pos == t.start || pos == t.end || t.start < pos && pos < t.end && isOperator(sql[t.start]) {
			return true
		}
	}
	return pos == len(sql)
}
