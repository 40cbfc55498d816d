package books

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// TestMain is the syncing process, too, which a test kills.
func TestMain(m *testing.M) {
	if url := os.Getenv("BOOKS_TEST_URL"); url != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if err := follow(ctx, url, os.Getenv("BOOKS_TEST_FILE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		_ = checks.Value.Set("10") // each check writes files; make long has 100
	}
	os.Exit(m.Run())
}

func follow(ctx context.Context, url, path string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	w, err := Create(path, "a process to be killed")
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = Syncer{JetStream: js, Writer: w, Follow: true, size: 50}.Run(ctx)
	return err
}

func newJournal(t testing.TB, js jetstream.JetStream, records []Record) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: messages.StreamJournal, Subjects: []string{"renewals.>"}, Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	store(t, js, records)
}

func store(t testing.TB, js jetstream.JetStream, records []Record) {
	t.Helper()
	for _, r := range records {
		m := &nats.Msg{Subject: r.Subject, Header: nats.Header{messages.HeaderState: {r.State}, "ce-id": {r.EventID}}, Data: r.Body}
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the broker does not take the records")
	}
}

// charged are the claims and results of renewals, as a worker writes them.
func charged(from, to int) (records []Record) {
	for n := from; n < to; n++ {
		id := messages.SubscriptionID(fmt.Sprint("sub-", n))
		renewal := messages.NewRenewal(id, "2026-12")
		key, message := renewal.Key(), messages.MessageID(id+"/2026-12/1")
		about := messages.Record{
			ID: message, Account: "default", SubscriptionID: id, Period: "2026-12", Attempt: 1, RenewalKey: key, IdempotencyKey: messages.NewIdempotencyKey(key, message),
			OrderAmount: 1599 + int64(n%7), PurchaseCurrency: "EUR", MerchantReference1: string(id) + "-2026-12", Tries: 1, Deliveries: 1, Worker: "w", At: noon, TokenFingerprint: "b17f6e500d48",
		}
		for _, e := range []messages.Event{
			messages.Charging{Record: about, FirstSentAt: noon},
			messages.Paid{Record: about, OrderID: fmt.Sprint("order-", n), FraudStatus: "ACCEPTED", Captured: true, CorrelationID: fmt.Sprint("corr-", n)},
		} {
			body, _ := messages.Encode(e)
			address := messages.RecordAddress{Kind: e.Kind(), Renewal: renewal, Due: noon.Unix(), Account: "default"}
			records = append(records, Record{
				Subject: address.Subject(), State: fmt.Sprintf(`{"v":1,"phase":%q,"due_at":"2026-12-01T12:00:00Z","attempts":1}`, e.Kind()), EventID: fmt.Sprint(n, e.Kind()), Body: body,
			})
		}
	}
	return records
}

