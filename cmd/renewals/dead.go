package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type deadCmd struct {
	List   deadListCmd   `cmd:"" help:"The jobs that no machine can finish."`
	Show   deadShowCmd   `cmd:"" help:"One of them, whole."`
	Replay deadReplayCmd `cmd:"" help:"Publish them again, past the same checks and under the same key."`
	Drop   deadDropCmd   `cmd:"" help:"Forget them."`
}

// letterFilter picks dead letters by what is in their headers.
type letterFilter struct {
	Account []string `help:"Accounts. Default: all." from:"command-line"`
	Reason  []string `help:"Reasons, such as invalid or already_paid. Default: all." from:"command-line"`
}

func (f letterFilter) check() error {
	for _, name := range f.Account {
		if _, err := messages.ParseAccount(name); err != nil {
			return usagef("--account: %w", err)
		}
	}
	known := slices.Concat(messages.Reasons(messages.KindRejected), messages.Reasons(messages.KindUnresolved), needRefund())
	for _, reason := range f.Reason {
		if !slices.Contains(known, messages.Reason(reason)) {
			return usagef("--reason: %q, expected one of %s", reason, join(known))
		}
	}
	return nil
}

func (f letterFilter) takes(l letter) bool {
	return (len(f.Account) == 0 || slices.Contains(f.Account, string(l.Account))) &&
		(len(f.Reason) == 0 || slices.Contains(f.Reason, string(l.Reason)))
}

// needRefund are the reasons of letters about an order or a capture too many.
func needRefund() []messages.Reason {
	return []messages.Reason{messages.ReasonOrderAfterDunning, messages.ReasonSecondOrder, messages.ReasonCaptureAfterFailure}
}

// letter is a dead letter with its job.
type letter struct {
	messages.DeadLetter
	sequence uint64
	subject  string
	key      messages.IdempotencyKey
	stored   time.Time
	header   nats.Header
	payload  []byte
	job      jobKind
	reading  jobReading
	fault    error // it was not written by a worker
}

func readLetter(sequence uint64, subject string, stored time.Time, header nats.Header, payload []byte) letter {
	l := letter{sequence: sequence, subject: subject, stored: stored, header: header, payload: payload}
	key, account, err := messages.ParseDeadSubject(subject)
	if err == nil {
		l.key = key
		l.DeadLetter, err = messages.ParseDeadLetter(header)
	}
	l.job = kindOf(l.Subject)
	if err == nil && l.Subject != "" && l.Subject != l.job.subject(l.Account) {
		err = fmt.Errorf("read header %s: found %.80q, expected %s or %s", messages.HeaderSubject, l.Subject, chargeJob.subject(l.Account), captureJob.subject(l.Account))
	}
	if err != nil {
		l.fault = err
		l.DeadLetter = messages.DeadLetter{Account: account, At: stored}
	}
	// The headers as the worker read them: of a replayed job the fresh Nats-Msg-Id is not its ID.
	l.reading = l.job.read(payload, l.Original)
	return l
}

// renewal is where the journal has the job: under its stand-in where its own identity is not its own.
func (l letter) renewal() messages.RenewalKey {
	if l.reading.Identified && l.reading.IdempotencyKey == l.key {
		return l.reading.RenewalKey
	}
	return messages.RenewalKey(l.key)
}

// unresolved says that the letter is about a charge or a capture that may have been made. A poison job can be of either kind: only the
// journal knows.
func (l letter) unresolved() bool {
	return slices.Contains(messages.Reasons(messages.KindUnresolved), l.Reason)
}

// refusal says why a dead letter is not replayed and what to do in its place; "" when it may be. s is its renewal's state.
func (l letter) refusal(s journal.State) string {
	settled := s.Settled[l.key]
	tooMany, done := "an order was made that no result names: refund or cancel it", "charged"
	if l.job == captureJob {
		tooMany, done = "a capture was made that no result names: refund it", "captured"
	}
	switch {
	case l.fault != nil:
		return "not written by a worker: " + l.fault.Error()
	case slices.Contains(needRefund(), l.Reason):
		return fmt.Sprintf("%s in Klarna's portal, then `renewals dead drop %d`", tooMany, l.sequence)
	case settled.Kind != "" && settled.Kind != messages.KindRejected && settled.Kind != messages.KindUnresolved:
		return fmt.Sprintf("its job is settled as %s already: `renewals dead drop %d`", settled.Kind, l.sequence)
	case settled.Kind == messages.KindUnresolved, l.unresolved() && settled.Kind != messages.KindRejected:
		return fmt.Sprintf("it may have been %s: look it up in Klarna's portal, then `renewals resolve %s`", done, argument(l.name()))
	}
	return ""
}

