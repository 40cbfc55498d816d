package messages

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Reading is everything that could be read of one message, good or bad.
//
// Problems and a usable Job can stand side by side: a worker finds the renewal of an invalid job in the journal, and
// carries a claim that is open to its end even where stricter checks were deployed meanwhile. Order, CustomerToken and
// identity are therefore filled whenever they are readable at all.
type Reading struct {
	Job Job
	// Identified says that ID, SubscriptionID and Period are there, valid and beyond doubt. Otherwise the message is
	// filed under its [StandIn].
	Identified     bool
	RenewalKey     RenewalKey     // only when Identified
	IdempotencyKey IdempotencyKey // only when Identified
	Facts          OrderFacts
	Problems       []Problem // none: the job is valid
	Warnings       []Problem // odd, but no reason not to charge
	// Nothing says that the only problem is an order_amount of 0.
	Nothing bool
	// TraceParent and TraceState are those of the event that a message in structured mode is, for where its headers have
	// none: see [TraceContext].
	TraceParent, TraceState string
}

const (
	maxJob      = 256 << 10 // bytes
	maxAttempt  = 1_000_000
	maxMetadata = 16
	// minSecret is from how many bytes on a customer token is looked for where it must not be. Klarna's have 36; a
	// shorter one could be part of an honest word.
	minSecret = 16
)

// Read reads a message as published on [DueSubject], in binary mode or in structured mode of CloudEvents, which a header
// Content-Type of application/cloudevents+json says. It takes any bytes and any header, and holds on to payload, into which
// Job.Order points (into a copy where the event has its data in Base64).
//
// Paths of problems and warnings are those of the job, in either mode. Those of what surrounds it in structured mode are the
// names of the event's attributes; the job as a whole is data there.
func Read(payload []byte, header map[string][]string) Reading { return Rules{}.Read(payload, header) }

// Read is the function [Read] by an account's own rules.
func (rules Rules) Read(payload []byte, header map[string][]string) Reading {
	var r Reading
	var steps [8]step
	var names [32][]byte
	s := scanner{data: payload, path: steps[:0], names: names[:0], rules: rules}
	certain := s.message(header, &r.Job.ID, func() (idInBody, isObject bool) { return s.job(&r) }, func() { r = Reading{} })
	if len(s.problems) == 0 {
		s.context(&r)
	}
	s.hide(&r)
	j := &r.Job
	if certain && j.ID != "" && j.SubscriptionID != "" && j.Period != "" {
		r.Identified = true
		r.RenewalKey = NewRenewalKey(j.SubscriptionID, j.Period)
		r.IdempotencyKey = NewIdempotencyKey(r.RenewalKey, j.ID)
	}
	r.Problems, r.Warnings = s.report()
	r.Nothing = s.nothing && len(r.Problems) == 1
	r.TraceParent, r.TraceState = s.around.trace()
	return r
}

// message reads a message and settles its ID. body reads the document, and reports whether it has an id, be it a bad one,
// and whether it is an object at all; forget undoes it where the document turns out not to be JSON. certain says that nothing
// in the message contradicts itself as to what it is about.
func (s *scanner) message(header map[string][]string, id *MessageID, body func() (idInBody, isObject bool), forget func()) (certain bool) {
	var idInBody, isObject bool
	if len(s.data) > maxJob {
		s.problem("found %d bytes, expected at most %d", len(s.data), maxJob)
	}
	if s.unwrap(header) {
		before := len(s.problems)
		s.byteOrderMark()
		s.document(func() { idInBody, isObject = body() })
		s.place(s.problems[before:])
	}
	if s.broken != "" {
		forget()
		idInBody, isObject = false, false
		s.problems, s.warnings, s.unlisted = nil, nil, 0
		s.problem("%s", s.broken)
		s.place(s.problems)
	}
	contradiction := s.messageID(id, idInBody, header)
	if isObject && !idInBody && *id == "" && !contradiction && s.around.place == "" {
		s.problemAt("id", "found nothing, expected a string here or in the header %s", HeaderMsgID)
	}
	return !contradiction && !s.repeated
}

// place gives what is wrong with the job as a whole its path in the event that is around it.
func (s *scanner) place(problems []Problem) {
	for i := range problems {
		if problems[i].Path == "$" && s.around.place != "" {
			problems[i].Path = s.around.place
		}
	}
}

// report returns what was found, with a last problem that counts those not listed.
func (s *scanner) report() (problems, warnings []Problem) {
	if s.unlisted > 0 {
		s.problems = append(s.problems, Problem{Path: "$", Message: fmt.Sprintf("found further problems, not listed here: %d", s.unlisted)})
	}
	return s.problems, s.warnings
}

