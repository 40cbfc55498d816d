package worker

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/nats-io/nats.go/jetstream"
)

// A journal whose age is raised does not know again what it had forgotten: a period of that time may have been charged.
func TestRaisedAgeBringsNothingBack(t *testing.T) {
	w := newWorld(t)
	const before, after = 30 * 24 * time.Hour, 120 * 24 * time.Hour
	near := func(got, want time.Duration) bool { return (got - want).Abs() < 5*time.Minute }
	age := func(p Provisioning) {
		t.Helper()
		p.Accounts = nil
		if err := Provision(t.Context(), w.js, p); err != nil {
			t.Fatal(err)
		}
	}
	age(Provisioning{Retention: before, Force: []string{ForceMaxAge}})
	if got, err := Verify(t.Context(), w.js); err != nil || got != before {
		t.Fatalf("memory %s, %v, want %s", got, err, before)
	}
	age(Provisioning{Retention: after})
	if got, err := Verify(t.Context(), w.js); err != nil || !near(got, before+retentionMargin) {
		t.Errorf("memory %s after the age was raised, %v, want still %s", got, err, before)
	}
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	if config.MaxAge != after {
		t.Errorf("max_age %s, want %s", config.MaxAge, after)
	}
	for _, tt := range []struct {
		name string
		said string
		ago  time.Duration
		want time.Duration
	}{
		{"just raised", config.Metadata[remembersSince], 0, before + retentionMargin},
		{"a month later", config.Metadata[remembersSince], -before, 2*before + retentionMargin},
		{"a year later", config.Metadata[remembersSince], -12 * before, after},
		{"never raised", "", 0, after},
	} {
		c := jetstream.StreamConfig{MaxAge: after, Metadata: map[string]string{remembersSince: tt.said}}
		if got := memory(c, time.Now().Add(-tt.ago)); !near(got, tt.want) {
			t.Errorf("%s: memory %s, want %s", tt.name, got, tt.want)
		}
	}

	// Changed by hand, under a running worker.
	running, now := &Worker{}, time.Now()
	remembers := func(passed, retention, want time.Duration) {
		t.Helper()
		running.remember(now.Add(passed), retention)
		if got := time.Duration(running.oldest.Load()); got != want {
			t.Errorf("after %s, with an age of %s: periods of the last %s, want %s", passed, retention, got, want)
		}
	}
	const day = 24 * time.Hour
	remembers(0, before, before-retentionMargin)
	remembers(10*day, after, before-retentionMargin+10*day)
	remembers(200*day, after, after-retentionMargin)
	remembers(200*day, 3*time.Second, 0) // somebody emptied it
	remembers(201*day, after, day)       // what falls due from then on is charged
}
