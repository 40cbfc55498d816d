package test

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v3"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// deployed is NATS as deploy/nats configures it, with the credentials of everybody.
type deployed struct {
	t       *testing.T
	dir     string
	servers []*server.Server
	log     *violations
	klarna  *klarnasim.Server
}

// storeKey is what a server encrypts its store with.
const storeKey = "k3c1f0a9be2d6478508f7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281"

// users are those of deploy/nats/accounts.conf with their inbox prefixes and JetStream domains.
var users = []struct{ name, nkey, inbox, domain string }{
	{name: "publisher", nkey: "NATS_PUBLISHER_DEFAULT_NKEY", inbox: "_INBOX_publisher_default"},
	{name: "worker", nkey: "NATS_WORKER_NKEY", inbox: "_INBOX_worker"},
	{name: "consumer", nkey: "NATS_CONSUMER_NKEY", inbox: "_INBOX_consumer"},
	{name: "operator", nkey: "NATS_OPERATOR_NKEY", inbox: "_INBOX_operator"},
	{name: "provisioner", nkey: "NATS_PROVISIONER_NKEY", inbox: "_INBOX_provisioner"},
	{name: "monitor", nkey: "NATS_MONITOR_NKEY", inbox: "_INBOX_monitor", domain: "monitor"},
	{name: "owner", nkey: "NATS_RESULTS_OWNER_NKEY", inbox: "_INBOX_owner"},
	{name: "sys", nkey: "NATS_SYS_NKEY", inbox: "_INBOX_sys"},
}

// deploy starts servers from a file of deploy/nats. Nothing of it is changed but what differs between machines: its
// variables, addresses and ports.
func deploy(t *testing.T, file string, nodes int, change ...func(*server.Options)) *deployed {
	t.Helper()
	d := &deployed{t: t, dir: t.TempDir(), log: &violations{}}
	certificates(t, d.dir)
	values := map[string]string{
		"NATS_TLS_CERT": filepath.Join(d.dir, "server.pem"), "NATS_TLS_KEY": filepath.Join(d.dir, "server.key"), "NATS_TLS_CA": filepath.Join(d.dir, "ca.pem"),
		"NATS_JS_KEY": storeKey,
	}
	for _, u := range users {
		seed, public := nkey(t, prefixUser)
		write(t, filepath.Join(d.dir, u.name+".nk"), seed)
		values[u.nkey] = public
	}
	var routes []string
	for n := range nodes {
		name := fmt.Sprintf("nats-%d", n+1)
		values["NATS_NAME"], values["NATS_STORE"] = name, filepath.Join(d.dir, name, "store")
		d.copy(filepath.Join(d.dir, name), values)
		options := &server.Options{}
		if err := options.ProcessConfigFile(filepath.Join(d.dir, name, file)); err != nil {
			t.Fatal(err)
		}
		if !options.SyncAlways || options.StoreDir == "" || options.TLSConfig == nil || options.JetStreamKey != storeKey || options.JetStreamCipher != server.ChaCha {
			t.Fatalf("%s: sync always %t, store %q, TLS %t, cipher %s", file, options.SyncAlways, options.StoreDir, options.TLSConfig != nil, options.JetStreamCipher)
		}
		options.Host, options.Port, options.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
		if nodes > 1 {
			options.Cluster.Host, options.Cluster.Port = "127.0.0.1", server.RANDOM_PORT
			options.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}
		for _, c := range change {
			c(options)
		}
		s := d.start(options)
		if nodes > 1 {
			routes = append(routes, "nats://"+s.ClusterAddr().String())
		}
	}
	for _, u := range users {
		write(t, d.context(u.name), fmt.Sprintf(`{"url":%q,"nkey":%q,"ca":%q,"cert":%q,"key":%q,"inbox_prefix":%q,"jetstream_domain":%q}`, d.servers[0].ClientURL(),
			filepath.Join(d.dir, u.name+".nk"), filepath.Join(d.dir, "ca.pem"), filepath.Join(d.dir, "client.pem"), filepath.Join(d.dir, "client.key"), u.inbox, u.domain))
	}
	return d
}

// copy takes the files of deploy/nats to a folder, with values in place of their variables, as an operator may. They
// could be in the environment as well, but that belongs to the whole test program.
func (d *deployed) copy(folder string, values map[string]string) {
	d.t.Helper()
	if err := os.Mkdir(folder, 0o700); err != nil {
		d.t.Fatal(err)
	}
	files, err := filepath.Glob("../deploy/nats/*.conf")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		write(d.t, filepath.Join(folder, filepath.Base(file)), variable.ReplaceAllStringFunc(string(text), func(name string) string {
			value, ok := values[name[1:]]
			if !ok {
				d.t.Fatalf("%s: nobody knows variable %s", file, name)
			}
			return strconv.Quote(value)
		}))
	}
}

var variable = regexp.MustCompile(`\$NATS_[A-Z_]+`)

// start runs a server, with a Klarna beside the first.
func (d *deployed) start(options *server.Options) *server.Server {
	d.t.Helper()
	options.NoSigs = true
	s, err := server.NewServer(options)
	if err != nil {
		d.t.Fatal(err)
	}
	s.SetLoggerV2(d.log, false, false, false)
	s.Start()
	d.t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		d.t.Fatal("the server does not start")
	}
	if d.servers = append(d.servers, s); d.klarna == nil {
		if d.klarna, err = klarnasim.Start(klarnasim.Options{}); err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(d.klarna.Close)
	}
	return s
}

func (d *deployed) context(user string) string { return filepath.Join(d.dir, user+".json") }

// violations are what the servers refused, by their own log.
type violations struct {
	mu   sync.Mutex
	list []string
}

func (v *violations) Errorf(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); strings.Contains(line, "Violation") {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.list = append(v.list, line)
	}
}
func (v *violations) Noticef(string, ...any) {}
func (v *violations) Warnf(string, ...any)   {}
func (v *violations) Fatalf(string, ...any)  {}
func (v *violations) Debugf(string, ...any)  {}
func (v *violations) Tracef(string, ...any)  {}

func (v *violations) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.list)
}

// as starts a command as one of the users.
func (d *deployed) as(user string, args ...string) *process {
	d.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "RENEWALS_OPS_ADDR=127.0.0.1:0", "NATS_CONTEXT=" + d.context(user), "KLARNA_ENDPOINT=" + d.klarna.URL,
		"KLARNA_USERNAME=merchant", "KLARNA_PASSWORD=secret-password", "RENEWALS_KEY_WINDOW=2s",
	}, quick...)
	return launch(d.t, cmd)
}

// does runs a command to its end, expects exit code 0, or 1 where "!" comes first, and returns what it said.
func (d *deployed) does(user string, args ...string) string {
	d.t.Helper()
	want := 0
	if args[0] == "!" {
		want, args = 1, args[1:]
	}
	p := d.as(user, args...)
	if code := p.exit(30 * time.Second); code != want {
		d.t.Fatalf("as %s: renewals %s: exit code %d, want %d:\n%s", user, strings.Join(args, " "), code, want, p.text())
	}
	return p.text()
}

// connect is a connection as one of the users that tells what it was refused.
func (d *deployed) connect(user string) (*nats.Conn, *violations) {
	d.t.Helper()
	refused := &violations{}
	var c struct{ NKey, CA, Cert, Key, Inbox_Prefix string }
	text, err := os.ReadFile(d.context(user))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		d.t.Fatal(err)
	}
	identity, err := nats.NkeyOptionFromSeed(c.NKey)
	if err != nil {
		d.t.Fatal(err)
	}
	nc, err := nats.Connect(d.servers[0].ClientURL(), identity, nats.RootCAs(c.CA), nats.ClientCert(c.Cert, c.Key), nats.CustomInboxPrefix(c.Inbox_Prefix),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused.Errorf("%v", err) }))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(nc.Close)
	return nc, refused
}

