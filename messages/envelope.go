package messages

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

// Envelope is what a result says beside its body: the context attributes of CloudEvents 1.0 in binary content mode, and
// the trace that the job came with.
// https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md
type Envelope struct {
	ID             string // unique per record, the same when the same record is published again
	Kind           Kind
	Account        Account
	SubscriptionID SubscriptionID // empty when unknown, as Period is: there is no ce-subject then
	Period         Period
	Time           time.Time
	TraceParent    string // https://www.w3.org/TR/trace-context/
	TraceState     string
}

// Header returns the headers of a result. Names are lower-case; a reader must not mind, since nats.Header does not fold
// case and other clients do. Claims, of which every renewal has one for ever, do without any: they are no events, and announce nothing to
// whoever reads by them.
func (e Envelope) Header() nats.Header {
	const most = 12
	if e.Kind.Claims() {
		return make(nats.Header, 6) // the state, what the publish expects, and a batch
	}
	h := make(nats.Header, most+3) // the state and what the publish expects are still to come
	values := make([]string, 0, most)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("ce-specversion", "1.0")
	set(headerCloudEventID, percentEncode(e.ID))
	set("ce-source", percentEncode("renewals/"+string(e.Account)))
	set("ce-type", percentEncode("renewals."+string(e.Kind)+".v1"))
	set("ce-time", instant(e.Time).Format(time.RFC3339Nano))
	set("ce-datacontenttype", contentType)
	if schema, known := dataSchemas[e.Kind]; known {
		set("ce-dataschema", schema)
	}
	set(headerContentType, contentType) // what CloudEvents' SDK for Go reads in its place
	if e.SubscriptionID != "" && e.Period != "" {
		set("ce-subject", percentEncode(string(e.SubscriptionID)+"/"+string(e.Period)))
	}
	if e.TraceParent != "" {
		set(headerTraceParent, e.TraceParent)
		set(headerTraceDest, notTraced)
		if e.TraceState != "" {
			set(headerTraceState, e.TraceState)
		}
	}
	return h
}

// dataSchemas are the values of ce-dataschema, made once: each result carries one.
var dataSchemas = func() map[Kind]string {
	all := make(map[Kind]string)
	for _, kind := range Kinds() {
		if !kind.Claims() {
			all[kind] = percentEncode(SchemaID(string(kind)))
		}
	}
	return all
}()

// TraceContext reads the trace that a message came with, however the headers are spelled: traceparent and tracestate, or
// where there is none the extensions of CloudEvents of these names. What is longer than 512 bytes or not printable ASCII is
// left out; so is a tracestate without a traceparent.
func TraceContext(header map[string][]string) (traceparent, tracestate string) {
	first := func(name string) string {
		if v := values(header, name); len(v) > 0 && len(v[0]) <= maxTrace && visible(v[0]) {
			return v[0]
		}
		return ""
	}
	if traceparent = first(headerTraceParent); traceparent != "" {
		return traceparent, first(headerTraceState)
	}
	if traceparent = first("ce-" + headerTraceParent); traceparent != "" {
		return traceparent, first("ce-" + headerTraceState)
	}
	return "", ""
}

// percentEncode is how the binding writes attributes: space, double quote, percent and everything outside U+0021 to
// U+007E as %XX.
func percentEncode(s string) string {
	for i := range len(s) {
		if !attribute(s[i]) {
			return string(escape(nil, strings.ToValidUTF8(s, string(utf8.RuneError)), attribute))
		}
	}
	return s
}

func attribute(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }

// percentDecode undoes percentEncode. A percent sign that begins no escape stands for itself: not every SDK encodes.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := hexDigit(s[i+1]), hexDigit(s[i+2])
			if high >= 0 && low >= 0 {
				b = append(b, byte(high<<4|low))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// visible reports whether s can be a header's value as it stands.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// values returns the values of a header that are not empty, however its name is spelled.
func values(header map[string][]string, name string) []string {
	var all []string
	for n, vs := range header {
		if strings.EqualFold(n, name) {
			for _, v := range vs {
				if v != "" {
					all = append(all, v)
				}
			}
		}
	}
	return all
}
