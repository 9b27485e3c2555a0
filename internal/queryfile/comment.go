package queryfile

import (
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A comment is one of SQL, with its marks.
type comment struct {
	start, end int
	text       string
	ownLine    bool // nothing but space is before it in its line
}

// comments lists the comments of a text, which are what is between its tokens.
func comments(text string, toks []sqltext.Token) (all []comment) {
	from := 0
	for i := 0; i <= len(toks); i++ {
		to := len(text)
		if i < len(toks) {
			to = toks[i].Start
		}
		for at := from; at < to; {
			var end int
			switch {
			case strings.HasPrefix(text[at:to], "--"):
				if end = strings.IndexAny(text[at:to], "\r\n"); end < 0 {
					end = to - at
				}
				end += at
			case strings.HasPrefix(text[at:to], "/*"):
				end = blockEnd(text, at)
			default:
				at++
				continue
			}
			line := text[strings.LastIndexAny(text[:at], "\r\n")+1 : at]
			all = append(all, comment{at, end, text[at:end], strings.TrimSpace(line) == ""})
			at = end
		}
		if i < len(toks) {
			from = toks[i].End
		}
	}
	return all
}

// blockEnd returns where the block comment that begins at a place ends. Such comments nest.
func blockEnd(text string, at int) int {
	for depth := 0; at < len(text); {
		switch {
		case strings.HasPrefix(text[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(text[at:], "*/"):
			at += 2
			if depth--; depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return at
}

// annotation returns the words after "name:" if the comment is one.
func (c comment) annotation() ([]string, bool) {
	text := strings.TrimPrefix(c.text, "--")
	if block, ok := strings.CutPrefix(c.text, "/*"); ok {
		text = strings.TrimSuffix(block, "*/")
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(text), "name:")
	if !ok || !c.ownLine || strings.Contains(text, "\n") {
		return nil, false
	}
	return strings.Fields(text), true
}

// lines returns the text of the comment without its marks.
func (c comment) lines() (lines []string) {
	block, isBlock := strings.CutPrefix(c.text, "/*")
	if !isBlock {
		return []string{strings.TrimRight(strings.TrimPrefix(strings.TrimLeft(c.text, "-"), " "), " \t")}
	}
	for line := range strings.Lines(strings.TrimSuffix(block, "*/")) {
		line = strings.TrimSpace(line)
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "*"), " "))
	}
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