func synced(t testing.TB, js jetstream.JetStream, path string, syncer Syncer) Summary {
	t.Helper()
	w, err := Create(path, "the test")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	syncer.JetStream, syncer.Writer = js, w
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sum, err := syncer.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A process that writes the books is killed with -9 again and again; the next goes on where it was, without a row lost or doubled.
func TestKilledWhileSyncing(t *testing.T) {
	js := broker.JetStream(t)
	newJournal(t, js, charged(0, 1500))
	dir := t.TempDir()
	killed, once := filepath.Join(dir, "killed"), filepath.Join(dir, "once")
	kills, at := 0, uint64(0)
	for at < 3000 && kills < 50 {
		process := exec.CommandContext(t.Context(), os.Args[0])
		process.Env = append(os.Environ(), "BOOKS_TEST_URL="+js.Conn().ConnectedUrl(), "BOOKS_TEST_FILE="+killed)
		var said strings.Builder
		process.Stderr = &said
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		goal := min(at+100+rand.Uint64N(600), 3000)
		for deadline := time.Now().Add(time.Minute); ; {
			if b, err := Open(t.Context(), killed); err == nil {
				p, err := b.Position(t.Context())
				b.Close()
				if at = max(at, p.LastSequence); err == nil && at >= goal {
					break
				}
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
			}
			if time.Now().After(deadline) {
				t.Fatalf("stuck at record %d: %s", at, said.String())
			}
		}
		_ = process.Process.Signal(syscall.SIGKILL)
		_ = process.Wait()
		kills++
	}
	if kills < 3 {
		t.Fatalf("killed %d times only", kills)
	}
	t.Logf("killed %d times", kills)
	synced(t, js, killed, Syncer{})
	synced(t, js, once, Syncer{})
	if got, want := dumped(t, killed), dumped(t, once); got != want {
		t.Errorf("after %d kills %d bytes of books, at once %d: they differ", kills, len(got), len(want))
	}
	b, err := Open(t.Context(), killed)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n := all(t, b, "SELECT count(*) AS n, max(sequence) AS last FROM records")[0]; n["n"] != int64(3000) || n["last"] != int64(3000) {
		t.Errorf("records: %v, want 3000", n)
	}
}

func TestAnotherJournal(t *testing.T) {
	js := broker.JetStream(t)
	path := filepath.Join(t.TempDir(), "books.db")
	newJournal(t, js, charged(0, 50))
	if sum := synced(t, js, path, Syncer{}); sum.Added != 100 || sum.Last != 100 || sum.Anew != "" {
		t.Fatalf("the first sync: %+v", sum)
	}
	if sum := synced(t, js, path, Syncer{}); sum.Added != 0 || sum.Last != 100 || sum.Anew != "" {
		t.Fatalf("nothing new: %+v", sum)
	}
	store(t, js, charged(50, 60))
	if sum := synced(t, js, path, Syncer{}); sum.Added != 20 || sum.Last != 120 || sum.Anew != "" {
		t.Fatalf("20 new: %+v", sum)
	}
	old := dumped(t, path)
	for _, tt := range []struct {
		name    string
		records []Record
		poses   bool // as if the new stream had been restored, which keeps when it was made
		want    string
	}{
		{name: "made anew", records: charged(100, 120), want: "was made on"},
		{name: "set back, and shorter", records: charged(0, 40), poses: true, want: "it ends with record 80"},
		{name: "set back, and written on", records: append(charged(0, 40), charged(200, 300)...), poses: true, want: "its record 120 is another"},
	} {
		copied := filepath.Join(t.TempDir(), "books.db")
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied, text, 0o600)
		}
		if err == nil {
			err = js.DeleteStream(t.Context(), messages.StreamJournal)
		}
		if err != nil {
			t.Fatal(err)
		}
		newJournal(t, js, tt.records)
		if tt.poses {
			poses(t, js, copied)
		}
		var said []string
		sum := synced(t, js, copied, Syncer{Doubt: time.Millisecond, Say: func(s string) { said = append(said, s) }})
		if !strings.Contains(sum.Anew, tt.want) || sum.Added != int64(len(tt.records)) || len(said) != 1 || !strings.Contains(said[0], sum.Kept) {
			t.Errorf("%s: %+v, said %q; want everything read anew", tt.name, sum, said)
		}
		if !tt.poses && dumped(t, sum.Kept) != old {
			t.Errorf("%s: what is kept in %s is not what the books held", tt.name, sum.Kept)
		}
		fresh := filepath.Join(t.TempDir(), "fresh.db")
		synced(t, js, fresh, Syncer{})
		if dumped(t, copied) != dumped(t, fresh) {
			t.Errorf("%s: read anew, the books are not those of the new journal", tt.name)
		}
	}
}

// poses makes books say that they are of the journal that there is now.
func poses(t testing.TB, js jetstream.JetStream, path string) {
	t.Helper()
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(path, "the test")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.conn.Exec("UPDATE journal SET created_at = '" + stamp(stream) + "'"); err != nil {
		t.Fatal(err)
	}
}

// What has aged out of the journal stays in the books; what aged before anybody read it is told.
func TestAged(t *testing.T) {
	js := broker.JetStream(t)
	path := filepath.Join(t.TempDir(), "books.db")
	newJournal(t, js, charged(0, 10))
	synced(t, js, path, Syncer{})
	store(t, js, charged(10, 20))
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err == nil {
		err = stream.Purge(t.Context(), jetstream.WithPurgeSequence(31))
	}
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	sum := synced(t, js, path, Syncer{Say: func(s string) { said = append(said, s) }})
	if sum.Added != 10 || sum.Missing != 10 || sum.Anew != "" || len(said) != 1 || !strings.Contains(said[0], "21 to 30") {
		t.Errorf("%+v, said %q; want 10 added and 10 missing", sum, said)
	}
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n := all(t, b, "SELECT count(*) AS n FROM records")[0]["n"]; n != int64(30) {
		t.Errorf("%v records, want 20 that have aged and 10 new ones", n)
	}
}

