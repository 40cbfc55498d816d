package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the model's part for captures: jobs about an order that was only
// authorised, Klarna's word on how much of it is left, and what must be true of both.

const (
	firstCapture = 2 + maxPostings // the key of the first capture
	orderAmount  = 100             // of every order, in minor units
)

// How Klarna answers the question of how much is left of an order.
const (
	current    = iota
	behind     // as if its last capture had not been made
	unanswered // not at all
)

func (p posting) captures() bool { return p.key >= firstCapture }

// authorised is what a charge leaves to be captured.
func (p posting) authorised() *Order {
	if !p.authorises {
		return nil
	}
	return &Order{Amount: orderAmount}
}

// authorised is what an operator knows of the renewal's charge.
func (w *modelWorld) authorised(s *State) *Order {
	i := slices.IndexFunc(w.postings, func(p posting) bool { return modelKeys[p.key] == s.Claim.Key })
	return w.postings[i].authorised()
}

func (w *modelWorld) captureBook(key int) *book { return &w.books[3+key-firstCapture] }

// order is the book of an order.
func (w *modelWorld) order(id string) *book { return &w.books[slices.Index(madeNames[:], id)] }

// look asks Klarna how much of the order can be captured.
func (w *modelWorld) look(h *hand, who, how int) {
	of := h.next.State.Order
	o := w.order(of.ID)
	f := w.found(o.captured)
	if how != current {
		w.left.faults--
	}
	switch {
	case how == unanswered:
		h.next = Later(w.machinery.rules.Delay(w.queue[h.posting].delivered))
		w.end(h)
		return
	case how == behind:
		f = w.found(o.captured - o.last)
		w.misled = w.misled || w.portal > 0 || w.takes > 0
	}
	f.Booked = of.Captured
	h.found, h.at = &f, deciding
	if w.coarse { // what comes between would make the write fail
		w.decide(h, who)
	}
}

// found is an order at Klarna of which so much is captured.
func (w *modelWorld) found(captured int64) OrderFound {
	f := OrderFound{Status: "AUTHORIZED", Amount: orderAmount, Remaining: orderAmount - captured, Captured: captured}
	switch {
	case captured == orderAmount:
		f.Status = "CAPTURED"
	case w.orderEnded:
		f.Status, f.Remaining = "EXPIRED", 0
	case captured > 0:
		f.Status = "PART_CAPTURED"
	}
	return f
}

// captureItself is Klarna capturing an order as it was asked to, or less of it.
func (w *modelWorld) captureItself(b *book) {
	k := bookKeys[w.bookNumber(b)]
	if i := slices.IndexFunc(w.postings, func(p posting) bool { return p.key == k }); k < firstCapture && !w.postings[i].authorises {
		b.captured, b.last = b.captured+w.takes, w.takes
	}
}

// sample is a worker looking at an order that Klarna was asked to capture.
func (w *modelWorld) sample(h *hand) {
	if p := w.postings[h.posting]; p.looked && h.tally.Answer == Accepted {
		h.held.Authorised = w.found(w.book(h).captured).Ignored()
	}
}

// tooMuch says that Klarna would not make the capture.
func (w *modelWorld) tooMuch(capture *book) bool {
	return w.orderEnded || w.order(capture.of).captured+capture.amount > orderAmount
}

// checkCaptures: the journal has no more as captured than Klarna captured for it,
// and calls no order closed of which something is left.
func (w *modelWorld) checkCaptures(o *Order) {
	if o == nil {
		return
	}
	switch taken := w.order(o.ID).captured; {
	case o.Captured > taken-w.portal:
		w.fail("%d of %s are said to be captured, Klarna has captured %d", o.Captured, o.ID, taken-w.portal)
	case o.Closed && !w.orderEnded && taken < orderAmount:
		w.fail("%s is said to be closed, and %d are left", o.ID, orderAmount-taken)
	}
}

