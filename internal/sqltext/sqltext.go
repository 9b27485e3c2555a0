// Package sqltext turns the @name placeholders of one SQL statement into $1, $2, ... and says whether the statement
// plainly reads or plainly writes. It splits the text into tokens as PostgreSQL does, so that an @ inside a literal, a
// comment or an operator stays what it was.
package sqltext

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxParams is what the wire protocol's 16-bit parameter count can hold.
const maxParams = 65535

// Text is a statement whose named placeholders have become $1, $2, ...
//
// Writes and Reads judge the statement by its keywords alone: a select that calls a volatile function or locks rows
// still reads. ChangesNothing and ChangesOnlyRows look at its calls too.
type Text struct {
	SQL             string   // byte for byte the source if it names no placeholder
	Names           []string // Names[i] became $i+1, in order of first appearance; a name used twice has one number
	MaxParam        int      // highest $n in the source; 0 if none, as always where there are Names
	Writes          bool     // anything but a query: insert, create, set, call, also under with or explain analyze
	Reads           bool     // a query: select, values, table, show, also under with; the opposite of Writes
	ChangesNothing  bool     // a query that changes nothing, as far as its text tells
	ChangesOnlyRows bool     // it has changed nothing if its command tag counts no row, as far as its text tells
	Ends            bool     // it ends a transaction: commit, rollback (but not to a savepoint), prepare transaction
	MayEnableWrites bool     // it may make a read-only transaction writable
	Verb            string   // the first keyword, in lower case; empty if the statement begins otherwise
}

// Parse reads one statement. A name begins with a letter, _ or a byte beyond ASCII, goes on with those and digits, and
// follows its @ directly. Errors begin with line:column and say how to fix it.
//
// PostgreSQL's lexer would take @ into the longest run of operator characters. Parse gives a run's last @ to the name
// after it (email=@email, '%'||@q), unless the whole run is an operator that PostgreSQL or one of its own extensions
// has, such as @@. Of those, <@name and ^@name are refused, as < and ^ with a placeholder are just as likely.
func Parse(sql string) (Text, error) {
	toks, err := tokens(sql)
	if err != nil {
		return Text{}, err
	}
	if err := oneStatement(sql, toks); err != nil {
		return Text{}, err
	}
	if err := noCopyData(sql, toks); err != nil {
		return Text{}, err
	}
	text, err := number(sql, toks)
	if err != nil {
		return Text{}, err
	}
	text.Writes = writes(toks)
	text.Reads = !text.Writes
	text.ChangesNothing = changesNothing(sql, toks)
	text.ChangesOnlyRows = changesOnlyRows(sql, toks)
	text.Ends = ends(toks)
	text.MayEnableWrites = MayEnableWrites(strings.ToLower(text.SQL))
	for _, t := range toks {
		if t.kind != '(' {
			text.Verb = t.word
			break
		}
	}
	return text, nil
}

// oneStatement refuses text of no statement and of several. Semicolons inside parentheses (create rule) and after BEGIN
// ATOMIC (create function) separate the parts of one statement, and are left to PostgreSQL.
func oneStatement(sql string, toks []token) error {
	if !slices.ContainsFunc(toks, func(t token) bool { return t.kind != ';' }) {
		return fmt.Errorf("the SQL is empty: write one statement")
	}
	depth := 0
	for i, t := range toks {
		switch {
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth--
		case t.is("atomic") && i > 0 && toks[i-1].is("begin"):
			return nil
		case t.kind == ';' && depth <= 0 && i+1 < len(toks):
			next := toks[i+1].start
			return errorAt(sql, next, "a second statement begins here: one command is one statement")
		}
	}
	return nil
}

