package desk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Finder looks for what an operator names: SUBSCRIPTION/PERIOD, a message ID, or SUBSCRIPTION. A message ID alone does not tell
// which renewal it belongs to, so that is the slow way.
type Finder struct {
	JetStream jetstream.JetStream
	Journal   *journal.Journal
	// Progress begins to tell how much of a total was looked through.
	Progress func(label string, total int64) (set func(int64), done func())
}

// WaitingJob is a job in the queue. It never holds the customer token.
type WaitingJob struct {
	Kind           string                  `json:"kind"` // "due" for a charge, "capture"
	Sequence       uint64                  `json:"sequence"`
	Stream         string                  `json:"stream"`
	ID             messages.MessageID      `json:"id"`
	Account        messages.Account        `json:"account"`
	Misaddressed   string                  `json:"misaddressed,omitempty"` // in place of the account, see [Misaddressed]
	SubscriptionID messages.SubscriptionID `json:"subscription_id"`
	Period         messages.Period         `json:"period"`
	Attempt        int64                   `json:"attempt,omitempty"`
	DueAt          time.Time               `json:"due_at,omitzero"`
	OrderID        string                  `json:"order_id,omitempty"`        // of a capture that names it
	Amount         int64                   `json:"captured_amount,omitempty"` // of a capture of less than everything
	Published      time.Time               `json:"published_at"`
	ParkedUntil    time.Time               `json:"parked_until,omitzero"` // early, it waits outside the queue until then
	Replay         string                  `json:"replay,omitempty"`      // sequence of the dead letter that it repeats

	Job     JobKind                 `json:"-"`
	Renewal messages.Renewal        `json:"-"`
	Key     messages.IdempotencyKey `json:"-"`

	hash, payload string // as the journal knows it again, see [journal.Settlement.Binds]
}

// QuickQueue is how many waiting jobs are looked through even where the journal has already told enough: a second or so.
const QuickQueue = 10_000

// Renewals finds the renewals that a name may mean, mostly one: by SUBSCRIPTION/PERIOD at every slash, then by message ID,
// first where IDs are SUBSCRIPTION/PERIOD/ATTEMPT, then through the whole journal from its end.
func (f Finder) Renewals(ctx context.Context, name string) ([]messages.Renewal, error) {
	found, err := f.Named(ctx, name)
	if len(found) > 0 || err != nil {
		return found, err
	}
	return f.Search(ctx, name, SearchStep)
}

// Named finds the renewals that a name means by itself: SUBSCRIPTION/PERIOD, or a message ID SUBSCRIPTION/PERIOD/ATTEMPT.
func (f Finder) Named(ctx context.Context, name string) (found []messages.Renewal, err error) {
	for _, r := range splits(name) {
		at, err := f.Journal.Last(ctx, r)
		var unreadable *journal.UnreadableError
		if err != nil && !errors.As(err, &unreadable) {
			return nil, err
		}
		if at.Sequence != 0 || unreadable != nil {
			found = append(found, r)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if slash := strings.LastIndexByte(name, '/'); slash > 0 {
		for _, r := range splits(name[:slash]) {
			at, err := f.Journal.Last(ctx, r)
			var unreadable *journal.UnreadableError
			if errors.As(err, &unreadable) {
				return []messages.Renewal{r}, nil // whether it had this job is not known; that it cannot be read is worth knowing
			}
			if err != nil {
				return nil, err
			}
			if took(at.State, r, messages.MessageID(name)) {
				return []messages.Renewal{r}, nil
			}
		}
	}
	return nil, nil
}

// splits are the renewals that a text can name as SUBSCRIPTION/PERIOD; both may hold slashes.
func splits(text string) (keys []messages.Renewal) {
	for i := range len(text) {
		if text[i] == '/' && i > 0 && i < len(text)-1 {
			keys = append(keys, messages.NewRenewal(messages.SubscriptionID(text[:i]), messages.Period(text[i+1:])))
		}
	}
	return keys
}

// took says that a renewal has had a job of this message ID.
func took(s journal.State, r messages.Renewal, id messages.MessageID) bool {
	key := r.Key()
	return knows(s, messages.NewIdempotencyKey(key, id)) || knows(s, messages.NewCaptureKey(key, id))
}

func knows(s journal.State, k messages.IdempotencyKey) bool {
	_, settled := s.Settled[k]
	return settled || s.Claim != nil && s.Claim.Key == k
}

// SearchStep is how many records are read before the search stops if it has found something.
const SearchStep = 20_000

// Search reads the journal backwards for records of a message ID, step records at a time.
func (f Finder) Search(ctx context.Context, id string, step uint64) (found []messages.Renewal, err error) {
	found, _, err = f.search(ctx, id, step, math.MaxUint64)
	return found, err
}

// Recent looks for a message ID among the youngest records, and says whether these were all.
func (f Finder) Recent(ctx context.Context, id string) (found []messages.Renewal, all bool, err error) {
	return f.search(ctx, id, SearchStep, SearchStep)
}

// search reads at least most records, if there are as many, and says whether it has read all.
func (f Finder) search(ctx context.Context, id string, step, most uint64) (found []messages.Renewal, all bool, err error) {
	info, err := f.stream(ctx, messages.StreamJournal)
	if err != nil || info.State.Msgs == 0 {
		return nil, err == nil, err
	}
	set, done := f.Progress("journal searched", int64(info.State.Msgs))
	defer done()
	needle := quoted(id)
	read := int64(0)
	for high := info.State.LastSeq; len(found) == 0; {
		low := info.State.FirstSeq
		if high-low >= step {
			low = high - step + 1
		}
		config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: low}
		err := Scan(ctx, f.JetStream, messages.StreamJournal, config, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			if meta.Sequence.Stream > high {
				return ErrStop
			}
			read++
			set(read)
			if !bytes.Contains(m.Data(), needle) {
				return nil
			}
			found = append(found, f.belongs(m, id)...)
			return nil
		})
		if all = low == info.State.FirstSeq; all || err != nil || info.State.LastSeq-low >= most-1 {
			return Compact(found), all, err
		}
		high = low - 1
	}
	return Compact(found), false, nil
}

