package main

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"gonum.org/v1/plot"
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
	for name, draw := range map[string]func(*results) (*plot.Plot, error){
		"latency.svg": latencyPlot, "throughput.svg": throughputPlot, "components.svg": componentsPlot,
	} {
		p, err := draw(r)
		if err == nil {
			err = p.Save(plotWidth, plotHeight, filepath.Join(folder, name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// newPlot is one with a white ground and its legend above on the left.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
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
	p.X.Tick.Marker, p.Y.Min = plot.ConstantTicks(ticks), 0
	for s, row := range r.callers[0].rows {
		if err := addLine(p, row.name, s, lines[s]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func componentsPlot(r *results) (*plot.Plot, error) {
	p := newPlot("Where the time of a command of one row goes", "ns", "")
	var values plotter.Values
	var names []string
	for i := len(r.components) - 1; i >= 0; i-- { // the first is to be on top
		values, names = append(values, r.components[i].took), append(names, r.components[i].name)
	}
	bars, err := plotter.NewBarChart(values, vg.Points(18))
	if err != nil {
		return nil, err
	}
	bars.Horizontal, bars.Color, bars.LineStyle = true, palette[3], draw.LineStyle{}
	p.Add(bars)
	p.NominalY(names...)
	return p, nil
}
