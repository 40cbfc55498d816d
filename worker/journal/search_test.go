package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// A chronicle is what happened under the first job's key, step by step.
type chronicle struct {
	t     *testing.T
	rules Rules
	state State
	nonce int
}

func newChronicle(t *testing.T) *chronicle {
	r := NewRules(DefaultTiming(), 2*time.Minute)
	r.Jitter = 1
	return &chronicle{t: t, rules: r, state: empty()}
}

func (c *chronicle) request() Request {
	q := first()
	q.Nonce = fmt.Sprint("nonce ", c.nonce)
	return q
}

// claimed has a delivery claim at a time.
func (c *chronicle) claimed(at time.Time) {
	c.t.Helper()
	c.nonce++
	st := Deliver(c.state, c.request(), at, c.rules)
	if st.Then != Try {
		c.t.Fatalf("claim at %v: %+v", at, st)
	}
	c.state = st.State
}

// told has the delivery that holds the claim hear these answers, a second each, and record what they came to.
func (c *chronicle) told(at time.Time, answers ...error) {
	c.t.Helper()
	h := Held(c.state, c.rules)
	heard := Untried(h)
	for _, err := range answers {
		heard.Hear(Created{}, err, at, at.Add(time.Second), c.rules)
		at = at.Add(time.Second)
	}
	st := Conclude(c.state, h, heard.Outcome, at, c.rules)
	if st.Record == "" {
		c.t.Fatalf("conclude at %v: %+v", at, st)
	}
	c.state = st.State
}

// delivered is both: the first try begins with the claim.
func (c *chronicle) delivered(at time.Time, answers ...error) {
	c.t.Helper()
	c.claimed(at)
	c.told(at, answers...)
}

// failed is an answer after which an order may exist.
func failed(id string) error {
	return &klarna.Error{StatusCode: 500, HasErrorObject: true, Code: "INTERNAL_SERVER_ERROR", CorrelationID: id}
}

