package worker

import (
	"math"
	"time"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
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
	// merchantPause is the longest pause between probes then: each of them may cost a renewal.
	merchantPause = 15 * time.Minute
)

// merchantFaults counts refusals that only the merchant can mend, and knows whether
// Klarna has ever taken an order as this account is configured. The circuit's lock guards it.
type merchantFaults struct {
	run    map[string]bool // fingerprints of the tokens refused since the last answer of another kind
	proven bool            // there was such an answer since the start
}

// merchantProven notes an answer that depends on the customer: the account is configured well.
func (c *circuit) merchantProven() {
	c.mu.Lock()
	c.faults.proven = true
	clear(c.faults.run)
	c.mu.Unlock()
	c.close(gate.PauseRefusedByConfig)
}

// merchantFault notes a refusal of a token that only the merchant can mend. It
// says whether it is the token's own: one too many in a row, of a job that was
// under way already when the account paused, is not.
func (c *circuit) merchantFault(token string, workers int, probe bool) (own bool) {
	c.mu.Lock()
	run := c.refusable(workers)
	full := len(c.faults.run) >= run
	if !full {
		c.faults.run[token] = true
	}
	pause := len(c.faults.run) >= run
	c.mu.Unlock()
	if pause {
		c.open(gate.PauseRefusedByConfig, "Klarna refuses one token after the other for something that only the merchant can mend: check merchant ID, API key and endpoint")
	}
	return !full || probe
}

// refusable is how many refusals in a row this worker may record.
func (c *circuit) refusable(workers int) int {
	if !c.faults.proven {
		return max(merchantRunUnproven/workers, 1)
	}
	return max(merchantRun/workers, merchantRunLeast)
}

// places is how many charges may be in flight: fewer as soon as there is a run, so that what
// is under way when the account pauses is little. Klarna may repeat a refusal for a key that it has refused.
func (c *circuit) places(workers int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if run, most := len(c.faults.run), c.refusable(workers); run > most/4 {
		return max(most-run, 1)
	}
	return math.MaxInt
}

// judge asks what an answer says of the account's configuration. A refusal that
// comes on top of a run of them, under a claim that nothing else happened to, is put off as if Klarna had
// not been asked: the job is tried again when the account is. Refusals of captures are about their orders.
func (a *account) judge(j *job, h holding, t *tally) {
	switch t.Answer {
	case answerNone:
		return
	case answerRefused:
		if h.Claim.Capture != nil {
			return
		}
		d, _ := dunning.DecideRefused(t.refusal.StatusCode, t.refusal.Code, t.refusal.FraudStatus)
		if d.FixBy != messages.FixByMerchant {
			break
		}
		if own := a.circuit.merchantFault(j.fingerprint, a.limiter.SharedBy(), j.probe); !own && h.SetsClock {
			// Every try of the key was answered by a definite no: its clock need not run. Klarna may
			// repeat this one, so that the job is no good for a probe.
			t.Answer, t.refusal, t.Unsent, t.RetryAfter = answerNone, nil, true, merchantPause
		}
		return
	}
	a.circuit.merchantProven()
}
