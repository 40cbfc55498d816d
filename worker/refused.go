package worker

import (
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// judge asks what an answer says of the account's configuration. A refusal that
// comes on top of a run of them, under a claim that nothing else happened to, is put off as if Klarna had
// not been asked: the job is tried again when the account is. Refusals of captures are about their orders.
func (a *account) judge(j *job, h journal.HeldClaim, t *journal.TryResult) {
	switch t.Answer {
	case journal.NoAnswer:
		return
	case journal.Refused:
		if h.Claim.Capture != nil {
			return
		}
		if t.Outcome.Refusal.FixBy != messages.FixByMerchant {
			break
		}
		if own := a.breaker.MerchantFault(j.fingerprint, a.limiter.SharedBy(), j.probe); !own && h.SetsClock {
			// Every try of the key was answered by a definite no: its clock need not run. Klarna may
			// repeat this one, so that the job is no good for a probe.
			t.Answer, t.Refusal, t.Unsent, t.RetryAfter = journal.NoAnswer, nil, true, gate.MerchantPause
		}
		return
	}
	a.breaker.MerchantProven()
}
