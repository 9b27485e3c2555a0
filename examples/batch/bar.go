package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A bar shows how far something is, in a terminal; elsewhere it shows nothing.
type bar struct {
	out   io.Writer // nil if it is no terminal
	name  string
	total int
	last  time.Time
}

func newBar(out io.Writer, name string, total int) *bar {
	b := &bar{name: name, total: total}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			b.out = out
		}
	}
	return b
}

func (b *bar) show(done int) {
	if b.out == nil || time.Since(b.last) < 50*time.Millisecond && done < b.total {
		return
	}
	b.last = time.Now()
	const width = 40
	full := width * done / b.total
	fmt.Fprintf(b.out, "\r%-20s [%s%s] %3d%%", b.name, strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*done/b.total)
}

// end takes the bar away.
func (b *bar) end() {
	if b.out != nil {
		fmt.Fprintf(b.out, "\r%*s\r", 80, "")
	}
}
