package messages

import (
	"encoding/json"
	"slices"
	"strconv"
)

// Capture asks to take money for a renewal whose order was made without auto_capture, or which Klarna did not capture although
// it was asked to. Several captures of one renewal add up, to at most what was authorised.
type Capture struct {
	// ID names the capture job as a job's ID names a job, and differs from all of those: a stream has one table of
	// duplicates. In a message it may come in the header Nats-Msg-Id or ce-id instead.
	ID MessageID `json:"id"`
	// SubscriptionID and Period are those of the job that made the order.
	SubscriptionID SubscriptionID `json:"subscription_id"`
	Period         Period         `json:"period"`
	// OrderID, where set, has to be the renewal's order: 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -, not "." or "..".
	OrderID string `json:"order_id,omitempty"`
	// CapturedAmount is 1 to 200,000,000 minor units; 0: all that remains of the order.
	CapturedAmount int64 `json:"captured_amount,omitempty"`
	// Description of at most 255 characters, for the customer.
	Description string `json:"description,omitempty"`
	// Reference of at most 255 characters, in settlements as merchant_capture_reference.
	Reference string `json:"reference,omitempty"`
	// OrderLines, at most 1,000, take the place of the order's own and are sent byte for byte.
	OrderLines json.RawMessage `json:"order_lines,omitempty"`
	// Metadata is echoed in the result: at most 16 pairs.
	Metadata map[string]string `json:"metadata,omitempty"`
}

// CaptureReading is everything that could be read of one capture job, good or bad. As with a [Reading], problems and a
// usable Capture can stand side by side.
type CaptureReading struct {
	// Capture as far as it could be read. A captured_amount that is there and is no valid amount is -1, lest it be taken
	// for all that remains.
	Capture Capture
	// Identified says that ID, SubscriptionID and Period are there, valid and beyond doubt. Otherwise the message is
	// filed under its [StandIn].
	Identified     bool
	RenewalKey     RenewalKey     // only when Identified
	IdempotencyKey IdempotencyKey // only when Identified
	Problems       []Problem      // none: the capture job is valid
	Warnings       []Problem      // odd, but no reason not to capture
	// TraceParent and TraceState are as those of a [Reading].
	TraceParent, TraceState string
}

// maxCaptured is Klarna's limit on one capture, in minor units.
// https://docs.klarna.com/order-management/delivery/full-capture/
const maxCaptured = 200_000_000

// ReadCapture reads a message as published on [CaptureSubject], in the modes of [Read]. It takes any bytes and any header, and
// holds on to payload, into which Capture.OrderLines points as Job.Order does.
func ReadCapture(payload []byte, header map[string][]string) CaptureReading {
	return Rules{}.ReadCapture(payload, header)
}

// ReadCapture is the function [ReadCapture] by an account's own rules.
func (rules Rules) ReadCapture(payload []byte, header map[string][]string) CaptureReading {
	var r CaptureReading
	s := scanner{data: payload, rules: rules}
	c := &r.Capture
	certain := s.message(header, &c.ID, func() (idInBody, isObject bool) { return s.capture(c) }, func() { *c = Capture{} })
	if certain && c.ID != "" && c.SubscriptionID != "" && c.Period != "" {
		r.Identified = true
		r.RenewalKey = NewRenewalKey(c.SubscriptionID, c.Period)
		r.IdempotencyKey = NewCaptureKey(r.RenewalKey, c.ID)
	}
	if len(s.problems) == 0 {
		s.grouped("order_lines", c.SubscriptionID)
	}
	r.Problems, r.Warnings = s.report()
	r.TraceParent, r.TraceState = s.around.trace()
	return r
}

// Common is what a capture job has in common with the job of a charge.
func (r CaptureReading) Common() Reading {
	c := r.Capture
	return Reading{
		Job:        Job{ID: c.ID, SubscriptionID: c.SubscriptionID, Period: c.Period, Metadata: c.Metadata},
		Identified: r.Identified, RenewalKey: r.RenewalKey, IdempotencyKey: r.IdempotencyKey, Problems: r.Problems, Warnings: r.Warnings,
		TraceParent: r.TraceParent, TraceState: r.TraceState,
	}
}

// DecodeCapture reads a capture job that is valid in itself; whether there is anything to capture is left to the worker. The
// error is an [*InvalidError], and then the capture is zero. OrderLines points into payload.
func DecodeCapture(payload []byte, header map[string][]string) (Capture, []Problem, error) {
	r := ReadCapture(payload, header)
	if len(r.Problems) > 0 {
		return Capture{}, r.Warnings, &InvalidError{r.Problems}
	}
	return r.Capture, r.Warnings, nil
}

