package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/pgcmd/pgcmd/internal/workload"
)

const (
	plotWidth  = 18 * vg.Centimeter
	plotHeight = 10 * vg.Centimeter
)

// palette tells the sides apart, also for those who do not see every colour (Okabe and Ito's).
var palette = []color.Color{
	color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff},
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	color.RGBA{0x56, 0xb4, 0xe9, 0xff},
}

func plots(folder string, r *results) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	for name, draw := range map[string]func(*results) (*plot.Plot, error){
		"latency.svg": latencyPlot, "throughput.svg": throughputPlot, "components.svg": componentsPlot, "large.svg": largePlot,
	} {
		p, err := draw(r)
		if err == nil {
			err = save(p, filepath.Join(folder, name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// save writes an SVG that needs no font of its own: it names those that take the room that the plot was laid out for, and
// is a little smaller, for a viewer that has none of them.
func save(p *plot.Plot, file string) error {
	canvas, err := p.WriterTo(plotWidth, plotHeight, "svg")
	if err != nil {
		return err
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	text := regexp.MustCompile(`font-family:[^;"]*`).ReplaceAllString(svg.String(), "font-family:'Liberation Sans',Arial,Helvetica,sans-serif")
	text = strings.ReplaceAll(text, "font-size:12px", "font-size:10.5px")
	return os.WriteFile(file, []byte(text), 0o644)
}

// newPlot is one with a white ground and its legend above on the left.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Padding, p.Legend.Padding = vg.Points(8), vg.Points(3)
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	return p
}

func addLine(p *plot.Plot, name string, i int, points plotter.XYs) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = palette[i%len(palette)], vg.Points(1.5)
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

// latencyPlot has the percentiles of a row on PostgreSQL, the higher the closer to 100 the more room.
func latencyPlot(r *results) (*plot.Plot, error) {
	t, ok := find(r.server, workload.One.Name)
	if !ok {
		return nil, fmt.Errorf("no latencies were measured")
	}
	p := newPlot("One row on PostgreSQL: how long the fraction of runs took at most", "percentile", "µs")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(logTicks(10, 100_000))
	p.X.Max = 3.1
	p.X.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"}, {Value: 3, Label: "99.9"}}
	shown := 0
	for _, row := range t.rows {
		switch row.name {
		case ours, pooled, byHand, "database/sql", "sqlx", "bun, prepared", "gorm":
		default:
			continue
		}
		var points plotter.XYs
		for x := 0.0; x <= 3; x += 0.02 {
			points = append(points, plotter.XY{X: x, Y: float64(row.latency.At(1-math.Pow(10, -x))) / float64(time.Microsecond)})
		}
		if err := addLine(p, row.name, shown, points); err != nil {
			return nil, err
		}
		shown++
	}
	return p, nil
}

func logTicks(low, high float64) (ticks []plot.Tick) {
	for v := low; v <= high; v *= 10 {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
		for k := 2.0; k < 10; k++ {
			ticks = append(ticks, plot.Tick{Value: k * v})
		}
	}
	return ticks
}

func throughputPlot(r *results) (*plot.Plot, error) {
	p := newPlot(fmt.Sprintf("Goroutines on %d connections", maxConns), "goroutines", "rows a second")
	var ticks []plot.Tick
	lines := make([]plotter.XYs, len(r.callers[0].rows))
	for i, t := range r.callers {
		ticks = append(ticks, plot.Tick{Value: math.Log2(float64(manyCallers[i])), Label: t.work})
		for s, row := range t.rows {
			lines[s] = append(lines[s], plotter.XY{X: math.Log2(float64(manyCallers[i])), Y: 1e9 / row.time.Median})
		}
	}
	p.Y.Tick.Marker = wholeTicks{}
	p.X.Tick.Marker, p.X.Max, p.Y.Min = plot.ConstantTicks(ticks), 7, 0
	p.Legend.Top, p.Legend.Left = false, false // where no line goes
	for s, row := range r.callers[0].rows {
		if err := addLine(p, row.name, s, lines[s]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// largePlot has what a result takes by its number of rows, both on scales where what is linear is a straight line that rises
// by ten at each ten.
func largePlot(r *results) (*plot.Plot, error) {
	p := newPlot("Results of 10 to 1,000,000 rows, client work: CPU time and memory", "rows", "µs, KB")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(logTicks(10, 1_000_000))
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(logTicks(1, 1_000_000))
	for s, name := range []string{ours, byHand} {
		var times, memory plotter.XYs
		for i, t := range r.large {
			rows := float64(largeWorks[i].Rows)
			times = append(times, plotter.XY{X: rows, Y: t.rows[s].time.Median / 1e3})
			memory = append(memory, plotter.XY{X: rows, Y: t.rows[s].bytes / 1e3})
		}
		if err := addLine(p, name+", µs", 2*s, times); err != nil {
			return nil, err
		}
		if err := addLine(p, name+", KB", 2*s+1, memory); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func componentsPlot(r *results) (*plot.Plot, error) {
	p := newPlot("Where the time of a command of one row goes", "µs", "")
	var values plotter.Values
	var names []string
	for i := len(r.components) - 1; i >= 0; i-- { // the first is to be on top
		c := r.components[i]
		values, names = append(values, c.took/1e3), append(names, c.name+": "+ns(c.took))
	}
	bars, err := plotter.NewBarChart(values, vg.Points(18))
	if err != nil {
		return nil, err
	}
	bars.Horizontal, bars.Color, bars.LineStyle = true, palette[3], draw.LineStyle{}
	p.Add(bars)
	p.NominalY(names...)
	p.X.Tick.Marker = wholeTicks{}
	return p, nil
}

// wholeTicks labels with whole numbers.
type wholeTicks struct{}

func (wholeTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = number(math.Round(t.Value))
		}
	}
	return ticks
}
