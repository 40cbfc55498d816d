package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/worker/topology"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// Freshness is how long a job may wait here for its turn. Its AckWait runs
// already, and another worker may be idle.
const Freshness = 5 * time.Second

// troubleFor is how long no jobs come before that is told: a broker that has just come back, or elects a leader, has none for a moment.
const troubleFor = 5 * time.Second

// goneTimeout bounds the question whether there still is a consumer.
const goneTimeout = 5 * time.Second

// A Delivery is a message and when it came.
type Delivery struct {
	Msg       *nats.Msg
	Received  time.Time
	Semaphore *Semaphore // of its consumer
	Probe     bool       // of an account that is paused, see [Breaker.Admit]
}

// PullerConfig is what a puller goes by. Everything is required.
type PullerConfig struct {
	JetStream        jetstream.JetStream
	Stream, Consumer string
	// Of is how many pullers the worker has, for all its consumers.
	Of int
	// Hands handle the jobs.
	Hands *Hands
	// Semaphore of all pullers whose jobs count together.
	Semaphore *Semaphore
	Limiter   *Limiter
	Breaker   *Breaker
	// Outage of the broker, for all accounts.
	Outage *Outage
	// Held are the account's own reasons to pull nothing.
	Held *Pauses
	// Lost is told when the consumer was deleted.
	Lost func(error)
	Now  func() time.Time
	Log  zerolog.Logger
}

// A Puller takes jobs from one consumer, never more than may be at hand. Each is handled by a goroutine of its own, so that
// a consumer without jobs costs one goroutine, which waits for the first. The library's own fetch is not used for three reasons: it drops what arrives while it
// stops, so that those jobs would lie until AckWait; it cannot tell when a message
// arrived; and it takes an empty message with a Status header, which any publisher can
// write, for one of the server's, so that such a job would come back for ever.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference describes the request.
type Puller struct {
	PullerConfig
	nc      *nats.Conn
	subject string          // of the consumer's next-message API
	freed   <-chan struct{} // one entry when more jobs may be wanted

	// How many jobs may be asked for is computed from what is at hand each time, never
	// kept: whatever is lost or comes late on the way, the count is right again with the next request.
	handle  func(Delivery)
	working sync.WaitGroup // what handles jobs, and what waits for those of a request that was given up
}

// NewPuller joins the pullers of its semaphore; all of them are made before one runs.
func NewPuller(c PullerConfig) *Puller {
	return &Puller{
		PullerConfig: c, nc: c.JetStream.Conn(), freed: c.Semaphore.tell(),
		subject: topology.API(c.JetStream, "CONSUMER.MSG.NEXT."+c.Stream+"."+c.Consumer),
	}
}

// Run pulls until ctx ends, then waits for what the server had sent already:
// those jobs still come, to be handed back. It returns once all that came are handled.
func (p *Puller) Run(ctx context.Context, handle func(Delivery)) error {
	p.handle = handle
	defer p.working.Wait()
	reconnected := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(reconnected)

	var in *inbox
	defer func() { p.drain(in) }()
	var trouble trouble
	idle := false
	for request := 1; ; request++ {
		if ctx.Err() == nil && !p.connected(ctx, reconnected) {
			continue
		}
		n := p.ready(ctx)
		if n == 0 {
			return nil
		}
		if idle {
			n = 1
		}
		if in == nil || !in.room(n) {
			p.leave(in)
			var err error
			if in, err = p.open(n); err != nil {
				return fmt.Errorf("subscribe for jobs: %w", err)
			}
		}
		came, err := p.pull(ctx, in, request, n, idle, reconnected)
		idle = err == nil && came == 0
		if errors.Is(err, errForgotten) || errors.Is(err, errReconnected) {
			// The request may live on at the server: on another inbox its jobs cannot come twice as many.
			p.leave(in)
			in = nil
		}
		if errors.Is(err, errNoResponders) && p.gone(ctx) {
			err = errConsumerDeleted
		}
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case errors.Is(err, errConsumerDeleted):
			p.Lost(fmt.Errorf("consumer %s on stream %s: %w; run `renewals provision`", p.Consumer, p.Stream, jetstream.ErrConsumerNotFound))
		case errors.Is(err, errReconnected), err != nil && !p.nc.IsConnected(): // which is told by whoever keeps the connection
		case err != nil && ctx.Err() == nil:
			if trouble.worthTelling(err, p.Now()) {
				p.Log.Warn().Str("consumer", p.Consumer).Err(err).Msg("no jobs for now, trying on")
			}
			Sleep(ctx, time.Second)
		case trouble.over():
			p.Log.Info().Str("consumer", p.Consumer).Msg("jobs flow again")
		}
	}
}