// What is unresolved says where to look for it: no order that Klarna made under the key is older than first_sent_at, or younger
// than search_until, whoever died on the way.
func TestUnresolvedSaysWhereToSearch(t *testing.T) {
	t.Parallel()
	timing := DefaultTiming()
	tail := timing.TryTimeout + timing.SettleDelay
	lease := 2 * time.Minute
	cut := &klarna.UnknownError{TimedOut: true, StatusCode: 200, CorrelationID: "cut"}
	limited := &klarna.Error{StatusCode: 429, CorrelationID: "429"}
	unsent := &klarna.NotSentError{Err: errors.New("no such host")}
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for _, row := range []struct {
		name                   string
		happened               func(*chronicle)
		end                    func(*chronicle) Transition // nil: the next delivery, after the window
		firstSent, last, until time.Time
		ids                    []string
		undecided              int
		reason                 messages.Reason
	}{
		{
			name: "one delivery", happened: func(c *chronicle) { c.delivered(noon, failed("a"), failed("b"), failed("c")) },
			firstSent: noon, last: at(2 * time.Second), until: at(2*time.Second + tail), ids: []string{"a", "b", "c"}, undecided: 3,
		},
		{
			name: "several deliveries", happened: func(c *chronicle) {
				c.delivered(noon, failed("a"), failed("b"))
				c.delivered(at(time.Hour), failed("c"), failed("a"))
			},
			firstSent: noon, last: at(time.Hour + time.Second), until: at(time.Hour + time.Second + tail), ids: []string{"b", "c", "a"}, undecided: 4,
		},
		{
			name: "the last try timed out", happened: func(c *chronicle) { c.delivered(noon, failed("a"), cut) },
			firstSent: noon, last: at(time.Second), until: at(time.Second + tail), ids: []string{"a", "cut"}, undecided: 2,
		},
		{
			name: "the clock was put back a little between claim and try", happened: func(c *chronicle) { c.claimed(noon); c.told(noon.Add(-time.Second), cut) },
			firstSent: noon, last: noon, until: at(tail), ids: []string{"cut"}, undecided: 1,
		},
		{
			name: "timed out, taken over, timed out", happened: func(c *chronicle) { c.delivered(noon, cut); c.delivered(at(time.Hour), cut) },
			firstSent: noon, last: at(time.Hour), until: at(time.Hour + tail), ids: []string{"cut"}, undecided: 2,
		},
		{
			name: "the worker died and never told", happened: func(c *chronicle) { c.claimed(noon) },
			firstSent: noon, last: noon, until: at(lease + timing.SettleDelay), undecided: 1,
		},
		{
			name: "the second worker died and never told", happened: func(c *chronicle) { c.delivered(noon, failed("a")); c.claimed(at(time.Hour)) },
			firstSent: noon, last: at(time.Hour), until: at(time.Hour + lease + timing.SettleDelay), ids: []string{"a"}, undecided: 2,
		},
		{
			name: "one died, the next was stopped before its first try", happened: func(c *chronicle) {
				c.claimed(noon)
				c.claimed(at(time.Hour))
				c.told(at(time.Hour))
			},
			firstSent: noon, last: noon, until: at(lease + timing.SettleDelay), undecided: 1,
		},
		{
			name: "one died, the next told", happened: func(c *chronicle) { c.claimed(noon); c.delivered(at(lease), failed("a")) },
			firstSent: noon, last: at(lease), until: at(lease + tail), ids: []string{"a"}, undecided: 2,
		},
		{
			name: "turned away before it was read", happened: func(c *chronicle) {
				c.delivered(noon, limited)
				c.delivered(at(time.Hour), failed("a"))
			},
			firstSent: at(time.Hour), last: at(time.Hour), until: at(time.Hour + tail), ids: []string{"429", "a"}, undecided: 1,
		},
		{
			name: "the host not found afterwards", happened: func(c *chronicle) { c.delivered(noon, failed("a")); c.delivered(at(time.Hour), unsent) },
			firstSent: noon, last: noon, until: at(tail), ids: []string{"a"}, undecided: 1,
		},
		{
			name: "an order that Klarna never decided about", happened: func(c *chronicle) {
				c.delivered(noon, failed("a"))
				c.claimed(at(time.Hour))
				h := Held(c.state, c.rules)
				heard := Untried(h)
				heard.Hear(Created{ID: "order-1", FraudStatus: "PENDING", CorrelationID: "b"}, nil, at(time.Hour), at(time.Hour), c.rules)
				c.state = Conclude(c.state, h, heard.Outcome, at(time.Hour), c.rules).State
			},
			end: func(c *chronicle) Transition {
				return Polled(c.state, c.request(), false, false, at(72*time.Hour), c.rules)
			},
			firstSent: noon, last: at(time.Hour), until: at(time.Hour + tail), ids: []string{"a", "b"}, undecided: 1, reason: messages.ReasonPendingTooLong,
		},
		{
			name: "given up by the sweep", happened: func(c *chronicle) { c.delivered(noon, failed("a")); c.claimed(at(time.Hour)) },
			end: func(c *chronicle) Transition {
				st, _ := Sweep(c.state, at(48*time.Hour), c.rules)
				return st
			},
			firstSent: noon, last: at(time.Hour), until: at(time.Hour + lease + timing.SettleDelay), ids: []string{"a"}, undecided: 2,
		},
		{
			name: "given up by the next attempt's job", happened: func(c *chronicle) { c.claimed(noon) },
			end:       func(c *chronicle) Transition { return Deliver(c.state, second(), at(48*time.Hour), c.rules) },
			firstSent: noon, last: noon, until: at(lease + timing.SettleDelay), undecided: 1,
		},
		{
			name: "its handling broke while a try was under way", happened: func(c *chronicle) {
				c.claimed(noon)
				for range MaxPanics - 1 {
					c.state = Panicked(c.state, c.request(), at(time.Second), c.rules).State
				}
			},
			end: func(c *chronicle) Transition { return Panicked(c.state, c.request(), at(2*time.Second), c.rules) },
			// Each panic says anew until when the try before it may have gone on.
			firstSent: noon, last: noon, until: at(time.Second + 2*timing.SettleDelay + 12500*time.Millisecond), undecided: 1, reason: messages.ReasonPoison,
		},
		{
			name: "of an earlier version, whose workers told of no try", happened: func(c *chronicle) {
				c.delivered(noon, failed("a"))
				c.state = with(c.state, func(c *Claim) { c.Search, c.LeaseUntil = nil, at(30*time.Second) })
			},
			firstSent: noon, last: noon, until: at(tail), undecided: 1,
		},
		{
			name: "the same, hours later", happened: func(c *chronicle) {
				c.delivered(noon, failed("a"))
				c.state = with(c.state, func(c *Claim) { c.Search, c.LeaseUntil = nil, at(10*time.Hour) })
			},
			firstSent: noon, last: noon, until: at(10*time.Hour + timing.SettleDelay), undecided: 1,
		},
		{
			name: "forgotten by a journal that was set back", happened: func(c *chronicle) { c.rules.Restored = at(30 * time.Hour) },
			end:       func(c *chronicle) Transition { return Deliver(c.state, c.request(), at(31*time.Hour), c.rules) },
			firstSent: noon.Add(-time.Hour), last: at(30 * time.Hour), until: at(30*time.Hour + tail), undecided: 1, reason: messages.ReasonJournalRestored,
		},
		{
			name: "set back, and asked again before the window closed", happened: func(c *chronicle) {
				c.rules.Restored = at(time.Hour)
				c.delivered(at(2*time.Hour), failed("a"))
			},
			firstSent: noon.Add(-time.Hour), last: at(2 * time.Hour), until: at(2*time.Hour + tail), ids: []string{"a"}, undecided: 2, reason: messages.ReasonJournalRestored,
		},
		{
			name: "set back, and the worker died", happened: func(c *chronicle) { c.rules.Restored = at(time.Hour); c.claimed(at(2 * time.Hour)) },
			firstSent: noon.Add(-time.Hour), last: at(2 * time.Hour), until: at(2*time.Hour + lease + timing.SettleDelay), undecided: 2, reason: messages.ReasonJournalRestored,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := newChronicle(t)
			row.happened(c)
			if row.end == nil {
				row.end = func(c *chronicle) Transition {
					c.nonce++
					return Deliver(c.state, c.request(), at(24*time.Hour), c.rules)
				}
			}
			st := row.end(c)
			if row.reason == "" {
				row.reason = messages.ReasonIdempotencyWindowExpired
			}
			if st.Record != messages.KindUnresolved || st.Reason != row.reason {
				t.Fatalf("got %s %s, want unresolved %s", st.Record, st.Reason, row.reason)
			}
			written, err := st.State.Encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseState(written)
			if err != nil {
				t.Fatal(err)
			}
			u := UnresolvedEvent(messages.Record{}, st.Reason, *back.Claim, "")
			if !u.FirstSentAt.Equal(row.firstSent) || !u.LastSentAt.Equal(row.last) || !u.SearchUntil.Equal(row.until) {
				t.Errorf("got first sent %v, last sent %v, search until %v\nwant %v, %v, %v", u.FirstSentAt, u.LastSentAt, u.SearchUntil, row.firstSent, row.last, row.until)
			}
			if !slices.Equal(u.CorrelationIDs, row.ids) || u.UndecidedTries != row.undecided {
				t.Errorf("got correlation ids %v and %d undecided tries, want %v and %d", u.CorrelationIDs, u.UndecidedTries, row.ids, row.undecided)
			}
		})
	}
}

