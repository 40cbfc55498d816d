package worker

import (
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// warn counts what was odd about a job once it has its result, and tells the log
// of each kind once: a publisher that sends a million such jobs is told by the
// metric, and by the results.
func (a *account) warn(j *job, next journal.Transition) {
	if next.Then != journal.Ack {
		return
	}
	seen := make(map[messages.WarningKind]bool, 1)
	for _, w := range j.reading.Warnings {
		if seen[w.Kind] {
			continue
		}
		seen[w.Kind] = true
		a.metrics.warnings.WithLabelValues(string(a.Name), string(w.Kind)).Inc()
		if _, told := a.warned.LoadOrStore(w.Kind, true); !told {
			a.log.Warn().Str("id", string(j.reading.Job.ID)).Msg("an odd job (" + string(w.Kind) + "): " + w.String() + "; further ones of this kind are only counted")
		}
	}
}
