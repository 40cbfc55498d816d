package topology

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A Deviation is a setting of a stream or consumer that is not as [Provision] makes it and that keeps the promise from
// being kept. Nothing is claimed that it touches while there is one.
type Deviation struct {
	Stream, Consumer, Setting, Got, Want string

	// Advice is what to do where that is not to put the setting right; "" otherwise.
	Advice string

	firstEdition bool          // subjects of the contract's first edition are among what was found
	need         time.Duration // how long a delivery may be worked on, of an ack_wait
}

func (d *Deviation) Error() string { return d.Finding() + "; " + d.Remedy() }

// Finding is what is off, without what to do.
func (d *Deviation) Finding() string {
	where := "stream " + d.Stream
	if d.Consumer != "" {
		where = "consumer " + d.Consumer + " on " + where
	}
	return fmt.Sprintf("%s: setting %s: found %s, expected %s", where, d.Setting, d.Got, d.Want)
}

// fixedSettings are those that the server does not change on what exists, or not back.
var fixedSettings = map[string]bool{
	"storage": true, "sealed": true, "allow_msg_schedules": true, "allow_msg_counter": true, "allow_msg_ttl": true, "persist_mode": true,
	"deliver_policy": true, "mem_storage": true, "ack_policy": true, "replay_policy": true, "opt_start_seq": true, "opt_start_time": true,
	"idle_heartbeat": true, "flow_control": true, "deliver_subject": true, "max_waiting": true,
}

// Remedy says what to do, and sends nobody to a command that does not do it.
func (d *Deviation) Remedy() string {
	switch {
	case d.Advice != "":
		return d.Advice
	case d.Setting == "pause_until":
		return "run `nats consumer resume " + d.Stream + " " + d.Consumer + "` to let it go on"
	case d.Setting == "max_batch":
		return fmt.Sprintf("where the server has a limit max_request_batch (jetstream, limits) raise it to %d or more, or take it out, then run `renewals provision`", MostBatch)
	case d.Setting == "subjects" && d.firstEdition:
		return movingOn + "; where the stream is empty, run `renewals provision`"
	case d.Setting == "ack_wait":
		wait := max(DefaultAckWait, (d.need + time.Second - 1).Truncate(time.Second))
		return "run `renewals provision --ack-wait " + wait.String() + " --force=ack_wait`, or give tries less time"
	case fixedSettings[d.Setting] && d.Consumer != "":
		return "no update changes it: delete the consumer and run `renewals provision`, its jobs come again"
	case fixedSettings[d.Setting], d.Setting == "retention" && (d.Got == "workqueue" || d.Want == "workqueue"):
		return "no update changes it: the stream must be made anew from a backup"
	}
	return "run `renewals provision` to put it right"
}

// settings are the fields of a configuration by their names in JetStream's API, without those at their zero value and
// without limits that are none.
type settings map[string]any

func settingsOf(config any) settings {
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // only of plain structs
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // ages are beyond what a float64 tells apart
	s := settings{}
	if err := decoder.Decode(&s); err != nil {
		panic(err)
	}
	maps.DeleteFunc(s, func(_ string, v any) bool {
		switch v := v.(type) {
		case nil:
			return true
		case bool:
			return !v
		case string:
			return v == ""
		case json.Number:
			return v == "0" || v == "-1"
		case []any:
			return len(v) == 0
		case map[string]any:
			return len(v) == 0
		}
		return false
	})
	return s
}

// number is a setting's, 0 where it is not set or unlimited.
func (s settings) number(name string) int64 {
	n, ok := s[name].(json.Number)
	if !ok {
		return 0
	}
	v, _ := n.Int64()
	return v
}

// differing are the names of the settings in which two configurations differ, sorted.
func differing(found, wanted settings) []string {
	names := map[string]bool{}
	for name := range found {
		names[name] = true
	}
	for name := range wanted {
		names[name] = true
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool { return fmt.Sprint(found[name]) == fmt.Sprint(wanted[name]) })
	return slices.Sorted(maps.Keys(names))
}

// A tolerance says whether a setting may be as found although Provision makes it as wanted.
type tolerance func(name string, found, wanted settings) bool

