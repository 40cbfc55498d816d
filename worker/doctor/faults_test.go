package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// mark writes the marks of the workers.
func (w *world) mark(m journal.Mark) {
	w.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		w.Fatal(err)
	}
	for _, subject := range []string{messages.SubjectMark, messages.SubjectMarkCopy} {
		if _, err := w.admin.Publish(w.Context(), subject, text); err != nil {
			w.Fatal(err)
		}
	}
}

func unmark(w *world) {
	w.Helper()
	for _, name := range []string{messages.StreamMarks, messages.StreamMarksCopy} {
		s, err := w.admin.Stream(w.Context(), name)
		if err == nil {
			err = s.Purge(w.Context())
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) journalMade() time.Time {
	w.Helper()
	s, err := w.admin.Stream(w.Context(), messages.StreamJournal)
	if err != nil {
		w.Fatal(err)
	}
	return s.CachedInfo().Created
}

var journalFaults = []fault{
	{name: "a worker noticed that the journal was set back", check: "journal", want: NotSafe, says: []string{"set back: number 7 came twice", "--accept-restored-journal"}, mend: unmark,
		is: func(w *world, _ *Patient) {
			w.mark(journal.Mark{Created: w.journalMade(), SetBack: "number 7 came twice"})
		}},
	{name: "the journal was made anew, and nobody noticed", check: "journal", want: NotSafe, says: []string{"the stream was made at", "no worker has noticed"}, mend: unmark,
		is: func(w *world, _ *Patient) { w.mark(journal.Mark{Created: w.journalMade().Add(-time.Hour)}) }},
	{name: "the journal ends before its mark", check: "journal", want: Warn, says: []string{"ends before record 900"}, mend: unmark,
		is: func(w *world, _ *Patient) {
			w.mark(journal.Mark{Created: w.journalMade(), Sequence: 900, SHA256: "ab"})
		}},
	{name: "the journal forgets sooner than it should", check: "journal", want: Warn, says: []string{"remembers 120 days, 400 days are configured"},
		is: func(_ *world, p *Patient) { p.Retention = 400 * 24 * time.Hour }},
}

// saying makes the monitoring ports tell of something else.
func saying(of string, in ...string) func(*world, *Patient) {
	return func(w *world, _ *Patient) {
		for n, m := range w.monitors {
			if strings.Contains(of, fmt.Sprint(n+1)) {
				says := map[string]string{}
				for i := 0; i < len(in); i += 2 {
					says[in[i]] = in[i+1]
				}
				m.says(says)
			}
		}
	}
}

func honest(w *world) {
	for _, m := range w.monitors {
		m.says(nil)
	}
}

var serverFaults = []fault{
	{name: "one of three servers syncs every two minutes", check: "fsync", want: Warn, says: []string{"every 2m on n2, 3 copies of the journal", "a power cut that all servers share", "sync_interval: always"}, mend: honest,
		is: saying("2", `"sync_always": true`, `"sync_always": false`)},
	{name: "all sync every ten seconds", check: "fsync", want: Warn, says: []string{"every 10s on n1, n2, n3"}, mend: honest,
		is: saying("123", `"sync_always": true`, `"sync_always": false`, `"sync_interval": 120000000000`, `"sync_interval": 10000000000`)},
	{name: "a disk is full", check: "disk", want: NotSafe, says: []string{"taken on n3: 98 %"}, mend: honest,
		is: saying("3", `"storage": `, `"storage": 97000000000, "was": `, `"max_storage": 1073741824`, `"max_storage": 99000000000`)},
	{name: "a server has a known fault", check: "servers", want: NotSafe, says: []string{"n2 is nats-server 2.12.1", "#7594", "upgrade to 2.15"}, mend: honest,
		is: saying("2", `"version": "2.15.2"`, `"version": "2.12.1"`)},
	{name: "a server is older", check: "servers", want: Warn, says: []string{"n3 is nats-server 2.14.5", "#8456"}, mend: honest,
		is: saying("3", `"version": "2.15.2"`, `"version": "2.14.5"`)},
	{name: "an upgrade is half done", check: "servers", want: Warn, says: []string{"mixed versions: n1 2.15.2, n2 2.15.2, n3 2.15.3"}, mend: honest,
		is: saying("3", `"version": "2.15.2"`, `"version": "2.15.3"`)},
	{name: "fewer copies", check: "replicas", want: Warn, says: []string{"fewer than 3 replicas: stream RENEWAL_DEAD (1)", "provision --replicas 3"},
		is: copiesOf(messages.StreamDead, 1), mend: func(w *world) { copiesOf(messages.StreamDead, 3)(w, nil); w.settled() }},
	{name: "the account may hold no more streams", check: "quota", want: Warn, says: []string{"8 of 9 streams"},
		is: limits(natsd.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: 9, MaxConsumers: -1}), mend: noLimits},
	{name: "the account may hold no more", check: "quota", want: NotSafe, says: []string{"of storage taken", "refuses jobs and records"},
		is: limits(natsd.JetStreamAccountLimits{MaxMemory: -1, MaxStore: 4096, MaxStreams: -1, MaxConsumers: -1}), mend: noLimits},
	{name: "the connection can be read", check: "connection", want: NotSafe, says: []string{"not encrypted: whoever is on its way reads customer tokens; set up TLS"},
		is: func(_ *world, p *Patient) {
			p.InClear = "the connection to nats://far:4222 is not encrypted: whoever is on its way reads customer tokens; set up TLS"
		}},
}

func copiesOf(stream string, n int) func(*world, *Patient) {
	return func(w *world, _ *Patient) {
		w.Helper()
		broker.ChangeStream(w, w.admin, stream, func(c *jetstream.StreamConfig) { c.Replicas = n })
		w.settled()
	}
}

// limits are set on every server; the counts of a cluster's account are those of the one that is asked.
func limits(l natsd.JetStreamAccountLimits) func(*world, *Patient) {
	return func(w *world, _ *Patient) {
		w.Helper()
		for _, b := range w.brokers {
			app, err := b.LookupAccount("APP")
			if err == nil {
				err = app.UpdateJetStreamLimits(map[string]natsd.JetStreamAccountLimits{"": l})
			}
			if err != nil {
				w.Fatal(err)
			}
		}
	}
}

func noLimits(w *world) {
	limits(natsd.JetStreamAccountLimits{MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1})(w, nil)
}

var streamFaults = []fault{
	{name: "whoever is asked may answer for the journal", check: "streams", want: NotSafe, says: []string{"RENEWAL_JOURNAL: setting allow_direct: found true", "renewals provision"},
		is: func(w *world, _ *Patient) {
			broker.ChangeStream(w, w.admin, messages.StreamJournal, func(c *jetstream.StreamConfig) { c.AllowDirect = true })
		}, mend: (*world).provision},
	{name: "two settings of two streams", check: "streams", want: NotSafe, says: []string{"RENEWALS: setting max_msgs", "RENEWAL_JOURNAL: setting max_msg_size"},
		is: func(w *world, _ *Patient) {
			broker.ChangeStream(w, w.admin, messages.StreamJobs, func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 })
			broker.ChangeStream(w, w.admin, messages.StreamJournal, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 })
		}, mend: (*world).provision},
	{name: "a consumer is paused", check: "consumers", want: NotSafe, says: []string{"charge-default", "pause_until", "consumer resume"},
		is: func(w *world, _ *Patient) {
			if _, err := w.admin.PauseConsumer(w.Context(), messages.StreamJobs, topology.ConsumerName(testAccount), time.Now().Add(time.Hour)); err != nil {
				w.Fatal(err)
			}
		}, mend: func(w *world) {
			if _, err := w.admin.ResumeConsumer(w.Context(), messages.StreamJobs, topology.ConsumerName(testAccount)); err != nil {
				w.Fatal(err)
			}
		}},
	{name: "deliveries may not take as long as the tries", check: "consumers", want: NotSafe, says: []string{"later-default", "ack_wait: found 2m0s, expected at least 3m0s"},
		is: func(_ *world, p *Patient) { p.LeaseNeeded = 3 * time.Minute }},
	{name: "a consumer is gone", check: "consumers", want: NotSafe, says: []string{"consumer capture-default on stream RENEWALS is missing"},
		is: func(w *world, _ *Patient) {
			if err := w.admin.DeleteConsumer(w.Context(), messages.StreamJobs, topology.CaptureConsumerName(testAccount)); err != nil {
				w.Fatal(err)
			}
		}, mend: (*world).provision},
}

