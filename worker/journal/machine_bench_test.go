package journal

import (
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// settledState is what a renewal's last record says once it is paid.
func settledState() State {
	claimed := charging()
	h := HeldClaim{Claim: *claimed.Claim, SetsClock: true}
	return Conclude(claimed, h, accepted, noon.Add(time.Second), testRules()).State
}

func BenchmarkStateEncode(b *testing.B) {
	s := settledState()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseState(b *testing.B) {
	header, err := settledState().Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(header)))
	for b.Loop() {
		if _, err := ParseState(header); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMachine is both decisions of a charge: what its delivery means, and what its answer.
func BenchmarkMachine(b *testing.B) {
	r, q, s := testRules(), first(), empty()
	b.ReportAllocs()
	for b.Loop() {
		claimed := Deliver(s, q, noon, r)
		h := HeldClaim{Claim: *claimed.State.Claim, SetsClock: true}
		if Conclude(claimed.State, h, accepted, noon.Add(time.Second), r).Record != messages.KindPaid {
			b.Fatal("not paid")
		}
	}
}
