package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// Names of what lives in JetStream. Other systems bind to them.
const (
	StreamJobs    = "RENEWALS"
	StreamJournal = "RENEWAL_JOURNAL"
	StreamDead    = "RENEWAL_DEAD"
	BucketWorkers = "RENEWAL_WORKERS"
)

// ConsumerName is the durable consumer that hands out the charges of an account.
func ConsumerName(a messages.Account) string { return "charge-" + string(a) }

// CaptureConsumerName is the durable consumer that hands out the captures of an account.
func CaptureConsumerName(a messages.Account) string { return "capture-" + string(a) }

// consumers are an account's, by name, with the subject that each hands out.
func consumers(a messages.Account) map[string]string {
	return map[string]string{ConsumerName(a): messages.DueSubject(a), CaptureConsumerName(a): messages.CaptureSubject(a)}
}

// journalKinds are the kinds of section "journal": every record of a renewal.
var journalKinds = [...]messages.Kind{
	messages.KindCharging, messages.KindPending, messages.KindPaid, messages.KindDunning,
	messages.KindUnresolved, messages.KindRejected, messages.KindCancelled,
	messages.KindCapturing, messages.KindCaptured, messages.KindCaptureFailed,
}

// Provisioning says what Provision makes.
type Provisioning struct {
	Accounts  []messages.Account
	Replicas  int           // of every stream; 1 or 3. Default 1
	Retention time.Duration // age of journal records. Default 120 days, at least 30
	AckWait   time.Duration // of every consumer, and the length of a claim's lease. Default 2 minutes

	// AcceptEmptyJournal lets Provision create a journal while RENEWALS holds
	// jobs: the operator's word that nobody knows what was charged. What fell due before is then charged as after
	// [AcceptRestoredJournal].
	AcceptEmptyJournal bool
}

const (
	defaultRetention = 120 * 24 * time.Hour
	minRetention     = 30 * 24 * time.Hour
	defaultAckWait   = 2 * time.Minute
	// retentionMargin is how much younger than the journal's age a period must
	// be to be charged: its records must outlive every job for it.
	retentionMargin = 7 * 24 * time.Hour
)

// ErrJournalMissing means that the journal is gone while jobs wait: without it
// nobody knows which of them were charged. An operator restores it from a backup, or says that it may be empty.
var ErrJournalMissing = errors.New("stream " + StreamJournal + " is missing while " + StreamJobs + " holds jobs: the memory of what was charged is lost; " +
	"restore it from a backup, or run `renewals provision --accept-empty-journal` if nothing in the queue can have been charged")

// Provision creates or updates the streams, consumers and the bucket. It is
// idempotent and safe beside running workers. It never replaces a missing journal while jobs wait.
func Provision(ctx context.Context, js jetstream.JetStream, p Provisioning) error {
	p.setDefaults()
	if p.Retention < minRetention {
		return fmt.Errorf("retention: found %s, expected at least %s", days(p.Retention), days(minRetention))
	}
	if err := p.guardJournal(ctx, js); err != nil {
		return err
	}
	forgets, err := p.losesMemory(ctx, js)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", StreamJournal, err)
	}
	for _, c := range []jetstream.StreamConfig{p.marks(0), p.marks(1), p.journal(), p.dead(), p.jobs()} {
		if _, err := js.CreateOrUpdateStream(ctx, c); err != nil {
			return fmt.Errorf("provision stream %s: %w", c.Name, err)
		}
	}
	for _, a := range p.Accounts {
		for name, subject := range consumers(a) {
			if _, err := js.CreateOrUpdateConsumer(ctx, StreamJobs, p.consumer(a, name, subject)); err != nil {
				return fmt.Errorf("provision consumer %s: %w", name, err)
			}
		}
	}
	if _, err := js.CreateOrUpdateKeyValue(ctx, p.workers()); err != nil {
		return fmt.Errorf("provision bucket %s: %w", BucketWorkers, err)
	}
	if forgets && p.AcceptEmptyJournal {
		_, err = AcceptRestoredJournal(ctx, js)
	}
	return err
}

func (p *Provisioning) setDefaults() {
	if p.Replicas == 0 {
		p.Replicas = 1
	}
	if p.Retention == 0 {
		p.Retention = defaultRetention
	}
	if p.AckWait == 0 {
		p.AckWait = defaultAckWait
	}
}

