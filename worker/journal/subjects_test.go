package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// paged answers with some of its subjects at a time.
type paged struct {
	all      []string
	limit    int
	requests *[]string
}

func (p paged) RequestWithContext(_ context.Context, _ string, data []byte) (*nats.Msg, error) {
	*p.requests = append(*p.requests, string(data))
	var asked struct{ Offset int }
	if err := json.Unmarshal(data, &asked); err != nil {
		return nil, err
	}
	some := map[string]uint64{}
	for _, subject := range p.all[min(asked.Offset, len(p.all)):min(asked.Offset+p.limit, len(p.all))] {
		some[subject] = 2
	}
	answer, err := json.Marshal(map[string]any{"total": len(p.all), "offset": asked.Offset, "limit": p.limit, "state": map[string]any{"last_seq": 10 + asked.Offset, "subjects": some}})
	return &nats.Msg{Data: answer}, err
}

func TestSubjectsByThePage(t *testing.T) {
	t.Parallel()
	var requests []string
	s := subjects{requester: paged{all: []string{"a", "b", "c", "d", "e"}, limit: 2, requests: &requests}, subject: "x"}
	all, last, err := s.under(t.Context(), `renewals.*.s.>`)
	if err != nil || len(all) != 5 || all["e"] != 2 || last != 14 {
		t.Errorf("%v, last %d, %v", all, last, err)
	}
	if want := `[{"subjects_filter":"renewals.*.s.\u003e"} {"subjects_filter":"renewals.*.s.\u003e","offset":2} {"subjects_filter":"renewals.*.s.\u003e","offset":4}]`; fmt.Sprint(requests) != want {
		t.Errorf("asked %s, want %s", requests, want)
	}
	s.requester = paged{all: []string{"a", "b"}, limit: 0, requests: &requests}
	if _, _, err := s.under(t.Context(), `renewals.*.s.>`); err == nil || !strings.Contains(err.Error(), "total") && !strings.Contains(err.Error(), "of 2") {
		t.Errorf("an index that gives nothing: %v, want an error", err)
	}
}

// The index is asked where JetStream's API is, and answers as nats.go reads it.
func TestSubjectsOfAServer(t *testing.T) {
	t.Parallel()
	js := emptyJournal(t)
	for _, kind := range []messages.Kind{messages.KindCharging, messages.KindPaid} {
		for _, period := range []messages.Period{"a.b", ">", "2026-12"} {
			m := nats.NewMsg(messages.RecordAddress{Kind: kind, Renewal: messages.NewRenewal("s.1", period), Due: 7, Account: "default"}.Subject())
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	for _, subscription := range []messages.SubscriptionID{"s.1", "nobody"} {
		filter := messages.SubscriptionFilter(subscription)
		want, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(filter))
		if err != nil {
			t.Fatal(err)
		}
		all, last, err := newSubjects(js).under(t.Context(), filter)
		if err != nil || last != want.State.LastSeq || !maps.Equal(all, want.State.Subjects) {
			t.Errorf("%s: %v, last %d, %v; want %v, last %d", subscription, all, last, err, want.State.Subjects, want.State.LastSeq)
		}
	}
	hub, err := jetstream.NewWithDomain(js.Conn(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	prefixed, err := jetstream.NewWithAPIPrefix(js.Conn(), "imported")
	if err != nil {
		t.Fatal(err)
	}
	for want, js := range map[string]jetstream.JetStream{
		"$JS.API.STREAM.INFO.RENEWAL_JOURNAL": js, "$JS.hub.API.STREAM.INFO.RENEWAL_JOURNAL": hub, "imported.STREAM.INFO.RENEWAL_JOURNAL": prefixed,
	} {
		if got := newSubjects(js).subject; got != want {
			t.Errorf("asks on %s, want %s", got, want)
		}
	}
	if _, _, err := newSubjects(prefixed).under(t.Context(), "x"); !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "imported.STREAM.INFO") {
		t.Errorf("nobody is there: %v, want that, and where", err)
	}
}

// A user who may not ask is told so.
func TestSubjectsThatMayNotBeAsked(t *testing.T) {
	t.Parallel()
	denied := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.>"}}}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "worker", Password: "p", Permissions: denied}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("worker", "p"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { cancel() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = newSubjects(js).under(ctx, "renewals.*.s.>")
	if !errors.Is(err, nats.ErrPermissionViolation) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "--print-permissions") {
		t.Errorf("got %v, want what is not permitted, and what to do", err)
	}
}