// mayBeSentNow: what is captured under a key is what its job asks for, never
// changes, was left to be captured, and comes after whatever else was captured has a result. What is captured is not
// charged again.
func (w *modelWorld) mayBeSentNow(h *hand, b *book) {
	k, p, c := w.key(h), w.postings[h.posting], h.held.Claim.Capture
	for other := firstCapture; other < maxKeys; other++ {
		switch {
		case c == nil && w.inOrder[other] && w.results[k] != messages.KindPaid:
			w.fail("money was captured, and Klarna is asked for %s", p.name)
		case other != k && w.results[other] == messages.KindUnresolved:
			w.fail("%s is unresolved, and Klarna is asked for %s", modelKeys[other], p.name)
		}
	}
	switch excused := w.misled || w.excused[firstCapture] || w.excused[firstCapture+1]; {
	case c == nil:
	case c.Amount < 1, p.amount > 0 && c.Amount != p.amount:
		w.fail("%s asks for %d", modelKeys[k], c.Amount)
	case b.of != "" && (b.of != c.OrderID || b.amount != c.Amount):
		w.fail("%s asks for %d of %s, and was for %d of %s", modelKeys[k], c.Amount, c.OrderID, b.amount, b.of)
	case b.made == 0 && !excused && w.order(c.OrderID).captured+c.Amount > orderAmount:
		w.fail("%s asks for %d, of which %d are captured", modelKeys[k], c.Amount, w.order(c.OrderID).captured)
	}
}

// announceLeft: who reads that a renewal is paid learns whether its money has to be captured, as far as anybody knows.
func (w *modelWorld) announceLeft(st *Transition) {
	p := w.postings[slices.IndexFunc(w.postings, func(p posting) bool { return modelKeys[p.key] == st.Key })]
	switch {
	case p.authorises && st.State.Order == nil:
		w.fail("%s only authorised its order, and nothing tells of it", st.Key)
	case p.looked && st.State.Order == nil && w.books[p.key].captured < orderAmount:
		w.fail("%s was seen not to be captured, and nothing tells of it", st.Key)
	case !p.authorises && st.State.Order != nil && w.order(st.State.Order.ID).captured == orderAmount:
		w.fail("%s is captured, and is said not to be", st.Key)
	}
}

// announceUncapturable: a rejected capture was rejected for a true reason.
func (w *modelWorld) announceUncapturable(st *Transition) {
	paid, left := false, int64(0)
	for i, p := range w.postings {
		if b := w.book(&hand{posting: i}); !p.captures() && w.results[p.key] == messages.KindPaid && b.live() {
			paid, left = true, orderAmount-b.captured
		}
	}
	less := slices.ContainsFunc(w.postings, func(p posting) bool { return modelKeys[p.key] == st.Key && p.amount <= left })
	switch {
	case st.Reason == messages.ReasonNotPaid && paid,
		st.Reason == messages.ReasonAlreadyCaptured && (!paid || left > 0),
		st.Reason == messages.ReasonAmountTooHigh && less:
		w.fail("%s is rejected as %s, and %d are left", st.Key, st.Reason, left)
	}
}

// capturesAtRest: what the journal has as captured is what Klarna captured for it.
func (w *modelWorld) capturesAtRest() {
	o := w.journal[0].state.Order
	for k := firstCapture; k < maxKeys; k++ {
		if o == nil || w.misled || w.restored > 0 || w.excused[k] || w.results[k] == messages.KindUnresolved {
			return
		}
	}
	if got := w.order(o.ID).captured - w.portal; got != o.Captured {
		w.fail("%d of %s are said to be captured, Klarna has captured %d", o.Captured, o.ID, got)
	}
}

// ---- What tells worlds with captures apart.

func (w *modelWorld) capturing() bool { return slices.ContainsFunc(w.postings, posting.captures) }