// connected waits for the connection, where there is none, and says whether it need not wait.
func (p *Puller) connected(ctx context.Context, reconnected <-chan nats.Status) bool {
	if p.nc.IsConnected() || p.nc.IsClosed() {
		return true
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-reconnected:
	case <-timer.C: // the client drops what it cannot tell
	}
	return false
}

// trouble is that no jobs come, and why.
type trouble struct {
	since time.Time // zero: they come
	told  string
}

// worthTelling notes that no jobs come and says whether to tell of it: once it has lasted, and when the reason is another.
func (t *trouble) worthTelling(err error, now time.Time) bool {
	if t.since.IsZero() {
		t.since = now
	}
	if now.Sub(t.since) < troubleFor || t.told == err.Error() {
		return false
	}
	t.told = err.Error()
	return true
}

// over notes that jobs come, and says whether anybody was told that they did not.
func (t *trouble) over() bool {
	told := t.told != ""
	*t = trouble{}
	return told
}

// Take handles a job in a goroutine of its own, which [Puller.Run] waits for.
func (p *Puller) Take(m *nats.Msg) {
	p.Semaphore.atHand.Add(1)
	d := Delivery{Msg: m, Received: p.Now(), Semaphore: p.Semaphore}
	p.working.Add(1)
	p.Hands.Do(func() {
		defer p.working.Done()
		defer p.Semaphore.free()
		defer p.Semaphore.atHand.Add(-1)
		p.handle(d)
	})
}

// ready waits until jobs may be pulled and says how many: as many as there are
// free places and turns at Klarna in the next seconds. While the account is paused that is one, the probe, and
// only once no other job is at work. 0: ctx ended.
func (p *Puller) ready(ctx context.Context) int {
	for {
		trial, ok := p.Outage.wait(ctx, func() bool { return p.Semaphore.atHand.Load() == 0 })
		if !ok {
			return 0
		}
		if lifted, _ := p.Held.only(PauseSettings); lifted != nil {
			select {
			case <-ctx.Done():
				return 0
			case <-lifted:
				continue
			}
		}
		if !p.Limiter.open(ctx) {
			return 0
		}
		changes := p.Breaker.changes()
		busy := int(p.Semaphore.atHand.Load())
		wanted := min(p.Semaphore.wanted(busy), p.Breaker.Places(p.Limiter.SharedBy())-busy)
		switch paused := p.Breaker.Paused(); {
		case !paused && trial:
			return 1
		case !paused && wanted > 0:
			return min(wanted, p.Limiter.turns(Freshness/2), topology.MostBatch)
		case paused && busy == 0:
			if p.Breaker.probe(ctx) && p.Breaker.Paused() {
				return 1
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-p.freed:
		case <-changes:
		}
	}
}

// pull asks for n jobs and waits until they came or the request is over. While
// none came to the last request it is idle and waits for the first of them.
func (p *Puller) pull(ctx context.Context, in *inbox, number, n int, idle bool, reconnected <-chan nats.Status) (came int, err error) {
	request, beat := pullRequest{Batch: n, Expires: pullExpiry}, pullHeartbeat
	if idle {
		beat = heartbeat(p.Of)
		request = pullRequest{Batch: n, Expires: pullExpiryIdle, Heartbeat: beat}
	}
	body, _ := json.Marshal(request)
	reply := in.reply(number)
	if err := p.nc.PublishRequest(p.subject, reply, body); err != nil {
		return 0, fmt.Errorf("ask for jobs: %w", err)
	}
	silence := time.NewTimer(2 * beat)
	defer silence.Stop()
	for came < n {
		select {
		case <-ctx.Done():
			return came, nil
		case <-reconnected:
			return came, errReconnected
		case <-silence.C:
			return came, errForgotten
		case m := <-in.sent:
			silence.Reset(2 * beat)
			if isJob(m) {
				p.Take(m)
				came++
				continue
			}
			if m.Subject != reply {
				continue // the end of a request that is over
			}
			if over, err := requestOver(m); over {
				return came, err
			}
		}
	}
	return came, nil
}

// gone asks, where nobody answers a request for jobs, whether the consumer was
// deleted while there was no request that the server could have told so.
func (p *Puller) gone(ctx context.Context) bool {
	one, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	_, err := p.JetStream.Consumer(one, p.Stream, p.Consumer)
	return errors.Is(err, jetstream.ErrConsumerNotFound)
}
