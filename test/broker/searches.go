package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Searches watches for requests that make a broker read every block of a stream of many subjects under the lock that writes wait for. Once
// nothing is written any more, found says how many requests there were about the stream's messages, and which of them are such:
//
//   - the next message of a filter with a wildcard, and of any filter behind its last;
//   - a consumer of several filters, and one of a filter that begins elsewhere than at the beginning or the end.
func Searches(t testing.TB, js jetstream.JetStream, stream string) (found func() (asked int, searches []string)) {
	t.Helper()
	asks := subscribe(t, js, "$JS.API.STREAM.MSG.GET."+stream)
	makes := subscribe(t, js, "$JS.API.CONSUMER.CREATE."+stream+".>")
	return func() (asked int, searches []string) {
		t.Helper()
		if err := js.Conn().Flush(); err != nil {
			t.Fatal(err)
		}
		for m := range pending(asks) {
			asked++
			if why := searchesNext(t, js, stream, m.Data); why != "" {
				searches = append(searches, why+": "+string(m.Data))
			}
		}
		for m := range pending(makes) {
			asked++
			if why := searchesFor(t, m.Data); why != "" {
				searches = append(searches, why+": "+string(m.Data))
			}
		}
		return asked, searches
	}
}

func subscribe(t testing.TB, js jetstream.JetStream, subject string) *nats.Subscription {
	t.Helper()
	sub, err := js.Conn().SubscribeSync(subject)
	if err == nil {
		err = js.Conn().Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return sub
}

// pending are the requests that have come.
func pending(sub *nats.Subscription) func(func(*nats.Msg) bool) {
	return func(yield func(*nats.Msg) bool) {
		for {
			m, err := sub.NextMsg(time.Millisecond)
			if err != nil || !yield(m) {
				return
			}
		}
	}
}

// searchesNext judges a request for one message.
func searchesNext(t testing.TB, js jetstream.JetStream, stream string, request []byte) string {
	t.Helper()
	var get struct {
		Sequence uint64 `json:"seq"`
		Next     string `json:"next_by_subj"`
	}
	if err := json.Unmarshal(request, &get); err != nil {
		t.Fatalf("a request for a message of %s: %v: %s", stream, err, request)
	}
	if get.Next == "" {
		return ""
	}
	if get.Next != ">" && wild(get.Next) {
		return "the next message of a wildcard"
	}
	if get.Sequence <= 1 {
		return "" // the index of subjects has the first, or that there is none
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if last, err := s.GetLastMsgForSubject(t.Context(), get.Next); err != nil || last.Sequence < get.Sequence {
		return "a message behind the last"
	}
	return ""
}

// searchesFor judges a request for a consumer.
func searchesFor(t testing.TB, request []byte) string {
	t.Helper()
	var create struct {
		Config struct {
			Filter  string     `json:"filter_subject"`
			Filters []string   `json:"filter_subjects"`
			From    string     `json:"deliver_policy"`
			Start   uint64     `json:"opt_start_seq"`
			Since   *time.Time `json:"opt_start_time"`
		} `json:"config"`
	}
	if err := json.Unmarshal(request, &create); err != nil {
		t.Fatalf("a request for a consumer: %v: %s", err, request)
	}
	c := create.Config
	if len(c.Filters) > 1 {
		return "a consumer of several filters"
	}
	if c.Filter != "" || len(c.Filters) > 0 {
		switch {
		case c.Since != nil:
			return "a filter from a start time"
		case c.Start > 1:
			return "a filter from a sequence"
		case wild(c.Filter + strings.Join(c.Filters, "")):
			return "a filter with a wildcard"
		}
	}
	return ""
}

// wild says that a filter stands for more subjects than one.
func wild(filter string) bool { return strings.ContainsAny(filter, "*>") }

// Asked fails a test of a command that made a stream be searched, or that never asked about it at all.
func Asked(t testing.TB, what string, found func() (int, []string)) {
	t.Helper()
	if asked, searches := found(); asked == 0 || len(searches) > 0 {
		t.Errorf("%s: %d requests, of which make the broker search: %s", what, asked, fmt.Sprint(strings.Join(searches, "\n")))
	}
}
