package messages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

func TestReading(t *testing.T) {
	t.Parallel()
	payload := golden(t, "job.json")
	r := messages.Read(payload, nil)
	if len(r.Problems)+len(r.Warnings) > 0 {
		t.Fatal(report(r.Problems), report(r.Warnings))
	}
	j := r.Job
	got := fmt.Sprintln(r.Identified, r.RenewalKey, r.IdempotencyKey, r.Facts, j.ID, j.SubscriptionID, j.Period, j.Attempt,
		j.DueAt.Format(time.RFC3339), j.ExpiresAt.Format(time.RFC3339), j.CustomerToken.Reveal(), j.Metadata)
	want := fmt.Sprintln(true, "4a87da77-4bba-50c6-8cae-6972612639ac", "066fb987-94e8-5d9a-9b0b-0d279f430fd1",
		messages.OrderFacts{Amount: 1599, Currency: "EUR", MerchantReference1: "1234834-2026-12", AutoCapture: true, Cadence: "MONTH/1"},
		"1234834/2026-12/1", "1234834", "2026-12", 1, "2026-12-01T00:00:00Z", "2026-12-08T00:00:00Z", token, map[string]string{"plan": "premium"})
	if got != want {
		t.Errorf("got %swant %s", got, want)
	}
	if &j.Order[0] != &payload[bytes.Index(payload, []byte(`{ "purchase_currency"`))] || cap(j.Order) != len(j.Order) {
		t.Error("got a copy of the order, or one that can grow into the message")
	}
}

// Where the ID comes from, and what contradicts what.
func TestMessageID(t *testing.T) {
	t.Parallel()
	const body, none = `"id": "1234834/2026-12/1",`, ``
	type h = map[string][]string
	const other = "id: found another ID in the header %s, expected the same wherever there is one"
	for _, row := range []struct {
		name   string
		id     string
		header h
		want   messages.MessageID
		wrong  string
	}{
		{name: "body only", id: body, want: "1234834/2026-12/1"},
		{name: "body and equal headers", id: body, header: h{"Nats-Msg-Id": {"1234834/2026-12/1"}, "ce-id": {"1234834/2026-12/1"}}, want: "1234834/2026-12/1"},
		{name: "Nats-Msg-Id only", id: none, header: h{"Nats-Msg-Id": {"a"}}, want: "a"},
		{name: "Nats-Msg-Id in another spelling", id: none, header: h{"nats-msg-id": {"a"}}, want: "a"},
		{name: "ce-id only", id: none, header: h{"ce-id": {"a"}}, want: "a"},
		{name: "Ce-Id, percent-encoded", id: none, header: h{"Ce-Id": {"Zo%C3%AB%2042%25"}}, want: "Zoë 42%"},
		{name: "ce-id, not encoded by its SDK", id: none, header: h{"ce-id": {"100% ë %zz%4z%z4%4"}}, want: "100% ë %zz%4z%z4%4"},
		{name: "ce-id in either case of hex digits", id: none, header: h{"ce-id": {"%4a%4A%30%39%c3%AF"}}, want: "JJ09ï"},
		{name: "escapes in the body", id: `"id": "\u004a\u004A\u0039\uFF21\uff41\ud83E\uDd6a\/\"\\",`, want: "JJ9Ａａ🥪/\"\\"},
		{name: "the header before ce-id, both equal", id: none, header: h{"Nats-Msg-Id": {"a b"}, "ce-id": {"a%20b"}}, want: "a b"},
		{name: "empty headers", id: body, header: h{"Nats-Msg-Id": {""}, "ce-id": {}}, want: "1234834/2026-12/1"},
		{name: "other headers", id: body, header: h{"Nats-Msg-Ids": {"a"}, "id": {"b"}, "": {"c"}}, want: "1234834/2026-12/1"},
		{name: "a replay under a fresh Nats-Msg-Id", id: body, header: h{"Nats-Msg-Id": {"fresh"}, "Renewals-Replay": {"7"}}, want: "1234834/2026-12/1"},
		{name: "a replay of a job with its ID in the header", id: none, header: h{"Nats-Msg-Id": {"fresh"}, "renewals-replay": {"7"}, "ce-id": {"a"}}, want: "a"},
		{name: "none", id: none, header: h{}, wrong: "id: found nothing, expected a string here or in the header Nats-Msg-Id"},
		{name: "a replay without an ID", id: none, header: h{"Nats-Msg-Id": {"fresh"}, "Renewals-Replay": {"7"}}, wrong: "id: found nothing, expected a string here or in the header Nats-Msg-Id"},
		{name: "body and header differ", id: body, header: h{"Nats-Msg-Id": {"a"}}, wrong: fmt.Sprintf(other, "Nats-Msg-Id")},
		{name: "body and ce-id differ", id: body, header: h{"ce-id": {"a"}}, wrong: fmt.Sprintf(other, "ce-id")},
		{name: "headers differ", id: none, header: h{"Nats-Msg-Id": {"b"}, "ce-id": {"a"}}, wrong: fmt.Sprintf(other, "ce-id")},
		{name: "one header with two values", id: none, header: h{"Nats-Msg-Id": {"a", "b"}}, wrong: fmt.Sprintf(other, "Nats-Msg-Id")},
		{name: "one header in two spellings", id: none, header: h{"Nats-Msg-Id": {"a"}, "nats-msg-id": {"b"}}, wrong: fmt.Sprintf(other, "Nats-Msg-Id")},
		{name: "a long header", id: none, header: h{"Nats-Msg-Id": {strings.Repeat("a", 256)}}, wrong: "id: header Nats-Msg-Id: found 256 bytes, expected 1 to 255"},
		{name: "a header that is not UTF-8", id: none, header: h{"ce-id": {"%ff"}}, wrong: "id: header ce-id: found a string that is not valid UTF-8"},
		{name: "the token in the header", id: none, header: h{"Nats-Msg-Id": {token}}, wrong: "id: found the customer token in it, expected it in customer_token only"},
		{name: "a bad id in the body, a good one in the header", id: `"id": 7,`, header: h{"Nats-Msg-Id": {"a"}}, wrong: "id: found a number, expected a string"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := messages.Read([]byte(edit(t, string(golden(t, "job.json")), body, row.id)), row.header)
			if got := report(r.Problems); r.Job.ID != row.want || got != row.wrong || r.Identified != (row.wrong == "") {
				t.Errorf("got %q, %v, %q; want %q, %v, %q", r.Job.ID, r.Identified, got, row.want, row.wrong == "", row.wrong)
			}
			if (r.RenewalKey != "") != r.Identified || (r.IdempotencyKey != "") != r.Identified {
				t.Errorf("got keys %q and %q, identified %v", r.RenewalKey, r.IdempotencyKey, r.Identified)
			}
		})
	}
}

