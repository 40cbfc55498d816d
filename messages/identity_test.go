package messages_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/klarna-renewals/renewals/messages"
)

// keyVectors are what uuidgen of util-linux says. They are contract: see testdata/keys.json for the URN of each.
//
//	uuidgen --sha1 --namespace @url --name <urn>
//	uuidgen --sha1 --namespace <renewal_key> --name <message_id>          of a job
//	uuidgen --sha1 --namespace <renewal_key> --name capture:<message_id>  of a capture job
type keyVectors struct {
	Keys, Captures []keyVector
	StandIns       []struct {
		Name     string
		Stream   string
		Sequence uint64
		Payload  string
		URN      string
		StandIn  string `json:"stand_in"`
	} `json:"stand_ins"`
}

type keyVector struct {
	Name           string
	SubscriptionID messages.SubscriptionID `json:"subscription_id"`
	Period         messages.Period
	MessageID      messages.MessageID `json:"message_id"`
	URN            string
	RenewalKey     messages.RenewalKey     `json:"renewal_key"`
	IdempotencyKey messages.IdempotencyKey `json:"idempotency_key"`
}

// S9: the keys of renewals and message IDs stay what they are, whoever computes them.
func TestKeys(t *testing.T) {
	t.Parallel()
	var v keyVectors
	if err := json.Unmarshal(golden(t, "keys.json"), &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Keys) < 12 || len(v.Captures) < 8 || len(v.StandIns) < 1 {
		t.Fatalf("got %d, %d and %d vectors, want 12, 8 and 1 or more", len(v.Keys), len(v.Captures), len(v.StandIns))
	}
	renewals := map[messages.RenewalKey]string{}
	for _, row := range v.Keys {
		renewal := messages.NewRenewalKey(row.SubscriptionID, row.Period)
		key := messages.NewIdempotencyKey(renewal, row.MessageID)
		if renewal != row.RenewalKey || key != row.IdempotencyKey {
			t.Errorf("%s: got %s and %s, want %s and %s: a changed key is a double charge", row.Name, renewal, key, row.RenewalKey, row.IdempotencyKey)
		}
		renewals[renewal] = row.URN
	}
	if len(renewals) != len(v.Keys)-2 { // two rows share the README's renewal, two the one of 255 bytes
		t.Errorf("got %d different renewals, want %d", len(renewals), len(v.Keys)-2)
	}
	for _, row := range v.Captures {
		key := messages.NewCaptureKey(messages.NewRenewalKey(row.SubscriptionID, row.Period), row.MessageID)
		if key != row.IdempotencyKey {
			t.Errorf("capture, %s: got %s, want %s: a changed key takes the money twice", row.Name, key, row.IdempotencyKey)
		}
		if charge := messages.NewIdempotencyKey(row.RenewalKey, row.MessageID); key == charge {
			t.Errorf("capture, %s: got the key of a charge", row.Name)
		}
	}
	for _, row := range v.StandIns {
		renewal, key := messages.StandIn(row.Stream, row.Sequence, []byte(row.Payload))
		if string(renewal) != row.StandIn || string(key) != row.StandIn {
			t.Errorf("%s: got %s and %s, want %s twice", row.Name, renewal, key, row.StandIn)
		}
	}
}

// Tools that are not ours compute the same: a library, and uuidgen where it is installed and makes version 5.
func TestKeysByOthers(t *testing.T) {
	t.Parallel()
	t.Run("google/uuid", func(t *testing.T) {
		sameKeys(t, func(namespace, name string) string {
			space, err := uuid.Parse(namespace)
			if err != nil {
				space = uuid.NameSpaceURL
			}
			return uuid.NewSHA1(space, []byte(name)).String()
		})
	})
	path, err := exec.LookPath("uuidgen")
	if err != nil || exec.Command(path, "--sha1", "--namespace", "@url", "--name", "any").Run() != nil {
		return
	}
	t.Run("uuidgen", func(t *testing.T) {
		sameKeys(t, func(namespace, name string) string {
			out, err := exec.Command(path, "--sha1", "--namespace", namespace, "--name", name).Output()
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(out))
		})
	})
}

// sameKeys compares the golden vectors with what compute makes of a namespace, @url or a UUID, and a name.
func sameKeys(t *testing.T, compute func(namespace, name string) string) {
	t.Helper()
	var v keyVectors
	if err := json.Unmarshal(golden(t, "keys.json"), &v); err != nil {
		t.Fatal(err)
	}
	for _, row := range v.Keys {
		renewal := compute("@url", row.URN)
		if key := compute(renewal, string(row.MessageID)); renewal != string(row.RenewalKey) || key != string(row.IdempotencyKey) {
			t.Errorf("%s: got %s and %s, want %s and %s", row.Name, renewal, key, row.RenewalKey, row.IdempotencyKey)
		}
	}
	for _, row := range v.Captures {
		renewal := compute("@url", row.URN)
		if key := compute(renewal, "capture:"+string(row.MessageID)); renewal != string(row.RenewalKey) || key != string(row.IdempotencyKey) {
			t.Errorf("capture, %s: got %s and %s, want %s and %s", row.Name, renewal, key, row.RenewalKey, row.IdempotencyKey)
		}
	}
	for _, row := range v.StandIns {
		if got := compute("@url", row.URN); got != row.StandIn {
			t.Errorf("%s: got %s, want %s", row.Name, got, row.StandIn)
		}
	}
}

