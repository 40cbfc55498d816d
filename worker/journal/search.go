package journal

import (
	"slices"
	"strings"
	"time"
)

const (
	// maxCorrelationIDs of a key are kept, the last ones.
	maxCorrelationIDs = 20
	// maxCorrelationID is how much of each is kept, in bytes. Klarna's are UUIDs; whoever answers in its name may send anything, and
	// the state has to fit into a header.
	maxCorrelationID = 64
)

// sent takes in a try, or several of which this was the last to begin.
func (s *Search) sent(began time.Time, r Rules) {
	s.LastSentAt = later(s.LastSentAt, began)
	s.Until = later(s.Until, began.Add(r.TryTimeout+r.SettleDelay))
}

// search is a copy of what is known, to be changed: others read the claim, too.
func (c Claim) search() Search {
	if c.Search == nil {
		return Search{}
	}
	return *c.Search
}

// tell takes in what a delivery says of its tries.
func (c *Claim) tell(o Outcome, r Rules) {
	if c.Search == nil && o.SentAt.IsZero() {
		return
	}
	s := c.search()
	s.TakenAt = time.Time{}
	if !o.SentAt.IsZero() {
		s.sent(later(o.SentAt, c.FirstSentAt), r)
		s.CorrelationIDs = joined(s.CorrelationIDs, o.CorrelationIDs)
	}
	c.Search = &s
}

// suppose takes in what a holder may have sent that never told of it: it began at once, and may have gone on for as long as its
// lease lasted. Of a holder that told there is nothing to suppose. Workers of earlier versions told of no try at all.
func (c *Claim) suppose(r Rules) {
	s := c.search()
	began := later(c.FirstSentAt, s.TakenAt)
	if began.IsZero() || !s.LastSentAt.Before(began) {
		return
	}
	s.TakenAt = time.Time{}
	s.sent(began, r)
	s.Until = later(s.Until, c.LeaseUntil.Add(r.SettleDelay))
	c.Search = &s
}

// forgot takes in that tries before the journal was set back may be forgotten, up to the very moment.
func (c *Claim) forgot(r Rules) {
	s := c.search()
	s.sent(r.Restored, r)
	c.Search = &s
}

// unused is the claim where its delivery sends nothing after all.
func (c Claim) unused() Claim {
	c.Released = true
	if s := c.search(); !s.TakenAt.IsZero() {
		s.TakenAt = time.Time{}
		c.Search = &s
	}
	return c
}

// found is the state once there is nothing to search for any more.
func (s State) found() State {
	if s.Claim.Search == nil {
		return s
	}
	c := *s.Claim
	c.Search = nil
	return s.Claimed(c)
}

// joined are the last of the correlation ids, each where it came last. Neither list is changed.
func joined(before, more []string) []string {
	var all []string
	for _, id := range slices.Concat(before, more) {
		all = append(slices.DeleteFunc(all, func(other string) bool { return other == id }), id)
	}
	return all[max(len(all)-maxCorrelationIDs, 0):]
}

// heard keeps the correlation id of an answer.
func (o *Outcome) heard(id string) {
	if id = strings.ToValidUTF8(id[:min(len(id), maxCorrelationID)], ""); id != "" {
		o.CorrelationIDs = joined(o.CorrelationIDs, []string{id})
	}
}