// A delivery that is handed back before its first try has nothing to say of what went wrong: what is known stays.
func TestHandedBackKeepsTheLastError(t *testing.T) {
	t.Parallel()
	c := newChronicle(t)
	c.delivered(noon, failed("a"))
	want := c.state.Claim.LastError
	c.delivered(noon.Add(time.Hour))
	if got := c.state.Claim.LastError; got != want || !strings.Contains(want, "500") {
		t.Errorf("got %q, want %q", got, want)
	}
	c.delivered(noon.Add(2*time.Hour), &klarna.NotSentError{Err: errors.New("no such host")})
	if got := c.state.Claim.LastError; !strings.Contains(got, "no such host") {
		t.Errorf("got %q, want what went wrong last", got)
	}
}

// Where the result is known nobody has to search, and the state does not carry on what nobody asks for.
func TestNothingToSearchForOnceDecided(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"paid": nil, "declined": answered(403, "PAYMENT_METHOD_FAILED")} {
		c := newChronicle(t)
		c.delivered(noon, failed("a"))
		if c.state.Claim.Search == nil {
			t.Fatal("an undecided try is not kept")
		}
		c.claimed(noon.Add(time.Hour))
		h := Held(c.state, c.rules)
		heard := Untried(h)
		created := Created{}
		if answer == nil {
			created = Created{ID: "order-1", FraudStatus: klarna.FraudAccepted}
		}
		heard.Hear(created, answer, noon.Add(time.Hour), noon.Add(time.Hour), c.rules)
		if got := Conclude(c.state, h, heard.Outcome, noon.Add(time.Hour), c.rules).State.Claim.Search; got != nil {
			t.Errorf("%s: the state still carries %+v", name, got)
		}
	}
}