// belongs gives the renewals of a record with this message ID. What was filed under a stand-in, since its ID is in use
// for something else, has the renewal that it names beside its own place.
func (f Finder) belongs(m jetstream.Msg, id string) []messages.Renewal {
	record, err := messages.ParseRecordSubject(m.Subject())
	var about messages.Record
	if err != nil || json.Unmarshal(m.Data(), &about) != nil || about.ID != messages.MessageID(id) {
		return nil
	}
	if about.SubscriptionID == "" || about.Period == "" {
		return []messages.Renewal{record.Renewal}
	}
	return []messages.Renewal{messages.NewRenewal(about.SubscriptionID, about.Period), record.Renewal}
}

// Compact takes out repetitions and keeps the order.
func Compact(keys []messages.Renewal) []messages.Renewal {
	seen := map[messages.Renewal]bool{}
	return slices.DeleteFunc(keys, func(r messages.Renewal) bool {
		again := seen[r]
		seen[r] = true
		return again
	})
}

// quoted is a string as results write it.
func quoted(s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string always can be
	return bytes.TrimSpace(b.Bytes())
}

// Sought is whose jobs are looked for in the queue.
type Sought struct {
	ID           messages.MessageID
	Renewals     []messages.Renewal
	Subscription messages.SubscriptionID
	// Quick leaves a queue of more than [QuickQueue] jobs alone: what it holds would be an addition only.
	Quick bool
}

// are says that a job is one of them.
func (s Sought) are(j WaitingJob) bool {
	return s.ID != "" && j.ID == s.ID || slices.Contains(s.Renewals, j.Renewal) || s.Subscription != "" && j.SubscriptionID == s.Subscription
}

// Waiting looks through the queue for jobs, the oldest first. complete is false where the queue is too long to be looked through. A
// message ID stands for the renewals, too, that it can name as SUBSCRIPTION/PERIOD.
func (f Finder) Waiting(ctx context.Context, s Sought) (jobs []WaitingJob, complete bool, err error) {
	s.Renewals = append(splits(string(s.ID)), s.Renewals...)
	jobs, complete, err = f.queued(ctx, messages.StreamJobs, s)
	if err != nil {
		return nil, false, err
	}
	parked, all, err := f.queued(ctx, messages.StreamLater, s)
	if err == nil && !all {
		parked, err = f.parkedUnder(ctx, s)
	}
	return append(jobs, parked...), complete && all, err
}

// parkedUnder finds the early jobs of renewals and of a subscription, however many others wait.
func (f Finder) parkedUnder(ctx context.Context, s Sought) (jobs []WaitingJob, err error) {
	var filters []string
	for _, r := range s.Renewals {
		filters = append(filters, messages.ParkedRenewalFilter(r))
	}
	if s.Subscription != "" {
		filters = append(filters, messages.ParkedSubscriptionFilter(s.Subscription))
	}
	for _, filter := range filters {
		found, err := f.parked(ctx, filter)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, found...)
	}
	return jobs, nil
}