// manyPairs are 16 pairs of metadata to follow another.
const manyPairs = `,"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":""`

// What is known of an invalid job: enough to find its renewal, and to carry an open claim to its end.
func TestReadingOfInvalidJobs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, old, new                 string
		identified, hasToken, hasOrder bool
	}{
		{name: "an unknown field", old: `"attempt": 1`, new: `"attempts": 1`, identified: true, hasToken: true, hasOrder: true},
		{name: "a bad order", old: `"order_amount": 1599`, new: `"order_amount": 0`, identified: true, hasToken: true, hasOrder: true},
		{name: "a name twice in the order", old: `"order_amount": 1599`, new: `"order_amount": 1599, "order_amount": 1`, identified: true, hasToken: true, hasOrder: true},
		{name: "a name twice in the metadata", old: `"premium"`, new: `"", "plan": ""`, identified: true, hasToken: true, hasOrder: true},
		{name: "a string in the order that is not UTF-8", old: "Streaming", new: "\xff", identified: true, hasToken: true, hasOrder: true},
		{name: "a number in the metadata", old: `"premium"`, new: `"premium", "b": 1`, identified: true, hasToken: true, hasOrder: true},
		{name: "too much metadata", old: `"premium"`, new: `"premium"` + manyPairs, identified: true, hasToken: true, hasOrder: true},
		{name: "too large", old: `"premium"`, new: `"` + strings.Repeat("x", 257<<10) + `"`, identified: true, hasToken: true, hasOrder: true},
		{name: "an order that is a string", old: `"order": {`, new: `"order": "x", "y": {`, identified: true, hasToken: true, hasOrder: true},
		{name: "a bad token", old: token, new: "a b", identified: true, hasToken: true, hasOrder: true},
		{name: "no token", old: `"customer_token": "` + token + `",`, new: ``, identified: true, hasOrder: true},
		{name: "no order", old: `"order": {`, new: `"orders": {`, identified: true, hasToken: true},
		{name: "no due_at", old: `"due_at": "2026-12-01T00:00:00Z",`, new: ``, identified: true, hasToken: true, hasOrder: true},
		{name: "a name twice at the top", old: `"attempt": 1`, new: `"attempt": 1, "attempt": 1`, hasToken: true, hasOrder: true},
		{name: "an unknown name twice at the top", old: `"attempt": 1`, new: `"a": 1, "a": 1`, hasToken: true, hasOrder: true},
		{name: "a period twice", old: `"period": "2026-12"`, new: `"period": "2026-12", "period": "2027-01"`, hasToken: true, hasOrder: true},
		{name: "a bad period", old: `"period": "2026-12"`, new: `"period": 202612`, hasToken: true, hasOrder: true},
		{name: "no subscription", old: `"subscription_id": "1234834",`, new: ``, hasToken: true, hasOrder: true},
		{name: "a bad id", old: `"id": "1234834/2026-12/1"`, new: `"id": ""`, hasToken: true, hasOrder: true},
		{name: "the token as period", old: `"period": "2026-12"`, new: `"period": "` + token + `"`, hasToken: true, hasOrder: true},
		{name: "cut off", old: `"premium" }
}`, new: `"`},
		{name: "two documents", old: `"premium" }
}`, new: `"premium" }} {}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			payload := []byte(edit(t, string(golden(t, "job.json")), row.old, row.new))
			r := messages.Read(payload, nil)
			if len(r.Problems) == 0 {
				t.Error("got no problem")
			}
			if r.Identified != row.identified || r.Job.CustomerToken.IsZero() == row.hasToken || (len(r.Job.Order) > 0) != row.hasOrder {
				t.Errorf("got identified %v, token %v, order %v; want %v, %v, %v",
					r.Identified, !r.Job.CustomerToken.IsZero(), len(r.Job.Order) > 0, row.identified, row.hasToken, row.hasOrder)
			}
			if badMetadata := strings.Contains(row.name, "metadata") || row.name == "too large"; r.Identified && (len(r.Job.Metadata) == 0) != badMetadata {
				t.Errorf("got metadata %.80q", r.Job.Metadata)
			}
			if want := messages.NewRenewalKey("1234834", "2026-12"); r.Identified && r.RenewalKey != want {
				t.Errorf("got renewal %s, want %s", r.RenewalKey, want)
			}
			if echo := fmt.Sprint(r.Job.ID, r.Job.SubscriptionID, r.Job.Period, r.Facts, r.Job.Metadata); strings.Contains(echo, token) {
				t.Errorf("got the token in what results repeat: %s", echo)
			}
			job, _, err := messages.DecodeJob(payload, nil)
			if invalid, ok := err.(*messages.InvalidError); !ok || len(invalid.Problems) != len(r.Problems) || job.ID != "" || job.Order != nil || !job.CustomerToken.IsZero() {
				t.Errorf("got %v and %+v, want an InvalidError and a zero job", err, job)
			}
		})
	}
}

func TestReadingOfNoJob(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		"":               "$: found no valid JSON at byte 0: expected a value",
		" ":              "$: found no valid JSON at byte 1: expected a value",
		"hello":          "$: found no valid JSON at byte 0: expected a value",
		"null":           "$: found null, expected an object",
		"nul":            "$: found no valid JSON at byte 0: expected a value",
		"[]":             "$: found an array, expected an object",
		`"x"`:            "$: found a string, expected an object",
		"1e5":            "$: found a number, expected an object",
		"-":              "$: found no valid JSON at byte 1: expected a digit",
		"1.":             "$: found no valid JSON at byte 2: expected a digit",
		"{":              "$: found no valid JSON at byte 1: expected a name in double quotes",
		`{"a`:            "$: found no valid JSON at byte 3: expected the end of a string",
		`{"a\`:           "$: found no valid JSON at byte 3: expected the end of a string",
		`{"a\u12`:        "$: found no valid JSON at byte 3: expected a valid escape sequence",
		`{"a\u00e9`:      "$: found no valid JSON at byte 9: expected the end of a string",
		`{"a\u00g9"`:     "$: found no valid JSON at byte 3: expected a valid escape sequence",
		`{"a"`:           "$: found no valid JSON at byte 4: expected a colon",
		`{"a":`:          "$: found no valid JSON at byte 5: expected a value",
		`{"a":1`:         "$: found no valid JSON at byte 6: expected a comma or the end of the object or array",
		`{"a":[1`:        "$: found no valid JSON at byte 7: expected a comma or the end of the object or array",
		`{"a":[1,]}`:     "$: found no valid JSON at byte 8: expected no comma before the end of the object or array",
		"\ufeff{}":       "$: found no valid JSON at byte 0: expected the document to begin with no byte order mark (U+FEFF), in UTF-8",
		"\xff\xfe{\x00":  "$: found no valid JSON at byte 0: expected the document to begin with no byte order mark (U+FEFF), in UTF-8",
		"\x1f\x8b\x08{}": "$: found no valid JSON at byte 0: expected a value",
		"{}":             "subscription_id: found nothing, expected a string\nperiod: found nothing, expected a string\ndue_at: found nothing, expected a time\ncustomer_token: found nothing, expected a string\norder: found nothing, expected an object\nid: found nothing, expected a string here or in the header Nats-Msg-Id",
		`{"order":"x"}}`: "$: found no valid JSON at byte 13: expected nothing after the end of the document",
		"{} // nothing":  "$: found no valid JSON at byte 3: expected nothing after the end of the document",
	} {
		r := messages.Read([]byte(payload), nil)
		if got := report(r.Problems); got != want || r.Identified {
			t.Errorf("%q: got %q, identified %v; want %q", payload, got, r.Identified, want)
		}
		// The ID is known where a header has it, for whoever looks for the job.
		if r := messages.Read([]byte(payload), map[string][]string{"Nats-Msg-Id": {"a"}}); r.Job.ID != "a" || r.Identified {
			t.Errorf("%q with an ID in the header: got %q, identified %v", payload, r.Job.ID, r.Identified)
		}
	}
}

// hostile documents are as large as the stream takes.
func hostile(t testing.TB) map[string][]byte {
	const size = 500 << 10
	base := string(golden(t, "job.json"))
	fill := func(old, before, unit, after string) []byte {
		return []byte(edit(t, base, old, before+strings.Repeat(unit, (size-len(base))/len(unit))+after))
	}
	var names strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&names, `"%d":0,`, i)
	}
	return map[string][]byte{
		"arrays in arrays":           bytes.Repeat([]byte("["), size),
		"objects in objects":         bytes.Repeat([]byte(`{"a":`), size/5),
		"one name over and over":     fill(`"auto_capture": true`, ``, `"a":0,`, `"auto_capture": true`),
		"names that all differ":      []byte(edit(t, base, `"auto_capture": true`, names.String()+`"auto_capture": true`)),
		"unknown fields at the top":  []byte(edit(t, base, `"attempt": 1`, names.String()+`"attempt": 1`)),
		"lines that are empty":       fill(entireLine, `{}`, `,{}`, ``),
		"lines that are half valid":  fill(entireLine, entireLine, `,{"type":"x","name":"","quantity":-1,"quantity":1}`, ``),
		"a name of 500 KB":           fill(`"attempt"`, `"`, `x`, `"`),
		"escapes":                    fill(`"premium"`, `"`, `\ud83d`, `"`),
		"metadata":                   fill(`"plan": "premium"`, ``, `"<":"<",`, `"plan":"premium"`),
		"a number of 500,000 digits": fill(`"order_amount": 1599`, `"order_amount": `, `9`, ``),
		"white space":                fill(`"attempt"`, ``, "\n", `"attempt"`),
		"zero bytes":                 make([]byte, size),
		"quotes":                     bytes.Repeat([]byte(`"`), size),
		"not UTF-8":                  fill(`"premium"`, `"`, "\xff", `"`),
	}
}

