package journal

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// emptyJournal is that of a NATS server with an empty journal, and the streams of its marks, until the test ends.
func emptyJournal(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := broker.JetStream(t)
	for name, subject := range map[string]string{
		messages.StreamJournal: messages.RecordFilter("*", "*"), markPlaces[0].stream: markPlaces[0].subject, markPlaces[1].stream: markPlaces[1].subject,
	} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	return js
}
