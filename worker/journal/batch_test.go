package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A gathering is a broker as the queue sees it: writes wait until the test lets them go.
type gathering struct {
	*Batches
	t       *testing.T
	ends    chan error // of the next write by itself
	commits chan error // of the next batch

	mu     sync.Mutex
	alone  []messages.Renewal   // on their way by themselves
	groups [][]messages.Renewal // batches, in order
	counts map[bool]int
	all    sync.WaitGroup
}

func gather(t *testing.T, least int) *gathering {
	g := &gathering{t: t, ends: make(chan error), commits: make(chan error), counts: map[bool]int{}}
	g.Batches = NewBatches(BatchAuto, func(together bool, n int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.counts[together] += n
	})
	g.least = least
	return g
}

// outcome is what a write came to.
type outcome struct {
	sequence uint64
	err      error
}

// write has somebody write a record, and returns what it comes to once all is at rest.
func (g *gathering) write(ctx context.Context, r messages.Renewal) (got *outcome) {
	got = new(outcome)
	g.all.Go(func() {
		got.sequence, got.err = g.store(ctx, r, &nats.Msg{Subject: "x", Header: nats.Header{}}, func() (uint64, error) {
			g.mu.Lock()
			g.alone = append(g.alone, r)
			g.mu.Unlock()
			return 1, <-g.ends
		}, func(batch []*waiting) (uint64, error) {
			var names []messages.Renewal
			for _, w := range batch {
				names = append(names, w.renewal)
			}
			g.mu.Lock()
			g.groups = append(g.groups, names)
			g.mu.Unlock()
			return 100, <-g.commits
		})
	})
	synctest.Wait()
	return got
}

// busy has so many write by themselves that the next ones wait.
func (g *gathering) busy() {
	for range fewAlone {
		g.write(g.t.Context(), "busy")
	}
	g.alone = nil
}

// end lets so many writes by themselves go.
func (g *gathering) end(n int) {
	for range n {
		g.ends <- nil
		synctest.Wait()
	}
}

func (g *gathering) finish() {
	go func() {
		for {
			select {
			case g.ends <- nil:
			case g.commits <- nil:
			case <-g.t.Context().Done():
				return
			}
		}
	}()
	g.all.Wait()
}

// While few are about none waits, and none is in a batch; with more, those that wait are committed together, each with its sequence.
func TestGathering(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gather(t, 2)
		g.busy()
		first := g.write(t.Context(), "a")
		if len(g.alone) != 0 || len(g.groups) != 0 {
			t.Fatalf("one that waits: %v by itself, batches %v", g.alone, g.groups)
		}
		second := g.write(t.Context(), "b")
		third := g.write(t.Context(), "c")
		if want := [][]messages.Renewal{{"a", "b"}}; !slices.EqualFunc(g.groups, want, slices.Equal) {
			t.Fatalf("batches %v, want %v", g.groups, want)
		}
		g.end(fewAlone)
		if len(g.alone) != 0 {
			t.Errorf("%v by itself while a batch is under way", g.alone)
		}
		g.commits <- nil
		synctest.Wait()
		if first.sequence != 99 || second.sequence != 100 {
			t.Errorf("sequences %d, %d of a batch whose last is 100", first.sequence, second.sequence)
		}
		if !slices.Equal(g.alone, []messages.Renewal{"c"}) || third.sequence != 0 {
			t.Errorf("once the batch is done %v is written by itself, want c", g.alone)
		}
		g.finish()
		if g.counts[true] != 2 || g.counts[false] != fewAlone+1 {
			t.Errorf("counted in batches and singly: %v", g.counts)
		}
	})
}

// A second record of a renewal waits for the next batch: the server would store both.
func TestOneRecordOfARenewalInABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gather(t, 3)
		g.busy()
		for _, r := range []messages.Renewal{"a", "a", "b", "b", "a", "c", "d", "e", "f"} {
			g.write(t.Context(), r)
		}
		g.commits <- nil
		synctest.Wait()
		g.commits <- nil
		synctest.Wait()
		want := [][]messages.Renewal{{"a", "b", "c"}, {"a", "b", "d", "e", "f"}}
		if !slices.EqualFunc(g.groups, want, slices.Equal) {
			t.Errorf("batches %v, want %v", g.groups, want)
		}
		g.finish()
	})
}

