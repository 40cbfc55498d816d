package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// clusterWorld is a Klarna and brokers in processes of their own, which can be killed and frozen.
func clusterWorld(t *testing.T, nodes int, o klarnasim.Options) (*world, []*node) {
	t.Helper()
	brokers := cluster(t, nodes)
	w := &world{t: t, store: t.TempDir()}
	var err error
	if w.klarna, err = klarnasim.StartTLS(o); err != nil { // as Klarna is: closing a connection, TLS writes once more
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)
	w.roots = filepath.Join(w.store, "klarna.pem")
	write(t, w.roots, string(w.klarna.CertificatePEM))
	nc, err := nats.Connect(urls(brokers), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return w, brokers
}

func urls(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, "nats://"+n.addr())
	}
	return strings.Join(all, ",")
}

// journalInfo is what the stream says of itself, once it does.
func (w *world) journalInfo(ready func(*jetstream.StreamInfo) bool) *jetstream.StreamInfo {
	w.t.Helper()
	var info *jetstream.StreamInfo
	await(w.t, 30*time.Second, "the journal", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		stream, err := w.js.Stream(ctx, messages.StreamJournal)
		if err != nil {
			return false
		}
		info = stream.CachedInfo()
		return ready(info)
	})
	return info
}

// kept is the mark that the workers keep of the journal. Its fields stay as they are: workers of other versions read them.
type kept struct {
	Sequence uint64 `json:"sequence"`
	SetBack  string `json:"set_back"`
	Accepted int    `json:"accepted"`
}

func (w *world) mark() (k kept, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
	defer cancel()
	stream, err := w.js.Stream(ctx, messages.StreamMarks)
	if err != nil {
		return k, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, messages.MarkSubjects)
	if err != nil {
		return k, err
	}
	return k, json.Unmarshal(m.Data, &k)
}

// markPasses awaits that the mark is above the journal's end of now, and that the journal agrees with it.
func (w *world) markPasses() {
	w.t.Helper()
	last := w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.LastSeq
	await(w.t, 40*time.Second, fmt.Sprintf("a mark above %d", last), func() bool {
		k, err := w.mark()
		if k.SetBack != "" {
			w.t.Fatalf("a set-back that never was: %s", k.SetBack)
		}
		return err == nil && k.Sequence > last
	})
}

