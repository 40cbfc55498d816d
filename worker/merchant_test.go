package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// S70: user name or path changed while a claim is undecided. The key would be new
// there, and charge anew. The same merchant's next API key passes.
func TestKeyGoesToNoOtherMerchant(t *testing.T) {
	r := testRules()
	at := first()
	at.Endpoint, at.Merchant = "https://api.klarna.com", "K123456"
	claimed := deliver(empty(), at, noon, r).State
	undecidedThere := after(t, claimed, undecided)
	unsentThere := after(t, claimed, outcome{Unsent: true})
	byOldWorker := with(undecidedThere, func(c *Claim) { c.Endpoint, c.Merchant = "", "" })
	later := noon.Add(10 * time.Minute)

	for _, row := range []struct {
		name                     string
		state                    State
		host, endpoint, merchant string
		want                     action
	}{
		{"another delivery at the same merchant", undecidedThere, "api.klarna.com", "https://api.klarna.com", "K123456", actCharge},
		{"another merchant", undecidedThere, "api.klarna.com", "https://api.klarna.com", "K654321", actNak},
		{"another path", undecidedThere, "api.klarna.com", "https://api.klarna.com/eu", "K123456", actNak},
		{"another scheme", undecidedThere, "api.klarna.com", "http://api.klarna.com", "K123456", actNak},
		{"another host", undecidedThere, "api.kustom.co", "https://api.kustom.co", "K123456", actNak},
		{"nothing was sent under the key", unsentThere, "api.kustom.co", "https://api.kustom.co", "K654321", actCharge},
		{"a claim that knows the host alone, same host", byOldWorker, "api.klarna.com", "https://api.klarna.com", "K654321", actCharge},
		{"a claim that knows the host alone, another host", byOldWorker, "api.kustom.co", "https://api.kustom.co", "K123456", actNak},
	} {
		q := at
		q.Nonce, q.Host, q.Endpoint, q.Merchant = "b", row.host, row.endpoint, row.merchant
		st := deliver(row.state, q, later, r)
		if st.Then != row.want || st.Then == actNak && (st.Record != "" || st.Delay <= 0) {
			t.Errorf("%s: got %+v, want action %d", row.name, st, row.want)
		}
		if c := st.State.Claim; st.Then == actCharge && (c.Host != row.host || c.Endpoint != row.endpoint || c.Merchant != row.merchant) {
			t.Errorf("%s: the claim is for %s %s", row.name, c.Endpoint, c.Merchant)
		}
	}
	q := at
	q.Nonce, q.Merchant = "b", "K654321"
	if st := deliver(undecidedThere, q, noon.Add(r.keyWindow), r); st.Record != messages.KindUnresolved {
		t.Errorf("the window closed while the merchant was another: got %+v, want it unresolved", st)
	}
}

// S70, with a worker: what is claimed names endpoint and merchant, never the rest
// of the user name.
func TestClaimNamesEndpointAndMerchant(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.publish(w.due("s70", "token", 1))
	w.awaitEmpty()
	w.expect(1, "paid")
	records := w.records()
	c := records[len(records)-1].State.Claim
	if u := w.klarna.URL; !strings.HasPrefix(u, c.Endpoint) || c.Endpoint == "" || c.Merchant != klarna.Merchant("merchant") {
		t.Errorf("got endpoint %q and merchant %q, with Klarna at %s", c.Endpoint, c.Merchant, u)
	}
}

