package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// putBack stores a record of a period again as it is, with another state where one is given.
func (o *office) putBack(subscription string, kind messages.Kind, state string) {
	o.Helper()
	stream, err := o.js.Stream(o.Context(), messages.StreamJournal)
	if err != nil {
		o.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(o.Context(), fmt.Sprintf("renewals.%s.%s.*.*.*", kind, subscription))
	if err != nil {
		o.Fatal(err)
	}
	again := nats.NewMsg(m.Subject)
	again.Data = m.Data
	for name, values := range m.Header {
		if !strings.HasPrefix(name, "Nats-") { // they would be obeyed
			again.Header[name] = values
		}
	}
	if state != "" {
		again.Header.Set(messages.HeaderState, state)
	}
	if _, err := o.js.PublishMsg(o.Context(), again); err != nil {
		o.Fatal(err)
	}
}

// A record that cannot be read is named and left out, and while it is the last nothing is decided.
func TestUnreadableRecord(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("1", "soft-decline", "", 1))
	o.work()
	o.putBack("1", messages.KindDunning, `{"v":99}`)
	for _, name := range []string{"1/2026-12", "1/2026-12/1"} {
		out, _ := o.run(cli.ExitDone, "show", name)
		o.expect(out, "payment_method_failed", "left out: record 3 of RENEWAL_JOURNAL, on renewals.dunning.1.2026-12.", "version 99, this program knows 1",
			"state: not known: the last record cannot be read", "look for an order of 1/2026-12 in Klarna's portal", "!next: the billing system")
	}
	out, told := o.run(cli.ExitDone, "show", "1/2026-12", "--json")
	if lines := o.lines(out); len(lines) != 2 {
		t.Errorf("%d lines, want the two records that can be read", len(lines))
	}
	o.expect(told, "left out: record ")
	records := o.count(messages.StreamJournal)
	_, told = o.run(cli.ExitFailed, "cancel", "1", "2026-12", "--yes")
	o.expect(told, "cancel: nothing was changed\nleft out: record ", "nothing settles or cancels it", "run this command from that version")
	_, told = o.run(cli.ExitFailed, "resolve", "1/2026-12", "--not-charged", "--yes")
	o.expect(told, "version 99, this program knows 1")
	if n := o.count(messages.StreamJournal); n != records {
		t.Errorf("%d records, want %d", n, records)
	}

	// Once another follows, it is a gap in the past.
	o.putBack("1", messages.KindCharging, "")
	stream, err := o.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.GetMsg(t.Context(), records-1) // the dunning before
	if err != nil {
		t.Fatal(err)
	}
	o.putBack("1", messages.KindDunning, first.Header.Get(messages.HeaderState))
	out, _ = o.run(cli.ExitDone, "show", "1/2026-12")
	o.expect(out, "left out: record ", "state: dunning: payment_method_failed", "!not known")
	out, _ = o.run(cli.ExitDone, "cancel", "1", "2026-12", "--yes")
	o.expect(out, "left out: record ", "recorded: cancelled")

	// Of a period whose only record cannot be read, that is all there is to tell.
	o.store("2", "2026-12", messages.KindPaid, o.due, "no state")
	out, _ = o.run(cli.ExitDone, "show", "2/2026-12")
	o.expect(out, "subscription 2, period 2026-12", "left out: record ", "state: not known")
	_, told = o.run(cli.ExitFailed, "cancel", "2", "2026-12", "--yes")
	o.expect(told, "cancel: nothing was changed")
}
