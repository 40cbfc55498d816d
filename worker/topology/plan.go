package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// What Provision lowers, or of AckWait changes at all, only where [Provisioning].Force names it.
const (
	ForceReplicas        = "replicas"
	ForceMaxAge          = "max_age"
	ForceDuplicateWindow = "duplicate_window"
	ForceAckWait         = "ack_wait"
)

// Forcible are all of them.
var Forcible = []string{ForceReplicas, ForceMaxAge, ForceDuplicateWindow, ForceAckWait}

// A Change is something that Provision makes, or a setting that it makes other than it found it.
type Change struct {
	Stream, Consumer       string
	Setting, Found, Wanted string // Setting is empty for a stream or consumer that is new
	Refused                bool   // it was asked for, takes safety away, and Force does not name it
}

func (c Change) String() string {
	where := Called(c.Stream)
	if c.Consumer != "" {
		where = "consumer " + c.Consumer + " on " + where
	}
	switch {
	case c.Setting == "":
		return where + ": new"
	case c.Refused:
		return fmt.Sprintf("%s: %s: %s stays, not %s: add --force=%s if you mean it", where, c.Setting, c.Found, c.Wanted, c.Setting)
	}
	return fmt.Sprintf("%s: %s: %s → %s", where, c.Setting, c.Found, c.Wanted)
}

// A LoweringError lists what was asked for and not done, since it takes safety away. Everything else was done.
type LoweringError struct{ Changes []Change }

func (e *LoweringError) Error() string {
	var names []string
	for _, c := range e.Changes {
		names = append(names, c.Setting)
	}
	slices.Sort(names)
	return fmt.Sprintf("settings that protect what was charged are left as they are; to change them all the same add --force=%s", strings.Join(slices.Compact(names), ","))
}

// A step makes a change.
type step func(context.Context, jetstream.JetStream) error

// A plan is what there is to do, each step with the changes that it makes.
type plan struct {
	changes   []Change
	streams   []step // one after the other
	consumers []step // once there are the streams, in any order
}

// atOnce is how many consumers are made at a time: each waits for a disk, or for a majority of a cluster.
const atOnce = 16

