package worker

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A recorder writes what becomes of an account's jobs into the journal, and tells of it once it is there.
type recorder struct {
	account messages.Account
	worker  string
	journal *journal.Journal
	clock   *clock
	rules   *rulebook
	outage  *gate.Outage
	metrics *Metrics
	waker   *waker
	log     zerolog.Logger
	warned  sync.Map // kinds of warnings that the log has heard of

	// recording ends a little later than tries may, so that what they taught still gets into the journal.
	recording context.Context
}

// claimTimeout bounds the writing of a claim: a worker that cannot reach the
// journal hands its job back.
const claimTimeout = 10 * time.Second

// recordGrace is how long records may still be written after the tries had to end.
const recordGrace = 5 * time.Second

// last reads the job's renewal.
func (r *recorder) last(j *job) (journal.Entry, error) { return r.lastOf(j.renewal) }

func (r *recorder) lastOf(renewal messages.Renewal) (journal.Entry, error) {
	ctx, cancel := context.WithTimeout(r.recording, claimTimeout)
	defer cancel()
	return r.journal.Last(ctx, renewal)
}

// advance lets a function of the machine speak to the renewal's last state until
// a record that it asked for is written, or none is asked for.
func (r *recorder) advance(ctx context.Context, p journal.Patience, j *job, at journal.Entry, speak func(journal.State) journal.Transition, answer journal.TryResult) (journal.Transition, journal.Entry, error) {
	return r.journal.Apply(ctx, at, journal.Change{
		Renewal: j.renewal,
		Decide: func(s journal.State) (journal.Transition, error) {
			next := speak(s)
			if next.ByTheClock() && r.clock.fault() != "" {
				return journal.Later(time.Second), nil
			}
			return next, nil
		},
		Record: func(ctx context.Context, next journal.Transition) (journal.Record, error) {
			now := r.clock.stamp()
			if next.Key != j.request.Key {
				return r.journal.Abandoned(ctx, j.renewal, next, r.worker, now)
			}
			next, err := r.told(ctx, j, next)
			if err != nil {
				return journal.Record{}, err
			}
			about := common(j, next, r.worker, now)
			return journal.Record{Event: event(j, about, next, answer), About: about, Time: now, DueAt: j.request.DueAt, TraceParent: j.traceParent, TraceState: j.traceState}, nil
		},
		Written: func(next journal.Transition, event messages.Event) {
			r.waker.ended(j.renewal, next.State)
			r.written(j, next, event)
		},
	}, p)
}

// told is a capture's transition as its record tells of it. Where the state knows no more of the order than its id, the
// amount, the currency and the reference are Klarna's word or, where it gave none, those of the record that the order was paid with.
func (r *recorder) told(ctx context.Context, j *job, next journal.Transition) (journal.Transition, error) {
	o, ok := next.State.ToCapture()
	if !ok || !j.service.afterOrder || o.Amount != 0 {
		return next, nil
	}
	if found := j.request.Capture.Found; found != nil {
		o = o.Learned(found)
	}
	if o.Amount == 0 {
		paid, err := r.journal.LastOf(ctx, messages.KindPaid, j.renewal)
		if err != nil {
			return next, err
		}
		var about messages.Record
		if json.Unmarshal(paid.Body, &about) == nil { // else it is gone, and so much is not known
			o.Amount, o.Currency = about.OrderAmount, about.PurchaseCurrency
			o.MerchantReference1, o.MerchantReference2 = about.MerchantReference1, about.MerchantReference2
		}
	}
	next.State.Order = &o
	return next, nil
}

// record writes what the tries came to. It goes on until the journal has it or
// the process ends: an answer in hand is not given up because the broker is away.
func (r *recorder) record(j *job, at journal.Entry, held journal.HeldClaim, answer journal.TryResult) (journal.Transition, error) {
	held.Authorised, held.Token = answer.Authorised, j.request.Token
	return r.keep(j, at, answer.Made, answer, func(s journal.State) journal.Transition {
		return journal.Conclude(s, held, answer.Outcome, r.clock.stamp(), r.rules.now())
	})
}

// recordFraudStatus writes what became of a pending order.
func (r *recorder) recordFraudStatus(j *job, at journal.Entry, told fraudStatus) (journal.Transition, error) {
	answer := journal.TryResult{Created: journal.Created{ID: told.orderID, FraudStatus: klarna.FraudAccepted}}
	made, request := "", j.request
	switch {
	case told.accepted:
		made = journal.StateID(told.orderID)
	case told.final:
		answer.Answer = journal.FraudRejected
	}
	request.Authorised = told.authorised
	return r.keep(j, at, made, answer, func(s journal.State) journal.Transition {
		return journal.Polled(s, request, told.accepted, told.final, r.clock.stamp(), r.rules.now())
	})
}

// keep writes with the patience that what Klarna has answered deserves. made is what it made, for a person.
func (r *recorder) keep(j *job, at journal.Entry, made string, answer journal.TryResult, speak func(journal.State) journal.Transition) (journal.Transition, error) {
	defer r.outage.Keep()()
	next, _, err := r.advance(r.recording, r.insist(j, made), j, at, speak, answer)
	if err != nil && made != "" {
		r.notRecorded(j, made, err)
	}
	return next, err
}

