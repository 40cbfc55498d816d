package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// TestChaos breaks everything at once and then compares the simulator's books
// with the journal, job by job. CHAOS sets how long (default 6s; make chaos takes longer), CHAOS_SEED repeats a run's plan.
func TestChaos(t *testing.T) {
	t.Parallel()
	chaos(t, 1)
}

// TestChaosCluster is the same on three nodes with three replicas, killed in turn.
func TestChaosCluster(t *testing.T) {
	chaos(t, 3)
}

// story is one job of a chaos run and what may become of it.
type story struct {
	payload []byte
	renewal messages.Renewal
	key     messages.IdempotencyKey
	want    string
	// rival: another job wants the same. Of two charges one is paid, the other rejected
	// as already_paid; of two captures of most of an order one is captured, the other rejected as amount_too_high.
	rival    bool
	twin     *story // the same period under another name, where it is one's rival
	early    bool   // it is parked first
	number   int    // of the job, and of its renewal
	capture  bool   // it captures what another story authorised
	captures string // how the captures that follow it go; "" for none
}

// lost is the reason for which the slower of two rivals is rejected.
func (s story) lost() string {
	if s.capture {
		return "amount_too_high"
	}
	if s.twin != nil {
		return "too_close"
	}
	return "already_paid"
}

type chaosRun struct {
	t       *testing.T
	w       *world
	rand    *rand.Rand
	nodes   []*node
	wires   []*wire
	workers []*process
	faults  map[string]int

	stepping *stepping                        // a worker whose clock somebody sets
	older    string                           // a copy of the journal's files from the middle of the run; "" in a cluster
	made     map[messages.IdempotencyKey]bool // what Klarna had made before the journal was set back; nil before that

	undecided map[messages.IdempotencyKey]bool // jobs that stay so for now, by right

	beside map[messages.Renewal]messages.Renewal // the other name of a period that has two
}

func chaos(t *testing.T, nodes int) {
	length, err := time.ParseDuration(env("CHAOS", "6s"))
	if err != nil {
		t.Fatalf("CHAOS: %v", err)
	}
	seed, err := strconv.ParseUint(env("CHAOS_SEED", strconv.FormatInt(time.Now().UnixNano()%1e9, 10)), 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v", err)
	}
	c := &chaosRun{t: t, rand: rand.New(rand.NewPCG(seed, 0)), faults: map[string]int{}, beside: map[messages.Renewal]messages.Renewal{}}
	c.w, c.nodes = clusterWorld(t, nodes, klarnasim.Options{Seed: seed, Faults: 0.15, Latency: 5 * time.Millisecond, PendingFor: 500 * time.Millisecond, LateBy: 800 * time.Millisecond})
	if nodes == 1 {
		c.older = filepath.Join(t.TempDir(), "older")
	}
	await(t, 30*time.Second, "the streams", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return worker.Provision(ctx, c.w.js, topology.Provisioning{Accounts: []messages.Account{"default"}, AckWait: 3 * time.Second, Replicas: nodes}) == nil
	})
	for i := range 3 {
		c.wires = append(c.wires, newWire(t, c.nodes[i%nodes].addr()))
		c.workers = append(c.workers, c.worker(i))
	}

	own := newWire(t, c.nodes[0].addr())
	c.stepping = startStepping(t, own.addr, c.w.klarna)

	stop := make(chan struct{})
	stories := make(chan []story, 1)
	go func() { stories <- c.publish(rand.New(rand.NewPCG(seed, 1)), stop) }()
	c.wreck(length)
	close(stop)
	told := <-stories
	c.stepping.stop()

	// Klarna and the network are well again: everything must come to its end.
	c.w.klarna.Simulator.Change(func(o *klarnasim.Options) { o.Faults = 0 })
	for i := range c.workers {
		c.wires[i].set(false, false)
		select {
		case <-c.workers[i].done:
			c.workers[i] = c.worker(i)
		default:
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			if o, err := desk.Look(context.Background(), c.w.js, time.Now()); err == nil {
				state, _ := json.MarshalIndent(o, "", " ")
				t.Logf("how everything stands: %s", state)
			}
		}
	})
	decided := func() bool { return c.decidable() == 0 }
	await(t, 2*time.Minute, "every job that can be decided to leave the stream", decided)
	told = append(told, c.capture(told, len(told))...)
	await(t, 2*time.Minute, "every capture that can be decided to leave the stream", decided)
	c.report(seed, told)
	if c.older != "" {
		told = c.setBack(told)
		c.report(seed, told)
	}
	c.reconcile()
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func (c *chaosRun) worker(i int) *process {
	urls := []string{"nats://" + c.wires[i].addr}
	return c.w.start([]string{"NATS_URL=" + strings.Join(urls, ","), "RENEWALS_RETRY_DELAYS=200ms,500ms,1s", "RENEWALS_LOG_LEVEL=warn", "RENEWALS_BATCHES=sync-always"}, "work")
}

