package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// sought is what a person needs who looks at Klarna for what the history's unresolved charge or capture has made, in sentences.
func (h history) sought() []string {
	event, err := messages.DecodeEvent(messages.KindUnresolved, h.of(messages.KindUnresolved).body)
	if err != nil {
		return []string{cli.Printable(err.Error())}
	}
	capture := ""
	if h.state.Capturing() {
		capture = h.capture()
	}
	return sought(event.(messages.Unresolved), capture)
}

// sought is the same of the record alone; capture is what was to be captured, "" of a charge. Records of earlier versions say less.
func sought(u messages.Unresolved, capture string) (say []string) {
	what := "an order of " + cli.Amount(u.OrderAmount, u.PurchaseCurrency)
	if capture != "" {
		what = "a capture of " + capture
	}
	what += references(u.MerchantReference1, u.MerchantReference2)
	if capture != "" && u.Reference != "" {
		what += ", reference " + u.Reference
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
	if capture == "" && u.OrderID != "" {
		say = append(say, "order "+u.OrderID+", as Klarna named it")
	}
	if len(u.CorrelationIDs) > 0 {
		say = append(say, "Klarna's correlation ids: "+strings.Join(u.CorrelationIDs, ", "))
	}
	key := "idempotency key " + string(u.IdempotencyKey)
	if u.TokenFingerprint != "" {
		key += ", customer token with fingerprint " + u.TokenFingerprint
	}
	say = append(say, key)
	for i := range say {
		say[i] = cli.Printable(say[i])
	}
	return say
}

// references are those by which Klarna's portal and settlements know an order.
func references(one, two string) string {
	switch {
	case one != "" && two != "":
		return ", merchant references " + one + " and " + two
	case one+two != "":
		return ", merchant reference " + one + two
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
		return history{}, fmt.Errorf("%s: no record of it in %s%s", cli.Printable(name), messages.StreamJournal, instead)
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.name()
	}
	return history{}, fmt.Errorf("%s: %d renewals go by it: %s", cli.Printable(name), len(found), strings.Join(names, "; "))
}

// name is the renewal as a person says it.
func (h history) name() string {
	about := h.about()
	return fmt.Sprintf("period %s of subscription %s (%s)", cli.Printable(string(about.Period)), cli.Printable(string(about.SubscriptionID)), cli.Amount(about.OrderAmount, about.Currency))
}
