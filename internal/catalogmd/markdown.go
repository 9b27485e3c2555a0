// Package catalogmd writes the commands of a catalog as Markdown. It knows only what an Entry
// holds.
package catalogmd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/jsonschema"
)

// An Entry describes one command.
type Entry struct {
	Name, Description           string
	Input, Output               *jsonschema.Schema
	ReadOnly, Transaction, Once bool
	Attempts                    int
	Timeout                     time.Duration // zero: none
	MaxRows                     int           // zero: no limit
	Codes                       []string
	Constraints                 []Constraint
	SQL                         string // of a command that is one statement
	Built                       bool   // the SQL is made by a Go function
	Params                      []Param
	Parts                       []Part
	Choices                     []Choice
}

// A Param is a placeholder of the SQL.
type Param struct{ Name, Field string }

// A Part is an optional part of the SQL, with what has to be set for it, as the SQL names it.
type Part struct {
	SQL    string
	Fields []string
}

// A Choice is what a field chooses the SQL of.
type Choice struct {
	Field   string
	Options []string
}

// A Constraint is a constraint that has an error of its own.
type Constraint struct{ Name, Message, Code string }

// Write writes a table of the entries, and then a section for each. The same entries give
// the same text.
func Write(w io.Writer, entries []Entry) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# Commands\n\n| Command | Does | Data | Runs |\n|---|---|---|---|\n")
	taken := anchors{"commands": 0}
	for _, e := range entries {
		fmt.Fprintf(b, "| [%s](#%s) | %s | %s | %s |\n", cell(e.Name), taken.of(e.Name), cell(e.Description), e.data(), e.runs())
	}
	for _, e := range entries {
		e.write(b)
	}
	return b.Flush()
}

func (e *Entry) write(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n", cell(e.Name))
	if e.Description != "" {
		fmt.Fprintf(w, "%s\n\n", cell(e.Description))
	}
	fmt.Fprintf(w, "- Data: %s\n- Runs: %s\n", e.data(), e.runs())
	if e.Timeout > 0 {
		fmt.Fprintf(w, "- Timeout: %v\n", e.Timeout)
	}
	if e.MaxRows > 0 {
		fmt.Fprintf(w, "- Rows: at most %d\n", e.MaxRows)
	}
	fmt.Fprintf(w, "- Codes: `%s`\n", strings.Join(e.Codes, "`, `"))
	writeFields(w, "Input", e.Input)
	writeFields(w, "Output", e.Output)
	if len(e.Constraints) > 0 {
		fmt.Fprintf(w, "\n| Constraint | Means | Code |\n|---|---|---|\n")
		for _, c := range e.Constraints {
			fmt.Fprintf(w, "| %s | %s | %s |\n", cell(c.Name), cell(c.Message), cell(c.Code))
		}
	}
	if e.Built {
		fmt.Fprintf(w, "\nThe SQL is made by a Go function for each input.\n")
	}
	if e.SQL == "" {
		return
	}
	sql, fence := dedent(e.SQL), "```"
	for strings.Contains(sql, fence) {
		fence += "`"
	}
	fmt.Fprintf(w, "\n%ssql\n%s\n%s\n", fence, sql, fence)
	if len(e.Params) > 0 {
		params := make([]string, len(e.Params))
		for i, p := range e.Params {
			params[i] = fmt.Sprintf("`%s` is %s", p.Name, cell(p.Field))
		}
		fmt.Fprintf(w, "\n%s\n", strings.Join(params, ", "))
	}
	if len(e.Parts)+len(e.Choices) > 0 {
		fmt.Fprintln(w)
	}
	for _, p := range e.Parts {
		are := "is"
		if len(p.Fields) > 1 {
			are = "are"
		}
		fmt.Fprintf(w, "- sent if `@%s` %s set: `%s`\n", strings.Join(p.Fields, "` and `@"), are, strings.Join(strings.Fields(p.SQL), " "))
	}
	for _, c := range e.Choices {
		fmt.Fprintf(w, "- chosen by %s: `%s`, or the default\n", cell(c.Field), strings.Join(c.Options, "`, `"))
	}
}

func (e *Entry) data() string {
	if e.ReadOnly {
		return "reads only"
	}
	return "may change"
}

func (e *Entry) runs() string {
	runs := []string{"on its own"}
	if e.Transaction {
		runs[0] = "in a transaction"
	}
	if e.Once {
		runs = append(runs, "once for each key")
	}
	if e.Attempts > 1 {
		runs = append(runs, fmt.Sprintf("up to %d attempts", e.Attempts))
	}
	return strings.Join(runs, ", ")
}

// writeFields writes a table of the fields, also of those of nested objects.
func writeFields(w io.Writer, title string, s *jsonschema.Schema) {
	rows := fieldRows(s, "", title == "Input", nil)
	if len(rows) == 0 {
		fmt.Fprintf(w, "\n%s: %s\n", title, typeText(s))
		return
	}
	fmt.Fprintf(w, "\n%s: %s\n\n| Field | Type | Rules |\n|---|---|---|\n", title, typeText(s))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s | %s | %s |\n", cell(row[0]), cell(row[1]), cell(row[2]))
	}
}