// loadAgain publishes jobs until it is told to stop, the last one again and again beside new ones, and says how many there are.
func (w *world) loadAgain() (stop func() (jobs int)) {
	stopping, n := make(chan struct{}), 0
	var publishing sync.WaitGroup
	publishing.Go(func() {
		send := func(n int) {
			for ctx := w.t.Context(); ; pause(50 * time.Millisecond) {
				one, cancel := context.WithTimeout(ctx, 2*time.Second)
				_, err := w.js.Publish(one, "renewals.due.default", job(n, fmt.Sprintf("ok-%d", n), func(j map[string]any) { j["due_at"] = "2026-11-01T00:00:00Z" }))
				cancel()
				if err == nil || ctx.Err() != nil {
					return
				}
			}
		}
		for ; ; n++ {
			select {
			case <-stopping:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if send(n); n%10 == 9 {
				send(n - 5)
			}
		}
	})
	return func() int {
		close(stopping)
		publishing.Wait()
		return n
	}
}

// S87: nothing that a healthy cluster does looks like a journal that was set back: more replicas, provisioning run
// again, other leaders, killed ones, frozen ones that thaw and answer reads from their past, a restart of all nodes.
func TestClusterIsNoSetBack(t *testing.T) {
	if env("CHAOS", "") == "" {
		t.Skip("it takes a minute and a half: `make chaos` runs it, and so does .ci/run")
	}
	w, nodes := clusterWorld(t, 3, klarnasim.Options{})
	nc, err := nats.Connect(urls(nodes[:1]), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond)) // this node is not frozen
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	await(t, 30*time.Second, "the streams", func() bool { return w.provisioned("--replicas", "1") == nil })
	var workers []*process // at one node each, so that two work whichever is away
	for i := range nodes {
		workers = append(workers, w.start([]string{"NATS_URL=" + urls(nodes[i:i+1]), "RENEWALS_RETRY_DELAYS=200ms,500ms,1s"}, "work"))
	}
	loaded := w.loadAgain()
	any := func(*jetstream.StreamInfo) bool { return true }
	made := w.journalInfo(any).Created
	w.markPasses()

	for range 2 {
		await(t, 30*time.Second, "three replicas", func() bool { return w.provisioned("--replicas", "3") == nil })
		info := w.journalInfo(func(i *jetstream.StreamInfo) bool {
			return i.Cluster != nil && i.Cluster.Leader != "" && len(i.Cluster.Replicas) == 2 && i.Cluster.Replicas[0].Current && i.Cluster.Replicas[1].Current
		})
		if !info.Created.Equal(made) {
			t.Errorf("made at %s before there were three replicas, at %s since", made, info.Created)
		}
	}
	w.markPasses()

	led := func(i *jetstream.StreamInfo) bool { return i.Cluster != nil && i.Cluster.Leader != "" }
	leader := func() *node {
		t.Helper()
		name := w.journalInfo(led).Cluster.Leader
		var i int
		if _, err := fmt.Sscanf(name, "n%d", &i); err != nil {
			t.Fatalf("leader %q: %v", name, err)
		}
		return nodes[i]
	}
	stepDown := func() {
		t.Helper()
		was := leader()
		await(t, 30*time.Second, "another leader", func() bool {
			_, _ = w.js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN."+messages.StreamJournal, nil, 2*time.Second)
			return leader() != was
		})
	}
	other := func() *node { // than the one that the test asks
		t.Helper()
		for leader() == nodes[0] {
			stepDown()
		}
		return leader()
	}
	for range 3 {
		stepDown()
	}
	w.markPasses()

	killed := other()
	killed.kill()
	await(t, 30*time.Second, "another leader than the killed one", func() bool { return leader() != killed })
	killed.start()
	killed.awaitListening()
	w.markPasses()

	for range 2 {
		frozen := other()
		_ = frozen.cmd.Process.Signal(syscall.SIGSTOP)
		await(t, 40*time.Second, "another leader than the frozen one", func() bool { return leader() != frozen })
		since := w.journalInfo(led).State.LastSeq
		w.journalInfo(func(i *jetstream.StreamInfo) bool { return led(i) && i.State.LastSeq > since+3 }) // others write
		_ = frozen.cmd.Process.Signal(syscall.SIGCONT)
		w.markPasses()
	}

	for _, n := range nodes {
		n.kill()
	}
	for _, n := range nodes {
		n.start()
	}
	w.markPasses()
	jobs := loaded()
	await(t, time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	if again := w.journalInfo(led).Created; !again.Equal(made) {
		t.Errorf("made at %s, after the restart at %s", made, again)
	}
	for _, p := range workers {
		if strings.Contains(p.text(), "was set back") {
			t.Error("a worker says that the journal was set back")
		}
	}
}

// provisioned runs the command as an operator does.
func (w *world) provisioned(args ...string) error {
	url := w.js.Conn().ConnectedUrl()
	p := w.start([]string{"NATS_URL=" + url}, append([]string{"provision"}, args...)...)
	<-p.done
	return p.err
}

// journalFiles is where a broker of its own process keeps the journal.
func (n *node) journalFiles() string {
	return filepath.Join(filepath.Dir(n.config), "jetstream", "R", "streams", messages.StreamJournal)
}

// copyJournal is a copy of the journal's files, taken while the broker is stopped.
func (n *node) copyJournal(to string) {
	n.t.Helper()
	if err := os.CopyFS(to, os.DirFS(n.journalFiles())); err != nil {
		n.t.Errorf("copy the journal: %v", err)
	}
}

// setBack stops the broker and starts it with the copied journal.
func (n *node) setBack(from string) {
	n.t.Helper()
	n.kill()
	if err := os.RemoveAll(n.journalFiles()); err != nil {
		n.t.Fatal(err)
	}
	if err := os.CopyFS(n.journalFiles(), os.DirFS(from)); err != nil {
		n.t.Fatal(err)
	}
	n.start()
	n.awaitListening()
}

const setBackPause = "journal_set_back"

// pausedWorkers are how many live workers say that the journal was set back.
func (w *world) pausedWorkers() (n int) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
	defer cancel()
	live, _ := topology.Workers(ctx, w.js)
	for _, p := range live {
		if p.Paused[setBackPause] != "" {
			n++
		}
	}
	return n
}

