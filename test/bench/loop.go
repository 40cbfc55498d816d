//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// loop is what the worker is measured against: consume, POST, publish, ack, with nats.go and net/http, and none of the
// promises. As claims it also makes the two compare-and-set writes and nothing else of what the worker does; as writes it
// makes only these, for jobs that nobody published, to find what the journal alone can take.
type loop struct {
	who    string // bare, claims, writes
	hands  int
	klarna string

	js     jetstream.JetStream
	client *http.Client
}

// run works until SIGTERM, and then finishes what it has begun. Any error ends it: a comparison with a loop that loses
// jobs says nothing.
func (l *loop) run(natsURL string, jobs int) error {
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, fail := context.WithCancelCause(context.Background())
	defer fail(nil)
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	if l.js, err = jetstream.New(nc); err != nil {
		return err
	}
	l.client = &http.Client{Transport: &http.Transport{MaxIdleConns: l.hands, MaxIdleConnsPerHost: l.hands}, Timeout: 65 * time.Second}
	var busy sync.WaitGroup
	enough := func() {}
	if l.who == "writes" {
		l.writeAll(ctx, &busy, fail, jobs)
	} else if enough, err = l.consume(ctx, &busy, fail); err != nil {
		return err
	}
	select {
	case <-told.Done():
	case <-ctx.Done():
	}
	enough()
	busy.Wait()
	return context.Cause(ctx)
}

func (l *loop) consume(ctx context.Context, busy *sync.WaitGroup, fail func(error)) (stop func(), err error) {
	consumer, err := l.js.Consumer(ctx, messages.StreamJobs, topology.ConsumerName(defaultAccount))
	if err != nil {
		return nil, err
	}
	slots := make(chan struct{}, l.hands)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		slots <- struct{}{}
		busy.Go(func() {
			defer func() { <-slots }()
			if err := l.charge(ctx, m); err != nil {
				fail(err)
			}
		})
	}, jetstream.PullMaxMessages(l.hands))
	if err != nil {
		return nil, err
	}
	return consuming.Stop, nil
}

// bareJob is as much of a job as a loop without promises looks at.
type bareJob struct {
	ID           messages.MessageID      `json:"id"`
	Subscription messages.SubscriptionID `json:"subscription_id"`
	Period       messages.Period         `json:"period"`
	Token        string                  `json:"customer_token"`
	Order        json.RawMessage         `json:"order"`
}

func (l *loop) charge(ctx context.Context, m jetstream.Msg) error {
	var j bareJob
	if err := json.Unmarshal(m.Data(), &j); err != nil {
		return err
	}
	r := messages.NewRenewal(j.Subscription, j.Period)
	key := messages.NewRenewalKey(j.Subscription, j.Period)
	k := messages.NewIdempotencyKey(key, j.ID)
	var last []jetstream.PublishOpt
	if l.who == "claims" {
		claim, err := l.publish(ctx, messages.KindCharging, r, []byte(`{"idempotency_key":"`+string(k)+`"}`), expect(r, 0))
		if err != nil {
			return err
		}
		last = append(last, expect(r, claim))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.klarna+"/customer-token/v1/tokens/"+j.Token+"/order", bytes.NewReader(j.Order))
	if err != nil {
		return err
	}
	request.SetBasicAuth("bench", "bench")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Klarna-Idempotency-Key", string(k))
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", response.StatusCode, answer)
	}
	var order struct {
		ID string `json:"order_id"`
	}
	if err := json.Unmarshal(answer, &order); err != nil {
		return err
	}
	result, err := json.Marshal(map[string]any{"idempotency_key": k, "renewal_key": key, "order_id": order.ID, "subscription_id": j.Subscription, "period": j.Period})
	if err != nil {
		return err
	}
	if _, err := l.publish(ctx, messages.KindPaid, r, result, last...); err != nil {
		return err
	}
	return m.Ack()
}

// writeAll claims and settles renewals that have no job.
func (l *loop) writeAll(ctx context.Context, busy *sync.WaitGroup, fail func(error), jobs int) {
	var taken atomic.Int64
	for range l.hands {
		busy.Go(func() {
			for n := int(taken.Add(1)); n <= jobs; n = int(taken.Add(1)) {
				r := renewal(n - 1)
				claim, err := l.publish(ctx, messages.KindCharging, r, []byte(`{"renewal_key":"`+string(r)+`"}`), expect(r, 0))
				if err == nil {
					_, err = l.publish(ctx, messages.KindPaid, r, []byte(`{"renewal_key":"`+string(r)+`","n":"`+strconv.Itoa(n)+`"}`), expect(r, claim))
				}
				if err != nil {
					fail(err)
					return
				}
			}
		})
	}
}

// due is when a loop's renewals fell due: it does not read that of its jobs.
const due = 1_796_083_200

func expect(r messages.Renewal, last uint64) jetstream.PublishOpt {
	return jetstream.WithExpectLastSequenceForSubject(last, messages.RenewalFilter(r))
}

// publish writes a record. A cluster says now and then that an earlier write is not applied yet: then the same again.
func (l *loop) publish(ctx context.Context, k messages.Kind, r messages.Renewal, body []byte, options ...jetstream.PublishOpt) (uint64, error) {
	for {
		ack, err := l.js.Publish(ctx, messages.RecordAddress{Kind: k, Renewal: r, Due: due, Account: defaultAccount}.Subject(), body, options...)
		var refused *jetstream.APIError
		switch {
		case err == nil:
			return ack.Sequence, nil
		case errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant:
			continue
		}
		return 0, fmt.Errorf("publish %s: %w", k, err)
	}
}
