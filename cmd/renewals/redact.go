package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// redaction takes customer tokens out of a job that may be wrong in any way: a field of the right name in the wrong
// place, a field of a similar name, the token repeated elsewhere. The zero redaction hides nothing.
type redaction struct {
	on     bool
	spans  [][2]int // of values in the payload
	secret []string
	opaque bool // not JSON: nobody knows where the token is
}

// longEnough is from how many bytes on a hidden value is looked for elsewhere; a shorter one may be part of a word.
const longEnough = 8

func redactionOf(payload []byte) redaction {
	r := redaction{on: true}
	if !json.Valid(payload) {
		r.opaque = true
		return r
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	r.value(decoder, payload, false)
	return r
}

// value reads one JSON value and notes every scalar in it, if it is to be hidden. The payload is valid JSON.
func (r *redaction) value(decoder *json.Decoder, payload []byte, hide bool) {
	begin := int(decoder.InputOffset())
	token, err := decoder.Token()
	if err != nil {
		return
	}
	switch token {
	case json.Delim('{'):
		for decoder.More() {
			name, _ := decoder.Token()
			text, _ := name.(string)
			r.value(decoder, payload, hide || mayHold(text))
		}
		_, _ = decoder.Token()
	case json.Delim('['):
		for decoder.More() {
			r.value(decoder, payload, hide)
		}
		_, _ = decoder.Token()
	default:
		if text, ok := token.(string); ok && strings.Contains(text, "customer_token") {
			hide = true // a job that was encoded twice
		}
		if !hide || token == nil {
			return
		}
		end := int(decoder.InputOffset())
		begin += len(payload[begin:end]) - len(bytes.TrimLeft(payload[begin:end], " \t\r\n:,"))
		r.spans = append(r.spans, [2]int{begin, end})
		// What stands around a token, a line break for instance, is not repeated with it.
		if text := strings.TrimFunc(fmt.Sprint(token), outsideToken); len(text) >= longEnough {
			r.secret = append(r.secret, text)
		}
	}
}

// outsideToken says that a character is in no customer token.
func outsideToken(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._~-", c)
}

// mayHold reports whether what a field of this name says is or holds a customer token: the data of an event in Base64 is a
// whole job.
func mayHold(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "token") || name == "data_base64"
}

const hidden = "[redacted]"

// payload is the payload as it may be shown.
func (r redaction) payload(payload []byte) []byte {
	if !r.on {
		return payload
	}
	if r.opaque {
		return fmt.Appendf(nil, "%s: %d bytes that are no JSON and may hold a customer token anywhere; --reveal-token shows them", hidden, len(payload))
	}
	var shown []byte
	at := 0
	for _, span := range r.spans {
		shown = append(append(shown, payload[at:span[0]]...), `"`+hidden+`"`...)
		at = span[1]
	}
	return []byte(r.text(string(append(shown, payload[at:]...))))
}

// text takes what was hidden in the payload out of another text.
func (r redaction) text(text string) string {
	for _, secret := range r.secret {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// indented is JSON over several lines, and anything else as it is.
func indented(payload []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, payload, "", "  ") != nil {
		return string(payload)
	}
	return b.String()
}
