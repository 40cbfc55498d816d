// Package deploy_test compares what the files of this folder say with what the program does. What the tools that read
// them say of them is deploy/check.sh.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker"
	"github.com/klarna-renewals/renewals/worker/doctor"
	"github.com/klarna-renewals/renewals/worker/topology"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// objects decodes every document of a YAML file.
func objects[T any](t *testing.T, path string) (all []T) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, path)))
	for {
		var one T
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, one)
	}
}

type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Record      string
			Expr        string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// TestAlerts: each says what happened, what is at stake and where to read on; the runbook has that place, and the unit
// tests of the rules make it fire and keep still.
func TestAlerts(t *testing.T) {
	t.Parallel()
	headings := map[string]bool{}
	for line := range strings.Lines(read(t, "RUNBOOK.md")) {
		if text, ok := strings.CutPrefix(line, "#"); ok {
			headings[strings.ToLower(strings.TrimSpace(strings.TrimLeft(text, "#")))] = true
		}
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name   string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/rules_test.yaml")), &tests); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.Alerts {
			if len(a.Expect) > 0 {
				fires[a.Name] = true
			} else {
				quiet[a.Name] = true
			}
		}
	}
	alerts := 0
	for _, g := range objects[ruleFile](t, "prometheus/rules.yaml")[0].Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			alerts++
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("%s: severity %q, want page or ticket", r.Alert, s)
			}
			for _, name := range []string{"summary", "impact"} {
				if r.Annotations[name] == "" {
					t.Errorf("%s: no %s", r.Alert, name)
				}
			}
			_, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "deploy/RUNBOOK.md#")
			if anchor != strings.ToLower(r.Alert) || !headings[anchor] {
				t.Errorf("%s: runbook %q, want its own heading in RUNBOOK.md", r.Alert, r.Annotations["runbook_url"])
			}
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: tested to fire %t, to keep still %t", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
		}
	}
	if alerts < 9 {
		t.Errorf("alerts: %d", alerts)
	}
}

// TestRunbookKnowsWhatStatusSays: every reason that an account can be paused for, or a renewal unresolved or rejected.
func TestRunbookKnowsWhatStatusSays(t *testing.T) {
	t.Parallel()
	runbook := read(t, "RUNBOOK.md")
	known := slices.Concat(messages.Reasons(messages.KindUnresolved), messages.Reasons(messages.KindRejected), []messages.Reason{messages.ReasonOrderAfterDunning, messages.ReasonSecondOrder, messages.ReasonCaptureAfterFailure})
	for _, reason := range known {
		if !strings.Contains(runbook, "`"+string(reason)+"`") {
			t.Errorf("RUNBOOK.md does not explain %s", reason)
		}
	}
	for _, reason := range []string{"not_evaluated", "breaker", "settings", "clock", "journal", "rate_limited", "refused_by_config"} {
		if !strings.Contains(runbook, "`"+reason+"`") {
			t.Errorf("RUNBOOK.md does not explain the pause %s", reason)
		}
	}
}

// TestRunbookKnowsWhatTheDoctorAsks: every check.
func TestRunbookKnowsWhatTheDoctorAsks(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(read(t, "RUNBOOK.md"), "\n## What the doctor says\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, name := range doctor.Checks() {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("RUNBOOK.md does not say what %s asks", name)
		}
	}
}

// registered notes the names of metrics.
type registered struct{ names []string }

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (r *registered) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

func (r *registered) Register(c prometheus.Collector) error {
	described := make(chan *prometheus.Desc, 8)
	c.Describe(described)
	close(described)
	for d := range described {
		r.names = append(r.names, fqName.FindStringSubmatch(d.String())[1])
	}
	return nil
}

func (r *registered) Unregister(prometheus.Collector) bool { return false }

// TestMetricsExist: rules and dashboard ask for nothing that no worker exports.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	exported := &registered{}
	worker.NewMetrics(exported)
	if len(exported.names) < 15 {
		t.Fatalf("metrics: %v", exported.names)
	}
	for _, file := range []string{"prometheus/rules.yaml", "prometheus/rules_test.yaml", "grafana/renewals.json"} {
		asked := regexp.MustCompile(`[^:]\brenewals_[a-z_]+\{`).FindAllString(read(t, file), -1)
		if len(asked) == 0 {
			t.Errorf("%s asks for no metric", file)
		}
		for _, name := range asked {
			name = strings.TrimSuffix(name[1:len(name)-1], "_bucket")
			if !slices.Contains(exported.names, name) {
				t.Errorf("%s asks for %s, which no worker exports", file, name)
			}
		}
	}
}