// capture reads the document and reports whether it has an id, be it a bad one, and whether it is an object at all.
func (s *scanner) capture(c *Capture) (idInBody, isObject bool) {
	var few [4]line
	lines, linesKnown := few[:0], false
	var hasSubscription, hasPeriod bool
	isObject = s.object(func(name []byte) {
		switch string(name) {
		case "id":
			idInBody = true
			c.ID = MessageID(s.identifier(maxMessageID))
		case "subscription_id":
			hasSubscription = true
			c.SubscriptionID = SubscriptionID(s.identifier(maxOpaque))
		case "period":
			hasPeriod = true
			c.Period = Period(s.identifier(maxOpaque))
		case "order_id":
			c.OrderID = s.orderID()
		case "captured_amount":
			c.CapturedAmount = s.capturedAmount()
		case "description":
			text, _ := s.bounded(0, 255)
			c.Description = string(text)
		case "reference":
			text, _ := s.bounded(0, 255)
			c.Reference = string(text)
		case "order_lines":
			c.OrderLines = s.raw(func() { lines, linesKnown = s.orderLines(lines, 0) })
		case "metadata":
			c.Metadata = s.metadata()
		default:
			s.unknownField(name, "order_lines", "id", "subscription_id", "period", "order_id", "captured_amount", "description", "reference", "order_lines", "metadata")
		}
	})
	if !isObject {
		return idInBody, false
	}
	s.require("subscription_id", "a string", hasSubscription)
	s.require("period", "a string", hasPeriod)
	if linesKnown {
		s.taxes(lines, 0, false)
		sum := sumOf(lines, func(l line) int64 { return l.total })
		if len(lines) > 0 && c.CapturedAmount > 0 && sum != c.CapturedAmount {
			s.warningAt(WarnSum, "captured_amount", "found %d, expected %d, the sum of total_amount", c.CapturedAmount, sum)
		}
	}
	// https://docs.kustom.co/v3/checkout/use-cases/recurring: lines that take the place of the order's have to have it again.
	if !s.recurring(lines) && slices.ContainsFunc(lines, line.sold) {
		s.problemAt("order_lines", "found no subscription, expected one on at least one line, as in the order")
	}
	return idInBody, true
}

// orderID reads an order's ID, a bad one as well, for the same reason as a token.
func (s *scanner) orderID() string {
	text, ok := s.str()
	if ok && !pathSegment(string(text)) {
		s.problem("found %s, expected 1 to %d of A-Z, a-z, 0-9 and . _ ~ -", quote(text), maxSegment)
	}
	return string(text)
}

func (s *scanner) capturedAmount() int64 {
	if amount, ok := s.integer(1, maxCaptured); ok {
		return amount
	}
	return -1
}

// Encode returns the capture job as it is published, with OrderLines as they are. The error says that OrderLines is not
// JSON; everything else is [Capture.Validate]'s to find.
func (c Capture) Encode() ([]byte, error) {
	if len(c.OrderLines) > 0 && !json.Valid(c.OrderLines) {
		return nil, &InvalidError{[]Problem{{Path: "order_lines", Message: "found no valid JSON"}}}
	}
	b := make([]byte, 0, len(c.OrderLines)+512)
	text := func(name, value string) {
		b = appendString(append(b, name...), value)
	}
	text(`{"id":`, string(c.ID))
	text(`,"subscription_id":`, string(c.SubscriptionID))
	text(`,"period":`, string(c.Period))
	if c.OrderID != "" {
		text(`,"order_id":`, c.OrderID)
	}
	if c.CapturedAmount != 0 {
		b = strconv.AppendInt(append(b, `,"captured_amount":`...), c.CapturedAmount, 10)
	}
	if c.Description != "" {
		text(`,"description":`, c.Description)
	}
	if c.Reference != "" {
		text(`,"reference":`, c.Reference)
	}
	if len(c.OrderLines) > 0 {
		b = append(append(b, `,"order_lines":`...), c.OrderLines...)
	}
	return append(appendMetadata(b, c.Metadata), '}'), nil
}

// Validate checks what [DecodeCapture] would. The error is an [*InvalidError].
func (c Capture) Validate() (warnings []Problem, err error) {
	_, warnings, err = c.encodeValid()
	return warnings, err
}

func (c Capture) encodeValid() (payload []byte, warnings []Problem, err error) {
	if payload, err = c.Encode(); err != nil {
		return nil, nil, err
	}
	_, warnings, err = DecodeCapture(payload, nil)
	return payload, warnings, err
}
