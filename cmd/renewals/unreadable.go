package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// stuck says that the renewal's last record cannot be read: how it stands nobody knows, and nobody acts on it.
func (h history) stuck() bool {
	return slices.ContainsFunc(h.unreadable, func(e *journal.UnreadableError) bool { return e.Sequence > h.last })
}

// leftOut names the records that the history is without, and says what that means and what can be done about it.
func (h history) leftOut() (say []string) {
	slices.SortFunc(h.unreadable, func(a, b *journal.UnreadableError) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, e := range h.unreadable {
		say = append(say, cli.Printable("left out: "+e.Error()))
	}
	if h.stuck() {
		subscription, period := h.renewal.Split()
		say = append(say,
			"state: not known: the last record cannot be read, and until another follows no worker charges the renewal and nothing settles or cancels it",
			"next: where a newer version has written it, run this command from that version; else find out who may publish to the journal",
			cli.Printable(fmt.Sprintf("      (renewals doctor), keep the record, and look for an order of %s in Klarna's portal", desk.Argument(string(subscription)+"/"+string(period)))))
	}
	return say
}