// TestTimeToFinish: nothing ends a worker before its tries in flight are finished and recorded.
func TestTimeToFinish(t *testing.T) {
	t.Parallel()
	need := worker.DefaultOptions().ShutdownTimeout + 10*time.Second
	for file, setting := range map[string]string{
		"kubernetes/base/worker.yaml": `terminationGracePeriodSeconds: (\d+)`, "compose.yaml": `stop_grace_period: (\d+)s`, "systemd/renewals.service": `TimeoutStopSec=(\d+)`,
	} {
		found := regexp.MustCompile(setting).FindStringSubmatch(read(t, file))
		if found == nil {
			t.Errorf("%s: no %s", file, setting)
			continue
		}
		if got, _ := time.ParseDuration(found[1] + "s"); got < need {
			t.Errorf("%s: %s, want at least %s", file, found[0], need)
		}
	}
}

// TestImageIsBuiltWithTheLanguageOfTheModule: the builder's Go is the module's.
func TestImageIsBuiltWithTheLanguageOfTheModule(t *testing.T) {
	t.Parallel()
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	image := regexp.MustCompile(`(?m)^FROM .*golang:(\S+)`).FindStringSubmatch(read(t, "Dockerfile"))
	if module == nil || image == nil || image[1] != module[1] {
		t.Errorf("image %v, module %v", image, module)
	}
}

// resource is a resource of NACK.
type resource struct {
	Kind string
	Spec map[string]any
}

// nackFields are the fields of NACK's v1beta2 resources that we use, and what the JetStream API calls them.
// https://github.com/nats-io/nack/blob/main/docs/api.md
var nackFields = map[string]map[string]string{
	"Stream": {
		"name": "name", "description": "description", "subjects": "subjects", "retention": "retention", "storage": "storage", "replicas": "num_replicas", "discard": "discard",
		"maxMsgSize": "max_msg_size", "maxConsumers": "max_consumers", "maxMsgsPerSubject": "max_msgs_per_subject", "maxAge": "max_age", "duplicateWindow": "duplicate_window", "allowDirect": "allow_direct", "allowAtomicPublish": "allow_atomic", "allowMsgSchedules": "allow_msg_schedules", "allowRollup": "allow_rollup_hdrs", "denyDelete": "deny_delete", "denyPurge": "deny_purge",
	},
	"Consumer": {
		"durableName": "durable_name", "description": "description", "filterSubject": "filter_subject", "deliverPolicy": "deliver_policy", "ackPolicy": "ack_policy", "ackWait": "ack_wait",
		"maxDeliver": "max_deliver", "maxAckPending": "max_ack_pending", "maxWaiting": "max_waiting", "replayPolicy": "replay_policy",
	},
}

// config is the resource as the JetStream API takes it. Replicas are compared here, since one server keeps no copies.
func (r resource) config(t *testing.T, into any) {
	t.Helper()
	config := map[string]any{}
	for field, value := range r.Spec {
		name, known := nackFields[r.Kind][field]
		switch {
		case field == "preventDelete" || field == "streamName":
			continue // NACK's own
		case !known:
			t.Fatalf("%s: field %s is not among those that NACK has", r.Kind, field)
		case field == "replicas":
			if value != 3 {
				t.Errorf("%s %v: %v replicas, want 3", r.Kind, r.Spec["name"], value)
			}
			value = 1
		}
		if text, ok := value.(string); ok {
			if d, err := time.ParseDuration(text); err == nil {
				value = d
			}
		}
		config[name] = value
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", r.Kind, err)
	}
}

