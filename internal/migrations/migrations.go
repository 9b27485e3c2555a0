// Package migrations reads the files that make a schema, by the conventions of goose, golang-migrate, dbmate, atlas, tern,
// sql-migrate, prisma, diesel and of plain SQL, and runs what they do on the way up.
package migrations

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A File is a file of SQL to run.
type File struct {
	Path       string
	Tool       string // by whose conventions it is read: goose, golang-migrate, ...; plain for SQL as it is
	Statements []Statement
}

// A Statement is one of a file.
type Statement struct {
	SQL  string
	Line int // at which it begins
}

// InGo returns the names of the migrations of a folder that are programs, which cannot be run here.
func InGo(folder string) (names []string) {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if version(e.Name()) != nil && strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			names = append(names, e.Name())
		}
	}
	return names
}

// Read reads files, and the folders that hold files, in the order in which they are to be run.
func Read(paths ...string) ([]File, error) {
	var files []File
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			f, err := readFile(path, toolOf(path))
			if err != nil {
				return nil, err
			}
			files = append(files, f)
			continue
		}
		folder, err := readFolder(path)
		if err != nil {
			return nil, err
		}
		files = append(files, folder...)
	}
	return files, nil
}

func readFolder(folder string) ([]File, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	atlas, upDown := false, false
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, "."): // of an editor, or of macOS
		case e.IsDir():
			for _, inside := range []string{"up.sql", "migration.sql"} { // of diesel and of prisma
				if _, err := os.Stat(filepath.Join(folder, name, inside)); err == nil {
					names = append(names, filepath.Join(name, inside))
				}
			}
		case name == "atlas.sum":
			atlas = true
		case strings.HasSuffix(name, ".sql"):
			names = append(names, name)
			upDown = upDown || strings.HasSuffix(name, ".up.sql")
		}
	}
	if upDown { // of golang-migrate
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".down.sql") })
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no file .sql", folder)
	}
	slices.SortFunc(names, compareNames)
	var files []File
	for _, name := range names {
		path := filepath.Join(folder, name)
		tool := toolOf(path)
		if atlas && tool == "plain" { // it writes the folders of other tools too
			tool = "atlas"
		}
		f, err := readFile(path, tool)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	// A checkpoint of atlas is all that came before it.
	for i := len(files) - 1; i >= 0; i-- {
		if files[i].Tool == "atlas" && isCheckpoint(files[i].Path) {
			return files[i:], nil
		}
	}
	return files, nil
}

// compareNames orders file names by the number that they begin with, and else as texts.
func compareNames(a, b string) int {
	if x, y := version(a), version(b); x != nil && y != nil {
		if c := compareNumbers(*x, *y); c != 0 {
			return c
		}
	}
	return strings.Compare(a, b)
}

var leadingNumber = regexp.MustCompile(`^[vV]?(\d+)`)