// name is what an operator calls the job by.
func (l letter) name() string {
	if l.reading.Identified {
		return string(l.reading.Job.SubscriptionID) + "/" + string(l.reading.Job.Period)
	}
	return string(l.reading.Job.ID)
}

// entry is a dead letter as JSON.
type entry struct {
	Sequence       uint64                  `json:"sequence"`
	Account        messages.Account        `json:"account"`
	Reason         messages.Reason         `json:"reason"`
	Job            jobKind                 `json:"job"`
	ID             messages.MessageID      `json:"id,omitempty"`
	SubscriptionID messages.SubscriptionID `json:"subscription_id,omitempty"`
	Period         messages.Period         `json:"period,omitempty"`
	IdempotencyKey messages.IdempotencyKey `json:"idempotency_key,omitempty"`
	At             time.Time               `json:"at"`
	Errors         []messages.Problem      `json:"errors,omitempty"`
	JobSequence    uint64                  `json:"job_sequence,omitempty"` // in RENEWALS
	Fault          string                  `json:"fault,omitempty"`
}

func (l letter) entry() entry {
	e := entry{
		Sequence: l.sequence, Account: l.Account, Reason: l.Reason, Job: l.job, ID: l.reading.Job.ID, SubscriptionID: l.reading.Job.SubscriptionID,
		Period: l.reading.Job.Period, IdempotencyKey: l.key, At: l.At, Errors: l.Errors, JobSequence: l.Sequence,
	}
	if l.fault != nil {
		e.Fault = l.fault.Error()
	}
	return e
}

// deadLetters is the stream of them.
type deadLetters struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

func openDeadLetters(ctx context.Context, js jetstream.JetStream) (deadLetters, error) {
	stream, err := js.Stream(ctx, messages.StreamDead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return deadLetters{}, fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamDead)
	}
	if err != nil {
		return deadLetters{}, fmt.Errorf("bind stream %s: %w", messages.StreamDead, err)
	}
	return deadLetters{js, stream}, nil
}

// errGone means that a dead letter was there once.
var errGone = errors.New("replayed, resolved or dropped before")

// get reads one.
func (d deadLetters) get(ctx context.Context, sequence uint64) (letter, error) {
	m, err := d.stream.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound) && sequence <= d.stream.CachedInfo().State.LastSeq && sequence > 0:
		return letter{}, errGone
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return letter{}, usagef("SEQ: %d, expected a sequence that `renewals dead list` shows", sequence)
	case err != nil:
		return letter{}, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	return readLetter(m.Sequence, m.Subject, m.Time, m.Header, m.Data), nil
}

// of reads those of one job.
func (d deadLetters) of(ctx context.Context, key messages.IdempotencyKey) (letters []letter, err error) {
	for next := uint64(1); ; {
		m, err := d.stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(messages.DeadSubject(key, "*")))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return letters, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the dead letters of key %s: %w", key, err)
		}
		letters = append(letters, readLetter(m.Sequence, m.Subject, m.Time, m.Header, m.Data))
		next = m.Sequence + 1
	}
}

// all hands out those there are now that a filter takes, the oldest first.
func (d deadLetters) all(ctx context.Context, filter letterFilter, each func(letter) error) error {
	return scan(ctx, d.js, messages.StreamDead, jetstream.OrderedConsumerConfig{}, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		l := readLetter(meta.Sequence.Stream, m.Subject(), meta.Timestamp, m.Headers(), m.Data())
		if !filter.takes(l) {
			return nil
		}
		return each(l)
	})
}

// drop deletes one. One that is gone is no error.
func (d deadLetters) drop(ctx context.Context, sequence uint64) error {
	err := d.stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	if _, gone := d.stream.GetMsg(ctx, sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // its answer was lost, or somebody else was faster
	}
	return fmt.Errorf("drop dead letter %d: %w", sequence, err)
}