// TestNACKMakesWhatProvisionMakes: on one server NACK's resources, on another what provision makes, and no field differs.
func TestNACKMakesWhatProvisionMakes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	ours, theirs := broker.JetStream(t), broker.JetStream(t)
	if err := worker.Provision(ctx, ours, topology.Provisioning{Accounts: []messages.Account{"default"}}); err != nil {
		t.Fatal(err)
	}
	made := map[string]int{}
	for _, r := range objects[resource](t, "kubernetes/nack/streams.yaml") {
		made[r.Kind]++
		switch r.Kind {
		case "Stream":
			var config jetstream.StreamConfig
			r.config(t, &config)
			if _, err := theirs.CreateStream(ctx, config); err != nil {
				t.Fatalf("%v: %v", r.Spec["name"], err)
			}
		case "KeyValue":
			ttl, err := time.ParseDuration(r.Spec["ttl"].(string))
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{"bucket": topology.BucketWorkers, "description": r.Spec["description"], "history": 1, "ttl": r.Spec["ttl"], "storage": "file", "replicas": 3}
			if !reflect.DeepEqual(r.Spec, want) {
				t.Errorf("KeyValue: %v, want %v", r.Spec, want)
			}
			if _, err := theirs.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: topology.BucketWorkers, Description: r.Spec["description"].(string), History: 1, TTL: ttl}); err != nil {
				t.Fatal(err)
			}
		case "Consumer":
			var config jetstream.ConsumerConfig
			r.config(t, &config)
			if _, err := theirs.CreateConsumer(ctx, r.Spec["streamName"].(string), config); err != nil {
				t.Fatalf("%v: %v", r.Spec["durableName"], err)
			}
		default:
			t.Errorf("%s is nothing that provision makes", r.Kind)
		}
	}
	if want := map[string]int{"Stream": 7, "KeyValue": 1, "Consumer": 3}; !reflect.DeepEqual(made, want) {
		t.Errorf("resources: %v, want %v", made, want)
	}
	for _, name := range []string{messages.StreamJobs, messages.StreamJournal, messages.StreamDead, messages.StreamLater, messages.StreamMarks, messages.StreamMarksCopy, messages.StreamNews, "KV_" + topology.BucketWorkers} {
		if got, want := streamConfig(t, theirs, name), streamConfig(t, ours, name); !reflect.DeepEqual(got, want) {
			t.Errorf("stream %s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	for name, stream := range map[string]string{
		topology.ConsumerName("default"): messages.StreamJobs, topology.CaptureConsumerName("default"): messages.StreamJobs, topology.LaterConsumerName("default"): messages.StreamLater,
	} {
		if got, want := consumerConfig(t, theirs, stream, name), consumerConfig(t, ours, stream, name); !reflect.DeepEqual(got, want) {
			t.Errorf("consumer %s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	if _, err := topology.Verify(ctx, theirs); err != nil {
		t.Errorf("the worker finds fault with it: %v", err)
	}
}

func streamConfig(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

func consumerConfig(t *testing.T, js jetstream.JetStream, stream, name string) jetstream.ConsumerConfig {
	t.Helper()
	c, err := js.Consumer(t.Context(), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Config
}

// TestMirrorKeepsWhatTheJournalKeeps: deploy/nats/results.json forgets no sooner than the journal, and mirrors every kind
// of result but no claim (S25).
func TestMirrorKeepsWhatTheJournalKeeps(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	if err := worker.Provision(t.Context(), js, topology.Provisioning{}); err != nil {
		t.Fatal(err)
	}
	journal := streamConfig(t, js, messages.StreamJournal)
	var mirror jetstream.StreamConfig
	if err := json.Unmarshal([]byte(read(t, "nats/results.json")), &mirror); err != nil {
		t.Fatal(err)
	}
	if mirror.MaxAge != journal.MaxAge || mirror.Name != journal.Name {
		t.Errorf("%s for %s, want %s for %s", mirror.Name, mirror.MaxAge, journal.Name, journal.MaxAge)
	}
	var news jetstream.StreamConfig
	if err := json.Unmarshal([]byte(read(t, "nats/news.json")), &news); err != nil {
		t.Fatal(err)
	}
	if kept := streamConfig(t, js, messages.StreamNews); news.MaxAge != kept.MaxAge || news.Name != kept.Name || news.Mirror.Name != kept.Name || len(news.Mirror.SubjectTransforms) != 0 {
		t.Errorf("%s for %s, want all of %s for %s", news.Name, news.MaxAge, kept.Name, kept.MaxAge)
	}
	mirrored := map[string]bool{}
	for _, s := range mirror.Mirror.SubjectTransforms {
		mirrored[s.Source] = true
	}
	for _, subject := range journal.Subjects {
		claim := strings.HasPrefix(subject, "renewals.charging.") || strings.HasPrefix(subject, "renewals.capturing.") // nobody's result
		if mirrored[subject] == claim {
			t.Errorf("%s: mirrored %t, want %t", subject, mirrored[subject], !claim)
		}
	}
}
