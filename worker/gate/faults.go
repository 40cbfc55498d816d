package gate

import (
	"math"
	"time"
)

const (
	// merchantRun is how many tokens in a row Klarna may refuse for something that
	// only the merchant can mend before that is taken for the account's trouble: a wrong
	// merchant ID, or the playground's key, is not 100,000 customers' end. The workers share it.
	merchantRun = 20
	// merchantRunLeast is what is left of it to each of many workers: a few tokens
	// can be wrong for themselves.
	merchantRunLeast = 5
	// merchantRunUnproven is the same before Klarna has taken the first order since
	// the start: endpoint, merchant or key may be others than they were.
	merchantRunUnproven = 3
	// MerchantPause is the longest pause between probes then: each of them may cost a renewal.
	MerchantPause = 15 * time.Minute
)

// merchantFaults counts refusals that only the merchant can mend, and knows whether
// Klarna has ever taken an order as this account is configured. The breaker's lock guards it.
type merchantFaults struct {
	tokens map[string]bool // fingerprints of those refused in a row, since the last answer of another kind
	proven bool            // there was such an answer since the start
}

// prove notes such an answer, which ends the run.
func (f *merchantFaults) prove() {
	f.proven = true
	clear(f.tokens)
}

// count notes a refused token unless the run is full; full says whether it is now.
func (f *merchantFaults) count(token string, workers int) (counted, full bool) {
	most := f.refusable(workers)
	if counted = len(f.tokens) < most; counted {
		f.tokens[token] = true
	}
	return counted, len(f.tokens) >= most
}

// refusable is how many refusals in a row this worker may record.
func (f *merchantFaults) refusable(workers int) int {
	if !f.proven {
		return max(merchantRunUnproven/workers, 1)
	}
	return max(merchantRun/workers, merchantRunLeast)
}

// places is how many charges may be in flight: fewer as soon as there is a run, so that what
// is under way when the account pauses is little. Klarna may repeat a refusal for a key that it has refused.
func (f *merchantFaults) places(workers int) int {
	if run, most := len(f.tokens), f.refusable(workers); run > most/4 {
		return max(most-run, 1)
	}
	return math.MaxInt
}