func (id identifier) captures() {
	if !id.capturing() {
		return
	}
	for k := firstCapture; k < maxKeys; k++ {
		id.text(string(id.results[k]))
		b := id.captureBook(k)
		id.flags(id.inOrder[k], id.excused[k], id.told[k], id.misled, b.of != "")
		if b.of != "" {
			id.book(b)
			id.text(b.of)
			id.WriteByte(byte(b.amount))
		}
	}
	for _, b := range id.books[:3] {
		id.Write([]byte{byte(b.captured), byte(b.last)})
	}
}

func (id identifier) captured(s *State) {
	if !id.capturing() {
		return
	}
	for _, k := range modelKeys[firstCapture:] {
		e := s.Settled[k]
		id.text(string(e.Kind))
		id.text(string(e.Reason))
		id.text(e.SHA256)
		id.WriteByte(byte(e.Replay))
	}
	if id.flags(s.Order != nil); s.Order != nil {
		id.text(s.Order.ID)
		id.WriteByte(byte(s.Order.Captured))
		id.flags(s.Order.Closed)
	}
	if s.Capturing() {
		id.WriteByte(byte(s.Claim.Capture.Amount))
	}
}

func (id identifier) found(f *OrderFound) {
	id.text(f.Status)
	id.Write([]byte{byte(f.Remaining), byte(f.Booked)})
}

// ---- The worlds.

// modelCaptures are a charge that only authorises, and jobs that capture what it did.
type modelCaptures struct{ charge, auto, looked, again, everything, rest, part, more, other, replay posting }

func newModelCaptures() modelCaptures {
	c := modelCaptures{
		charge:     posting{name: "the charge", hash: "order 1", payload: "payload 1", authorises: true},
		again:      posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2", authorises: true},
		everything: posting{name: "the capture", key: firstCapture, hash: "capture 1", payload: "capture payload 1"},
		rest:       posting{name: "a second capture", key: firstCapture + 1, hash: "capture 2", payload: "capture payload 2"},
	}
	c.auto = c.charge
	c.auto.name, c.auto.authorises = "the charge that Klarna captures", false
	c.looked = c.auto
	c.looked.looked = true
	c.part, c.more = c.everything, c.rest
	c.part.name, c.part.amount = "a capture of 40", 40
	c.more.name, c.more.amount = "a capture of 50", 50
	c.other, c.replay = c.part, c.part
	c.other.name, c.other.hash, c.other.payload, c.other.amount = "the capture's ID with 30", "capture 1 of 30", "capture payload 1 of 30", 30
	c.replay.name, c.replay.replay = "a capture of 40, replayed", 2
	return c
}