// mirror makes the streams from which results and news are read, as their owner does with deploy/nats/results.json and news.json.
func (d *deployed) mirror(replicas int) {
	d.t.Helper()
	nc, _ := d.connect("owner")
	js, err := jetstream.New(nc)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range []string{"results.json", "news.json"} {
		text, err := os.ReadFile("../deploy/nats/" + name)
		if err != nil {
			d.t.Fatal(err)
		}
		var config jetstream.StreamConfig
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&config); err != nil {
			d.t.Fatal(err)
		}
		config.Replicas = replicas
		if _, err := js.CreateStream(d.t.Context(), config); err != nil {
			d.t.Fatal(err)
		}
	}
}

// TestDeployedRolesDoTheirWork: everybody's commands, each with the user meant for it, and no server refuses anything.
func TestDeployedRolesDoTheirWork(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	watching := d.as("consumer", "watch", "--json", "--since=1h")
	d.as("worker", "work")

	var lines []byte
	for n, token := range []string{"ok-1", "soft-decline-2", "503-bare-3", "ok-4", "ok-5"} {
		lines = append(append(lines, job(n, token, func(j map[string]any) {
			switch n {
			case 3:
				j["expires_at"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
			case 4:
				j["order"].(map[string]any)["auto_capture"] = false
			}
		})...), '\n')
	}
	file := filepath.Join(d.dir, "jobs.jsonl")
	write(t, file, string(lines))
	if said := d.does("publisher", "publish", "--untimely", file); !strings.Contains(said, "accepted 5,") {
		t.Errorf("publish says %q", said)
	}
	results := func(kinds ...string) {
		t.Helper()
		for _, kind := range kinds {
			await(t, 30*time.Second, kind+" on watch", func() bool { return strings.Contains(watching.text(), `{"kind":"`+kind+`"`) })
		}
	}
	results("paid", "dunning", "unresolved", "rejected")
	await(t, 30*time.Second, "the authorisation", func() bool { return strings.Contains(watching.text(), `"captured":false`) })
	if said := d.does("monitor", "!", "status", "--json"); !strings.Contains(said, `"unresolved":1`) || !strings.Contains(said, `"dead_letters":2`) || !strings.Contains(said, `"workers":1`) {
		t.Errorf("status says %s", said)
	}
	d.does("operator", "!", "status")
	for _, who := range []string{"operator", "monitor", "worker"} {
		said := d.does(who, "doctor")
		if !strings.Contains(said, "looks like role "+who+", and may nothing else") || strings.Contains(said, "may not ask") {
			t.Errorf("as %s the doctor says\n%s", who, said)
		}
	}
	if said := d.does("operator", "doctor", "--system-context", d.context("sys")); !strings.Contains(said, "fsync         on every write, on nats-1") {
		t.Errorf("the doctor with the system account says\n%s", said)
	}
	if said := d.does("operator", "show", "1234002/2026-12"); !strings.Contains(said, "unresolved") {
		t.Errorf("show says %s", said)
	}
	of := d.as("consumer", "watch", "--json", "--since=1h", "--subscription=1234002")
	await(t, 30*time.Second, "a subscription's past", func() bool { return strings.Contains(of.text(), `{"kind":"unresolved"`) })
	d.does("operator", "resolve", "1234002/2026-12", "--not-charged", "--yes")
	await(t, 30*time.Second, "what follows of it", func() bool { return strings.Contains(of.text(), `{"kind":"dunning"`) })
	d.does("operator", "cancel", "1234009", "2026-12", "--unknown", "--yes")
	if said := d.does("operator", "dead", "list"); !strings.Contains(said, "expired") {
		t.Errorf("dead list says %s", said)
	}
	letters := func() (sequences []string) {
		for line := range strings.Lines(d.does("operator", "dead", "list", "--json")) {
			var l struct{ Sequence uint64 }
			if json.Unmarshal([]byte(line), &l) == nil && l.Sequence > 0 {
				sequences = append(sequences, fmt.Sprint(l.Sequence))
			}
		}
		return sequences
	}
	left := letters()
	if len(left) != 1 {
		t.Fatalf("dead letters %v, want the one that expired", left)
	}
	d.does("operator", "dead", "show", left[0])
	d.does("operator", "dead", "replay", left[0], "--yes")
	await(t, 20*time.Second, "the replayed job to be dead again", func() bool { now := letters(); return len(now) == 1 && now[0] != left[0] })
	d.does("operator", "dead", "drop", letters()[0], "--yes")
	await(t, 30*time.Second, "nothing to need a human", func() bool { return d.as("monitor", "status").exit(30*time.Second) == 0 })
	captures := filepath.Join(d.dir, "captures.jsonl")
	for n, more := range []map[string]any{{"captured_amount": 800}, {"captured_amount": 799, "reference": "503-bare-1"}} {
		write(t, captures, string(capture(4, n, more))+"\n")
		d.does("publisher", "publish", "--capture", captures)
		results([]string{"captured", "unresolved"}[n])
	}
	await(t, 30*time.Second, "the capture to be given up", func() bool {
		return strings.Contains(d.does("operator", "show", "1234004/2026-12"), "state: unresolved")
	})
	d.does("operator", "resolve", "1234004/2026-12", "--not-captured", "--yes")
	results("capture_failed")
	await(t, 30*time.Second, "nothing to need a human", func() bool { return d.as("monitor", "status").exit(30*time.Second) == 0 })
	if strings.Contains(watching.text(), `"kind":"charging"`) || strings.Contains(watching.text(), `"kind":"capturing"`) {
		t.Error("claims are in the mirror of the results")
	}
	d.does("provisioner", "provision") // changes nothing, and may beside a worker

	d.sweeps(messages.StreamJournal)
	if refused := d.log.seen(); len(refused) > 0 {
		t.Errorf("refused:\n%s", strings.Join(refused, "\n"))
	}
}

// sweeps does as the worker what its sweeper does, a minute after its start at the earliest, and beside another one.
func (d *deployed) sweeps(stream string) {
	d.t.Helper()
	nc, _ := d.connect("worker")
	js, err := jetstream.New(nc)
	if err != nil {
		d.t.Fatal(err)
	}
	bucket, err := js.KeyValue(d.t.Context(), topology.BucketWorkers)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := bucket.Create(d.t.Context(), "second_sweeper", nil); err != nil {
		d.t.Errorf("a free key: %v", err)
	}
	if _, err := bucket.Create(d.t.Context(), "second_sweeper", nil); !errors.Is(err, jetstream.ErrKeyExists) {
		d.t.Errorf("a key that is taken: %v", err)
	}
	since := time.Now().Add(-time.Hour)
	records, err := js.OrderedConsumer(d.t.Context(), stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: true, InactiveThreshold: time.Minute})
	if err != nil {
		d.t.Fatal(err)
	}
	for range 2 { // the second finds its consumer anew
		batch, err := records.Fetch(2, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			d.t.Fatal(err)
		}
		n := 0
		for range batch.Messages() {
			n++
		}
		if n != 2 || batch.Error() != nil {
			d.t.Errorf("a sweep reads %d records, %v", n, batch.Error())
		}
	}
}

