package desk

import (
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/worker/journal"
)

// minutes is how a moment is written for a person.
const minutes = "2006-01-02 15:04 UTC"

// Standing says what a job in the queue waits for.
func (j WaitingJob) Standing(s journal.State, now time.Time) string {
	open := s.Phase == journal.PhaseCharging || s.Phase == journal.PhasePending || s.Phase == journal.PhaseCapturing
	settled, known := s.Settled[j.Key]
	replay, _ := strconv.ParseUint(j.Replay, 10, 64)
	switch {
	case j.Misaddressed != "":
		return "no account can be called so, no worker takes it; have it published under the right account"
	case open && s.Claim.Key == j.Key:
		return "it waits between deliveries"
	case known && settled.Binds(j.hash, func() string { return j.payload }, replay):
		return "it has its result and is about to leave"
	case !j.ParkedUntil.IsZero():
		return "parked, it waits outside the queue until " + j.ParkedUntil.UTC().Format(minutes)
	case j.DueAt.After(now):
		return "no worker has claimed it, it is due at " + j.DueAt.UTC().Format(minutes)
	case open:
		under := "charge"
		if s.Capturing() {
			under = "capture"
		}
		return "no worker has claimed it, it waits until the " + under + " under way is decided"
	}
	return "no worker has claimed it"
}
