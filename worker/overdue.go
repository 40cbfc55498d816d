package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const (
	// overdueEvery is how often a worker looks for parked jobs of its accounts that did not come out.
	overdueEvery = 15 * time.Second
	// overdueAfter is how long past its moment a schedule is left to the server.
	overdueAfter = 10 * time.Second
	// mostParkedKnown bounds what is kept in memory: the moments of so many parked jobs, some 150 bytes each.
	mostParkedKnown = 50_000
)

// overdue brings out parked jobs that the server has forgotten. A schedule whose job cannot be stored when it fires, since the
// account's quota is full, is marked as under way and not tried again before the stream has another leader: see
// MsgScheduling.getScheduledMessages in
// https://github.com/nats-io/nats-server/blob/main/server/scheduler.go. The same schedule again, on its own subject, replaces it and
// fires at once.
type overdue struct {
	js       jetstream.JetStream
	accounts []messages.Account
	clock    *clock
	log      zerolog.Logger
	moments  map[string]time.Time // of the parked jobs that were read, by subject
}

func (o *overdue) run(ctx context.Context) {
	for every := overdueEvery; gate.Sleep(ctx, every); {
		began := time.Now()
		if err := o.look(ctx); err != nil && ctx.Err() == nil {
			o.log.Debug().Err(err).Msg("parked jobs not looked at, trying again later")
		}
		every = max(overdueEvery, 10*time.Since(began)) // many parked jobs must not keep the broker busy
	}
}

// look publishes what is overdue again. Each parked job is read once.
func (o *overdue) look(ctx context.Context) error {
	stream, err := o.js.Stream(ctx, messages.StreamLater)
	if err != nil {
		return fmt.Errorf("bind stream %s: %w", messages.StreamLater, err)
	}
	waiting, _, err := topology.ParkedSubjects(ctx, o.js, messages.ParkedFilter("*"), 0)
	if err != nil {
		return err
	}
	maps.DeleteFunc(o.moments, func(subject string, _ time.Time) bool { return waiting[subject] == 0 })
	mine := map[messages.Account]bool{}
	for _, a := range o.accounts {
		mine[a] = true
	}
	now := o.clock.now()
	for subject := range waiting {
		if account, err := messages.ParseParkedSubject(subject); err != nil || !mine[account] {
			continue
		}
		at, known := o.moments[subject]
		if known && now.Before(at.Add(overdueAfter)) {
			continue
		}
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the job parked on %s: %w", subject, err)
		}
		at, ok := messages.ParkedUntil(m.Header)
		if !ok {
			continue
		}
		if len(o.moments) < mostParkedKnown {
			o.moments[subject] = at
		}
		if now.Before(at.Add(overdueAfter)) {
			continue
		}
		if err := o.again(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// again stores a schedule over itself, unless it has fired meanwhile: then nothing is left to replace.
func (o *overdue) again(ctx context.Context, m *jetstream.RawStreamMsg) error {
	header := nats.Header{}
	for name, values := range m.Header {
		header[name] = values
	}
	one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	defer cancel()
	_, err := o.js.PublishMsg(one, &nats.Msg{Subject: m.Subject, Header: header, Data: m.Data},
		jetstream.WithExpectStream(messages.StreamLater), jetstream.WithExpectLastSequencePerSubject(m.Sequence))
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	if err != nil {
		return fmt.Errorf("park the job on %s again: %w", m.Subject, err)
	}
	o.log.Info().Str("subject", m.Subject).Msg("a parked job did not come out when it was due: it does now")
	return nil
}