// Whatever a batch comes to but its confirmation, each of its records is then written by itself. After an answer that was about
// the records the next batch follows, after any other none for a while.
func TestBatchThatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err   error
		rests bool
	}{
		"another was first":        {err: &jetstream.APIError{Code: 400, ErrorCode: 10071}},
		"one is not applied yet":   {err: &jetstream.APIError{Code: 400, ErrorCode: 10164}},
		"abandoned":                {err: &jetstream.APIError{Code: 400, ErrorCode: 10176}, rests: true},
		"too many":                 {err: &jetstream.APIError{Code: 429, ErrorCode: 10210}, rests: true},
		"unanswered":               {err: nats.ErrTimeout, rests: true},
		"a server without batches": {err: errNotBatched, rests: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := gather(t, 2)
				g.busy()
				a, b := g.write(t.Context(), "a"), g.write(t.Context(), "b")
				c, d := g.write(t.Context(), "c"), g.write(t.Context(), "d")
				g.commits <- tt.err
				synctest.Wait()
				want := []messages.Renewal{"a", "b"}
				if tt.rests {
					want = append(want, "c", "d")
				}
				slices.Sort(g.alone)
				if !slices.Equal(g.alone, want) {
					t.Errorf("by themselves: %v, want %v", g.alone, want)
				}
				if batches := len(g.groups); batches == 1 != tt.rests {
					t.Errorf("%d batches, rests %t", batches, tt.rests)
				}
				g.finish()
				for _, w := range []*outcome{a, b, c, d} {
					if w.sequence == 0 || w.err != nil {
						t.Errorf("got %d, %v", w.sequence, w.err)
					}
				}
				if tt.rests {
					<-time.After(batchRest) // of the bubble's time
					if g.worthwhile() == 0 {
						t.Error("no batch for longer than it rests")
					}
				}
				if g.Batches.alone != 0 || g.open || len(g.waiting) != 0 {
					t.Errorf("left behind: %d alone, open %t, %d waiting", g.Batches.alone, g.open, len(g.waiting))
				}
			})
		})
	}
}

// Who waits no longer than it may is let go; whom others count on does what it was told.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gather(t, 3)
		g.busy()
		ctx, cancel := context.WithCancel(t.Context())
		gone, leads, rides := g.write(ctx, "gone"), g.write(t.Context(), "leads"), (*outcome)(nil)
		cancel()
		synctest.Wait()
		if !errors.Is(gone.err, context.Canceled) {
			t.Errorf("queued, and its time over: %v", gone.err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		rides = g.write(ctx, "rides")
		g.write(t.Context(), "third")
		cancel()
		synctest.Wait()
		if !errors.Is(rides.err, context.Canceled) || len(g.groups) != 1 || len(g.groups[0]) != 3 {
			t.Fatalf("in a batch, and its time over: %v, batches %v", rides.err, g.groups)
		}
		g.commits <- nats.ErrTimeout
		synctest.Wait()
		slices.Sort(g.alone)
		if !slices.Equal(g.alone, []messages.Renewal{"leads", "third"}) {
			t.Errorf("by themselves: %v", g.alone)
		}
		g.finish()
		if leads.err != nil || g.Batches.alone != 0 {
			t.Errorf("the first of the batch: %v; %d alone at the end", leads.err, g.Batches.alone)
		}
	})
}

// Who is to lead a batch when its time is over leads it.
func TestLeaderWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // either end of the wait may be seen first
		b := gather(t, 1).Batches
		b.alone = fewAlone
		led := false
		_, _ = b.store(ctx, "a", &nats.Msg{}, func() (uint64, error) { return 0, ctx.Err() }, func([]*waiting) (uint64, error) { led = true; return 1, nil })
		if !led || b.open {
			t.Fatalf("led %t, still open %t", led, b.open)
		}
	}
}

// A leader that panics leaves nobody waiting.
func TestLeaderPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := gather(t, 2).Batches
		b.alone = fewAlone
		var all sync.WaitGroup
		var panics, alone atomic.Int64
		for _, r := range []messages.Renewal{"leads", "rides"} {
			all.Go(func() {
				defer func() {
					if recover() != nil {
						panics.Add(1)
					}
				}()
				_, _ = b.store(t.Context(), r, &nats.Msg{}, func() (uint64, error) { alone.Add(1); return 1, nil }, func([]*waiting) (uint64, error) { panic("in the middle") })
			})
			synctest.Wait()
		}
		all.Wait()
		if panics.Load() != 1 || alone.Load() != 1 || b.open || b.alone != fewAlone {
			t.Errorf("%d panics, %d by itself, want the one that rode; still open %t, %d alone of %d before", panics.Load(), alone.Load(), b.open, b.alone, fewAlone)
		}
	})
}

// Batches are made where they are worth it, and nowhere else.
func TestLeastTogether(t *testing.T) {
	t.Parallel()
	tagged := &jetstream.Placement{Tags: []string{"sync:always"}}
	for _, tt := range []struct {
		name     string
		batching Batching
		journal  jetstream.StreamConfig
		want     int
	}{
		{name: "one node", batching: BatchAuto, journal: jetstream.StreamConfig{Replicas: 1, AllowAtomicPublish: true}},
		{name: "one node, fsync on every write by its operator's word", batching: BatchSynced, journal: jetstream.StreamConfig{Replicas: 1, AllowAtomicPublish: true}, want: 16},
		{name: "one node, fsync on every write by its tag", batching: BatchAuto, journal: jetstream.StreamConfig{Replicas: 1, AllowAtomicPublish: true, Placement: tagged}, want: 16},
		{name: "replicas", batching: BatchAuto, journal: jetstream.StreamConfig{Replicas: 3, AllowAtomicPublish: true}, want: 2},
		{name: "replicas, switched off", batching: BatchOff, journal: jetstream.StreamConfig{Replicas: 3, AllowAtomicPublish: true, Placement: tagged}},
		{name: "a stream that takes none", batching: BatchSynced, journal: jetstream.StreamConfig{Replicas: 3}},
	} {
		if got := leastTogether(tt.batching, tt.journal); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