func TestIdempotencyKeyOfNoRenewal(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("got a key without a renewal, want a panic")
		}
	}()
	messages.NewIdempotencyKey("", "1234834/2026-12/1")
}

func TestParseAccount(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		ok   bool
	}{
		{"default", true}, {"0", true}, {"shop-eu-2", true}, {"az09", true}, {"a-", true}, {strings.Repeat("a", 32), true},
		{"", false}, {"-a", false}, {"Shop", false}, {"a`", false}, {"a{", false}, {"a/", false}, {"a:", false}, {"shop_eu", false}, {"shop.eu", false}, {"*", false}, {">", false},
		{"é", false}, {"a b", false}, {strings.Repeat("a", 33), false},
	} {
		if got, err := messages.ParseAccount(row.name); (err == nil) != row.ok || row.ok != (string(got) == row.name && got != "") {
			t.Errorf("%q: got %q, %v; want ok %v", row.name, got, err, row.ok)
		}
	}
}

func TestParseMessageID(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"1234834/2026-12/1":      "",
		"":                       "message ID: found an empty string, expected 1 to 255 bytes",
		" a":                     "message ID: found a space at the beginning or end, expected none",
		"a\u2003":                "message ID: found a space at the beginning or end, expected none",
		"a\x7fb":                 "message ID: found the control character U+007F, expected none",
		"a\u0085":                "message ID: found the control character U+0085, expected none",
		"\xff":                   "message ID: found a string that is not valid UTF-8",
		strings.Repeat("a", 256): "message ID: found 256 bytes, expected 1 to 255",
	} {
		got := ""
		if _, err := messages.ParseMessageID(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.10q: got %q, want %q", name, got, want)
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	renewal := messages.NewRenewal("1234834", "2026-12")
	key := messages.NewIdempotencyKey(renewal.Key(), "1234834/2026-12/1")
	record := func(kind messages.Kind, r messages.Renewal, due int64, account messages.Account) string {
		return messages.RecordAddress{Kind: kind, Renewal: r, Due: due, Account: account}.Subject()
	}
	for got, want := range map[string]string{
		messages.DueSubject("shop-eu"):                                   "renewals.due.shop-eu",
		messages.CaptureSubject("shop-eu"):                               "renewals.capture.shop-eu",
		record(messages.KindCaptureFailed, renewal, 0, "a"):              "renewals.capture_failed.1234834.2026-12.0.a",
		record(messages.KindPaid, renewal, 1796083200, "shop-eu"):        "renewals.paid.1234834.2026-12.1796083200.shop-eu",
		record(messages.KindUnresolved, renewal, -1, "default"):          "renewals.unresolved.1234834.2026-12.-1.default",
		messages.RenewalFilter(renewal):                                  "renewals.*.1234834.2026-12.*.*",
		messages.KindFilter(messages.KindPaid, renewal):                  "renewals.paid.1234834.2026-12.*.*",
		messages.RecordFilter(messages.KindPaid, "*"):                    "renewals.paid.*.*.*.*",
		messages.RecordFilter(messages.KindDunning, "shop-eu"):           "renewals.dunning.*.*.*.shop-eu",
		messages.SubscriptionFilter("1234834"):                           "renewals.*.1234834.>",
		messages.SubscriptionRecordFilter(messages.KindPaid, "a.b", "*"): "renewals.paid.a%2Eb.*.*.*",
		messages.ParkedSubscriptionFilter("a.b >"):                       "renewals.parked.a%2Eb%20%3E.>",
		messages.DeadSubject(key, "shop-eu"):                             "renewals.dead.066fb987-94e8-5d9a-9b0b-0d279f430fd1.shop-eu",
		string(messages.StandInRenewal(messages.RenewalKey(key))):        "%.066fb987-94e8-5d9a-9b0b-0d279f430fd1",
		string(messages.StandInRenewal(messages.RenewalKey(key)).Key()):  "066fb987-94e8-5d9a-9b0b-0d279f430fd1",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for subject, want := range map[string]bool{
		"renewals.paid.*.*": true, "renewals.capture_failed.4a87da77-4bba-50c6-8cae-6972612639ac.default": true,
		"renewals.paid.*.*.*.*": false, "renewals.dead.*.*": false, "renewals.due.*": false, "renewals.parked.*.*.*.*": false, "other.paid.*.*": false,
	} {
		if got := messages.FirstEdition(subject); got != want {
			t.Errorf("%s is of the first edition: %t, want %t", subject, got, want)
		}
	}
	for _, kind := range messages.Kinds() {
		for _, r := range []messages.Renewal{renewal, messages.StandInRenewal(messages.RenewalKey(key))} {
			want := messages.RecordAddress{Kind: kind, Renewal: r, Due: 1796083200, Account: "shop-eu"}
			if got, err := messages.ParseRecordSubject(want.Subject()); err != nil || got != want {
				t.Errorf("%s: got %+v, %v", want.Subject(), got, err)
			}
		}
	}
	if a, err := messages.ParseDueSubject("renewals.due.shop-eu"); err != nil || a != "shop-eu" {
		t.Errorf("got %s, %v", a, err)
	}
	if a, err := messages.ParseCaptureSubject("renewals.capture.shop-eu"); err != nil || a != "shop-eu" || !messages.IsCapture("renewals.capture.shop-eu") {
		t.Errorf("got %s, %v, want a capture of shop-eu", a, err)
	}
	if k, a, err := messages.ParseDeadSubject(messages.DeadSubject(key, "shop-eu")); err != nil || k != key || a != "shop-eu" {
		t.Errorf("got %s, %s, %v", k, a, err)
	}
	if renewal.StandsIn() || !messages.StandInRenewal(messages.RenewalKey(key)).StandsIn() {
		t.Error("a renewal and a stand-in are taken for each other")
	}
}

// The golden vectors were made by another implementation of percent-encoding (Python's urllib.parse.quote). Every subject is one that
// nats-server takes, and each tells what it was made of.
func TestReadableSubjects(t *testing.T) {
	t.Parallel()
	var rows []struct {
		Subscription messages.SubscriptionID `json:"subscription_id"`
		Period       messages.Period
		Renewal      messages.Renewal
		Paid         string
		Filter       string
		History      string
	}
	if err := json.Unmarshal(golden(t, "subjects.json"), &rows); err != nil || len(rows) < 16 {
		t.Fatalf("%d vectors, want 16 or more (%v)", len(rows), err)
	}
	seen := map[messages.Renewal]bool{}
	for _, row := range rows {
		r := messages.NewRenewal(row.Subscription, row.Period)
		paid := messages.RecordAddress{Kind: messages.KindPaid, Renewal: r, Due: 1796083200, Account: "default"}.Subject()
		if r != row.Renewal || paid != row.Paid || messages.RenewalFilter(r) != row.Filter || messages.SubscriptionFilter(row.Subscription) != row.History {
			t.Errorf("%s/%s: got %s, %s, %s and %s", row.Subscription, row.Period, r, paid, messages.RenewalFilter(r), messages.SubscriptionFilter(row.Subscription))
		}
		if s, p := r.Split(); s != row.Subscription || p != row.Period || r.Key() != messages.NewRenewalKey(row.Subscription, row.Period) || seen[r] {
			t.Errorf("%s: is of %s/%s, key %s, seen before %t", r, s, p, r.Key(), seen[r])
		}
		seen[r] = true
		if a, err := messages.ParseRecordSubject(paid); err != nil || a.Renewal != r || strings.Count(paid, ".") != 5 || strings.ContainsAny(paid, " *>") {
			t.Errorf("%s: %+v, %v", paid, a, err)
		}
	}
}

func TestSubjectsOfOthers(t *testing.T) {
	t.Parallel()
	const key = "4a87da77-4bba-50c6-8cae-6972612639ac"
	for _, subject := range []string{
		"", "renewals", "renewals.due", "renewals.due.", "renewals.due.Shop", "renewals.due.a.b", "renewals.paid." + key,
		"renewals.paid." + key + ".a.b", "renewals.paid.*.a", "renewals.paid." + key + ".*", "renewals.payed." + key + ".a", "renewals.PAID." + key + ".a",
		"renewals.paid." + strings.ToUpper(key) + ".a", "renewals.paid.{" + key + "}.a", "renewals.paid." + strings.ReplaceAll(key, "-", "") + ".a",
		"dunning.paid." + key + ".a", "renewals..." + key + ".a",
		"renewals.paid.1.2026-12.0", "renewals.paid.1.2026-12.0.a.b", "renewals.paid.1.2026-12.*.a", "renewals.paid.1.2026-12.+1.a", "renewals.paid.1.2026-12.01.a", "renewals.paid..p.0.a",
		"renewals.paid.%2e.p.0.a", "renewals.paid.%zz.p.0.a", "renewals.paid.%41.p.0.a", "renewals.paid.%.p.0.a", "renewals.paid.1 2.p.0.a", "renewals.dead.1.2026-12.0.a", "renewals.paid.1.2026-12.0.A",
		"renewals.capture", "renewals.capture.", "renewals.capture.Shop", "renewals.capture.a.b", "renewals.captured.a", "renewals.capture." + key + ".a",
	} {
		if a, err := messages.ParseCaptureSubject(subject); err == nil || messages.IsCapture(subject) {
			t.Errorf("%q: got account %q, want an error and no capture", subject, a)
		}
		if a, err := messages.ParseDueSubject(subject); err == nil {
			t.Errorf("%q: got account %q, want an error", subject, a)
		}
		if a, err := messages.ParseRecordSubject(subject); err == nil {
			t.Errorf("%q: got %+v, want an error", subject, a)
		}
		if k, a, err := messages.ParseDeadSubject(subject); err == nil {
			t.Errorf("%q: got %q, %q, want an error", subject, k, a)
		}
	}
}
