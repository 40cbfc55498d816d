package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LaterConsumerName is the durable consumer that hands out the parked jobs of an account once they are due.
func LaterConsumerName(a messages.Account) string { return "later-" + string(a) }

// streamOf is the stream that a consumer of jobs hands out from.
func streamOf(consumer string) string {
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
		MaxConsumers:      20_000,
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

// parked counts the jobs that wait in RENEWALS_LATER, by account; of holds accounts to ask for where they are too many to
// be listed. The server counts from its index of subjects, each of which holds one job.
func parked(ctx context.Context, js jetstream.JetStream, of []messages.Account) (map[messages.Account]int, error) {
	listed, total, err := parkedSubjects(ctx, js, messages.ParkedFilter("*"), 0)
	if err != nil {
		return nil, err
	}
	count := map[messages.Account]int{}
	for subject := range listed {
		if a, err := messages.ParseParkedSubject(subject); err == nil {
			count[a]++
		}
	}
	if total <= len(listed) {
		return count, nil
	}
	for _, a := range of {
		count[a] = 0
	}
	for a := range count {
		if _, count[a], err = parkedSubjects(ctx, js, messages.ParkedFilter(a), math.MaxInt32); err != nil {
			return nil, err
		}
	}
	return count, nil
}

// parkedSubjects asks for one page of subjects, at most 100,000, from offset on, and how many there are. The library's
// own question would gather all of them.
func parkedSubjects(ctx context.Context, js jetstream.JetStream, filter string, offset int) (subjects map[string]uint64, total int, err error) {
	prefix := jetstream.DefaultAPIPrefix
	switch o := js.Options(); {
	case o.APIPrefix != "":
		prefix = o.APIPrefix
	case o.Domain != "":
		prefix = "$JS." + o.Domain + ".API."
	}
	body, _ := json.Marshal(map[string]any{"subjects_filter": filter, "offset": offset})
	m, err := js.Conn().RequestWithContext(ctx, strings.TrimSuffix(prefix, ".")+".STREAM.INFO."+messages.StreamLater, body)
	if err != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", messages.StreamLater, err)
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		Total int                 `json:"total"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", messages.StreamLater, err)
	}
	if answer.Error != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", messages.StreamLater, answer.Error)
	}
	return answer.State.Subjects, answer.Total, nil
}

// nextParked is the first moment among an account's oldest parked jobs; zero without any. Jobs are stored by when they
// came, not by when they are due: with more than these the first may come out sooner, never later.
func nextParked(ctx context.Context, js jetstream.JetStream, a messages.Account) (first time.Time, err error) {
	stream, err := js.Stream(ctx, messages.StreamLater)
	if err != nil {
		return first, fmt.Errorf("bind stream %s: %w", messages.StreamLater, err)
	}
	next := uint64(1)
	for range oldestJobs {
		m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(messages.ParkedFilter(a)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return first, fmt.Errorf("read the parked jobs of account %s: %w", a, err)
		}
		next = m.Sequence + 1
		if at, ok := messages.ParkedUntil(m.Header); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first, nil
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
	for name := range consumers(a) {
		if share, ok := w.ackPending.Load(name); ok && share.(float64) >= nearlyFull {
			if full == nil {
				full = map[string]float64{}
			}
			full[name] = share.(float64)
		}
	}
	return full
}

// looksLater counts what came out of RENEWALS_LATER among the jobs, and after a deep look what still waits there.
func (o *Overview) looksLater(ctx context.Context, js jetstream.JetStream, known map[messages.Account]*AccountOverview, of func(messages.Account) *AccountOverview) error {
	fired, err := subjects(ctx, js, messages.StreamLater, messages.LaterSubject("*"))
	if err != nil {
		return err
	}
	for subject, n := range fired {
		if name, err := messages.ParseAccount(strings.TrimPrefix(subject, messages.LaterSubject(""))); err == nil {
			of(name).Backlog += int(n)
		}
	}
	if !o.deep {
		return nil
	}
	waiting, err := parked(ctx, js, slices.Collect(maps.Keys(known)))
	for name, n := range waiting {
		of(name).Parked = n
	}
	return err
}
