package worker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// rationed is the workers' bucket of an account that may have no further consumer, or no further message.
type rationed struct {
	jetstream.KeyValue
	mu             sync.Mutex
	noWatch, noPut error
	updates        chan jetstream.KeyValueEntry
}

var (
	errConsumers = &jetstream.APIError{Code: 400, ErrorCode: 10026, Description: "maximum consumers limit reached"}
	errStorage   = &jetstream.APIError{Code: 503, ErrorCode: 10047, Description: "insufficient storage resources available"}
)

func (r *rationed) allow(noWatch, noPut error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noWatch, r.noPut = noWatch, noPut
}

func (r *rationed) Watch(context.Context, string, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noWatch != nil {
		return nil, r.noWatch
	}
	return r, nil
}

func (r *rationed) Put(_ context.Context, _ string, value []byte) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noPut != nil {
		return 0, r.noPut
	}
	r.updates <- entryOf{name: "me", value: string(value)}
	return 1, nil
}

func (r *rationed) Updates() <-chan jetstream.KeyValueEntry { return r.updates }

func (r *rationed) Stop() error { return nil }

func (r *rationed) Error() <-chan error { return nil }

func (r *rationed) Delete(context.Context, string, ...jetstream.KVDeleteOpt) error { return nil }

// A worker that cannot see others charges nothing: it says why at once where it is asked, and once in the log where it lasts.
func TestPresencePrevented(t *testing.T) {
	for _, tt := range []struct {
		name           string
		noWatch, noPut error
		want           string
	}{
		{name: "no further consumer", noWatch: errConsumers, want: "watch bucket RENEWAL_WORKERS: " + errConsumers.Error()},
		{name: "no further message", noPut: errStorage, want: "write to bucket RENEWAL_WORKERS: " + errStorage.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(logbook)
				o := DefaultOptions()
				o.Name, o.Accounts, o.Log = "me", []Account{{Name: "default"}}, zerolog.New(log)
				a := accountOf(t, nil, o, nil)
				clock, pauses := a.shared.clock, a.shared.pauses
				a.rules.base.ClockMargin = time.Second
				pauses.set(gate.PauseClock, notCompared+" yet")
				bucket := &rationed{noWatch: tt.noWatch, noPut: tt.noPut, updates: make(chan jetstream.KeyValueEntry, 10)}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				p := &presence{
					name: "me", bucket: bucket, conn: new(nats.Conn), clock: clock, ahead: func() time.Duration { return 0 }, pauses: pauses, fill: a.shared.fill,
					expiring: &new(Worker).expiring, metrics: a.shared.metrics, log: o.Log, accounts: []*account{a}, seen: map[string]sighting{},
				}
				go p.run(ctx)
				after := func(d time.Duration, warnings int, sentence string) {
					t.Helper()
					<-time.After(d)
					synctest.Wait()
					clock.fault() // as whatever is sent asks
					if n := log.count(`"level":"warn","error":"` + tt.want); n != warnings {
						t.Errorf("%d warnings, want %d", n, warnings)
					}
					if why := pauses.reasons.Why(gate.PauseClock); why != sentence {
						t.Errorf("the pause says %q, want %q", why, sentence)
					}
				}
				after(topology.PresenceTTL-time.Second, 0, notCompared+" yet ("+tt.want+")")
				after(time.Minute, 1, notCompared+" yet ("+tt.want+")")
				bucket.allow(nil, nil)
				after(10*time.Second, 1, "")
				bucket.allow(tt.noWatch, tt.noPut)
				if tt.noWatch != nil {
					close(bucket.updates) // the watch ends
				}
				after(topology.PresenceTTL-presenceEvery-time.Second, 1, "")
				after(time.Minute, 2, notCompared+" for 15s ("+tt.want+")")
			})
		})
	}
}
