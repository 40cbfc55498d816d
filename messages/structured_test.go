package messages_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klarna-renewals/renewals/messages"
)

type anyHeader = map[string][]string

var structured = anyHeader{"Content-Type": {"application/cloudevents+json"}}

// eventOf is a job in structured mode, data as it is, with the id of an event.
func eventOf(id, data string) string {
	text, _ := json.Marshal(id)
	return `{"specversion":"1.0","id":` + string(text) + `,"source":"https://billing.shop.example","type":"example.shop.renewal.due","datacontenttype":"application/json","data":` + data + `}`
}

// base64Of is the same with data in Base64.
func base64Of(id, data string) string {
	return strings.TrimSuffix(eventOf(id, ""), `"data":}`) + `"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `"}`
}

// An event in structured mode is the job that it carries, however the event is written.
func TestStructuredMode(t *testing.T) {
	t.Parallel()
	job := string(golden(t, "job.json"))
	want := messages.Read([]byte(job), nil)
	event, inBase64 := eventOf("1234834/2026-12/1", job), base64Of("1234834/2026-12/1", job)
	const required = `"specversion":"1.0","id":"1234834/2026-12/1","source":"/billing","type":"x",`
	for _, row := range []struct {
		name, payload string
		header        anyHeader
	}{
		{name: "as an SDK writes it", payload: event, header: structured},
		{name: "in Base64", payload: inBase64, header: structured},
		{name: "in Base64 with escaped slashes", payload: strings.ReplaceAll(inBase64, "/", `\/`), header: structured},
		{name: "a header in another spelling, with parameters", payload: event, header: anyHeader{"content-type": {" Application/CloudEvents+JSON ; charset=UTF-8"}}},
		{name: "beside another content type", payload: event, header: anyHeader{"Content-Type": {"application/json"}, "content-type": {"application/cloudevents+json"}}},
		{name: "no datacontenttype", payload: strings.Replace(event, `"datacontenttype":"application/json",`, ``, 1), header: structured},
		{name: "a datacontenttype that is null", payload: strings.Replace(event, `"application/json"`, `null`, 1), header: structured},
		{name: "a datacontenttype with parameters", payload: strings.Replace(event, `"application/json"`, `"Application/JSON; charset=utf-8"`, 1), header: structured},
		{name: "a datacontenttype of its own", payload: strings.Replace(event, `"application/json"`, `"application/vnd.shop.renewal+json"`, 1), header: structured},
		{name: "data first", payload: `{"data":` + job + `,` + strings.TrimSuffix(required, ",") + `}`, header: structured},
		{name: "white space", payload: "\r\n\t{ " + required + ` "data" : ` + job + " \n} \n", header: structured},
		{name: "null beside data", payload: `{` + required + `"data_base64":null,"data":` + job + `}`, header: structured},
		{name: "every attribute, and extensions of all kinds", header: structured,
			payload: `{` + required + `"dataschema":"https://shop.example/job","subject":"1","time":"2026-12-01T00:00:00Z","customer_token":"x","order":7,"Data":{},"partitionkey":true,"x":[{}],"data":` + job + `}`},
		{name: "equal IDs everywhere", payload: event, header: anyHeader{"Content-Type": structured["Content-Type"], "Nats-Msg-Id": {"1234834/2026-12/1"}, "ce-id": {"1234834/2026-12/1"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(row.payload)
			got := messages.Read(payload, row.header)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %s %s\n%+v\nwant what the job alone is read as,\n%+v", report(got.Problems), report(got.Warnings), got, want)
			}
			if at := bytes.Index(payload, want.Job.Order); at >= 0 && (&payload[at] != &got.Job.Order[0] || cap(got.Job.Order) != len(got.Job.Order)) {
				t.Error("got a copy of the order, or one that can grow into the message")
			}
		})
	}
	if r := messages.Read([]byte(event), anyHeader{"Content-Type": {"application/json"}}); r.Identified || len(r.Problems) == 0 {
		t.Errorf("without its header an event is a job: %+v", r)
	}
	if r := messages.Read([]byte(job), structured); r.Identified || len(r.Problems) == 0 {
		t.Errorf("with an event's header a bare job is a job: %+v", r)
	}
}