// ParkedOf finds the early jobs of a subscription.
func (f Finder) ParkedOf(ctx context.Context, subscription messages.SubscriptionID) ([]WaitingJob, error) {
	return f.parked(ctx, messages.ParkedSubscriptionFilter(subscription))
}

// Parked finds the early jobs of one renewal, which wait on subjects of its own.
func (f Finder) Parked(ctx context.Context, subscription messages.SubscriptionID, period messages.Period) ([]WaitingJob, error) {
	return f.parked(ctx, messages.ParkedRenewalFilter(messages.NewRenewal(subscription, period)))
}

func (f Finder) parked(ctx context.Context, filter string) (jobs []WaitingJob, err error) {
	stream, err := f.JetStream.Stream(ctx, messages.StreamLater)
	if err != nil {
		return nil, fmt.Errorf("bind stream %s: %w", messages.StreamLater, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", messages.StreamLater, err)
	}
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		m, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // due meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", messages.StreamLater, err)
		}
		jobs = append(jobs, readDue(messages.StreamLater, m))
	}
	return jobs, nil
}

func (f Finder) queued(ctx context.Context, name string, s Sought) (jobs []WaitingJob, complete bool, err error) {
	info, err := f.stream(ctx, name)
	if err != nil || info.State.Msgs == 0 {
		return nil, true, err
	}
	if s.Quick && info.State.Msgs > QuickQueue {
		return nil, false, nil
	}
	stream, err := f.JetStream.Stream(ctx, name)
	if err != nil {
		return nil, false, fmt.Errorf("bind stream %s: %w", name, err)
	}
	set, done := f.Progress("queue searched", int64(info.State.Msgs))
	defer done()

	// A work queue hands its messages to its one consumer only: everybody else asks for each by its place. Several at a
	// time, since every question is a round trip.
	const readers = 16
	var (
		read    atomic.Int64
		mu      sync.Mutex
		reading sync.WaitGroup
		first   = info.State.FirstSeq
		each    = (info.State.LastSeq-first)/readers + 1
	)
	for n := range uint64(readers) {
		low := first + n*each
		high := min(low+each-1, info.State.LastSeq)
		reading.Go(func() {
			for next := low; next <= high; {
				m, problem := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
				if errors.Is(problem, jetstream.ErrMsgNotFound) || problem == nil && m.Sequence > high {
					return
				}
				mu.Lock()
				if problem != nil {
					err = fmt.Errorf("read %s: %w", name, problem)
				} else if j := readDue(name, m); s.are(j) {
					jobs = append(jobs, j)
				}
				mu.Unlock()
				if problem != nil {
					return
				}
				set(read.Add(1))
				next = m.Sequence + 1
			}
		})
	}
	reading.Wait()
	slices.SortFunc(jobs, func(a, b WaitingJob) int { return int(int64(a.Sequence) - int64(b.Sequence)) })
	return jobs, true, err
}

func readDue(stream string, m *jetstream.RawStreamMsg) WaitingJob {
	job := sentAs(m.Subject)
	kind, name, _ := strings.Cut(strings.TrimPrefix(m.Subject, "renewals."), ".")
	published, header, until := m.Time, m.Header, time.Time{}
	if stream == messages.StreamLater {
		kind, name = "due", m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		until, _ = messages.ParkedUntil(m.Header)
		var at time.Time
		if header, at = messages.Unpark(m.Header); !at.IsZero() {
			published = at
		}
	}
	account, _ := messages.ParseAccount(name)
	r := job.read(m.Data, header)
	hash := journal.HashCharge(account, r.Job)
	if job == CaptureJob {
		hash = journal.HashCapture(account, r.Capture)
	}
	return WaitingJob{
		hash: hash, payload: journal.HashPayload(account, m.Data),
		Kind: kind, Stream: stream, Sequence: m.Sequence, Account: account, Misaddressed: misaddressed(m.Subject), Published: published, ParkedUntil: until, ID: r.Job.ID, SubscriptionID: r.Job.SubscriptionID,
		Period: r.Job.Period, Attempt: r.Job.Attempt, DueAt: r.Job.DueAt, OrderID: r.Capture.OrderID, Amount: r.Capture.CapturedAmount,
		Replay: m.Header.Get(messages.HeaderReplay), Job: job, Renewal: r.Renewal(), Key: r.IdempotencyKey,
	}
}

func (f Finder) stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	stream, err := f.JetStream.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s is missing; run `renewals provision`", name)
	}
	if err != nil {
		return nil, fmt.Errorf("bind stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}