func anything(string, settings, settings) bool { return true }

func atLeast(name string, found, wanted settings) bool {
	return found.number(name) >= wanted.number(name)
}

func unlimitedOrAtLeast(name string, found, wanted settings) bool {
	return found[name] == nil || atLeast(name, found, wanted)
}

// enoughAtOnce is a limit on requests that none of ours meets.
func enoughAtOnce(name string, found, _ settings) bool {
	return found[name] == nil || found.number(name) >= MostBatch
}

// stricter is what only forbids more.
func stricter(name string, found, _ settings) bool { return found[name] == true }

func remembers(name string, found, wanted settings) bool {
	return wanted[name] != nil && (found[name] == nil || found.number(name) >= int64(minRetention))
}

// among is at least what is wanted, and nothing of the contract's first edition.
func among(name string, found, wanted settings) bool {
	have, _ := found[name].([]any)
	need, _ := wanted[name].([]any)
	return !slices.ContainsFunc(have, outdated) && !slices.ContainsFunc(need, func(s any) bool { return !slices.Contains(have, s) })
}

// Everything else must be as Provision makes it. A newer version of this program may add subjects and batches, and its
// workers run beside those of this one.
var (
	streamMayDiffer = map[string]tolerance{
		"description": anything, "metadata": anything, "placement": anything, "compression": anything, "first_seq": anything, "template_owner": anything,
		"num_replicas":     anything, // too few are a warning
		"mirror_direct":    anything, // of a mirror, which is a deviation by itself
		"allow_atomic":     anything, // without it each record is written by itself
		"subjects":         among,
		"duplicate_window": atLeast,
		"max_consumers":    unlimitedOrAtLeast,
		"deny_delete":      stricter,
		"deny_purge":       stricter,
	}
	// The age of what is a memory may be another one. Everything else with an age has that one for a reason.
	memoryMayDiffer   = map[string]tolerance{"max_age": remembers}
	consumerMayDiffer = map[string]tolerance{
		"name": anything, "description": anything, "metadata": anything, "sample_freq": anything,
		"num_replicas":    anything, // none means those of the stream
		"ack_wait":        anything, // compared with what the worker needs, see Worker.consumer
		"max_ack_pending": unlimitedOrAtLeast,
		"max_waiting":     atLeast,
		"max_batch":       enoughAtOnce, // a server with a limit writes it into every consumer
	}
)

func streamTolerates(stream, name string, found, wanted settings) bool {
	may := streamMayDiffer[name]
	if stream == messages.StreamJournal || stream == messages.StreamDead {
		if memory := memoryMayDiffer[name]; memory != nil {
			may = memory
		}
	}
	return may != nil && may(name, found, wanted)
}

func consumerTolerates(name string, found, wanted settings) bool {
	if name == "pause_until" { // one that is over is none
		until, err := time.Parse(time.RFC3339Nano, fmt.Sprint(found[name]))
		return err == nil && !until.After(time.Now())
	}
	may := consumerMayDiffer[name]
	return may != nil && may(name, found, wanted)
}

// settingName is a setting's as people know it.
func settingName(name string) string {
	if name == "num_replicas" {
		return ForceReplicas
	}
	return name
}

// settingText is a value as people read it.
func settingText(name string, s settings) string {
	v, ok := s[name]
	switch name {
	case "max_age", "duplicate_window", "ack_wait", "inactive_threshold", "max_expires", "idle_heartbeat", "subject_delete_marker_ttl", "priority_timeout":
		switch d := time.Duration(s.number(name)); {
		case !ok:
			return "none"
		case d%(24*time.Hour) == 0:
			return Days(d)
		default:
			return d.String()
		}
	}
	switch v := v.(type) {
	case nil:
		if strings.HasPrefix(name, "max_") {
			return "unlimited"
		}
		if strings.HasPrefix(name, "deny_") || strings.HasPrefix(name, "allow_") {
			return "false"
		}
		return "none"
	case string, json.Number, bool:
		return fmt.Sprint(v)
	default:
		text, _ := json.Marshal(v)
		return string(text)
	}
}

