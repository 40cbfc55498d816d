package messages_test

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// TestParkedSubject: two jobs of one renewal never share a subject, and nothing in an identity makes a token or a wildcard.
func TestParkedSubject(t *testing.T) {
	for _, tt := range []struct {
		subscription messages.SubscriptionID
		period       messages.Period
		want         string
	}{
		{"1234834", "2026-12", "renewals.parked.1234834.2026-12.7-239f59ed55e7.default"},
		{"a.b", "..", "renewals.parked.a%2Eb.%2E%2E.7-239f59ed55e7.default"},
		{"a*", "> 1", "renewals.parked.a%2A.%3E%201.7-239f59ed55e7.default"},
	} {
		got := messages.ParkedSubject(messages.NewRenewal(tt.subscription, tt.period), 7, []byte("payload"), "default")
		if got != tt.want {
			t.Errorf("%s/%s: %s, want %s", tt.subscription, tt.period, got, tt.want)
		}
		if a, err := messages.ParseParkedSubject(got); a != "default" || err != nil {
			t.Errorf("%s: account %q, %v", got, a, err)
		}
	}
	one := messages.ParkedSubject(messages.NewRenewal("s", "p"), 7, []byte("payload"), "default")
	for _, other := range []string{
		messages.ParkedSubject(messages.NewRenewal("s", "p"), 8, []byte("payload"), "default"), messages.ParkedSubject(messages.NewRenewal("s", "p"), 7, []byte("another"), "default"),
		messages.ParkedSubject(messages.NewRenewal("s", "p"), 7, []byte("payload"), "shop"),
	} {
		if other == one {
			t.Errorf("another job on the same subject: %s", other)
		}
	}
	if _, err := messages.ParseParkedSubject("renewals.later.default"); err == nil {
		t.Error("a fired job is taken for a parked one")
	}
}

// TestParkedHeaders: a job comes out as it went in, and tells the server nothing of its own on the way.
func TestParkedHeaders(t *testing.T) {
	due, published := time.Date(2026, 12, 1, 6, 0, 0, 1, time.UTC), time.Date(2026, 11, 30, 20, 0, 0, 123456789, time.UTC)
	in := map[string][]string{
		"Nats-Msg-Id": {"sub/2026-12/1"}, "nats-rollup": {"all"}, "Nats-Schedule-Target": {"renewals.later.other"}, "Nats-Schedule-Next": {"purge"},
		"Nats-Expected-Stream": {"RENEWALS"}, "renewals-id": {"a stranger's"}, "Renewals-Published": {"2020-01-01T00:00:00Z"}, "bad name": {"x"},
		"traceparent": {"00-1-2-01"}, "ce-id": {"sub/2026-12/1"}, "Renewals-Replay": {"7"},
	}
	h := messages.Parked{ID: "sub/2026-12/1", Account: "default", Published: published, DueAt: due, Original: in}.Header()
	want := map[string]string{
		"Nats-Schedule": "@at 2026-12-01T06:00:01Z", "Nats-Schedule-Target": "renewals.later.default", "Renewals-Id": "sub/2026-12/1",
		"Renewals-Published": "2026-11-30T20:00:00.123456789Z", "traceparent": "00-1-2-01", "ce-id": "sub/2026-12/1", "Renewals-Replay": "7", "Nats-Trace-Dest": "trace disabled",
	}
	if len(h) != len(want) {
		t.Errorf("headers %v, want %v", h, want)
	}
	for name, value := range want {
		if h[name] == nil || h[name][0] != value {
			t.Errorf("header %s: %v, want %s", name, h[name], value)
		}
	}
	if at, ok := messages.ParkedUntil(h); !ok || !at.Equal(due.Truncate(time.Second).Add(time.Second)) {
		t.Errorf("comes out at %s, %t", at, ok)
	}
	exact := messages.Parked{DueAt: due.Truncate(time.Second)}.Header()
	if at, _ := messages.ParkedUntil(exact); !at.Equal(due.Truncate(time.Second)) {
		t.Errorf("a whole second was rounded: %s", at)
	}

	out, at := messages.Unpark(h)
	if len(out) != 4 || out["Nats-Msg-Id"][0] != "sub/2026-12/1" || out["traceparent"] == nil || out["ce-id"] == nil || out["Renewals-Replay"] == nil || !at.Equal(published) {
		t.Errorf("read again with %v, published %s", out, at)
	}
}