// noCopyData refuses a COPY of rows that are not in a file of the server's: it would wait for rows that do not come, or
// drop those that come.
func noCopyData(sql string, toks []token) error {
	if !toks[0].is("copy") {
		return nil
	}
	depth := 0
	for i, t := range toks[1:] {
		switch before := toks[i]; {
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth--
		case depth > 0 || !t.is("stdin", "stdout"):
		case before.is("from"):
			return errorAt(sql, t.start, "a statement cannot send the rows of COPY FROM STDIN: make the command with pgcmd.Copy")
		case before.is("to"):
			return errorAt(sql, t.start, "a statement cannot receive the rows of COPY TO STDOUT: use a Query, which Stream can run, or CopyTo of pgx")
		}
	}
	return nil
}

// number gives each placeholder its $n.
func number(sql string, toks []token) (Text, error) {
	var (
		text    = Text{SQL: sql}
		out     strings.Builder
		copied  int // sql[:copied] is in out
		numbers = map[string]int{}
		param   token // the first $n
	)
	for _, t := range toks {
		src := sql[t.start:t.end]
		if t.kind == parameter {
			n, err := strconv.Atoi(src[1:])
			if err != nil || n < 1 || n > maxParams {
				return Text{}, errorAt(sql, t.start, "%s is no parameter: PostgreSQL counts from $1 to $%d", snippet(src), maxParams)
			}
			if text.MaxParam == 0 {
				param = t
			}
			text.MaxParam = max(text.MaxParam, n)
		}
		if t.kind == placeholder {
			n, seen := numbers[src[1:]]
			if !seen {
				if len(text.Names) == maxParams {
					return Text{}, errorAt(sql, t.start, "%s is one name too many: PostgreSQL takes at most %d parameters", snippet(src), maxParams)
				}
				text.Names = append(text.Names, src[1:])
				n = len(text.Names)
				numbers[src[1:]] = n
			}
			out.WriteString(sql[copied:t.start])
			// select@a is two tokens, but select$1 is one identifier.
			if t.start > 0 && (isName(sql[t.start-1]) || sql[t.start-1] == '$') {
				out.WriteByte(' ')
			}
			out.WriteByte('$')
			out.WriteString(strconv.Itoa(n))
			// The name has taken every other byte that could run into the number.
			if t.end < len(sql) && sql[t.end] == '$' {
				out.WriteByte(' ')
			}
			copied = t.end
		}
		if text.MaxParam > 0 && len(text.Names) > 0 {
			return Text{}, errorAt(sql, t.start, "the SQL mixes @%s and %s: use names or numbers, not both", text.Names[0], sql[param.start:param.end])
		}
	}
	if len(text.Names) > 0 {
		out.WriteString(sql[copied:])
		text.SQL = out.String()
	}
	return text, nil
}

// errorAt is an error that begins with pos as line:column, both from 1, the column in characters.
func errorAt(sql string, pos int, format string, args ...any) error {
	before := sql[:pos]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Errorf("%d:%d: %s", line, column, fmt.Sprintf(format, args...))
}

// snippet is the beginning of text, short enough for a message and on one line.
func snippet(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	n := 0
	for i := range line {
		if n++; n > 32 {
			return line[:i] + "..."
		}
	}
	return line
}

// Near describes a place in the SQL, as the server counts it, from 1: its line, and a word of
// the SQL, never a literal. It returns "" if there is no such place.
func (t Text) Near(position int32) string {
	at, sql := int(position)-1, []rune(t.SQL)
	if at < 0 || at >= len(sql) {
		return ""
	}
	end := at
	for end < len(sql) && (sql[end] == '_' || sql[end] >= 'a' && sql[end] <= 'z' || sql[end] >= 'A' && sql[end] <= 'Z' ||
		end > at && sql[end] >= '0' && sql[end] <= '9') {
		end++
	}
	line := 1 + strings.Count(string(sql[:at]), "\n")
	if end == at {
		return fmt.Sprintf(" (line %d of the SQL)", line)
	}
	return fmt.Sprintf(" (line %d of the SQL, at %q)", line, string(sql[at:end]))
}

// MayEnableWrites reports whether SQL, in lower case, may make a read-only transaction writable.
func MayEnableWrites(sql string) bool {
	return strings.Contains(sql, "write") || strings.Contains(sql, "read_only")
}