// An Inspection is how what lives in JetStream compares with what [Provision] makes.
type Inspection struct {
	// Retention is the journal's age, which bounds how old a charged period may be.
	Retention time.Duration
	// Deviations keep every account from being charged.
	Deviations []*Deviation
	// Few are the streams in a cluster with fewer than three copies, and how many they have: the loss of one machine is the
	// loss of a memory.
	Few map[string]int
	// Journal is how the journal is kept.
	Journal jetstream.StreamConfig
	// Missing is the first stream that is not there, in which case those after it were not looked at; the bucket's is the last.
	Missing string
}

// Warnings are what keeps nobody from charging and still should not be so, in a sentence each.
func (i Inspection) Warnings() (all []string) {
	for _, stream := range slices.Sorted(maps.Keys(i.Few)) {
		all = append(all, fmt.Sprintf("%s has %d of at least %d replicas in this cluster: one lost disk loses it; run `renewals provision --replicas %d`", Called(stream), i.Few[stream], SafeReplicas, SafeReplicas))
	}
	return all
}

// Err is the first deviation, with the names of the others; nil where there is none. Sealing a stream changes other
// settings along.
func (i Inspection) Err() error {
	all := slices.Clone(i.Deviations)
	slices.SortStableFunc(all, func(a, b *Deviation) int {
		switch {
		case a.Setting == b.Setting:
			return 0
		case a.Setting == "sealed":
			return -1
		case b.Setting == "sealed":
			return 1
		}
		return 0
	})
	if len(all) < 2 {
		for _, d := range all {
			return d
		}
		return nil
	}
	var others []string
	for _, d := range all[1:] {
		others = append(others, d.Stream+" "+d.Setting)
	}
	return fmt.Errorf("%w; others are off: %s", all[0], strings.Join(others, ", "))
}

// wanted are the streams as [Provision] makes them without flags, but for how many consumers they may have: those of one account are enough
// here, as every worker looks for its own. The journal is the first: where more is missing, it is what somebody has to know of.
func wanted() []jetstream.StreamConfig {
	p := Provisioning{Replicas: 1, Retention: DefaultRetention, DeadRetention: defaultDeadRetention}
	all := append([]jetstream.StreamConfig{p.Journal()}, slices.DeleteFunc(p.streams(), func(c jetstream.StreamConfig) bool { return c.Name == messages.StreamJournal })...)
	for i := range all {
		if need := consumersOf(all[i].Name, 1); need > 0 {
			all[i].MaxConsumers = need
		}
	}
	return all
}

// Streams are the names of all streams, the bucket's among them, the journal's first.
func Streams() (names []string) {
	for _, c := range wanted() {
		names = append(names, c.Name)
	}
	return names
}

// Inspect compares the streams and the bucket with what Provision makes. jetstream.ErrStreamNotFound means that
// `renewals provision` was not run; any other error says nothing about the settings.
func Inspect(ctx context.Context, js jetstream.JetStream) (Inspection, error) {
	found := Inspection{Few: map[string]int{}}
	for _, name := range Streams() {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				found.Missing = name
			}
			return found, fmt.Errorf("%s: %w%s", Called(name), err, Hint(err))
		}
		info := stream.CachedInfo()
		found.Deviations = append(found.Deviations, Deviations(info.Config)...)
		if info.Cluster != nil && info.Cluster.Name != "" && info.Config.Replicas < SafeReplicas {
			found.Few[name] = info.Config.Replicas
		}
		if name == messages.StreamJournal {
			found.Journal, found.Retention = info.Config, Memory(info.Config, time.Now())
		}
	}
	return found, nil
}

// Deviations are the settings in which a stream of [Streams] differs from what Provision makes; nil also for any other stream.
func Deviations(config jetstream.StreamConfig) (all []*Deviation) {
	for _, wanted := range wanted() {
		if wanted.Name != config.Name {
			continue
		}
		got, want := settingsOf(config), settingsOf(wanted)
		for _, name := range differing(got, want) {
			if streamTolerates(wanted.Name, name, got, want) {
				continue
			}
			off := &Deviation{Stream: wanted.Name, Setting: settingName(name), Got: settingText(name, got), Want: wantedText(name, wanted.Name, want)}
			if old := firstEdition(config.Subjects); name == "subjects" && len(old) > 0 {
				off.firstEdition, off.Got, off.Want = true, likewise(old[0]), likewise(currentSubject())
			}
			all = append(all, off)
		}
	}
	return all
}

