package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const presenceEvery = 5 * time.Second

// presence tells the others of this worker, counts them, and shares the rates.
type presence struct {
	name      string // of this worker
	bucket    jetstream.KeyValue
	conn      *nats.Conn
	clock     *clock
	ahead     func() time.Duration // of the broker's clock, in a test
	pauses    *pausing
	fill      *fill
	expiring  *atomic.Pointer[map[messages.Account]int] // what this worker found where it sweeps, see [topology.Presence]
	metrics   *Metrics
	log       zerolog.Logger
	accounts  []*account
	started   time.Time
	version   string
	times     map[string]string   // see [topology.Presence]
	seen      map[string]sighting // the other workers
	announced string              // the pauses that the last entry told of
	sent      comparison          // our clocks when it was sent
	failing   time.Time           // since when the bucket cannot be used; zero: it can
	warned    bool                // of that
}

type sighting struct {
	at       time.Time // by the monotonic clock of this machine
	accounts map[messages.Account]struct{}
}

// run goes on until ctx ends. On a new connection it begins anew at once: the broker behind it may know nothing of the watch, which
// the client would notice only by heartbeats that do not come, and until then no clock is compared.
func (p *presence) run(ctx context.Context) {
	defer p.leave()
	connected := p.conn.StatusChanged(nats.CONNECTED)
	defer p.conn.RemoveStatusListener(connected)
	for ctx.Err() == nil {
		if err := p.watch(ctx, connected); err != nil && ctx.Err() == nil {
			p.log.Debug().Err(err).Msg("other workers not seen, trying again")
			p.failed(fmt.Errorf("watch bucket %s: %w", topology.BucketWorkers, err))
			gate.Sleep(ctx, time.Second)
		}
	}
}

// failed notes that the bucket cannot be used, and warns once where that lasts: others take this worker for dead then, and it sends
// nothing. Whoever keeps the connection tells that it is away, and whoever verifies the bucket that it is missing.
func (p *presence) failed(err error) {
	if p.clock.away != nil && p.clock.away() || p.clock.blind.Load() {
		p.failing = time.Time{}
		return
	}
	p.clock.prevented(err)
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
	if p.warned || time.Since(p.failing) < topology.PresenceTTL {
		return
	}
	p.warned = true
	p.log.Warn().Err(err).Msg("this worker and the others do not see each other, so it charges nothing, and asks again until they do: see the NATS account's limits of consumers and storage, and this user's permissions")
}

// worked notes that this worker's entry came back.
func (p *presence) worked() {
	p.clock.prevented(nil)
	if p.warned {
		p.log.Info().Msg("this worker and the others see each other again")
	}
	p.failing, p.warned = time.Time{}, false
}

// watch follows the bucket until that fails, there is a new connection, or ctx ends.
func (p *presence) watch(ctx context.Context, connected <-chan nats.Status) error {
	watch, err := p.bucket.Watch(ctx, topology.PresenceKey+"*")
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
		case <-connected:
			return nil
		case entry, ok := <-watch.Updates():
			if !ok {
				return errors.New("the watch has ended")
			}
			if entry == nil || !p.see(entry) {
				continue
			}
		case <-tick.C:
			if p.clock.fault() != "" {
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

// see takes in an entry and says whether it may change the shares or a pause. Of each only what is needed is read: with a thousand
// accounts an entry is long.
func (p *presence) see(entry jetstream.KeyValueEntry) bool {
	if entry.Key() == p.key() {
		before := p.clock.fault()
		p.seeOwn(entry)
		return p.clock.fault() != before
	}
	name := strings.TrimPrefix(entry.Key(), topology.PresenceKey)
	if entry.Operation() != jetstream.KeyValuePut {
		delete(p.seen, name)
		return true
	}
	var other struct {
		Accounts map[messages.Account]struct{} `json:"accounts"`
	}
	if err := json.Unmarshal(entry.Value(), &other); err != nil {
		return false
	}
	_, known := p.seen[name]
	p.seen[name] = sighting{time.Now(), other.Accounts}
	return !known
}

// seeOwn compares this machine's clock with the broker's, which stamped the entry.
func (p *presence) seeOwn(entry jetstream.KeyValueEntry) {
	var me struct {
		Name string    `json:"name"`
		At   time.Time `json:"at"`
	}
	if entry.Operation() == jetstream.KeyValuePut && json.Unmarshal(entry.Value(), &me) == nil && me.Name == p.name && me.At.Equal(p.sent.wall) {
		p.worked()
		p.clock.compare(p.sent, entry.Created().Add(p.ahead()), p.margin())
	}
}

// margin is the least that the leases leave for clocks that are apart.
func (p *presence) margin() time.Duration {
	least := p.accounts[0].rules.base.ClockMargin
	for _, a := range p.accounts {
		least = min(least, a.rules.base.ClockMargin)
	}
	return least
}

// share sets every account's rate to its part among the workers that serve it, of which this is one.
func (p *presence) share() {
	workers := map[messages.Account]int{}
	for name, s := range p.seen {
		if time.Since(s.at) > topology.PresenceTTL {
			delete(p.seen, name)
			continue
		}
		for a := range s.accounts {
			workers[a]++
		}
	}
	for _, a := range p.accounts {
		a.limiter.Share(1 + workers[a.config.Name])
		if why := a.limiter.Closed(); (why != "") != a.rateLimited { // it begins and ends by time alone
			a.rateLimited = why != ""
			a.pauseChanged(gate.PauseRateLimited, a.rateLimited, why)
		}
		p.metrics.rate.WithLabelValues(string(a.config.Name)).Set(a.limiter.Rate())
		p.metrics.permits.WithLabelValues(string(a.config.Name)).Set(float64(a.charges.Permits()))
	}
}

// pausesNow are all reasons there are, as text.
func (p *presence) pausesNow() string {
	var now strings.Builder
	fmt.Fprint(&now, p.pauses.reasons.Active())
	for _, a := range p.accounts {
		if paused := a.paused(); len(paused) > 0 {
			fmt.Fprint(&now, a.config.Name, paused)
		}
	}
	return now.String()
}

// announce writes this worker's entry.
func (p *presence) announce(ctx context.Context) {
	p.announced = p.pausesNow()
	p.sent = p.clock.reading()
	me := topology.Presence{
		Name: p.name, Version: p.version, Times: p.times, Started: p.started, At: p.sent.wall,
		Accounts: map[messages.Account]topology.AccountPresence{}, Paused: p.pauses.reasons.Active(),
	}
	if expiring := p.expiring.Load(); expiring != nil {
		me.Expiring = *expiring
	}
	for _, a := range p.accounts {
		me.Accounts[a.config.Name] = topology.AccountPresence{
			InFlight: int(a.inFlight.Load()), Rate: a.limiter.Rate(), Total: a.config.Rate, Endpoint: a.config.Endpoint, Merchant: a.config.Merchant,
			Paused: a.paused(), NearlyFull: p.fill.nearlyFull(a.config.Name),
		}
	}
	value, err := json.Marshal(me)
	if err == nil {
		one, cancel := context.WithTimeout(ctx, presenceEvery)
		defer cancel()
		_, err = p.bucket.Put(one, p.key(), value)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Debug().Err(err).Msg("presence not announced")
		p.failed(fmt.Errorf("write to bucket %s: %w", topology.BucketWorkers, err))
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
	return topology.PresenceKey + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '=' {
			return r
		}
		return '_'
	}, p.name)
}
