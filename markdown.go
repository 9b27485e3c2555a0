package pgcmd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
)

// WriteMarkdown writes the manifest as Markdown, with the SQL of the commands that
// are statements, so that a team can read what its service does to its database.
// The same catalog gives the same text: keep it beside the code, and a change of it
// shows in review.
func (c *Catalog) WriteMarkdown(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# Commands\n\n| Command | Does | Data | Runs |\n|---|---|---|---|\n")
	for _, name := range c.names {
		info := c.entries[name].info
		fmt.Fprintf(b, "| [%s](#%s) | %s | %s | %s |\n", cell(name), anchor(name), cell(info.Description), info.data(), info.manner())
	}
	for _, name := range c.names {
		c.entries[name].writeMarkdown(b)
	}
	return b.Flush()
}

func (l *catalogEntry) writeMarkdown(w io.Writer) {
	info := l.info
	fmt.Fprintf(w, "\n## %s\n\n", cell(info.Name))
	if info.Description != "" {
		fmt.Fprintf(w, "%s\n\n", cell(info.Description))
	}
	fmt.Fprintf(w, "- Data: %s\n- Runs: %s\n", info.data(), info.manner())
	if info.Timeout > 0 {
		fmt.Fprintf(w, "- Timeout: %v\n", info.Timeout)
	}
	if info.MaxRows > 0 {
		fmt.Fprintf(w, "- Rows: at most %d\n", info.MaxRows)
	}
	codes := make([]string, len(info.Codes))
	for i, code := range info.Codes {
		codes[i] = "`" + string(code) + "`"
	}
	fmt.Fprintf(w, "- Codes: %s\n", strings.Join(codes, ", "))
	writeFields(w, "Input", l.inputSchema)
	writeFields(w, "Output", l.outputSchema)
	if len(info.Constraints) > 0 {
		fmt.Fprintf(w, "\n| Constraint | Means | Code |\n|---|---|---|\n")
		for _, c := range info.Constraints {
			fmt.Fprintf(w, "| %s | %s | %s |\n", cell(c.Name), cell(c.Message), cell(string(c.Code)))
		}
	}
	if l.statement != nil {
		sql, fence := undented(l.statement.text.SQL), "```"
		for strings.Contains(sql, fence) {
			fence += "`"
		}
		fmt.Fprintf(w, "\n%ssql\n%s\n%s\n", fence, sql, fence)
		if len(l.params) > 0 {
			params := make([]string, len(l.params))
			for i, p := range l.params {
				if at, ok := jsonfields.Path(l.in, p); ok {
					p = at
				}
				params[i] = fmt.Sprintf("`$%d` is %s", i+1, cell(p))
			}
			fmt.Fprintf(w, "\n%s\n", strings.Join(params, ", "))
		}
	}
}

func (i *CommandInfo) data() string {
	if i.ReadOnly {
		return "reads only"
	}
	return "may change"
}

func (i *CommandInfo) manner() string {
	manner := []string{"on its own"}
	if i.Transaction {
		manner[0] = "in a transaction"
	}
	if i.Once {
		manner = append(manner, "once for each key")
	}
	if i.Attempts > 1 {
		manner = append(manner, fmt.Sprintf("up to %d attempts", i.Attempts))
	}
	return strings.Join(manner, ", ")
}

// writeFields writes a table of the fields, those of objects within it included.
func writeFields(w io.Writer, title string, s *schema) {
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

func fieldRows(s *schema, path string, input bool, rows [][3]string) [][3]string {
	fields, _ := s.get("properties").(properties)
	required, _ := s.get("required").([]string)
	for _, f := range fields {
		at := strings.TrimPrefix(path+"."+f.name, ".")
		rules := ruleTexts(f.schema)
		if input && slices.Contains(required, f.name) {
			rules = append([]string{"required"}, rules...)
		}
		rows = append(rows, [3]string{at, typeText(f.schema), strings.Join(rules, ", ")})
		rows = fieldRows(f.schema, at, input, rows)
	}
	if items, ok := s.get("items").(*schema); ok {
		rows = fieldRows(items, path+"[]", input, rows)
	}
	if values, ok := s.get("additionalProperties").(*schema); ok {
		rows = fieldRows(values, path+"[key]", input, rows)
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		choices, _ := s.get(word).([]*schema)
		for _, choice := range choices {
			rows = fieldRows(choice, path, input, rows)
		}
	}
	return rows
}

// typeText names the type of a schema: array of string, or null.
func typeText(s *schema) string {
	if ref, ok := s.get("$ref").(string); ok {
		return strings.TrimPrefix(ref, "#/$defs/")
	}
	if choices, ok := s.get("anyOf").([]*schema); ok { // or null, or the zero value
		if zero := choices[1].get("const"); zero != nil {
			return typeText(choices[0]) + " or " + jsonText(zero)
		}
		return typeText(choices[0]) + " or " + typeText(choices[1])
	}
	var text string
	switch t := s.get("type").(type) {
	case string:
		text = t
	case []string:
		text = t[0]
	default:
		if value := s.get("const"); value != nil {
			return jsonText(value)
		}
		return "any"
	}
	if format, ok := s.get("format").(string); ok {
		text = format
	}
	if s.get("contentEncoding") != nil {
		text = "base64"
	}
	if items, ok := s.get("items").(*schema); ok {
		text += " of " + typeText(items)
	}
	if values, ok := s.get("additionalProperties").(*schema); ok {
		text += " of " + typeText(values)
	}
	if t, ok := s.get("type").([]string); ok {
		text += " or " + t[1]
	}
	return text
}

// ruleTexts are the keywords that say what a value must be, beside its type.
func ruleTexts(s *schema) []string {
	for choices, ok := s.get("anyOf").([]*schema); ok; choices, ok = s.get("anyOf").([]*schema) {
		s = choices[0]
	}
	var texts []string
	for _, k := range s.keywords {
		switch k.name {
		case "minimum", "maximum":
			// The bounds of a Go type say nothing that its name would not.
			if !typeBound(k.value) {
				texts = append(texts, fmt.Sprintf("%s %v", k.name, k.value))
			}
		case "writeOnly":
			texts = append(texts, "secret")
		case "description":
			texts = append(texts, fmt.Sprint(k.value))
		case "uniqueItems":
			texts = append(texts, "unique")
		case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "exclusiveMinimum", "exclusiveMaximum", "pattern":
			texts = append(texts, fmt.Sprintf("%s %v", k.name, k.value))
		case "enum", "const", "not":
			texts = append(texts, k.name+" "+jsonText(k.value))
		}
	}
	return texts
}

func jsonText(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

func typeBound(value any) bool {
	n, ok := value.(json.Number)
	return ok && slices.Contains([]json.Number{"-128", "127", "255", "-32768", "32767", "65535", "-2147483648", "2147483647", "4294967295",
		"-9223372036854775808", "9223372036854775807", "18446744073709551615"}, n)
}

// cell is text that stays within a cell of a table, and means nothing to Markdown.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "`", "\\`").Replace(text)
}

// anchor is what a heading is called in a link.
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

// undented takes away the indentation that SQL has from the Go code around it.
func undented(sql string) string {
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