// captureWorlds are those among the small worlds in which money is captured.
func captureWorlds() []*setting {
	c := newModelCaptures()
	invalid := c.part
	invalid.name, invalid.hash, invalid.payload, invalid.invalid = "the capture, invalid", "capture 0", "capture payload 0", true
	all := []*setting{
		{name: "answers to a capture", replies: []reply{acceptsThen500, declines, turnsAway, unreachable, acceptsNameless}, denies: true,
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 2}},
		{name: "crashes while capturing", replies: []reply{acceptsThen500, declines, unreachable},
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 1, crashes: 2}},
		{name: "lost writes of a capture", replies: []reply{declines},
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 1, losses: 2}},
		{name: "cut captures", replies: []reply{takesLong, declines},
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 2}},
		{name: "refusals of a capture, replayed", replies: []reply{declines}, replays: true,
			postings: []posting{c.charge, c.part, c.rest}, budget: budget{deliveries: 2, faults: 2, losses: 1}},
		{name: "an expired authorisation", replies: []reply{acceptsThen500, notAllowed}, hides: true,
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 2, crashes: 1, expiries: 1}},
		{name: "everything twice", replies: []reply{acceptsThen500, declines},
			postings: []posting{c.charge, c.everything, c.rest}, budget: budget{deliveries: 2, faults: 2}},
		{name: "two parts", replies: []reply{acceptsThen500},
			postings: []posting{c.charge, c.part, c.rest}, budget: budget{deliveries: 2, faults: 2}},
		{name: "a capture in Klarna's portal", portal: 20,
			postings: []posting{c.charge, c.part, c.more}, budget: budget{deliveries: 3}},
		{name: "one capture ID, two amounts", replies: []reply{acceptsThen500},
			postings: []posting{c.charge, c.part, c.other}, budget: budget{deliveries: 2, faults: 1}},
		{name: "a capture and another charge", replies: []reply{declines},
			postings: []posting{c.charge, c.again, c.part}, budget: budget{deliveries: 3, faults: 1}},
		{name: "a corrected capture",
			postings: []posting{c.charge, invalid, c.part}, budget: budget{deliveries: 3, expiries: 1}},
		{name: "panics of a capture",
			postings: []posting{c.charge, c.part}, budget: budget{deliveries: 3, panics: 1}},
		{name: "the last panic of a capture", replies: []reply{acceptsThen500}, panicked: MaxPanics - 1,
			postings: []posting{c.charge, c.again, c.everything}, budget: budget{deliveries: 2, faults: 1, panics: 1}},
		{name: "the last panic, of the ID's other capture", panicked: MaxPanics - 1,
			postings: []posting{c.charge, c.part, c.other}, budget: budget{deliveries: 2, panics: 1}},
		{name: "the window of a capture", horizon: 26 * time.Hour, replies: []reply{acceptsThen500, unreachable},
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, faults: 1}},
		{name: "an operator and captures", horizon: 26 * time.Hour,
			postings: []posting{c.charge, c.part, c.more}, budget: budget{deliveries: 2, resolves: 1}},
		{name: "an order that Klarna captured", takes: orderAmount, replies: []reply{acceptsThen500, notAllowed},
			postings: []posting{c.auto, c.everything, c.rest}, budget: budget{deliveries: 3, faults: 2, expiries: 1}},
		{name: "an order that Klarna left", replies: []reply{acceptsThen500, declines},
			postings: []posting{c.auto, c.part, c.rest}, budget: budget{deliveries: 3, faults: 2}},
		{name: "an order that Klarna left, crashes", replies: []reply{acceptsThen500, unreachable},
			postings: []posting{c.auto, c.everything}, budget: budget{deliveries: 2, faults: 1, crashes: 1, losses: 1}},
		{name: "an order that Klarna captured in part", takes: 40, replies: []reply{acceptsThen500, notAllowed},
			postings: []posting{c.auto, c.part, c.rest}, budget: budget{deliveries: 3, faults: 2}},
		{name: "an order that Klarna captured in part, and panics", takes: 40, replies: []reply{acceptsThen500}, panicked: MaxPanics - 1,
			postings: []posting{c.auto, c.again, c.everything}, budget: budget{deliveries: 2, faults: 1, panics: 1}},
		{name: "an order that Klarna left, and another charge", replies: []reply{declines},
			postings: []posting{c.auto, c.again, c.part}, budget: budget{deliveries: 3, faults: 1, expiries: 1}},
		{name: "an unresolved capture and a charge", horizon: 26 * time.Hour,
			postings: []posting{c.charge, c.again, c.part}, budget: budget{deliveries: 2, purges: 1}},
	}
	for _, s := range all {
		s.paid = true
	}
	for _, takes := range []int64{0, 40, orderAmount} {
		all = append(all, &setting{name: fmt.Sprintf("an order that is looked at, %d captured", takes), takes: takes, replies: []reply{acceptsThen500},
			postings: []posting{c.looked, c.everything}, budget: budget{deliveries: 3, faults: 1, crashes: 1}})
	}
	all = append(all, []*setting{
		{name: "a charge that is captured", replies: []reply{acceptsPending},
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 3, faults: 1}},
		{name: "a replayed capture",
			postings: []posting{c.charge, c.part, c.replay}, budget: budget{deliveries: 3, expiries: 1}},
		{name: "an operator finds the order to capture", horizon: 26 * time.Hour,
			postings: []posting{c.charge, c.everything}, budget: budget{deliveries: 2, crashes: 1, resolves: 1}},
	}...)
	for _, s := range all {
		if s.horizon == 0 {
			s.horizon = 10 * time.Minute
		}
	}
	return all
}

