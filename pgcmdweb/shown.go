package pgcmdweb

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// shownTime renders milliseconds (a float of any size) with two digits that count: the
// histograms know no more.
func shownTime(of any) string {
	var ms float64
	switch of := of.(type) {
	case float32:
		ms = float64(of)
	case float64:
		ms = of
	}
	switch {
	case ms <= 0:
		return "0 ms"
	case ms < 0.9995:
		return digits(ms*1000) + " µs"
	case ms < 999.5:
		return digits(ms) + " ms"
	case ms < 59_950:
		return digits(ms/1000) + " s"
	case ms < 90*60_000:
		return digits(ms/60_000) + " min"
	case ms < 48*3600_000:
		return digits(ms/3600_000) + " h"
	}
	return digits(ms/(24*3600_000)) + " d"
}

// digits renders a number with a digit behind the point if it is below ten.
func digits(x float64) string {
	if x < 9.95 {
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(x, 'f', 0, 64)
}

func shownRate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 0.095:
		return strconv.FormatFloat(perSecond, 'f', 2, 64)
	}
	return shownCount(perSecond)
}

// shownCount renders a number of any kind.
func shownCount(of any) string {
	n, err := strconv.ParseFloat(fmt.Sprint(of), 64)
	switch {
	case err != nil:
		return ""
	case n < 9999.5:
		return digits(n)
	case n < 999_500:
		return digits(n/1000) + "k"
	}
	return digits(n/1_000_000) + "M"
}

func shownAge(now, at time.Time) string {
	d := now.Sub(at)
	if d < time.Second {
		return "now"
	}
	return shownTime(milliseconds(d.Truncate(time.Second))) + " ago"
}

func percent(part, of int32) int32 {
	if of <= 0 {
		return 0
	}
	return min(100, part*100/of)
}

// words renders a code for people.
func words(code string) string { return strings.ReplaceAll(code, "_", " ") }

// icon is the page's, in the colour of what is wrong, so that a tab among many shows
// it.
func icon(l level) template.URL {
	colour := map[level]string{fine: "%232f8f6b", warn: "%23c98a1b", bad: "%23d0453a"}[l]
	return template.URL("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='6' fill='" + colour + "'/></svg>")
}

// A spark is a small chart of the last minutes, as paths of an SVG.
type spark struct {
	Label string // for those who do not see it
	Width int    // in samples
	Lines []sparkLine
}

type sparkLine struct{ Class, Path string }

const sparkHeight = 24.0

// rateSpark draws the runs a second, those that failed, and of them the serious ones.
func rateSpark(span int, points []point) spark {
	var most float32
	for _, p := range points {
		most = max(most, p.rate)
	}
	height := func(of func(point) float32) []float64 {
		return heights(span, points, func(p point) (float64, bool) { return float64(of(p) / max(most, 0.001)), true })
	}
	return spark{fmt.Sprintf("runs, at most %s a second", shownRate(float64(most))), span, []sparkLine{
		{"area", area(height(func(p point) float32 { return p.rate }))},
		{"line", line(height(func(p point) float32 { return p.rate }))},
		{"ordinary", area(height(func(p point) float32 { return p.errors }))},
		{"errors", area(height(func(p point) float32 { return p.serious }))},
	}}
}

// timeSpark draws p50, p95 and p99 on one logarithmic scale. The scale spans a factor
// of ten at least, so that noise looks like noise.
func timeSpark(span int, points []point) spark {
	low, high := math.Inf(1), 0.0
	for _, p := range points {
		if p.rate > 0 {
			low, high = min(low, float64(p.p50)), max(high, float64(p.p99))
		}
	}
	if high == 0 {
		return spark{Label: "no runs", Width: span}
	}
	low = math.Log(max(low, 0.001))
	extent := math.Log(high) - low
	if least := math.Log(10); extent < least {
		low -= (least - extent) / 2
		extent = least
	}
	draw := func(of func(point) float32) string {
		return line(heights(span, points, func(p point) (float64, bool) {
			return (math.Log(max(float64(of(p)), 0.001)) - low) / extent, p.rate > 0
		}))
	}
	return spark{fmt.Sprintf("p50, p95 and p99, at most %s", shownTime(high)), span, []sparkLine{
		{"p99", draw(func(p point) float32 { return p.p99 })},
		{"p95", draw(func(p point) float32 { return p.p95 })},
		{"p50", draw(func(p point) float32 { return p.p50 })},
	}}
}

// useSpark draws the connections in use.
func useSpark(span int, points []poolPoint) spark {
	h := heights(span, points, func(p poolPoint) (float64, bool) {
		return float64(p.inUse) / float64(max(p.max, 1)), true
	})
	return spark{"connections in use", span, []sparkLine{{"area", area(h)}, {"line", line(h)}}}
}

// heights puts the latest point at the right edge; a place without one is NaN.
func heights[P any](span int, points []P, of func(P) (share float64, ok bool)) []float64 {
	list := make([]float64, span)
	for i := range list {
		list[i] = math.NaN()
	}
	for i, p := range points {
		if share, ok := of(p); ok {
			list[span-len(points)+i] = sparkHeight - 1 - share*(sparkHeight-2)
		}
	}
	return list
}

func line(heights []float64) string {
	var b strings.Builder
	drawing := false
	for x, y := range heights {
		switch {
		case math.IsNaN(y):
			drawing = false
		case !drawing:
			fmt.Fprintf(&b, "M%g %.1fh.3", float64(x)+0.5, y) // a point alone is seen
			drawing = true
		default:
			fmt.Fprintf(&b, "L%g %.1f", float64(x)+0.5, y)
		}
	}
	return b.String()
}

func area(heights []float64) string {
	var b strings.Builder
	for x, y := range heights {
		if !math.IsNaN(y) && y < sparkHeight-1 {
			fmt.Fprintf(&b, "M%d %gV%.1fh1V%g", x, sparkHeight, y, sparkHeight)
		}
	}
	return b.String()
}

// appendNumbers renders a JSON list, with three digits behind the point at most.
func appendNumbers(b []byte, list ...float32) []byte {
	b = append(b, '[')
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, math.Round(float64(x)*1000)/1000, 'f', -1, 64)
	}
	return append(b, ']')
}
