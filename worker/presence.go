package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

const (
	presenceEvery = 5 * time.Second
	presenceTTL   = 15 * time.Second // of every key in the bucket
	presenceKey   = "worker."
)

// A Presence is what a live worker says of itself every 5 seconds, for the
// others and for `renewals status`.
type Presence struct {
	Name     string                               `json:"name"`
	Started  time.Time                            `json:"started"`
	At       time.Time                            `json:"at"` // by the clock of the worker's machine
	Accounts map[messages.Account]AccountPresence `json:"accounts"`
	Paused   map[string]string                    `json:"paused,omitempty"` // reasons for the whole worker, each with a sentence
	// Expiring counts, where this worker sweeps, the orders with money left to
	// capture whose authorisation ends within 3 days.
	Expiring map[messages.Account]int `json:"uncaptured_expiring,omitempty"`
}

// AccountPresence is one account's part of it.
type AccountPresence struct {
	InFlight int               `json:"in_flight"`
	Rate     float64           `json:"rate"`             // this worker's share, requests/s; 0: unlimited
	Paused   map[string]string `json:"paused,omitempty"` // reasons, each with a sentence
	// NearlyFull are the account's consumers of which 80 % of max_ack_pending or more are taken, as a share of 1.
	NearlyFull map[string]float64 `json:"ack_pending_ratio,omitempty"`
}

// Workers lists the live workers.
func Workers(ctx context.Context, js jetstream.JetStream) ([]Presence, error) {
	bucket, err := js.KeyValue(ctx, BucketWorkers)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w%s", BucketWorkers, err, hint(err))
	}
	watch, err := bucket.Watch(ctx, presenceKey+"*", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read bucket %s: %w", BucketWorkers, err)
	}
	defer func() { _ = watch.Stop() }()
	var live []Presence
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read bucket %s: %w", BucketWorkers, ctx.Err())
		case entry, ok := <-watch.Updates():
			if !ok || entry == nil {
				return live, nil
			}
			var p Presence
			if json.Unmarshal(entry.Value(), &p) == nil {
				live = append(live, p)
			}
		}
	}
}

// presence tells the others of this worker, counts them, and shares the rates.
type presence struct {
	*Worker
	bucket    jetstream.KeyValue
	accounts  []*account
	started   time.Time
	seen      map[string]sighting
	announced string     // the pauses that the last entry told of
	sent      comparison // our clocks when it was sent
}

type sighting struct {
	at       time.Time // by the monotonic clock of this machine
	accounts map[messages.Account]AccountPresence
}

func (p *presence) run(ctx context.Context) {
	defer p.leave()
	for ctx.Err() == nil {
		if err := p.watch(ctx); err != nil && ctx.Err() == nil {
			p.opts.Log.Debug().Err(err).Msg("other workers not seen, trying again")
			sleep(ctx, time.Second)
		}
	}
}

// watch follows the bucket until that fails or ctx ends.
func (p *presence) watch(ctx context.Context) error {
	watch, err := p.bucket.Watch(ctx, presenceKey+"*")
	if err != nil {
		return err
	}
	defer func() { _ = watch.Stop() }()
	p.announce(ctx)
	tick := time.NewTicker(time.Second) // the end of an entry is no event: count again
	defer tick.Stop()
	again := time.NewTicker(presenceEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, ok := <-watch.Updates():
			if !ok {
				return errors.New("the watch has ended")
			}
			if entry == nil || !p.see(entry) {
				continue
			}
		case <-tick.C:
			if p.clockFault() != "" {
				p.announce(ctx)
			}
		case <-again.C:
			p.announce(ctx)
		}
		if p.pausesNow() != p.announced { // others should not have to wait to see it
			p.announce(ctx)
		}
		p.share()
	}
}

// see takes in an entry and says whether it may change the shares.
func (p *presence) see(entry jetstream.KeyValueEntry) bool {
	name := strings.TrimPrefix(entry.Key(), presenceKey)
	if entry.Operation() != jetstream.KeyValuePut {
		delete(p.seen, name)
		return true
	}
	var other Presence
	if err := json.Unmarshal(entry.Value(), &other); err != nil {
		return false
	}
	if other.Name == p.opts.Name && other.At.Equal(p.sent.wall) {
		p.compareClocks(p.sent, entry.Created().Add(p.brokerAhead()))
	}
	_, known := p.seen[name]
	p.seen[name] = sighting{time.Now(), other.Accounts}
	return !known
}

// share sets every account's rate to its part among the workers that serve it.
func (p *presence) share() {
	workers := map[messages.Account]int{}
	for name, s := range p.seen {
		if time.Since(s.at) > presenceTTL {
			delete(p.seen, name)
			continue
		}
		for a := range s.accounts {
			workers[a]++
		}
	}
	for _, a := range p.accounts {
		a.limiter.Share(max(workers[a.Name], 1))
		if why := a.limiter.Closed(); (why != "") != a.rateLimited { // it begins and ends by time alone
			a.rateLimited = why != ""
			a.pauseChanged(gate.PauseRateLimited, a.rateLimited, why)
		}
		p.metrics.rate.WithLabelValues(string(a.Name)).Set(a.limiter.Rate())
	}
}

// pausesNow are all reasons there are, as text.
func (p *presence) pausesNow() string {
	now := fmt.Sprint(p.pauses.Active())
	for _, a := range p.accounts {
		now += fmt.Sprint(a.paused())
	}
	return now
}

// announce writes this worker's entry.
func (p *presence) announce(ctx context.Context) {
	p.announced = p.pausesNow()
	p.sent = p.reading()
	me := Presence{Name: p.opts.Name, Started: p.started, At: p.sent.wall, Accounts: map[messages.Account]AccountPresence{}, Paused: p.pauses.Active()}
	if expiring := p.expiring.Load(); expiring != nil {
		me.Expiring = *expiring
	}
	for _, a := range p.accounts {
		me.Accounts[a.Name] = AccountPresence{InFlight: int(a.inFlight.Load()), Rate: a.limiter.Rate(), Paused: a.paused(), NearlyFull: a.nearlyFullOf(a.Name)}
	}
	value, err := json.Marshal(me)
	if err == nil {
		one, cancel := context.WithTimeout(ctx, presenceEvery)
		defer cancel()
		_, err = p.bucket.Put(one, p.key(), value)
	}
	if err != nil && ctx.Err() == nil {
		p.opts.Log.Debug().Err(err).Msg("presence not announced")
	}
}

// leave gives this worker's share to the others at once.
func (p *presence) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.bucket.Delete(ctx, p.key())
}

// key is the entry's: a worker's name with what a key cannot hold replaced.
func (p *presence) key() string {
	return presenceKey + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '=' {
			return r
		}
		return '_'
	}, p.opts.Name)
}
