package worker

import (
	"context"
	"fmt"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A spacer keeps an account's charges from being sent while another period of their subscription stands in the way.
type spacer struct {
	off      bool
	recorder *recorder
}

// way looks at the periods beside a charge that is claimed as at says, or was. Of one that ran out of time nobody waits for the end.
func (p *spacer) way(j *job, at journal.Entry) (journal.Way, error) {
	r := p.recorder
	if p.off || j.service.afterOrder || at.State.OffCycle {
		return journal.Way{}, nil
	}
	beside, err := r.journal.Beside(r.recording, j.renewal, at)
	if err != nil {
		return journal.Way{}, err
	}
	for i, n := range beside {
		if _, stale := journal.Stale(n.State, r.clock.now(), r.rules.now()); !stale {
			continue
		}
		if beside[i].State, err = r.settleStale(n.Renewal, n.State); err != nil {
			return journal.Way{}, err
		}
	}
	return at.State.Passage(beside), nil
}

// spaced says whether a claim may be sent. Where it may not, it has yielded already: next is what becomes of the job.
func (p *spacer) spaced(j *job, at journal.Entry, held journal.HeldClaim) (next journal.Transition, free bool, err error) {
	way, err := p.way(j, at)
	r := p.recorder
	switch {
	case err != nil:
		r.log.Warn().Err(err).Str("idempotency_key", string(j.request.Key)).Msg("charge goes back: the periods beside it could not be looked at")
		unsent := journal.Untried(held)
		unsent.LastError = err.Error()
		next, err = r.record(j, at, held, unsent)
		return next, false, err
	case way.Free():
		return next, true, nil
	}
	r.log.Debug().Str("idempotency_key", string(j.request.Key)).Str("beside", string(way.By)).Msg("another period of the subscription is too close")
	next, err = r.keep(j, at, "", journal.Untried(held), func(s journal.State) journal.Transition {
		return journal.Yield(s, held, j.request, way, r.clock.stamp(), r.rules.now())
	})
	return next, false, err
}

// settleStale records that the claim of another period has run out of time, and returns what that renewal then is.
func (r *recorder) settleStale(of messages.Renewal, s journal.State) (journal.State, error) {
	ctx, cancel := context.WithTimeout(r.recording, claimTimeout)
	defer cancel()
	at, err := r.journal.Last(ctx, of)
	if err != nil {
		return s, err
	}
	_, at, err = r.journal.Apply(ctx, at, journal.Change{
		Renewal: of,
		Decide: func(last journal.State) (journal.Transition, error) {
			next, stale := journal.Stale(last, r.clock.stamp(), r.rules.now())
			if stale && r.clock.fault() != "" {
				return journal.Transition{}, fmt.Errorf("settle the abandoned claim of another period: %s", r.clock.fault())
			}
			return next, nil
		},
		Record: func(ctx context.Context, next journal.Transition) (journal.Record, error) {
			return r.journal.Abandoned(ctx, of, next, r.worker, r.clock.stamp())
		},
		Written: func(next journal.Transition, e messages.Event) {
			r.waker.ended(of, next.State)
			abandoned(r.metrics, r.log, of, next, e.(messages.Unresolved))
		},
	}, nil)
	return at.State, err
}
