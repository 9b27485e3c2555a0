// Package queryfile reads files of SQL whose statements are named by sqlc's annotations:
//
//	-- name: FindUser :one
//	select * from users where email = @email;
//
// It turns sqlc's functions (sqlc.arg, sqlc.narg, sqlc.slice, sqlc.embed) into placeholders and stars. It knows nothing
// of a database.
package queryfile

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// Kinds are the kinds of query that sqlc's annotations have for PostgreSQL.
var Kinds = []string{"one", "many", "exec", "execrows", "execresult", "iter", "copyfrom", "batchexec", "batchone", "batchmany"}

// A Query is a statement of a file.
type Query struct {
	File string
	Line int    // of the annotation, from 1
	Name string // FindUser
	Kind string // one of Kinds
	// Comments are the lines of the comments before the statement, without their marks.
	Comments []string
	// SQL is the statement with the comments in it, without the semicolon. Its placeholders are @name, or $1, $2, ...
	SQL     string
	SQLLine int // at which it begins in the file
	Indent  int // how far the first line of the SQL is indented there
	Params  []Param
	Embeds  []Embed
}

// A Param is a placeholder that the SQL names.
type Param struct {
	Name  string
	Null  bool // by sqlc.narg
	Slice bool // by sqlc.slice
}

// An Embed is a sqlc.embed, which became a star.
type Embed struct {
	Name string // of the table or its alias, without quotes
	Star int    // where in the SQL the * is, in bytes
}

// A Problem is why a part of a file cannot be read.
type Problem struct {
	File    string
	Line    int
	Query   string // its name; empty if it has none
	Message string
	// Note says that it is only a remark: no query is left out because of it.
	Note bool
}

// Parse reads the text of a file. A query with a problem is left out; the others are read.
func Parse(file, text string) (queries []Query, problems []Problem) {
	const mark = "\ufeff" // of the order of bytes, which begins a file, and each part of one that was put together
	text = strings.ReplaceAll(strings.TrimPrefix(text, mark), "\n"+mark, "\n")
	toks, err := sqltext.Lex(text)
	if err != nil {
		line, message := 1, err.Error()
		if _, scanErr := fmt.Sscanf(message, "%d:", &line); scanErr == nil {
			_, message, _ = strings.Cut(message, ": ")
		}
		return nil, []Problem{{File: file, Line: line, Message: message}}
	}
	p := parser{file: file, text: text, toks: toks}
	p.comments = comments(text, toks)
	p.parse()
	return p.queries, p.problems
}

type parser struct {
	file, text string
	toks       []sqltext.Token
	comments   []comment
	queries    []Query
	problems   []Problem
}

func (p *parser) line(at int) int { return 1 + strings.Count(p.text[:at], "\n") }

func (p *parser) problem(at int, query, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: p.file, Line: p.line(at), Query: query, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) parse() {
	var names []int // of the comments that are annotations
	for i, c := range p.comments {
		if _, ok := c.annotation(); ok {
			names = append(names, i)
		}
	}
	if len(names) == 0 {
		p.problem(0, "", `holds no annotated query: write "-- name: FindUser :one" above a statement`)
		// A schema may lie beside the queries.
		p.problems[0].Note = len(p.toks) > 0 && slices.Contains([]string{"create", "alter", "drop", "comment", "set", "begin", "grant"}, p.toks[0].Word)
		return
	}
	p.unnamed(0, p.comments[names[0]].start, false)
	seen := map[string]int{}
	for at, i := range names {
		end := len(p.text)
		if at+1 < len(names) {
			end = p.comments[names[at+1]].start
		}
		q, ok := p.query(i, end)
		if !ok {
			continue
		}
		if line, twice := seen[q.Name]; twice {
			p.problem(p.comments[i].start, q.Name, "is the name of another query, in line %d: rename one", line)
			continue
		}
		seen[q.Name] = q.Line
		p.queries = append(p.queries, q)
	}
}

