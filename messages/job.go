// Package messages is the wire contract with other teams: the jobs that billing systems publish, the results that they
// get, and the subjects, keys, headers and schemas of both.
//
// A billing system in Go makes a [Job] and calls [Publish]; one in any other language publishes the JSON that
// [Schema]("job") describes, with Nats-Msg-Id set to the job's id, on [DueSubject], or a CloudEvent in structured mode that has
// it as its data. What is decided here once and never
// changes: [NewRenewalKey], [NewIdempotencyKey] and [NewCaptureKey], on which the promise of charging once rests, the
// subjects, and the meaning of every field. Kinds, reasons, categories and optional fields may be added, so readers of
// results ignore what they do not know.
//
// An order made without auto_capture is authorised only. Its money is taken by a [Capture], which is a job as well: see
// [PublishCapture] and [Schema]("capture").
//
// What one gets wrong first: the message ID names one attempt at one renewal. The same ID means the same charge, which is
// made once; a new attempt after dunning, or corrected bytes, need a new one.
package messages

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Job asks for one attempt at charging one renewal.
type Job struct {
	// ID names the job. In a message it may come in the header Nats-Msg-Id or ce-id instead.
	ID             MessageID      `json:"id"`
	SubscriptionID SubscriptionID `json:"subscription_id"`
	Period         Period         `json:"period"`
	// Attempt is 1 to 1,000,000, and 0 where the billing system does not count: the journal does.
	Attempt int64 `json:"attempt,omitempty"`
	// DueAt is when the period fell due, the same for all its attempts. A job may come up to 24 h early.
	DueAt time.Time `json:"due_at"`
	// ExpiresAt is when a job that nobody has claimed yet is to be rejected rather than charged. Zero: never.
	ExpiresAt     time.Time     `json:"expires_at,omitzero"`
	CustomerToken CustomerToken `json:"customer_token"`
	// Order is the body of Klarna's createOrder and is sent byte for byte.
	Order json.RawMessage `json:"order"`
	// OffCycle says that this charge is meant to fall between two periods.
	OffCycle bool `json:"off_cycle,omitempty"`
	// CustomerActed says that the customer has done something about the last refusal, paid in or chosen another card: the attempt need
	// not wait for the account's min_attempt_gap. A dead token stays dead all the same.
	CustomerActed bool `json:"customer_acted,omitempty"`
	// Metadata is echoed in the result: at most 16 pairs.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// InvalidError says why a job cannot be charged or a capture not be made, with every problem that was found, up to 100.
// Nobody was charged; whoever made the job corrects it. Where it was published already, the corrected one needs a new ID, or
// an hour's time: for so long the stream drops what comes again under an ID that it has seen.
type InvalidError struct {
	Problems []Problem
}

func (e *InvalidError) Error() string {
	switch len(e.Problems) {
	case 0:
		return "invalid job"
	case 1:
		return "invalid job: " + e.Problems[0].String()
	}
	return fmt.Sprintf("invalid job: %s (and %d more)", e.Problems[0], len(e.Problems)-1)
}

// Encode returns the job as it is published, the customer token included, and Order as it is. json.Marshal is for logs:
// it redacts the token. The error says that Order is not JSON; everything else is [Job.Validate]'s to find.
func (j Job) Encode() ([]byte, error) {
	if !json.Valid(j.Order) {
		return nil, &InvalidError{[]Problem{{Path: "order", Message: "found no valid JSON"}}}
	}
	b := make([]byte, 0, len(j.Order)+512)
	text := func(name, value string) {
		b = appendString(append(b, name...), value)
	}
	text(`{"id":`, string(j.ID))
	text(`,"subscription_id":`, string(j.SubscriptionID))
	text(`,"period":`, string(j.Period))
	if j.Attempt != 0 {
		b = strconv.AppendInt(append(b, `,"attempt":`...), j.Attempt, 10)
	}
	text(`,"due_at":`, j.DueAt.UTC().Format(time.RFC3339Nano))
	if !j.ExpiresAt.IsZero() {
		text(`,"expires_at":`, j.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	text(`,"customer_token":`, j.CustomerToken.Reveal())
	b = append(append(b, `,"order":`...), j.Order...)
	if j.OffCycle {
		b = append(b, `,"off_cycle":true`...)
	}
	if j.CustomerActed {
		b = append(b, `,"customer_acted":true`...)
	}
	return append(appendMetadata(b, j.Metadata), '}'), nil
}

// appendMetadata appends the field metadata, where there is any, the same bytes for the same pairs.
func appendMetadata(b []byte, metadata map[string]string) []byte {
	if len(metadata) == 0 {
		return b
	}
	before := `,"metadata":{`
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		b = appendString(append(b, before...), name)
		b = appendString(append(b, ':'), metadata[name])
		before = ","
	}
	return append(b, '}')
}

// Validate checks what [DecodeJob] would. The error is an [*InvalidError].
func (j Job) Validate() (warnings []Problem, err error) {
	_, warnings, err = j.encodeValid(Rules{})
	return warnings, err
}

func (j Job) encodeValid(rules Rules) (payload []byte, warnings []Problem, err error) {
	if payload, err = j.Encode(); err != nil {
		return nil, nil, err
	}
	r := rules.Read(payload, nil)
	if len(r.Problems) > 0 {
		return payload, r.Warnings, &InvalidError{r.Problems}
	}
	return payload, r.Warnings, nil
}

// appendString appends s as a JSON string, in its shortest form. Bytes that are not UTF-8 stay as they are, for
// validation to find.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c, short := s[i], strings.IndexByte(escapeMeanings, s[i]); {
		case short >= 0 && c != '/':
			b = append(b, '\\', escapeLetters[short])
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
