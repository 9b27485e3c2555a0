package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	width  = 80 // of a terminal that nobody has resized
	indent = "  "
)

// A terminal is where the tour is shown.
type terminal struct {
	out    io.Writer
	colour bool
}

// newTerminal uses colour if somebody can see it and has not refused it.
func newTerminal(out *os.File) *terminal {
	info, err := out.Stat()
	seen := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &terminal{out: out, colour: seen && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// The styles, as ANSI escapes.
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	heading = "1;36" // blue is hard to read on black
)

func (t *terminal) paint(style, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (t *terminal) banner(format string, args ...any) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint(bold, fmt.Sprintf(format, args...)))
}

func (t *terminal) note(format string, args ...any) {
	fmt.Fprintln(t.out, t.paint(dim, fmt.Sprintf(format, args...)))
}

func (t *terminal) title(number int, title string) {
	fmt.Fprintf(t.out, "\n%s\n", t.paint(heading, fmt.Sprintf("%d. %s", number, title)))
}

// code shows lines of Go.
func (t *terminal) code(code string) {
	if code == "" {
		return
	}
	fmt.Fprintln(t.out)
	for line := range strings.SplitSeq(strings.ReplaceAll(code, "\t", "    "), "\n") {
		fmt.Fprintln(t.out, strings.TrimRight(indent+line, " "))
	}
}

// outcome shows what an expression came to.
func (t *terminal) outcome(expression, value string, ok bool) {
	style := green
	if !ok {
		style = red
	}
	lines := wrap(expression+" = "+value, width-len(indent))
	first := strings.TrimPrefix(lines[0], expression)
	fmt.Fprintln(t.out, t.paint(style, "→ ")+expression+t.paint(style, first))
	for _, line := range lines[1:] {
		fmt.Fprintln(t.out, indent+t.paint(style, line))
	}
}

// Write shows a line of a log.
func (t *terminal) Write(line []byte) (int, error) {
	_, err := fmt.Fprintf(t.out, "%s%s", indent, line)
	return len(line), err
}

// logger is a zap logger as services have it, without the time of day.
func (t *terminal) logger() *zap.Logger {
	config := zap.NewDevelopmentEncoderConfig()
	config.TimeKey, config.ConsoleSeparator = "", "  "
	config.EncodeDuration = func(d time.Duration, to zapcore.PrimitiveArrayEncoder) {
		to.AppendString(d.Round(10 * time.Microsecond).String())
	}
	if t.colour {
		config.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(config), zapcore.AddSync(t), zap.InfoLevel))
}

// wrap breaks text into lines of at most size runes, after a space or a comma
// where there is one.
func wrap(text string, size int) []string {
	var lines []string
	rest := []rune(text)
	for len(rest) > size {
		end := size
		for i := size; i > size/2; i-- {
			if rest[i-1] == ',' || rest[i-1] == ' ' {
				end = i
				break
			}
		}
		lines = append(lines, strings.TrimRight(string(rest[:end]), " "))
		rest = rest[end:]
	}
	return append(lines, string(rest))
}
