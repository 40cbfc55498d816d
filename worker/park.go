package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// early says that the job is to be parked unless the journal knows better. It needs no turn at Klarna for that.
func (j *job) early(now time.Time) bool {
	return j.request.Verdict == "" && j.capture == nil && j.request.DueAt.Sub(now) > journal.FiredEarly
}

// parkEarly parks a job that is early, or leaves it to the way of all others: its renewal may say that it is done,
// or rejected, or half charged.
func (a *account) parkEarly(j *job) (done bool) {
	if !j.early(a.now()) || a.pauses.Any() || a.marks.Doubtful() {
		return false
	}
	at, err := a.last(j)
	if err != nil {
		a.finish(j, journal.Transition{}, err)
		return true
	}
	next := journal.Deliver(at.State, j.request, a.now(), a.rulesNow())
	if next.Then != journal.Park {
		return false
	}
	a.finish(j, next, nil)
	return true
}

// errNotStored is a schedule that the server confirmed and dropped.
var errNotStored = errors.New("the server took it for a duplicate and did not store it")

// park acknowledges an early job once it is stored as a schedule, and only then. Whatever goes wrong before, it comes
// again: then its schedule replaces the one that may be stored, on the same subject.
func (a *account) park(j *job, next journal.Transition) error {
	if err := a.publishParked(j); err != nil {
		a.metrics.writes.WithLabelValues(string(a.Name)).Inc()
		a.log.Warn().Err(err).Uint64("sequence", j.sequence).Str("idempotency_key", string(j.request.Key)).Msg("early job goes back: it could not be parked")
		return j.msg.NakWithDelay(min(a.rulesNow().Delay(j.delivered), next.Until.Sub(a.now())))
	}
	a.log.Debug().Str("idempotency_key", string(j.request.Key)).Msg("parked until it is due")
	return j.msg.Ack()
}

func (a *account) publishParked(j *job) error {
	in := j.reading.Job
	subject := j.parked
	if subject == "" {
		subject = messages.ParkedSubject(in.SubscriptionID, in.Period, j.sequence, j.msg.Data, a.Name)
	}
	m := &nats.Msg{
		Subject: subject, Data: j.msg.Data,
		Header: messages.Parked{ID: in.ID, Account: a.Name, Published: j.published, DueAt: in.DueAt, Original: j.msg.Header}.Header(),
	}
	ctx, cancel := context.WithTimeout(a.recording, journal.PublishTimeout)
	defer cancel()
	ack, err := a.js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamLater))
	if err == nil && ack.Duplicate {
		err = errNotStored
	}
	if err != nil {
		return fmt.Errorf("park the job in %s: %w", messages.StreamLater, err)
	}
	return nil
}

// fired makes a job that was parked what it was when it was published: its headers, its subject, its time. Where it
// waited it is parked again if need be: its own sequence there could be that of another job's in RENEWALS.
func (j *job) fired(a messages.Account) {
	if waited := j.msg.Header.Get("Nats-Scheduler"); waited != "" {
		if of, err := messages.ParseParkedSubject(waited); err == nil && of == a {
			j.parked = waited
		}
	}
	header, published := messages.Unpark(j.msg.Header)
	j.msg.Header, j.msg.Subject = header, messages.DueSubject(a)
	if !published.IsZero() {
		j.published = published
	}
}

// since is when the job could have been charged: when it was published, or later when it fell due. A result that comes
// before that is counted from its publication.
func (j *job) since(now time.Time) time.Time {
	if due := j.request.DueAt; j.capture == nil && due.After(j.published) && !due.After(now) {
		return due
	}
	return j.published
}

// nearlyFull is the share of max_ack_pending from which on a consumer needs a person: full, it hands out nothing.
const nearlyFull = 0.8

// filled notes how much of a consumer's max_ack_pending is taken, for the gauge and for `renewals status`.
func (w *Worker) filled(account messages.Account, info *jetstream.ConsumerInfo) {
	if w.metrics == nil || info.Config.MaxAckPending <= 0 {
		return
	}
	share := float64(info.NumAckPending) / float64(info.Config.MaxAckPending)
	w.metrics.ackPending.WithLabelValues(string(account), info.Config.Durable).Set(share)
	w.ackPending.Store(info.Config.Durable, share)
}

// nearlyFullOf lists an account's consumers that are nearly full, with how much of them is taken.
func (w *Worker) nearlyFullOf(a messages.Account) map[string]float64 {
	var full map[string]float64
	for name := range topology.Consumers(a) {
		if share, ok := w.ackPending.Load(name); ok && share.(float64) >= nearlyFull {
			if full == nil {
				full = map[string]float64{}
			}
			full[name] = share.(float64)
		}
	}
	return full
}
