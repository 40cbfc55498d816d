package journal

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

// This file keeps the body of a claim short. Every paid renewal has one for as long as the journal goes back, nobody but the worker
// reads it, and the most of what it says stands in the record's subject and in its state.

// body is the record's body as it is stored.
func (r Record) body(of messages.Renewal, s State) ([]byte, error) {
	if c, ok := r.Event.(messages.Charging); ok && s.says(c, of) {
		return messages.EncodeClaim(c)
	}
	return messages.Encode(r.Event)
}

// says that what a brief body leaves out can be told from the state and the renewal. It cannot where the record only counts
// something beside another key's claim.
func (s State) says(c messages.Charging, of messages.Renewal) bool {
	if c.IdempotencyKey == "" || c.At.IsZero() || !s.Holds(c.IdempotencyKey) {
		return false
	}
	claim := s.Claim
	return c.Attempt == s.Attempts && c.Tries == claim.Tries && c.Deliveries == claim.Deliveries && c.Worker == claim.Worker &&
		c.FirstSentAt.Equal(claim.FirstSentAt) && c.UndecidedTries == claim.UndecidedTries && c.LastError == claim.LastError &&
		messages.NewRenewal(c.SubscriptionID, c.Period) == of
}

// Tell says of a claim what the state after it and the record's address know, which a brief body leaves out: one without an
// idempotency key. A claim without At was made when its key was first sent.
func (s State) Tell(c *messages.Charging, of messages.Renewal, account messages.Account) {
	c.Account, c.RenewalKey = account, of.Key()
	c.SubscriptionID, c.Period = of.Split()
	c.Attempt, c.IdempotencyKey = s.Attempts, s.Claim.Key
	c.Tries, c.Deliveries, c.Worker = s.Claim.Tries, s.Claim.Deliveries, s.Claim.Worker
	c.FirstSentAt, c.UndecidedTries, c.LastError = s.Claim.FirstSentAt, s.Claim.UndecidedTries, s.Claim.LastError
	if c.At.IsZero() {
		c.At = c.FirstSentAt
	}
}

// WholeBody is the body of a record with what a claim leaves to the record's subject and to its Renewals-State header, as other records
// say it themselves: bodies of other kinds, and of claims that earlier versions wrote, are returned as they are.
func WholeBody(subject, state string, body []byte) ([]byte, error) {
	if !strings.HasPrefix(subject, claimSubject) {
		return body, nil
	}
	s, err := ParseState(state)
	if err != nil {
		return nil, err
	}
	return s.wholeBody(subject, body)
}

const claimSubject = "renewals." + string(messages.KindCharging) + "."

func (s State) wholeBody(subject string, body []byte) ([]byte, error) {
	if !strings.HasPrefix(subject, claimSubject) {
		return body, nil
	}
	var c messages.Charging
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if c.IdempotencyKey != "" || s.Claim == nil {
		return body, nil
	}
	address, err := messages.ParseRecordSubject(subject)
	if err != nil {
		return nil, err
	}
	s.Tell(&c, address.Renewal, address.Account)
	return messages.Encode(c)
}
