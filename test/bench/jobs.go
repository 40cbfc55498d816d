//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

const (
	defaultAccount messages.Account = "default"
	period         messages.Period  = "2026-12"

	orderAmount = 3198 // of every job
)

// accountOf spreads jobs over a deployment's accounts.
func accountOf(n, accounts int) messages.Account {
	if n%accounts == 0 {
		return defaultAccount
	}
	return messages.Account("account-" + strconv.Itoa(n%accounts))
}

func subscription(n int) string { return strconv.Itoa(1_000_000 + n) }

// renewal is that of job n.
func renewal(n int) messages.Renewal {
	return messages.NewRenewal(messages.SubscriptionID(subscription(n)), period)
}

// job is a monthly renewal of two lines, some 1,050 bytes.
func job(n int, due string) []byte {
	return fmt.Appendf(make([]byte, 0, 1200), `{"id":"%[1]s/%[2]s/1","subscription_id":"%[1]s","period":"%[2]s","attempt":1,"due_at":"%[3]s","customer_token":"ok-%[1]s",`+
		`"order":{"purchase_currency":"EUR","order_amount":%[4]d,"order_tax_amount":510,"auto_capture":true,"merchant_reference1":"%[1]s-%[2]s","order_lines":[`+
		`{"type":"digital","reference":"19-402","name":"Streaming Service Monthly","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,`+
		`"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{%[1]s}}","interval":"MONTH","interval_count":1}},`+
		`{"type":"digital","reference":"19-403","name":"Second Screen","quantity":1,"unit_price":1599,"tax_rate":1900,"total_amount":1599,`+
		`"total_discount_amount":0,"total_tax_amount":255,"subscription":{"name":"Premium Monthly {{%[1]s}}","interval":"MONTH","interval_count":1}}]}}`,
		subscription(n), period, due, orderAmount)
}

// publish publishes jobs from up to before to, all at once or so many a second.
func publish(ctx context.Context, js jetstream.JetStream, s setup, from, to int, c *collector) error {
	due := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	var turn <-chan time.Time
	if s.Pace > 0 {
		tick := time.NewTicker(time.Second / time.Duration(s.Pace))
		defer tick.Stop()
		turn = tick.C
	}
	for n := from; n < to; n++ {
		if turn != nil {
			select {
			case <-turn:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.publishing(n)
		}
		m := &nats.Msg{
			Subject: messages.DueSubject(accountOf(n, s.Accounts)), Data: job(n, due),
			Header: nats.Header{messages.HeaderMsgID: {subscription(n) + "/" + string(period) + "/1"}},
		}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(10*time.Second)); err != nil {
			return fmt.Errorf("publish job %d: %w", n, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	select {
	case <-js.PublishAsyncComplete():
		return nil // a job that was not stored is missed in the end
	case <-ctx.Done():
		return ctx.Err()
	}
}

// uuid is an order's ID as text, or a renewal's name, which is shorter here: a million of them are kept, without a pointer.
type uuid [36]byte

func (u uuid) String() string { return strings.TrimRight(string(u[:]), "\x00") }

type result struct {
	renewal, order uuid
	at             time.Duration // since the collector began
}

// collector sees results as they are recorded. It looks at them as little as it can, since it shares the processors with
// what is measured.
type collector struct {
	began time.Time

	mu        sync.Mutex
	results   []result
	last      jetstream.Msg
	waiting   map[int]chan struct{} // for so many results
	published map[uuid]time.Duration
}

func newCollector(jobs int) *collector {
	return &collector{began: time.Now(), results: make([]result, 0, jobs), waiting: map[int]chan struct{}{}, published: map[uuid]time.Duration{}}
}

// renewalOf is what a subject renewals.paid.<subscription>.<period>.<due>.<account> is about.
func renewalOf(subject string) string {
	name := strings.TrimPrefix(subject, "renewals.paid.")
	subscription := strings.IndexByte(name, '.') + 1
	return name[:subscription+strings.IndexByte(name[subscription:], '.')]
}

func (c *collector) take(m jetstream.Msg) {
	r := result{at: time.Since(c.began)}
	copy(r.renewal[:], renewalOf(m.Subject()))
	if _, after, ok := bytes.Cut(m.Data(), []byte(`"order_id":"`)); ok {
		copy(r.order[:], after)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results, c.last = append(c.results, r), m
	if full, ok := c.waiting[len(c.results)]; ok {
		close(full)
	}
}

// publishing notes when job n is published.
func (c *collector) publishing(n int) {
	var key uuid
	copy(key[:], renewal(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published[key] = time.Since(c.began)
}

// reached is closed once there are n results.
func (c *collector) reached(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	full, ok := c.waiting[n]
	if !ok {
		full = make(chan struct{})
		c.waiting[n] = full
		if len(c.results) >= n {
			close(full)
		}
	}
	return full
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.results)
}

// lastSequence is the place in the journal of the last result that was seen.
func (c *collector) lastSequence() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return 0
	}
	meta, err := c.last.Metadata()
	if err != nil {
		return 0
	}
	return meta.Sequence.Stream
}

func (c *collector) all() []result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.results)
}

// latencies are from publish to result, in order, of the jobs that were published at a pace.
func (c *collector) latencies() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var took []time.Duration
	for _, r := range c.results {
		if published, ok := c.published[r.renewal]; ok {
			took = append(took, r.at-published)
		}
	}
	slices.Sort(took)
	return took
}
