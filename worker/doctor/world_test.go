package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// world is a deployment that is safe: three servers that sync every write, the streams with their copies, Klarna's simulator, a
// Prometheus and two workers; and an operator who looks at it.
type world struct {
	*testing.T
	brokers    []*natsd.Server
	admin      jetstream.JetStream // may do everything in the operator's NATS account
	klarna     *klarnasim.Server
	prometheus *prometheus
	monitors   []*monitor
	live       map[string]topology.Presence
	patient    Patient
}

const (
	testUser, testKey = "PK1_merchant", "klarna_test_api_hunter2"
	testAccount       = messages.Account("default")
)

var testAlerts = []string{"RenewalsUnresolved", "RenewalsNoWorkers", "account:renewals_dunning:increase1h"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, prometheus: newPrometheus(t), live: map[string]topology.Presence{}}
	w.startBrokers()
	w.admin = w.as("admin")
	w.provision()
	var err error
	if w.klarna, err = klarnasim.Start(klarnasim.Options{Username: testUser, Password: testKey}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.klarna.Close)
	for _, name := range []string{"w1", "w2"} {
		w.live[name] = topology.Presence{
			Name: name, Version: "v1", Times: map[string]string{"key_window": "23h0m0s"},
			Accounts: map[messages.Account]topology.AccountPresence{testAccount: {Total: 180, Rate: 90, Endpoint: w.klarna.URL, Merchant: "PK1"}},
		}
	}
	w.patient = Patient{
		JS: w.as("operator"), Names: []messages.Account{testAccount}, Klarna: []Account{w.account(w.klarna.URL, testKey)}, LeaseNeeded: 105 * time.Second, UnresolvedFor: 24 * time.Hour,
		Prometheus: w.prometheus.at, Alerts: testAlerts, Version: "v1",
	}
	for _, b := range w.brokers {
		m := newMonitor(t, b)
		w.monitors = append(w.monitors, m)
		w.patient.Monitoring = append(w.patient.Monitoring, m.at)
	}
	return w
}

// startBrokers starts a cluster whose account APP has a user for each role that is needed, and others who are not as they should be.
func (w *world) startBrokers() {
	w.Helper()
	var routes []string
	for n := range 3 {
		app, sys := natsd.NewAccount("APP"), natsd.NewAccount("SYS")
		options := &natsd.Options{
			ServerName: fmt.Sprintf("n%d", n+1), Host: "127.0.0.1", Port: natsd.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: natsd.RANDOM_PORT,
			JetStream: true, SyncAlways: true, StoreDir: w.TempDir(), NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 30,
			Cluster:  natsd.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: natsd.RANDOM_PORT},
			Routes:   natsd.RoutesFromStr(strings.Join(routes, ",")),
			Accounts: []*natsd.Account{app, sys}, SystemAccount: "SYS",
			Users: append(users(app), &natsd.User{Username: "sys", Password: "x", Account: sys}),
		}
		b, err := natsd.NewServer(options)
		if err != nil {
			w.Fatal(err)
		}
		b.Start()
		w.Cleanup(func() { b.Shutdown(); b.WaitForShutdown() })
		if !b.ReadyForConnections(20 * time.Second) {
			w.Fatal("the broker does not start")
		}
		routes = append(routes, "nats://"+b.ClusterAddr().String())
		w.brokers = append(w.brokers, b)
	}
	for _, b := range w.brokers {
		app, err := b.LookupAccount("APP")
		if err == nil {
			err = app.EnableJetStream(map[string]natsd.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1}}, nil)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

func users(app *natsd.Account) []*natsd.User {
	grant := topology.GrantsOf(topology.RoleOperator, []messages.Account{testAccount}, "")[0].Permissions
	user := func(name string, change func(publish, subscribe []string) ([]string, []string)) *natsd.User {
		publish, subscribe := change(slices.Clone(grant.Publish.Allow), slices.Clone(grant.Subscribe.Allow))
		return &natsd.User{Username: name, Password: "x", Account: app, Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{Allow: publish}, Subscribe: &natsd.SubjectPermission{Allow: subscribe},
		}}
	}
	without := func(what string) func(publish, subscribe []string) ([]string, []string) {
		return func(publish, subscribe []string) ([]string, []string) {
			return slices.DeleteFunc(publish, func(s string) bool { return s == what }), subscribe
		}
	}
	return []*natsd.User{
		{Username: "admin", Password: "x", Account: app},
		user("operator", without("")),
		user("silent", without(topology.UserInfo)),
		user("blind", without("$JS.API.STREAM.MSG.GET."+messages.StreamMarks)),
		user("powerful", func(publish, subscribe []string) ([]string, []string) {
			return append(publish, "$JS.API.STREAM.DELETE."+messages.StreamJournal), append(subscribe, "_INBOX.>")
		}),
	}
}

