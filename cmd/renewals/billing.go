package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// billing is a billing system as small as one can be: it publishes each period when that is due, another attempt when one was
// suggested, and the next period once one is paid. It goes by the clock that the worker goes by.
type billing struct {
	clock   *timelapse
	publish func(context.Context, messages.Job) error

	mu      sync.Mutex
	planned map[messages.MessageID]plan // what is to be published
	waiting map[messages.MessageID]plan // what has no result yet
	open    map[messages.Renewal]bool   // what a worker is at, whoever published it
}

type plan struct {
	at     time.Time
	job    messages.Job
	run    string
	name   string
	first  string // what Klarna does to the first attempt at a period
	amount product
}

const billEvery = 200 * time.Millisecond

// newBilling has subscribers whose periods fall due all over the month, some of whom do not pay at once.
func newBilling(clock *timelapse, publish func(context.Context, messages.Job) error) *billing {
	b := &billing{clock: clock, publish: publish, planned: map[messages.MessageID]plan{}, waiting: map[messages.MessageID]plan{}, open: map[messages.Renewal]bool{}}
	const subscribers = 20
	run, premium := newRun(), product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}
	for i := range subscribers {
		first := map[int]string{1: "unavailable", 4: "soft-decline", 8: "503x1-ok", 12: "created-500-ok", 16: "cancelled"}[i]
		if first == "" {
			first = "ok"
		}
		p := plan{run: run, name: fmt.Sprintf("subscriber-%02d", i), first: first, amount: premium}
		b.plan(p.period(clock.now().UTC().Add(time.Duration(i) * 36 * time.Hour)))
	}
	return b
}

// period is the plan for the one that falls due then.
func (p plan) period(due time.Time) plan {
	if day := due.Day(); day > 28 { // which every month has
		due = due.AddDate(0, 0, 28-day)
	}
	p.job = charge(p.run, p.name, p.first, p.amount, due)
	p.at = p.job.DueAt
	return p
}

// again is the plan for another attempt, with the token of a customer who has done something about the last.
func (p plan) again(at time.Time) plan {
	p.job.Attempt++
	p.job.ID = messageID(p.job)
	p.job.CustomerToken = messages.NewCustomerToken("ok-" + string(p.job.SubscriptionID))
	p.at = at
	return p
}

func (b *billing) plan(p plan) { b.planned[p.job.ID] = p }

// bill publishes what is due until ctx ends.
func (b *billing) bill(ctx context.Context) error {
	tick := time.NewTicker(billEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, p := range b.due() {
			if err := b.publish(ctx, p.job); err != nil && ctx.Err() == nil {
				return errors.Join(errors.New("the samples' billing has ended"), err)
			}
		}
	}
}

func (b *billing) due() []plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []plan
	for id, p := range b.planned {
		if !p.at.After(b.clock.now()) {
			due = append(due, p)
			b.waiting[id] = p
			delete(b.planned, id)
		}
	}
	return due
}

// next is when something is to be published, zero while anything is under way.
func (b *billing) next() (at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(b.open) > 0 {
		return time.Time{}
	}
	for _, p := range b.planned {
		if at.IsZero() || p.at.Before(at) {
			at = p.at
		}
	}
	return at
}

// take plans what follows from a record.
func (b *billing) take(r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	renewal := messages.NewRenewal(r.SubscriptionID, r.Period)
	if isClaim(r.Kind) {
		b.open[renewal] = true
		return
	}
	delete(b.open, renewal)
	p, ours := b.waiting[r.ID]
	if !ours || r.Kind == messages.KindPending {
		return
	}
	delete(b.waiting, r.ID)
	switch {
	case r.Kind == messages.KindPaid:
		b.plan(p.period(p.job.DueAt.AddDate(0, 1, 0)))
	case r.Kind == messages.KindDunning && r.NextAttemptAt != nil:
		b.plan(p.again(*r.NextAttemptAt))
	} // else the subscription has ended
}
