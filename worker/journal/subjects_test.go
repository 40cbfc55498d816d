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
	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// infoAnswer is what nats-server 2.15.2 answers, with what may stand in a state.
const infoAnswer = `{"type":"io.nats.jetstream.api.v1.stream_info_response","total":2,"offset":0,"limit":100000,"config":{"name":"RENEWAL_JOURNAL","description":"the \"state\":{\"last_seq\":9}, and so on",` +
	`"subjects":["renewals.charging.*.*.*.*","renewals.paid.*.*.*.*"],"retention":"limits","max_consumers":-1,"metadata":{"_nats.ver":"2.15.2"}},"created":"2026-11-28T01:41:53.27563621Z",` +
	`"state":{"messages":2,"bytes":3717,"first_seq":1,"first_ts":"2026-11-28T01:41:53.666255216Z","last_seq":2,"last_ts":"2026-11-28T01:41:53.668502204Z","num_subjects":2,` +
	`"subjects":{"renewals.charging.1234834.2026-12.1795826513.default":1,"renewals.paid.\u003e\"}.2026-12.1795826513.default":3},"consumer_count":0},"cluster":{"leader":"N"},"ts":"2026-11-28T01:41:53.681874122Z"}`

func TestReadSubjects(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, answer string
		total        int
		last         uint64
		subjects     map[string]uint64
		err          string
	}{
		{name: "as it comes", answer: infoAnswer, total: 2, last: 2, subjects: map[string]uint64{"renewals.charging.1234834.2026-12.1795826513.default": 1, `renewals.paid.>"}.2026-12.1795826513.default`: 3}},
		{name: "nobody's", answer: `{"total":0,"state":{"last_seq":7}}`, last: 7},
		{name: "spread out", answer: " { \"total\" : 1 ,\n\"state\" : { \"subjects\" : { \"a\" : 4 } , \"last_seq\" : 7 } } \n", total: 1, last: 7, subjects: map[string]uint64{"a": 4}},
		{name: "no stream", answer: `{"type":"x","error":{"code":404,"err_code":10059,"description":"stream not found"}}`, err: jetstream.ErrStreamNotFound.Error()},
		{name: "no system", answer: `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`, err: "temporarily unavailable"},
		{name: "without a state", answer: `{"total":0}`, err: "no state"},
		{name: "without an end", answer: `{"total":0,"state":{}}`, err: "no state"},
		{name: "without its subjects", answer: `{"total":2,"state":{"last_seq":7}}`, err: "none of 2 subjects"},
		{name: "cut", answer: infoAnswer[:len(infoAnswer)-60], err: "not a JSON object"},
		{name: "two", answer: infoAnswer + "{}", err: "not a JSON object"},
		{name: "words for numbers", answer: `{"total":"2","state":{"last_seq":7}}`, err: "invalid syntax"},
		{name: "nothing", answer: ``, err: "not a JSON object"},
		{name: "an array", answer: `[]`, err: "not a JSON object"},
	} {
		all := map[string]uint64{}
		p, err := readSubjects([]byte(row.answer), all)
		if row.err != "" {
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%s: %v, want an error about %s", row.name, err, row.err)
			}
			continue
		}
		if err != nil || p.total != row.total || p.last != row.last || !maps.Equal(all, row.subjects) {
			t.Errorf("%s: %v, %+v, %v; want %d, last %d, %v", row.name, err, p, all, row.total, row.last, row.subjects)
		}
	}
}

// What nats.go would read is what is read, whatever the names and the descriptions hold.
func TestReadSubjectsAsTheLibraryDoes(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.SampledFrom([]string{`"`, `\`, `{"state":{`, `}]`, "a.b", `\"`, ","}), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		var want struct {
			Config  jetstream.StreamConfig `json:"config"`
			Total   int                    `json:"total"`
			Cluster map[string]any         `json:"cluster"`
			State   jetstream.StreamState  `json:"state"`
		}
		want.Config.Description, want.Config.Subjects = text.Draw(t, "description"), rapid.SliceOf(text).Draw(t, "settings")
		want.Cluster = map[string]any{text.Draw(t, "name"): []any{map[string]any{text.Draw(t, "name"): text.Draw(t, "value")}}}
		want.State.Subjects = rapid.MapOf(text, rapid.Uint64()).Draw(t, "subjects")
		want.State.LastSeq, want.Total = rapid.Uint64().Draw(t, "last"), len(want.State.Subjects)
		answer, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(answer, &want); err != nil { // names that are no UTF-8 become others
			t.Fatal(err)
		}
		all := map[string]uint64{}
		p, err := readSubjects(answer, all)
		if err != nil || p.total != want.Total || p.last != want.State.LastSeq || !maps.Equal(all, want.State.Subjects) {
			t.Fatalf("%v: %+v, %v of %s", err, p, all, answer)
		}
	})
}

// FuzzReadSubjects: nothing that comes breaks the reader, and what is no JSON gives nothing.
//
//	go test -run '^$' -fuzz '^FuzzReadSubjects$' ./worker/journal
func FuzzReadSubjects(f *testing.F) {
	f.Add([]byte(infoAnswer))
	f.Add([]byte(`{"":{},"a":[1,"\\"],"state":{"last_seq":1}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		_, _ = readSubjects(answer, map[string]uint64{})
	})
}

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
	if want := `[{"subjects_filter":"renewals.*.s.>"} {"subjects_filter":"renewals.*.s.>","offset":2} {"subjects_filter":"renewals.*.s.>","offset":4}]`; fmt.Sprint(requests) != want {
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

// BenchmarkReadSubjects is what a charge's look at the periods beside it costs beside the round trip, by hand and as nats.go reads.
func BenchmarkReadSubjects(b *testing.B) {
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readSubjects([]byte(infoAnswer), map[string]uint64{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var answer struct{ *jetstream.StreamInfo }
			if err := json.Unmarshal([]byte(infoAnswer), &answer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
