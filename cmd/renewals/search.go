package main

import (
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
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