// A try that brings the order leaves nothing behind for a search.
func TestPaidAtOnceKeepsNothingToSearchFor(t *testing.T) {
	t.Parallel()
	c := newChronicle(t)
	c.claimed(noon)
	h := Held(c.state, c.rules)
	heard := Untried(h)
	heard.Hear(Created{ID: "order-1", FraudStatus: klarna.FraudAccepted, CorrelationID: "a"}, nil, noon, noon, c.rules)
	st := Conclude(c.state, h, heard.Outcome, noon, c.rules)
	if heard.CorrelationIDs != nil || c.state.Claim.Search != nil || st.State.Claim.Search != nil {
		t.Errorf("got %v, %+v, %+v, want nothing", heard.CorrelationIDs, c.state.Claim.Search, st.State.Claim.Search)
	}
}

func TestCorrelationIDsOfAKey(t *testing.T) {
	t.Parallel()
	var o Outcome
	for i := range 25 {
		o.heard(fmt.Sprint("id ", i))
	}
	o.heard("")
	o.heard("id 10")
	o.heard(strings.Repeat("é", 100))
	if n := len(o.CorrelationIDs); n != maxCorrelationIDs || o.CorrelationIDs[0] != "id 6" || o.CorrelationIDs[18] != "id 10" || o.CorrelationIDs[19] != strings.Repeat("é", maxCorrelationID/2) {
		t.Errorf("got %d: %q, want the last 20, each once, none longer than 64 bytes", n, o.CorrelationIDs)
	}
	before := []string{"a", "b"}
	if got := joined(before, []string{"b", "a"}); !slices.Equal(got, []string{"b", "a"}) || !slices.Equal(before, []string{"a", "b"}) {
		t.Errorf("got %v from %v", got, before)
	}
}

// Whatever answers in Klarna's name, and whatever a publisher calls its orders, the state fits into a header, of which nats-server
// takes 64 KiB in all.
func TestStateFitsIntoAHeader(t *testing.T) {
	t.Parallel()
	c := newChronicle(t)
	c.claimed(noon)
	for i := range 100 {
		quotes := strings.Repeat(`"\`, 200)
		c.state = with(c.state, func(c *Claim) {
			c.tell(Outcome{SentAt: noon, CorrelationIDs: func() []string { o := Outcome{}; o.heard(fmt.Sprint(i) + quotes); return o.CorrelationIDs }()}, newChronicle(t).rules)
			c.LastError = quotes[:maxLastError/4]
		})
	}
	for i := range MaxSettled {
		key := messages.NewIdempotencyKey(messages.RenewalKey("4a87da77-4bba-50c6-8cae-6972612639ac"), messages.MessageID(fmt.Sprint(i)))
		c.state = c.state.Settle(key, Settlement{Kind: messages.KindRejected, SHA256: strings.Repeat("a", 64), Reason: messages.ReasonBlockedByUnresolved})
	}
	text, err := c.state.Encode()
	if err != nil || len(text) > 60<<10 {
		t.Errorf("got %d bytes (%v), want at most 60 KiB", len(text), err)
	}
	if got := len(c.state.Claim.Search.CorrelationIDs); got != maxCorrelationIDs {
		t.Errorf("got %d correlation ids, want %d", got, maxCorrelationIDs)
	}
}