// streamVerbs and consumerVerbs are all of JetStream's API on one stream.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference
var (
	streamVerbs = []string{
		"STREAM.CREATE.%s", "STREAM.UPDATE.%s", "STREAM.DELETE.%s", "STREAM.PURGE.%s", "STREAM.INFO.%s", "STREAM.MSG.GET.%s", "STREAM.MSG.DELETE.%s",
		"STREAM.SNAPSHOT.%s", "STREAM.RESTORE.%s", "STREAM.LEADER.STEPDOWN.%s", "STREAM.PEER.REMOVE.%s", "DIRECT.GET.%s", "DIRECT.GET.%s.x", "CONSUMER.NAMES.%s", "CONSUMER.LIST.%s",
	}
	consumerVerbs = []string{
		"CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.x", "CONSUMER.CREATE.%s.x.>", "CONSUMER.DURABLE.CREATE.%s.x", "CONSUMER.DELETE.%s.x", "CONSUMER.INFO.%s.x", "CONSUMER.MSG.NEXT.%s.x",
		"CONSUMER.PAUSE.%s.x", "CONSUMER.RESET.%s.x", "CONSUMER.UNPIN.%s.x", "CONSUMER.LEADER.STEPDOWN.%s.x",
	}
	otherSubjects = []string{
		"$JS.API.INFO", "$JS.monitor.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.ACCOUNT.PURGE.RENEWALS", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.RENEWALS.CONNZ", "$SYS.REQ.USER.INFO",
		"renewals.due.default", "renewals.due.other", "renewals.due.default.x", "renewals.capture.default", "renewals.capture.other", "renewals.charging.s.p.0.default", "renewals.pending.s.p.0.default", "renewals.paid.s.p.0.default", "renewals.dunning.s.p.0.default",
		"renewals.unresolved.s.p.0.default", "renewals.rejected.s.p.0.default", "renewals.cancelled.s.p.0.default", "renewals.capturing.s.p.0.default", "renewals.captured.s.p.0.default", "renewals.capture_failed.s.p.0.default",
		"renewals.charging.s.p.0.other", "renewals.pending.s.p.0.other", "renewals.paid.s.p.0.other", "renewals.dunning.s.p.0.other", "renewals.unresolved.s.p.0.other", "renewals.rejected.s.p.0.other", "renewals.captured.s.p.0.other",
		"renewals.dead.k.default", "renewals.dead.k.other", "renewals.mark.journal", "renewals.mirror.results.x", "renewals.parked.s.p.1-abc.default", "renewals.parked.s.p.1-abc.other", "renewals.later.default", "renewals.later.other",
		"renewals.journal.CONSUMER.CREATE.RENEWAL_JOURNAL", "$KV.RENEWAL_WORKERS.worker.x", "$JS.ACK.RENEWALS.charge-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS.charge-default.1.1.1.1.0",
		"$JS.ACK.RENEWALS.capture-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS.capture-default.1.1.1.1.0", "$JS.ACK.RENEWALS.charge-other.1.1.1.1.0", "$JS.ACK.RENEWAL_JOURNAL.x.1.1.1.1.0", "$JS.ACK._.hash.RENEWAL_JOURNAL.x.1.1.1.1.0", "$JS.ACK.RENEWAL_DEAD.x.1.1.1.1.0",
		"$JS.FC.KV_RENEWAL_WORKERS.x", "$JS.FC.RENEWAL_JOURNAL.x", "$JS.FC.RENEWAL_DEAD.x", "$JS.FC.RENEWALS.x", "$JS.FC.OTHER.x",
		"$JS.API.CONSUMER.DURABLE.CREATE.RENEWALS.charge-default", "$JS.API.CONSUMER.DURABLE.CREATE.RENEWALS_LATER.later-default",
		"$JS.API.CONSUMER.INFO.RENEWALS.charge-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS.charge-default", "$JS.API.CONSUMER.DELETE.RENEWALS.charge-default", "$JS.API.CONSUMER.PAUSE.RENEWALS.charge-default",
		"$JS.API.CONSUMER.CREATE.RENEWALS.charge-default.renewals.due.default", "$JS.API.CONSUMER.CREATE.RENEWALS.charge-default.renewals.due.other",
		"$JS.API.CONSUMER.INFO.RENEWALS.capture-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS.capture-default", "$JS.API.CONSUMER.CREATE.RENEWALS.capture-default.renewals.capture.default",
		"$JS.API.CONSUMER.CREATE.RENEWALS.capture-default.renewals.due.default",
		"$JS.API.CONSUMER.INFO.RENEWALS_LATER.later-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS_LATER.later-default", "$JS.API.CONSUMER.CREATE.RENEWALS_LATER.later-default.renewals.later.default",
		"$JS.ACK.RENEWALS_LATER.later-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS_LATER.later-default.1.1.1.1.0",
		"$JS.API.CONSUMER.INFO.RENEWALS.charge-other", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS.charge-other", "$JS.API.CONSUMER.CREATE.RENEWALS.charge-other.renewals.due.other",
		"_INBOX.x", "_INBOX_worker.x", "_INBOX_operator.x", "_INBOX_provisioner.x", "_INBOX_consumer.x",
	}
	subscriptions = []string{
		">", "*", "*.>", "_INBOX.>", "$JS.monitor.>", "_INBOX_publisher_default.>", "_INBOX_publisher_other.>", "_INBOX_worker.>", "_INBOX_worker.x", "_INBOX_consumer.>", "_INBOX_operator.>", "_INBOX_provisioner.>", "_INBOX_monitor.>",
		"renewals.>", "renewals.due.default", "renewals.paid.*.*.*.*", "renewals.dead.>", "$KV.>", "$JS.>", "$JS.ACK.>", "$JS.API.>", "$JS.EVENT.>", "$JS.EVENT.ADVISORY.STREAM.UPDATED.RENEWAL_JOURNAL", "$JS.EVENT.ADVISORY.API", "$SYS.>", "renewals.mirror.results.>",
	}
)

// streamsUnder lists the streams on which a role may use a verb of the API.
type streamsUnder map[string][]string

const presenceStream = "KV_" + topology.BucketWorkers

var allStreams = []string{messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead, messages.StreamMarks, messages.StreamMarksCopy, presenceStream}

// withNews are those, and the one that nothing rests on.
var withNews = append(slices.Clone(allStreams), messages.StreamNews)