// brokenCaptureRules are the rules of captures, each taken away.
func brokenCaptureRules() []brokenRule {
	looking := func(change func(s *State, f *OrderFound)) func(*machinery) {
		return asking(func(s *State, q *Request, _ time.Time) {
			if q.Capture == nil || q.Capture.Found == nil {
				return
			}
			w, f := *q.Capture, *q.Capture.Found
			w.Found, q.Capture = &f, &w
			change(s, &f)
		})
	}
	captured := func(s *State, change int64) {
		o := *s.Order
		o.Captured += change
		*s = s.ordered(o)
	}
	resolving := func(change func(st *Transition, s State, v *verdict)) func(*machinery) {
		return func(m *machinery) {
			ask := m.resolve
			m.resolve = func(s State, v verdict) (Transition, error) {
				change(&Transition{}, s, &v)
				st, err := ask(s, v)
				change(&st, s, &v)
				return st, err
			}
		}
	}

	return []brokenRule{
		// What may be captured.
		{"Klarna is asked what is left before a capture is claimed", "a capture in Klarna's portal",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Capture != nil && s.Order != nil {
					q.Capture = &CaptureWanted{Amount: q.Capture.Amount, Found: &OrderFound{Amount: orderAmount, Remaining: orderAmount, Booked: s.Order.Captured}}
				}
			})},
		{"Klarna is asked again after another capture", "a capture in Klarna's portal",
			looking(func(s *State, f *OrderFound) {
				if s.Order != nil {
					f.Booked = s.Order.Captured
				}
			})},
		{"what the journal has as captured is not left, whatever Klarna says", "two parts",
			looking(func(s *State, f *OrderFound) {
				if s.Order != nil {
					f.Amount += s.Order.Captured
				}
			})},
		{"what is captured is counted", "two parts",
			concluded(func(st *Transition) {
				if st.Record == messages.KindCaptured {
					captured(&st.State, -st.State.Claim.Capture.Amount)
				}
			})},
		{"what is captured is counted once", "crashes while capturing",
			func(m *machinery) {
				ask := m.conclude
				m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
					st := ask(s, h, o, now, r)
					if st.Record == messages.KindCaptured && s.Claim.Nonce != h.Claim.Nonce {
						captured(&st.State, h.Claim.Capture.Amount)
					}
					return st
				}
			}},
		{"a capture that an operator finds is counted", "an operator and captures",
			resolving(func(st *Transition, s State, _ *verdict) {
				if st.Record == messages.KindCaptured {
					st.State.Order = s.Order
				}
			})},
		{"a capture is of what its job asks for", "two parts",
			asking(func(_ *State, q *Request, _ time.Time) {
				if q.Capture != nil {
					q.Capture = &CaptureWanted{Found: q.Capture.Found}
				}
			})},
		{"every try of a capture asks for the same amount", "two parts",
			saying(func(st *Transition, s State, q Request, _ time.Time) {
				if st.Record == messages.KindCapturing && s.Open() && s.Holds(q.Key) {
					edit(&st.State, func(c *Claim) { c.Capture = &Capture{OrderID: s.Order.ID, Amount: s.Order.Amount - s.Order.Captured} })
				}
			})},
		{"a capture's ID with another amount is another job", "one capture ID, two amounts",
			asking(func(s *State, q *Request, _ time.Time) {
				if e, ok := s.Settled[q.Key]; ok {
					q.Hash = e.SHA256
				}
			})},

		// What Klarna was asked to capture by itself.
		{"an order that Klarna was asked to capture is looked at before it is captured", "an order that Klarna captured",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Capture != nil && s.Order == nil {
					q.Capture = &CaptureWanted{Amount: q.Capture.Amount, Found: &OrderFound{Amount: orderAmount, Remaining: orderAmount}}
				}
			})},
		{"our own flag is no capture", "an order that Klarna left",
			func(m *machinery) {
				ask := m.deliver
				m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
					if q.Capture != nil && s.Phase == PhasePaid && s.Order == nil && !s.known(q.Key) {
						return reject(s, q, messages.ReasonAlreadyCaptured)
					}
					return ask(s, q, now, r)
				}
			}},
		{"what Klarna captured by itself is counted", "an order that Klarna captured in part",
			looking(func(_ *State, f *OrderFound) { f.Captured = 0 })},
		{"an order that was seen to be left is told of", "an order that is looked at, 0 captured",
			concluding(func(_ State, h *HeldClaim, _ *Outcome) { h.Authorised = nil })},

		// What must have come before.
		{"an order is kept for its captures", "a charge that is captured",
			concluding(func(_ State, h *HeldClaim, _ *Outcome) { h.Authorised = nil })},
		{"a pending order is kept for its captures", "a charge that is captured",
			func(m *machinery) {
				ask := m.polled
				m.polled = func(s State, q Request, accepted, final bool, now time.Time, r Rules) Transition {
					q.Authorised = nil
					return ask(s, q, accepted, final, now, r)
				}
			}},
		{"an order that an operator finds is kept for its captures", "an operator finds the order to capture",
			resolving(func(_ *Transition, _ State, v *verdict) { v.authorised = nil })},
		{"a rejection carries the order on", "a capture and another charge",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) {
				if st.Record == messages.KindRejected {
					st.State.Order = nil
				}
			})},
		{"no capture over the open capture of another key", "everything twice",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Capture != nil && s.Phase == PhaseCapturing && !s.Holds(q.Key) {
					s.Phase = PhasePaid
				}
			})},
		{"no capture after one that is unresolved", "an operator and captures",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Capture != nil && s.Phase == PhaseUnresolved && s.Capturing() {
					s.Phase = PhaseCaptureFailed
				}
			})},
		{"what is captured is not charged again", "a capture and another charge", forgetting(PhaseCaptured)},
		{"what could not be captured is not charged again", "a capture and another charge", forgetting(PhaseCaptureFailed)},
		{"what may be captured is not charged again", "an unresolved capture and a charge", forgetting(PhaseUnresolved)},

		// The answers and the results.
		{"after an undecided try the order's refusal is not believed", "an expired authorisation", believing(func(o Outcome) bool { return o.Contradicted })},
		{"a capture in hand is recorded by whoever has lost the claim", "crashes while capturing",
			concluding(func(s State, h *HeldClaim, o *Outcome) {
				if s.Claim.Nonce != h.Claim.Nonce {
					o.Answer = NoAnswer
				}
			})},
		{"a capture that overrides another result says so", "an operator and captures", concluded(func(st *Transition) { st.Corrects = "" })},
		{"a capture that comes to light after the next is told of", "an operator and captures",
			concluded(func(st *Transition) { st.Dead = st.Dead && st.Reason != messages.ReasonCaptureAfterFailure })},
		{"a capture that fails after a rejection says so", "a corrected capture",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) {
				if st.Record == messages.KindCaptureFailed {
					st.Corrects = ""
				}
			})},

		// Panics.
		{"a panic is counted for the job that panicked, not for another with its ID", "the last panic, of the ID's other capture",
			func(m *machinery) {
				ask := m.panicked
				m.panicked = func(s State, q Request, now time.Time, r Rules) Transition {
					if s.Open() && s.Holds(q.Key) {
						q.Hash = s.Claim.SHA256
					}
					return ask(s, q, now, r)
				}
			}},
		{"a capture that panics leaves the order as it was", "the last panic of a capture",
			func(m *machinery) {
				ask := m.panicked
				m.panicked = func(s State, q Request, now time.Time, r Rules) Transition {
					st := ask(s, q, now, r)
					if st.Record == messages.KindRejected {
						st.State.Phase = PhaseNone
					}
					return st
				}
			}},
	}
}
