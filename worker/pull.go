package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A puller takes jobs from one consumer, never more than there are free hands
// for. The library's own fetch is not used for three reasons: it drops what arrives while it
// stops, so that those jobs would lie until AckWait; it cannot tell when a message
// arrived; and it takes an empty message with a Status header, which any publisher can
// write, for one of the server's, so that such a job would come back for ever.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference describes the request.
type puller struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subject  string // of the consumer's next-message API
	stream   string
	consumer string
	log      zerolog.Logger
	now      func() time.Time
	pauses   *gate.Pauses  // of the whole worker
	outage   *outage       // of the broker
	held     *gate.Pauses  // of the account, during which nothing is pulled at all
	breaker  *gate.Breaker // of the account
	lost     func(error)
	limiter  *gate.Limiter
	slots    *slots
	freed    <-chan struct{} // one entry when more jobs may be wanted

	// How many jobs may be asked for is computed from slots.busy each time, never
	// kept: whatever is lost or comes late on the way, the count is right again with the next request.
	jobs chan delivery  // as large as there are hands
	came atomic.Int64   // jobs that have come, ever
	news chan struct{}  // one entry when one has come
	told chan *nats.Msg // status messages
	over chan struct{}  // closed when no further job comes
}

// A delivery is a message and when it came.
type delivery struct {
	msg      *nats.Msg
	received time.Time
	slots    *slots // of its consumer
}

const (
	// A request is served whether or not whoever made it still lives: the server
	// asks only for the subscription, and a frozen machine keeps its connection for minutes. What it
	// sends there comes again after AckWait at the earliest. So while jobs flow a
	// request lives a few seconds, and while none come it asks for a single one.
	pullExpiry     = 5 * time.Second
	pullExpiryIdle = 30 * time.Second
	pullHeartbeat  = 5 * time.Second // of an idle request; a shorter one has none
	jobReply       = "$JS.ACK."      // begins the reply subject of every message that a consumer hands out
)

// errConsumerDeleted pauses the account: nobody but an operator deletes consumers.
var errConsumerDeleted = errors.New("the consumer was deleted")

// errNoResponders is no word about the consumer: see gone.
var errNoResponders = errors.New("ask for jobs: no responders: JetStream is not available, or the consumer is missing")

// gone asks, where nobody answers a request for jobs, whether the consumer was
// deleted while there was no request that the server could have told so.
func (p *puller) gone(ctx context.Context) bool {
	one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	defer cancel()
	_, err := p.js.Consumer(one, p.stream, p.consumer)
	return errors.Is(err, jetstream.ErrConsumerNotFound)
}

func newPuller(a *account, consumer string, slots *slots) *puller {
	prefix := a.js.Options().APIPrefix
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	stream := topology.StreamOf(consumer)
	p := &puller{
		nc: a.js.Conn(), js: a.js, stream: stream, consumer: consumer, log: a.log, now: a.now, pauses: &a.pauses, outage: &a.outage, held: &a.unfit, lost: a.hold, breaker: a.breaker, limiter: a.limiter, slots: slots,
		subject: strings.TrimSuffix(prefix, ".") + ".CONSUMER.MSG.NEXT." + stream + "." + consumer,
		jobs:    make(chan delivery, a.Concurrency+spare(a.Concurrency)),
		news:    make(chan struct{}, 1),
		told:    make(chan *nats.Msg, 16),
		over:    make(chan struct{}),
	}
	p.freed = slots.tell()
	return p
}

// work handles jobs until no further one comes. There are as many of it as hands.
func (p *puller) work(handle func(delivery)) {
	one := func(d delivery) {
		defer p.slots.free()
		defer p.slots.busy.Add(-1)
		handle(d)
	}
	for {
		select {
		case d := <-p.jobs:
			one(d)
			continue
		case <-p.over:
		}
		for {
			select {
			case d := <-p.jobs:
				one(d)
			default:
				return
			}
		}
	}
}

// run pulls until ctx ends, then waits for what the server had sent already:
// those jobs still come, to be handed back.
func (p *puller) run(ctx context.Context) error {
	defer close(p.over)
	reconnected := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(reconnected)

	var sub *nats.Subscription
	var inbox string
	defer func() { p.drain(sub) }()
	trouble, idle := "", false
	for request := 1; ; request++ {
		n := p.ready(ctx)
		if n == 0 {
			return nil
		}
		if sub == nil {
			var err error
			inbox = p.nc.NewInbox()
			if sub, err = p.nc.Subscribe(inbox+".*", p.take); err != nil {
				return fmt.Errorf("subscribe for jobs: %w", err)
			}
		}
		came := p.came.Load()
		err := p.pull(ctx, inbox+"."+strconv.Itoa(request), n, idle, reconnected)
		idle = err == nil && p.came.Load() == came
		if errors.Is(err, errForgotten) {
			// The request may live on at the server: on another inbox its jobs cannot come twice as many.
			p.drop(sub)
			sub = nil
		}
		if errors.Is(err, errNoResponders) && p.gone(ctx) {
			err = errConsumerDeleted
		}
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case errors.Is(err, errConsumerDeleted):
			p.lost(fmt.Errorf("consumer %s on stream %s: %w; run `renewals provision`", p.consumer, p.stream, jetstream.ErrConsumerNotFound))
		case err != nil && ctx.Err() == nil:
			if trouble != err.Error() {
				trouble = err.Error()
				p.log.Warn().Str("consumer", p.consumer).Err(err).Msg("no jobs for now, trying on")
			}
			sleep(ctx, time.Second)
		case trouble != "":
			trouble = ""
			p.log.Info().Str("consumer", p.consumer).Msg("jobs flow again")
		}
	}
}