// mayDo is what each role is meant to be able to do, written down once more by hand: nothing else.
var mayDo = map[string]struct {
	prefix    string // of JetStream's API, by default $JS.API.
	api       streamsUnder
	other     []string
	subscribe []string
}{
	"publisher": {other: []string{"renewals.due.default", "renewals.capture.default"}, subscribe: []string{"_INBOX_publisher_default.>"}},
	"worker": {
		api: streamsUnder{
			"STREAM.INFO.%s": withNews, "STREAM.MSG.GET.%s": {messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamMarks, messages.StreamMarksCopy, messages.StreamNews}, "DIRECT.GET.%s.x": {presenceStream},
			"CONSUMER.CREATE.%s": {messages.StreamJournal, presenceStream}, "CONSUMER.CREATE.%s.x": {messages.StreamJournal, presenceStream}, "CONSUMER.CREATE.%s.x.>": {messages.StreamJournal, presenceStream},
			"CONSUMER.DELETE.%s.x": {messages.StreamJournal, presenceStream}, "CONSUMER.INFO.%s.x": {messages.StreamJournal, presenceStream}, "CONSUMER.MSG.NEXT.%s.x": {messages.StreamJournal},
		},
		other: []string{
			"$JS.FC.RENEWAL_JOURNAL.x",
			"renewals.charging.s.p.0.default", "renewals.pending.s.p.0.default", "renewals.paid.s.p.0.default", "renewals.dunning.s.p.0.default", "renewals.unresolved.s.p.0.default", "renewals.rejected.s.p.0.default",
			"renewals.capturing.s.p.0.default", "renewals.captured.s.p.0.default", "renewals.capture_failed.s.p.0.default", "renewals.dead.k.default", "renewals.unresolved.s.p.0.other", "renewals.dead.k.other", "renewals.mark.journal", "$KV.RENEWAL_WORKERS.worker.x", "$JS.FC.KV_RENEWAL_WORKERS.x", "$JS.ACK.RENEWALS.charge-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS.charge-default.1.1.1.1.0",
			"$JS.API.INFO", "$JS.API.CONSUMER.INFO.RENEWALS.charge-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS.charge-default",
			"$JS.ACK.RENEWALS.capture-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS.capture-default.1.1.1.1.0",
			"$JS.API.CONSUMER.INFO.RENEWALS.capture-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS.capture-default", "renewals.parked.s.p.1-abc.default", "$JS.ACK.RENEWALS_LATER.later-default.1.1.1.1.0", "$JS.ACK._.hash.RENEWALS_LATER.later-default.1.1.1.1.0",
			"$JS.API.CONSUMER.INFO.RENEWALS_LATER.later-default", "$JS.API.CONSUMER.MSG.NEXT.RENEWALS_LATER.later-default", "$SYS.REQ.USER.INFO",
		},
		subscribe: []string{"_INBOX_worker.>", "_INBOX_worker.x", "$JS.EVENT.ADVISORY.STREAM.UPDATED.RENEWAL_JOURNAL"},
	},
	"consumer": {
		api: streamsUnder{
			"STREAM.INFO.%s": {messages.StreamJournal, messages.StreamNews}, "CONSUMER.CREATE.%s": {messages.StreamJournal, messages.StreamNews}, "CONSUMER.CREATE.%s.x": {messages.StreamJournal, messages.StreamNews}, "CONSUMER.CREATE.%s.x.>": {messages.StreamJournal, messages.StreamNews},
			"CONSUMER.DURABLE.CREATE.%s.x": {messages.StreamJournal, messages.StreamNews},
			"CONSUMER.DELETE.%s.x":         {messages.StreamJournal, messages.StreamNews}, "CONSUMER.INFO.%s.x": {messages.StreamJournal, messages.StreamNews}, "CONSUMER.MSG.NEXT.%s.x": {messages.StreamJournal, messages.StreamNews},
		},
		other:     []string{"$JS.API.INFO", "$JS.FC.RENEWAL_NEWS.x", "$JS.ACK.RENEWAL_NEWS.x.1.1.1.1.0", "$JS.ACK._.hash.RENEWAL_NEWS.x.1.1.1.1.0", "$JS.FC.RENEWAL_JOURNAL.x", "$JS.ACK.RENEWAL_JOURNAL.x.1.1.1.1.0", "$JS.ACK._.hash.RENEWAL_JOURNAL.x.1.1.1.1.0"},
		subscribe: []string{"_INBOX_consumer.>"},
	},
	"operator": {
		api: streamsUnder{
			"STREAM.INFO.%s": withNews, "STREAM.MSG.GET.%s": {messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead, messages.StreamMarks, messages.StreamMarksCopy, messages.StreamNews}, "STREAM.MSG.DELETE.%s": {messages.StreamDead},
			"CONSUMER.CREATE.%s": {messages.StreamJournal, messages.StreamDead, presenceStream}, "CONSUMER.DURABLE.CREATE.%s.x": {messages.StreamJournal, messages.StreamDead},
			"CONSUMER.CREATE.%s.x": {messages.StreamJournal, messages.StreamDead, presenceStream}, "CONSUMER.CREATE.%s.x.>": {messages.StreamJournal, messages.StreamDead, presenceStream},
			"CONSUMER.DELETE.%s.x": {messages.StreamJournal, messages.StreamDead, presenceStream}, "CONSUMER.INFO.%s.x": {messages.StreamJournal, messages.StreamDead, presenceStream},
			"CONSUMER.MSG.NEXT.%s.x": {messages.StreamJournal, messages.StreamDead},
		},
		other: []string{
			"renewals.break.missing.k.default", "renewals.token.s.default", "renewals.due.default", "renewals.capture.default", "renewals.paid.s.p.0.default", "renewals.dunning.s.p.0.default", "renewals.cancelled.s.p.0.default",
			"renewals.captured.s.p.0.default", "renewals.capture_failed.s.p.0.default", "renewals.paid.s.p.0.other", "renewals.dunning.s.p.0.other", "renewals.captured.s.p.0.other", "$JS.FC.KV_RENEWAL_WORKERS.x", "$JS.FC.RENEWAL_JOURNAL.x", "$JS.FC.RENEWAL_DEAD.x", "$JS.API.INFO", "$SYS.REQ.USER.INFO",
			"$JS.API.CONSUMER.INFO.RENEWALS.charge-default", "$JS.API.CONSUMER.INFO.RENEWALS.capture-default", "$JS.API.CONSUMER.INFO.RENEWALS_LATER.later-default",
		},
		subscribe: []string{"_INBOX_operator.>"},
	},
	"provisioner": {
		api: streamsUnder{
			"STREAM.CREATE.%s": withNews, "STREAM.UPDATE.%s": withNews, "STREAM.INFO.%s": withNews,
			"STREAM.MSG.GET.%s": {messages.StreamJournal, messages.StreamMarks, messages.StreamMarksCopy},
		},
		other: []string{
			"$JS.API.INFO", "renewals.mark.journal",
			"$JS.API.CONSUMER.INFO.RENEWALS.charge-default", "$JS.API.CONSUMER.INFO.RENEWALS.capture-default", "$JS.API.CONSUMER.INFO.RENEWALS_LATER.later-default", "$JS.API.CONSUMER.CREATE.RENEWALS.charge-default.renewals.due.default", "$JS.API.CONSUMER.CREATE.RENEWALS.capture-default.renewals.capture.default", "$JS.API.CONSUMER.CREATE.RENEWALS_LATER.later-default.renewals.later.default",
		},
		subscribe: []string{"_INBOX_provisioner.>"},
	},
	"monitor": {
		prefix: "$JS.monitor.API.",
		api: streamsUnder{
			"STREAM.INFO.%s": withNews, "STREAM.MSG.GET.%s": {messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamMarks, messages.StreamMarksCopy, messages.StreamNews},
			"CONSUMER.CREATE.%s": {presenceStream}, "CONSUMER.CREATE.%s.x": {presenceStream}, "CONSUMER.CREATE.%s.x.>": {presenceStream}, "CONSUMER.DELETE.%s.x": {presenceStream},
			"CONSUMER.INFO.%s.x": {messages.StreamJobs, messages.StreamLater, presenceStream},
		},
		other:     []string{"$JS.FC.KV_RENEWAL_WORKERS.x", "$JS.monitor.API.INFO", "$SYS.REQ.USER.INFO"},
		subscribe: []string{"_INBOX_monitor.>"},
	},
}