// copyAtLast keeps the journal as it is at the end of the trouble, where a broker was down or full all the time in which it
// should have been kept.
func (c *chaosRun) copyAtLast(downed *sync.Mutex) {
	downed.Lock()
	defer downed.Unlock()
	n := c.nodes[0]
	n.kill()
	n.copyJournal(c.older)
	n.start()
	n.awaitListening()
}

// wreck breaks things for a while, one after the other, several at a time.
func (c *chaosRun) wreck(length time.Duration) {
	end := time.NewTimer(length)
	defer end.Stop()
	var healing sync.WaitGroup
	defer healing.Wait()
	frozen := make([]sync.Mutex, len(c.workers)) // one trouble at a time for each
	downed := sync.Mutex{}
	half, copied := time.Now().Add(length/2), c.older == ""
	for turn := 0; ; turn++ {
		select {
		case <-end.C:
			if !copied {
				c.copyAtLast(&downed)
			}
			return
		case <-time.After(time.Duration(200+c.rand.IntN(600)) * time.Millisecond):
		}
		i, d := c.rand.IntN(len(c.workers)), time.Duration(c.rand.IntN(1000))*time.Millisecond
		what := c.rand.IntN(13)
		copying := !copied && time.Now().After(half)
		if (what == 0 || copying) && downed.TryLock() {
			copied = copied || copying
			n := c.nodes[turn%len(c.nodes)]
			c.faults["broker killed"]++
			healing.Go(func() {
				defer downed.Unlock()
				n.kill()
				if copying {
					n.copyJournal(c.older)
				}
				pause(300*time.Millisecond + d)
				n.start()
				n.awaitListening()
				pause(2 * time.Second) // a cluster may lose one node at a time
			})
			continue
		}
		if what == 12 {
			c.faults["clock stepped"]++
			c.stepping.offset.Store(int64(steps[c.rand.IntN(len(steps))]))
			healing.Go(func() {
				pause(500*time.Millisecond + 2*d)
				c.stepping.offset.Store(0)
			})
			continue
		}
		if what == 1 && downed.TryLock() {
			c.faults["quota full"]++
			healing.Go(func() {
				defer downed.Unlock()
				for _, n := range c.nodes {
					n.limit(exhausted)
				}
				pause(time.Second + 2*d)
				for _, n := range c.nodes {
					n.limit(unlimited)
				}
			})
			continue
		}
		if !frozen[i].TryLock() {
			continue
		}
		switch {
		case what < 5:
			c.faults["worker killed"]++
			c.workers[i].kill()
			c.workers[i] = c.worker(i)
			frozen[i].Unlock()
		case what < 7:
			c.faults["worker frozen"]++
			p := c.workers[i].cmd.Process
			_ = p.Signal(syscall.SIGSTOP)
			healing.Go(func() {
				defer frozen[i].Unlock()
				pause(2*time.Second + 3*d) // AckWait is 3 s
				_ = p.Signal(syscall.SIGCONT)
			})
		case what < 9:
			c.faults["reads refused"]++
			c.wires[i].garbleReads(true)
			healing.Go(func() {
				defer frozen[i].Unlock()
				pause(time.Second + 3*d)
				c.wires[i].garbleReads(false)
			})
		default:
			silent := what < 10
			c.faults[map[bool]string{true: "network silent", false: "network cut"}[silent]]++
			c.wires[i].set(!silent, silent)
			healing.Go(func() {
				defer frozen[i].Unlock()
				pause(500*time.Millisecond + 3*d)
				c.wires[i].set(false, false)
			})
		}
	}
}

