package journal

import (
	"cmp"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// The state of a renewal as records of every version have it. Never change one: what is written stays written.
var forms = []struct {
	name string
	old  string // as it was written before zero fields, the usual policy and what follows from other fields were left out
	// between is as it was written before the lease of a charge that is paid was left out, where that is the case.
	between, now string
}{
	{
		name: "claimed",
		old: `{"v":1,"phase":"charging","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b",` +
			`"nonce":"8bf3664e-0572-4580-bf24-0aa2918bda2f","worker":"worker-1","endpoint":"https://api.klarna.com","merchant":"K123456","lease_until":"2026-12-01T00:02:33.932636438Z",` +
			`"first_sent_at":"2026-12-01T00:00:33.932636438Z","released":false,"tries":0,"deliveries":1,"undecided_tries":0,"answered_2xx":false,"panics":0},"due_at":"2026-12-01T00:00:00Z",` +
			`"cadence":"MONTH/1","rev":1,"first_attempt_at":"2026-12-01T00:00:33.932636438Z","last_attempt_at":"2026-12-01T00:00:33.932636438Z","attempts":1}`,
		now: `{"v":1,"phase":"charging","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b",` +
			`"nonce":"8bf3664e-0572-4580-bf24-0aa2918bda2f","worker":"worker-1","endpoint":"https://api.klarna.com","merchant":"K123456","lease_until":"2026-12-01T00:02:33.932636438Z",` +
			`"first_sent_at":"2026-12-01T00:00:33.932636438Z","deliveries":1},"due_at":"2026-12-01T00:00:00Z","cadence":"MONTH/1","rev":1,"first_attempt_at":"2026-12-01T00:00:33.932636438Z","attempts":1}`,
	},
	{
		name: "paid",
		old: `{"v":1,"phase":"paid","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b",` +
			`"nonce":"8bf3664e-0572-4580-bf24-0aa2918bda2f","worker":"worker-1","endpoint":"https://api.klarna.com","merchant":"K123456","lease_until":"2026-12-01T00:00:33.934694184Z",` +
			`"first_sent_at":"2026-12-01T00:00:33.932636438Z","released":true,"tries":1,"deliveries":1,"undecided_tries":0,"answered_2xx":false,"panics":0,"order_id":"96beba58-9495-453e-a000-000000000000"},` +
			`"settled":{"066fb987-94e8-5d9a-9b0b-0d279f430fd1":{"kind":"paid","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b"}},"due_at":"2026-12-01T00:00:00Z",` +
			`"cadence":"MONTH/1","rev":2,"claimed_seq":1,"first_attempt_at":"2026-12-01T00:00:33.932636438Z","last_attempt_at":"2026-12-01T00:00:33.932636438Z","attempts":1}`,
		between: `{"v":1,"phase":"paid","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","nonce":"8bf3664e-0572-4580-bf24-0aa2918bda2f","worker":"worker-1","endpoint":"https://api.klarna.com",` +
			`"merchant":"K123456","lease_until":"2026-12-01T00:00:33.934694184Z","first_sent_at":"2026-12-01T00:00:33.932636438Z","released":true,"tries":1,"deliveries":1,` +
			`"order_id":"96beba58-9495-453e-a000-000000000000"},"settled":{"066fb987-94e8-5d9a-9b0b-0d279f430fd1":{"kind":"paid","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b"}},` +
			`"due_at":"2026-12-01T00:00:00Z","cadence":"MONTH/1","rev":2,"claimed_seq":1,"first_attempt_at":"2026-12-01T00:00:33.932636438Z","attempts":1}`,
		now: `{"v":1,"phase":"paid","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1","order_id":"96beba58-9495-453e-a000-000000000000"},` +
			`"settled":{"066fb987-94e8-5d9a-9b0b-0d279f430fd1":{"kind":"paid","sha256":"90da9c0073015cba75a168c728ceb0c691f7025b717e85253255637eaa56734b"}},` +
			`"due_at":"2026-12-01T00:00:00Z","cadence":"MONTH/1","rev":2,"claimed_seq":1,"attempts":1}`,
	},
	{
		name: "refused twice, by a policy of the account's own, by a worker that wrote the host",
		old: `{"v":1,"phase":"dunning","claim":{"key":"b5b5b6a0-7a1c-5c8e-9d5e-0c1d2e3f4a5b","sha256":"aa","nonce":"n","worker":"worker-1","host":"api.klarna.com","endpoint":"https://api.klarna.com","merchant":"K123456",` +
			`"lease_until":"2026-12-02T00:00:34Z","first_sent_at":"2026-12-02T00:00:33Z","released":true,"tries":3,"deliveries":2,"undecided_tries":1,"answered_2xx":true,"panics":0},` +
			`"settled":{"b5b5b6a0-7a1c-5c8e-9d5e-0c1d2e3f4a5b":{"kind":"dunning","sha256":"aa"}},"due_at":"2026-12-01T00:00:00Z","first_attempt_at":"2026-12-01T00:00:33Z","last_attempt_at":"2026-12-02T00:00:33Z",` +
			`"attempts":2,"policy":{"soft_decline":{"days":[9],"max_attempts":2},"customer_action":{"days":null,"max_attempts":1}}}`,
		now: `{"v":1,"phase":"dunning","claim":{"key":"b5b5b6a0-7a1c-5c8e-9d5e-0c1d2e3f4a5b","sha256":"aa","nonce":"n","worker":"worker-1","host":"api.klarna.com","endpoint":"https://api.klarna.com","merchant":"K123456",` +
			`"lease_until":"2026-12-02T00:00:34Z","first_sent_at":"2026-12-02T00:00:33Z","released":true,"tries":3,"deliveries":2,"undecided_tries":1,"answered_2xx":true},` +
			`"settled":{"b5b5b6a0-7a1c-5c8e-9d5e-0c1d2e3f4a5b":{"kind":"dunning","sha256":"aa"}},"due_at":"2026-12-01T00:00:00Z","first_attempt_at":"2026-12-01T00:00:33Z","last_attempt_at":"2026-12-02T00:00:33Z",` +
			`"attempts":2,"policy":{"soft_decline":{"days":[9],"max_attempts":2},"customer_action":{"days":null,"max_attempts":1}}}`,
	},
	{
		name: "paid, by an operator's word", // the claim's hash is written: programs of earlier versions settle by it
		old: `{"v":1,"phase":"paid","claim":{"key":"k","sha256":"aa","nonce":"","worker":"","host":"","lease_until":"2026-12-02T00:00:34Z","released":true,"tries":0,"deliveries":0,"undecided_tries":0,` +
			`"answered_2xx":false,"panics":0,"order_id":"o"},"settled":{"k":{"kind":"paid","sha256":"aa","by_hand":true}},"attempts":1}`,
		now: `{"v":1,"phase":"paid","claim":{"key":"k","sha256":"aa","lease_until":"2026-12-02T00:00:34Z","released":true,"order_id":"o"},"settled":{"k":{"kind":"paid","sha256":"aa","by_hand":true}},"attempts":1}`,
	},
	{
		name: "the usual policy, written", // as every claim had it
		old:  `{"v":1,"phase":"none","first_attempt_at":"2026-12-01T00:00:33Z","attempts":1,"policy":{"soft_decline":{"days":[1,3,5,7],"max_attempts":5},"customer_action":{"days":[3,7],"max_attempts":3}}}`,
		now:  `{"v":1,"phase":"none","first_attempt_at":"2026-12-01T00:00:33Z","attempts":1,"policy":{"soft_decline":{"days":[1,3,5,7],"max_attempts":5},"customer_action":{"days":[3,7],"max_attempts":3}}}`,
	},
}

// A state reads the same in the form of today and in that of earlier versions, and is written in that of today.
func TestFormsOfState(t *testing.T) {
	t.Parallel()
	for _, form := range forms {
		now, err := ParseState(form.now)
		if err != nil {
			t.Errorf("%s: %v", form.name, err)
			continue
		}
		for _, text := range []string{form.old, cmp.Or(form.between, form.old)} {
			old, err := ParseState(text)
			if err != nil || !reflect.DeepEqual(*reread(old), now) {
				t.Errorf("%s: %v\nreads as %+v\nwant     %+v", form.name, err, old, now)
			}
			if got, err := old.Encode(); err != nil || got != form.now {
				t.Errorf("%s: %v\ngot  %s\nwant %s", form.name, err, got, form.now)
			}
		}
	}
}

// reread is a state as whoever reads its record has it. The model's worlds read by it: what is left out, the machine does not ask for.
func reread(s State) *State {
	read := s.spare().spelledOut()
	return &read
}

// Nothing that is left out is lost, whatever the fields hold, but what nobody asks of a charge that is paid.
func TestSpareStateIsWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		fill(t, reflect.ValueOf(&s).Elem())
		s.Phase = rapid.SampledFrom([]Phase{PhasePaid, PhaseDunning, PhaseCaptured}).Draw(t, "phase")
		if rapid.Bool().Draw(t, "first") {
			s.LastAttemptAt = s.FirstAttemptAt
		}
		paid := false
		if s.Claim != nil && rapid.Bool().Draw(t, "settled") {
			e := Settlement{Kind: messages.KindPaid, SHA256: rapid.SampledFrom([]string{s.Claim.SHA256, "another"}).Draw(t, "hash"), ByHand: rapid.Bool().Draw(t, "by hand")}
			s = s.Settle(s.Claim.Key, e)
			paid = s.Phase == PhasePaid && !e.ByHand && e.SHA256 == s.Claim.SHA256
		}
		want := s.spelledOut() // as it is read
		if paid {
			c := *want.Claim
			c.Nonce, c.Worker, c.Host, c.Endpoint, c.Merchant = "", "", "", "", ""
			c.LeaseUntil, c.FirstSentAt, c.Released, c.Tries, c.Deliveries = time.Time{}, time.Time{}, true, 0, 0
			want.Claim, want.FirstAttemptAt, want.LastAttemptAt = &c, time.Time{}, time.Time{}
		}
		if got := s.spare().spelledOut(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}
