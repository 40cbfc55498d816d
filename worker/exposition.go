package worker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// WriteText writes what [Metrics.Gatherer] gathers as Prometheus reads it, series by series: those of a thousand accounts, all in memory
// at once, would be twice what the worker needs for everything else.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
func (m *Metrics) WriteText(w io.Writer, of prometheus.Gatherer) error {
	found, err := of.Gather()
	if err != nil {
		return err
	}
	live, zero := map[string]*dto.MetricFamily{}, map[string]zeroFamily{}
	names := map[string]bool{}
	for _, f := range found {
		live[f.GetName()], names[f.GetName()] = f, true
	}
	for _, f := range m.zeros.families {
		zero[f.name], names[f.name] = f, true
	}
	m.zeros.mu.Lock()
	accounts := slices.Clone(m.zeros.accounts)
	m.zeros.mu.Unlock()
	out := bufio.NewWriterSize(w, 64<<10)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		family, begun := live[name], zero[name]
		if family == nil {
			_, _ = fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, begun.help, name, strings.ToLower(begun.kind.String()))
		} else if _, err := expfmt.MetricFamilyToText(out, family); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if begun.rest == nil {
			continue
		}
		if err := begun.write(out, accounts, alive(family)); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return out.Flush()
}

// write writes the series of a family that are not there.
func (f zeroFamily) write(out *bufio.Writer, accounts []string, live map[string]map[string]bool) error {
	keys, lines := f.keys(), make([][]string, len(f.rest))
	for i := range f.rest {
		var err error
		if lines[i], err = f.lines(i); err != nil {
			return err
		}
	}
	for _, account := range accounts {
		there := live[account]
		for i := range f.rest {
			if there[keys[i]] {
				continue
			}
			for n, part := range lines[i] {
				if n > 0 {
					_, _ = out.WriteString(account) // the writer keeps an error until it is flushed
				}
				_, _ = out.WriteString(part)
			}
		}
	}
	return nil
}

// lines are those of one series, cut where the name of an account belongs, which needs no escaping.
func (f zeroFamily) lines(of int) ([]string, error) {
	label, account := "account", "?"
	metric := &dto.Metric{Counter: f.none.Counter, Gauge: f.none.Gauge, Histogram: f.none.Histogram, Label: append([]*dto.LabelPair{{Name: &label, Value: &account}}, f.rest[of]...)}
	var text bytes.Buffer
	if _, err := expfmt.MetricFamilyToText(&text, &dto.MetricFamily{Name: &f.name, Type: &f.kind, Metric: []*dto.Metric{metric}}); err != nil {
		return nil, err
	}
	_, series, _ := strings.Cut(text.String(), "\n") // after the line of the type
	return strings.Split(series, account), nil
}
