package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

// loop is what the worker is measured against: consume, POST, publish, ack, with
// nats.go and net/http, and none of the promises. With claims it also makes the two
// compare-and-set writes, and nothing else of what the worker does.
func loop(natsURL, klarnaURL string, hands int, claims bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, worker.StreamJobs, worker.ConsumerName(account))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: hands, MaxIdleConnsPerHost: hands}, Timeout: 65 * time.Second}
	slots := make(chan struct{}, hands)
	var busy sync.WaitGroup
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		slots <- struct{}{}
		busy.Go(func() {
			defer func() { <-slots }()
			if err := charge(ctx, js, client, klarnaURL, m, claims); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}, jetstream.PullMaxMessages(hands))
	if err != nil {
		return err
	}
	<-ctx.Done()
	consuming.Stop()
	busy.Wait()
	return nil
}

// bareJob is as much of a job as a loop without promises looks at.
type bareJob struct {
	ID           messages.MessageID      `json:"id"`
	Subscription messages.SubscriptionID `json:"subscription_id"`
	Period       messages.Period         `json:"period"`
	Token        string                  `json:"customer_token"`
	Order        json.RawMessage         `json:"order"`
}

func charge(ctx context.Context, js jetstream.JetStream, client *http.Client, klarnaURL string, m jetstream.Msg, claims bool) error {
	var j bareJob
	if err := json.Unmarshal(m.Data(), &j); err != nil {
		return err
	}
	r := messages.NewRenewalKey(j.Subscription, j.Period)
	k := messages.NewIdempotencyKey(r, j.ID)
	var options []jetstream.PublishOpt
	if claims {
		options = append(options, jetstream.WithExpectLastSequenceForSubject(0, messages.RenewalFilter(r)))
		claim, err := js.Publish(ctx, messages.RecordSubject(messages.KindCharging, r, account), []byte(`{"idempotency_key":"`+string(k)+`"}`), options...)
		if err != nil {
			return err
		}
		options = []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(claim.Sequence, messages.RenewalFilter(r))}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, klarnaURL+"/customer-token/v1/tokens/"+j.Token+"/order", bytes.NewReader(j.Order))
	if err != nil {
		return err
	}
	request.SetBasicAuth("bench", "bench")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Klarna-Idempotency-Key", string(k))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %w", response.StatusCode, err)
	}
	var order struct {
		ID string `json:"order_id"`
	}
	if err := json.Unmarshal(answer, &order); err != nil {
		return err
	}
	result, err := json.Marshal(map[string]any{"idempotency_key": k, "renewal_key": r, "order_id": order.ID, "subscription_id": j.Subscription, "period": j.Period})
	if err != nil {
		return err
	}
	if _, err := js.Publish(ctx, messages.RecordSubject(messages.KindPaid, r, account), result, options...); err != nil {
		return err
	}
	return m.Ack()
}
