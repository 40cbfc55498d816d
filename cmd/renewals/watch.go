package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

type watchCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`

	Kind    []string `help:"Kinds to show: charging, pending, paid, dunning, unresolved, rejected, cancelled, capturing, captured, capture_failed. Default: all but charging and capturing." from:"command-line"`
	Account []string `help:"Accounts to show. Default: all." from:"command-line"`

	Subscription string `help:"The subscription to show, all its periods. Default: all of them." from:"command-line"`

	JSON  bool   `name:"json" help:"JSON Lines."`
	CSV   bool   `name:"csv" help:"As CSV, a row for each, for a spreadsheet." from:"command-line"`
	Since string `help:"Begin in the past: a duration, 90m or 7d, or a time, 2026-12-01T00:00:00Z. Default: now." from:"command-line"`
	Until string `help:"End there, written as --since. Default: when interrupted." from:"command-line"`

	ForwardTo *string `help:"Post each result to this URL, as a CloudEvent in binary mode, as you develop a consumer. One that is not answered, or by a 5xx, is posted again until it is, or until --until; the next ones wait. Exits 1 where one was refused, or not taken by --until." placeholder:"URL" from:"command-line"`
}

func (c *watchCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	wanted, err := c.wish(time.Now())
	if err != nil {
		return cli.Usage(err)
	}
	var forwarding *forwarder
	if c.ForwardTo != nil {
		if forwarding, err = newForwarder(*c.ForwardTo, t.beside(c.JSON || c.CSV)); err != nil {
			return err
		}
		forwarding.until = wanted.until
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	server.Follows = true
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	each := func(r record) error { return printRecord(t, r, c.JSON) }
	if c.CSV {
		each = recordRows(t.stdout)
	}
	if forwarding != nil {
		forwarding.begin()
		defer forwarding.end()
		each = forwarding.after(ctx, each)
	}
	err = wanted.watch(ctx, js, each)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && forwarding != nil {
		err = forwarding.problem()
	}
	return err
}

// A wish is which records somebody wants to see.
type wish struct {
	kinds        []messages.Kind
	accounts     []messages.Account // none: all
	subscription messages.SubscriptionID
	since        time.Time // zero: from now on
	until        time.Time // by the broker's clock; zero: for ever
}

// wish reads the flags.
func (c *watchCmd) wish(now time.Time) (w wish, err error) {
	if c.CSV && c.JSON {
		return w, errors.New("--csv: beside --json, expected one of them")
	}
	if w.since, err = momentOf("--since", c.Since, now); err != nil {
		return w, err
	}
	if w.until, err = momentOf("--until", c.Until, now); err != nil {
		return w, err
	}
	if from := cmp.Or(c.Since, "now"); !w.until.IsZero() && (w.since.IsZero() && w.until.Before(now) || w.until.Before(w.since)) {
		return w, fmt.Errorf("--until: %s is before --since, %s", c.Until, from)
	}
	w.kinds = slices.DeleteFunc(messages.Kinds(), isClaim)
	if len(c.Kind) > 0 {
		w.kinds = nil
	}
	for _, kind := range c.Kind {
		if !slices.Contains(messages.Kinds(), messages.Kind(kind)) {
			return w, fmt.Errorf("--kind: %q, expected one of %s", kind, join(messages.Kinds()))
		}
		w.kinds = append(w.kinds, messages.Kind(kind))
	}
	for _, name := range c.Account {
		account, err := messages.ParseAccount(name)
		if err != nil {
			return w, fmt.Errorf("--account: %w", err)
		}
		w.accounts = append(w.accounts, account)
	}
	if c.Subscription != "" {
		if w.subscription, err = messages.ParseSubscriptionID(c.Subscription); err != nil {
			return w, fmt.Errorf("--subscription: %w", err)
		}
	}
	return w, nil
}

// takes says that a record is one of them.
func (w wish) takes(a messages.RecordAddress) bool {
	of, _ := a.Renewal.Split()
	return slices.Contains(w.kinds, a.Kind) && (len(w.accounts) == 0 || slices.Contains(w.accounts, a.Account)) &&
		(w.subscription == "" || of == w.subscription)
}

// watch hands out what is wanted, the past first, until ctx ends. The consumer has no filter: to count what one takes, and to search for
// the next of it, the broker reads every block of the journal from the start on, while claims wait. A consumer without any is made from the
// sequences alone. A subscription's past is read by the names of its records instead of searched for among everybody's.
func (w wish) watch(ctx context.Context, js jetstream.JetStream, each func(record) error) error {
	config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy}
	switch {
	case w.since.IsZero():
	case w.subscription == "":
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &w.since
	default:
		past, last, err := w.past(ctx, js)
		if err != nil {
			return err
		}
		for _, r := range past {
			if err := each(r); err != nil {
				return err
			}
		}
		config = after(last)
	}
	if w.until.IsZero() {
		return follow(ctx, js, config, w.takes, each)
	}
	return w.followUntil(ctx, js, config, each)
}

// followUntil ends at the moment that somebody named, or, where that is past, at the end of the journal.
func (w wish) followUntil(ctx context.Context, js jetstream.JetStream, config jetstream.OrderedConsumerConfig, each func(record) error) error {
	if left := time.Until(w.until); left > 0 {
		ending, cancel := context.WithTimeout(ctx, left)
		defer cancel()
		err := follow(ending, js, config, w.takes, func(r record) error {
			config = after(r.sequence)
			return each(r)
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	err := desk.Scan(ctx, js, messages.StreamJournal, config, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if meta.Timestamp.After(w.until) {
			return desk.ErrStop
		}
		if a, err := messages.ParseRecordSubject(m.Subject()); err != nil || !w.takes(a) {
			return nil
		}
		r, err := readRecord(m)
		if err != nil {
			return err
		}
		return each(r)
	})
	if errors.Is(err, desk.ErrStop) {
		return nil
	}
	return err
}

// momentOf reads a flag that is a duration before now, or a time; zero where it is not set.
func momentOf(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	d, err := cli.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w, or a time such as 2026-12-01T00:00:00Z", flag, err)
	}
	return now.Add(-d), nil
}

// past reads the records that are wanted of a subscription, the oldest first, and says how far in the journal these are all.
func (w wish) past(ctx context.Context, js jetstream.JetStream) (past []record, last uint64, err error) {
	stream, err := js.Stream(ctx, messages.StreamJournal)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, 0, fmt.Errorf("stream %s is missing; run `renewals provision`", messages.StreamJournal)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("bind stream %s: %w", messages.StreamJournal, err)
	}
	last = stream.CachedInfo().State.LastSeq
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.SubscriptionFilter(w.subscription)))
	if err != nil {
		return nil, 0, fmt.Errorf("read the subjects of %s: %w", messages.StreamJournal, err)
	}
	for subject := range info.State.Subjects {
		if a, err := messages.ParseRecordSubject(subject); err != nil || !w.takes(a) {
			continue
		}
		one := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}}
		err := desk.Scan(ctx, js, messages.StreamJournal, one, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			if meta.Sequence.Stream > last || meta.Timestamp.Before(w.since) || !w.until.IsZero() && meta.Timestamp.After(w.until) {
				return nil
			}
			r, err := readRecord(m)
			past = append(past, r)
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(past, func(a, b record) int { return cmp.Compare(a.sequence, b.sequence) })
	return past, last, nil
}
