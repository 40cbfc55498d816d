package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Letter is a dead letter with its job.
type Letter struct {
	messages.DeadLetter
	Number  uint64
	Filed   string
	Key     messages.IdempotencyKey
	Stored  time.Time
	Headers nats.Header
	Payload []byte
	Kind    JobKind
	Reading JobReading
	Fault   error // it was not written by a worker
}

// ReadLetter reads a dead letter as it is stored. Where somebody else wrote it, Fault says so, and the rest is what could be read.
func ReadLetter(sequence uint64, subject string, stored time.Time, header nats.Header, payload []byte) Letter {
	l := Letter{Number: sequence, Filed: subject, Stored: stored, Headers: header, Payload: payload}
	key, account, err := messages.ParseDeadSubject(subject)
	if err == nil {
		l.Key = key
		l.DeadLetter, err = messages.ParseDeadLetter(header)
	}
	l.Kind = KindOf(l.Subject)
	if err == nil && l.Subject != "" && l.Subject != l.Kind.Subject(l.Account) {
		err = fmt.Errorf("read header %s: found %.80q, expected %s or %s", messages.HeaderSubject, l.Subject, ChargeJob.Subject(l.Account), CaptureJob.Subject(l.Account))
	}
	if err != nil {
		l.Fault = err
		l.DeadLetter = messages.DeadLetter{Account: account, At: stored}
	}
	// The headers as the worker read them: of a replayed job the fresh Nats-Msg-Id is not its ID.
	l.Reading = l.Kind.read(payload, l.Original)
	return l
}

// renewal is where the journal has the job: under its stand-in where its own identity is not its own.
func (l Letter) renewal() messages.Renewal {
	if l.Reading.Identified && l.Reading.IdempotencyKey == l.Key {
		return l.Reading.Renewal()
	}
	return messages.StandInRenewal(messages.RenewalKey(l.Key))
}

// Unresolved says that the letter is about a charge or a capture that may have been made. A poison job can be of either kind: only the
// journal knows.
func (l Letter) Unresolved() bool {
	return slices.Contains(messages.Reasons(messages.KindUnresolved), l.Reason)
}

// refusal says why a dead letter is not replayed and what to do in its place; "" when it may be. s is its renewal's state.
func (l Letter) refusal(s journal.State) string {
	settled := s.Settled[l.Key]
	tooMany, done := "an order was made that no result names: refund or cancel it", "charged"
	if l.Kind == CaptureJob {
		tooMany, done = "a capture was made that no result names: refund it", "captured"
	}
	switch {
	case l.Fault != nil:
		return "not written by a worker: " + l.Fault.Error()
	case slices.Contains(NeedRefund(), l.Reason):
		return fmt.Sprintf("%s in Klarna's portal, then `renewals dead drop %d`", tooMany, l.Number)
	case settled.Kind != "" && settled.Kind != messages.KindRejected && settled.Kind != messages.KindUnresolved:
		return fmt.Sprintf("its job is settled as %s already: `renewals dead drop %d`", settled.Kind, l.Number)
	case settled.Kind == messages.KindUnresolved, l.Unresolved() && settled.Kind != messages.KindRejected:
		return fmt.Sprintf("it may have been %s: look it up in Klarna's portal, then `renewals resolve %s`", done, Argument(l.name()))
	}
	return ""
}

// name is what an operator calls the job by.
func (l Letter) name() string {
	if l.Reading.Identified {
		return string(l.Reading.Job.SubscriptionID) + "/" + string(l.Reading.Job.Period)
	}
	return string(l.Reading.Job.ID)
}

// replayID is the Nats-Msg-Id of a replay: the same for the same dead letter, whoever replays it and how often. The time
// tells a stream that was made anew from the one before.
func (l Letter) replayID() string {
	return fmt.Sprintf("%s/%d/%d", messages.StreamDead, l.Number, l.Stored.UnixNano())
}

// Publish puts the job back into its queue, as a replay of this letter. After an error it may be there: publishing again is safe.
func (l Letter) Publish(ctx context.Context, js jetstream.JetStream) error {
	m := &nats.Msg{Subject: l.Kind.Subject(l.Account), Header: l.Replay(l.Number, l.replayID()), Data: l.Payload}
	var err error
	for range replayAttempts {
		one, cancel := context.WithTimeout(ctx, replayTimeout)
		_, err = js.PublishMsg(one, m)
		cancel()
		if err == nil || TooLarge(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// NowThat is what makes sense of a blocked job once its renewal is resolved.
func (l Letter) NowThat(s journal.State) string {
	switch {
	case l.Kind == ChargeJob && (s.Phase == journal.PhaseDunning || s.Phase == journal.PhaseNone), l.Kind == CaptureJob && s.Uncaptured():
		return "renewals dead replay"
	case l.Kind == CaptureJob && s.Phase == journal.PhaseDunning:
		return "once the period is paid, renewals dead replay"
	}
	return "renewals dead drop"
}

// NeedRefund are the reasons of letters about an order or a capture too many.
func NeedRefund() []messages.Reason {
	return []messages.Reason{messages.ReasonOrderAfterDunning, messages.ReasonSecondOrder, messages.ReasonCaptureAfterFailure}
}

// TooLarge says that a stream or a server will never take a message.
func TooLarge(err error) bool {
	const streamMessageExceedsMaximum jetstream.ErrorCode = 10054
	var refused *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &refused) && refused.ErrorCode == streamMessageExceedsMaximum
}

const (
	replayTimeout  = 5 * time.Second
	replayAttempts = 4
)

// DeadLetters is the stream of them.
type DeadLetters struct {
	JetStream jetstream.JetStream
	stream    jetstream.Stream
}

// OpenDeadLetters needs the stream to be there; the error says what to do where it is not.
func OpenDeadLetters(ctx context.Context, js jetstream.JetStream) (DeadLetters, error) {
	stream, err := js.Stream(ctx, messages.StreamDead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return DeadLetters{}, fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamDead)
	}
	if err != nil {
		return DeadLetters{}, fmt.Errorf("bind stream %s: %w", messages.StreamDead, err)
	}
	return DeadLetters{js, stream}, nil
}

// ErrNoLetter means that there never was such a dead letter.
var ErrNoLetter = errors.New("no dead letter has this sequence")

// ErrGone means that a dead letter was there once.
var ErrGone = errors.New("replayed, resolved or dropped before")

// Get reads one.
func (d DeadLetters) Get(ctx context.Context, sequence uint64) (Letter, error) {
	m, err := d.stream.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound) && sequence <= d.stream.CachedInfo().State.LastSeq && sequence > 0:
		return Letter{}, ErrGone
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Letter{}, ErrNoLetter
	case err != nil:
		return Letter{}, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	return ReadLetter(m.Sequence, m.Subject, m.Time, m.Header, m.Data), nil
}