// guardJournal refuses to let an empty journal take the place of a lost one.
func (p Provisioning) guardJournal(ctx context.Context, js jetstream.JetStream) error {
	if p.AcceptEmptyJournal {
		return nil
	}
	if _, err := js.Stream(ctx, StreamJournal); !errors.Is(err, jetstream.ErrStreamNotFound) {
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", StreamJournal, err)
		}
		return nil
	}
	jobs, err := js.Stream(ctx, StreamJobs)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", StreamJobs, err)
	}
	if jobs.CachedInfo().State.Msgs > 0 {
		return ErrJournalMissing
	}
	return nil
}

func (p Provisioning) jobs() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamJobs,
		Description: "Renewals that are due and captures of their orders, until they have their result.",
		Subjects:    []string{messages.DueSubject("*"), messages.CaptureSubject("*")},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxMsgSize:  512 << 10,
		Duplicates:  time.Hour,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1,
	}
}

func (p Provisioning) journal() jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:        StreamJournal,
		Description: "What is known of every renewal: the memory of what was charged.",
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxAge:      p.Retention,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 2 * time.Minute,
		DenyDelete: true,
		DenyPurge:  true,
	}
	for _, k := range journalKinds {
		c.Subjects = append(c.Subjects, messages.RecordSubject(k, "*", "*"))
	}
	return c
}

func (p Provisioning) dead() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamDead,
		Description: "Jobs that no machine can finish, kept until an operator drops them.",
		Subjects:    []string{messages.DeadSubject("*", "*")},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
		MaxMsgs:     -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Duplicates: 24 * time.Hour, // a redelivered job files its dead letter again
	}
}

func (p Provisioning) consumer(a messages.Account, name, subject string) jetstream.ConsumerConfig {
	description := "Charges the renewals of Klarna account " + string(a) + "."
	if name == CaptureConsumerName(a) {
		description = "Captures the renewals' orders of Klarna account " + string(a) + "."
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

func (p Provisioning) workers() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      BucketWorkers,
		Description: "Live workers, how they share the rate of an account, and their clocks.",
		TTL:         15 * time.Second,
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    p.Replicas,
	}
}

// A Deviation is a setting of a stream or consumer on which the promise rests
// and which somebody has changed. Nothing is claimed while there is one; `renewals provision` puts it right.
type Deviation struct {
	Stream, Consumer, Setting, Got, Want string
}

func (d *Deviation) Error() string {
	where := "stream " + d.Stream
	if d.Consumer != "" {
		where = "consumer " + d.Consumer + " on " + where
	}
	return fmt.Sprintf("%s: setting %s: found %s, expected %s; run `renewals provision` to put it right", where, d.Setting, d.Got, d.Want)
}

// Verify checks every setting that the promise rests on. A *Deviation names the
// first that is off; jetstream.ErrStreamNotFound means that `renewals provision`
// was not run; any other error says nothing about the settings.
// It returns the journal's age, which bounds how old a charged period may be.
func Verify(ctx context.Context, js jetstream.JetStream) (retention time.Duration, err error) {
	for _, s := range []struct {
		name   string
		checks func(jetstream.StreamConfig) []check
	}{
		{StreamJournal, journalChecks}, {StreamJobs, jobsChecks}, {StreamDead, deadChecks}, {StreamMarks, marksChecks(0)}, {StreamMarksCopy, marksChecks(1)},
	} {
		stream, err := js.Stream(ctx, s.name)
		if err != nil {
			return 0, fmt.Errorf("stream %s: %w%s", s.name, err, hint(err))
		}
		config := stream.CachedInfo().Config
		for _, c := range s.checks(config) {
			if !c.ok {
				return 0, &Deviation{Stream: s.name, Setting: c.setting, Got: fmt.Sprint(c.got), Want: c.want}
			}
		}
		if s.name == StreamJournal {
			retention = config.MaxAge
		}
	}
	return retention, nil
}

type check struct {
	setting string
	ok      bool
	got     any
	want    string
}

