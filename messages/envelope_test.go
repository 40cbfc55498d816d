package messages_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

func lines(header map[string][]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	return b.String()
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 1, 0, 2, 345_678_901, time.FixedZone("CET", 3600))
	for _, row := range []struct {
		name     string
		envelope messages.Envelope
		want     string
	}{
		{"all of it", messages.Envelope{ID: "7", Kind: messages.KindPaid, Account: "shop-eu", SubscriptionID: "1234834", Period: "2026-12", Time: at,
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "a=1,b=2"}, `Nats-Trace-Dest: trace disabled
ce-datacontenttype: application/json
ce-dataschema: https://github.com/klarna-renewals/renewals/messages/schemas/paid.json
ce-id: 7
ce-source: renewals/shop-eu
ce-specversion: 1.0
ce-subject: 1234834/2026-12
ce-time: 2026-12-01T00:00:02.345Z
ce-type: renewals.paid.v1
content-type: application/json
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
tracestate: a=1,b=2
`},
		{"no renewal known, no trace", messages.Envelope{ID: "7", Kind: messages.KindRejected, Account: "default", Time: at, TraceState: "a=1"}, `ce-datacontenttype: application/json
ce-dataschema: https://github.com/klarna-renewals/renewals/messages/schemas/rejected.json
ce-id: 7
ce-source: renewals/default
ce-specversion: 1.0
ce-time: 2026-12-01T00:00:02.345Z
ce-type: renewals.rejected.v1
content-type: application/json
`},
		// The binding's rule: space, double quote, percent and what is not printable ASCII.
		{"names of all kinds", messages.Envelope{ID: "a b", Kind: messages.KindPaid, Account: "default", SubscriptionID: "Zoë \"7\" 100%~!", Period: "🥪\r\nx: y", Time: at}, `ce-datacontenttype: application/json
ce-dataschema: https://github.com/klarna-renewals/renewals/messages/schemas/paid.json
ce-id: a%20b
ce-source: renewals/default
ce-specversion: 1.0
ce-subject: Zo%C3%AB%20%227%22%20100%25~!/%F0%9F%A5%AA%0D%0Ax:%20y
ce-time: 2026-12-01T00:00:02.345Z
ce-type: renewals.paid.v1
content-type: application/json
`},
	} {
		if got := lines(row.envelope.Header()); got != row.want {
			t.Errorf("%s: got\n%swant\n%s", row.name, got, row.want)
		}
	}
}

// What a result says of its schema is the name that the schema gives itself, and costs a result nothing but the header.
func TestDataSchema(t *testing.T) {
	t.Parallel()
	for _, kind := range messages.Kinds() {
		got := messages.Envelope{ID: "7", Kind: kind, Account: "default"}.Header()["ce-dataschema"]
		if kind == messages.KindCharging || kind == messages.KindCapturing {
			if got != nil {
				t.Errorf("%s: got ce-dataschema %q for a claim, which announces nothing", kind, got)
			}
			continue
		}
		if want := readSchema(t, string(kind)).ID; len(got) != 1 || got[0] != want || want == "" {
			t.Errorf("%s: got ce-dataschema %q, want the $id of its schema, %q", kind, got, want)
		}
	}
	if got, ok := (messages.Envelope{ID: "7", Kind: "a_kind_of_tomorrow"}).Header()["ce-dataschema"]; ok {
		t.Errorf("got ce-dataschema %q for a kind without a schema", got)
	}
}

func BenchmarkEnvelope(b *testing.B) {
	envelope := messages.Envelope{ID: "4a87da77-4bba-50c6-8cae-6972612639ac/7", Kind: messages.KindPaid, Account: "default", SubscriptionID: "1234834",
		Period: "2026-12", Time: time.Date(2026, 12, 1, 0, 0, 2, 0, time.UTC)}
	b.ReportAllocs()
	for b.Loop() {
		envelope.Header()
	}
}

func TestTraceContext(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, row := range []struct {
		name          string
		header        map[string][]string
		parent, state string
	}{
		{name: "both", header: map[string][]string{"traceparent": {parent}, "tracestate": {"a=1"}}, parent: parent, state: "a=1"},
		{name: "as net/http spells them", header: map[string][]string{"Traceparent": {parent}, "Tracestate": {"a=1"}}, parent: parent, state: "a=1"},
		{name: "as an SDK of CloudEvents spells them", header: map[string][]string{"ce-traceparent": {parent}, "Ce-Tracestate": {"a=1"}}, parent: parent, state: "a=1"},
		{name: "in both ways", header: map[string][]string{"traceparent": {parent}, "ce-traceparent": {"00-1-2-01"}, "ce-tracestate": {"a=1"}}, parent: parent},
		{name: "none"},
		{name: "a state alone", header: map[string][]string{"tracestate": {"a=1"}}},
		{name: "empty", header: map[string][]string{"traceparent": {""}}},
		{name: "512 bytes", header: map[string][]string{"traceparent": {strings.Repeat("0", 512)}}, parent: strings.Repeat("0", 512)},
		{name: "513 bytes", header: map[string][]string{"traceparent": {strings.Repeat("0", 513)}}},
		{name: "a long state", header: map[string][]string{"traceparent": {parent}, "tracestate": {strings.Repeat("0", 513)}}, parent: parent},
		{name: "a header within", header: map[string][]string{"traceparent": {parent}, "tracestate": {"a=1\r\nNats-Msg-Id: x"}}, parent: parent},
		{name: "not ASCII", header: map[string][]string{"traceparent": {"é"}}},
	} {
		if parent, state := messages.TraceContext(row.header); parent != row.parent || state != row.state {
			t.Errorf("%s: got %q, %q; want %q, %q", row.name, parent, state, row.parent, row.state)
		}
	}
}