func fieldRows(s *jsonschema.Schema, path string, input bool, rows [][3]string) [][3]string {
	fields, _ := s.Get("properties").(jsonschema.Properties)
	required, _ := s.Get("required").([]string)
	for _, f := range fields {
		at := strings.TrimPrefix(path+"."+f.Name, ".")
		rules := ruleTexts(f.Schema)
		if input && slices.Contains(required, f.Name) {
			rules = append([]string{"required"}, rules...)
		}
		rows = append(rows, [3]string{at, typeText(f.Schema), strings.Join(rules, ", ")})
		rows = fieldRows(f.Schema, at, input, rows)
	}
	if items, ok := s.Get("items").(*jsonschema.Schema); ok {
		rows = fieldRows(items, path+"[]", input, rows)
	}
	if values, ok := s.Get("additionalProperties").(*jsonschema.Schema); ok {
		rows = fieldRows(values, path+"[key]", input, rows)
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		choices, _ := s.Get(word).([]*jsonschema.Schema)
		for _, choice := range choices {
			rows = fieldRows(choice, path, input, rows)
		}
	}
	return rows
}

// typeText names the type of a schema: array of string, or null.
func typeText(s *jsonschema.Schema) string {
	if ref, ok := s.Get("$ref").(string); ok {
		return strings.TrimPrefix(ref, "#/$defs/")
	}
	if choices, ok := s.Get("anyOf").([]*jsonschema.Schema); ok { // the second is null, or the zero value
		if zero := choices[1].Get("const"); zero != nil {
			return typeText(choices[0]) + " or " + jsonText(zero)
		}
		return typeText(choices[0]) + " or " + typeText(choices[1])
	}
	var text string
	switch t := s.Get("type").(type) {
	case string:
		text = t
	case []string:
		text = t[0]
	default:
		if value := s.Get("const"); value != nil {
			return jsonText(value)
		}
		return "any"
	}
	if format, ok := s.Get("format").(string); ok {
		text = format
	}
	if s.Get("contentEncoding") != nil {
		text = "base64"
	}
	if items, ok := s.Get("items").(*jsonschema.Schema); ok {
		text += " of " + typeText(items)
	}
	if values, ok := s.Get("additionalProperties").(*jsonschema.Schema); ok {
		text += " of " + typeText(values)
	}
	if t, ok := s.Get("type").([]string); ok {
		text += " or " + t[1]
	}
	return text
}

// ruleTexts returns the keywords that restrict a value beyond its type.
func ruleTexts(s *jsonschema.Schema) []string {
	for choices, ok := s.Get("anyOf").([]*jsonschema.Schema); ok; choices, ok = s.Get("anyOf").([]*jsonschema.Schema) {
		s = choices[0]
	}
	var texts []string
	for _, k := range s.Keywords {
		switch k.Name {
		case "minimum", "maximum":
			if !isTypeBound(k.Value) {
				texts = append(texts, fmt.Sprintf("%s %v", k.Name, k.Value))
			}
		case "writeOnly":
			texts = append(texts, "secret")
		case "description":
			texts = append(texts, fmt.Sprint(k.Value))
		case "uniqueItems":
			texts = append(texts, "unique")
		case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "exclusiveMinimum", "exclusiveMaximum", "pattern":
			texts = append(texts, fmt.Sprintf("%s %v", k.Name, k.Value))
		case "not":
			texts = append(texts, "not "+jsonText(k.Value.(*jsonschema.Schema).Get("const"))) // of a required number
		case "enum", "const":
			texts = append(texts, k.Name+" "+jsonText(k.Value))
		}
	}
	return texts
}

func jsonText(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// isTypeBound reports whether a bound is that of a Go integer type, which is no rule.
func isTypeBound(value any) bool {
	n, ok := value.(json.Number)
	return ok && slices.Contains([]json.Number{"-128", "127", "255", "-32768", "32767", "65535", "-2147483648", "2147483647", "4294967295",
		"-9223372036854775808", "9223372036854775807", "18446744073709551615"}, n)
}

// cell escapes text for a cell of a table.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "`", "\\`").Replace(text)
}

// anchors are the fragments of the headings so far, with the number of the last that was added to
// each: GitHub numbers headings that would have the same.
type anchors map[string]int

// of returns the fragment of the next heading, for a link.
func (a anchors) of(heading string) string {
	plain := anchor(heading)
	fragment := plain
	for n, taken := a[fragment]; taken; _, taken = a[fragment] {
		n++
		a[plain], fragment = n, fmt.Sprintf("%s-%d", plain, n)
	}
	a[fragment] = 0
	return fragment
}

func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, heading)
}

// dedent removes the indentation that SQL has from the Go code around it.
func dedent(sql string) string {
	lines := strings.Split(strings.TrimSpace(sql), "\n")
	least := -1
	for _, line := range lines[1:] {
		if indent := len(line) - len(strings.TrimLeft(line, " \t")); strings.TrimSpace(line) != "" && (least < 0 || indent < least) {
			least = indent
		}
	}
	for i, line := range lines[1:] {
		lines[i+1] = strings.TrimRight(line[min(max(least, 0), len(line)):], " \t")
	}
	return strings.Join(lines, "\n")
}