// TestDeployedRolesDoNothingElse puts everything that can be said to JetStream, on all streams, to the server as each role.
func TestDeployedRolesDoNothingElse(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	if said := d.does("publisher", "!", "doctor"); !strings.Contains(said, "not seen  journal       cannot be seen from here: this user may not ask $JS.API.STREAM.INFO.RENEWAL_JOURNAL; run it as the operator") {
		t.Errorf("as a publisher the doctor says\n%s", said)
	}
	for role, may := range mayDo {
		t.Run(role, func(t *testing.T) {
			nc, refused := d.connect(role)
			want := map[string]bool{} // subject to publish to, and whether that is allowed
			for _, verb := range append(slices.Clone(streamVerbs), consumerVerbs...) {
				for _, stream := range append(slices.Clone(withNews), "OTHER") {
					for _, prefix := range []string{"$JS.API.", "$JS.monitor.API."} {
						want[prefix+fmt.Sprintf(verb, stream)] = prefix == cmp.Or(may.prefix, "$JS.API.") && slices.Contains(may.api[verb], stream)
					}
				}
			}
			for _, subject := range otherSubjects {
				want[subject] = slices.Contains(may.other, subject)
			}
			for subject := range want {
				if err := nc.PublishRequest(subject, nc.NewInbox(), nil); err != nil {
					t.Fatal(err)
				}
			}
			var taken []*nats.Subscription
			for _, subject := range subscriptions {
				sub, err := nc.SubscribeSync(subject)
				if err != nil {
					t.Fatal(err)
				}
				taken = append(taken, sub)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			said := func(what, subject string) func() bool {
				return func() bool {
					return slices.ContainsFunc(refused.seen(), func(line string) bool {
						return strings.Contains(strings.ToLower(line), what+` to "`+strings.ToLower(subject)+`"`)
					})
				}
			}
			// Refusals come in the order of what they refuse: when the last one is there, all are.
			if err := nc.Publish("the.last", nil); err != nil {
				t.Fatal(err)
			}
			await(t, 5*time.Second, "the last refusal", said("publish", "the.last"))
			allowed, denied := 0, 0
			for subject, want := range want {
				if got := !said("publish", subject)(); got != want {
					t.Errorf("may publish to %s: %t, want %t", subject, got, want)
				} else if want {
					allowed++
				} else {
					denied++
				}
			}
			for _, subject := range subscriptions {
				if got, want := !said("subscription", subject)(), slices.Contains(may.subscribe, subject); got != want {
					t.Errorf("may subscribe to %s: %t, want %t", subject, got, want)
				}
			}
			for _, sub := range taken {
				_ = sub.Unsubscribe()
			}
			if allowed == 0 {
				t.Error("nothing is allowed")
			}
			t.Logf("%d subjects allowed, %d refused", allowed, denied)
		})
	}
}

// TestDeployedAnswersStayInTheirAccount: a request names where its answer goes, and a server does not ask whether the
// requester may publish there. Publishers, consumers of results and monitors must not get anything into a stream that way;
// that the worker's account is open to it is shown last. https://docs.nats.io/nats-concepts/core-nats/reqreply
func TestDeployedAnswersStayInTheirAccount(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	file := filepath.Join(d.dir, "jobs.jsonl")
	write(t, file, string(job(1, "soft-decline-1"))+"\n")
	d.does("publisher", "publish", file)
	p := d.as("worker", "work")
	watching := d.as("consumer", "watch", "--json", "--since=1h")
	await(t, 20*time.Second, "the refusal", func() bool { return strings.Contains(watching.text(), `{"kind":"dunning"`) })
	p.kill()

	inside, _ := d.connect("operator")
	streams, err := jetstream.New(inside)
	if err != nil {
		t.Fatal(err)
	}
	state := func(stream string) jetstream.StreamState {
		s, err := streams.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State
	}
	ask := func(nc *nats.Conn, subject, body string) string {
		t.Helper()
		m, err := nc.Request(subject, []byte(body), 5*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		return string(m.Data)
	}
	// What went astray before is in the journal by the time that a record, published afterwards, is.
	records := func() uint64 {
		t.Helper()
		if _, err := streams.Publish(t.Context(), messages.RecordAddress{Kind: messages.KindCancelled, Renewal: messages.NewRenewal("x", "y"), Account: "default"}.Subject(), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		return state(messages.StreamJournal).LastSeq
	}
	before, jobs, dead := records(), state(messages.StreamJobs).LastSeq, state(messages.StreamDead).LastSeq
	readers := state(messages.StreamJournal).Consumers
	renewal, _ := keys(job(1, ""))
	record := messages.RecordAddress{Kind: messages.KindDunning, Renewal: renewal, Account: "default"}.Subject()
	targets := []string{
		record, messages.RecordAddress{Kind: messages.KindDunning, Renewal: renewal, Account: "other"}.Subject(), "renewals.due.other", "renewals.dead.k.default", "$KV.RENEWAL_WORKERS.x",
		"$JS.API.STREAM.PURGE.RENEWALS", "$JS.API.STREAM.DELETE.RENEWAL_JOURNAL", "renewals.mirror.results.x", "renewals.journal.CONSUMER.CREATE.RENEWAL_JOURNAL",
	}
	consume := func(stream, name, more string) string {
		return fmt.Sprintf(`{"stream_name":%q,"config":{"name":%q,"deliver_policy":"all","ack_policy":"none"%s}}`, stream, name, more)
	}

	publisher, _ := d.connect("publisher")
	consumer, _ := d.connect("consumer")
	monitor, _ := d.connect("monitor")
	ask(consumer, "$JS.API.CONSUMER.CREATE.RENEWAL_JOURNAL.mine", consume("RENEWAL_JOURNAL", "mine", ""))
	for i, target := range targets {
		for _, r := range []struct {
			nc            *nats.Conn
			subject, body string
		}{
			{publisher, "renewals.due.default", string(job(2, "ok-2"))},
			{consumer, "$JS.API.CONSUMER.MSG.NEXT.RENEWAL_JOURNAL.mine", `{"batch":1,"no_wait":true}`},
			{consumer, "$JS.API.CONSUMER.INFO.RENEWAL_JOURNAL.mine", ""},
			{consumer, "$JS.API.STREAM.INFO.RENEWAL_JOURNAL", ""},
			{monitor, "$JS.monitor.API.STREAM.INFO.RENEWAL_JOURNAL", ""},
			{monitor, "$JS.monitor.API.STREAM.MSG.GET.RENEWAL_JOURNAL", `{"seq":1}`},
		} {
			if err := r.nc.PublishRequest(r.subject, target, []byte(r.body)); err != nil {
				t.Fatal(err)
			}
		}
		// A push consumer that delivers there needs no request at all.
		push := fmt.Sprint("push", i)
		deliver := fmt.Sprintf(`,"deliver_subject":%q`, target)
		ask(consumer, "$JS.API.CONSUMER.CREATE.RENEWAL_JOURNAL."+push, consume("RENEWAL_JOURNAL", push, deliver))
		ask(consumer, "$JS.API.CONSUMER.CREATE.RENEWAL_JOURNAL", consume("RENEWAL_JOURNAL", "", deliver))
		ask(consumer, "$JS.API.CONSUMER.DURABLE.CREATE.RENEWAL_JOURNAL.durable-"+push, consume("RENEWAL_JOURNAL", "", deliver+fmt.Sprintf(`,"durable_name":"durable-%s"`, push)))
		ask(monitor, "$JS.monitor.API.CONSUMER.CREATE.KV_RENEWAL_WORKERS."+push, consume(presenceStream, push, fmt.Sprintf(`,"deliver_subject":%q`, target)))
	}
	ask(publisher, "renewals.due.default", string(job(3, "ok-3"))) // everything before it was handled
	jobs += uint64(len(targets)) + 1
	ask(consumer, "$JS.API.CONSUMER.INFO.RENEWAL_JOURNAL.mine", "")
	ask(monitor, "$JS.monitor.API.STREAM.INFO.RENEWAL_JOURNAL", "")

	if got, want := records(), before+1; got != want {
		t.Errorf("records in the journal: %d, want %d", got, want)
	}
	if got := state(messages.StreamJobs).LastSeq; got != jobs {
		t.Errorf("jobs: %d, want %d", got, jobs)
	}
	if got := state(messages.StreamDead).LastSeq; got != dead {
		t.Errorf("dead letters: %d, want %d", got, dead)
	}
	if got := state(messages.StreamJournal).Consumers; got != readers {
		t.Errorf("consumers of the journal: %d, want %d, the mirror's", got, readers)
	}

	// Inside the account an old record does come again, and what it expected of the journal when it was written refuses it.
	// The answer to a request expects nothing, and is stored.
	before = records()
	ask(inside, "$JS.API.CONSUMER.CREATE.RENEWAL_JOURNAL.mine", consume("RENEWAL_JOURNAL", "mine", fmt.Sprintf(`,"filter_subject":%q`, messages.RenewalFilter(renewal))))
	next := "$JS.API.CONSUMER.MSG.NEXT.RENEWAL_JOURNAL.mine"
	if err := inside.PublishRequest(next, record, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
		t.Fatal(err)
	}
	ask(inside, next, `{"batch":1,"no_wait":true}`) // the second record, on the same way as the first
	if got, want := records(), before+1; got != want {
		t.Errorf("records after an old one came again: %d, want %d", got, want)
	}
	if err := inside.PublishRequest("$JS.API.STREAM.MSG.GET.RENEWAL_JOURNAL", record, []byte(`{"seq":1}`)); err != nil {
		t.Fatal(err)
	}
	journal, err := streams.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "an answer to be the renewal's last record; if the server has begun to check where answers go, simplify accounts.conf", func() bool {
		last, err := journal.GetLastMsgForSubject(t.Context(), messages.RenewalFilter(renewal))
		return err == nil && last.Header.Get(messages.HeaderState) == ""
	})
}

// TestDeployedOnThreeNodes: cluster.conf carries the same work, on three copies, and goes on when one server is gone.
func TestDeployedOnThreeNodes(t *testing.T) {
	t.Parallel()
	d := deploy(t, "cluster.conf", 3)
	await(t, 30*time.Second, "the servers to have a leader", func() bool {
		return slices.ContainsFunc(d.servers, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 })
	})
	// One copy of each stream is a warning for everybody who looks, until there are three.
	if said := d.does("provisioner", "provision", "--replicas=1"); !strings.Contains(said, "stream RENEWAL_JOURNAL has 1 of at least 3 replicas") {
		t.Errorf("provision says %s", said)
	}
	few := func(want float64) {
		t.Helper()
		w := d.as("worker", "work")
		var address []string
		await(t, 20*time.Second, "the metric to say so", func() bool {
			if address = regexp.MustCompile(`"address":"([0-9.:]+)"`).FindStringSubmatch(w.text()); address == nil {
				return false
			}
			response, err := http.Get("http://" + address[1] + "/metrics")
			if err != nil {
				return false
			}
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body)
			return strings.Contains(string(text), fmt.Sprintf("\nrenewals_few_replicas %v\n", want)) && strings.Contains(w.text(), "charging renewals")
		})
		w.kill()
	}
	status := func() string { // a worker that was killed may have said that it is paused
		t.Helper()
		p := d.as("monitor", "status")
		p.exit(30 * time.Second)
		return p.text()
	}
	few(7)
	if said := status(); !strings.Contains(said, "\n  warning: stream RENEWAL_JOURNAL has 1 of at least 3 replicas in this cluster") {
		t.Errorf("status says %s", said)
	}
	d.does("provisioner", "provision", "--replicas=3")
	few(0)
	if said := status(); !strings.Contains(said, "ACCOUNT") && !strings.Contains(said, "no jobs") || strings.Contains(said, "replicas") {
		t.Errorf("status says %s", said)
	}
	sees := func(want ...string) func() bool { // as the operator, with a user of the system account beside
		return func() bool {
			p := d.as("operator", "doctor", "--system-context", d.context("sys"))
			p.exit(30 * time.Second)
			return !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(p.text(), s) })
		}
	}
	await(t, 60*time.Second, "the doctor to find three servers well",
		sees("fsync         on every write, on nats-1, nats-2, nats-3", "current copies on nats-1, nats-2, nats-3", "ok        servers", ": 0 not safe"))
	d.mirror(3)
	watching := d.as("consumer", "watch", "--json", "--since=1h")
	d.as("worker", "work")
	publish := func(n int) {
		file := filepath.Join(d.dir, fmt.Sprintf("jobs-%d.jsonl", n))
		write(t, file, string(job(n, fmt.Sprint("ok-", n)))+"\n")
		d.does("publisher", "publish", file)
		id := fmt.Sprintf(`"id":"%d/2026-12/1"`, 1234000+n)
		await(t, 60*time.Second, "the result", func() bool { return strings.Contains(watching.text(), id) })
	}
	publish(1)
	gone := d.servers[2] // nobody is connected to it
	gone.Shutdown()
	gone.WaitForShutdown()
	publish(2)
	await(t, 60*time.Second, "the doctor to miss one", sees("nats-3 is offline, which holds copies of", "nothing was seen of nats-3", "ok        journal"))
	if orders := d.klarna.Simulator.Books().Orders; len(orders) != 2 {
		t.Errorf("orders: %d, want 2", len(orders))
	}
}

