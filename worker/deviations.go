package worker

import (
	"errors"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// deviation is what an error is about, for the metric: a setting by name, or that something is missing.
func deviation(err error) (stream, consumer, setting string) {
	if off, ok := errors.AsType[*topology.Deviation](err); ok {
		return off.Stream, off.Consumer, off.Setting
	}
	return "", "", "missing"
}

// deviationOf is the series that tells of an account, or with "" of the streams.
type deviationOf struct{ stream, consumer, setting string }

// deviate sets the metric to what is off now; nil is nothing.
func (m *Metrics) deviate(account messages.Account, err error) {
	m.deviating.Lock()
	defer m.deviating.Unlock()
	var now deviationOf
	if err != nil {
		now.stream, now.consumer, now.setting = deviation(err)
		if now.stream == "" && account != "" {
			now.stream, now.consumer = messages.StreamJobs, topology.ConsumerName(account)
		}
	}
	was, there := m.deviations[account]
	if there && was != now {
		m.deviation.WithLabelValues(was.stream, was.consumer, was.setting).Set(0)
		delete(m.deviations, account)
	}
	if err != nil {
		m.deviations[account] = now
		m.deviation.WithLabelValues(now.stream, now.consumer, now.setting).Set(1)
	}
}
