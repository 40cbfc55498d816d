package worker

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// zeros are the series that nothing has happened to yet. To Prometheus an increase from nothing is none, so whatever an alert or a panel
// counts has to be there before its first event. Of a thousand accounts those are 140,000 series, which would take 80 MB if each were
// kept: they are made when somebody looks, and only what has happened is kept.
type zeros struct {
	mu       sync.Mutex
	accounts []string
	families []zeroFamily
}

// A zeroFamily are the series of one metric that every account has.
type zeroFamily struct {
	name, help string
	kind       dto.MetricType
	none       *dto.Metric        // its value
	rest       [][]*dto.LabelPair // what each has beside the account; labels in the order of their names, in which account is the first
}

// of adds a metric of which every account has a series for each of values, which are in the order of labels.
func (z *zeros) of(name, help string, kind dto.MetricType, none *dto.Metric, labels []string, values ...[]string) {
	f := zeroFamily{name: "renewals_" + name, help: help, kind: kind, none: none}
	known := map[[2]string]*dto.LabelPair{}
	for _, of := range values {
		var pairs []*dto.LabelPair
		for i, value := range of {
			at := [2]string{labels[i], value}
			if known[at] == nil {
				known[at] = &dto.LabelPair{Name: &labels[i], Value: &value}
			}
			pairs = append(pairs, known[at])
		}
		f.rest = append(f.rest, pairs)
	}
	z.families = append(z.families, f)
}

// start adds the series of an account.
func (z *zeros) start(account string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !slices.Contains(z.accounts, account) {
		z.accounts = append(z.accounts, account)
	}
}

// add completes what was gathered.
func (z *zeros) add(found []*dto.MetricFamily) []*dto.MetricFamily {
	z.mu.Lock()
	accounts := slices.Clone(z.accounts)
	z.mu.Unlock()
	pairs, name := make([]*dto.LabelPair, len(accounts)), "account"
	for i := range accounts {
		pairs[i] = &dto.LabelPair{Name: &name, Value: &accounts[i]}
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range found {
		byName[f.GetName()] = f
	}
	for _, f := range z.families {
		family := byName[f.name]
		if family == nil {
			family = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
			found = append(found, family)
		}
		f.fill(family, pairs)
	}
	slices.SortFunc(found, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return found
}

// fill adds the series that are not there.
func (f zeroFamily) fill(family *dto.MetricFamily, accounts []*dto.LabelPair) {
	live, keys := alive(family), f.keys()
	width := 1 + len(f.rest[0])
	metrics, labels := make([]dto.Metric, len(accounts)*len(f.rest)), make([]*dto.LabelPair, 0, len(accounts)*len(f.rest)*width)
	family.Metric = slices.Grow(family.Metric, len(metrics))
	for _, account := range accounts {
		there := live[account.GetValue()]
		for i, rest := range f.rest {
			if there[keys[i]] {
				continue
			}
			from := len(labels)
			labels = append(append(labels, account), rest...)
			m := &metrics[0]
			metrics = metrics[1:]
			m.Label, m.Counter, m.Gauge, m.Histogram = labels[from:len(labels):len(labels)], f.none.Counter, f.none.Gauge, f.none.Histogram
			family.Metric = append(family.Metric, m)
		}
	}
}

// alive are the series to which something has happened, by account.
func alive(family *dto.MetricFamily) map[string]map[string]bool {
	live := map[string]map[string]bool{}
	for _, m := range family.GetMetric() {
		account := m.Label[0].GetValue()
		if live[account] == nil {
			live[account] = map[string]bool{}
		}
		live[account][joined(m.Label[1:])] = true
	}
	return live
}

// keys tell the series of an account apart.
func (f zeroFamily) keys() []string {
	keys := make([]string, len(f.rest))
	for i, rest := range f.rest {
		keys[i] = joined(rest)
	}
	return keys
}

// joined tells label values apart.
func joined(labels []*dto.LabelPair) string {
	var text strings.Builder
	for _, l := range labels {
		text.WriteString(l.GetValue())
		text.WriteByte(0xff) // which is in no label
	}
	return text.String()
}

// Gatherer completes what a registry gathers: each series that an alert or a panel counts is there before its first event.
func (m *Metrics) Gatherer(of prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		found, err := of.Gather()
		if err != nil { // the labels of a series could then be any
			return found, err
		}
		return m.zeros.add(found), nil
	})
}