// pause lets real time pass: what is broken has to stay so for a while.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// publish sends jobs until told to stop, some of them twice.
func (c *chaosRun) publish(r *rand.Rand, stop <-chan struct{}) (told []story) {
	tokens := []struct{ token, want string }{
		{"ok-", "paid"}, {"ok-", "paid"}, {"ok-", "paid"}, {"created-500-", "paid"}, {"created-cut-", "paid"},
		{"pending-accept-", "paid"}, {"503x2-", "paid"}, {"slow-400-", "paid"}, {"soft-decline-", "dunning"}, {"unavailable-", "dunning"},
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return told
		case <-time.After(time.Duration(r.IntN(10)*min(n%200/80, 1)) * time.Millisecond): // now and then many at one moment
		}
		if n%100 == 99 {
			told = append(told, c.capture(told, 5)...)
		}
		variant := tokens[r.IntN(len(tokens))]
		s := story{payload: job(n, variant.token+strconv.Itoa(n)), want: variant.want}
		if r.IntN(50) == 0 {
			s = story{payload: job(n, "ok-"+strconv.Itoa(n), func(j map[string]any) { j["order"].(map[string]any)["order_amount"] = 1 }), want: "rejected"}
		}
		s.number = n
		if s.want == "paid" && r.IntN(5) == 0 {
			s.payload = job(n, variant.token+strconv.Itoa(n), func(j map[string]any) { j["order"].(map[string]any)["auto_capture"] = false })
			s.captures = []string{"one-", "two-", "created-500-", "created-cut-", "503x2-", "slow-400-", "soft-decline-"}[r.IntN(7)]
		}
		if s.want == "paid" && s.captures == "" && r.IntN(10) == 0 { // early: parked first
			s.payload = job(n, variant.token+strconv.Itoa(n), func(j map[string]any) {
				j["due_at"] = time.Now().Add(3*time.Second + time.Duration(r.IntN(3000))*time.Millisecond).UTC().Format(time.RFC3339Nano)
			})
			s.early = true
		}
		all := []story{s}
		if s.want == "paid" && s.captures == "" && !s.early && r.IntN(20) == 0 {
			all[0].rival = true
			all = append(all, story{rival: true, want: s.want, payload: job(n, variant.token+strconv.Itoa(n), func(j map[string]any) {
				j["id"] = fmt.Sprint(j["subscription_id"], "/2026-12/rival")
			})})
		}
		if s.want == "paid" && s.captures == "" && !s.early && !all[0].rival && r.IntN(20) == 0 {
			all[0].rival = true
			twin := story{rival: true, want: s.want, payload: job(n, variant.token+"twin-"+strconv.Itoa(n), func(j map[string]any) {
				j["period"], j["id"] = "December 2026", fmt.Sprint(j["subscription_id"], "/December 2026/1")
			})}
			first := all[0]
			twin.twin, all[0].twin = &first, &twin
			all = append(all, twin)
		}
		for _, s := range all {
			s.renewal, s.key = keys(s.payload)
			copies := 1
			if r.IntN(20) == 0 {
				copies = 2
			}
			if s.twin != nil {
				twin, _ := keys(s.twin.payload)
				c.beside[s.renewal] = twin
			}
			for range copies {
				c.send("renewals.due.default", s.payload)
			}
			told = append(told, s)
		}
	}
}

// capture publishes the captures of at most so many stories whose order was
// authorised by now. A story is only taken once.
func (c *chaosRun) capture(told []story, most int) (captures []story) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	records, err := journal.Open(ctx, c.w.js, zerolog.Nop())
	if err != nil {
		return nil // the broker is away
	}
	for i := range told {
		s := &told[i]
		if s.captures == "" || most == 0 {
			continue
		}
		at, err := records.Last(ctx, s.renewal)
		if err != nil || at.State.Phase != journal.PhasePaid {
			continue
		}
		follow := story{capture: true, want: "captured"}
		amounts := []int64{0}
		switch s.captures {
		case "two-":
			follow.rival, amounts = true, []int64{1000, 1000}
		case "soft-decline-":
			follow.want = "capture_failed"
		}
		for n, amount := range amounts {
			fields := map[string]any{"reference": s.captures + "c"}
			if amount > 0 {
				fields["captured_amount"] = amount
			}
			follow.payload = capture(s.number, n, fields)
			follow.renewal, follow.key = captureKeys(follow.payload)
			c.send("renewals.capture.default", follow.payload)
			captures = append(captures, follow)
		}
		s.captures = ""
		most--
	}
	return captures
}

// send publishes until the broker has confirmed it.
func (c *chaosRun) send(subject string, payload []byte) {
	for c.t.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		_, err := c.w.js.Publish(ctx, subject, payload)
		cancel()
		if err == nil {
			return
		}
		pause(100 * time.Millisecond)
	}
}