// deadLetters opens the dead letters for one command.
func (n natsSettings) deadLetters(ctx context.Context, s *settings, t *terminal, l logSettings) (context.Context, deadLetters, error) {
	server, err := n.server(s)
	if err != nil {
		return nil, deadLetters{}, err
	}
	ctx, js, err := server.connect(ctx, l.logger(t))
	if err != nil {
		return nil, deadLetters{}, err
	}
	d, err := openDeadLetters(ctx, js)
	if err != nil {
		js.Conn().Close()
	}
	return ctx, d, err
}

type deadListCmd struct {
	NATS   natsSettings `embed:""`
	Log    logSettings  `embed:""`
	Filter letterFilter `embed:""`
	JSON   bool         `name:"json" help:"JSON Lines."`
}

func (c *deadListCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.Filter.check(); err != nil {
		return err
	}
	ctx, d, err := c.NATS.deadLetters(ctx, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.js.Conn().Close()
	n, now := 0, time.Now()
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	err = d.all(ctx, c.Filter, func(l letter) error {
		n++
		if c.JSON {
			return json.NewEncoder(t.stdout).Encode(l.entry())
		}
		if n == 1 {
			fmt.Fprintln(table, "SEQ\tAGE\tACCOUNT\tJOB\tREASON\tID\tWHY")
		}
		_, err := fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", l.sequence, lapse(now.Sub(l.At)), printable(cmp.Or(string(l.Account), "-")),
			l.job, printable(cmp.Or(string(l.Reason), "-")), printable(cmp.Or(string(l.reading.Job.ID), "-")), l.why())
		return err
	})
	if err == nil {
		err = table.Flush()
	}
	if err == nil && n == 0 {
		fmt.Fprintln(t.stderr, "no dead letters")
	}
	return err
}

// why is the first thing that is wrong.
func (l letter) why() string {
	switch {
	case l.fault != nil:
		return printable("not written by a worker: " + l.fault.Error())
	case len(l.Errors) == 0:
		return ""
	case len(l.Errors) > 1:
		return printable(fmt.Sprintf("%s: %s (and %d more)", l.Errors[0].Path, l.Errors[0].Message, len(l.Errors)-1))
	}
	return printable(l.Errors[0].Path + ": " + l.Errors[0].Message)
}

type deadShowCmd struct {
	NATS        natsSettings `embed:""`
	Log         logSettings  `embed:""`
	Sequence    uint64       `arg:"" name:"seq" help:"Its sequence, from renewals dead list."`
	RevealToken bool         `help:"Show the customer token: whoever has it can charge." from:"command-line"`
	JSON        bool         `name:"json" help:"As JSON, the payload as a string."`
}

func (c *deadShowCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	ctx, d, err := c.NATS.deadLetters(ctx, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.js.Conn().Close()
	l, err := d.get(ctx, c.Sequence)
	if errors.Is(err, errGone) {
		return fmt.Errorf("dead letter %d is gone: %w", c.Sequence, err)
	}
	if err != nil {
		return err
	}
	hide := redaction{}
	if !c.RevealToken {
		hide = redactionOf(l.payload)
	}
	header := nats.Header{}
	for name, values := range l.header {
		for _, v := range values {
			header[name] = append(header[name], hide.text(v))
		}
	}
	payload := hide.payload(l.payload)
	if c.JSON {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(struct {
			entry
			Subject string      `json:"subject"`
			Stored  time.Time   `json:"stored_at"`
			Headers nats.Header `json:"headers"`
			Payload string      `json:"payload"`
		}{l.entry(), l.subject, l.stored, header, string(payload)})
	}
	fmt.Fprintf(t.stdout, "sequence %d of %s, stored %s, %s ago\nsubject %s\n\n", l.sequence, messages.StreamDead, clock(l.stored), lapse(time.Since(l.stored)), printable(l.subject))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			fmt.Fprintf(t.stdout, "%s: %s\n", printable(name), printable(v))
		}
	}
	fmt.Fprintln(t.stdout)
	return printPayload(t.stdout, payload)
}

// letterChoice says which dead letters are meant.
type letterChoice struct {
	Sequences []uint64     `arg:"" optional:"" name:"seq" help:"Sequences, from renewals dead list."`
	All       bool         `help:"All that --account and --reason leave." from:"command-line"`
	Filter    letterFilter `embed:""`
	JSON      bool         `name:"json" help:"What became of each, as JSON Lines."`
}

