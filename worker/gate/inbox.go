package gate

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// jobReply begins the reply subject of every message that a consumer hands out.
const jobReply = "$JS.ACK."

// isJob tells a job from what the server says of a request.
func isJob(m *nats.Msg) bool { return strings.HasPrefix(m.Reply, jobReply) }

// An inbox is where the server sends jobs, and what it has to say of the requests for them. It is a channel, not a callback:
// a callback would keep a goroutine for each consumer, most of which have no job for hours.
type inbox struct {
	subject string
	sub     *nats.Subscription
	sent    chan *nats.Msg
	closed  chan struct{} // nothing more comes
}

// statuses is room for what the server says of requests, beside the jobs: the client drops what finds none.
const statuses = 16

// drainTimeout is how long what is on its way may take.
const drainTimeout = 5 * time.Second

// open makes an inbox with room for so many jobs.
func (p *Puller) open(jobs int) (*inbox, error) {
	in := &inbox{subject: p.nc.NewInbox(), sent: make(chan *nats.Msg, jobs+statuses), closed: make(chan struct{})}
	var err error
	if in.sub, err = p.nc.ChanSubscribe(in.subject+".*", in.sent); err != nil {
		return nil, err
	}
	over := sync.OnceFunc(func() { close(in.closed) }) // the client may say so twice
	in.sub.SetClosedHandler(func(string) { over() })
	return in, nil
}

// room says whether so many jobs may be asked for.
func (in *inbox) room(jobs int) bool { return jobs+statuses <= cap(in.sent) }

// reply is where the answers to a request go.
func (in *inbox) reply(request int) string { return in.subject + "." + strconv.Itoa(request) }

// leave gives up an inbox, if there is one; what was on its way still comes.
func (p *Puller) leave(in *inbox) {
	if in != nil {
		p.working.Go(func() { p.drain(in) })
	}
}

// drain ends an inbox and takes everything that was on its way. Without a connection nothing comes, and what the server sent is
// delivered again after AckWait.
func (p *Puller) drain(in *inbox) {
	if in == nil {
		return
	}
	if !p.nc.IsConnected() || in.sub.Drain() != nil {
		_ = in.sub.Unsubscribe()
	} else {
		p.await(in)
	}
	for {
		select {
		case m := <-in.sent:
			if isJob(m) {
				p.Take(m)
			}
		default:
			return
		}
	}
}

// await takes jobs until nothing more comes.
func (p *Puller) await(in *inbox) {
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	for {
		select {
		case m := <-in.sent:
			if isJob(m) {
				p.Take(m)
			}
		case <-in.closed:
			return
		case <-timer.C:
			_ = in.sub.Unsubscribe()
			return
		}
	}
}
