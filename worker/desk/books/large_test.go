package books

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// large are the records of a month of renewals, one by one: a tenth of the first attempts is refused, and most of these are paid later.
func large(renewals int, each func(Record)) {
	dice := rand.New(rand.NewPCG(1, 2))
	sequence := uint64(0)
	for n := range renewals {
		id := messages.SubscriptionID(fmt.Sprintf("sub-%07d", n*7919%renewals))
		renewal := messages.NewRenewal(id, "2026-12")
		at := noon.Add(time.Duration(n) * (30 * 24 * time.Hour / time.Duration(renewals)))
		phase := ""
		for attempt := int64(1); phase == "" || phase == "dunning" && attempt < 4; attempt++ {
			message := messages.MessageID(fmt.Sprintf("%s/2026-12/%d", id, attempt))
			about := messages.Record{
				ID: message, Account: "default", SubscriptionID: id, Period: "2026-12", Attempt: attempt, RenewalKey: renewal.Key(), IdempotencyKey: messages.NewIdempotencyKey(renewal.Key(), message),
				OrderAmount: 999 + 100*dice.Int64N(20), PurchaseCurrency: [...]string{"EUR", "EUR", "SEK"}[n%3], MerchantReference1: string(id) + "-2026-12", MerchantReference2: string(message), Tries: 1,
				Deliveries: 1, Worker: "renewals-7f9c-0", At: at.Add(time.Duration(attempt-1) * 72 * time.Hour), TokenFingerprint: fmt.Sprintf("%012x", n), Metadata: map[string]string{"plan": "premium"},
			}
			events := []messages.Event{messages.Charging{Record: about, FirstSentAt: about.At}}
			if dice.IntN(10) == 0 || attempt > 1 && dice.IntN(3) == 0 {
				why := [...]struct{ reason, category string }{{"payment_method_failed", "soft_decline"}, {"payment_method_failed", "soft_decline"}, {"payment_method_failed", "soft_decline"}, {"unavailable_payment_method", "customer_action"}, {"token_suspended", "customer_action"}, {"token_cancelled", "token_dead"}, {"fraud_rejected", "customer_action"}, {"bad_value", "merchant_error"}}[dice.IntN(8)]
				final := why.category == "token_dead" || why.category == "merchant_error"
				events = append(events, messages.Dunning{Record: about, Reason: messages.Reason(why.reason), Category: messages.Category(why.category), FixBy: "customer", Retryable: true, Final: final, HTTPStatus: 403, CorrelationID: fmt.Sprintf("%08x-%04x", dice.Uint32(), attempt), ErrorMessages: []string{"Payment method failed"}})
				if phase = "dunning"; final {
					attempt = 4
				}
			} else {
				phase = "paid"
				order := fmt.Sprintf("%08x-1b5d-6b3f-9a6e-%012x", dice.Uint32(), n)
				events = append(events, messages.Paid{Record: about, OrderID: order, FraudStatus: "ACCEPTED", Captured: true, CorrelationID: fmt.Sprintf("%08x-%04x", dice.Uint32(), attempt), AuthorizedPaymentMethod: messages.PaymentMethod{Type: "invoice"}})
			}
			for _, e := range events {
				sequence++
				body, _ := messages.Encode(e)
				address := messages.RecordAddress{Kind: e.Kind(), Renewal: renewal, Due: noon.Unix(), Account: "default"}
				each(Record{
					Sequence: sequence, Stored: about.At, Subject: address.Subject(), EventID: fmt.Sprintf("%036d", sequence), Body: body,
					// As long as a worker's.
					State: fmt.Sprintf(`{"v":1,"phase":%q,"claim":{"key":%q,"nonce":"2b1c6a8e-7c55-4f0e-9a0b-8f6f6f0f1a2b","worker":"renewals-7f9c-0","endpoint":"https://api.klarna.com","merchant":"K123456","lease_until":"2026-12-01T00:02:00Z","first_sent_at":"2026-12-01T00:00:01Z","tries":1,"deliveries":1},"settled":{%q:{"kind":"paid","sha256":"d2a84f4b8b650937ec8f73cd8be2c74add5a911ba64df27458ed8229da804a26"}},"due_at":"2026-12-01T12:00:00Z","cadence":"MONTH/1","rev":%d,"first_attempt_at":"2026-12-01T00:00:01Z","attempts":%d}`,
						e.Kind(), about.IdempotencyKey, about.IdempotencyKey, 2*attempt, attempt),
				})
			}
		}
	}
}

// BenchmarkSync reads a journal of some two million records from a broker in the same process, and asks the books. BOOKS_RENEWALS is how
// many renewals it has; BOOKS_KEEP is where the books are left.
func BenchmarkSync(b *testing.B) {
	renewals := 1_000_000
	if text := os.Getenv("BOOKS_RENEWALS"); text != "" {
		if _, err := fmt.Sscan(text, &renewals); err != nil {
			b.Fatal(err)
		}
	}
	js := broker.JetStream(b)
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: messages.StreamJournal, Subjects: []string{"renewals.>"}}); err != nil {
		b.Fatal(err)
	}
	part := []Record{}
	large(renewals, func(r Record) {
		if part = append(part, r); len(part) == 2000 {
			store(b, js, part)
			part = part[:0]
		}
	})
	store(b, js, part)
	path := os.Getenv("BOOKS_KEEP")
	if path == "" {
		path = filepath.Join(b.TempDir(), "books.db")
	}
	for b.Loop() {
		w, err := Create(path, "the benchmark")
		if err != nil {
			b.Fatal(err)
		}
		began, before := time.Now(), processorTime()
		sum, err := Syncer{JetStream: js, Writer: w}.Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(sum.Added)/time.Since(began).Seconds(), "records/s")
		b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(sum.Added), "µs-processor/record")
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	timed(b, path)
}

// processorTime is what this process has used, the broker included.
func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// timed reports how long find takes at most, each kind of question with others words a few times.
func timed(b *testing.B, path string) {
	books, err := Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer books.Close()
	var texts []string
	for _, row := range all(b, books, "SELECT * FROM records WHERE kind = 'paid' AND sequence % 99991 < 40 LIMIT 200") {
		for _, name := range []string{"order_id", "message_id", "merchant_reference1", "merchant_reference2", "correlation_id", "idempotency_key", "token_fingerprint"} {
			text := row[name].(string)
			texts = append(texts, text, text[:len(text)*2/3])
		}
		texts = append(texts, decimal(fmt.Sprint(row["amount"]), row["purchase_currency"].(string))+" "+row["purchase_currency"].(string)+" "+row["at"].(string)[:10])
	}
	took := make([]time.Duration, len(texts))
	for i, text := range texts {
		began := time.Now()
		hits, _, err := books.Find(b.Context(), text, 20)
		if took[i] = time.Since(began); err != nil || len(hits) == 0 {
			b.Fatalf("%q: %d hits, %v", text, len(hits), err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/find-longest")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms/find-p99")
}
