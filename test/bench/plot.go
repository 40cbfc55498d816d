//go:build linux

package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// plot draws the worker's memory above the jobs that are left, as an SVG of a few kB. Its colours are told apart on white
// and on black, since it stands in pages of either kind.
func plot(d *drained) string {
	const (
		width, left, right = 720, 72, 16
		grey, blue, red    = "#6e7781", "#2f81f7", "#da3633"
	)
	end := d.Samples[len(d.Samples)-1].At.Seconds()
	highest, most := 80.0, 0.0
	for _, s := range d.Samples {
		highest, most = max(highest, mebibytes(s.Worker)), max(most, float64(s.Left))
	}
	var b strings.Builder
	say := fmt.Sprintf("Memory of one worker while it drains %s jobs: at most %.1f MiB", grouped(d.Jobs), mebibytes(d.PeakWorker))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 330" role="img" aria-label=%q font-family="system-ui,sans-serif" font-size="12" fill="%s">`+"\n", width, say, grey)
	fmt.Fprintf(&b, "<title>%s</title>\n", say)

	x := func(at time.Duration) float64 { return left + at.Seconds()/end*(width-left-right) }
	panel := func(top, height float64, label string, highest float64, of func(sample) float64) (y func(float64) float64) {
		y = func(v float64) float64 { return top + height - v/highest*height }
		fmt.Fprintf(&b, `<text x="%d" y="%.0f">%s</text>`+"\n", left, top-8, label)
		step := round(highest / 4)
		for v := 0.0; v <= highest; v += step {
			fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-opacity=".3"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y(v), width-right, grey, left-6, y(v)+4, grouped(int(v)))
		}
		// Of the samples that share a step of the line the highest is drawn: none is hidden.
		const steps = 160
		var points []string
		for n := 0; n < len(d.Samples); {
			highest, until := d.Samples[n], (n*steps/len(d.Samples)+1)*len(d.Samples)
			for ; n*steps < until && n < len(d.Samples); n++ {
				if of(d.Samples[n]) > of(highest) {
					highest = d.Samples[n]
				}
			}
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(highest.At), y(of(highest))))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), blue)
		return y
	}
	y := panel(28, 130, "resident memory of the worker, MiB", highest, func(s sample) float64 { return mebibytes(s.Worker) })
	fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="%s" stroke-dasharray="6 4"/><text x="%d" y="%.1f" text-anchor="end" fill="%s">64 MiB</text>`+"\n", left, y(64), width-right, red, width-right, y(64)-5, red)
	panel(200, 84, "jobs left", max(most, 1), func(s sample) float64 { return float64(s.Left) })
	step := round(end / 8)
	for s := 0.0; s <= end; s += step {
		fmt.Fprintf(&b, `<text x="%.1f" y="302" text-anchor="middle">%s</text>`+"\n", x(time.Duration(s*float64(time.Second))), grouped(int(s)))
	}
	fmt.Fprintf(&b, `<text x="%d" y="320" text-anchor="middle">seconds</text>`+"\n</svg>\n", (width+left-right)/2)
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
