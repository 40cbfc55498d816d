package topology

import (
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
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
		{name: "cut", answer: infoAnswer[:len(infoAnswer)-60], err: "unexpected end of JSON"},
		{name: "two", answer: infoAnswer + "{}", err: "after top-level value"},
		{name: "words for numbers", answer: `{"total":"2","state":{"last_seq":7}}`, err: "cannot unmarshal"},
		{name: "nothing", answer: ``, err: "JSON"},
		{name: "an array", answer: `[]`, err: "cannot unmarshal"},
	} {
		p, err := ReadSubjects([]byte(row.answer))
		if row.err != "" {
			if err == nil || !strings.Contains(err.Error(), row.err) {
				t.Errorf("%s: %v, want an error about %s", row.name, err, row.err)
			}
			continue
		}
		if err != nil || p.Total != row.total || p.Last != row.last || !maps.Equal(p.Subjects, row.subjects) {
			t.Errorf("%s: %v, %+v; want %d, last %d, %v", row.name, err, p, row.total, row.last, row.subjects)
		}
	}
}
