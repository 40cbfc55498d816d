package main

import (
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
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