// SafeReplicas survive the loss of a machine.
const SafeReplicas = 3

// wantedText is what is expected of a setting, which may be more than one value.
func wantedText(name, stream string, want settings) string {
	switch {
	case name == "max_batch":
		return fmt.Sprintf("at least %d", MostBatch)
	case name == "subjects":
		return "among them " + settingText(name, want)
	case name == "max_age" && (stream == messages.StreamJournal || stream == messages.StreamDead):
		return "at least " + Days(minRetention)
	case name == "duplicate_window" || name == "max_consumers" || name == "max_ack_pending" || name == "max_waiting":
		return "at least " + settingText(name, want)
	}
	return settingText(name, want)
}

// Called is what people call a stream.
func Called(stream string) string {
	if stream == StreamWorkers {
		return "bucket " + BucketWorkers
	}
	return "stream " + stream
}

// Verify checks every setting of the streams. A *Deviation names the first that
// is off; jetstream.ErrStreamNotFound means that `renewals provision` was not run; any other error says nothing about
// the settings. It returns the journal's age, which bounds how old a charged period may be.
func Verify(ctx context.Context, js jetstream.JetStream) (retention time.Duration, err error) {
	found, err := Inspect(ctx, js)
	if err != nil {
		return 0, err
	}
	if err := found.Err(); err != nil {
		return 0, err
	}
	return found.Retention, nil
}

// VerifyConsumer compares a consumer with what Provision makes. need is how long a delivery may be worked on at most. Only
// one that is not in the listing, or not as it must be there, is asked for.
func VerifyConsumer(ctx context.Context, js jetstream.JetStream, account messages.Account, name, subject string, need time.Duration, listed Listing) (*jetstream.ConsumerInfo, error) {
	if info := listed[name]; info != nil && deviates(info.Config, account, name, subject, need) == nil {
		return info, nil
	}
	stream := StreamOf(name)
	consumer, err := js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, fmt.Errorf("consumer %s of account %s on stream %s: %w%s", name, account, stream, err, Hint(err))
	}
	info := consumer.CachedInfo()
	if off := deviates(info.Config, account, name, subject, need); off != nil {
		return info, off
	}
	return info, nil
}

// deviates names the first setting of a consumer that is off; nil where none is.
func deviates(config jetstream.ConsumerConfig, account messages.Account, name, subject string, need time.Duration) *Deviation {
	stream := StreamOf(name)
	wanted := Provisioning{AckWait: DefaultAckWait}.Consumer(account, name, subject)
	if usual(config, wanted) && config.AckWait >= need {
		return nil
	}
	got, want := settingsOf(config), settingsOf(wanted)
	for _, setting := range differing(got, want) {
		if !consumerTolerates(setting, got, want) {
			return &Deviation{Stream: stream, Consumer: name, Setting: settingName(setting), Got: settingText(setting, got), Want: wantedText(setting, stream, want)}
		}
	}
	if config.AckWait < need {
		return &Deviation{Stream: stream, Consumer: name, Setting: "ack_wait", Got: config.AckWait.String(), need: need,
			Want: fmt.Sprintf("at least %s, the try budget and the try timeout and a tenth", need)}
	}
	return nil
}

// usual says that a consumer differs from what is wanted at most where any value will do: most do not, and to compare every setting by
// its name costs as much as to ask for the consumer.
func usual(found, wanted jetstream.ConsumerConfig) bool {
	found.Name, found.Description, found.Metadata, found.Replicas, found.AckWait = wanted.Name, wanted.Description, wanted.Metadata, wanted.Replicas, wanted.AckWait
	return reflect.DeepEqual(found, wanted)
}

// Missing says whether an error means that something is not there, rather than that nobody answered.
func Missing(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)
}

// Days is a duration as people say it: in days where it is whole ones.
func Days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
	return d.String()
}
