package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// S70: user name or path changed while a claim is undecided. The key would be new
// there, and charge anew. The same merchant's next API key passes.
func TestKeyGoesToNoOtherMerchant(t *testing.T) {
	r := testRules()
	at := first()
	at.Endpoint, at.Merchant = "https://api.klarna.com", "K123456"
	claimed := Deliver(empty(), at, noon, r).State
	undecidedThere := after(t, claimed, undecided)
	unsentThere := after(t, claimed, Outcome{Unsent: true})
	byOldWorker := with(undecidedThere, func(c *Claim) { c.Host, c.Endpoint, c.Merchant = "api.klarna.com", "", "" })
	later := noon.Add(10 * time.Minute)

	for _, row := range []struct {
		name                     string
		state                    State
		host, endpoint, merchant string
		want                     Action
	}{
		{name: "another delivery at the same merchant", state: undecidedThere, host: "api.klarna.com", endpoint: "https://api.klarna.com", merchant: "K123456", want: Try},
		{name: "another merchant", state: undecidedThere, host: "api.klarna.com", endpoint: "https://api.klarna.com", merchant: "K654321", want: Nak},
		{name: "another path", state: undecidedThere, host: "api.klarna.com", endpoint: "https://api.klarna.com/eu", merchant: "K123456", want: Nak},
		{name: "another scheme", state: undecidedThere, host: "api.klarna.com", endpoint: "http://api.klarna.com", merchant: "K123456", want: Nak},
		{name: "another host", state: undecidedThere, host: "api.kustom.co", endpoint: "https://api.kustom.co", merchant: "K123456", want: Nak},
		{name: "nothing was sent under the key", state: unsentThere, host: "api.kustom.co", endpoint: "https://api.kustom.co", merchant: "K654321", want: Try},
		{name: "a claim that knows the host alone, same host", state: byOldWorker, host: "api.klarna.com", endpoint: "https://api.klarna.com", merchant: "K654321", want: Try},
		{name: "a claim that knows the host alone, another host", state: byOldWorker, host: "api.kustom.co", endpoint: "https://api.kustom.co", merchant: "K123456", want: Nak},
	} {
		q := at
		q.Nonce, q.Host, q.Endpoint, q.Merchant = "b", row.host, row.endpoint, row.merchant
		st := Deliver(row.state, q, later, r)
		if st.Then != row.want || st.Then == Nak && (st.Record != "" || st.Delay <= 0) {
			t.Errorf("%s: got %+v, want action %d", row.name, st, row.want)
		}
		if c := st.State.Claim; st.Then == Try && (c.Host != "" || c.Endpoint != row.endpoint || c.Merchant != row.merchant) {
			t.Errorf("%s: the claim is for %s %s", row.name, c.Endpoint, c.Merchant)
		}
	}
	q := at
	q.Nonce, q.Merchant = "b", "K654321"
	if st := Deliver(undecidedThere, q, noon.Add(r.KeyWindow), r); st.Record != messages.KindUnresolved {
		t.Errorf("the window closed while the merchant was another: got %+v, want it unresolved", st)
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
		job      Request
		conflict bool
	}{
		{name: "another moment", state: declined, job: moved, conflict: true},
		{name: "a moment that has not come", state: declined, job: early, conflict: true},
		{name: "a replay", state: reject(declined, second(), messages.ReasonExpired).State, job: replayed, conflict: true},
		{name: "corrected bytes", state: corrected, job: movedBytes, conflict: true},
		{name: "the same moment", state: declined, job: second()},
		{name: "the same moment in another zone", state: declined, job: func() Request { q := second(); q.DueAt = q.DueAt.In(time.FixedZone("", 3600)); return q }()},
		{name: "a state that does not know it", state: unknown, job: moved},
		{name: "a job that has its result already", state: declined, job: again},
		{name: "a claim that is open", state: charging(), job: again},
	} {
		st := Deliver(row.state, row.job, noon.Add(time.Hour/2), r)
		got := st.Then == FileApart && st.Reason == messages.ReasonConflict
		if got != row.conflict || got && !st.DueAt.Equal(declined.DueAt) {
			t.Errorf("%s: got %+v, want a conflict: %t", row.name, st, row.conflict)
		}
	}
}