// Results repeat both references, a number as it is written. What is longer than Klarna takes is cut: they travel in a header, too.
func TestReferencesAsResultsRepeatThem(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ written, want string }{
		{`"NL-7"`, "NL-7"},
		{`48211`, "48211"},
		{`null`, ""},
		{`"` + strings.Repeat("é", 255) + `"`, strings.Repeat("é", 255)},
		{`"` + strings.Repeat("x", 70_000) + `"`, strings.Repeat("x", 1020)},
		{`"x` + strings.Repeat("é", 70_000) + `"`, "x" + strings.Repeat("é", 509)},
		{strings.Repeat("9", 70_000), strings.Repeat("9", 1020)},
	} {
		for _, name := range []string{"merchant_reference1", "merchant_reference2"} {
			base := strings.Replace(string(golden(t, "job.json")), `"merchant_reference1"`, `"unused"`, 1)
			r := messages.Read([]byte(edit(t, base, `"auto_capture": true`, `"auto_capture": true, "`+name+`": `+row.written)), nil)
			got := r.Facts.MerchantReference1 + r.Facts.MerchantReference2
			if got != row.want || len(r.Problems) > 0 || (r.Facts.MerchantReference1 != "") != (name == "merchant_reference1" && row.want != "") {
				t.Errorf("%s %.20s: got %.40q of %d bytes, %v; want %.40q", name, row.written, got, len(got), r.Problems, row.want)
			}
		}
	}
}

