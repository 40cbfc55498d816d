//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
)

// plot draws the worker's memory over the jobs that it has done, as an SVG of a few kB: over time it would tell how fast the
// machine was. Its colours are told apart on white and on black, since it stands in pages of either kind.
func plot(d *drained) string {
	const (
		width, left, right = 720, 72, 36
		top, height        = 28, 130
		grey, blue, red    = "#6e7781", "#2f81f7", "#da3633"
	)
	highest := 80.0
	for _, s := range d.Samples {
		highest = max(highest, mebibytes(s.Worker))
	}
	var b strings.Builder
	say := fmt.Sprintf("Memory of one worker while it drains %s jobs: at most %.1f MiB", grouped(d.Jobs), mebibytes(d.PeakWorker))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 210" role="img" aria-label=%q `, width, say)
	fmt.Fprintf(&b, `font-family="system-ui,sans-serif" font-size="12" fill="%s">`+"\n", grey)
	fmt.Fprintf(&b, "<title>%s</title>\n", say)

	x := func(done int) float64 { return left + float64(done)/float64(d.Jobs)*(width-left-right) }
	y := func(mib float64) float64 { return top + height - mib/highest*height }
	fmt.Fprintf(&b, `<text x="%d" y="%d">resident memory of the worker, MiB</text>`+"\n", left, top-8)
	step := round(highest / 4)
	for v := 0.0; v <= highest; v += step {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-opacity=".3"/>`, left, y(v), width-right, grey)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-6, y(v)+4, grouped(int(v)))
	}
	// Of the samples that share a step of the line the highest is drawn: none is hidden.
	const steps = 160
	var points []string
	for n := 0; n < len(d.Samples); {
		highest, until := d.Samples[n], (n*steps/len(d.Samples)+1)*len(d.Samples)
		for ; n*steps < until && n < len(d.Samples); n++ {
			if d.Samples[n].Worker > highest.Worker {
				highest = d.Samples[n]
			}
		}
		points = append(points, fmt.Sprintf("%.1f,%.1f", x(d.Jobs-highest.Left), y(mebibytes(highest.Worker))))
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), blue)
	fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-dasharray="6 4"/>`, left, y(64), width-right, red)
	fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end" fill="%s">64 MiB</text>`+"\n", width-right, y(64)-5, red)
	step = round(float64(d.Jobs) / 8)
	for n := 0; n <= d.Jobs; n += int(step) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(n), top+height+18, grouped(n))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">jobs done</text>`+"\n</svg>\n", (width+left-right)/2, top+height+36)
	return b.String()
}

// round gives the next larger distance for the marks of an axis: 1, 2 or 5 and zeros.
func round(step float64) float64 {
	zeros := math.Pow(10, max(math.Floor(math.Log10(step)), 0))
	for _, n := range []float64{1, 2, 5} {
		if n*zeros >= step {
			return n * zeros
		}
	}
	return 10 * zeros
}