func (c letterChoice) check() error {
	switch {
	case c.All && len(c.Sequences) > 0:
		return usagef("SEQ: given beside --all, expected one of them")
	case !c.All && len(c.Sequences) == 0:
		return usagef("SEQ: none, expected sequences of `renewals dead list`, or --all")
	case !c.All && len(c.Filter.Account)+len(c.Filter.Reason) > 0:
		return usagef("--account, --reason: for --all only")
	}
	return c.Filter.check()
}

// read collects the sequences of what was chosen, counted by reason: what a replay brings forth is not among them.
// Payloads are read again one by one, since all of them may be more than memory holds.
func (c letterChoice) read(ctx context.Context, d deadLetters) (sequences []uint64, reasons map[string]int, err error) {
	reasons = map[string]int{}
	note := func(l letter) error {
		sequences = append(sequences, l.sequence)
		reasons[cmp.Or(string(l.Reason), "unreadable")]++
		return nil
	}
	if c.All {
		return sequences, reasons, d.all(ctx, c.Filter, note)
	}
	for _, sequence := range slices.Compact(slices.Sorted(slices.Values(c.Sequences))) {
		switch l, err := d.get(ctx, sequence); {
		case errors.Is(err, errGone):
			sequences = append(sequences, sequence) // to be reported in its turn
		case err != nil:
			return nil, nil, err
		default:
			_ = note(l)
		}
	}
	return sequences, reasons, nil
}

// fates tells what became of each of many dead letters: the odd ones as they come, all of them as JSON, the sum in the end.
type fates struct {
	t      *terminal
	asJSON bool
	bar    *progress
	counts map[string]int
	seen   int64
	failed bool
}

func newFates(t *terminal, asJSON bool, label string, total int) *fates {
	return &fates{t: t, asJSON: asJSON, bar: newProgress(t.stderr, label, int64(total)), counts: map[string]int{}}
}

// tell notes one fate; why is there where it is not what was asked for.
func (f *fates) tell(l letter, fate, why string) {
	f.counts[fate]++
	f.seen++
	f.bar.set(f.seen)
	if f.asJSON {
		encoder := json.NewEncoder(f.t.stdout)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(struct {
			Sequence uint64             `json:"sequence"`
			ID       messages.MessageID `json:"id,omitempty"`
			Fate     string             `json:"fate"`
			Why      string             `json:"why,omitempty"`
		}{l.sequence, l.reading.Job.ID, fate, why})
		return
	}
	if why != "" {
		f.bar.printf("%d: %s: %s: %s\n", l.sequence, printable(cmp.Or(string(l.reading.Job.ID), "-")), fate, printable(why))
	}
}

func (f *fates) close(nothing string) error {
	f.bar.done()
	if !f.asJSON {
		fmt.Fprintln(f.t.stdout, cmp.Or(counted(f.counts), nothing))
	}
	if f.failed {
		return errReported
	}
	return nil
}

type deadReplayCmd struct {
	NATS   natsSettings `embed:""`
	Log    logSettings  `embed:""`
	Choice letterChoice `embed:""`
	Yes    bool         `help:"Do not ask." from:"command-line"`
}

func (c *deadReplayCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.Choice.check(); err != nil {
		return err
	}
	ctx, f, err := c.NATS.finder(ctx, s, t, c.Log.logger(t))
	if err != nil {
		return err
	}
	defer f.js.Conn().Close()
	d, err := openDeadLetters(ctx, f.js)
	if err != nil {
		return err
	}
	sequences, reasons, err := c.Choice.read(ctx, d)
	if err != nil {
		return err
	}
	// Without a terminal nobody is asked: a replay passes every check of a fresh job and keeps its key, so a mistaken one
	// charges nothing that may not be charged.
	if len(sequences) > 0 && !c.Yes && isTerminal(t.stdin) && !t.confirm(fmt.Sprintf("Publish %d jobs again (%s)? What passes the checks is charged or captured.", len(sequences), counted(reasons))) {
		fmt.Fprintln(t.stderr, "nothing was changed")
		return errReported
	}
	told := newFates(t, c.Choice.JSON, "replayed", len(sequences))
	for _, sequence := range sequences {
		if err := c.replay(ctx, f.journal, d, sequence, told); err != nil {
			return errors.Join(err, told.close("nothing was replayed"))
		}
	}
	return told.close("nothing to replay")
}