// carryOut takes the steps. The error is the first.
func (t plan) carryOut(ctx context.Context, js jetstream.JetStream) error {
	for _, do := range t.streams {
		if err := do(ctx, js); err != nil {
			return err
		}
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	next := make(chan step)
	for range min(atOnce, len(t.consumers)) {
		running.Go(func() {
			for do := range next {
				if err := do(ctx, js); err != nil {
					fail(err)
				}
			}
		})
	}
	for _, do := range t.consumers {
		if ctx.Err() != nil {
			break
		}
		next <- do
	}
	close(next)
	running.Wait()
	return context.Cause(ctx)
}

// Provision creates what is missing of the streams, consumers and the bucket, and changes of what exists only what the
// promise rests on and what p asks for. Nothing is lowered that p.Force does not name: a [*LoweringError] says what was
// asked for in vain, after everything else is done. It is idempotent and safe beside running workers. It never replaces a
// missing journal while jobs wait. Who lets it make an empty one in the place of a lost one, see [Provisioning.LosesMemory], accepts
// that one afterwards.
func Provision(ctx context.Context, js jetstream.JetStream, p Provisioning) error {
	for _, age := range []struct {
		name  string
		value time.Duration
	}{{"retention", p.Retention}, {"dead retention", p.DeadRetention}} {
		if age.value != 0 && age.value < minRetention {
			return fmt.Errorf("%s: found %s, expected at least %s", age.name, Days(age.value), Days(minRetention))
		}
	}
	if err := p.guardJournal(ctx, js); err != nil {
		return err
	}
	todo, err := p.plan(ctx, js)
	if err != nil {
		return err
	}
	var refused LoweringError
	for _, c := range todo.changes {
		if p.Tell != nil {
			p.Tell(c)
		}
		if c.Refused {
			refused.Changes = append(refused.Changes, c)
		}
	}
	if err := todo.carryOut(ctx, js); err != nil {
		return err
	}
	if len(refused.Changes) > 0 {
		return &refused
	}
	return nil
}

// asFound is p with what of it goes by what exists, and that by name.
func (p Provisioning) asFound(ctx context.Context, js jetstream.JetStream) (asItIs Provisioning, exist map[string]jetstream.StreamConfig, err error) {
	exist, asItIs = map[string]jetstream.StreamConfig{}, p
	for _, c := range slices.Concat(p.streams(), p.beside()) {
		stream, err := js.Stream(ctx, c.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return p, nil, fmt.Errorf("look up %s: %w", Called(c.Name), err)
		}
		exist[c.Name] = stream.CachedInfo().Config
		if p.Replicas == 0 {
			asItIs.Replicas = max(asItIs.Replicas, exist[c.Name].Replicas)
		}
	}
	asItIs.Replicas = max(asItIs.Replicas, 1)
	if p.Retention == 0 {
		asItIs.Retention = DefaultRetention
	}
	if p.DeadRetention == 0 {
		asItIs.DeadRetention = defaultDeadRetention
	}
	asItIs, err = asItIs.withinLimits(ctx, js)
	return asItIs, exist, err
}

// plan looks at what exists and says what there is to do.
func (p Provisioning) plan(ctx context.Context, js jetstream.JetStream) (plan, error) {
	var todo plan
	asItIs, exist, err := p.asFound(ctx, js)
	if err != nil {
		return todo, err
	}
	for _, wanted := range slices.Concat(asItIs.streams(), asItIs.beside()) {
		found, ok := exist[wanted.Name]
		if !ok {
			todo.add(&todo.streams, []Change{{Stream: wanted.Name}}, func(ctx context.Context, js jetstream.JetStream) error {
				stream, err := js.CreateStream(ctx, wanted)
				if err == nil && wanted.AllowMsgSchedules {
					err = canSchedule(js, stream)
				}
				if err != nil {
					return fmt.Errorf("provision %s: %w", Called(wanted.Name), err)
				}
				return nil
			})
			continue
		}
		target, changes, err := p.stream(found, wanted)
		if err != nil {
			return todo, err
		}
		todo.add(&todo.streams, changes, func(ctx context.Context, js jetstream.JetStream) error {
			if err := update(ctx, js, found, target); err != nil {
				return fmt.Errorf("provision %s: %w", Called(wanted.Name), err)
			}
			return nil
		})
	}
	err = p.planConsumers(ctx, js, exist, &todo)
	return todo, err
}

// find looks up a consumer; nil where there is none.
func (l Listing) find(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.ConsumerInfo, error) {
	if info := l[name]; info != nil {
		return info, nil
	}
	consumer, err := js.Consumer(ctx, StreamOf(name), name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up consumer %s: %w", name, err)
	}
	return consumer.CachedInfo(), nil
}

// planConsumers adds the consumers of all accounts. A stream that does not exist has none.
func (p Provisioning) planConsumers(ctx context.Context, js jetstream.JetStream, exist map[string]jetstream.StreamConfig, todo *plan) error {
	type one struct {
		wanted jetstream.ConsumerConfig
		found  *jetstream.ConsumerInfo
	}
	var all []one
	asItIs := p
	listed, err := List(ctx, js, len(p.Accounts))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	for _, a := range p.Accounts {
		for name, subject := range Consumers(a) {
			c := one{wanted: p.Consumer(a, name, subject)}
			if _, there := exist[StreamOf(name)]; there {
				if c.found, err = listed.find(ctx, js, name); err != nil {
					return err
				}
			}
			if c.found != nil && p.AckWait == 0 {
				asItIs.AckWait = max(asItIs.AckWait, c.found.Config.AckWait)
			}
			all = append(all, c)
		}
	}
	if asItIs.AckWait == 0 {
		asItIs.AckWait = DefaultAckWait
	}
	slices.SortFunc(all, func(a, b one) int { return strings.Compare(a.wanted.Durable, b.wanted.Durable) })
	for _, c := range all {
		target, changes := c.wanted, []Change{{Stream: StreamOf(c.wanted.Durable), Consumer: c.wanted.Durable}}
		target.AckWait = asItIs.AckWait
		if c.found != nil {
			if target, changes, err = p.consumerOf(c.found.Config, target); err != nil {
				return err
			}
		}
		todo.add(&todo.consumers, changes, func(ctx context.Context, js jetstream.JetStream) error {
			return makeConsumer(ctx, js, target)
		})
	}
	return nil
}

// makeConsumer makes a consumer or changes it. The error may be a [*Deviation]: the server has written a limit of its own into it.
func makeConsumer(ctx context.Context, js jetstream.JetStream, target jetstream.ConsumerConfig) error {
	made, err := js.CreateOrUpdateConsumer(ctx, StreamOf(target.Durable), target)
	if err != nil {
		return fmt.Errorf("provision consumer %s: %w%s", target.Durable, err, tooMany(err))
	}
	if got := settingsOf(made.CachedInfo().Config); !consumerTolerates("max_batch", got, nil) {
		off := &Deviation{Stream: StreamOf(target.Durable), Consumer: target.Durable, Setting: "max_batch", Got: settingText("max_batch", got)}
		off.Want = wantedText(off.Setting, off.Stream, nil)
		return off
	}
	return nil
}

// add takes in a step, unless it would change nothing.
func (t *plan) add(to *[]step, changes []Change, do step) {
	t.changes = append(t.changes, changes...)
	if slices.ContainsFunc(changes, func(c Change) bool { return !c.Refused }) {
		*to = append(*to, do)
	}
}

// stream is a stream that exists with what must change, and what that is.
func (p Provisioning) stream(found, wanted jetstream.StreamConfig) (target jetstream.StreamConfig, changes []Change, err error) {
	got, want := settingsOf(found), settingsOf(wanted)
	asked := map[string]bool{
		"num_replicas":     p.Replicas != 0,
		"max_age":          wanted.Name == messages.StreamJournal && p.Retention != 0 || wanted.Name == messages.StreamDead && p.DeadRetention != 0,
		"duplicate_window": p.forces(ForceDuplicateWindow),
		"max_consumers":    got["max_consumers"] == nil || wanted.MaxConsumers < maxConsumers && found.MaxConsumers > wanted.MaxConsumers, // the server's limit, not none; or over the account's
		"allow_atomic":     want["allow_atomic"] != nil,
	}
	var names []string
	for _, name := range differing(got, want) {
		c := Change{Stream: wanted.Name, Setting: settingName(name), Found: settingText(name, got), Wanted: settingText(name, want)}
		if name == "subjects" {
			want[name] = union(current(got[name]), want[name])
			c.Wanted = settingText(name, want)
		}
		switch {
		case asked[name] && lowers(name, got, want) && !p.forces(c.Setting):
			c.Refused = true
		case asked[name], !streamTolerates(wanted.Name, name, got, want):
			names = append(names, name)
		default:
			continue
		}
		changes = append(changes, c)
	}
	err = merge(found, want, names, &target)
	if err == nil && wanted.Name == messages.StreamJournal && target.MaxAge > found.MaxAge && found.MaxAge > 0 {
		target.Metadata = maps.Clone(target.Metadata)
		if target.Metadata == nil {
			target.Metadata = map[string]string{}
		}
		target.Metadata[remembersSince] = time.Now().Add(time.Minute - found.MaxAge).UTC().Format(time.RFC3339)
	}
	return target, changes, err
}

// remembersSince is where the journal says, in its metadata, from when on it has every record. Its age was raised: what
// had gone by then does not come back, and a period of that time may have been charged.
const remembersSince = "renewals-remembers-since"

// Memory is how far back the journal has every record, which its age alone does not tell.
func Memory(c jetstream.StreamConfig, now time.Time) time.Duration {
	age := c.MaxAge
	if age == 0 { // it may have forgotten more before that was said
		age = DefaultRetention
	}
	if since, err := time.Parse(time.RFC3339, c.Metadata[remembersSince]); err == nil {
		age = min(age, now.Sub(since)+RetentionMargin) // that moment stays, so nothing of the margin is needed
	}
	return age
}

// consumerOf is a consumer that exists with what must change, and what that is.
func (p Provisioning) consumerOf(found, wanted jetstream.ConsumerConfig) (target jetstream.ConsumerConfig, changes []Change, err error) {
	got, want := settingsOf(found), settingsOf(wanted)
	var names []string
	for _, name := range differing(got, want) {
		c := Change{Stream: StreamOf(wanted.Durable), Consumer: wanted.Durable, Setting: settingName(name), Found: settingText(name, got), Wanted: settingText(name, want)}
		switch asked := name == "ack_wait" && p.AckWait != 0; {
		case name == "pause_until": // an update does not end it, and somebody meant it
			continue
		case asked && !p.forces(ForceAckWait):
			c.Refused = true
		case asked, !consumerTolerates(name, got, want):
			names = append(names, name)
		default:
			continue
		}
		changes = append(changes, c)
	}
	err = merge(found, want, names, &target)
	return target, changes, err
}

func (p Provisioning) forces(setting string) bool { return slices.Contains(p.Force, setting) }

// lowers says whether a setting would protect less. Unlimited, where it may be said of an age, is the most.
func lowers(name string, found, wanted settings) bool {
	switch name {
	case "max_age":
		return wanted[name] != nil && (found[name] == nil || found.number(name) > wanted.number(name))
	case "num_replicas", "duplicate_window":
		return found.number(name) > wanted.number(name)
	}
	return false
}

// current are the subjects of a stream without those that have no records any more, see guardEdition.
func current(subjects any) any {
	all, _ := subjects.([]any)
	return slices.DeleteFunc(slices.Clone(all), outdated)
}

// outdated says that a subject is of the contract's first edition.
func outdated(subject any) bool { return messages.FirstEdition(fmt.Sprint(subject)) }

// union is a list with what it lacks of another one.
func union(found, wanted any) []any {
	all, _ := found.([]any)
	all = slices.Clone(all)
	need, _ := wanted.([]any)
	for _, s := range need {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// merge writes a configuration to target in which some settings are as wanted.
func merge(found any, wanted settings, names []string, target any) error {
	all := settings{}
	text, err := json.Marshal(found)
	if err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		err = decoder.Decode(&all)
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if delete(all, name); wanted[name] != nil {
			all[name] = wanted[name]
		}
	}
	if text, err = json.Marshal(all); err != nil {
		return err
	}
	return json.Unmarshal(text, target)
}