// take receives what the server sends.
func (p *puller) take(m *nats.Msg) {
	if !strings.HasPrefix(m.Reply, jobReply) {
		select {
		case p.told <- m:
		default: // nobody waits for the end of a request that is over
		}
		return
	}
	p.slots.busy.Add(1)
	select {
	case p.jobs <- delivery{m, p.now(), p.slots}:
		p.came.Add(1)
		signal(p.news)
	case <-p.over: // it comes again after AckWait
		p.slots.busy.Add(-1)
	}
}

// signal leaves an entry for whoever waits, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ready waits until jobs may be pulled and says how many: as many as there are
// free hands and turns at Klarna in the next seconds. While the account is paused that is one, the probe, and
// only once no other job is at work. 0: ctx ended.
func (p *puller) ready(ctx context.Context) int {
	for {
		trial, ok := p.outage.wait(ctx, p.pauses, func() bool { return p.slots.busy.Load() == 0 })
		if !ok {
			return 0
		}
		if lifted, _ := p.held.Only(gate.PauseSettings); lifted != nil {
			select {
			case <-ctx.Done():
				return 0
			case <-lifted:
				continue
			}
		}
		if !p.limiter.Open(ctx) {
			return 0
		}
		changes := p.breaker.Changes()
		busy := int(p.slots.busy.Load())
		wanted := min(p.slots.wanted(busy), p.breaker.Places(p.limiter.SharedBy())-busy)
		switch paused := p.breaker.Paused(); {
		case !paused && trial:
			return 1
		case !paused && wanted > 0:
			return min(wanted, p.limiter.Turns(freshness/2))
		case paused && busy == 0:
			if p.breaker.Probe(ctx) && p.breaker.Paused() {
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

// errForgotten is a request of which it is not known whether it is still served.
var errForgotten = errors.New("ask for jobs: no heartbeat from the server")

// pullRequest is the body of a request for jobs.
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// pull asks for n jobs and waits until they came or the request is over. While
// none came to the last request it waits for the first of them.
func (p *puller) pull(ctx context.Context, reply string, n int, idle bool, reconnected <-chan nats.Status) error {
	request := pullRequest{Batch: n, Expires: pullExpiry}
	if idle {
		n = 1
		request = pullRequest{Batch: n, Expires: pullExpiryIdle, Heartbeat: pullHeartbeat}
	}
	body, _ := json.Marshal(request)
	until := p.came.Load() + int64(n)
	if err := p.nc.PublishRequest(p.subject, reply, body); err != nil {
		return fmt.Errorf("ask for jobs: %w", err)
	}
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for p.came.Load() < until {
		select {
		case <-ctx.Done():
			return nil
		case <-reconnected:
			return errForgotten
		case <-silence.C:
			return errForgotten
		case <-p.news:
			silence.Reset(2 * pullHeartbeat)
		case m := <-p.told:
			silence.Reset(2 * pullHeartbeat)
			if m.Subject != reply {
				continue
			}
			if over, err := requestOver(m); over {
				return err
			}
		}
	}
	return nil
}

// requestOver reads a status message of the server.
func requestOver(m *nats.Msg) (over bool, err error) {
	status, description := m.Header.Get("Status"), m.Header.Get("Description")
	lower := strings.ToLower(description)
	switch status {
	case "100": // heartbeat
		return false, nil
	case "404", "408": // nothing there, time is up
		return true, nil
	case "503":
		return true, errNoResponders
	case "409":
		if strings.Contains(lower, "consumer deleted") {
			return true, errConsumerDeleted
		}
		if strings.Contains(lower, "batch completed") {
			return true, nil
		}
	}
	return true, fmt.Errorf("ask for jobs: %s %s", status, description)
}

// drop gives up a subscription; what was on its way still comes.
func (p *puller) drop(sub *nats.Subscription) {
	if !p.nc.IsConnected() || sub.Drain() != nil {
		_ = sub.Unsubscribe()
	}
}

// drain ends the subscription and waits until everything that was on its way
// has come. Without a connection nothing comes, and what the server sent is delivered again after AckWait.
func (p *puller) drain(sub *nats.Subscription) {
	if sub == nil {
		return
	}
	if !p.nc.IsConnected() || p.nc.FlushTimeout(time.Second) != nil {
		_ = sub.Unsubscribe()
		return
	}
	done := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(done) })
	if err := sub.Drain(); err != nil {
		return
	}
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		_ = sub.Unsubscribe()
	}
}