// query reads the query whose annotation is a comment, up to end.
func (p *parser) query(i, end int) (q Query, ok bool) {
	c := p.comments[i]
	words, _ := c.annotation()
	q = Query{File: p.file, Line: p.line(c.start)}
	switch {
	case len(words) != 2 || !strings.HasPrefix(words[1], ":"):
		p.problem(c.start, "", `"name: %s" is not an annotation: write "-- name: FindUser :one"`, strings.Join(words, " "))
		return q, false
	case !IsIdentifier(words[0]):
		p.problem(c.start, "", "%q is not a name of Go: use letters, digits and _, and begin with a letter", words[0])
		return q, false
	}
	if q.Name, q.Kind = words[0], words[1][1:]; !slices.Contains(Kinds, q.Kind) {
		p.problem(c.start, q.Name, ":%s is none of the kinds :%s", q.Kind, strings.Join(Kinds, ", :"))
		return q, false
	}
	var toks []sqltext.Token
	closed := end
	for _, t := range p.toks {
		if t.Start < c.end || t.Start >= end {
			continue
		}
		if t.Char == ';' {
			closed = t.Start
			break
		}
		toks = append(toks, t)
	}
	if len(toks) == 0 {
		p.problem(c.start, q.Name, "has no statement: write one below the annotation")
		return q, false
	}
	p.unnamed(closed, end, true)
	start := toks[0].Start
	q.Comments = p.commentsOf(i, start)
	q.SQLLine, q.Indent = p.line(start), start-strings.LastIndexByte(p.text[:start], '\n')-1
	if err := q.rewrite(p.text, toks, p.endOf(toks, closed)); err != nil {
		p.problem(err.at, q.Name, "%s", err.message)
		return q, false
	}
	return q, true
}

// endOf returns where a statement ends: behind the marks of optional parts and choices, which are comments.
func (p *parser) endOf(toks []sqltext.Token, closed int) int {
	end := toks[len(toks)-1].End
	for _, c := range p.comments {
		if c.start >= end && c.start < closed && (strings.HasPrefix(c.text, "/*?") || strings.HasPrefix(c.text, "/*=")) {
			end = c.end
		}
	}
	return end
}

// unnamed notes a statement of a range that no annotation names, unless it may be of a schema: files may hold both. After
// a query it is more likely meant as a part of that.
func (p *parser) unnamed(from, to int, afterQuery bool) {
	begins := true
	for _, t := range p.toks {
		if t.Start < from || t.Start >= to {
			continue
		}
		if t.Char == ';' {
			begins = true
			continue
		}
		note := slices.Contains([]string{"select", "insert", "update", "delete", "merge", "with", "values"}, t.Word)
		if afterQuery {
			note = !slices.Contains([]string{"create", "alter", "comment", "grant", "revoke", "set", "begin", "commit"}, t.Word)
		}
		if begins && note {
			p.problem(t.Start, "", `a statement without a name is left out: write "-- name: FindUser :one" above it`)
			p.problems[len(p.problems)-1].Note = true
		}
		begins = false
	}
}

// commentsOf returns the comments of the query that comment i names: those between it and the statement, and those
// directly above it.
func (p *parser) commentsOf(i, start int) (lines []string) {
	first := i
	for first > 0 {
		above, below := p.comments[first-1], p.comments[first]
		_, named := above.annotation()
		between := p.text[above.end:below.start]
		if named || !above.ownLine || strings.TrimSpace(between) != "" || strings.Count(between, "\n") > 1 {
			break
		}
		first--
	}
	for at := first; at < len(p.comments) && p.comments[at].start < start; at++ {
		if at != i {
			lines = append(lines, p.comments[at].lines()...)
		}
	}
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "@sqlc-vet-disable") })
}

// IsIdentifier reports whether a name can be one of Go, in upper or lower case.
func IsIdentifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return strings.Trim(name, "_") != ""
}