// What is wrong with an event is said in the words of CloudEvents, and what is wrong with its job by the job's own paths.
func TestStructuredModeRefused(t *testing.T) {
	t.Parallel()
	job := string(golden(t, "job.json"))
	event, inBase64 := eventOf("1234834/2026-12/1", job), base64Of("1234834/2026-12/1", job)
	in := func(old, new string) string { return edit(t, event, old, new) }
	const id = messages.MessageID("1234834/2026-12/1")
	for _, row := range []struct {
		name, payload, content, want string
		id                           messages.MessageID
		identified                   bool
	}{
		{name: "a batch", payload: "[" + event + "]", content: "application/cloudevents-batch+json", want: "$: found a batch of events in the header content-type, expected one event in each message, as application/cloudevents+json"},
		{name: "an array all the same", payload: "[" + event + "]", want: "$: found an array, expected an object"},
		{name: "another format", payload: event, content: "application/cloudevents+avro", want: "$: found an event in another format in the header content-type, expected JSON, as application/cloudevents+json"},
		{name: "another specversion", payload: in(`"1.0"`, `"0.3"`), want: `specversion: found "0.3", expected "1.0", the version of CloudEvents`, id: id, identified: true},
		{name: "a specversion that is a number", payload: in(`"1.0"`, `1.0`), want: `specversion: found a number, expected a string`, id: id, identified: true},
		{name: "nothing of an event", payload: `{}`, want: "specversion: found nothing, expected \"1.0\", the version of CloudEvents\nid: found nothing, expected a string, the event's id\n" +
			"source: found nothing, expected a string\ntype: found nothing, expected a string\ndata: found nothing, expected the job"},
		{name: "empty attributes", payload: edit(t, in(`"https://billing.shop.example"`, `""`), `"example.shop.renewal.due"`, `""`),
			want: "source: found an empty string, expected a text\ntype: found an empty string, expected a text", id: id, identified: true},
		{name: "no id", payload: in(`"id":"1234834/2026-12/1",`, ``), want: "id: found nothing, expected a string, the event's id", id: id, identified: true},
		{name: "no id anywhere", payload: edit(t, in(`"id":"1234834/2026-12/1",`, ``), `"id": "1234834/2026-12/1",`, ``), want: "id: found nothing, expected a string, the event's id"},
		{name: "an id that is null", payload: in(`"id":"1234834/2026-12/1",`, `"id":null,`), want: "id: found nothing, expected a string, the event's id", id: id, identified: true},
		{name: "an id that is a number", payload: in(`"id":"1234834/2026-12/1",`, `"id":7,`), want: "id: found a number as the event's id, expected a string"},
		{name: "an empty id", payload: in(`"id":"1234834/2026-12/1",`, `"id":"",`), want: "id: event's id: found an empty string, expected 1 to 255 bytes"},
		{name: "an id of the SDK's own", payload: in(`"id":"1234834/2026-12/1",`, `"id":"a5f6cf1e",`), want: "id: found another ID in the event's id, expected the same wherever there is one"},
		{name: "two ids", payload: in(`"id":"1234834/2026-12/1",`, `"id":"1234834/2026-12/1","id":"1234834/2026-12/1",`), want: "id: found this name twice, expected it once", id: id},
		{name: "two jobs", payload: in(`"data":`, `"data":{},"data":`), id: id, want: "data: found this name twice, expected it once\n" +
			"subscription_id: found nothing, expected a string\nperiod: found nothing, expected a string\ndue_at: found nothing, expected a time\ncustomer_token: found nothing, expected a string\norder: found nothing, expected an object"},
		{name: "data in both ways", payload: in(`"data":`, `"data_base64":"e30=","data":`), want: "data_base64: found it beside data, expected the job in one of the two", id: id},
		{name: "no data", payload: eventOf(string(id), "null"), want: "data: found nothing, expected the job", id: id},
		{name: "data that is text", payload: eventOf(string(id), strconv.Quote("{}")), want: "data: found a string, expected an object", id: id},
		{name: "data of another type", payload: in(`application/json`, `text/xml`), want: `datacontenttype: found "text/xml", expected application/json`, id: id, identified: true},
		{name: "no Base64", payload: strings.Replace(inBase64, `"data_base64":"`, `"data_base64":"*`, 1), want: fmt.Sprintf("data_base64: found a string of %d bytes that is no Base64, expected that of RFC 4648, section 4, with its padding", base64.StdEncoding.EncodedLen(len(job))+1), id: id},
		{name: "no JSON in Base64", payload: base64Of(string(id), job[:len(job)-2]), want: fmt.Sprintf("data_base64: found no valid JSON at byte %d: expected a comma or the end of the object or array", len(job)-2), id: id},
		{name: "a byte order mark in Base64", payload: base64Of(string(id), "\ufeff"+job), want: "data_base64: found no valid JSON at byte 0: expected the document to begin with no byte order mark (U+FEFF), in UTF-8", id: id},
		{name: "a byte order mark", payload: "\ufeff" + event, want: "$: found no valid JSON at byte 0: expected the document to begin with no byte order mark (U+FEFF), in UTF-8"},
		{name: "cut off", payload: event[:len(event)-1], want: fmt.Sprintf("$: found no valid JSON at byte %d: expected a comma or the end of the object or array", len(event)-1)},
		{name: "too large as a whole", payload: in(`"type":`, `"x":"`+strings.Repeat("x", 256<<10-len(job))+`","type":`), id: id, identified: true, want: fmt.Sprintf("$: found %d bytes, expected at most 262144", len(event)+7+256<<10-len(job))},
		{name: "an order that does not add up", payload: in(`"order_amount": 1599`, `"order_amount": 1600`), want: "order.order_amount: found 1600, expected 1599, the sum of total_amount", id: id, identified: true},
		{name: "a name twice in the job", payload: in(`"attempt": 1`, `"attempt": 1, "attempt": 1`), want: "attempt: found this name twice, expected it once", id: id},
		{name: "an unknown field in the job", payload: in(`"attempt": 1`, `"attempts": 1`), want: "attempts: found an unknown field, expected none outside order", id: id, identified: true},
		{name: "the token as the event's id", payload: strings.Replace(eventOf(token, job), `"id": "1234834/2026-12/1",`, ``, 1), want: "id: found the customer token in it, expected it in customer_token only"},
		{name: "the token as specversion", payload: edit(t, in(token, "0123456789abcdef"), `"1.0"`, `"0123456789abcdef"`), want: `specversion: found "[redacted]", expected "1.0", the version of CloudEvents`, id: id, identified: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			header := structured
			if row.content != "" {
				header = anyHeader{"Content-Type": {row.content}}
			}
			r := messages.Read([]byte(row.payload), header)
			if got := report(r.Problems); got != row.want || r.Identified != row.identified || r.Job.ID != row.id {
				t.Errorf("got %q, identified %v, ID %q\nwant %q, %v, %q", got, r.Identified, r.Job.ID, row.want, row.identified, row.id)
			}
		})
	}
}

