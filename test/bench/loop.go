//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
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
// promises. It is as lean as its author can make it, since what it wastes flatters the worker: its hands live as long as
// it does, it decodes what it sends on and nothing else, and it builds its records by hand. As claims it also makes the two
// compare-and-set writes, with records as large as the worker's, and nothing else of what the worker does; as writes it
// makes only these, for jobs that nobody published, to find what the journal alone takes.
type loop struct {
	who     string // bare, claims, writes
	hands   int
	records recordSizes // of claims and writes; where they are zero, as small as can be

	klarna        *url.URL
	authorization []string
	js            jetstream.JetStream
	client        *http.Client
}

// run works until SIGTERM, and then finishes what it has begun. Any error ends it: a comparison with a loop that loses
// jobs says nothing.
func (l *loop) run(natsURL, klarna string, jobs int) error {
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
	if l.klarna, err = url.Parse(klarna); err != nil {
		return err
	}
	l.authorization = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("bench:bench"))}
	l.client = &http.Client{Transport: &http.Transport{MaxIdleConns: l.hands, MaxIdleConnsPerHost: l.hands, DisableCompression: true}, Timeout: 65 * time.Second}
	ended := make(chan struct{})
	var busy sync.WaitGroup
	enough := func() {}
	if l.who == "writes" {
		l.writeAll(ctx, &busy, fail, jobs)
	} else if enough, err = l.consume(ctx, ended, &busy, fail); err != nil {
		return err
	}
	select {
	case <-told.Done():
	case <-ctx.Done():
	}
	enough()
	close(ended)
	busy.Wait()
	return context.Cause(ctx)
}

// consume hands messages to whoever is free, until ended.
func (l *loop) consume(ctx context.Context, ended <-chan struct{}, busy *sync.WaitGroup, fail func(error)) (stop func(), err error) {
	consumer, err := l.js.Consumer(ctx, messages.StreamJobs, topology.ConsumerName(defaultAccount))
	if err != nil {
		return nil, err
	}
	waiting := make(chan jetstream.Msg)
	for range l.hands {
		busy.Go(func() {
			h := l.hand()
			for {
				select {
				case <-ended:
					return
				case m := <-waiting:
					if err := h.charge(ctx, m); err != nil {
						fail(err)
						return
					}
				}
			}
		})
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case waiting <- m:
		case <-ended:
		}
	}, jetstream.PullMaxMessages(2*l.hands))
	if err != nil {
		return nil, err
	}
	return consuming.Stop, nil
}

// bareJob is as much of a job as a loop without promises looks at. Its ID serves as the idempotency key.
type bareJob struct {
	ID           string                  `json:"id"`
	Subscription messages.SubscriptionID `json:"subscription_id"`
	Period       messages.Period         `json:"period"`
	Token        string                  `json:"customer_token"`
	Order        json.RawMessage         `json:"order"`
}

// hand does one job after the other, with the same buffers.
type hand struct {
	*loop
	answer      bytes.Buffer
	claim, paid nats.Header // what fills them up to the size of the worker's; each write adds its own expectation
}

func (l *loop) hand() *hand {
	return &hand{loop: l, claim: l.records.Claim.header(), paid: l.records.Paid.header()}
}

func (h *hand) charge(ctx context.Context, m jetstream.Msg) error {
	var j bareJob
	if err := json.Unmarshal(m.Data(), &j); err != nil {
		return err
	}
	r := messages.NewRenewal(j.Subscription, j.Period)
	if h.who != "claims" {
		order, err := h.post(ctx, &j)
		if err != nil {
			return err
		}
		if _, err := h.publish(ctx, messages.KindPaid, r, recordSize{}.body(j.ID, order), nil); err != nil {
			return err
		}
		return m.Ack()
	}
	claim, err := h.publish(ctx, messages.KindCharging, r, h.records.Claim.body(j.ID, ""), h.claim, expect(r, 0))
	if err != nil {
		return err
	}
	order, err := h.post(ctx, &j)
	if err != nil {
		return err
	}
	if _, err := h.publish(ctx, messages.KindPaid, r, h.records.Paid.body(j.ID, order), h.paid, expect(r, claim)); err != nil {
		return err
	}
	return m.Ack()
}