func shifted(d time.Duration) func(*world, *Patient) {
	return func(_ *world, p *Patient) { p.Now = func() time.Time { return time.Now().Add(d) } }
}

var clockFaults = []fault{
	{name: "this machine is ahead", check: "clock", want: NotSafe, says: []string{"this machine's clock is 1m", "ahead of the broker's on n", "at most 1m is safe"}, is: shifted(70 * time.Second)},
	{name: "this machine is behind", check: "clock", want: Warn, says: []string{"behind the broker's"}, is: shifted(-20 * time.Second)},
	{name: "a worker's machine is behind", check: "clock", want: NotSafe, says: []string{"the clock of worker w2 is 2m", "behind the broker's"},
		is: func(w *world, _ *Patient) {
			off := w.live["w2"]
			off.At = time.Now().Add(-2 * time.Minute)
			w.live["w2"] = off
		}},
}

// answers is a server that says the same to everybody.
func answers(status int, kind, body string) func(*world, *Patient) {
	return func(w *world, p *Patient) {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", kind)
			rw.WriteHeader(status)
			_, _ = fmt.Fprint(rw, body)
		}))
		w.Cleanup(s.Close)
		p.Klarna = []Account{w.account(s.URL, testKey)}
	}
}

var klarnaFaults = []fault{
	{name: "the API key is wrong", check: "klarna", want: NotSafe, says: []string{"default: 127.0.0.1", "401", "its jobs wait", "check user name, API key"},
		is: func(w *world, p *Patient) { p.Klarna = []Account{w.account(w.klarna.URL, "hunter3")} }},
	{name: "nobody listens", check: "klarna", want: NotSafe, says: []string{"connection refused", "firewall"},
		is: func(w *world, p *Patient) { p.Klarna = []Account{w.account("http://127.0.0.1:1", testKey)} }},
	{name: "a proxy answers 404 to all", check: "klarna", want: Warn, says: []string{"answers 404 as Klarna does not", "a proxy"}, is: answers(404, "text/html", "<h1>Not found</h1>")},
	{name: "somebody says yes to all", check: "klarna", want: NotSafe, says: []string{"knows a token that cannot exist"}, is: answers(200, "application/json", `{"status":"ACTIVE"}`)},
	{name: "the merchant may not look", check: "klarna", want: Warn, says: []string{"403", "enable recurring payments"}, is: answers(403, "application/json", `{"error_code":"ACCESS_DENIED","correlation_id":"c"}`)},
	{name: "an outage", check: "klarna", want: Warn, says: []string{"503", "status page"}, is: answers(503, "text/plain", "")},
	{name: "no account is configured", check: "klarna", want: Unseen, says: []string{"no Klarna account is configured here"}, is: func(_ *world, p *Patient) { p.Klarna = nil }},
}

