package sqltext

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// kind is what a token is: one of the constants, or else the single ASCII character itself, such as '('.
type kind byte

const (
	other       kind = utf8.RuneSelf + iota // a literal, number, operator or quoted identifier
	word                                    // a keyword or an unquoted identifier
	placeholder                             // @name
	parameter                               // $1
)

type token struct {
	kind       kind
	start, end int
	word       string // lower case, for a word
}

// is reports whether t is one of the keywords. A quoted identifier is none.
func (t token) is(keywords ...string) bool {
	return t.kind == word && slices.Contains(keywords, t.word)
}

// tokens splits sql as PostgreSQL's scan.l does with standard_conforming_strings on, leaving out space and comments.
// Text that PostgreSQL could not make sense of (1abc, a lone $) is split somehow: the server has the better error.
func tokens(sql string) ([]token, error) {
	if err := isText(sql); err != nil {
		return nil, err
	}
	l := lexer{src: sql}
	return l.tokens()
}

// isText refuses what PostgreSQL takes for no text.
func isText(sql string) error {
	if i := strings.IndexByte(sql, 0); i >= 0 {
		return errorAt(sql, i, "a NUL byte, which text in PostgreSQL cannot hold: take it out")
	}
	for i, r := range sql {
		if _, size := utf8.DecodeRuneInString(sql[i:]); r == utf8.RuneError && size == 1 {
			return errorAt(sql, i, "byte %#x is not UTF-8: save the SQL as UTF-8", sql[i])
		}
	}
	return nil
}

// tokens reads to the end.
func (l *lexer) tokens() (toks []token, err error) {
	for {
		if err := l.space(); err != nil {
			return nil, err
		}
		if l.pos == len(l.src) {
			return toks, nil
		}
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		toks = append(toks, t)
	}
}

// next reads the next token, which begins here.
func (l *lexer) next() (token, error) {
	t := token{start: l.pos}
	var err error
	if t.kind, err = l.token(); err != nil {
		return t, err
	}
	t.end = l.pos
	if t.kind == word {
		t.word = strings.Map(lower, l.src[t.start:t.end])
	}
	return t, nil
}

type lexer struct {
	src   string
	pos   int
	marks []span // the comments that begin with /*? or /*=, see Template
}

// peek is the next byte, or 0 at the end; the text has no NUL.
func (l *lexer) peek() byte {
	if l.pos < len(l.src) {
		return l.src[l.pos]
	}
	return 0
}

// skip moves past the bytes that are in the set.
func (l *lexer) skip(set func(byte) bool) {
	for l.pos < len(l.src) && set(l.src[l.pos]) {
		l.pos++
	}
}

