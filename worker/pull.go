package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// A puller takes jobs from one consumer, never more than there are free hands
// for. The library's own fetch is not used for three reasons: it drops what arrives while it
// stops, so that those jobs would lie until AckWait; it cannot tell when a message
// arrived; and it takes an empty message with a Status header, which any publisher can
// write, for one of the server's, so that such a job would come back for ever.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference describes the request.
type puller struct {
	nc       *nats.Conn
	subject  string // of the consumer's next-message API
	consumer string
	log      zerolog.Logger
	pauses   *pauses  // of the whole worker
	circuit  *circuit // of the account

	free chan struct{} // one entry per free hand
	jobs chan delivery // as large as there are hands: a send never blocks for long

	arrived chan *nats.Msg // status messages of the request under way
	taken   chan struct{}  // one entry per job that arrived
}

// A delivery is a message and when it came.
type delivery struct {
	msg      *nats.Msg
	received time.Time
}

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	jobReply      = "$JS.ACK." // begins the reply subject of every message that a consumer hands out
)

// errConsumerDeleted ends the worker: nobody but an operator deletes consumers.
var errConsumerDeleted = errors.New("the consumer was deleted")

func newPuller(js jetstream.JetStream, consumer string, hands int, log zerolog.Logger, pauses *pauses, circuit *circuit) *puller {
	prefix := js.Options().APIPrefix
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	p := &puller{
		nc: js.Conn(), consumer: consumer, log: log, pauses: pauses, circuit: circuit,
		subject: strings.TrimSuffix(prefix, ".") + ".CONSUMER.MSG.NEXT." + StreamJobs + "." + consumer,
		free:    make(chan struct{}, hands),
		jobs:    make(chan delivery, hands),
		arrived: make(chan *nats.Msg, 16),
		taken:   make(chan struct{}, 2*hands),
	}
	for range hands {
		p.free <- struct{}{}
	}
	return p
}

// run pulls until ctx ends, then waits for what the server had sent already:
// those jobs still come out of p.jobs, to be handed back. It closes p.jobs.
func (p *puller) run(ctx context.Context, now func() time.Time) error {
	defer close(p.jobs)
	inbox := p.nc.NewInbox()
	sub, err := p.nc.Subscribe(inbox+".*", func(m *nats.Msg) {
		if strings.HasPrefix(m.Reply, jobReply) {
			p.jobs <- delivery{m, now()}
			p.taken <- struct{}{}
			return
		}
		select {
		case p.arrived <- m:
		default: // nobody waits for the end of a request that is over
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe for jobs: %w", err)
	}
	reconnected := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(reconnected)
	defer p.drain(sub)

	trouble := ""
	for request := 1; ; request++ {
		n := p.ready(ctx)
		if n == 0 {
			return nil
		}
		left, err := p.pull(ctx, inbox+"."+strconv.Itoa(request), n, reconnected)
		for range left {
			p.free <- struct{}{}
		}
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case errors.Is(err, errConsumerDeleted):
			return fmt.Errorf("consumer %s on stream %s: %w; run `renewals provision` and start again", p.consumer, StreamJobs, err)
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

// done frees the hand of a job.
func (p *puller) done() {
	select {
	case p.free <- struct{}{}:
	default: // the job came late, for a request whose hands were freed already
	}
}

// ready waits until jobs may be pulled and says how many. While the account is
// paused that is one, the probe, and only once no other job is at work. 0: ctx ended.
func (p *puller) ready(ctx context.Context) int {
	n := p.freeHands(ctx)
	for n > 0 && p.pauses.wait(ctx) {
		if !p.circuit.pauses.any() {
			return n
		}
		if n < cap(p.free) {
			select {
			case <-ctx.Done():
			case <-p.free:
				n++
			case <-p.circuit.wake:
			}
			continue
		}
		if p.circuit.probe(ctx) && p.circuit.pauses.any() {
			for range n - 1 {
				p.done()
			}
			return 1
		}
	}
	return 0
}

// freeHands waits for one free hand and takes all that are free. 0: ctx ended.
func (p *puller) freeHands(ctx context.Context) (n int) {
	select {
	case <-ctx.Done():
		return 0
	case <-p.free:
		n = 1
	}
	for {
		select {
		case <-p.free:
			n++
		default:
			return n
		}
	}
}

// pull asks for n jobs and waits until they came or the request is over; left is
// how many did not come.
func (p *puller) pull(ctx context.Context, reply string, n int, reconnected <-chan nats.Status) (left int, err error) {
	body, _ := json.Marshal(struct {
		Batch     int           `json:"batch"`
		Expires   time.Duration `json:"expires"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{n, pullExpiry, pullHeartbeat})
	if err := p.nc.PublishRequest(p.subject, reply, body); err != nil {
		return n, fmt.Errorf("ask for jobs: %w", err)
	}
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for left = n; left > 0; {
		select {
		case <-ctx.Done():
			return left, nil
		case <-reconnected:
			return left, nil // the server has forgotten the request
		case <-silence.C:
			return left, errors.New("ask for jobs: no heartbeat from the server")
		case <-p.taken:
			left--
			silence.Reset(2 * pullHeartbeat)
		case m := <-p.arrived:
			silence.Reset(2 * pullHeartbeat)
			if m.Subject != reply {
				continue
			}
			if over, err := requestOver(m); over {
				return left, err
			}
		}
	}
	return 0, nil
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
		return true, errors.New("ask for jobs: no responders: JetStream is not available, or the consumer is missing")
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

// drain ends the subscription and waits until everything that was on its way has come.
func (p *puller) drain(sub *nats.Subscription) {
	done := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(done) })
	if err := sub.Drain(); err != nil {
		return
	}
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-p.taken: // keep the callback from blocking
		case <-timer.C:
			return // without a connection nothing comes any more
		}
	}
}
