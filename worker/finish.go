package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A finisher lets go of an account's jobs: it acknowledges, sends back, parks and buries them.
type finisher struct {
	account  messages.Account
	js       jetstream.JetStream
	clock    *clock
	rules    *rulebook
	outage   *gate.Outage
	recorder *recorder // for its patience
	waker    *waker
	metrics  *Metrics
	log      zerolog.Logger
}

// finish acknowledges a settled job, as the last thing that happens to it, and
// sends back any other.
func (f *finisher) finish(j *job, next journal.Transition, err error) {
	if err == nil && next.Duplicate {
		f.metrics.duplicates.WithLabelValues(string(f.account)).Inc()
	}
	if err == nil && next.Dead {
		err = f.bury(j, next)
	}
	switch {
	case err != nil:
		f.metrics.writes.WithLabelValues(string(f.account)).Inc()
		level := zerolog.WarnLevel
		if !f.js.Conn().IsConnected() {
			level = zerolog.DebugLevel // that is told once, not for every job
		}
		f.log.WithLevel(level).Err(err).Uint64("sequence", j.sequence).Str("idempotency_key", string(j.request.Key)).Msg("job goes back: its state could not be read or written")
		err = j.msg.NakWithDelay(f.rules.now().Delay(1))
	case next.Then == journal.Park:
		err = f.park(j, next)
	case next.Then == journal.Ack:
		err = j.msg.Ack()
	default:
		err = f.sendBack(j, next)
	}
	if err != nil { // nothing is lost: the job comes again after AckWait
		f.log.Debug().Err(err).Uint64("sequence", j.sequence).Msg("acknowledgement not sent")
	}
}

// sendBack lets a job come again after its delay, or as soon as what it waits for has ended. It is remembered only after
// its nak was sent, since a later one with a delay would undo what woke it; and so its claim is looked at once more, since that may have ended
// between the decision and now.
func (f *finisher) sendBack(j *job, next journal.Transition) error {
	if err := j.msg.NakWithDelay(next.Delay); err != nil {
		return err
	}
	if next.Waits == "" || !f.waker.remember(next.Waits, j.msg.Reply, next.Delay) {
		return nil
	}
	if at, err := f.recorder.lastOf(next.Waits); err == nil {
		f.waker.ended(next.Waits, at.State)
	}
	return nil
}

// handBack lets another worker have a job that was not started here, after a while.
func (f *finisher) handBack(j *job, wait time.Duration) {
	f.metrics.handBacks.WithLabelValues(string(f.account)).Inc()
	if err := j.msg.NakWithDelay(wait); err != nil {
		f.log.Debug().Err(err).Uint64("sequence", j.sequence).Msg("hand-back not sent")
	}
}

// errNotStored is a schedule that the server confirmed and dropped.
var errNotStored = errors.New("the server took it for a duplicate and did not store it")

// park acknowledges an early job once it is stored as a schedule, and only then. Whatever goes wrong before, it comes
// again: then its schedule replaces the one that may be stored, on the same subject.
func (f *finisher) park(j *job, next journal.Transition) error {
	if err := f.publishParked(j); err != nil {
		f.metrics.writes.WithLabelValues(string(f.account)).Inc()
		f.log.Warn().Err(err).Uint64("sequence", j.sequence).Str("idempotency_key", string(j.request.Key)).Msg("early job goes back: it could not be parked")
		return j.msg.NakWithDelay(min(f.rules.now().Delay(j.delivered), next.Until.Sub(f.clock.now())))
	}
	f.log.Debug().Str("idempotency_key", string(j.request.Key)).Msg("parked until it is due")
	return j.msg.Ack()
}

func (f *finisher) publishParked(j *job) error {
	in := j.reading.Job
	subject := j.parked
	if subject == "" {
		subject = messages.ParkedSubject(j.renewal, j.sequence, j.data, j.account)
	}
	m := &nats.Msg{
		Subject: subject, Data: j.data,
		Header: messages.Parked{ID: in.ID, Account: j.account, Published: j.published, DueAt: in.DueAt, Original: j.header}.Header(),
	}
	ctx, cancel := context.WithTimeout(f.recorder.recording, journal.PublishTimeout)
	defer cancel()
	ack, err := f.js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamLater))
	if err == nil && ack.Duplicate {
		err = errNotStored
	}
	if err != nil {
		return fmt.Errorf("park the job in %s: %w", messages.StreamLater, err)
	}
	return nil
}

// bury files the job in RENEWAL_DEAD as it was received. The same dead letter
// again, after a crash, is a duplicate by its ID.
func (f *finisher) bury(j *job, next journal.Transition) error {
	if next.Stray() {
		f.metrics.stray.WithLabelValues(string(f.account), string(next.Reason)).Inc()
		f.log.Error().Str("reason", string(next.Reason)).Str("order_id", next.Made).Str("idempotency_key", string(j.request.Key)).Str("renewal_key", string(j.key)).
			Msg("Klarna made something that no result can name any more: a person must look at it")
	}
	defer f.outage.Keep()()
	m := deadLetter(j, next, f.clock.now())
	publish := func() error {
		ctx, cancel := context.WithTimeout(f.recorder.recording, journal.PublishTimeout)
		defer cancel()
		_, err := f.js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamDead))
		noticed(f.outage, deadLetters, err)
		return err
	}
	try, err := f.recorder.insist(j, next.Made), publish()
	for try.Again(f.recorder.recording, err) {
		f.metrics.republish.WithLabelValues(messages.StreamDead).Inc()
		err = publish()
	}
	if err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return nil
}

// deadLetter is the job as it was received, with why it lies there.
func deadLetter(j *job, next journal.Transition, now time.Time) *nats.Msg {
	header := messages.DeadLetter{
		Reason: next.Reason, Errors: j.errors(next), Account: j.account,
		Stream: j.stream, Subject: j.subject, Sequence: j.sequence, At: now, Original: j.header,
	}.Header(j.data)
	return &nats.Msg{Subject: messages.DeadSubject(next.Key, j.account), Header: header, Data: j.data}
}