// Of reads those of one job.
func (d DeadLetters) Of(ctx context.Context, key messages.IdempotencyKey) (letters []Letter, err error) {
	subjects, err := topology.Subjects(ctx, d.JetStream, messages.StreamDead, messages.DeadSubject(key, "*"))
	for subject, n := range subjects {
		if err == nil {
			err = oldest(ctx, d.stream, subject, int(n), func(m *jetstream.RawStreamMsg) error {
				letters = append(letters, ReadLetter(m.Sequence, m.Subject, m.Time, m.Header, m.Data))
				return nil
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the dead letters of key %s: %w", key, err)
	}
	slices.SortFunc(letters, func(a, b Letter) int { return cmp.Compare(a.Number, b.Number) })
	return letters, nil
}

// All hands out those there are now that a filter takes, the oldest first.
func (d DeadLetters) All(ctx context.Context, takes func(Letter) bool, each func(Letter) error) error {
	return Scan(ctx, d.JetStream, messages.StreamDead, jetstream.OrderedConsumerConfig{}, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		l := ReadLetter(meta.Sequence.Stream, m.Subject(), meta.Timestamp, m.Headers(), m.Data())
		if !takes(l) {
			return nil
		}
		return each(l)
	})
}

// Drop deletes one. One that is gone is no error.
func (d DeadLetters) Drop(ctx context.Context, sequence uint64) error {
	err := d.stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	if _, gone := d.stream.GetMsg(ctx, sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // its answer was lost, or somebody else was faster
	}
	return fmt.Errorf("drop dead letter %d: %w", sequence, err)
}

// DropSettled deletes those of a charge or a capture that is settled, and says which. What is of another day, or about another order or
// capture, stays.
func (d DeadLetters) DropSettled(ctx context.Context, key messages.IdempotencyKey) (dropped []uint64, err error) {
	letters, err := d.Of(ctx, key)
	for _, l := range letters {
		if !l.Unresolved() {
			continue
		}
		if err := d.Drop(ctx, l.Number); err != nil {
			return dropped, fmt.Errorf("resolved, but its dead letter is still there: %w; run `renewals dead drop %d`", err, l.Number)
		}
		dropped = append(dropped, l.Number)
	}
	return dropped, err
}

// Replay publishes one job again and drops its dead letter; refused says why it is not. Whatever ends it between the two, the next run makes it good:
// JetStream drops the second publish within the hour, and later the journal knows the replay by its sequence.
func (d DeadLetters) Replay(ctx context.Context, records *journal.Journal, sequence uint64) (l Letter, refused string, err error) {
	if l, err = d.Get(ctx, sequence); err != nil {
		return Letter{Number: sequence}, "", err
	}
	var state journal.State
	if l.Fault == nil {
		at, err := records.Last(ctx, l.renewal())
		if err != nil {
			return l, "", err
		}
		state = at.State
	}
	if why := l.refusal(state); why != "" {
		return l, why, nil
	}
	switch err := l.Publish(ctx, d.JetStream); {
	case TooLarge(err):
		return l, fmt.Sprintf("too large for %s, it can never be charged: `renewals dead drop %d`", messages.StreamJobs, l.Number), nil
	case err != nil:
		return l, "", fmt.Errorf("replay dead letter %d: %w; run the same command again, nothing is charged twice", l.Number, err)
	}
	if err := d.Drop(ctx, l.Number); err != nil {
		return l, "", fmt.Errorf("%w; its job is published, run the same command again", err)
	}
	return l, "", nil
}

// Blocked are the jobs that were turned away for a reason which a decision has just taken away, by what makes sense of them as the renewal
// stands now.
func (d DeadLetters) Blocked(ctx context.Context, s journal.State, why messages.Reason) (map[string][]Letter, error) {
	blocked := map[string][]Letter{}
	for key, e := range s.Settled {
		if e.Reason != why {
			continue
		}
		letters, err := d.Of(ctx, key)
		if err != nil {
			return nil, err
		}
		for _, l := range letters {
			if l.Reason == why {
				now := l.NowThat(s)
				blocked[now] = append(blocked[now], l)
			}
		}
	}
	return blocked, nil
}