// S71: the broker comes back on older files under workers that run and one that starts. It is said wherever one looks;
// nothing is charged until an operator has accepted the journal, and nothing twice after it.
func TestBrokerRestartedOnCopiedFiles(t *testing.T) {
	t.Parallel()
	w, nodes := clusterWorld(t, 1, klarnasim.Options{})
	await(t, 30*time.Second, "the streams", func() bool { return w.provisioned() == nil })
	ops, env := freeAddress(t), []string{"NATS_URL=" + urls(nodes)}
	first, second := w.start(append(env, "RENEWALS_OPS_ADDR="+ops), "work"), w.start(env, "work")
	const jobs, before = 40, 15
	var payloads [][]byte
	publish := func(n int) {
		for range n {
			payloads = append(payloads, job(len(payloads), fmt.Sprintf("ok-%d", len(payloads))))
			w.publish(payloads[len(payloads)-1])
		}
		await(t, 30*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	}
	publish(before)
	older := filepath.Join(t.TempDir(), "older")
	nodes[0].kill()
	nodes[0].copyJournal(older)
	nodes[0].start()
	nodes[0].awaitListening()
	await(t, 20*time.Second, "the connection", w.js.Conn().IsConnected)
	publish(jobs - before)
	w.markIsAt(w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.LastSeq)
	second.kill()

	requests := w.klarna.Simulator.Books().Requests
	nodes[0].setBack(older)
	w.start(env, "work")
	await(t, 20*time.Second, "the connection", w.js.Conn().IsConnected)
	for _, p := range payloads {
		await(t, 20*time.Second, "the job to be stored", func() bool { _, err := w.js.Publish(t.Context(), "renewals.due.default", p); return err == nil })
	}
	await(t, 20*time.Second, "the pause of both workers", func() bool { return w.pausedWorkers() == 2 })
	if code, why := fetchText(t, "http://"+ops+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(why, "was set back") {
		t.Errorf("readyz: %d %q, want 503 and why", code, why)
	}
	if _, metrics := fetchText(t, "http://"+ops+"/metrics"); !strings.Contains(metrics, `renewals_account_paused{account="default",reason="`+setBackPause+`"} 1`) {
		t.Error("no metric says that the journal was set back")
	}
	status := w.start(env, "status")
	if <-status.done; !strings.Contains(status.text(), setBackPause) || !strings.Contains(status.text(), "--accept-restored-journal") {
		t.Errorf("status does not say what to do:\n%s", status.text())
	}
	if !strings.Contains(first.text(), "was set back") {
		t.Error("the log of the worker that outlived it does not say that the journal was set back")
	}
	pause(2 * time.Second)
	if n := w.klarna.Simulator.Books().Requests; n != requests {
		t.Errorf("%d charges or captures before an operator has spoken", n-requests)
	}
	if err := w.provisioned("--accept-restored-journal"); err != nil {
		t.Fatal(err)
	}
	await(t, 60*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	await(t, 20*time.Second, "the end of the pause", func() bool { return w.pausedWorkers() == 0 })
	if code, why := fetchText(t, "http://"+ops+"/readyz"); code != http.StatusOK {
		t.Errorf("readyz after the operator's word: %d %q", code, why)
	}
}

// markIsAt awaits that the workers have written down how far the journal has come.
func (w *world) markIsAt(last uint64) {
	w.t.Helper()
	await(w.t, 20*time.Second, fmt.Sprintf("the mark at %d", last), func() bool { k, err := w.mark(); return err == nil && k.Sequence >= last })
}

func fetchText(t *testing.T, address string) (code int, text string) {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// setBack starts the broker on a journal from the middle of the run and publishes every job again. Nothing is asked of
// Klarna before an operator has accepted the journal. It returns the jobs that have to end as before: nobody can tell a
// second message ID of a period from its first, so that the slower of two rivals stays away, and what was
// rightly undecided may be decided now.
func (c *chaosRun) setBack(told []story) (again []story) {
	c.t.Helper()
	// Counted when they come in: the answer to one that a killed worker has sent may be a long time coming.
	at := func() (tries int) {
		for _, k := range c.w.klarna.Simulator.Books().Keys {
			tries += k.Tries
		}
		return tries
	}
	c.w.markIsAt(c.w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.LastSeq)
	c.nodes[0].setBack(c.older)
	c.workers[0].kill()
	c.workers[0] = c.worker(0)
	before := at()
	c.made = map[messages.IdempotencyKey]bool{}
	for _, o := range c.w.klarna.Simulator.Books().Orders {
		c.made[messages.IdempotencyKey(o.IdempotencyKey)] = true
		for _, taken := range o.Captures {
			c.made[messages.IdempotencyKey(taken.IdempotencyKey)] = true
		}
	}
	var captures []story
	for _, s := range told {
		switch {
		case s.rival && !s.capture && !c.made[s.key] || c.undecided[s.key]:
		case s.capture:
			captures = append(captures, s)
		default:
			again = append(again, s)
			c.send("renewals.due.default", s.payload)
		}
	}
	await(c.t, 30*time.Second, "the pause of every worker", func() bool { return c.w.pausedWorkers() >= len(c.workers) })
	if n := at() - before; n > 0 {
		c.t.Errorf("%d requests before an operator has accepted the journal", n)
	}
	if err := c.w.provisioned("--accept-restored-journal"); err != nil {
		c.t.Fatal(err)
	}
	decided := func() bool { return c.decidable() == 0 }
	await(c.t, time.Minute, "every charge that can be decided to leave the stream again", decided)
	for _, s := range captures { // which need a paid renewal
		c.send("renewals.capture.default", s.payload)
	}
	await(c.t, time.Minute, "every capture that can be decided to leave the stream again", decided)
	return append(again, captures...)
}
