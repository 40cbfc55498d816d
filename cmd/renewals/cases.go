package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// A ruling is what a worker makes of a behaviour of the simulator.
type ruling struct {
	kind   messages.Kind
	reason messages.Reason
	// late: only once the key may not be used any more. Until then Klarna is asked again and again.
	late bool
	// byHand: somebody has to tell the simulator how it ends.
	byHand bool
}

func (r ruling) String() string {
	text := string(r.kind)
	if r.reason != "" {
		text += ", " + string(r.reason)
	}
	switch {
	case r.late:
		text += ", once its key may not be used any more"
	case r.byHand:
		text += ", until it is set by hand"
	}
	return text
}

// rulingOn says what becomes of a case of [klarnasim.Cases]; false for any other.
func rulingOn(name string) (ruling, bool) {
	dunned := func(reason messages.Reason) (ruling, bool) {
		return ruling{kind: messages.KindDunning, reason: reason}, true
	}
	switch name {
	case "soft-decline", "soft-decline-once":
		return dunned(messages.ReasonPaymentMethodFailed)
	case "unavailable":
		return dunned(messages.ReasonUnavailablePaymentMethod)
	case "suspended":
		return dunned(messages.ReasonTokenSuspended)
	case "cancelled":
		return dunned(messages.ReasonTokenCancelled)
	case "canceled":
		return dunned(messages.ReasonTokenCanceled)
	case "forbidden":
		return dunned(messages.ReasonTokenForbidden)
	case "not-found":
		return dunned(messages.ReasonTokenNotFound)
	case "currency-mismatch":
		return dunned(messages.ReasonPaymentMethodCurrencyMismatch)
	case "bad-request":
		return dunned(messages.ReasonBadRequest)
	case "rejected", "pending-reject", "403-uncoded":
		return dunned(messages.ReasonFraudRejected)
	case "403-NEVER_HEARD_OF":
		return dunned(messages.ReasonUnknownCode)
	case "pending":
		return ruling{kind: messages.KindPending, byHand: true}, true
	case "lost-cancelled":
		return ruling{kind: messages.KindUnresolved, reason: messages.ReasonContradictoryAnswers, late: true}, true
	case "500-TIMEOUT", "br":
		return ruling{kind: messages.KindUnresolved, reason: messages.ReasonIdempotencyWindowExpired, late: true}, true
	case "ok", "pending-accept", "no-fraud-status", "capture-declined", "uncaptured", "partly-captured",
		"cut-headersx1", "cut-bodyx1", "cutx1", "empty-200x1", "no-id-200x1", "broken-200x1", "late-answer",
		"503x2", "502x1-html", "504x1-bare", "429x1", "401x1", "308x1", "403x1-numbered", "created-500", "created-cut",
		"late-2000", "late-2000-504", "slow-3000", "gzip", "long-id-70000", "conflict-in-flight":
		return ruling{kind: messages.KindPaid}, true
	}
	return ruling{}, false
}

const (
	mostCase     = 200 // characters of a case, in a customer token of 255
	mostCaseText = 40  // of them in identifiers, which are shorter
)

// caseSample is a due job whose customer token makes the simulator behave as a case says. run makes its identifiers unique.
func caseSample(run, name string, now time.Time) (sample, error) {
	if err := klarnasim.CheckCase(name); err != nil {
		return sample{}, err
	}
	if len(name) > mostCase {
		return sample{}, fmt.Errorf("it has %d characters, and %d fit into a customer token", len(name), mostCase)
	}
	text := name
	if len(text) > mostCaseText {
		sum := sha256.Sum256([]byte(name))
		text = name[:mostCaseText-9] + "~" + hex.EncodeToString(sum[:4])
	}
	s := sample{about: name, job: charge(run, text, name, product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}, now)}
	if strings.HasSuffix(name, "capture-declined") {
		s.job.Order = json.RawMessage(strings.Replace(string(s.job.Order), `"auto_capture":true`, `"auto_capture":false`, 1))
	}
	r, _ := rulingOn(name)
	s.want = cmp.Or(r.kind, messages.KindPaid)
	return s, nil
}
