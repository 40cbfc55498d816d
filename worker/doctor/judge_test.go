package doctor

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// What a power cut takes depends on how many copies there are, and on who writes them.
func TestSync(t *testing.T) {
	t.Parallel()
	always, late := server{always: true}, server{interval: 2 * time.Minute}
	for _, tt := range []struct {
		name     string
		replicas int
		servers  []server // n1 and so on hold the copies; without a name nobody told of it
		want     Verdict
		says     string
	}{
		{"one server by default", 1, []server{late}, NotSafe, "every 2m on n1, one copy of the journal: a power cut can lose the records of the last 2m"},
		{"one server, every write", 1, []server{always}, OK, "on every write, on n1"},
		{"one server, nobody told", 1, []server{{name: "none"}}, Unseen, "nothing was seen of n1"},
		{"two servers by default", 2, []server{late, late}, NotSafe, "2 copies"},
		{"three servers by default", 3, []server{late, late, late}, Warn, "a crash of one while the others are cut off"},
		{"three servers, one of them", 3, []server{always, late, always}, Warn, "on n2"},
		{"three servers, one not seen", 3, []server{always, {name: "none"}, always}, Unseen, "n2"},
		{"three servers, one not seen, another late", 3, []server{late, {name: "none"}, always}, Warn, "on n1"},
		{"three servers, every write", 3, []server{always, always, always}, OK, "n1, n2, n3"},
		{"a server that holds no copy", 1, []server{always, {name: "spare", interval: time.Second}}, OK, "n1"},
	} {
		cluster := &jetstream.ClusterInfo{Name: "c", Leader: "n1"}
		seen := seenServers{}
		for i, s := range tt.servers {
			name := []string{"n1", "n2", "n3"}[i]
			if i > 0 && i < tt.replicas {
				cluster.Replicas = append(cluster.Replicas, &jetstream.PeerInfo{Name: name})
			}
			if s.name != "none" {
				s.id = name
				if s.name == "" {
					s.name = name
				}
				seen.list = append(seen.list, s)
			}
		}
		e := &exam{
			streams: func() map[string]streamAnswer {
				return map[string]streamAnswer{messages.StreamJournal: {info: &jetstream.StreamInfo{Cluster: cluster, Config: jetstream.StreamConfig{Replicas: tt.replicas}}}}
			},
			servers: func() seenServers { return seen },
		}
		if got := examineSync(t.Context(), e)[0]; got.Verdict != tt.want || !strings.Contains(got.Seen+": "+got.Why, tt.says) {
			t.Errorf("%s: got %+v, want %s, %q", tt.name, got, tt.want, tt.says)
		}
	}
}

func TestCopies(t *testing.T) {
	t.Parallel()
	peer := func(name string, how ...func(*jetstream.PeerInfo)) *jetstream.PeerInfo {
		p := &jetstream.PeerInfo{Name: name, Current: true}
		for _, h := range how {
			h(p)
		}
		return p
	}
	late := func(lag uint64, active time.Duration) func(*jetstream.PeerInfo) {
		return func(p *jetstream.PeerInfo) { p.Current, p.Lag, p.Active = false, lag, active }
	}
	off := func(p *jetstream.PeerInfo) { p.Offline = true }
	for _, tt := range []struct {
		name    string
		leader  string
		others  []*jetstream.PeerInfo
		verdict Verdict // "" for nothing to say
		says    string
	}{
		{"all is well", "a", []*jetstream.PeerInfo{peer("b"), peer("c")}, "", ""},
		{"a copy that is about to be written", "a", []*jetstream.PeerInfo{peer("b", late(3, time.Millisecond)), peer("c")}, "", ""},
		{"a copy that has fallen behind", "a", []*jetstream.PeerInfo{peer("b", late(5000, time.Millisecond)), peer("c")}, Warn, "b is behind with stream RENEWALS (5000 records)"},
		{"a server that is not heard of", "a", []*jetstream.PeerInfo{peer("b", late(1, time.Minute)), peer("c")}, Warn, "b is behind with stream RENEWALS (1 records)"},
		{"a server that is off", "a", []*jetstream.PeerInfo{peer("b", off), peer("c")}, Warn, "b is offline, which holds copies of stream RENEWALS"},
		{"a server that was taken away", "a", []*jetstream.PeerInfo{peer("b")}, Warn, "stream RENEWALS (2 of 3)"},
		{"two of three that are off", "a", []*jetstream.PeerInfo{peer("b", off), peer("c", off)}, NotSafe, "without a majority of its copies: stream RENEWALS"},
		{"no leader", "", []*jetstream.PeerInfo{peer("b"), peer("c")}, NotSafe, "without a leader: stream RENEWALS"},
	} {
		c := copies{}
		c.look(&jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: "RENEWALS", Replicas: 3}, Cluster: &jetstream.ClusterInfo{Name: "c", Leader: tt.leader, Replicas: tt.others}})
		got := c.findings()
		if tt.verdict == "" && len(got) > 0 || tt.verdict != "" && (len(got) == 0 || got[0].Verdict != tt.verdict || !strings.Contains(got[0].Seen, tt.says)) {
			t.Errorf("%s: got %+v, want %s, %q", tt.name, got, tt.verdict, tt.says)
		}
	}
}

