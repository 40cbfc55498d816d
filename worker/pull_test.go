package worker

import (
	"encoding/json"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// link is a connection to the broker that can be frozen: it stays open, and
// nothing gets through. That is what the broker sees of a machine that stands still.
type link struct {
	listener net.Listener
	gate     sync.RWMutex // held by who freezes
	going    sync.WaitGroup
}

// nextSubject is where jobs are asked for.
func nextSubject() string {
	return "$JS.API.CONSUMER.MSG.NEXT." + messages.StreamJobs + "." + topology.ConsumerName("default")
}

func newLink(t *testing.T, broker string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener}
	l.going.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(broker, "nats://"))
			if err != nil {
				_ = near.Close()
				continue
			}
			l.going.Go(func() { l.copy(near, far) })
			l.going.Go(func() { l.copy(far, near) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); l.going.Wait() })
	return l
}

func (l *link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			l.gate.RLock()
			_, errTo := to.Write(buffer[:n])
			l.gate.RUnlock()
			if errTo != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				_ = to.SetDeadline(time.Now())
			}
			return
		}
	}
}

// S31: a worker stands still while it waits for jobs. What the broker sends it
// is one job at most, which comes again after AckWait; not every second delivery for half a minute.
func TestFrozenWhileIdle(t *testing.T) {
	const jobs = 20
	w := newWorld(t)
	js := w.js
	l := newLink(t, js.Conn().ConnectedUrl())
	nc, err := nats.Connect("nats://" + l.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	asked, err := js.Conn().SubscribeSync(nextSubject())
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		Batch     int
		Expires   time.Duration
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}
	next := func() (r request) {
		t.Helper()
		m, err := asked.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.js = js
	if r := next(); r.Batch < 2 || r.Expires > 5*time.Second {
		t.Errorf("a request while jobs may be there: %+v, want several jobs for 5 s at most", r)
	}
	if r := next(); r.Batch != 1 || r.Heartbeat == 0 {
		t.Fatalf("a request while there are none: %+v, want one job, with heartbeats", r)
	}

	l.gate.Lock()
	defer l.gate.Unlock()
	for n := range jobs {
		w.publish(w.due("s31-"+strconv.Itoa(n), "ok-"+strconv.Itoa(n), 1))
	}
	w.start()
	w.awaitEmpty()
	consumer, err := js.Consumer(t.Context(), messages.StreamJobs, topology.ConsumerName("default"))
	if err != nil {
		t.Fatal(err)
	}
	if got := consumer.CachedInfo().Delivered.Consumer; got > jobs+1 {
		t.Errorf("deliveries: %d for %d jobs, want one more for what the frozen worker swallowed", got, jobs)
	}
}
