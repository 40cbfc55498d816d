package worker

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
)

// A delivery is JetStream handing out a message, once. It is never changed after it was placed.
type delivery struct {
	msg     *nats.Msg // to be acknowledged
	account messages.Account
	subject string      // where it was published
	header  nats.Header // as it was published
	data    []byte

	stream    string // RENEWALS, or RENEWALS_LATER
	sequence  uint64 // there
	delivered int    // how often it was handed out
	published time.Time
	received  time.Time
	parked    string // the subject on which it waited until it was due; "": nowhere
	nonce     string // tells this delivery from every other, in 80 random bits
}

// place says where in the stream a delivery came from.
func place(d gate.Delivery, account messages.Account) (delivery, error) {
	meta, err := d.Msg.Metadata()
	if err != nil {
		return delivery{}, fmt.Errorf("read the reply subject of a delivery: %w", err)
	}
	placed := delivery{
		msg: d.Msg, account: account, subject: d.Msg.Subject, header: d.Msg.Header, data: d.Msg.Data,
		stream: meta.Stream, sequence: meta.Sequence.Stream, delivered: int(meta.NumDelivered),
		published: meta.Timestamp, received: d.Received, nonce: rand.Text()[:16],
	}
	if placed.stream == messages.StreamLater {
		return placed.fired(), nil
	}
	return placed, nil
}

// fired is a job that was parked as it was when it was published: its headers, its subject, its time. Where it
// waited it is parked again if need be: its own sequence there could be that of another job's in RENEWALS.
func (d delivery) fired() delivery {
	if waited := d.header.Get("Nats-Scheduler"); waited != "" {
		if of, err := messages.ParseParkedSubject(waited); err == nil && of == d.account {
			d.parked = waited
		}
	}
	var published time.Time
	d.header, published = messages.Unpark(d.header)
	d.subject = messages.DueSubject(d.account)
	if !published.IsZero() {
		d.published = published
	}
	return d
}
