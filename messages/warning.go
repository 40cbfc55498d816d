package messages

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// optionalText reads a text that may be null, or of another length than least to most characters; nil where there is none.
func (s *scanner) optionalText(least, most int) []byte {
	if s.null() {
		return nil
	}
	text, ok := s.str()
	if !ok {
		return nil
	}
	if n := runes(text); n < least || n > most {
		s.warning(WarnLength, "found %d characters, expected %d to %d", n, least, most)
	}
	s.markup(text)
	return text
}

// reference reads a text by which something is found again, or a number in its place.
func (s *scanner) reference(most int) []byte {
	if c := s.next(); c != '-' && (c < '0' || c > '9') {
		return s.optionalText(0, most)
	}
	text := s.number()
	if s.broken == "" {
		s.warning(WarnNumber, "found a number, expected a string")
	}
	return text
}

// maxFact is how much of a reference results and the journal's state repeat, in bytes: all that Klarna takes, in any script. The
// state travels in a header, and an order whose record is too large for the broker would be lost.
const maxFact = 255 * utf8.UTFMax

// fact is a reference as results repeat it.
func (s *scanner) fact(most int) string {
	text := s.reference(most)
	if len(text) <= maxFact {
		return string(text)
	}
	return cut(string(text), maxFact)
}

// https://docs.klarna.com/api/data-types
func (s *scanner) markup(text []byte) {
	if i := bytes.IndexByte(text, '<'); i >= 0 && bytes.IndexByte(text[i:], '>') > 0 {
		s.warning(WarnMarkup, "found what looks like HTML, which Klarna may refuse")
	}
}

// grouped warns where a subscription's name on one of the lines names another subscription.
func (s *scanner) grouped(lines string, as SubscriptionID) {
	for _, found := range s.groups {
		if found.id != nil && string(found.id) != string(as) {
			s.warningAt(WarnSubscriptionName, fmt.Sprintf("%s[%d].subscription.name", lines, found.line),
				"found %s between its braces, expected the subscription_id, by which Klarna groups a subscription's orders", quote(found.id))
		}
	}
}

// context warns of what only the whole job shows.
func (s *scanner) context(r *Reading) {
	j := &r.Job
	s.grouped("order.order_lines", j.SubscriptionID)
	reference := r.Facts.MerchantReference1
	if reference == "" || j.Period == "" || j.ID == "" || strings.Contains(reference, string(j.Period)) || strings.Contains(reference, string(j.ID)) {
		return
	}
	s.warningAt(WarnReference, "order.merchant_reference1", "found neither the period nor the id in it, expected one of them: by it a settlement row finds its renewal")
}