func TestReleases(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]Verdict{
		"2.15.2": "", "2.15.0-RC.1": "", "3.0.0": "", "2.14.9": Warn, "2.12.15": Warn, "2.12.8": Warn, "2.12.3": NotSafe, "2.12.2": NotSafe, "2.11.17": NotSafe, "2.9.25": NotSafe, "dev": Unseen,
	} {
		got := Verdict("")
		for _, f := range judgeServer("n1", version) {
			got = f.Verdict
		}
		if got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		filter, other string
		want          bool
	}{
		{"a.b", "a.b", true}, {"a.*", "a.b", true}, {"a.*", "a.*", true}, {"a.>", "a.b.c", true}, {"a.>", "a.>", true}, {">", "a.>", true}, {"a.>", "a.*.>", true},
		{"a.b", "a.*", false}, {"a.*", "a.>", false}, {"a.*", "a.b.c", false}, {"a.>", "a", false}, {"a.*.c", "a.b", false}, {"a.b", "a", false},
	} {
		if got := covers(tt.filter, tt.other); got != tt.want {
			t.Errorf("%s covers %s: %t", tt.filter, tt.other, got)
		}
	}
	some := &rights{Allow: []string{"a.>"}, Deny: []string{"a.b"}}
	for subject, want := range map[string]bool{"a.c": true, "a.b": false, "a.*": false, "b": false} {
		if got := some.may(subject); got != want {
			t.Errorf("may %s: %t", subject, got)
		}
	}
}

// What the canary's answer does not tell: who reads along, how long the certificate is good, and how long it took.
func TestWayToKlarna(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	e := &exam{Patient: Patient{Now: func() time.Time { return now }}}
	well := &klarna.Error{StatusCode: 404, HasErrorObject: true}
	for _, tt := range []struct {
		name, at string
		took     time.Duration
		until    time.Time
		want     Verdict
		says     string
	}{
		{"in good time", "https://api.klarna.com", time.Second, now.Add(90 * 24 * time.Hour), OK, "lets this account in, by X"},
		{"in the clear", "http://api.klarna.com", time.Second, time.Time{}, NotSafe, "asked in the clear"},
		{"a simulator", "http://127.0.0.1:8089", time.Second, time.Time{}, OK, "lets this account in"},
		{"the certificate ends", "https://api.klarna.com", time.Second, now.Add(3 * 24 * time.Hour), Warn, "ends 2026-12-04 00:00:00"},
		{"slowly", "https://api.klarna.com", 6 * time.Second, now.Add(90 * 24 * time.Hour), Warn, "took 6s"},
	} {
		endpoint, err := url.Parse(tt.at)
		if err != nil {
			t.Fatal(err)
		}
		got := e.judgeCanary(Account{Name: "default", Endpoint: endpoint}, well, tt.took, tt.until, ", by X")[0]
		if got.Verdict != tt.want || !strings.Contains(got.Seen, tt.says) {
			t.Errorf("%s: got %+v, want %s, %q", tt.name, got, tt.want, tt.says)
		}
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	for pending, want := range map[int]bool{0: false, 79_999: false, 80_000: true, 100_000: true} {
		if got := waiting("charge-default", pending, 100_000); (len(got) == 1 && got[0].Verdict == Warn) != want {
			t.Errorf("%d of 100000: %+v", pending, got)
		}
	}
	if got := waiting("charge-default", 1_000_000, -1); got != nil {
		t.Errorf("without a limit: %+v", got)
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]int{1 << 20: 0, 512 << 10: 0, 512<<10 - 1: 1, 64 << 10: 1} {
		if got := judgePayload(most); len(got) != want {
			t.Errorf("%d: %+v", most, got)
		}
	}
}
