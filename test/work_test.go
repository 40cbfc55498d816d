package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// TestThousandJobsTwoWorkers is the main job: published from a file, charged by
// two processes, each period once (S6).
func TestThousandJobsTwoWorkers(t *testing.T) {
	t.Parallel()
	const jobs = 1000
	w := newWorld(t, klarnasim.Options{Latency: 5 * time.Millisecond})
	w.provision()
	var file bytes.Buffer
	for n := range jobs {
		file.Write(append(job(n, fmt.Sprintf("ok-%d", n)), '\n'))
	}
	path := filepath.Join(t.TempDir(), "jobs.jsonl")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(nil, "work")
	w.start(nil, "work")
	watching := w.start(nil, "watch", "--json")
	for range 2 { // the second time every job is a duplicate
		publishing := w.start(nil, "publish", path)
		<-publishing.done
		if publishing.err != nil {
			t.Fatalf("publish: %v\n%s", publishing.err, publishing.text())
		}
	}
	await(t, time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	by := map[any]int{}
	for _, r := range w.results() {
		by[r.Event["worker"]]++
	}
	if len(by) != 2 {
		t.Errorf("results by worker: %v, want both", by)
	}
	seen := map[string]bool{}
	for _, o := range w.klarna.Simulator.Books().Orders {
		if seen[o.IdempotencyKey] {
			t.Errorf("key %s has two orders", o.IdempotencyKey)
		}
		seen[o.IdempotencyKey] = true
	}
	await(t, 10*time.Second, "the results on watch", func() bool { return strings.Count(watching.text(), "\n") >= jobs })
}

// TestKeyIsWhatAnybodyCanCompute follows the contract with the standard tool or,
// where that is not installed, with a library that is not ours (S9).
func TestKeyIsWhatAnybodyCanCompute(t *testing.T) {
	t.Parallel()
	uuidgen, missing := exec.LookPath("uuidgen")
	sha1 := func(namespace, name string) string {
		if missing != nil {
			space, err := uuid.Parse(namespace)
			if err != nil {
				space = uuid.NameSpaceURL
			}
			return uuid.NewSHA1(space, []byte(name)).String()
		}
		out, err := exec.Command(uuidgen, "--sha1", "--namespace", namespace, "--name", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	w := newWorld(t, klarnasim.Options{KeepBodies: true})
	w.provision()
	payload := job(834, "ok-834")
	w.publish(payload)
	w.start(nil, "work")
	await(t, 20*time.Second, "the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	r := sha1("@url", "urn:renewals:renewal:1234834/2026-12")
	k := sha1(r, "1234834/2026-12/1")
	if got := w.klarna.Simulator.Books().Orders[0].IdempotencyKey; got != k || r != "4a87da77-4bba-50c6-8cae-6972612639ac" || k != "066fb987-94e8-5d9a-9b0b-0d279f430fd1" {
		t.Errorf("Klarna received key %s, anybody computes %s in %s", got, k, r)
	}
}

// TestOrderIsSentByteForByte: the order's bytes are frozen in the stream (S11).
func TestOrderIsSentByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{KeepBodies: true})
	w.provision()
	order := `{ "order_amount":1599 ,"purchase_currency" : "EUR",
	"order_tax_amount": 255, "auto_capture":true, "merchant_reference1":"gr\u00fc\u00df / \ud83d\ude00",
	"tomorrow": {"a field":[1.50e+1 , null], "caf\u00e9":""},
	"order_lines":[{"type":"digital","name":"Streaming \u0026 more","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,"total_tax_amount":255,
	"subscription":{"name":"Premium {{1234001}}","interval":"MONTH","interval_count":1}}]}`
	payload := []byte(`{"id":"1234001/2026-12/1","subscription_id":"1234001","period":"2026-12","due_at":"` + time.Now().UTC().Format(time.RFC3339) +
		`","customer_token":"ok-1","order": ` + order + `}`)
	w.publish(payload)
	w.start(nil, "work")
	await(t, 20*time.Second, "the order", func() bool { return len(w.klarna.Simulator.Books().Orders) == 1 })
	if got := string(w.klarna.Simulator.Books().Orders[0].Body); got != order {
		t.Errorf("Klarna received\n%s\nwant\n%s", got, order)
	}
}

// S29: whatever is wrong with a job, it is recorded with its reason,
// kept as it was, acknowledged, and Klarna hears nothing of it.
func TestBadJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{KeepBodies: true})
	w.provision()
	drop := func(field string) func(map[string]any) { return func(j map[string]any) { delete(j, field) } }
	order := func(field string, value any) func(map[string]any) {
		return func(j map[string]any) { j["order"].(map[string]any)[field] = value }
	}
	at := func(field string, d time.Duration) func(map[string]any) {
		return func(j map[string]any) { j[field] = time.Now().Add(d).UTC().Format(time.RFC3339) }
	}
	bad := []struct {
		name, reason, path string
		payload            []byte
	}{
		{name: "not JSON", reason: "invalid", path: "$", payload: []byte("charge me")},
		{name: "empty", reason: "invalid", path: "$"},
		{name: "no id", reason: "invalid", path: "id", payload: job(1, "ok-1", drop("id"))},
		{name: "no customer token", reason: "invalid", path: "customer_token", payload: job(2, "ok-2", drop("customer_token"))},
		{name: "a sum that is off", reason: "invalid", path: "order.order_amount", payload: job(3, "ok-3", order("order_amount", 1600))},
		{name: "no line name (KCO issue 139)", reason: "invalid", path: "order.order_lines[0].name", payload: job(4, "ok-4", func(j map[string]any) {
			j["order"].(map[string]any)["order_lines"].([]any)[0].(map[string]any)["name"] = ""
		})},
		{name: "due in two days", reason: "not_due", path: "due_at", payload: job(5, "ok-5", at("due_at", 48*time.Hour))},
		{name: "due last year", reason: "too_old", path: "due_at", payload: job(6, "ok-6", at("due_at", -365*24*time.Hour))},
		{name: "expired", reason: "expired", path: "expires_at", payload: job(7, "ok-7", at("expires_at", -time.Minute))},
	}
	want := map[string]int{}
	for i, b := range bad {
		w.publish(b.payload)
		sum := sha256.Sum256(b.payload)
		want[hex.EncodeToString(sum[:])] = i
	}
	w.start(nil, "work")
	await(t, 20*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })

	results := w.results()
	if len(results) != len(bad) {
		t.Fatalf("results: %d, want %d", len(results), len(bad))
	}
	dead, err := w.js.Stream(t.Context(), messages.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	for n := range dead.CachedInfo().State.LastSeq {
		m, err := dead.GetMsg(t.Context(), n+1)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(m.Data)
		i, ok := want[hex.EncodeToString(sum[:])]
		if !ok {
			t.Errorf("dead letter %d is none of the jobs as they were published", n+1)
			continue
		}
		delete(want, hex.EncodeToString(sum[:]))
		letter, err := messages.ParseDeadLetter(m.Header)
		if err != nil {
			t.Fatalf("%s: %v", bad[i].name, err)
		}
		if string(letter.Reason) != bad[i].reason || len(letter.Errors) == 0 || letter.Errors[0].Path != bad[i].path {
			t.Errorf("%s: %s %v, want %s at %s", bad[i].name, letter.Reason, letter.Errors, bad[i].reason, bad[i].path)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d jobs have no dead letter", len(want))
	}
	if n := w.klarna.Simulator.Books().Requests; n != 0 {
		t.Errorf("requests to Klarna: %d, want 0", n)
	}
}

// S1, S2, S12: what Klarna's guide and its bad days bring, each with its one result.
func TestBadDaysOfKlarna(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{KeepBodies: true})
	w.provision()
	variants := []struct {
		token, kind, reason string
		orders              int
	}{
		{token: "ok-0", kind: "paid", orders: 1},
		{token: "soft-decline-1", kind: "dunning", reason: "payment_method_failed"},
		{token: "cancelled-2", kind: "dunning", reason: "token_cancelled"},
		{token: "503x2-3", kind: "paid", orders: 1},
		{token: "created-500-4", kind: "paid", orders: 1}, // S2
		{token: "created-cut-5", kind: "paid", orders: 1}, // S1
		{token: "rejected-6", kind: "dunning", reason: "fraud_rejected", orders: 1},
		{token: "pending-accept-7", kind: "paid", orders: 1}, // S12
	}
	for n, v := range variants {
		w.publish(job(n, v.token))
	}
	w.start(nil, "work")
	await(t, 40*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	got := map[string]record{}
	for _, r := range w.results() {
		id := r.Event["id"].(string)
		if _, twice := got[id]; twice {
			t.Errorf("job %s has two results", id)
		}
		got[id] = r
	}
	orders := map[string]int{}
	for _, o := range w.klarna.Simulator.Books().Orders {
		orders[o.IdempotencyKey]++
	}
	for n, v := range variants {
		payload := job(n, v.token)
		_, k := keys(payload)
		r := got[string(messages.Read(payload, nil).Job.ID)]
		reason, _ := r.Event["reason"].(string)
		if r.Kind != v.kind || reason != v.reason {
			t.Errorf("%s: %s %s, want %s %s", v.token, r.Kind, reason, v.kind, v.reason)
		}
		if orders[string(k)] != v.orders {
			t.Errorf("%s: %d orders, want %d", v.token, orders[string(k)], v.orders)
		}
	}
}

// TestNoSecretLeavesTheWorker looks for the customer token and the API key in
// everything that the worker writes: its log, its records, its states.
func TestNoSecretLeavesTheWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{KeepBodies: true})
	w.provision()
	const secret = "0b1d9815-165e-42e2-8867-35bc03789e00"
	tokens := []string{"ok-", "soft-decline-", "401-", "created-cut-", "broken-200-", "403-bare-", "429-", "503x2-"}
	for n, prefix := range tokens {
		w.publish(job(n, prefix+secret))
	}
	w.publish(job(90, "not a token "+secret))
	w.publish([]byte(`{"customer_token":"` + secret + `", broken`))
	p := w.start([]string{"RENEWALS_LOG_LEVEL=debug"}, "work")
	await(t, 30*time.Second, "six jobs to leave the stream", func() bool { return w.left() <= uint64(len(tokens)-4) })
	p.kill()
	for _, s := range []string{secret, "secret-password"} {
		if strings.Contains(p.text(), s) {
			t.Errorf("the log holds %s:\n%s", s, p.text())
		}
		for _, r := range w.records() {
			body, _ := json.Marshal(r.Event)
			if bytes.Contains(body, []byte(s)) || strings.Contains(r.State, s) {
				t.Errorf("record %s holds %s", r.Subject, s)
			}
		}
	}
}
