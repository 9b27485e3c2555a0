package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A style is a colour of a terminal.
type style string

const (
	bold  style = "1"
	dim   style = "2"
	red   style = "31"
	green style = "32"
	amber style = "33"
	blue  style = "36"
)

// paint colours a text, if the output is a terminal.
func (a *app) paint(s style, text string) string {
	if !a.color || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// A cell is a text in a table, and its colour.
type cell struct {
	text  string
	style style
}

// table writes rows in columns as wide as their widest text.
func (a *app) table(w io.Writer, indent string, rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 { // the last one ends where it ends
				widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
			}
		}
	}
	for _, row := range rows {
		line := indent
		for i, c := range row {
			text := c.text
			if c.style != "" {
				text = a.paint(c.style, text)
			}
			line += text
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// progress says what is done, in one line that the next one is written over; nothing if nobody watches.
func (a *app) progress(format string, args ...any) {
	if a.live {
		fmt.Fprint(a.stderr, "\r\x1b[K"+withoutPasswords(fmt.Sprintf(format, args...)))
	}
}

// progressDone takes the line away.
func (a *app) progressDone() {
	if a.live {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
}

// writeJSON writes a value for tools.
func (a *app) writeJSON(value any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