// No input makes more than 100 problems and a last one that counts the rest, so that a record of them is always small.
func TestReadingIsBounded(t *testing.T) {
	t.Parallel()
	for name, payload := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := messages.Read(payload, nil)
			record, err := messages.Encode(messages.Rejected{Record: messages.Record{ID: r.Job.ID, Metadata: r.Job.Metadata}, Errors: append(r.Problems, r.Warnings...)})
			if err != nil || len(r.Problems) == 0 || len(r.Problems) > 101 || len(r.Warnings) > 100 || len(record) > 64<<10 {
				t.Errorf("got %d problems, %d warnings and a record of %d bytes (%v), want 1 to 101, at most 100, and 64 KiB", len(r.Problems), len(r.Warnings), len(record), err)
			}
		})
	}
	fields := `{"id":"1","subscription_id":"1","period":"1","due_at":"2026-12-01T00:00:00Z","customer_token":"t","order":{}`
	for i := range 97 {
		fields += fmt.Sprintf(`,"%d":0`, i)
	}
	if r := messages.Read([]byte(fields+"}"), nil); len(r.Problems) != 101 || r.Problems[100].String() != "$: found further problems, not listed here: 1" {
		t.Errorf("got %d problems, want 100 and one that counts the 101st", len(r.Problems))
	}
	r := messages.Read(hostile(t)["lines that are empty"], nil)
	if got, want := r.Problems[len(r.Problems)-1].String(), "$: found further problems, not listed here: 3903"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkReadHostile(b *testing.B) {
	for name, payload := range hostile(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				messages.Read(payload, nil)
			}
		})
	}
}

