// Package topology says what lives in NATS: which streams, consumers and bucket there are, how they are made, and how far
// what is found may differ from that.
package topology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// BucketWorkers is where live workers tell of themselves.
const BucketWorkers = "RENEWAL_WORKERS"

// StreamWorkers is the stream behind that bucket.
const StreamWorkers = "KV_" + BucketWorkers

// ConsumerName is the durable consumer that hands out the charges of an account.
func ConsumerName(a messages.Account) string { return "charge-" + string(a) }

// CaptureConsumerName is the durable consumer that hands out the captures of an account.
func CaptureConsumerName(a messages.Account) string { return "capture-" + string(a) }

// Consumers are an account's, by name, with the subject that each hands out.
func Consumers(a messages.Account) map[string]string {
	return map[string]string{
		ConsumerName(a): messages.DueSubject(a), CaptureConsumerName(a): messages.CaptureSubject(a), LaterConsumerName(a): messages.LaterSubject(a),
	}
}

// journalKinds are the kinds of section "journal": every record of a renewal.
var journalKinds = [...]messages.Kind{
	messages.KindCharging, messages.KindPending, messages.KindPaid, messages.KindDunning,
	messages.KindUnresolved, messages.KindRejected, messages.KindCancelled,
	messages.KindCapturing, messages.KindCaptured, messages.KindCaptureFailed,
}

// Provisioning says what Provision makes. Of what exists already, the zero value leaves everything as it is but what the
// promise rests on.
type Provisioning struct {
	Accounts      []messages.Account
	Replicas      int           // of every stream. Default: as it is; of a new one as of the others, else 1
	Retention     time.Duration // age of journal records, at least 30 days. Default: as it is, else 120 days
	DeadRetention time.Duration // age of dead letters, at least 30 days. Default: as it is, else 400 days
	AckWait       time.Duration // of every consumer, and the length of a claim's lease. Default: as it is, else 2 minutes

	// Force names what may be lowered, [ForceReplicas] and so on, or for AckWait changed at all.
	Force []string
	// Tell is told of each change before the first of them is made.
	Tell func(Change)

	// AcceptEmptyJournal lets Provision create a journal while RENEWALS holds
	// jobs: the operator's word that nobody knows what was charged. What fell due before is then charged as after
	// [AcceptRestoredJournal].
	AcceptEmptyJournal bool

	consumers int // that a stream may have, of [maxConsumers]; see withinLimits
}

const (
	// DuplicateWindow is for how long at least the stream of jobs knows a Nats-Msg-Id again.
	DuplicateWindow = time.Hour

	DefaultRetention     = 120 * 24 * time.Hour
	defaultDeadRetention = 400 * 24 * time.Hour
	minRetention         = 30 * 24 * time.Hour
	newsRetention        = 400 * 24 * time.Hour
	DefaultAckWait       = 2 * time.Minute
	// retentionMargin is how much younger than the journal's age a period must
	// be to be charged: its records must outlive every job for it.
	RetentionMargin = 7 * 24 * time.Hour
	// MostBatch is the most messages that a request of any program here asks for at once, so what every consumer must allow: also those that
	// read the journal, into which a server writes its limit as well.
	MostBatch = 2000
	// maxConsumers is enough for thousands of accounts, each of which has two in RENEWALS and one in RENEWALS_LATER. Unlimited means a server's own limit, which is 1,000.
	// Where the NATS account may have fewer it is as many as that.
	maxConsumers = 20_000
)

// ErrJournalMissing means that the journal is gone while jobs wait: without it
// nobody knows which of them were charged. An operator restores it from a backup, or says that it may be empty.
var ErrJournalMissing = errors.New("stream " + messages.StreamJournal + " is missing while " + messages.StreamJobs + " holds jobs: the memory of what was charged is lost; " +
	"restore it from a backup, or run `renewals provision --accept-empty-journal` if nothing in the queue can have been charged")

// streams are those that Provision makes, the bucket's among them, in the order in which they are made and verified.
func (p Provisioning) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{p.later(), p.marks(messages.StreamMarks, messages.SubjectMark), p.marks(messages.StreamMarksCopy, messages.SubjectMarkCopy), p.Journal(), p.dead(), p.jobs(), p.workers()}
}

// beside are streams that nothing rests on: Provision makes them, and nobody refuses to charge for want of one.
func (p Provisioning) beside() []jetstream.StreamConfig { return []jetstream.StreamConfig{p.News()} }

// guardJournal refuses to let an empty journal take the place of a lost one, and to touch one of the contract's first edition.
func (p Provisioning) guardJournal(ctx context.Context, js jetstream.JetStream) error {
	journal, err := js.Stream(ctx, messages.StreamJournal)
	switch {
	case err == nil:
		return guardEdition(ctx, js, journal.CachedInfo().Config.Subjects)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("look up stream %s: %w", messages.StreamJournal, err)
	case p.AcceptEmptyJournal:
		return nil
	}
	jobs, err := js.Stream(ctx, messages.StreamJobs)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", messages.StreamJobs, err)
	}
	if jobs.CachedInfo().State.Msgs > 0 {
		return ErrJournalMissing
	}
	return nil
}