func (w *world) as(user string) jetstream.JetStream {
	w.Helper()
	nc := w.connect(user)
	js, err := jetstream.New(nc)
	if err != nil {
		w.Fatal(err)
	}
	return js
}

func (w *world) connect(user string) *nats.Conn {
	w.Helper()
	name, elsewhere := strings.CutSuffix(user, "-elsewhere")
	options := []nats.Option{nats.UserInfo(name, "x")}
	if !elsewhere && user != "admin" && user != "sys" {
		options = append(options, nats.CustomInboxPrefix("_INBOX_operator"))
	}
	nc, err := nats.Connect(w.brokers[0].ClientURL(), options...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	return nc
}

// provision waits for the cluster to be complete, and for every copy to be current.
func (w *world) provision() {
	w.Helper()
	w.eventually("provision", func() bool {
		err := topology.Provision(w.Context(), w.admin, topology.Provisioning{Accounts: []messages.Account{testAccount}, Replicas: 3})
		if err != nil && !topology.NotYet(err) {
			w.Fatal(err)
		}
		return err == nil
	})
	w.settled()
}

func (w *world) settled() {
	w.Helper()
	w.eventually("every copy is current", func() bool {
		for _, name := range topology.Streams() {
			s, err := w.admin.Stream(w.Context(), name)
			if err != nil {
				return false
			}
			c := copies{}
			if info := s.CachedInfo(); info.Config.Replicas == 3 {
				if c.look(info); len(c.findings()) > 0 {
					return false
				}
			}
		}
		return true
	})
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-deadline:
			w.Fatalf("not within a minute: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// account is one of Klarna at an address.
func (w *world) account(at, key string) Account {
	w.Helper()
	endpoint, err := url.Parse(at)
	if err != nil {
		w.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials(testUser, key)})
	if err != nil {
		w.Fatal(err)
	}
	return Account{Name: testAccount, Klarna: client, Endpoint: endpoint}
}

// announce writes the entries of the live workers and takes away those of others.
func (w *world) announce(now time.Time) {
	w.Helper()
	bucket, err := w.admin.KeyValue(w.Context(), topology.BucketWorkers)
	if err != nil {
		w.Fatal(err)
	}
	keys, err := bucket.ListKeys(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for key := range keys.Keys() {
		if _, ok := w.live[strings.TrimPrefix(key, topology.PresenceKey)]; !ok {
			if err := bucket.Delete(w.Context(), key); err != nil {
				w.Fatal(err)
			}
		}
	}
	for name, p := range w.live {
		if p.At.IsZero() {
			p.At = now
		}
		p.Started = now.Add(-time.Hour)
		text, err := json.Marshal(p)
		if err == nil {
			_, err = bucket.Put(w.Context(), topology.PresenceKey+name, text)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

// on is the world in a subtest.
func (w *world) on(t *testing.T) *world {
	c := *w
	c.T, c.live = t, maps.Clone(w.live)
	return &c
}

// examine looks at everything, as whoever the patient says.
func (w *world) examine(p Patient) []Finding {
	w.Helper()
	w.announce(time.Now())
	return Examine(w.Context(), p, func(Finding) {})
}

// verdicts is the worst of each check, and text what was said about it.
func verdicts(all []Finding) (worst map[string]Verdict, text map[string]string) {
	worst, text = map[string]Verdict{}, map[string]string{}
	for _, f := range all {
		text[f.Check] += fmt.Sprintf("%s: %s: %s; %s\n", f.Verdict, f.Seen, f.Why, f.Do)
		if w, ok := worst[f.Check]; !ok || slices.Index(order, f.Verdict) < slices.Index(order, w) {
			worst[f.Check] = f.Verdict
		}
	}
	return worst, text
}