// decidable is how many jobs in the stream may still get their result soon. After
// a 2xx without an order a refusal is not believed: such a job is rightly undecided until its
// key's window closes.
func (c *chaosRun) decidable() int {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	stream, err := c.w.js.Stream(ctx, messages.StreamJobs)
	if err != nil {
		return 1
	}
	later, err := c.w.js.Stream(ctx, messages.StreamLater)
	if err != nil {
		return 1
	}
	records, err := journal.Open(ctx, c.w.js, zerolog.Nop())
	if err != nil {
		return 1
	}
	waiting := 0
	c.undecided = map[messages.IdempotencyKey]bool{}
	for next := uint64(1); ; {
		m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) && stream != later {
			stream, next = later, 1
			continue
		}
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return waiting
		}
		if err != nil {
			return 1
		}
		next = m.Sequence + 1
		renewal, key := keys(m.Data)
		if m.Subject == "renewals.capture.default" {
			renewal, key = captureKeys(m.Data)
		}
		at, err := records.Last(ctx, renewal)
		if err != nil {
			return 1
		}
		claim := at.State.Claim
		if claim != nil && claim.Held && claim.Restored {
			c.undecided[key] = true // its own order may be forgotten, and the other name was charged meanwhile: for an operator to look at
			continue
		}
		if claim != nil && claim.Held { // it waits for the other name of its period
			if at, err = records.Last(ctx, c.beside[renewal]); err != nil {
				return 1
			}
			claim = at.State.Claim
		}
		switch {
		case claim != nil && (at.State.Phase == journal.PhaseCharging || at.State.Phase == journal.PhaseCapturing) && claim.Answered2xx && claim.Contradicted:
			c.undecided[key] = true // its own, or it waits for the one that is
		case c.made != nil && !c.made[key] && claim != nil && claim.Restored:
			c.undecided[key] = true // a refusal is not believed until a try that was forgotten must have ended
		default:
			waiting++
		}
	}
}

// report compares what was published, the books and the journal, and says what happened.
func (c *chaosRun) report(seed uint64, told []story) {
	c.t.Helper()
	orders, perRenewal := map[string]int{}, map[messages.Renewal]int{}
	byKey := map[string]messages.Renewal{}
	for _, s := range told {
		byKey[string(s.key)] = s.renewal
	}
	books := c.w.klarna.Simulator.Books()
	captures := 0
	for _, o := range books.Orders {
		orders[o.IdempotencyKey]++
		perRenewal[byKey[o.IdempotencyKey]]++
		for _, taken := range o.Captures {
			orders[taken.IdempotencyKey]++
			captures++
		}
	}
	results := map[messages.IdempotencyKey][]record{}
	kinds := map[string]int{}
	for _, r := range c.w.results() {
		key := messages.IdempotencyKey(r.Event["idempotency_key"].(string))
		results[key] = append(results[key], r)
		kinds[r.Kind]++
	}
	var doubled, lost, twice, falseDunning, other, undecided int
	for _, n := range perRenewal {
		if n > 1 {
			doubled++
		}
	}
	for _, s := range told {
		if s.twin == nil {
			continue
		}
		_, twin := keys(s.twin.payload)
		rejected := func(key messages.IdempotencyKey) bool {
			return len(results[key]) > 0 && results[key][0].Kind == "rejected"
		}
		switch {
		case orders[string(s.key)] > 0 && orders[string(twin)] > 0 && !c.made[s.key] && !c.made[twin]: // a journal that was set back knows no neighbours
			doubled++
		case rejected(s.key) && rejected(twin):
			other++
			c.t.Errorf("both names of a period are rejected: %s", s.payload)
		}
	}
	for _, s := range told {
		got := results[s.key]
		switch {
		case len(got) == 0 && c.undecided[s.key] && (orders[string(s.key)] == 0 || s.twin != nil && c.made[s.key]):
			undecided++
			continue
		case len(got) == 0:
			lost++
			c.t.Errorf("%s has no result", s.payload)
			continue
		case len(got) > 1:
			twice++
			c.t.Errorf("%s has %d results", s.payload, len(got))
		}
		r := got[0]
		made := orders[string(s.key)]
		body, _ := json.Marshal(r.Event)
		switch {
		case (r.Kind == "dunning" || r.Kind == "capture_failed") && made > 0:
			falseDunning++
			c.t.Errorf("%s although there is an order or a capture: %s", r.Kind, body)
		case (r.Kind == "paid" || r.Kind == "captured") && made != 1:
			other++
			c.t.Errorf("%s with %d orders or captures: %s", r.Kind, made, body)
		case s.rival && (r.Kind == s.want || r.Kind == "rejected" && r.Event["reason"] == s.lost()):
		case s.capture && c.made[s.key] && r.Kind == "rejected" && r.Event["reason"] == "already_captured": // Klarna says so of what the journal has forgotten
		case r.Kind != s.want:
			other++
			c.t.Errorf("want %s: %s", s.want, body)
		}
	}
	if doubled > 0 {
		c.t.Errorf("%d renewals have more than one order", doubled)
	}
	c.t.Logf("jobs %d, of them %d under two names, faults %v, Klarna's answers %v, orders %d, captures %d, results %v; doubled %d, lost %d, told twice %d, false dunning %d, otherwise wrong %d; rightly undecided %d; records in batches %d; CHAOS_SEED=%d repeats the plan",
		len(told), len(c.beside), c.faults, books.Statuses, len(books.Orders), captures, kinds, doubled, lost, twice, falseDunning, other, undecided, c.w.inBatches(), seed)
}
