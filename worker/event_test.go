package worker

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A claim was made at the moment from which on Klarna knows its key, which its state says already; whoever takes it over, or counts
// something beside it, did so when the record was made.
func TestMomentOfAClaim(t *testing.T) {
	t.Parallel()
	later := midday.Add(3 * time.Millisecond)
	for _, row := range []struct {
		name       string
		then       journal.Action
		deliveries int
		want       time.Time
	}{
		{"claimed", journal.Try, 1, midday},
		{"taken over", journal.Try, 2, later},
		{"handed back", journal.Nak, 1, later},
	} {
		state := journal.State{Claim: &journal.Claim{Key: "k", FirstSentAt: midday, Deliveries: row.deliveries}}
		next := journal.Transition{Record: messages.KindCharging, Key: "k", State: state, Then: row.then}
		if got := event(nil, messages.Record{IdempotencyKey: "k", At: later}, next, journal.TryResult{}).(messages.Charging); !got.At.Equal(row.want) {
			t.Errorf("%s: at %v, want %v", row.name, got.At, row.want)
		}
	}
}
