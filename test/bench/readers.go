//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

// A reader is somebody who looks at the journal while it is charged.
type reader struct {
	name  string
	limit time.Duration // it is stopped then
	// rounds is how often it reads one after the other, where once is too short to meet many claims. The longest counts.
	rounds int
	bar    time.Duration // what it may take; 0: as long as it likes
	read   func(context.Context, *world) error
	// renewals are those that are claimed meanwhile; nil: new ones.
	renewals []int
	// foreign is one that is measured for comparison: nothing here reads like that.
	foreign bool
}

// readers are all that look at a journal, and at the end those of other teams.
func (w *world) readers(g growing, middle time.Time) []reader {
	one := func(name string, limit time.Duration, want int, args ...string) reader {
		return reader{name: name, limit: limit, read: command(w.tools.renewals, want, func(int) []string { return args })}
	}
	// Each shows another renewal, from all over the journal.
	show := func(name string, bar time.Duration, of func(subscription string) string) reader {
		return reader{name: name, limit: g.looks, rounds: 20, bar: bar, read: command(w.tools.renewals, 0, func(round int) []string {
			return []string{"show", of(subscription(g.renewals * (2*round + 1) / 40))}
		})}
	}
	status := one("status", g.looks, 1, "status") // no worker is live: somebody is needed
	status.rounds, status.bar = 20, time.Second
	oldest := one("show SUBSCRIPTION/PERIOD, the oldest", g.looks, 0, "show", subscription(0)+"/"+string(period))
	oldest.bar = time.Second / 2
	since := "--since=" + middle.UTC().Format(time.RFC3339Nano)
	all := []reader{
		{name: "nobody reads", limit: g.looks / 3, read: func(ctx context.Context, _ *world) error { <-ctx.Done(); return nil }},
		oldest,
		show("show SUBSCRIPTION/PERIOD, 20 of them", time.Second/2, func(s string) string { return s + "/" + string(period) }),
		show("show SUBSCRIPTION, 20 of them", 0, func(s string) string { return s }),
		show("show a message ID, 20 of them", 0, func(s string) string { return s + "/" + string(period) + "/1" }),
		one("show what is unknown", g.searches, 1, "show", "nobody"),
		status,
		one("watch, since a year ago", g.looks, 0, "watch", "--since=365d"),
		one("watch, since the middle", g.looks, 0, "watch", since),
		one("watch, one kind that is rare, since the middle", g.looks, 0, "watch", since, "--kind=dunning"),
		one("watch, one subscription, since the middle", g.looks, 0, "watch", since, "--subscription="+subscription(g.renewals-1)),
	}
	return append(all,
		reader{name: "the books are brought up to date, from the beginning", limit: g.looks, read: syncing(w.tools.desk, filepath.Join(w.dir, "books.db"))},
		reader{name: "the books follow", limit: g.looks, read: following},
		reader{name: "a consumer with two filters, since the middle", limit: g.looks, foreign: true, read: consumer(jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &middle,
			FilterSubjects: []string{messages.RecordFilter(messages.KindPaid, "*"), messages.RecordFilter(messages.KindDunning, "*")},
		})},
		reader{name: "a consumer with one filter, since the middle", limit: g.looks, foreign: true, read: consumer(jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &middle, FilterSubjects: []string{messages.RecordFilter(messages.KindDunning, "*")},
		})},
		reader{name: "a consumer without a filter, since the middle", limit: g.looks, read: consumer(jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &middle,
		})},
		reader{name: "the results are mirrored, from the beginning", limit: g.looks, read: mirrored(0, results())},
		reader{name: "the mirror of the results comes back, from the middle", limit: g.looks, read: mirrored(uint64(g.renewals), results())},
		reader{name: "a mirror of everything comes back, from the middle", limit: g.looks, read: mirrored(uint64(g.renewals), nil)},
	)
}

// oldClaims are attempts and captures of renewals that the journal has long had: each meets a block that nobody has in memory.
func (w *world) oldClaims(g growing) []reader {
	wait := func(ctx context.Context, _ *world) error { <-ctx.Done(); return nil }
	drawn := rand.Perm(g.renewals)
	random, ordered := drawn[:g.old], slices.Sorted(slices.Values(drawn[g.old:2*g.old])) // not the same ones: the second claim would meet the first
	limit := time.Duration(g.old) * time.Second / claimPace
	return []reader{
		{name: "claims of old renewals, in random order", limit: limit, read: wait, renewals: random},
		{name: "claims of old renewals, in the journal's order", limit: limit, read: wait, renewals: ordered},
	}
}

