package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/nats-io/nats.go"
)

// sample is a job whose outcome is known beforehand, since the customer token tells the simulator what to answer.
type sample struct {
	about   string
	slow    string // why its result takes long
	job     messages.Job
	capture *messages.Capture // published in place of job, whose order it takes the money of
	want    messages.Kind
	then    *sample // published once this one has its result
}

func (s sample) id() messages.MessageID {
	if s.capture != nil {
		return s.capture.ID
	}
	return s.job.ID
}

func (s sample) key(r messages.RenewalKey) messages.IdempotencyKey {
	if s.capture != nil {
		return messages.NewCaptureKey(r, s.capture.ID)
	}
	return messages.NewIdempotencyKey(r, s.job.ID)
}

// message is what a billing system publishes. An invalid job is published past the check, as those do that write JSON.
func (s sample) message() (*nats.Msg, error) {
	if s.capture != nil {
		return messages.NewCaptureMessage(devAccount, *s.capture)
	}
	if s.want != messages.KindRejected {
		return messages.NewMessage(devAccount, s.job)
	}
	payload, err := s.job.Encode()
	return &nats.Msg{Subject: messages.DueSubject(devAccount), Header: nats.Header{nats.MsgIdHdr: {string(s.job.ID)}}, Data: payload}, err
}

// product is what a subscription of the samples costs. The tax is included, 19 %.
type product struct {
	name, interval string
	count          int
	amount         int64
	currency       string
}

// variants are those of Klarna's guide on charging subscriptions, and the ways in which a charge fails.
// run makes identifiers unique, so that a store may be used again.
func variants(run string, now time.Time) []sample {
	var (
		premium = product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}
		coffee  = product{"Coffee Box", "WEEK", 2, 2490, "EUR"}
		insured = product{"Device Insurance", "YEAR", 1, 99900, "SEK"}
	)
	samples := []sample{
		{about: "first paid charge after a free trial", job: charge(run, "trial", "ok", premium, now), want: messages.KindPaid},
		{about: "standard renewal", job: charge(run, "standard", "ok", premium, now), want: messages.KindPaid},
		{about: "two products, one token: every two weeks", job: charge(run, "coffee", "ok-shared", coffee, now), want: messages.KindPaid},
		{about: "two products, one token: every year", job: charge(run, "insurance", "ok-shared", insured, now), want: messages.KindPaid},
		{about: "soft decline", job: charge(run, "declined", "soft-decline-once", premium, now), want: messages.KindDunning},
		{about: "cancelled token", job: charge(run, "cancelled", "cancelled", premium, now), want: messages.KindDunning},
		{about: "503 twice, then healed", job: charge(run, "maintenance", "503x2-ok", premium, now), want: messages.KindPaid},
		{about: "order created, answered with 500", job: charge(run, "created-500", "created-500-ok", premium, now), want: messages.KindPaid},
		{about: "order created, connection cut", job: charge(run, "created-cut", "created-cut-ok", premium, now), want: messages.KindPaid},
		{about: "invalid job: the sum is off", job: charge(run, "invalid", "ok", premium, now), want: messages.KindRejected},
		{about: "authorised only, to be captured later", job: charge(run, "delayed", "ok", coffee, now), want: messages.KindPaid},
	}
	for i := range samples {
		s := &samples[i]
		switch s.about {
		case "standard renewal":
			twin := *s
			twin.about, twin.want = "the same period under another name", messages.KindRejected
			twin.job.Period = messages.Period(now.UTC().Format("January 2006"))
			twin.job.ID = messageID(twin.job)
			s.then = &twin
		case "order created, connection cut":
			s.slow = "(asked again once Klarna has surely finished with the lost request)"
		case "soft decline":
			again := *s
			again.about, again.want = "the next attempt, under a new message ID", messages.KindPaid
			again.job.Attempt, again.job.CustomerActed = 2, true // they paid in: it need not wait
			again.job.ID = messageID(again.job)
			s.then = &again
		case "invalid job: the sum is off":
			s.job.Order = json.RawMessage(strings.Replace(string(s.job.Order), `"order_amount":1599`, `"order_amount":1600`, 1))
		case "authorised only, to be captured later":
			s.job.Order = json.RawMessage(strings.Replace(string(s.job.Order), `"auto_capture":true`, `"auto_capture":false`, 1))
			later := *s
			later.about, later.want, later.capture = "the delayed capture of its order", messages.KindCaptured, &messages.Capture{
				ID: messages.MessageID(fmt.Sprintf("%s/%s/c1", s.job.SubscriptionID, s.job.Period)), SubscriptionID: s.job.SubscriptionID, Period: s.job.Period,
			}
			s.then = &later
		}
	}
	return samples
}

// mixture gives n jobs, mostly paid at once, with every failure in between.
func mixture(run string, n int, now time.Time) []sample {
	p := product{"Premium Monthly", "MONTH", 1, 1599, "EUR"}
	samples := make([]sample, n)
	for i := range samples {
		token, want := "ok", messages.KindPaid
		switch i % 100 {
		case 10, 30, 50, 70, 90:
			token, want = "soft-decline", messages.KindDunning
		case 20, 60:
			token, want = "cancelled", messages.KindDunning
		case 40:
			token = "503x1-ok"
		case 80:
			token = "created-500-ok"
		}
		s := sample{about: token, job: charge(run, fmt.Sprintf("load-%d", i), token, p, now), want: want}
		if i%100 == 99 {
			s.about, s.want = "invalid job", messages.KindRejected
			s.job.Order = json.RawMessage(strings.Replace(string(s.job.Order), `"order_amount":1599`, `"order_amount":0`, 1))
		}
		samples[i] = s
	}
	return samples
}

func charge(run, name, token string, p product, now time.Time) messages.Job {
	subscription := run + "-" + name
	customer := subscription
	if token == "ok-shared" {
		customer = run
	}
	period := now.UTC().Format("2006-01")
	tax := p.amount - (p.amount*10000+5950)/11900 // Klarna's formula at 19 %, rounded half up
	job := messages.Job{
		SubscriptionID: messages.SubscriptionID(subscription),
		Period:         messages.Period(period),
		Attempt:        1,
		DueAt:          now.UTC().Truncate(time.Second),
		CustomerToken:  messages.NewCustomerToken(token + "-" + customer),
		Order: json.RawMessage(fmt.Sprintf(`{"purchase_currency":%[1]q,"order_amount":%[2]d,"order_tax_amount":%[3]d,"auto_capture":true,"merchant_reference1":%[4]q,`+
			`"order_lines":[{"type":"digital","name":%[5]q,"quantity":1,"unit_price":%[2]d,"tax_rate":1900,"total_amount":%[2]d,"total_tax_amount":%[3]d,`+
			`"subscription":{"name":%[6]q,"interval":%[7]q,"interval_count":%[8]d}}]}`,
			p.currency, p.amount, tax, subscription+"-"+period, p.name, p.name+" {{"+subscription+"}}", p.interval, p.count)),
	}
	job.ID = messageID(job)
	return job
}

// messageID is the usual form: subscription, period, attempt.
func messageID(job messages.Job) messages.MessageID {
	return messages.MessageID(fmt.Sprintf("%s/%s/%d", job.SubscriptionID, job.Period, job.Attempt))
}

// newRun names one run of the samples.
func newRun() string { return strings.ToLower(rand.Text()[:5]) }