// A message that says that it is two kinds of events is none, in whatever order its headers are met.
func TestTwoContentTypes(t *testing.T) {
	t.Parallel()
	payload := []byte(eventOf("1234834/2026-12/1", string(golden(t, "job.json"))))
	for range 20 {
		r := messages.Read(payload, anyHeader{"Content-Type": {"application/cloudevents+json"}, "content-type": {"application/cloudevents-batch+json"}})
		if len(r.Problems) != 1 || r.Identified {
			t.Fatalf("got %s, want it to be refused", report(r.Problems))
		}
	}
}

// The event's id stands where ce-id stands.
func TestStructuredMessageID(t *testing.T) {
	t.Parallel()
	with := string(golden(t, "job.json"))
	without := edit(t, with, `"id": "1234834/2026-12/1",`, ``)
	for _, row := range []struct {
		name, payload string
		header        anyHeader
		want          messages.MessageID
	}{
		{name: "the event's only", payload: eventOf("Zoë 42%", without), want: "Zoë 42%"},
		{name: "Nats-Msg-Id and the event's", payload: eventOf("a", without), header: anyHeader{"Nats-Msg-Id": {"a"}}, want: "a"},
		{name: "Nats-Msg-Id differs", payload: eventOf("a", without), header: anyHeader{"Nats-Msg-Id": {"b"}}},
		{name: "ce-id differs", payload: eventOf("a", without), header: anyHeader{"ce-id": {"b"}}},
		{name: "the job's differs", payload: eventOf("a", with)},
		{name: "Nats-Msg-Id differs from both", payload: eventOf("1234834/2026-12/1", with), header: anyHeader{"Nats-Msg-Id": {"b"}}},
		{name: "a replay under a fresh Nats-Msg-Id", payload: eventOf("a", without), header: anyHeader{"Nats-Msg-Id": {"fresh"}, "Renewals-Replay": {"7"}}, want: "a"},
	} {
		header := anyHeader{"content-type": {"application/cloudevents+json; charset=utf-8"}}
		for name, values := range row.header {
			header[name] = values
		}
		r := messages.Read([]byte(row.payload), header)
		if r.Job.ID != row.want || r.Identified != (row.want != "") || (row.want == "") != strings.Contains(report(r.Problems), "id: found another ID in the ") {
			t.Errorf("%s: got %q, identified %v, %s; want %q", row.name, r.Job.ID, r.Identified, report(r.Problems), row.want)
		}
	}
}