func (p Provisioning) jobs() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        messages.StreamJobs,
		Description: "Renewals that are due and captures of their orders, until they have their result.",
		Subjects:    []string{messages.DueSubject("*"), messages.CaptureSubject("*")},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxMsgSize:  512 << 10,
		Duplicates:  DuplicateWindow,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: p.consumers,
	}
}

// Journal is the stream of records, the memory of what was charged.
func (p Provisioning) Journal() jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:        messages.StreamJournal,
		Description: "What is known of every renewal: the memory of what was charged.",
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxAge:      p.Retention,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 2 * time.Minute,
		DenyDelete: true,
		DenyPurge:  true,

		AllowAtomicPublish: true,
	}
	for _, k := range journalKinds {
		c.Subjects = append(c.Subjects, messages.RecordFilter(k, "*"))
	}
	return c
}

func (p Provisioning) dead() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        messages.StreamDead,
		Description: "Jobs that no machine can finish, kept until an operator drops them.",
		Subjects:    []string{messages.DeadSubject("*", "*")},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxAge:      p.DeadRetention, // they hold customer tokens
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 24 * time.Hour, // a redelivered job files its dead letter again
	}
}

// Consumer is a durable consumer of an account, which hands out subject.
func (p Provisioning) Consumer(a messages.Account, name, subject string) jetstream.ConsumerConfig {
	description := "Charges the renewals of Klarna account " + string(a) + "."
	switch name {
	case CaptureConsumerName(a):
		description = "Captures the renewals' orders of Klarna account " + string(a) + "."
	case LaterConsumerName(a):
		description = "Charges the renewals of Klarna account " + string(a) + " that came before they were due."
	}
	return jetstream.ConsumerConfig{
		Durable:       name,
		Description:   description,
		FilterSubject: subject,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       p.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: 100_000, // delayed naks hold a place
		MaxWaiting:    512,
		// No BackOff: it would stretch every NakWithDelay.
	}
}

// News is the stream of what other teams may want to know beside results.
func (p Provisioning) News() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        messages.StreamNews,
		Description: "What was found beside results: where the settlements differ from the journal.",
		Subjects:    []string{messages.TokenNewsFilter, messages.BreakSubject("*", "*", "*")},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxAge:      newsRetention,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 2 * time.Minute,
	}
}

// workers is the stream of the bucket, as jetstream.CreateKeyValue makes it.
func (p Provisioning) workers() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamWorkers,
		Description:       "Live workers, how they share the rate of an account, and their clocks.",
		Subjects:          []string{"$KV." + BucketWorkers + ".>"},
		Storage:           jetstream.FileStorage,
		Replicas:          p.Replicas,
		MaxAge:            PresenceTTL,
		Duplicates:        PresenceTTL,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Discard:     jetstream.DiscardNew,
		AllowRollup: true,
		DenyDelete:  true,
		AllowDirect: true,
	}
}

// marks is one of the streams that keep the mark.
func (p Provisioning) marks(name, subject string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Description:       "How far the journal had come, so that it is noticed when it was set back.",
		Subjects:          []string{subject},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          p.Replicas,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 2 * time.Minute,
	}
}

// LosesMemory says that the journal is about to be made while there was one before.
func (p Provisioning) LosesMemory(ctx context.Context, js jetstream.JetStream) (bool, error) {
	if _, err := js.Stream(ctx, messages.StreamJournal); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, err
	}
	for _, name := range []string{messages.StreamJobs, messages.StreamMarks, messages.StreamMarksCopy} {
		stream, err := js.Stream(ctx, name)
		if err == nil && stream.CachedInfo().State.Msgs > 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return false, fmt.Errorf("look up stream %s: %w", name, err)
		}
	}
	return false, nil
}

// LaterConsumerName is the durable consumer that hands out the parked jobs of an account once they are due.
func LaterConsumerName(a messages.Account) string { return "later-" + string(a) }

// StreamOf is the stream that a consumer of jobs hands out from.
func StreamOf(consumer string) string {
	if strings.HasPrefix(consumer, LaterConsumerName("")) {
		return messages.StreamLater
	}
	return messages.StreamJobs
}

func (p Provisioning) later() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              messages.StreamLater,
		Description:       "Jobs that came before they were due, until they are.",
		Subjects:          []string{messages.LaterSubject("*"), messages.ParkedFilter("*"), retrySubject},
		Retention:         jetstream.WorkQueuePolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          p.Replicas,
		AllowMsgSchedules: true,
		AllowRollup:       true, // comes with schedules
		MaxConsumers:      p.consumers,
		Duplicates:        2 * time.Minute, // nothing here has a message ID
		MaxMsgs:           -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
	}
}

// retrySubject is kept for attempts that the worker schedules itself.
const retrySubject = "renewals.retry.*.*.*"

// canSchedule says by name that a server is too old: one that does not know schedules leaves the setting out.
func canSchedule(js jetstream.JetStream, s jetstream.Stream) error {
	if s.CachedInfo().Config.AllowMsgSchedules {
		return nil
	}
	return fmt.Errorf("nats-server %s has no message schedules (allow_msg_schedules): 2.12 or newer is needed", js.Conn().ConnectedServerVersion())
}