// as looks as another user.
func as(user string) func(*world, *Patient) {
	return func(w *world, p *Patient) { p.JS = w.as(user) }
}

var userFaults = []fault{
	{name: "the user may do everything", check: "permissions", want: Warn, says: []string{"user admin may do everything in the NATS account APP"}, is: as("admin")},
	{name: "the user may do more than it needs", check: "permissions", want: Warn, says: []string{"user powerful looks like role operator, and may besides: $JS.API.STREAM.DELETE.RENEWAL_JOURNAL, subscribe _INBOX.>", "--role operator"}, is: as("powerful")},
	{name: "the user may not ask what it may do", check: "permissions", want: Unseen, says: []string{"this user may not ask $SYS.REQ.USER.INFO", "run it as the operator"}, is: as("silent")},
}

var workerFaults = []fault{
	{name: "no worker is live", check: "workers", want: Warn, says: []string{"no worker is live"}, is: func(w *world, _ *Patient) { clear(w.live) }},
	{name: "workers of two versions", check: "workers", want: Warn, says: []string{"workers differ in version: v1 on w1; v2 on w2", "finish the rollout"},
		is: workerDiffers(func(p *topology.Presence) { p.Version = "v2" })},
	{name: "workers with other times", check: "workers", want: Warn, says: []string{"workers differ in key_window: 1h0m0s on w2; 23h0m0s on w1"},
		is: workerDiffers(func(p *topology.Presence) { p.Times = map[string]string{"key_window": "1h0m0s"} })},
	{name: "workers with another rate", check: "workers", want: Warn, says: []string{"rate of account default: 180/s on w1; 90/s on w2"},
		is: workerDiffers(func(p *topology.Presence) {
			p.Accounts = map[messages.Account]topology.AccountPresence{testAccount: {Total: 90, Endpoint: p.Accounts[testAccount].Endpoint, Merchant: "PK1"}}
		})},
	{name: "a worker of an earlier version", check: "workers", want: OK, says: []string{"2 live"},
		is: workerDiffers(func(p *topology.Presence) {
			p.Version, p.Times, p.Accounts = "", nil, map[messages.Account]topology.AccountPresence{testAccount: {Rate: 90}}
		})},
	{name: "a pause", check: "workers", want: Warn, says: []string{"w2 paused account default, breaker: a run of timeouts"},
		is: workerDiffers(func(p *topology.Presence) {
			p.Accounts = maps.Clone(p.Accounts)
			a := p.Accounts[testAccount]
			a.Paused = map[string]string{"breaker": "a run of timeouts"}
			p.Accounts[testAccount] = a
		})},
}

func workerDiffers(how func(*topology.Presence)) func(*world, *Patient) {
	return func(w *world, _ *Patient) {
		p := w.live["w2"]
		how(&p)
		w.live["w2"] = p
	}
}