// The trace that an event has as an extension goes where that of the headers goes.
func TestStructuredTrace(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, row := range []struct{ name, extensions, parent, state string }{
		{name: "both", extensions: `"traceparent":"` + parent + `","tracestate":"a=1",`, parent: parent, state: "a=1"},
		{name: "none"},
		{name: "a state alone", extensions: `"tracestate":"a=1",`},
		{name: "too long", extensions: `"traceparent":"` + strings.Repeat("0", 513) + `",`},
		{name: "a header within", extensions: `"traceparent":"` + parent + `","tracestate":"a=1\r\nNats-Msg-Id: x",`, parent: parent},
		{name: "no string", extensions: `"traceparent":{"of":7},"tracestate":null,`},
	} {
		r := messages.Read([]byte(strings.Replace(eventOf("1234834/2026-12/1", string(golden(t, "job.json"))), `"data":`, row.extensions+`"data":`, 1)), structured)
		c := messages.ReadCapture([]byte(strings.Replace(eventOf("1234834/2026-12/c1", string(golden(t, "capture.json"))), `"data":`, row.extensions+`"data":`, 1)), structured)
		for _, r := range []messages.Reading{r, c.Common()} {
			if r.TraceParent != row.parent || r.TraceState != row.state || len(r.Problems) > 0 {
				t.Errorf("%s: got %q and %q, %s; want %q and %q", row.name, r.TraceParent, r.TraceState, report(r.Problems), row.parent, row.state)
			}
		}
	}
}

// What waits until it is due, and what is published again out of its dead letter, is read as it was the first time.
func TestStructuredModeSurvives(t *testing.T) {
	t.Parallel()
	payload := []byte(eventOf("1234834/2026-12/1", edit(t, string(golden(t, "job.json")), `"id": "1234834/2026-12/1",`, ``)))
	at := time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	for name, header := range map[string]anyHeader{
		"its ID in the event":      {"content-type": {"application/cloudevents+json; charset=utf-8"}},
		"its ID in Nats-Msg-Id":    {"Content-Type": {"application/cloudevents+json"}, "Nats-Msg-Id": {"1234834/2026-12/1"}},
		"its ID in ce-id, as well": {"CONTENT-TYPE": {"application/CloudEvents+json"}, "ce-id": {"1234834/2026-12/1"}},
	} {
		first := messages.Read(payload, header)
		if len(first.Problems) > 0 {
			t.Fatal(name, report(first.Problems))
		}
		fired, _ := messages.Unpark(messages.Parked{ID: first.Job.ID, Account: "default", Published: at, DueAt: first.Job.DueAt, Original: header}.Header())
		if again := messages.Read(payload, fired); !reflect.DeepEqual(again, first) {
			t.Errorf("%s: after its wait: got %+v, want %+v", name, again, first)
		}
		letter, err := messages.ParseDeadLetter(messages.DeadLetter{Reason: messages.ReasonExpired, Account: "default", Stream: "RENEWALS", Sequence: 7, At: at, Original: fired}.Header(payload))
		if err != nil {
			t.Fatal(err)
		}
		if again := messages.Read(payload, letter.Replay(8, "fresh")); !reflect.DeepEqual(again, first) {
			t.Errorf("%s: as a replay: got %+v, want %+v", name, again, first)
		}
	}
}