// withdraw says that nothing was sent under a claim whose answer was lost: it may be
// stored all the same. Without that word whoever takes it over has to count a try that nobody made, and no
// refusal about the token decides any more. It may be said only here, where no request was ever handed to
// the HTTP client, and only of the claim with this delivery's own nonce; what earlier deliveries left stays. It
// goes on until the journal says whether the claim is there, and not for long once the worker is told to stop.
func (r *recorder) withdraw(ctx context.Context, j *job, claimed journal.State) (journal.Transition, error) {
	defer r.outage.Keep()()
	bounded, cancel := context.WithCancel(r.recording)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		gate.Sleep(bounded, recordGrace)
		cancel()
	})()
	try := r.insist(j, "")
	at, err := r.journal.Last(bounded, j.renewal)
	for try.Again(bounded, err) {
		at, err = r.journal.Last(bounded, j.renewal)
	}
	if err != nil {
		return journal.Transition{}, err
	}
	held, nothing := journal.Held(claimed, r.rules.base), journal.Outcome{Unsent: true, HandBack: true}
	speak := func(s journal.State) journal.Transition {
		return journal.Conclude(s, held, nothing, r.clock.stamp(), r.rules.now())
	}
	next, _, err := r.advance(bounded, r.insist(j, ""), j, at, speak, journal.TryResult{Outcome: nothing})
	return next, err
}

// notRecorded tells a person of what Klarna made and the journal did not take.
// The job goes back: its next delivery asks Klarna again, under the same key.
func (r *recorder) notRecorded(j *job, made string, err error) {
	if r.recording.Err() == nil && !closed(err) {
		r.metrics.stray.WithLabelValues(string(r.account), strayNotRecorded).Inc()
	}
	r.log.Error().Err(err).Str("order_id", made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.key)).
		Msg("what Klarna made could not be recorded: the job goes back, and Klarna is asked again under the same key")
}

// written tells the log and the metrics of a result, once.
func (r *recorder) written(j *job, next journal.Transition, event messages.Event) {
	if next.Record.Claims() {
		return
	}
	r.warn(j, next)
	account := string(r.account)
	if next.Reason == messages.ReasonUnknownCode {
		r.metrics.unknown.WithLabelValues(account).Inc()
	}
	now := r.clock.now()
	// Clocks are corrected, and stamps are the broker's: either may be ahead by a little.
	endToEnd, handling := max(now.Sub(j.since(now)), 0), max(now.Sub(j.received), 0)
	r.metrics.results.WithLabelValues(account, string(next.Record), string(next.Reason)).Inc()
	if next.Then == journal.Ack {
		r.metrics.endToEnd.WithLabelValues(account).Observe(endToEnd.Seconds())
	}

	e := r.log.Info()
	if next.Record == messages.KindUnresolved {
		e = r.log.Error()
	}
	id := j.reading.Job.ID
	if u, other := event.(messages.Unresolved); other {
		id = u.ID
	}
	e = e.Str("kind", string(next.Record)).
		Str("id", string(id)).
		Str("subscription_id", string(j.reading.Job.SubscriptionID)).
		Str("period", string(j.reading.Job.Period)).
		Str("renewal_key", string(j.key)).
		Str("idempotency_key", string(next.Key))
	if next.Reason != "" {
		e = e.Str("reason", string(next.Reason))
	}
	if c := next.State.Claim; c != nil && c.Key == next.Key {
		if c.Capture != nil {
			e = e.Str("order_id", c.Capture.OrderID).Str("capture_id", c.Capture.ID).Int64("captured_amount", c.Capture.Amount)
		} else {
			e = e.Str("order_id", c.OrderID)
		}
		e = e.Int("tries", c.Tries).Int("deliveries", c.Deliveries)
	}
	e.Dur("handling_ms", handling).Dur("end_to_end_ms", endToEnd).Msg("recorded")
}

// warn counts what was odd about a job once it has its result, and tells the log
// of each kind once: a publisher that sends a million such jobs is told by the
// metric, and by the results.
func (r *recorder) warn(j *job, next journal.Transition) {
	if next.Then != journal.Ack {
		return
	}
	seen := make(map[messages.WarningKind]bool, 1)
	for _, w := range j.reading.Warnings {
		if seen[w.Kind] {
			continue
		}
		seen[w.Kind] = true
		r.metrics.warnings.WithLabelValues(string(r.account), string(w.Kind)).Inc()
		if _, told := r.warned.LoadOrStore(w.Kind, true); !told {
			r.log.Warn().Str("id", string(j.reading.Job.ID)).Msg("an odd job (" + string(w.Kind) + "): " + w.String() + "; further ones of this kind are only counted")
		}
	}
}

// insist is the patience for a job of which Klarna has answered.
func (r *recorder) insist(j *job, made string) *effort {
	return &effort{outage: r.outage, msg: j.msg, every: r.rules.base.AckWait / 4, unreadable: func(err error) {
		r.log.Error().Err(err).Str("order_id", made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.key)).
			Msg("an answer of Klarna's waits here for its record: nobody can write on top of what nobody understands")
	}}
}
