package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// hostile are names that a subject would take for something else: for two tokens, for a wildcard, for another renewal's.
var hostile = []string{
	"acme.4711", "acme%2E4711", "acme%2e4711", ".", "..", ".a", "a/b", "/", "*", ">", "a.*.>", "a b", "%", "%25", "100 %", "müller", "mu\u0308ller", "2026-12",
	"renewals.paid.>", "$JS.API", "-1", "~_-", strings.Repeat("😀", 16),
}

// readable is one renewal by the names that upstream gave it.
type readable struct{ subscription, period string }

// job is for the renewal; its subscription is a daily one, and its periods fell due two days apart.
func (r readable) job(n, attempt int, due time.Time) []byte {
	return job(n, "ok-"+strconv.Itoa(n), func(j map[string]any) {
		j["id"], j["attempt"] = fmt.Sprintf("%s/%s/%d", r.subscription, r.period, attempt), attempt
		j["subscription_id"], j["period"], j["due_at"] = r.subscription, r.period, due.UTC().Format(time.RFC3339)
		order := j["order"].(map[string]any)
		order["merchant_reference1"] = r.subscription + "-" + r.period
		order["order_lines"].([]any)[0].(map[string]any)["subscription"] = map[string]any{"name": "Daily {{" + r.subscription + "}}", "interval": "DAY", "interval_count": 1}
	})
}

// says runs a command to its end and returns what it printed, without what it said beside.
func (w *world) says(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	var beside bytes.Buffer
	cmd.Env, cmd.Stderr = w.env(), &beside
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("renewals %q: %v\n%s", args, err, beside.String())
	}
	return string(out)
}

// Whatever upstream calls its subscriptions and periods: each renewal is charged once and refused a second time, has subjects that
// no other has, and is found again by its names, by its subscription and in a consumer of its subscription alone.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	// Records are counted, and a busy machine's Klarna may take longer than this world waits elsewhere.
	if err := worker.Provision(t.Context(), w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	p := w.start([]string{"RENEWALS_TRY_TIMEOUT=15s"}, "work")
	base, n := time.Now().Add(-time.Hour), 0
	periods := []string{"2026-12", "acme.4711", "%2E", "> *", "December / 2026", "1.12.–31.12.", strings.Repeat("🗓", 16)}
	all := map[readable]int{}
	publish := func(attempt int) {
		t.Helper()
		for _, subscription := range hostile {
			for i, period := range periods {
				r := readable{subscription, period}
				if attempt == 1 {
					all[r], n = n, n+1
				}
				w.publish(r.job(all[r], attempt, base.AddDate(0, 0, -2*i)))
			}
		}
		await(t, 2*time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	}
	publish(1)
	w.settledOnce(len(all))
	publish(2)
	if orders := len(w.klarna.Simulator.Books().Orders); orders != len(all) {
		t.Errorf("orders at Klarna after a second job for each: %d, want %d", orders, len(all))
	}
	for i, subscription := range hostile { // early ones are parked under the same names
		w.publish(readable{subscription, "early " + subscription[:min(len(subscription), 40)]}.job(1000+i, 1, time.Now().Add(20*time.Hour)))
	}
	await(t, time.Minute, "the early jobs to be parked", func() bool { return w.left() == 0 && w.leftIn(messages.StreamLater) == uint64(len(hostile)) })
	p.kill()

	of := w.toldApart(all)
	for _, subscription := range hostile {
		w.consumes(subscription, of[subscription])
		w.lists(subscription, periods)
	}
}

// toldApart compares the journal with the renewals, and returns the subjects of each subscription's records.
func (w *world) toldApart(all map[readable]int) (of map[string][]string) {
	w.t.Helper()
	told, owner := map[readable][]string{}, map[string]readable{}
	of = map[string][]string{}
	for _, r := range w.records() {
		named := readable{r.Event["subscription_id"].(string), r.Event["period"].(string)}
		told[named] = append(told[named], r.Kind)
		of[named.subscription] = append(of[named.subscription], r.Subject)
		if before, taken := owner[r.Subject]; taken && before != named {
			w.t.Errorf("%s is about %q and %q", r.Subject, before, named)
		}
		owner[r.Subject] = named
		a, err := messages.ParseRecordSubject(r.Subject)
		if err != nil {
			w.t.Errorf("%q: %v", named, err)
			continue
		}
		if subscription, period := a.Renewal.Split(); string(subscription) != named.subscription || string(period) != named.period {
			w.t.Errorf("%s says %q, %q, want %q", r.Subject, subscription, period, named)
		}
		if reason := r.Event["reason"]; r.Kind == "rejected" && reason != "already_paid" {
			w.t.Errorf("%q: rejected as %v, want already_paid", named, reason)
		}
	}
	for r := range all {
		if got := strings.Join(told[r], " "); got != "charging paid rejected" {
			w.t.Errorf("%q: records %s, want it charged once and refused once", r, got)
		}
	}
	if len(told) != len(all) {
		w.t.Errorf("renewals with records: %d, want %d", len(told), len(all))
	}
	return of
}

// consumes follows one subscription as a consumer of results does.
func (w *world) consumes(subscription string, want []string) {
	w.t.Helper()
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{messages.SubscriptionFilter(messages.SubscriptionID(subscription))}}
	var got []string
	err := desk.Scan(w.t.Context(), w.js, messages.StreamJournal, config, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		got = append(got, m.Subject())
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		w.t.Errorf("%s: a consumer gets %q (%v), want %q", config.FilterSubjects[0], got, err, want)
	}
}

// lists asks show for a subscription, and for each of its periods by name.
func (w *world) lists(subscription string, periods []string) {
	w.t.Helper()
	var got, parked []string
	for line := range strings.Lines(w.says("show", "--json", "--", subscription)) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			w.t.Fatalf("show %s: %v in %s", subscription, err, line)
		}
		switch {
		case one["subscription_id"] != subscription:
			w.t.Errorf("show %s lists %s", subscription, line)
		case one["parked_until"] != nil:
			parked = append(parked, one["period"].(string))
		case one["phase"] != "paid" || one["records"] != 3.0:
			w.t.Errorf("show %s: %s, want it paid, with 3 records", subscription, line)
		default:
			got = append(got, one["period"].(string))
		}
	}
	if !slices.Equal(got, periods) || len(parked) != 1 || !strings.HasPrefix(parked[0], "early ") { // the newest first, as they were made
		w.t.Errorf("show %s: periods %q, parked %q, want %q and an early one", subscription, got, parked, periods)
	}
	// Two renewals may go by one text, "a/b" and "c", "a" and "b/c": both are shown then.
	period := periods[len(subscription)%len(periods)]
	kinds := map[string]int{}
	for line := range strings.Lines(w.says("show", "--json", "--", subscription+"/"+period)) {
		var one struct {
			Kind, Period string
			Subscription string `json:"subscription_id"`
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			w.t.Fatal(err)
		}
		if one.Subscription == subscription && one.Period == period {
			kinds[one.Kind]++
		}
	}
	if want := map[string]int{"charging": 1, "paid": 1, "rejected": 1}; !maps.Equal(kinds, want) {
		w.t.Errorf("show %s/%s: %v, want %v", subscription, period, kinds, want)
	}
}