// Large and hostile documents cost no more in an event, and an event of them no more than a job.
func TestStructuredModeIsBounded(t *testing.T) {
	t.Parallel()
	for name, document := range hostile(t) {
		for in, payload := range map[string][]byte{
			"as the event": document, "as data": []byte(eventOf("1", string(document))), "in Base64": []byte(base64Of("1", string(document))),
			"as an extension": []byte(`{"x":` + string(document) + `}`), "as an id": []byte(`{"id":` + string(document) + `}`),
		} {
			r := messages.Read(payload, structured)
			record, err := messages.Encode(messages.Rejected{Record: messages.Record{ID: r.Job.ID, Metadata: r.Job.Metadata}, Errors: append(r.Problems, r.Warnings...)})
			if err != nil || len(r.Problems) == 0 || len(r.Problems) > 101 || len(r.Warnings) > 100 || len(record) > 64<<10 {
				t.Errorf("%s %s: got %d problems, %d warnings and a record of %d bytes (%v), want 1 to 101, at most 100, and 64 KiB", name, in, len(r.Problems), len(r.Warnings), len(record), err)
			}
		}
	}
}

// FuzzModes: a job is the same in binary mode, as data of an event and in its data_base64, and no event makes Read panic.
//
//	go test -run '^$' -fuzz '^FuzzModes$' -fuzztime 30s ./messages
func FuzzModes(f *testing.F) {
	for _, row := range invalidJobs() {
		if payload := row.payload(f); len(payload) < 8<<10 {
			f.Add(payload, "", "1234834/2026-12/1")
		}
	}
	for _, row := range validJobs(f) {
		if len(row.payload) < 8<<10 {
			f.Add([]byte(row.payload), "", "1234834/2026-12/1")
		}
	}
	for _, o := range worldlyOrders(f) {
		f.Add([]byte(o.Before+orderOf(string(o.Order))), "1234834/2026-12/1", "Zoë 42%")
	}
	for _, row := range invalidCaptures() {
		if payload := edit(f, string(golden(f, "capture.json")), row.old, row.new); len(payload) < 8<<10 {
			f.Add([]byte(payload), "", "1234834/2026-12/c1")
		}
	}
	f.Add([]byte(eventOf("1", "{}")), "", "1") // an event in an event, and one that is read as such
	f.Fuzz(func(t *testing.T, job []byte, msgID, eventID string) {
		messages.Read(job, structured)
		messages.ReadCapture(job, structured)
		if eventID == "" || !utf8.ValidString(eventID) || len(job) > 100<<10 {
			return // no event, or one that is too large
		}
		binary := anyHeader{"Nats-Msg-Id": {msgID}, "ce-id": {percent(eventID)}}
		header := anyHeader{"Nats-Msg-Id": {msgID}, "content-type": structured["Content-Type"]}
		payloads := map[string]string{"data_base64": base64Of(eventID, string(job))}
		if document := bytes.TrimSpace(job); json.Valid(job) && !bytes.Equal(document, []byte("null")) && !strings.Contains(report(messages.Read(job, nil).Problems), "levels of nesting") {
			payloads["data"] = eventOf(eventID, string(job))
		}
		for place, payload := range payloads {
			want, wantCapture := messages.Read(job, binary), messages.ReadCapture(job, binary)
			received := []byte(payload)
			got, gotCapture := messages.Read(received, header), messages.ReadCapture(received, header)
			if string(received) != payload {
				t.Fatal("the payload was changed")
			}
			asBinary(place, got.Problems, gotCapture.Problems, want.Problems, wantCapture.Problems)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("in %s: got\n%s\n%+v\nwant\n%s\n%+v", place, report(got.Problems), got, report(want.Problems), want)
			}
			if !reflect.DeepEqual(gotCapture, wantCapture) {
				t.Errorf("in %s: got the capture\n%s\n%+v\nwant\n%s\n%+v", place, report(gotCapture.Problems), gotCapture, report(wantCapture.Problems), wantCapture)
			}
		}
	})
}

// asBinary puts problems into the words of binary mode. A job may have a field of the name that the job has in an event.
func asBinary(place string, lists ...[]messages.Problem) {
	for _, problems := range lists {
		for i := range problems {
			p := &problems[i]
			if p.Path == place {
				p.Path = "$"
			}
			if p.Path == "id" {
				p.Message = strings.Replace(strings.Replace(p.Message, "event's id:", "header ce-id:", 1), "the event's id", "the header ce-id", 1)
			}
		}
	}
}
