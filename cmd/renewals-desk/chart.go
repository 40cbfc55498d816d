package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/klarna-renewals/renewals/worker/desk/books"
)

const (
	chartWidth  = 900 * vg.Length(0.75) // 900 pixels of 1/96 inch
	chartHeight = 340 * vg.Length(0.75)
)

// palette is told apart by most who see colours differently, too: Okabe and Ito, https://jfly.uni-koeln.de/color/.
var palette = []color.Color{
	color.NRGBA{0x00, 0x72, 0xb2, 0xff}, color.NRGBA{0xe6, 0x9f, 0x00, 0xff}, color.NRGBA{0x00, 0x9e, 0x73, 0xff},
	color.NRGBA{0xcc, 0x79, 0xa7, 0xff}, color.NRGBA{0x56, 0xb4, 0xe9, 0xff}, color.NRGBA{0x99, 0x99, 0x99, 0xff},
}

var (
	ink  = color.NRGBA{0x24, 0x29, 0x2f, 0xff}
	soft = color.NRGBA{0x57, 0x60, 0x6a, 0xff}
	rule = color.NRGBA{0xd0, 0xd7, 0xde, 0xff}
)

// render draws charts below each other, as one SVG.
func render(charts []chart) ([]byte, error) {
	canvas := vgsvg.New(chartWidth, chartHeight*vg.Length(len(charts)))
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	for i, c := range charts {
		p, err := c.plot()
		if err != nil {
			return nil, err
		}
		top := all.Max.Y - chartHeight*vg.Length(i)
		part := draw.Canvas{Canvas: all.Canvas, Rectangle: vg.Rectangle{Min: vg.Point{X: all.Min.X, Y: top - chartHeight}, Max: vg.Point{X: all.Max.X, Y: top}}}
		part = draw.Crop(part, 14, -20, 10, -12)
		c.head(part)
		p.Draw(draw.Crop(part, 0, 0, 0, -44))
	}
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	// Liberation is as wide as these, which are what most machines have.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Helvetica,Arial,Liberation Sans,sans-serif")), err
}

// head is the title, and below it what each colour means.
func (c chart) head(at draw.Canvas) {
	title := written(13, ink)
	title.YAlign = text.YTop
	at.FillText(title, vg.Point{X: at.Min.X, Y: at.Max.Y}, c.title)
	if len(c.series) < 2 {
		return
	}
	const swatch = 8
	x, y := at.Min.X, at.Max.Y-30
	for i, s := range c.series {
		at.FillPolygon(palette[i%len(palette)], []vg.Point{{X: x, Y: y}, {X: x + swatch, Y: y}, {X: x + swatch, Y: y + swatch}, {X: x, Y: y + swatch}})
		name := written(9.5, ink)
		at.FillText(name, vg.Point{X: x + swatch + 4, Y: y}, s.name)
		x += swatch + 20 + name.Width(s.name)*1.1
	}
}

func (c chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Y.Label.Text, p.Y.Label.TextStyle = c.unit, written(9.5, soft)
	p.Y.Label.TextStyle.XAlign, p.Y.Label.TextStyle.YAlign = text.XCenter, text.YBottom
	p.Y.Label.Padding, p.Y.Padding, p.X.Padding = 4, 0, 0
	p.Y.Tick.Label, p.X.Tick.Label = written(9, soft), written(9, soft)
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = text.XRight, text.YCenter
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XCenter, text.YTop
	p.Y.LineStyle.Width, p.Y.Tick.Length, p.X.Tick.Length = 0, 0, 3
	p.X.LineStyle.Color, p.X.Tick.Color = soft, soft
	grid := plotter.NewGrid()
	grid.Vertical.Width, grid.Horizontal.Color = 0, rule
	p.Add(grid)

	room := float64(chartWidth-90) / float64(max(len(c.labels), 1))
	var below *plotter.BarChart
	for i, s := range c.series {
		bars, err := plotter.NewBarChart(plotter.Values(s.values), vg.Length(min(room*0.72, 60)))
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = palette[i%len(palette)], 0
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
	}
	c.scale(p)
	p.X.Tick.Marker = plot.ConstantTicks(c.marks())
	p.X.Min, p.X.Max = -0.6, float64(len(c.labels))-0.4
	return p, nil
}

// label is what stands below a bar.
func (c chart) label(i int) string {
	t, err := time.Parse(time.DateOnly, c.labels[i])
	switch {
	case !c.days || err != nil:
		return c.labels[i]
	case c.span == books.Months:
		return t.Format("Jan 2006")
	}
	return t.Format("2 Jan")
}

// scale ends the axis of numbers with a mark above the highest bar.
func (c chart) scale(p *plot.Plot) {
	highest := 0.0
	for i := range c.labels {
		sum := 0.0
		for _, s := range c.series {
			sum += s.values[i]
		}
		highest = max(highest, sum)
	}
	if c.percent {
		highest = 100
	}
	step := mark(max(highest, 1) / 5)
	p.Y.Min, p.Y.Max = 0, math.Ceil(max(highest, 1)/step)*step
	var ticks []plot.Tick
	for v := 0.0; v <= p.Y.Max+step/2; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: grouped(v)})
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
}

// marks are the labels below the bars. Of many days an axis shows as many as have room.
func (c chart) marks() (ticks []plot.Tick) {
	every := 1
	if c.days {
		every = (len(c.labels) + 15) / 16
	}
	for i := 0; i < len(c.labels); i += max(every, 1) {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: c.label(i)})
	}
	return ticks
}

func written(size vg.Length, c color.Color) text.Style {
	return text.Style{Color: c, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, Handler: plot.DefaultTextHandler}
}

// mark is the next larger round distance: 1, 2 or 5 and zeros.
func mark(step float64) float64 {
	zeros := math.Pow(10, math.Floor(math.Log10(step)))
	for _, n := range []float64{1, 2, 5} {
		if n*zeros >= step*0.999 {
			return n * zeros
		}
	}
	return 10 * zeros
}

// grouped writes a number with its thousands apart.
func grouped(v float64) string {
	if v != math.Trunc(v) {
		return fmt.Sprintf("%g", math.Round(v*100)/100)
	}
	digits := fmt.Sprintf("%.0f", v)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u2009') // thin space
		}
		b.WriteRune(d)
	}
	return b.String()
}