// job reads the document and reports whether it has an id, be it a bad one, and whether it is an object at all.
func (s *scanner) job(r *Reading) (idInBody, isObject bool) {
	j := &r.Job
	var hasSubscription, hasPeriod, hasDue, hasToken, hasOrder bool
	isObject = s.object(func(name []byte) {
		switch string(name) {
		case "id":
			idInBody = true
			j.ID = MessageID(s.identifier(maxMessageID))
		case "subscription_id":
			hasSubscription = true
			j.SubscriptionID = SubscriptionID(s.identifier(maxOpaque))
		case "period":
			hasPeriod = true
			j.Period = Period(s.identifier(maxOpaque))
		case "attempt":
			j.Attempt, _ = s.integer(1, maxAttempt)
		case "due_at":
			hasDue = true
			j.DueAt = s.time()
		case "expires_at":
			j.ExpiresAt = s.time()
		case "customer_token":
			hasToken = true
			j.CustomerToken = s.token()
		case "order":
			hasOrder = true
			j.Order = s.raw(func() { r.Facts = s.order() })
		case "off_cycle":
			j.OffCycle, _ = s.boolean()
		case "customer_acted":
			j.CustomerActed, _ = s.boolean()
		case "metadata":
			j.Metadata = s.metadata()
		default:
			s.unknownField(name, "order", "id", "subscription_id", "period", "attempt", "due_at", "expires_at", "customer_token", "order", "off_cycle", "customer_acted", "metadata")
		}
	})
	if !isObject {
		return idInBody, false
	}
	s.require("subscription_id", "a string", hasSubscription)
	s.require("period", "a string", hasPeriod)
	s.require("due_at", "a time", hasDue)
	s.require("customer_token", "a string", hasToken)
	s.require("order", "an object", hasOrder)
	if !j.DueAt.IsZero() && !j.ExpiresAt.IsZero() && !j.ExpiresAt.After(j.DueAt) {
		s.problemAt("expires_at", "found %s, expected a time after due_at", j.ExpiresAt.Format(time.RFC3339Nano))
	}
	return idInBody, true
}

// unknownField names the field that an unknown one was probably meant to be. Only inside lenient may there be any.
func (s *scanner) unknownField(name []byte, lenient string, fields ...string) {
	expected := "none outside " + lenient
	if !s.full() {
		fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
		for _, field := range fields {
			if fold(field) == fold(string(name)) {
				expected = field
			}
		}
	}
	s.problem("found an unknown field, expected %s", expected)
	s.skip()
}

// identifier reads one of the three names that make a job's identity; "" where it is not valid.
func (s *scanner) identifier(limit int) string {
	text, ok := s.str()
	if !ok {
		return ""
	}
	name := string(text)
	if fault := identifierFault(name, limit); fault != "" {
		s.problem("%s", fault)
		return ""
	}
	return name
}

// messageID settles a message's ID between its body and its headers, and reports whether they contradict each other.
func (s *scanner) messageID(messageID *MessageID, inBody bool, header map[string][]string) (contradiction bool) {
	if inBody && *messageID == "" {
		return false // a problem already, and no header can repair it
	}
	id, known := string(*messageID), inBody
	check := func(place, value string) {
		switch fault := identifierFault(value, maxMessageID); {
		case fault != "":
			s.problemAt("id", "%s: %s", place, fault)
			contradiction = true
		case !known:
			id, known = value, true
		case value != id:
			s.problemAt("id", "found another ID in the %s, expected the same wherever there is one", place)
			contradiction = true
		}
	}
	// A replayed job has a fresh Nats-Msg-Id, lest JetStream drop it as a duplicate: its ID is in the body or in ce-id.
	if len(values(header, HeaderReplay)) == 0 {
		for _, v := range values(header, HeaderMsgID) {
			check("header "+HeaderMsgID, v)
		}
	}
	if contradiction = contradiction || s.around.badID; s.around.hasID && !s.around.badID {
		check("event's id", s.around.id)
	}
	for _, v := range values(header, headerCloudEventID) {
		check("header "+headerCloudEventID, percentDecode(v))
	}
	if contradiction {
		id = ""
	}
	*messageID = MessageID(id)
	return contradiction
}

// time reads a time of RFC 3339, in whatever zone.
func (s *scanner) time() (t time.Time) {
	const expected = "a time of RFC 3339 such as 2026-12-01T00:00:00Z"
	if !s.is('"', expected) {
		return time.Time{}
	}
	text, ok := s.str()
	if !ok {
		return time.Time{}
	}
	plain := text
	if bytes.ContainsAny(text, "tz") {
		plain = bytes.ToUpper(text)
	}
	err := t.UnmarshalText(plain)
	if t = t.UTC(); err != nil || !isDateTime(plain) || t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		s.problem("found %s, expected %s", quote(text), expected)
		return time.Time{}
	}
	return t
}