// TestDeployedCertificates: without a certificate of our own nobody gets as far as showing an nkey, with one and another
// nkey no further.
func TestDeployedCertificates(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	elsewhere := t.TempDir()
	certificates(t, elsewhere)
	seed, _ := nkey(t, prefixUser)
	write(t, filepath.Join(d.dir, "stranger.nk"), seed)
	for _, tt := range []struct {
		who, ca, cert, nkey, want string
	}{
		{who: "nobody's server", ca: filepath.Join(elsewhere, "ca.pem"), cert: filepath.Join(d.dir, "client"), nkey: "operator", want: "check NATS_CA"},
		{who: "another's certificate", ca: filepath.Join(d.dir, "ca.pem"), cert: filepath.Join(elsewhere, "client"), nkey: "operator"},
		{who: "no certificate", ca: filepath.Join(d.dir, "ca.pem"), nkey: "operator"},
		{who: "another nkey", ca: filepath.Join(d.dir, "ca.pem"), cert: filepath.Join(d.dir, "client"), nkey: "stranger", want: "Authorization Violation"},
		{who: "everything as it should be", ca: filepath.Join(d.dir, "ca.pem"), cert: filepath.Join(d.dir, "client"), nkey: "operator"},
	} {
		identity, err := nats.NkeyOptionFromSeed(filepath.Join(d.dir, tt.nkey+".nk"))
		if err != nil {
			t.Fatal(err)
		}
		options := []nats.Option{identity, nats.RootCAs(tt.ca)}
		if tt.cert != "" {
			options = append(options, nats.ClientCert(tt.cert+".pem", tt.cert+".key"))
		}
		nc, err := nats.Connect(d.servers[0].ClientURL(), options...)
		if err == nil {
			nc.Close()
		}
		if got, want := err == nil, tt.who == "everything as it should be"; got != want {
			t.Errorf("%s: connected %t (%v), want %t", tt.who, got, err, want)
		}
		if tt.want == "" {
			continue
		}
		write(t, d.context("tried"), fmt.Sprintf(`{"url":%q,"nkey":%q,"ca":%q,"cert":%q,"key":%q,"inbox_prefix":"_INBOX_operator"}`, d.servers[0].ClientURL(),
			filepath.Join(d.dir, tt.nkey+".nk"), tt.ca, tt.cert+".pem", tt.cert+".key"))
		if said := d.does("tried", "!", "provision"); !strings.Contains(said, tt.want) {
			t.Errorf("%s: provision says %q, want %q", tt.who, said, tt.want)
		}
	}
}

