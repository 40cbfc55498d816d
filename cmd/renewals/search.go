package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// sought is what a person needs who looks at Klarna for what an unresolved charge or capture has made, in sentences. Records of earlier
// versions say less.
func (h history) sought() (say []string) {
	u := h.of(messages.KindUnresolved)
	what := "an order of " + amount(u.OrderAmount, u.Currency) + u.references()
	if h.state.Capturing() {
		what = "a capture of " + h.capture() + u.references()
		if u.CaptureReference != "" {
			what += ", reference " + u.CaptureReference
		}
	}
	switch from, until := second(u.FirstSentAt), second(u.SearchUntil.Add(time.Second-1)); { // outwards
	case !u.FirstSentAt.IsZero() && !u.SearchUntil.IsZero():
		what += ", made between " + from + " and " + until
	case !u.SearchUntil.IsZero():
		what += ", which Klarna cannot have read a request for; the last was sent before " + until
	case !u.FirstSentAt.IsZero():
		what += ", made after " + from
	}
	say = append(say, what)
	if len(u.CorrelationIDs) > 0 {
		say = append(say, "Klarna's correlation ids: "+strings.Join(u.CorrelationIDs, ", "))
	}
	for i := range say {
		say[i] = printable(say[i])
	}
	return say
}

// references are those by which Klarna's portal and settlements know an order.
func (e episode) references() string {
	switch {
	case e.Reference != "" && e.Reference2 != "":
		return ", merchant references " + e.Reference + " and " + e.Reference2
	case e.Reference+e.Reference2 != "":
		return ", merchant reference " + e.Reference + e.Reference2
	}
	return ""
}

func second(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// one finds the one renewal that is meant.
func one(ctx context.Context, f desk.Finder, name string) (history, error) {
	renewals, err := f.Renewals(ctx, name)
	if err != nil {
		return history{}, err
	}
	var found, unresolved []history
	for _, r := range renewals {
		h, err := historyOf(ctx, f, r)
		if err != nil {
			return h, err
		}
		if h.last == 0 {
			continue
		}
		found = append(found, h)
		if h.state.Phase == journal.PhaseUnresolved {
			unresolved = append(unresolved, h)
		}
	}
	switch {
	case len(unresolved) == 1:
		return unresolved[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		instead, err := periodsInstead(ctx, f, name)
		if err != nil {
			return history{}, err
		}
		return history{}, fmt.Errorf("%s: no record of it in %s%s", printable(name), messages.StreamJournal, instead)
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.name()
	}
	return history{}, fmt.Errorf("%s: %d renewals go by it: %s", printable(name), len(found), strings.Join(names, "; "))
}

// name is the renewal as a person says it.
func (h history) name() string {
	about := h.about()
	return fmt.Sprintf("period %s of subscription %s (%s)", printable(string(about.Period)), printable(string(about.SubscriptionID)), amount(about.OrderAmount, about.Currency))
}