// isDateTime says that a time of which package time could make sense has the form of RFC 3339, as a validator of the schema's date-time
// sees it: package time takes hours of one digit, a comma before the fraction and zones a day away.
// https://www.rfc-editor.org/rfc/rfc3339#section-5.6
func isDateTime(text []byte) bool {
	const form, zone = "0000-00-00T00:00:00", "+00:00"
	if len(text) <= len(form) || !formed(text[:len(form)], form) {
		return false
	}
	rest := text[len(form):]
	if rest[0] == '.' {
		rest = bytes.TrimLeft(rest[1:], "0123456789")
	}
	if len(rest) == 1 {
		return rest[0] == 'Z'
	}
	return len(rest) == len(zone) && (rest[0] == '+' || rest[0] == '-') && formed(rest[1:], zone[1:]) && string(rest[1:3]) < "24" && string(rest[4:]) < "60"
}

// formed says that a text has digits where the form has, and otherwise the same bytes.
func formed(text []byte, form string) bool {
	for i, c := range text {
		if digit := c >= '0' && c <= '9'; form[i] == '0' && !digit || form[i] != '0' && c != form[i] {
			return false
		}
	}
	return true
}

// token reads the customer token, a bad one as well: whoever holds an open claim for it needs to know it again.
func (s *scanner) token() CustomerToken {
	text, ok := s.str()
	if !ok {
		return CustomerToken{}
	}
	token := string(text)
	if !pathSegment(token) {
		s.problem("found a string of %d bytes that is not a customer token, expected 1 to %d of A-Z, a-z, 0-9 and . _ ~ -", len(token), maxSegment)
	}
	return NewCustomerToken(token)
}

func (s *scanner) metadata() map[string]string {
	pairs := make(map[string]string)
	count, before := 0, len(s.problems)+s.unlisted
	s.object(func(name []byte) {
		if count++; count > maxMetadata {
			s.skip()
			return
		}
		if text, ok := s.str(); ok {
			pairs[string(name)] = string(text)
		}
	})
	if count > maxMetadata {
		s.problem("found %d pairs, expected at most %d", count, maxMetadata)
	}
	if len(pairs) == 0 || len(s.problems)+s.unlisted > before || len(s.data) > maxJob {
		return nil
	}
	return pairs
}

// hide keeps the customer token out of everything that leaves the process with the result: where a job repeats it in a
// field that results echo, the field is a problem and is blank. A space or a line break around it, which no token has, makes
// it no less of a secret.
func (s *scanner) hide(r *Reading) {
	token := strings.TrimFunc(r.Job.CustomerToken.Reveal(), func(c rune) bool { return c >= utf8.RuneSelf || !unreserved(byte(c)) })
	if len(token) < minSecret {
		return
	}
	blank := func(field string, value *string) {
		if strings.Contains(*value, token) {
			*value = ""
			s.problemAt(field, "found the customer token in it, expected it in customer_token only")
		}
	}
	j := &r.Job
	blank("id", (*string)(&j.ID))
	blank("subscription_id", (*string)(&j.SubscriptionID))
	blank("period", (*string)(&j.Period))
	blank("order.merchant_reference1", &r.Facts.MerchantReference1)
	blank("order.merchant_reference2", &r.Facts.MerchantReference2)
	for name, value := range j.Metadata {
		if strings.Contains(name, token) || strings.Contains(value, token) {
			s.problemAt("metadata", "found the customer token in it, expected it in customer_token only")
			j.Metadata = nil
			break
		}
	}
	for _, list := range [][]Problem{s.problems, s.warnings} {
		for i := range list {
			list[i].Path = strings.ReplaceAll(list[i].Path, token, redacted)
			list[i].Message = strings.ReplaceAll(list[i].Message, token, redacted)
		}
	}
}

// DecodeJob reads a job that is valid in itself. What can only be said at a certain time is left to the worker: whether
// it is due, too old or expired. The error is an [*InvalidError], and then the job is zero. Order points into payload.
func DecodeJob(payload []byte, header map[string][]string) (Job, []Problem, error) {
	r := Read(payload, header)
	if len(r.Problems) > 0 {
		return Job{}, r.Warnings, &InvalidError{r.Problems}
	}
	return r.Job, r.Warnings, nil
}

// Renewal is the renewal as subjects name it; "" when it is not Identified.
func (r Reading) Renewal() Renewal {
	if !r.Identified {
		return ""
	}
	return NewRenewal(r.Job.SubscriptionID, r.Job.Period)
}