// told changes what Prometheus says.
func told(how func(p *prometheus)) func(*world, *Patient) {
	return func(w *world, _ *Patient) { w.prometheus.change(func() { how(w.prometheus) }) }
}

func allWell(w *world) { w.prometheus.reset() }

var alertFaults = []fault{
	{name: "no Prometheus is named", check: "alerts", want: Unseen, says: []string{"--prometheus"}, is: func(_ *world, p *Patient) { p.Prometheus = nil }},
	{name: "Prometheus is not there", check: "alerts", want: Unseen, says: []string{"does not tell its rules", "user:xxxxx@127.0.0.1:1"},
		is: func(_ *world, p *Patient) {
			p.Prometheus = &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("user", "hunter3")}
		}},
	{name: "a rule is not loaded", check: "alerts", want: NotSafe, says: []string{"1 of 3 rules are not loaded: RenewalsUnresolved"}, mend: allWell, is: told(func(p *prometheus) { p.rules = p.rules[1:] })},
	{name: "a rule cannot be evaluated", check: "alerts", want: NotSafe, says: []string{"RenewalsNoWorkers cannot be evaluated"}, mend: allWell, is: told(func(p *prometheus) { p.rules[1]["health"] = "err" })},
	{name: "an alert fires", check: "alerts", want: Warn, says: []string{"firing now: RenewalsUnresolved"}, mend: allWell, is: told(func(p *prometheus) { p.rules[0]["state"] = "firing" })},
	{name: "nobody is told", check: "alerts", want: NotSafe, says: []string{"no Alertmanager"}, mend: allWell, is: told(func(p *prometheus) { p.managers = []map[string]any{} })},
	{name: "a worker is not scraped", check: "alerts", want: NotSafe, says: []string{"2 workers are live, Prometheus has 1 targets of job renewals"}, mend: allWell, is: told(func(p *prometheus) { delete(p.up, "w1:9464") })},
	{name: "a worker is not reached", check: "alerts", want: Warn, says: []string{"does not reach w1:9464"}, mend: allWell, is: told(func(p *prometheus) { p.up["w1:9464"] = "0" })},
}

// The last one cannot be mended: the journal forgets nothing.
var waitingFaults = []fault{
	{name: "a dead letter", check: "dead_letters", want: Warn, says: []string{"1 wait", "renewals dead list"},
		is: func(w *world, _ *Patient) {
			if _, err := w.admin.Publish(w.Context(), messages.DeadSubject("066fb987-94e8-5d9a-9b0b-0d279f430fd1", testAccount), nil); err != nil {
				w.Fatal(err)
			}
		},
		mend: func(w *world) {
			s, err := w.admin.Stream(w.Context(), messages.StreamDead)
			if err == nil {
				err = s.Purge(w.Context())
			}
			if err != nil {
				w.Fatal(err)
			}
		}},
	{name: "settlements that differ", check: "breaks", want: Warn, says: []string{"1 second_order", "renewals-desk breaks"},
		is: func(w *world, _ *Patient) { w.tellOfBreak(messages.BreakOpen) }, mend: func(w *world) { w.tellOfBreak(messages.BreakClosed) }},
	{name: "a charge that nobody knows of", check: "unresolved", want: Warn, says: []string{"1 renewals have been unresolved for more than 24h", "renewals resolve"},
		is: func(w *world, _ *Patient) {
			body, err := os.ReadFile("../../messages/testdata/unresolved.json")
			if err != nil {
				w.Fatal(err)
			}
			// At a time long before that of the machine: it has been so for more than a day.
			body = []byte(strings.Replace(string(body), `"at":"2026-`, `"at":"2025-`, 1))
			state := `{"v":1,"phase":"unresolved","claim":{"key":"066fb987-94e8-5d9a-9b0b-0d279f430fd1"}}`
			if _, err := w.admin.PublishMsg(w.Context(), &nats.Msg{
				Subject: "renewals.unresolved.1234834.2026-12.1796083200.default", Data: body, Header: nats.Header{messages.HeaderState: {state}},
			}); err != nil {
				w.Fatal(err)
			}
		}},
}

// tellOfBreak says how a double charge stands.
func (w *world) tellOfBreak(status messages.BreakStatus) {
	w.Helper()
	b := messages.Break{ID: messages.NewBreakID(messages.BreakSecondOrder, "default", "1"), Kind: messages.BreakSecondOrder, Account: "default", Status: status, At: time.Now()}
	m, err := b.Message()
	if err == nil {
		_, err = w.admin.PublishMsg(w.Context(), m)
	}
	if err != nil {
		w.Fatal(err)
	}
}