// syncing brings books up to date, and goes on where it was told so.
func syncing(desk, file string, more ...string) func(context.Context, *world) error {
	return command(desk, 0, func(int) []string { return append([]string{"sync", "--books=" + file}, more...) })
}

// following keeps books up to date that know of the last record already, and goes on until it is stopped.
func following(ctx context.Context, w *world) error {
	stream, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	m, err := stream.GetMsg(ctx, info.State.LastSeq)
	if err != nil {
		return fmt.Errorf("read the last record: %w", err)
	}
	file := filepath.Join(w.dir, "following.db")
	writer, err := books.Create(file, "the benchmark")
	if err != nil {
		return err
	}
	last := books.Read(books.Record{Sequence: m.Sequence, Stored: m.Time, Subject: m.Subject, State: m.Header.Get(messages.HeaderState), EventID: m.Header.Get("ce-id"), Body: m.Data})
	err = writer.Add(ctx, info.Created.UTC().Format(time.RFC3339Nano), []books.Row{last})
	if err := errors.Join(err, writer.Close()); err != nil {
		return err
	}
	return syncing(w.tools.desk, file, "--follow")(ctx, w)
}

// consumer is another team's; it reads until it is stopped.
func consumer(config jetstream.OrderedConsumerConfig) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		c, err := w.js.OrderedConsumer(ctx, messages.StreamJournal, config)
		if err != nil {
			return fmt.Errorf("make a consumer: %w", err)
		}
		records, err := c.Messages()
		if err != nil {
			return err
		}
		defer records.Stop()
		for {
			if _, err := records.Next(jetstream.NextContext(ctx)); err != nil {
				return err
			}
		}
	}
}

// results leaves the claims out, as deploy/nats/results.json does.
func results() (all []jetstream.SubjectTransformConfig) {
	for _, kind := range messages.Kinds() {
		if !kind.Claims() {
			all = append(all, jetstream.SubjectTransformConfig{Source: messages.RecordFilter(kind, "*")})
		}
	}
	return all
}

// mirrored makes a stream that other teams read. One that was away asks for what it has missed as one does that begins there.
func mirrored(from uint64, what []jetstream.SubjectTransformConfig) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		const name = "RESULTS"
		source := &jetstream.StreamSource{Name: messages.StreamJournal, OptStartSeq: from, SubjectTransforms: what}
		if _, err := w.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Mirror: source}); err != nil {
			return err
		}
		<-ctx.Done()
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return w.js.DeleteStream(one, name)
	}
}

// A sight is what a reader came to, and the claims beside it.
type sight struct {
	took    time.Duration
	stopped bool // it would have gone on
	claims  []time.Duration
	failed  int
	cpu     time.Duration // of the broker
	peak    int64         // its memory
}

func (s sight) row(r reader) []string {
	took, bar, claimBar := fmt.Sprintf("%.2f s", s.took.Seconds()), "", verdict(longest(s.claims), longestClaim)
	if s.stopped {
		took = "(" + took + ")"
	}
	if r.bar > 0 {
		bar = verdict(s.took, r.bar)
	}
	if r.foreign {
		claimBar = "not ours"
	}
	slices.Sort(s.claims)
	return []string{
		r.name, took, bar, fmt.Sprintf("%.0f ms", milliseconds(longest(s.claims))), claimBar, fmt.Sprintf("%.1f ms", milliseconds(share(s.claims, 99))),
		fmt.Sprint(s.failed), fmt.Sprintf("%.1f s", s.cpu.Seconds()), fmt.Sprintf("%.0f", mebibytes(s.peak)),
	}
}

// verdict compares with a bar.
func verdict(got, bar time.Duration) string {
	word := "met"
	if got > bar {
		word = "missed"
	}
	return fmt.Sprintf("≤ %g s %s", bar.Seconds(), word)
}

func longest(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return slices.Max(of)
}

// share is what so many of a hundred are at most, of durations in order.
func share(of []time.Duration, percent int) time.Duration {
	if len(of) == 0 {
		return 0
	}
	return of[min(len(of)*percent/100, len(of)-1)]
}