func version(name string) *string {
	found := leadingNumber.FindStringSubmatch(name)
	if found == nil {
		return nil
	}
	return &found[1]
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// A marker is a line that divides a file of a tool.
type marker struct {
	tool     string
	pattern  *regexp.Regexp
	up, down string // what follows the marker
}

var markers = []marker{
	{"goose", regexp.MustCompile(`(?i)^\s*--\s*\+goose\s+(.*)$`), "up", "down"},
	{"dbmate", regexp.MustCompile(`(?i)^\s*--\s*migrate:(up|down)\b.*$`), "up", "down"},
	{"sql-migrate", regexp.MustCompile(`(?i)^\s*--\s*\+migrate\s+(.*)$`), "up", "down"},
	{"tern", regexp.MustCompile(`^\s*----\s*(create above / drop below)\s*----\s*$`), "", "create above / drop below"},
}

// toolOf tells the tool by the name and the markers of a file.
func toolOf(path string) string {
	if strings.HasSuffix(path, ".up.sql") {
		return "golang-migrate"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "plain"
	}
	for line := range strings.Lines(string(text)) {
		for _, m := range markers {
			if m.pattern.MatchString(strings.TrimRight(line, "\r\n")) {
				return m.tool
			}
		}
	}
	return "plain"
}

func isCheckpoint(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.HasPrefix(string(text), "-- atlas:checkpoint")
}

func readFile(path, tool string) (File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	f := File{Path: path, Tool: tool}
	f.Statements, err = split(upPart(strings.TrimPrefix(string(text), "\ufeff"), tool))
	if err != nil {
		return File{}, fmt.Errorf("%s:%w", path, err)
	}
	return f, nil
}

// upPart blanks the lines that are not to be run, so that those that are keep their numbers: what is for the way down,
// psql's own commands, and the rows of COPY FROM stdin.
func upPart(text, tool string) string {
	var b strings.Builder
	up, rows := true, false
	var m *marker
	for i := range markers {
		if markers[i].tool == tool {
			m = &markers[i]
			up = m.tool == "tern" // all others begin with a marker
		}
	}
	for line := range strings.Lines(text) {
		content := strings.TrimRight(line, "\r\n")
		ending := line[len(content):]
		if m != nil {
			if found := m.pattern.FindStringSubmatch(content); found != nil {
				word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(found[1])), " ")
				switch {
				case m.tool == "tern":
					up = false
				case word == m.up:
					up = true
				case word == m.down:
					up = false
				}
				content = ""
			}
		}
		switch {
		case rows:
			rows = content != `\.`
			content = ""
		case strings.HasPrefix(content, `\`):
			content = ""
		case up && copyFromStdin.MatchString(content):
			rows, content = true, ""
		}
		if !up {
			content = ""
		}
		b.WriteString(content + ending)
	}
	return b.String()
}

var copyFromStdin = regexp.MustCompile(`(?i)^copy\s.*\sfrom\s+stdin\b.*;\s*$`)

// ofServer reports whether a statement is about databases as wholes, roles that there are, tablespaces, or the settings of
// the server. Those are not of the schema: a dump may drop and alter the database that it was taken from and its roles,
// which may be on this server too.
func ofServer(toks []sqltext.Token) bool {
	if len(toks) < 3 {
		return false
	}
	switch toks[0].Word {
	case "create":
		return toks[1].Word == "database" || toks[1].Word == "tablespace"
	case "drop", "alter":
		return slices.Contains([]string{"database", "system", "tablespace", "role", "group"}, toks[1].Word) || toks[1].Word == "user" && toks[2].Word != "mapping"
	case "comment":
		return toks[2].Word == "database"
	case "grant", "revoke":
		on := slices.IndexFunc(toks, func(t sqltext.Token) bool { return t.Word == "on" })
		return on > 0 && on+1 < len(toks) && toks[on+1].Word == "database"
	}
	return false
}

// named is the annotation of a query of sqlc, which may be in the file of its schema.
var named = regexp.MustCompile(`(?m)^\s*--\s*name:\s*\w+\s+:\w+`)

// split splits a text into statements, without those that are queries for sqlc. The error begins with line:column.
func split(text string) (statements []Statement, err error) {
	toks, err := sqltext.Lex(text)
	if err != nil {
		return nil, err
	}
	from, depth, atomic := -1, 0, 0
	for i, t := range toks {
		if from < 0 && t.Char != ';' {
			from = i
		}
		switch {
		case t.Char == '(':
			depth++
		case t.Char == ')':
			depth--
		case t.Word == "atomic" && i > 0 && toks[i-1].Word == "begin":
			atomic++
		case atomic > 0 && t.Word == "case":
			atomic++
		case atomic > 0 && t.Word == "end":
			atomic--
		}
		if from >= 0 && (i == len(toks)-1 || t.Char == ';' && depth <= 0 && atomic == 0) {
			end := t.End
			if t.Char == ';' {
				end = t.Start
			}
			start, before := toks[from].Start, 0
			if from > 0 {
				before = toks[from-1].End
			}
			if !named.MatchString(text[before:start]) && !ofServer(toks[from:i+1]) {
				statements = append(statements, Statement{SQL: text[start:end], Line: 1 + strings.Count(text[:start], "\n")})
			}
			from, depth, atomic = -1, 0, 0
		}
	}
	return statements, nil
}