// A later attempt that states another due moment is a conflict that says so: how
// long the journal knows the period is counted from it. Replays and corrected bytes are no exception.
func TestDueAtStaysTheSame(t *testing.T) {
	r := testRules()
	declined := after(t, charging(), refused)
	moved := second()
	moved.DueAt = first().DueAt.Add(-time.Minute)
	replayed := moved
	replayed.Replay = 7
	early := second()
	early.DueAt = noon.Add(time.Hour)
	invalid := second()
	invalid.Verdict = messages.ReasonInvalid
	corrected := reject(declined, invalid, messages.ReasonInvalid).State
	movedBytes := moved
	movedBytes.Payload = []byte("corrected payload 2")
	unknown := declined
	unknown.DueAt = time.Time{}
	again := first()
	again.DueAt = moved.DueAt

	for _, row := range []struct {
		name     string
		state    State
		job      request
		conflict bool
	}{
		{"another moment", declined, moved, true},
		{"a moment that has not come", declined, early, true},
		{"a replay", reject(declined, second(), messages.ReasonExpired).State, replayed, true},
		{"corrected bytes", corrected, movedBytes, true},
		{"the same moment", declined, second(), false},
		{"the same moment in another zone", declined, func() request { q := second(); q.DueAt = q.DueAt.In(time.FixedZone("", 3600)); return q }(), false},
		{"a state that does not know it", unknown, moved, false},
		{"a job that has its result already", declined, again, false},
		{"a claim that is open", charging(), again, false},
	} {
		st := deliver(row.state, row.job, noon.Add(time.Hour/2), r)
		got := st.Then == actStandIn && st.Reason == messages.ReasonConflict
		if got != row.conflict || got && !st.DueAt.Equal(declined.DueAt) {
			t.Errorf("%s: got %+v, want a conflict: %t", row.name, st, row.conflict)
		}
	}
}

// Settings that undo the promise are refused, but for a Klarna on this machine.
func TestSettingsThatUndoThePromise(t *testing.T) {
	live := Account{Name: "live", Endpoint: "https://api.klarna.com"}
	local := Account{Name: "local", Endpoint: "http://127.0.0.1:8089"}
	for _, row := range []struct {
		name     string
		accounts []Account
		change   func(*Options)
		want     []string // in the error; none: no error
	}{
		{"defaults", []Account{live}, func(*Options) {}, nil},
		{"on the edge", []Account{live}, func(o *Options) { o.TryTimeout, o.SettleDelay = 20*time.Second, 40*time.Second }, nil},
		{"a try and its delay end too soon", []Account{live}, func(o *Options) { o.TryTimeout, o.SettleDelay = 20*time.Second, 39*time.Second }, []string{"try timeout", "settle delay", "20s", "39s", "1m0s", "live"}},
		{"one account of two", []Account{local, live}, func(o *Options) { o.SettleDelay, o.TryTimeout = 0, time.Second }, []string{"settle delay", "live"}},
		{"a window that Klarna may have forgotten", []Account{live}, func(o *Options) { o.KeyWindow = 23*time.Hour + time.Second }, []string{"key window", "23h0m1s", "23h0m0s", "live"}},
		{"no endpoint told", []Account{{Name: "untold"}}, func(o *Options) { o.SettleDelay, o.TryTimeout = 0, time.Second }, []string{"settle delay", "untold"}},
		{"on this machine", []Account{local}, func(o *Options) {
			o.SettleDelay, o.TryTimeout, o.KeyWindow = 0, time.Second, 23*time.Hour+time.Second
		}, nil},
	} {
		o := DefaultOptions()
		o.Name, o.Accounts = "w", row.accounts
		row.change(&o)
		_, err := New(nil, o)
		if (err == nil) != (row.want == nil) {
			t.Errorf("%s: got %v", row.name, err)
			continue
		}
		for _, word := range row.want {
			if !strings.Contains(fmt.Sprint(err), word) {
				t.Errorf("%s: %q is not in %q", row.name, word, err)
			}
		}
	}
}

// S3: a lease outlasts no key: the window would close while a request is under way.
func TestKeyWindowBelowTheLease(t *testing.T) {
	o := DefaultOptions()
	o.KeyWindow = 2*time.Minute - time.Second
	for endpoint, refused := range map[string]bool{"https://api.klarna.com": true, "http://[::1]:8089": false} {
		a := &account{Account: Account{Name: "default", Endpoint: endpoint}, Worker: &Worker{js: consumerOnly{}, opts: o}}
		_, err := a.bind(t.Context())
		off, ok := errors.AsType[*Deviation](err)
		if ok != refused || err != nil != refused || refused && (off.Setting != "ack_wait" || !strings.Contains(err.Error(), "1m59s")) {
			t.Errorf("%s: got %v, want it refused: %t", endpoint, err, refused)
		}
	}
}