// TestDeployedCredentials: the same lists in user JWTs, for servers in operator mode, and credentials files.
// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt
func TestDeployedCredentials(t *testing.T) {
	t.Parallel()
	d := &deployed{t: t, dir: t.TempDir(), log: &violations{}}
	operatorSeed, operator := nkey(t, prefixOperator)
	accountSeed, account := nkey(t, prefixAccount)
	_, system := nkey(t, prefixAccount)
	unlimited := map[string]any{
		"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
		"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "mem_max_stream_bytes": -1, "disk_max_stream_bytes": -1,
	}
	options := &server.Options{}
	config := filepath.Join(d.dir, "nats.conf")
	write(t, config, fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream: {store_dir: %q, sync_interval: always}\noperator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}\n",
		filepath.Join(d.dir, "store"), natsJWT(t, operatorSeed, operator, operator, map[string]any{"type": "operator", "version": 2, "system_account": system}), system,
		account, natsJWT(t, operatorSeed, operator, account, map[string]any{"type": "account", "version": 2, "limits": unlimited, "default_permissions": map[string]any{}}),
		system, natsJWT(t, operatorSeed, operator, system, map[string]any{"type": "account", "version": 2, "limits": map[string]any{"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1}, "default_permissions": map[string]any{}})))
	if err := options.ProcessConfigFile(config); err != nil {
		t.Fatal(err)
	}
	s := d.start(options)
	for _, role := range []string{"publisher", "worker", "operator", "provisioner"} {
		out, err := exec.Command(program, "provision", "--print-permissions", "--json", "--account=default", "--role="+role).Output()
		if err != nil {
			t.Fatal(err)
		}
		var grants []struct {
			Inbox       string `json:"inbox_prefix"`
			Permissions struct {
				Publish, Subscribe struct{ Allow []string }
			}
		}
		if err := json.Unmarshal(out, &grants); err != nil || len(grants) != 1 {
			t.Fatalf("permissions of %s: %v\n%s", role, err, out)
		}
		seed, public := nkey(t, prefixUser)
		claims := map[string]any{
			"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
			"pub": map[string]any{"allow": grants[0].Permissions.Publish.Allow}, "sub": map[string]any{"allow": grants[0].Permissions.Subscribe.Allow},
		}
		write(t, filepath.Join(d.dir, role+".creds"), fmt.Sprintf("-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n",
			natsJWT(t, accountSeed, account, public, claims), seed))
		write(t, d.context(role), fmt.Sprintf(`{"url":%q,"creds":%q,"inbox_prefix":%q}`, s.ClientURL(), filepath.Join(d.dir, role+".creds"), grants[0].Inbox))
	}
	d.does("provisioner", "provision")
	d.as("worker", "work")
	file := filepath.Join(d.dir, "jobs.jsonl")
	write(t, file, string(job(1, "ok-1"))+"\n")
	d.does("publisher", "publish", file)
	await(t, 20*time.Second, "the order", func() bool { return len(d.klarna.Simulator.Books().Orders) == 1 })
	await(t, 20*time.Second, "the record", func() bool { return strings.Contains(d.does("operator", "show", "1234001/2026-12"), "state: paid") })
	d.does("operator", "status")
	if refused := d.log.seen(); len(refused) > 0 {
		t.Errorf("refused:\n%s", strings.Join(refused, "\n"))
	}
	if said := d.does("publisher", "!", "provision"); !strings.Contains(strings.ToLower(said), "permissions violation") {
		t.Errorf("provision as a publisher says %q", said)
	}
}

// TestDeployedPermissionsAreCurrent: deploy/nats holds what the program prints.
func TestDeployedPermissionsAreCurrent(t *testing.T) {
	t.Parallel()
	printed, err := exec.Command(program, "provision", "--print-permissions").Output()
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := os.ReadFile("../deploy/nats/permissions.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(printed, shipped) {
		t.Error("deploy/nats/permissions.conf is not what `renewals provision --print-permissions` prints: print it again")
	}
}

// TestDeployedRunbookCommands: what the runbook tells to type is there, every flag of it.
func TestDeployedRunbookCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	helps, flags := map[string]string{}, 0
	for _, said := range regexp.MustCompile("(?m)(?:^    |`)renewals ([a-z][^`#\n]*)").FindAllStringSubmatch(string(text), -1) {
		words := strings.Fields(said[1])
		command := words[:1]
		if command[0] == "dead" || command[0] == "token" {
			command = words[:2]
		}
		name := strings.Join(command, " ")
		if helps[name] == "" {
			help, err := exec.Command(program, append(slices.Clone(command), "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("renewals %s: %v", name, err)
			}
			helps[name] = string(help)
		}
		for _, word := range words {
			if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") {
				if flags++; !regexp.MustCompile(regexp.QuoteMeta(flag) + `\b`).MatchString(helps[name]) {
					t.Errorf("renewals %s has no %s", name, flag)
				}
			}
		}
	}
	if len(helps) < 8 || flags < 8 {
		t.Errorf("found %d commands and %d flags", len(helps), flags)
	}
}

// TestDeployedConfigurations: the server itself finds no fault with the files as they are shipped, their variables in the
// environment.
func TestDeployedConfigurations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificates(t, dir)
	env := []string{
		"NATS_NAME=nats-1", "NATS_STORE=" + filepath.Join(dir, "store"), "NATS_TLS_CERT=" + filepath.Join(dir, "server.pem"),
		"NATS_TLS_KEY=" + filepath.Join(dir, "server.key"), "NATS_TLS_CA=" + filepath.Join(dir, "ca.pem"), "NATS_JS_KEY=" + storeKey,
	}
	for _, u := range users {
		_, public := nkey(t, prefixUser)
		env = append(env, u.nkey+"="+public)
	}
	for _, file := range []string{"node.conf", "cluster.conf"} {
		check := exec.Command(broker, "-t", "-c", "../deploy/nats/"+file)
		check.Env = env
		if said, err := check.CombinedOutput(); err != nil || !bytes.Contains(said, []byte("is valid")) {
			t.Errorf("nats-server -t -c %s: %v\n%s", file, err, said)
		}
		check = exec.Command(broker, "-t", "-c", "../deploy/nats/"+file)
		check.Env = env[:len(env)-1]
		if said, err := check.CombinedOutput(); err == nil {
			t.Errorf("nats-server -t -c %s with a user missing: %s", file, said)
		}
	}
}

// TestDeployedIncludes: what node.conf says of variables and files that are included.
func TestDeployedIncludes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"inner.conf": "port: $PORT", "outer.conf": "PORT: 4333\ninclude \"inner.conf\"",
		"values.conf": "PORT: 4333", "reads.conf": "include \"values.conf\"\nport: $PORT", "deeper.conf": "include \"reads.conf\"",
		"beside.conf": "include \"values.conf\"\ninclude \"inner.conf\"", "above.conf": "port: $PORT\nPORT: 4333",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	for _, tt := range []struct {
		file, situation string
		env             []string
		want            bool
	}{
		{file: "outer.conf", situation: "set where it is included"},
		{file: "beside.conf", situation: "set in a file beside it"},
		{file: "above.conf", situation: "set below"},
		{file: "outer.conf", situation: "in the environment", env: []string{"PORT=4222"}, want: true},
		{file: "reads.conf", situation: "set in what it includes", want: true},
		{file: "deeper.conf", situation: "set in what it includes, and included itself", want: true},
	} {
		check := exec.Command(broker, "-t", "-c", filepath.Join(dir, tt.file))
		check.Env = tt.env
		if said, err := check.CombinedOutput(); (err == nil) != tt.want {
			t.Errorf("%s, %s: %v, want valid %t\n%s", tt.file, tt.situation, err, tt.want, said)
		}
	}
}

// TestDeployedCompose runs the services of compose.yaml that are ours as processes, with their commands and variables; only
// the names of hosts are others.
func TestDeployedCompose(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
		Configs map[string]struct{ Content string }
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	natsAddr, klarnaAddr := freeAddress(t), freeAddress(t)
	hosts := strings.NewReplacer("nats:4222", natsAddr, "0.0.0.0:4222", natsAddr, "klarna:8089", klarnaAddr, "0.0.0.0:8089", klarnaAddr, "0.0.0.0:9464", "127.0.0.1:0", "0.0.0.0:8222", "127.0.0.1:0", "/data", dir, "$$", "$")
	write(t, filepath.Join(dir, "nats.conf"), hosts.Replace(compose.Configs["nats"].Content))
	run := func(binary string, args []string, env map[string]string, stdin string) *process {
		cmd := exec.Command(binary, args...)
		cmd.Env, cmd.Stdin = []string{"HOME=" + dir}, strings.NewReader(stdin)
		for name, value := range env {
			cmd.Env = append(cmd.Env, name+"="+hosts.Replace(value))
		}
		return launch(t, cmd)
	}
	service := func(name, stdin string) *process {
		s, ok := compose.Services[name]
		if !ok {
			t.Fatalf("no service %s", name)
		}
		args := make([]string, len(s.Command))
		for i, a := range s.Command {
			args[i] = hosts.Replace(a)
		}
		return run(program, args, s.Environment, stdin)
	}
	key := regexp.MustCompile(`\$\{NATS_JS_KEY:-(.+)\}`).FindStringSubmatch(compose.Services["nats"].Environment["NATS_JS_KEY"])
	if key == nil {
		t.Fatal("NATS has no key for its store")
	}
	run(broker, []string{"-c", filepath.Join(dir, "nats.conf")}, map[string]string{"NATS_JS_KEY": key[1]}, "")
	service("klarna", "")
	if p := service("provision", ""); p.exit(20*time.Second) != 0 {
		t.Fatalf("provision: %s", p.text())
	}
	one, two := service("worker", ""), service("worker", "")
	if p := service("publish", string(job(1, "ok-1"))+"\n"); p.exit(20*time.Second) != 0 {
		t.Fatalf("publish: %s", p.text())
	}
	await(t, 20*time.Second, "the result", func() bool { return strings.Contains(one.text()+two.text(), `"kind":"paid"`) })
}

// installed ends a test where there is no Prometheus on the machine.
func installed(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err == nil {
		return
	}
	if os.Getenv("DEPLOY_CHECK") != "" {
		t.Fatal("prometheus is not installed: apt-get install prometheus")
	}
	t.Skip("prometheus is not installed; `make deploy-check` installs it") // as .ci/run does: no test is skipped there
}