// post creates the order.
func (h *hand) post(ctx context.Context, j *bareJob) (order string, err error) {
	target := *h.klarna
	target.Path = "/customer-token/v1/tokens/" + j.Token + "/order"
	request := &http.Request{
		Method: http.MethodPost, URL: &target, Host: target.Host, Body: io.NopCloser(bytes.NewReader(j.Order)), ContentLength: int64(len(j.Order)),
		Header: http.Header{"Authorization": h.authorization, "Content-Type": {"application/json"}, "Klarna-Idempotency-Key": {j.ID}},
	}
	response, err := h.client.Do(request.WithContext(ctx))
	if err != nil {
		return "", err
	}
	h.answer.Reset()
	_, err = h.answer.ReadFrom(response.Body)
	response.Body.Close()
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", response.StatusCode, h.answer.Bytes())
	}
	var created struct {
		ID string `json:"order_id"`
	}
	err = json.Unmarshal(h.answer.Bytes(), &created)
	return created.ID, err
}

// writeAll claims and settles renewals that have no job.
func (l *loop) writeAll(ctx context.Context, busy *sync.WaitGroup, fail func(error), jobs int) {
	var taken atomic.Int64
	for range l.hands {
		busy.Go(func() {
			h := l.hand()
			for n := int(taken.Add(1)); n <= jobs; n = int(taken.Add(1)) {
				r := renewal(n - 1)
				claim, err := h.publish(ctx, messages.KindCharging, r, l.records.Claim.body(string(r), ""), h.claim, expect(r, 0))
				if err == nil {
					_, err = h.publish(ctx, messages.KindPaid, r, l.records.Paid.body(string(r), ""), h.paid, expect(r, claim))
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
func (h *hand) publish(
	ctx context.Context, k messages.Kind, r messages.Renewal, body []byte, header nats.Header, options ...jetstream.PublishOpt,
) (sequence uint64, _ error) {
	m := &nats.Msg{Subject: messages.RecordAddress{Kind: k, Renewal: r, Due: due, Account: defaultAccount}.Subject(), Header: header, Data: body}
	for {
		ack, err := h.js.PublishMsg(ctx, m, options...)
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

// recordSizes are how large the two records of a paid renewal are in the journal.
type recordSizes struct {
	Claim recordSize `json:"claim"`
	Paid  recordSize `json:"paid"`
}

// recordSize is that of a record's body and of its header without the expectation, in bytes.
type recordSize struct {
	Body   int `json:"body"`
	Header int `json:"header"`
}

// sizeOfRecord measures a record of the journal.
func sizeOfRecord(m *jetstream.RawStreamMsg) recordSize {
	size := recordSize{Body: len(m.Data)}
	for name, values := range m.Header {
		for _, value := range values {
			if !strings.HasPrefix(name, "Nats-Expected-") {
				size.Header += len(name + ": " + value + "\r\n")
			}
		}
	}
	return size
}

const fillerHeader = "Bench-Filler"

// filler is longer than the worker's records are.
var filler = strings.Repeat("-", 16<<10)

// body names a job and its order, and is as large as the size says where that is more.
func (s recordSize) body(job, order string) []byte {
	b := append(make([]byte, 0, max(s.Body, 128)), `{"id":"`...)
	b = append(b, job...)
	b = append(b, `","order_id":"`...)
	b = append(b, order...)
	if missing := s.Body - len(b) - len(`","filler":""}`); missing > 0 {
		b = append(b, `","filler":"`...)
		b = append(b, filler[:missing]...)
	}
	return append(b, `"}`...)
}

func (s recordSize) header() nats.Header {
	if s.Header == 0 {
		return nil
	}
	return nats.Header{fillerHeader: {filler[:max(s.Header-len(fillerHeader+": \r\n"), 0)]}}
}

// String and parseRecordSizes carry the sizes to a process that pads to them.
func (s recordSizes) String() string {
	return fmt.Sprintf("%d,%d,%d,%d", s.Claim.Body, s.Claim.Header, s.Paid.Body, s.Paid.Header)
}

func parseRecordSizes(text string) (s recordSizes, err error) {
	if _, err = fmt.Sscanf(text, "%d,%d,%d,%d", &s.Claim.Body, &s.Claim.Header, &s.Paid.Body, &s.Paid.Header); err != nil {
		return s, fmt.Errorf("record sizes: found %q, expected four numbers with commas between them: %w", text, err)
	}
	return s, nil
}