// A billing system in Go gets the same checks from its Job as the worker makes.
func TestJobValidate(t *testing.T) {
	t.Parallel()
	good, _, err := messages.DecodeJob(golden(t, "job.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*messages.Job)
		want   string
	}{
		{"as it is", func(*messages.Job) {}, ""},
		{"without attempt, expiry and metadata", func(j *messages.Job) { j.Attempt, j.ExpiresAt, j.Metadata = 0, time.Time{}, nil }, ""},
		{"beside the cycle, after the customer has acted", func(j *messages.Job) { j.OffCycle, j.CustomerActed = true, true }, ""},
		{"strange metadata", func(j *messages.Job) { j.Metadata = map[string]string{"\"\\/\b\f\n\r\t\x00\x7f": "\u2028é🥪"} }, ""},
		{"no ID", func(j *messages.Job) { j.ID = "" }, "invalid job: id: found an empty string, expected 1 to 255 bytes"},
		{"an ID that is not UTF-8", func(j *messages.Job) { j.ID = "\xff" }, "invalid job: id: found a string that is not valid UTF-8"},
		{"no order", func(j *messages.Job) { j.Order = nil }, "invalid job: order: found no valid JSON"},
		{"an order that goes on", func(j *messages.Job) { j.Order = json.RawMessage(`{}, "attempt": 2`) }, "invalid job: order: found no valid JSON"},
		{"no due time", func(j *messages.Job) { j.DueAt = time.Time{} }, `invalid job: due_at: found "0001-01-01T00:00:00Z", expected a time of RFC 3339 such as 2026-12-01T00:00:00Z`},
		{"no token", func(j *messages.Job) { j.CustomerToken = messages.CustomerToken{} }, "invalid job: customer_token: found a string of 0 bytes that is not a customer token, expected 1 to 255 of A-Z, a-z, 0-9 and . _ ~ -"},
		{"two faults", func(j *messages.Job) { j.Period, j.Attempt = "", -1 }, "invalid job: period: found an empty string, expected 1 to 64 bytes (and 1 more)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			job := good
			row.change(&job)
			_, err := job.Validate()
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				stable(t, job)
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}