// Books that are filled for the first time leave their indexes for the end, and answer meanwhile. Whatever ends the filling, and whatever
// comes after it, the books are in the end those of a single sync, all indexes included.
func TestFilledWithoutIndexes(t *testing.T) {
	js := broker.JetStream(t)
	newJournal(t, js, charged(0, 500))
	dir := t.TempDir()
	once := filepath.Join(dir, "once")
	synced(t, js, once, Syncer{})
	for _, tt := range []struct {
		name  string
		again Syncer // what goes on after the interruption
	}{
		{"goes on filling", Syncer{begin: 10}},
		{"goes on with all indexes", Syncer{begin: 100_000}},
	} {
		path := filepath.Join(dir, tt.name)
		w, err := Create(path, "the test")
		if err != nil {
			t.Fatal(err)
		}
		ctx, interrupt := context.WithCancel(t.Context())
		progress := func(int64) (func(int64), func()) {
			return func(n int64) {
				if n >= 300 {
					interrupt()
				}
			}, func() {}
		}
		if _, err := (Syncer{JetStream: js, Writer: w, begin: 10, size: 50, Progress: progress}).Run(ctx); err == nil {
			t.Fatalf("%s: a sync that is interrupted ends without an error", tt.name)
		}
		if left, err := w.missing(); err != nil || len(left) < 10 {
			t.Errorf("%s: in the middle %d indexes are left for the end, %v", tt.name, len(left), err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if found, _, err := b.Find(t.Context(), "order-7", 10); err != nil || len(found) != 1 {
			t.Errorf("%s: without indexes order-7 is found as %v, %v", tt.name, found, err)
		}
		b.Close()
		synced(t, js, path, tt.again)
		if dumped(t, path) != dumped(t, once) {
			t.Errorf("%s: the books are not those of a single sync", tt.name)
		}
		for range 2 { // and once more, with nothing to read
			if w, err = Create(path, "the test"); err != nil {
				t.Fatal(err)
			}
			if left, err := w.missing(); err != nil || len(left) != 0 {
				t.Errorf("%s: %d indexes are missing in the end, %v", tt.name, len(left), err)
			}
			if err := w.fill(); err != nil { // as a process leaves them that is killed before it makes them
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			synced(t, js, path, Syncer{})
		}
	}
}

// A journal that is replaced while nothing new comes is recognised by the first record that does, and before any of it is written: the
// client makes its consumer anew on its own.
func TestReplacedWhileQuiet(t *testing.T) {
	js := broker.JetStream(t)
	path := filepath.Join(t.TempDir(), "books.db")
	newJournal(t, js, charged(0, 20))
	synced(t, js, path, Syncer{})
	w, err := Create(path, "the test")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	said := make(chan string, 100)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	over := make(chan error, 1)
	written := make(chan int64, 1000)
	go func() {
		_, err := Syncer{JetStream: js, Writer: w, Follow: true, Doubt: time.Millisecond, Say: func(s string) { said <- s }, Progress: func(int64) (func(int64), func()) {
			return func(n int64) { written <- n }, func() {}
		}}.Run(ctx)
		over <- err
	}()
	until := func(n int64) {
		t.Helper()
		for limit := time.After(time.Minute); ; {
			select {
			case got := <-written:
				if got >= n {
					return
				}
			case err := <-over:
				t.Fatalf("the sync ended: %v", err)
			case <-limit:
				t.Fatalf("waited for %d records", n)
			}
		}
	}
	for limit := time.Now().Add(time.Minute); ; {
		stream, err := js.Stream(t.Context(), messages.StreamJournal)
		if err != nil {
			t.Fatal(err)
		}
		if following(stream) { // and nothing has come yet
			break
		}
		if time.Now().After(limit) {
			t.Fatal("nobody follows")
		}
	}
	if err := js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
		t.Fatal(err)
	}
	newJournal(t, js, charged(100, 150))
	until(100) // read anew, from the first
	end()
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	anew := 0
	for len(said) > 0 {
		if s := <-said; strings.Contains(s, "filled anew") {
			anew++
		}
	}
	w.Close()
	fresh := filepath.Join(t.TempDir(), "fresh.db")
	synced(t, js, fresh, Syncer{})
	if anew != 1 || dumped(t, path) != dumped(t, fresh) {
		t.Errorf("filled anew %d times, want once, and the books of the new journal alone", anew)
	}
}

// A journal that is missing for a while is one that is being restored: who follows it waits, says so once, and goes on; who only syncs
// is told what to do.
func TestMissingForAWhile(t *testing.T) {
	js := broker.JetStream(t)
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "books.db"), "the test")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := (Syncer{JetStream: js, Writer: w}).Run(t.Context()); err == nil || err.Error() != "stream RENEWAL_JOURNAL is missing; run `renewals provision`" {
		t.Fatalf("without a journal: %v", err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	said, written, over := make(chan string, 100), make(chan int64, 100), make(chan error, 1)
	broker := &asked{JetStream: js}
	go func() {
		_, err := Syncer{JetStream: broker, Writer: w, Follow: true, Say: func(s string) { said <- s }, Progress: func(int64) (func(int64), func()) {
			return func(n int64) { written <- n }, func() {}
		}}.Run(ctx)
		over <- err
	}()
	first := <-said
	if first != "stream RENEWAL_JOURNAL is missing; run `renewals provision`; trying again" {
		t.Errorf("says %q", first)
	}
	for limit := time.Now().Add(time.Minute); broker.streams.Load() < 3; <-time.After(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it is not tried again")
		}
	}
	newJournal(t, js, charged(0, 5))
	select {
	case <-written:
	case err := <-over:
		t.Fatalf("ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing is read")
	}
	end()
	if err := <-over; err != nil || len(said) != 0 {
		t.Errorf("%v, and said more: %d sentences", err, len(said))
	}
}

// A sync that does not follow begins again where its consumer was lost, and not for ever; whatever else there is ends it at once.
func TestConsumerLostOnce(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	newJournal(t, js, charged(0, 5))
	for name, c := range map[string]struct {
		err         error
		times, want int64
	}{
		"twice":            {jetstream.ErrConsumerNotFound, 2, 3},
		"for ever":         {jetstream.ErrConsumerNotFound, 1000, 1 + mostLost},
		"a broker is away": {nats.ErrNoResponders, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := Create(filepath.Join(t.TempDir(), "books.db"), "the test")
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			losing := &asked{JetStream: js, refused: func(n int64) error {
				if n <= c.times {
					return c.err
				}
				return nil
			}}
			sum, err := Syncer{JetStream: losing, Writer: w}.Run(t.Context())
			if whole := c.times < c.want; whole != (err == nil && sum.Added == 10) || !whole && !errors.Is(err, c.err) || losing.consumers.Load() != c.want {
				t.Errorf("added %d, %v, asked %d times, want %d", sum.Added, err, losing.consumers.Load(), c.want)
			}
		})
	}
}

