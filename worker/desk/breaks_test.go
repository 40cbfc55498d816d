package desk_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// news is a stream with what tells something.
type news struct {
	t  *testing.T
	js jetstream.JetStream
}

func (n news) provision() {
	n.t.Helper()
	if _, err := n.js.CreateStream(n.t.Context(), topology.Provisioning{Replicas: 1}.News()); err != nil {
		n.t.Fatal(err)
	}
}

// tell publishes how a break about an order stands.
func (n news) tell(status messages.BreakStatus, kind messages.BreakKind, account messages.Account, order string) {
	n.t.Helper()
	b := messages.Break{ID: messages.NewBreakID(kind, account, order), Kind: kind, Account: account, Status: status, At: time.Unix(1796083200, 0)}
	m, err := b.Message()
	if err == nil {
		_, err = n.js.PublishMsg(n.t.Context(), m)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

type counts = map[messages.Account]map[messages.BreakKind]int

// TestOpenBreaks: each message is read once, whatever else is in the stream, and the counts follow what is closed, opened again,
// forgotten or made anew.
func TestOpenBreaks(t *testing.T) {
	t.Parallel()
	n := news{t, broker.JetStream(t)}
	var b desk.Breaks
	looks := func(what string, most int, want counts, unread uint64, reads uint64) {
		t.Helper()
		asked, err := n.js.Conn().SubscribeSync("$JS.API.STREAM.MSG.GET." + messages.StreamNews)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Read(t.Context(), n.js, most); err != nil {
			t.Fatal(err)
		}
		if err := n.js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		got, _, err := asked.Pending()
		if err != nil {
			t.Fatal(err)
		}
		_ = asked.Unsubscribe()
		if !reflect.DeepEqual(b.Open(), want) || b.Unread != unread || uint64(got) != reads {
			t.Errorf("%s: %v, %d unread, %d reads; want %v, %d and %d", what, b.Open(), b.Unread, got, want, unread, reads)
		}
	}
	const open, closed = messages.BreakOpen, messages.BreakClosed
	looks("without a stream", 10, counts{}, 0, 0)
	n.provision()
	looks("an empty stream", 10, counts{}, 0, 0)
	n.tell(open, messages.BreakMissing, "se", "1")
	n.tell(open, messages.BreakMissing, "se", "2")
	n.tell(open, messages.BreakSecondOrder, "de", "1")
	looks("a part", 2, counts{"se": {messages.BreakMissing: 2}}, 1, 2)
	looks("the rest", 2, counts{"se": {messages.BreakMissing: 2}, "de": {messages.BreakSecondOrder: 1}}, 0, 1)
	looks("nothing new", 2, counts{"se": {messages.BreakMissing: 2}, "de": {messages.BreakSecondOrder: 1}}, 0, 0)
	if _, err := n.js.Publish(t.Context(), "renewals.token.sub.se", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	n.tell(closed, messages.BreakMissing, "se", "2")
	n.tell(closed, messages.BreakSecondOrder, "de", "1")
	looks("two are closed", 9, counts{"se": {messages.BreakMissing: 1}}, 0, 2)
	n.tell(open, messages.BreakSecondOrder, "de", "1")
	if _, err := n.js.Publish(t.Context(), messages.BreakSubject("of_tomorrow", messages.NewBreakID("of_tomorrow", "se"), "se"), []byte(`?`)); err != nil {
		t.Fatal(err)
	}
	looks("one comes back, one cannot be read", 9, counts{"se": {messages.BreakMissing: 1, "of_tomorrow": 1}, "de": {messages.BreakSecondOrder: 1}}, 0, 2)
	stream, err := n.js.Stream(t.Context(), messages.StreamNews)
	if err == nil {
		err = stream.Purge(t.Context(), jetstream.WithPurgeSequence(2))
	}
	if err != nil {
		t.Fatal(err)
	}
	looks("the oldest has aged out", 9, counts{"se": {"of_tomorrow": 1}, "de": {messages.BreakSecondOrder: 1}}, 0, 0)
	if err := n.js.DeleteStream(t.Context(), messages.StreamNews); err != nil {
		t.Fatal(err)
	}
	n.provision()
	n.tell(open, messages.BreakAmount, "no", "1")
	looks("made anew", 9, counts{"no": {messages.BreakAmount: 1}}, 0, 1)
}

// TestOverviewHasOpenBreaks, those of an account that has nothing else among them, and says that a person has to look.
func TestOverviewHasOpenBreaks(t *testing.T) {
	t.Parallel()
	n := news{t, broker.JetStream(t)}
	if err := topology.Provision(t.Context(), n.js, topology.Provisioning{Replicas: 1, Accounts: []messages.Account{"se"}}); err != nil {
		t.Fatal(err)
	}
	calm, err := desk.Look(t.Context(), n.js, time.Now())
	if err != nil || len(calm.Accounts) != 0 {
		t.Fatalf("%+v, %v", calm.Accounts, err)
	}
	n.tell(messages.BreakOpen, messages.BreakReturned, "se", "1")
	n.tell(messages.BreakOpen, messages.BreakReturned, "de", "1")
	n.tell(messages.BreakClosed, messages.BreakReturned, "de", "1")
	o, err := desk.Look(t.Context(), n.js, time.Now())
	if err != nil || len(o.Accounts) != 1 || o.Accounts[0].Name != "se" || o.Accounts[0].Breaks[messages.BreakReturned] != 1 || o.Accounts[0].Human() != "open breaks" {
		t.Errorf("%+v, %v", o.Accounts, err)
	}
}