// replay publishes one job again and drops its dead letter. Whatever ends it between the two, the next run makes it good:
// JetStream drops the second publish within the hour, and later the journal knows the replay by its sequence.
func (c *deadReplayCmd) replay(ctx context.Context, records *journal.Journal, d deadLetters, sequence uint64, told *fates) error {
	l, err := d.get(ctx, sequence)
	if errors.Is(err, errGone) {
		told.tell(letter{sequence: sequence}, "gone", err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	var state journal.State
	if l.fault == nil {
		at, err := records.Last(ctx, l.renewal())
		if err != nil {
			return err
		}
		state = at.State
	}
	if why := l.refusal(state); why != "" {
		told.tell(l, "refused", why)
		// Among many they are expected to be left over.
		told.failed = told.failed || !c.Choice.All
		return nil
	}
	switch err := l.publish(ctx, d.js); {
	case tooLarge(err):
		told.tell(l, "refused", fmt.Sprintf("too large for %s, it can never be charged: `renewals dead drop %d`", messages.StreamJobs, l.sequence))
		told.failed = told.failed || !c.Choice.All
		return nil
	case err != nil:
		return fmt.Errorf("replay dead letter %d: %w; run the same command again, nothing is charged twice", l.sequence, err)
	}
	if err := d.drop(ctx, l.sequence); err != nil {
		return fmt.Errorf("%w; its job is published, run the same command again", err)
	}
	told.tell(l, "replayed", "")
	return nil
}

// replayID is the Nats-Msg-Id of a replay: the same for the same dead letter, whoever replays it and how often. The time
// tells a stream that was made anew from the one before.
func (l letter) replayID() string {
	return fmt.Sprintf("%s/%d/%d", messages.StreamDead, l.sequence, l.stored.UnixNano())
}

func (l letter) publish(ctx context.Context, js jetstream.JetStream) error {
	m := &nats.Msg{Subject: l.job.subject(l.Account), Header: l.Replay(l.sequence, l.replayID()), Data: l.payload}
	var err error
	for range publishAttempts {
		one, cancel := context.WithTimeout(ctx, publishTimeout)
		_, err = js.PublishMsg(one, m)
		cancel()
		if err == nil || tooLarge(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// tooLarge says that a stream or a server will never take a message.
func tooLarge(err error) bool {
	const streamMessageExceedsMaximum jetstream.ErrorCode = 10054
	var refused *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &refused) && refused.ErrorCode == streamMessageExceedsMaximum
}

type deadDropCmd struct {
	NATS   natsSettings `embed:""`
	Log    logSettings  `embed:""`
	Choice letterChoice `embed:""`
	Yes    bool         `help:"Do not ask." from:"command-line"`
}

func (c *deadDropCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	if err := c.Choice.check(); err != nil {
		return err
	}
	ctx, d, err := c.NATS.deadLetters(ctx, s, t, c.Log)
	if err != nil {
		return err
	}
	defer d.js.Conn().Close()
	sequences, reasons, err := c.Choice.read(ctx, d)
	if err != nil {
		return err
	}
	if len(sequences) > 0 {
		if err := t.agreed(c.Yes, fmt.Sprintf("Drop %d dead letters (%s)? Their jobs are lost; what is unresolved stays so.", len(sequences), counted(reasons))); err != nil {
			return err
		}
	}
	told := newFates(t, c.Choice.JSON, "dropped", len(sequences))
	for _, sequence := range sequences {
		l, err := d.get(ctx, sequence)
		switch {
		case errors.Is(err, errGone):
			told.tell(letter{sequence: sequence}, "gone", err.Error())
			continue
		case err == nil:
			err = d.drop(ctx, sequence)
		}
		if err != nil {
			return errors.Join(err, told.close("nothing was dropped"))
		}
		told.tell(l, "dropped", "")
	}
	return told.close("nothing to drop")
}

// printPayload writes a payload for a person, line by line so that nothing in it steers the terminal.
func printPayload(w io.Writer, payload []byte) error {
	for line := range strings.Lines(indented(payload)) {
		if _, err := fmt.Fprintln(w, printable(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "  "))); err != nil {
			return err
		}
	}
	return nil
}
