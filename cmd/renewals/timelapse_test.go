package main

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// The clock is as fast as it should be over all, and stands beside the world's while something is under way.
func TestTimelapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTimelapse(1000)
		began := time.Now()
		soon := c.now().Add(time.Hour)
		for _, row := range []struct {
			name string
			next time.Time
			want time.Duration // ahead
		}{
			{"something is under way", time.Time{}, 0},
			{"up to what comes next", soon, time.Hour - 2*leapEvery},
			{"what comes next has come", soon, time.Hour - 2*leapEvery},
			{"what was lost is made good", soon.AddDate(1, 0, 0), 4 * 999 * leapEvery},
			{"no faster than it should be", soon.AddDate(1, 0, 0), 5 * 999 * leapEvery},
		} {
			<-time.After(leapEvery) // of the bubble's time
			if c.leap(time.Since(began), row.next); c.lead() != row.want {
				t.Errorf("%s: %s ahead, want %s", row.name, c.lead(), row.want)
			}
		}
	})
}

// A customer who could not pay is asked again when the worker said, days later, and pays: seen within seconds.
func TestDevAtSpeed(t *testing.T) {
	long(t)
	t.Parallel()
	p := start(t, variables{}, "", "dev", "--speed=1000000", "--json", "--jobs=1")
	var first, second record
	eventually(t, "the next attempt", func() bool {
		for line := range strings.Lines(p.stdout.String()) {
			var r record
			if json.Unmarshal([]byte(line), &struct {
				*record
				Kind *messages.Kind `json:"kind"`
			}{&r, &r.Kind}) != nil {
				return false // it is being written
			}
			switch {
			case r.Kind == messages.KindDunning && r.Reason == messages.ReasonUnavailablePaymentMethod:
				first = r
			case r.Kind == messages.KindPaid && r.Attempt == 2 && r.SubscriptionID == first.SubscriptionID:
				second = r
			}
		}
		return second.ID != ""
	})
	if first.NextAttemptAt == nil || first.NextAttemptAt.Sub(first.At) < 3*24*time.Hour-time.Minute || second.At.Before(*first.NextAttemptAt) ||
		second.At.Sub(*first.NextAttemptAt) > time.Hour || second.Period != first.Period || second.ID == first.ID {
		t.Errorf("%s at %s, next attempt suggested at %v, %s at %s", first.ID, first.At, first.NextAttemptAt, second.ID, second.At)
	}
	p.stop()
	if code := p.wait(t); code != cli.ExitDone {
		t.Errorf("dev exited with %d: %s", code, p.stderr.String())
	}
	for _, speed := range []string{"0.5", "-3", "2000000"} {
		finish(t, cli.ExitUsage, variables{}, "", "dev", "--speed="+speed)
	}
}