// space moves past space and comments.
func (l *lexer) space() error {
	for {
		switch {
		case isSpace(l.peek()):
			l.pos++
		case l.has("--"):
			l.skip(func(b byte) bool { return !isNewline(b) })
		case l.has("/*"):
			if err := l.block(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// has reports whether s is next.
func (l *lexer) has(s string) bool { return strings.HasPrefix(l.src[l.pos:], s) }

// block moves past a /* comment, which nests.
func (l *lexer) block() error {
	start := l.pos
	for depth := 0; ; {
		switch {
		case l.pos == len(l.src):
			return l.open(start, "comment", "*/")
		case l.has("/*"):
			depth++
			l.pos += 2
		case l.has("*/"):
			depth--
			l.pos += 2
			if depth == 0 {
				// A line of them is an ornament.
				if mark := l.src[start+2]; (mark == '?' || mark == '=') && l.src[start+3] != mark {
					l.marks = append(l.marks, span{start, l.pos})
				}
				return nil
			}
		default:
			l.pos++
		}
	}
}

// token moves past the next token.
func (l *lexer) token() (kind, error) {
	start := l.pos
	b := l.src[start]
	switch {
	case isNameStart(b):
		l.skip(func(b byte) bool { return isName(b) || b == '$' })
		// B, X, N and U& need no mention: what follows them ends like a plain literal.
		if w := l.src[start:l.pos]; l.peek() == '\'' && (w == "e" || w == "E") {
			return other, l.literal(start, true)
		}
		return word, nil
	case isDigit(b):
		l.number()
		return other, nil
	case b == '\'':
		return other, l.literal(start, false)
	case b == '"':
		return other, l.identifier()
	case b == '$':
		return l.dollar()
	case isOperator(b):
		return l.operator()
	}
	l.pos++
	return kind(b), nil
}

// number moves past a number that begins with a digit: with its fraction (1. and 1.5), exponent (1e5), radix (0x1F) and
// separators (1_000); the sign of an exponent may well be a token of its own. A word that follows directly is the next
// token, as PostgreSQL 14 reads 1then. Later versions refuse it.
func (l *lexer) number() {
	l.skip(isDigit)
	if l.has(".") && !l.has("..") {
		l.pos++
		l.skip(isDigit)
	}
	digit := l.pos+1 < len(l.src) && isDigit(l.src[l.pos+1])
	switch lower(rune(l.peek())) {
	case 'e':
		if digit {
			l.pos++
			l.skip(isDigit)
		}
	case 'o', 'b':
		if digit {
			l.skip(isName)
		}
	case 'x', '_':
		l.skip(isName)
	}
}

// literal moves past a literal whose opening quote is next, and past its continuations on later lines, which escape as
// it does. A doubled quote needs no case of its own: it ends one part and begins the next.
func (l *lexer) literal(start int, backslash bool) error {
	for more := true; more; more = l.peek() == '\'' || l.continued() {
		for l.pos++; l.peek() != '\''; l.pos++ {
			if backslash && l.peek() == '\\' {
				l.pos++
			}
			if l.pos >= len(l.src) {
				return l.open(start, "string", "'")
			}
		}
		l.pos++
	}
	return nil
}

// continued moves to the quote that continues a literal: only space and -- comments are between, and a new line.
func (l *lexer) continued() bool {
	end := l.pos
	for isSpace(l.peek()) || l.has("--") {
		if l.has("--") {
			l.skip(func(b byte) bool { return !isNewline(b) })
		} else {
			l.pos++
		}
	}
	if l.peek() == '\'' && strings.ContainsAny(l.src[end:l.pos], "\n\r") {
		return true
	}
	l.pos = end
	return false
}

// identifier moves past a quoted identifier, with its doubled quotes.
func (l *lexer) identifier() error {
	start := l.pos
	for l.peek() == '"' {
		i := strings.IndexByte(l.src[l.pos+1:], '"')
		if i < 0 {
			return l.open(start, "quoted identifier", `"`)
		}
		l.pos += i + 2
	}
	return nil
}

// dollar moves past $1, a $tag$ body $tag$, or else a lone $.
func (l *lexer) dollar() (kind, error) {
	start := l.pos
	l.pos++
	if isDigit(l.peek()) {
		l.skip(isDigit)
		return parameter, nil
	}
	if isNameStart(l.peek()) {
		l.skip(isName)
	}
	if l.peek() != '$' {
		l.pos = start + 1
		return '$', nil
	}
	l.pos++
	tag := l.src[start:l.pos]
	i := strings.Index(l.src[l.pos:], tag)
	if i < 0 {
		return other, l.open(start, "dollar-quoted string", tag)
	}
	l.pos += i + len(tag)
	return other, nil
}

// operator moves past an operator, or a placeholder if the run of operator characters is no more than its @.
func (l *lexer) operator() (kind, error) {
	start := l.pos
	// A comment cannot begin at start: space has gone past it.
	for l.pos++; isOperator(l.peek()) && !l.has("--") && !l.has("/*"); {
		l.pos++
	}
	run := l.src[start:l.pos]
	before, glued := strings.CutSuffix(run, "@")
	if !glued || !isNameStart(l.peek()) {
		return other, nil
	}
	nameStart := l.pos
	// Those of PostgreSQL 15 and its ltree module: select distinct oprname from pg_operator where oprname like '%@'.
	switch run {
	case "@":
		l.skip(isName)
		return placeholder, nil
	case "@@", "@@@", "@-@", "?@", "^<@", "?<@":
		return other, nil
	case "<@", "^@":
		l.skip(isName)
		name := l.src[nameStart:l.pos]
		return other, errorAt(l.src, start, `%s%s reads two ways: write "%s @%s" for the placeholder or "%s %s" for the operator`,
			run, name, before, name, run, name)
	}
	l.pos = nameStart - 1 // the @ is the next token's
	return other, nil
}

// open is the error for something begun at start that never ends.
func (l *lexer) open(start int, what, closing string) error {
	return errorAt(l.src, start, "the %s that begins here is never closed: end it with %s", what, closing)
}

// lower is strings.ToLower for ASCII alone, as PostgreSQL reads keywords: Go lowers the Turkish dotted I to i.
func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isNameStart(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b == '_' || b >= utf8.RuneSelf
}

func isName(b byte) bool { return isNameStart(b) || isDigit(b) }

func isNewline(b byte) bool { return b == '\n' || b == '\r' }

// isSpace has \v as PostgreSQL 16 does; before it, \v outside a literal is an error.
func isSpace(b byte) bool { return b == ' ' || '\t' <= b && b <= '\r' }

func isOperator(b byte) bool { return b != 0 && strings.IndexByte("~!@#^&|`?+-*/%<>=", b) >= 0 }
