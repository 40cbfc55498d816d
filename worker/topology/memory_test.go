package topology

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
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
	if got, err := Verify(t.Context(), w.js); err != nil || !near(got, before+RetentionMargin) {
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
		{name: "just raised", said: config.Metadata[remembersSince], want: before + RetentionMargin},
		{name: "a month later", said: config.Metadata[remembersSince], ago: -before, want: 2*before + RetentionMargin},
		{name: "a year later", said: config.Metadata[remembersSince], ago: -12 * before, want: after},
		{name: "never raised", want: after},
	} {
		c := jetstream.StreamConfig{MaxAge: after, Metadata: map[string]string{remembersSince: tt.said}}
		if got := Memory(c, time.Now().Add(-tt.ago)); !near(got, tt.want) {
			t.Errorf("%s: memory %s, want %s", tt.name, got, tt.want)
		}
	}
}
