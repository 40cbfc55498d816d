package worker

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// deadLetters is what a result needs of the broker beside the journal, in the words for when it fails.
const deadLetters = "the stream " + messages.StreamDead + " takes no dead letters"

// passingCodes are refusals of a cluster at work: they say "not now" of a moment.
var passingCodes = [...]jetstream.ErrorCode{
	jetstream.JSErrCodeStreamWrongLastSequence,
	jetstream.JSErrCodeStreamWrongLastSequenceConstant,
	10008, // JetStream temporarily unavailable: an election
	10009, // not the leader
	10158, // a message with this ID is in process
	10163, // the expected sequence is not known yet
}

// newOutage pauses all claiming while the broker takes no records.
func newOutage(pauses *pausing, log zerolog.Logger) *gate.Outage {
	return gate.NewOutage(&pauses.reasons, func(sentence string, err error) {
		if pauses.set(gate.PauseJournal, sentence) {
			log.Error().Err(err).Msg("nothing is claimed until the broker takes records again; what is in hand is kept and written again until then")
		}
	}, func() {
		if pauses.lift(gate.PauseJournal) {
			log.Info().Msg("the broker takes records again: claiming goes on")
		}
	})
}

// noticed tells the outage what a call came to.
func noticed(o *gate.Outage, part string, err error) {
	if err == nil {
		if part == journal.Writes {
			o.Worked(part, journal.Reads) // whoever writes the journal can read it
			return
		}
		o.Worked(part)
		return
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, context.Canceled): // the process ends
	case journal.Final(err) && !(ok && refused.ErrorCode == journal.CodeSealed): // this record's own trouble
	case ok:
		o.Failed(part, err, refused.Code != 503 && !slices.Contains(passingCodes[:], refused.ErrorCode))
	default:
		o.Failed(part, err, errors.Is(err, context.DeadlineExceeded)) // that took long enough
	}
}
