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

// Tokens lists the tokens of sql, without space and comments.
func Tokens(sql string) (texts []string) {
	toks, _ := tokens(sql)
	for _, t := range toks {
		texts = append(texts, sql[t.start:t.end])
	}
	return texts
}

// Write is the text of a variant, with its names.
func (t *Template) Write(v Variant) string { return t.write(v) }

// Merged lists the tokens that a variant has to have: those of the source, of each part that is in it at its place, and
// of each option instead of its default.
func (t *Template) Merged(v Variant) (texts []string) {
	toks, _ := tokens(t.SQL)
	for _, r := range t.regions {
		for len(toks) > 0 && toks[0].start < r.start {
			texts, toks = append(texts, t.SQL[toks[0].start:toks[0].end]), toks[1:]
		}
		inner := r.texts[0]
		if r.choice >= 0 {
			inner = r.texts[v.Option(r.choice)]
		} else if v.Parts>>r.part&1 == 0 {
			inner = span{}
		}
		texts = append(texts, Tokens(t.SQL[inner.start:inner.end])...)
		for len(toks) > 0 && toks[0].start < r.end {
			toks = toks[1:]
		}
	}
	for _, tok := range toks {
		texts = append(texts, t.SQL[tok.start:tok.end])
	}
	return texts
}

// TokenEnds returns where the tokens of sql end.
func TokenEnds(sql string) (ends []int) {
	toks, _ := tokens(sql)
	for _, t := range toks {
		ends = append(ends, t.end)
	}
	return ends
}