func journalChecks(c jetstream.StreamConfig) []check {
	checks := []check{
		{"retention", c.Retention == jetstream.LimitsPolicy, c.Retention, "limits"},
		{"storage", c.Storage == jetstream.FileStorage, c.Storage, "file"},
		{"max_age", c.MaxAge >= minRetention, c.MaxAge, "at least " + days(minRetention)},
		{"max_msgs", c.MaxMsgs <= 0, c.MaxMsgs, "unlimited"},
		{"max_bytes", c.MaxBytes <= 0, c.MaxBytes, "unlimited"},
		{"max_msgs_per_subject", c.MaxMsgsPerSubject <= 0, c.MaxMsgsPerSubject, "unlimited"},
		{"max_msg_size", c.MaxMsgSize <= 0, c.MaxMsgSize, "unlimited"},
		{"allow_direct", !c.AllowDirect, c.AllowDirect, "false"},
		{"deny_delete", c.DenyDelete, c.DenyDelete, "true"},
		{"deny_purge", c.DenyPurge, c.DenyPurge, "true"},
		{"allow_rollup_hdrs", !c.AllowRollup, c.AllowRollup, "false"},
		{"allow_msg_ttl", !c.AllowMsgTTL, c.AllowMsgTTL, "false"},
		{"mirror", c.Mirror == nil, "a mirror", "none"},
		{"sources", len(c.Sources) == 0, fmt.Sprint(len(c.Sources)), "none"},
		{"subject_transform", c.SubjectTransform == nil, "a transform", "none"},
		{"persist_mode", c.PersistMode == jetstream.DefaultPersistMode, c.PersistMode, "default"},
		{"sealed", !c.Sealed, c.Sealed, "false"},
		{"no_ack", !c.NoAck, c.NoAck, "false"},
	}
	for _, k := range journalKinds {
		subject := messages.RecordSubject(k, "*", "*")
		checks = append(checks, check{"subjects", contains(c.Subjects, subject), c.Subjects, "among them " + subject})
	}
	return checks
}

func jobsChecks(c jetstream.StreamConfig) []check {
	return []check{
		{"retention", c.Retention == jetstream.WorkQueuePolicy, c.Retention, "workqueue"},
		{"storage", c.Storage == jetstream.FileStorage, c.Storage, "file"},
		{"max_age", c.MaxAge == 0, c.MaxAge, "unlimited"},
		{"max_msgs", c.MaxMsgs <= 0, c.MaxMsgs, "unlimited"},
		{"max_bytes", c.MaxBytes <= 0, c.MaxBytes, "unlimited"},
		{"max_msgs_per_subject", c.MaxMsgsPerSubject <= 0, c.MaxMsgsPerSubject, "unlimited"},
		{"allow_msg_ttl", !c.AllowMsgTTL, c.AllowMsgTTL, "false"},
		{"persist_mode", c.PersistMode == jetstream.DefaultPersistMode, c.PersistMode, "default"},
		{"subjects", contains(c.Subjects, messages.DueSubject("*")), c.Subjects, "among them " + messages.DueSubject("*")},
		{"subjects", contains(c.Subjects, messages.CaptureSubject("*")), c.Subjects, "among them " + messages.CaptureSubject("*")},
	}
}

func deadChecks(c jetstream.StreamConfig) []check {
	return []check{
		{"retention", c.Retention == jetstream.LimitsPolicy, c.Retention, "limits"},
		{"storage", c.Storage == jetstream.FileStorage, c.Storage, "file"},
		{"max_age", c.MaxAge == 0, c.MaxAge, "unlimited"},
		{"max_msgs", c.MaxMsgs <= 0, c.MaxMsgs, "unlimited"},
		{"max_bytes", c.MaxBytes <= 0, c.MaxBytes, "unlimited"},
		{"max_msgs_per_subject", c.MaxMsgsPerSubject <= 0, c.MaxMsgsPerSubject, "unlimited"},
		{"allow_msg_ttl", !c.AllowMsgTTL, c.AllowMsgTTL, "false"},
		{"subjects", contains(c.Subjects, messages.DeadSubject("*", "*")), c.Subjects, "among them " + messages.DeadSubject("*", "*")},
	}
}

// consumerChecks are the settings of a consumer that claims and pauses rely on.
func consumerChecks(c jetstream.ConsumerConfig, subject string) []check {
	return []check{
		{"ack_policy", c.AckPolicy == jetstream.AckExplicitPolicy, c.AckPolicy, "explicit"},
		{"max_deliver", c.MaxDeliver == -1, c.MaxDeliver, "-1"},
		{"backoff", len(c.BackOff) == 0, c.BackOff, "none"},
		{"filter_subject", c.FilterSubject == subject, c.FilterSubject, subject},
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
