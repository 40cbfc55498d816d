package messages

import (
	"fmt"
	"strconv"
	"time"
)

// Earliest is how long before its due_at a job may arrive and wait.
const Earliest = 24 * time.Hour

// DefaultMemory is how long after its due_at a job may arrive, with a journal of the default age.
const DefaultMemory = 113 * 24 * time.Hour

// Untimely says why every worker would reject the job at a time for that time alone, where nobody has claimed it; "" when
// none would. memory is how long after its due_at the journal still knows what was charged.
func (j Job) Untimely(now time.Time, memory time.Duration) (Reason, Problem) {
	due := func() string { return j.DueAt.UTC().Format(time.RFC3339) }
	switch {
	case j.DueAt.After(now.Add(Earliest)):
		return ReasonNotDue, Problem{Path: "due_at", Message: fmt.Sprintf("found %s, expected at most %s from now: publish the job when the renewal is due", due(), Earliest)}
	case j.DueAt.Before(now.Add(-memory)):
		return ReasonTooOld, Problem{Path: "due_at", Message: fmt.Sprintf("found %s, expected at most %s ago: beyond that the journal no longer knows whether the period was charged", due(), days(memory))}
	case !j.ExpiresAt.IsZero() && !now.Before(j.ExpiresAt):
		return ReasonExpired, Problem{Path: "expires_at", Message: fmt.Sprintf("found %s, which has passed", j.ExpiresAt.UTC().Format(time.RFC3339))}
	}
	return "", Problem{}
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
	return d.String()
}