// following says that somebody waits for what comes.
func following(stream jetstream.Stream) bool {
	for c := range stream.ListConsumers(context.Background()).Info() {
		if c.NumWaiting > 0 && c.NumPending == 0 {
			return true
		}
	}
	return false
}

// asked counts what is asked of a broker, and lets something happen in between.
type asked struct {
	jetstream.JetStream
	streams, consumers atomic.Int64
	before             func(consumers int64)
	refused            func(consumers int64) error
}

func (a *asked) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	a.streams.Add(1)
	return a.JetStream.Stream(ctx, name)
}

func (a *asked) OrderedConsumer(ctx context.Context, stream string, c jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	if n := a.consumers.Add(1); a.before != nil {
		a.before(n)
	} else if a.refused != nil {
		if err := a.refused(n); err != nil {
			return nil, err
		}
	}
	return a.JetStream.OrderedConsumer(ctx, stream, c)
}

// A journal that is replaced after it was looked at, and before anybody reads on in it, is looked at again.
func TestReplacedBeforeItIsRead(t *testing.T) {
	js := broker.JetStream(t)
	dir := t.TempDir()
	path, fresh := filepath.Join(dir, "books.db"), filepath.Join(dir, "fresh.db")
	newJournal(t, js, charged(0, 20))
	synced(t, js, path, Syncer{})
	store(t, js, charged(20, 25))
	replacing := &asked{JetStream: js, before: func(consumers int64) {
		if consumers != 2 { // the first looks at the last record that the books have, the second reads on
			return
		}
		if err := js.DeleteStream(t.Context(), messages.StreamJournal); err != nil {
			t.Error(err)
		}
		newJournal(t, js, charged(100, 150))
	}}
	if sum := synced(t, replacing, path, Syncer{Doubt: time.Millisecond}); sum.Anew == "" || sum.Added != 100 {
		t.Errorf("%+v, want everything read anew", sum)
	}
	synced(t, js, fresh, Syncer{})
	if dumped(t, path) != dumped(t, fresh) {
		t.Error("the books are not those of the new journal alone")
	}
}