// scrape starts a real Prometheus with the shipped rules beside a worker, and says where it answers.
func scrape(t *testing.T, every time.Duration, ops string) (web string) {
	t.Helper()
	rules, err := filepath.Abs("../deploy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	web = freeAddress(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yaml")
	write(t, config, fmt.Sprintf("global: {scrape_interval: %s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n- job_name: renewals\n  static_configs:\n  - targets: [%q]\n", every, rules, ops))
	launch(t, exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+web))
	return web
}

// ask puts a query to Prometheus; ok is false while it does not answer.
func ask(t *testing.T, web, query string) (results []sample, ok bool) {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []sample }
	}
	if err := fetch("http://"+web+"/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return nil, false
	}
	if answer.Status != "success" {
		t.Fatalf("%s: %s", query, answer.Error)
	}
	return answer.Data.Result, true
}

// sample is one element of an answer of Prometheus.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, value as text
}

func (s sample) number() float64 {
	n, err := strconv.ParseFloat(fmt.Sprint(s.Value[1]), 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// TestDeployedAlertsFromTheFirstSecond: a fresh worker decides three hundred renewals, and rejects one, before Prometheus sees it
// for the first time. The recorded ratio is the true one, the alert on dead letters fires, and every series that a rule or a panel
// asks for is there. S60: the ratio was 0 after each rollout.
func TestDeployedAlertsFromTheFirstSecond(t *testing.T) {
	t.Parallel()
	installed(t)
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	for n := range 300 {
		token := "ok-"
		if n%3 == 0 {
			token = "soft-decline-"
		}
		w.publish(job(n, token+strconv.Itoa(n)))
	}
	w.publish(job(300, "ok-300", func(j map[string]any) { j["order"].(map[string]any)["order_amount"] = 1 }))
	ops := freeAddress(t)
	w.start([]string{"RENEWALS_OPS_ADDR=" + ops}, "work")
	await(t, time.Minute, "the jobs to be done", func() bool { return w.left() == 0 })
	web := scrape(t, 2*time.Second, ops)

	for query, want := range map[string]float64{
		"round(account:renewals_dunning:ratio_increase1h, 0.001)":                                0.333,
		"account:renewals_decided:increase1h":                                                    300,
		`count(ALERTS{alertname="RenewalsDeadLetters", alertstate="firing", account="default"})`: 1,
	} {
		var got []sample
		await(t, 90*time.Second, query, func() bool { // a worker looks at dead letters once a minute
			got, _ = ask(t, web, query)
			return len(got) == 1
		})
		if got[0].number() != want {
			t.Errorf("%s: %v, want %v", query, got[0].Value[1], want)
		}
	}

	rules, err := os.ReadFile("../deploy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	panels, err := os.ReadFile("../deploy/grafana/renewals.json")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, name := range regexp.MustCompile(`\brenewals_[a-z_]+`).FindAllString(string(rules)+string(panels), -1) {
		asked[name] = true
	}
	for name := range asked {
		if name == "renewals_dunning" || name == "renewals_decided" {
			continue // recorded above
		}
		await(t, 30*time.Second, "a series "+name, func() bool {
			got, _ := ask(t, web, fmt.Sprintf(`count(%s{job="renewals"})`, name))
			return len(got) == 1
		})
	}
	if len(asked) < 20 {
		t.Errorf("%d metrics in rules and panels, want at least 20", len(asked))
	}
	for _, reason := range messages.Reasons(messages.KindDunning) {
		if got, ok := ask(t, web, fmt.Sprintf(`renewals_results_total{kind="dunning", reason=%q}`, reason)); !ok || len(got) != 1 {
			t.Errorf("refusals for %s have no series", reason)
		}
	}
	p := w.start(nil, "doctor", "--prometheus", "http://"+web)
	p.exit(30 * time.Second)
	if said := p.text(); !strings.Contains(said, "NOT SAFE  alerts        Prometheus knows no Alertmanager") || strings.Contains(said, "not loaded") || strings.Contains(said, "targets") {
		t.Errorf("the doctor says\n%s", said)
	}
	firing, _ := ask(t, web, `ALERTS{alertstate="firing", alertname!="RenewalsDeadLetters"}`)
	for _, f := range firing {
		t.Errorf("%s fires on a healthy worker", f.Metric["alertname"])
	}
}

// TestDeployedDashboard: a worker under load, scraped by a real Prometheus with the shipped rules. Every query of the
// dashboard returns data, and every rule can be evaluated.
func TestDeployedDashboard(t *testing.T) {
	t.Parallel()
	installed(t)
	w := newWorld(t, klarnasim.Options{Latency: 20 * time.Millisecond})
	w.provision()
	ops := freeAddress(t)
	w.start([]string{"RENEWALS_OPS_ADDR=" + ops}, "work")
	w.publish(job(1_000_000, "503-bare-1")) // stays undecided
	defer w.load(20*time.Millisecond, "ok-", "ok-", "soft-decline-", "cancelled-")()
	web := scrape(t, time.Second, ops)

	text, err := os.ReadFile("../deploy/grafana/renewals.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("panel %s asks for nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			queries++
			query := strings.NewReplacer("$account", ".*", "$__rate_interval", "20s").Replace(target.Expr)
			if strings.Contains(query, "$") {
				t.Errorf("panel %s: a variable that is not known in %s", panel.Title, query)
			}
			await(t, 2*time.Minute, "data in panel "+panel.Title+": "+query, func() bool { // a worker looks at dead letters once a minute
				got, _ := ask(t, web, query)
				return slices.ContainsFunc(got, func(s sample) bool { return s.Value[1] != "NaN" })
			})
		}
	}
	if queries < len(dashboard.Panels) || queries < 20 {
		t.Errorf("queries: %d in %d panels", queries, len(dashboard.Panels))
	}

	var evaluated struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	await(t, 30*time.Second, "the rules to be evaluated", func() bool {
		if fetch("http://"+web+"/api/v1/rules", &evaluated) != nil {
			return false
		}
		for _, g := range evaluated.Data.Groups {
			for _, r := range g.Rules {
				if r.Health == "unknown" {
					return false
				}
			}
		}
		return len(evaluated.Data.Groups) > 0
	})
	n := 0
	for _, g := range evaluated.Data.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				t.Errorf("rule %s: %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	t.Logf("%d queries of %d panels returned data, %d rules were evaluated", queries, len(dashboard.Panels), n)
}

// fetch reads a JSON document.
func fetch(address string, into any) error {
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Prefixes of nkeys. https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth
const (
	prefixSeed     = 18 << 3
	prefixOperator = 14 << 3
	prefixAccount  = 0
	prefixUser     = 20 << 3
)

// nkey makes a pair: the seed, which only its user has, and the public half.
func nkey(t *testing.T, prefix byte) (seed, public string) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return checked(append([]byte{prefixSeed | prefix>>5, prefix & 31 << 3}, private.Seed()...)), checked(append([]byte{prefix}, pub...))
}

// checked is the text of a key: base32 with a CRC-16 behind it.
func checked(raw []byte) string {
	var crc uint16
	for _, b := range raw {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.LittleEndian.AppendUint16(raw, crc))
}

// natsJWT is a JWT of NATS: what issuer says of subject.
func natsJWT(t *testing.T, issuerSeed, issuer, subject string, claims map[string]any) string {
	t.Helper()
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(issuerSeed)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"jti": subject, "iat": time.Now().Unix(), "iss": issuer, "sub": subject, "name": subject, "nats": claims})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) + "." + encode(body)
	return text + "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(raw[2:34]), []byte(text)))
}

// certificates writes an authority and what it has signed for servers and clients: ca.pem, server.pem, client.pem and keys.
func certificates(t *testing.T, dir string) {
	t.Helper()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		switch name {
		case "ca":
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage, template.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
			ca, caKey = template, key
		case "server": // a client to the other servers, too
			template.IPAddresses, template.DNSNames, template.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}, append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	}
}
