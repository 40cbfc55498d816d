package journal

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// A refusal heard under a claim that the journal does not know any more is no
// result: the job comes again, its key has none.
func TestFencedWithoutResultComesAgain(t *testing.T) {
	h := HeldClaim{Claim: *charging().Claim, SetsClock: true}
	for name, s := range map[string]State{"set back": empty(), "another key's": after(t, Deliver(empty(), second(), noon, testRules()).State, refused)} {
		if st := Conclude(s, h, refused, noon.Add(time.Second), testRules()); st.Then != Nak || st.Record != "" {
			t.Errorf("%s: got %+v, want the job again", name, st)
		}
	}
}

// What panics were counted meanwhile, beside a claim or on it, as earlier versions did, is kept by its holder's record: else
// poison never ends.
func TestHolderKeepsOthersPanics(t *testing.T) {
	mine := charging()
	counted := with(mine, func(c *Claim) { c.Panics = 3 }).panicked(K1)
	st := Conclude(counted, HeldClaim{Claim: *mine.Claim, SetsClock: true}, undecided, noon.Add(time.Second), testRules())
	if st.Record == "" || st.State.panics(K1) != 4 {
		t.Errorf("got %+v with claim %+v, want 4 panics", st, st.State.Claim)
	}
}

// An unresolved record never tells the facts of another key.
func TestAbandonedClaimOfAnotherKey(t *testing.T) {
	js := emptyJournal(t)
	journal, err := Open(t.Context(), js, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	r := messages.NewRenewal("e02", "2026-12")
	text, err := charging().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: messages.RecordAddress{Kind: messages.KindCharging, Renewal: r, Account: "default"}.Subject(), Header: nats.Header{messages.HeaderState: {text}}, Data: []byte(`{"idempotency_key":"` + string(K1) + `"}`)}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for key, refused := range map[messages.IdempotencyKey]bool{K1: false, k2: true} {
		st := giveUp(with(charging(), func(c *Claim) { c.Key = key }), messages.ReasonIdempotencyWindowExpired, testRules())
		if _, err := journal.Abandoned(t.Context(), r, st, "w", noon); (err != nil) != refused {
			t.Errorf("%s: got %v, want it refused: %t", key, err, refused)
		}
	}
}
