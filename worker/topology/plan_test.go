package topology

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
)

// S72: provision without flags leaves what exists as it is, whatever the defaults are.
func TestProvisionTakesNothingAway(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.MaxAge = 400 * 24 * time.Hour })
	w.changed(messages.StreamDead, func(c *jetstream.StreamConfig) { c.MaxAge = 0; c.Duplicates = 48 * time.Hour })
	w.changed(messages.StreamJobs, func(c *jetstream.StreamConfig) { c.Duplicates = 24 * time.Hour })
	w.consumerChanged(ConsumerName("default"), func(c *jetstream.ConsumerConfig) { c.AckWait = 7 * time.Minute })
	before := map[string]string{}
	streams := []string{messages.StreamJournal, messages.StreamDead, messages.StreamJobs, messages.StreamMarks, messages.StreamMarksCopy, StreamWorkers}
	for _, name := range streams {
		before[name] = settingText("", settings{"": settingsOf(w.streamConfig(name))})
	}
	told, err := w.provisions(Provisioning{})
	if err != nil || len(told) > 0 {
		t.Errorf("provision says %q, %v, want nothing to do", told, err)
	}
	for _, name := range streams {
		if after := settingText("", settings{"": settingsOf(w.streamConfig(name))}); after != before[name] {
			t.Errorf("%s:\nbefore %s\n after %s", name, before[name], after)
		}
	}

	// What is asked for and would take safety away is left, named with what to type; the rest is done.
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.AllowDirect = true })
	lower := Provisioning{Retention: 120 * 24 * time.Hour, DeadRetention: 500 * 24 * time.Hour, AckWait: 3 * time.Minute}
	told, err = w.provisions(lower)
	var refused *LoweringError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "--force=ack_wait,max_age") {
		t.Errorf("provision: %v, want both named with --force", err)
	}
	for _, want := range []string{
		"stream RENEWAL_JOURNAL: max_age: 400 days stays, not 120 days: add --force=max_age if you mean it",
		"stream RENEWAL_DEAD: max_age: none stays, not 500 days: add --force=max_age if you mean it",
		"consumer charge-default on stream RENEWALS: ack_wait: 7m0s stays, not 3m0s: add --force=ack_wait if you mean it",
		"stream RENEWAL_JOURNAL: allow_direct: true → false",
	} {
		if !slices.Contains(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
	if c := w.streamConfig(messages.StreamJournal); c.AllowDirect || c.MaxAge != 400*24*time.Hour {
		t.Errorf("allow_direct %t, max_age %s, want only the first put right", c.AllowDirect, c.MaxAge)
	}

	// With the names it is done, and only what is named.
	lower.Force = []string{ForceMaxAge, ForceDuplicateWindow}
	if _, err := w.provisions(lower); !errors.As(err, &refused) || strings.Contains(err.Error(), ForceMaxAge) {
		t.Errorf("provision: %v, want ack_wait refused alone", err)
	}
	if c := w.streamConfig(messages.StreamJournal); c.MaxAge != 120*24*time.Hour {
		t.Errorf("max_age %s, want what was forced", c.MaxAge)
	}
	if c := w.streamConfig(messages.StreamJobs); c.Duplicates != time.Hour {
		t.Errorf("duplicate window %s, want what was forced", c.Duplicates)
	}
	lower.Force = append(lower.Force, ForceAckWait)
	if _, err := w.provisions(lower); err != nil {
		t.Error(err)
	}
}

// S72: raising needs no force, and what is below what the promise needs is raised unasked.
func TestProvisionRaises(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJobs, func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute; c.MaxConsumers = -1 })
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second; c.MaxAge = time.Hour })
	told, err := w.provisions(Provisioning{DeadRetention: 500 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"stream RENEWALS: duplicate_window: 1m0s → 1h0m0s", "stream RENEWALS: max_consumers: unlimited → 20000",
		"stream RENEWAL_JOURNAL: max_age: 1h0m0s → 120 days", "stream RENEWAL_DEAD: max_age: 400 days → 500 days",
	} {
		if !slices.Contains(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
	if _, err := Verify(t.Context(), w.js); err != nil {
		t.Error(err)
	}
}

// Where the NATS account may have fewer consumers than thousands of accounts need, a stream may have as many as it. What does not fit is
// told before anything is made.
func TestProvisionWithinTheAccountsLimit(t *testing.T) {
	t.Parallel()
	s := broker.Synced(t)
	account, err := s.LookupAccount("$G")
	if err != nil {
		t.Fatal(err)
	}
	limit := func(consumers int) {
		t.Helper()
		if err := account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: consumers}}); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, js: broker.Connect(t, s)}
	for _, row := range []struct {
		limit    int
		accounts []messages.Account
		want     int    // consumers that RENEWALS may have then
		err      string // of provision
	}{
		{limit: 1, accounts: []messages.Account{"default"}, err: "max_consumers of the NATS account: found 1, expected at least 2, as each Klarna account has 2 on stream RENEWALS; raise it"},
		{limit: 2, accounts: []messages.Account{"default"}, want: 2},
		{limit: 3, accounts: []messages.Account{"default", "se"}, want: 2, err: "found 3, expected at least 4"},
		{limit: 3, accounts: []messages.Account{"se"}, want: 3, err: "maximum consumers limit reached, those of other Klarna accounts included; delete which nobody needs, or raise max_consumers"},
		{limit: 1000, accounts: []messages.Account{"default", "se"}, want: 1000},
		{limit: -1, accounts: []messages.Account{"default", "se"}, want: maxConsumers},
		{limit: 500, accounts: []messages.Account{"default", "se"}, want: 500}, // lowered beneath what there is
	} {
		limit(row.limit)
		switch err := Provision(t.Context(), w.js, Provisioning{Accounts: row.accounts}); {
		case row.err == "" && err != nil, row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
			t.Errorf("limit %d, accounts %v: %v, want %q", row.limit, row.accounts, err, row.err)
		}
		if row.want == 0 {
			if _, err := w.js.Stream(t.Context(), messages.StreamMarks); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("limit %d: something is made that does not fit: %v", row.limit, err)
			}
			continue
		}
		if got := w.streamConfig(messages.StreamJobs).MaxConsumers; got != row.want {
			t.Errorf("limit %d: %d consumers, want %d", row.limit, got, row.want)
		}
		if _, err := Verify(t.Context(), w.js); err != nil {
			t.Errorf("limit %d: %v", row.limit, err)
		}
	}
}

// The bucket is what the library would have made of it.
func TestBucketIsAKeyValueStore(t *testing.T) {
	w := newWorld(t)
	ours := settingsOf(w.streamConfig(StreamWorkers))
	if err := w.js.DeleteKeyValue(t.Context(), BucketWorkers); err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: BucketWorkers, Description: ours["description"].(string), TTL: PresenceTTL, History: 1}); err != nil {
		t.Fatal(err)
	}
	if names := differing(ours, settingsOf(w.streamConfig(StreamWorkers))); len(names) > 0 {
		t.Errorf("differs in %v", names)
	}
}

// S46: every setting is compared, one at a time: what may differ passes, everything else is named, and where the
// message says that provision puts it right, it does.
func TestEverySettingIsCompared(t *testing.T) {
	type change = func(*jetstream.StreamConfig)
	for _, tt := range []struct {
		stream, setting string // setting "": may differ
		change          change
	}{
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.Description = "ours" }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"team": "billing"} }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.Compression = jetstream.S2Compression }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.MaxAge = 30 * 24 * time.Hour }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.MaxAge = 0 }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.Duplicates = time.Hour }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "renewals.refunded.*.*") }},
		{messages.StreamJournal, "", func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
		{messages.StreamDead, "", func(c *jetstream.StreamConfig) { c.MaxAge = 30 * 24 * time.Hour }},
		{messages.StreamDead, "", func(c *jetstream.StreamConfig) { c.DenyDelete = true }},
		{messages.StreamJobs, "", func(c *jetstream.StreamConfig) { c.MaxConsumers = -1 }},
		{messages.StreamJobs, "", func(c *jetstream.StreamConfig) { c.MaxConsumers = 2 }},
		{messages.StreamLater, "", func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 }},
		{messages.StreamJobs, "", func(c *jetstream.StreamConfig) { c.Duplicates = 24 * time.Hour }},

		{messages.StreamJournal, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = 30*24*time.Hour - time.Second }},
		{messages.StreamJournal, "max_msgs", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1e6 }},
		{messages.StreamJournal, "max_bytes", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 30 }},
		{messages.StreamJournal, "max_msgs_per_subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }},
		{messages.StreamJournal, "max_msg_size", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1024 }},
		{messages.StreamJournal, "allow_direct", func(c *jetstream.StreamConfig) { c.AllowDirect = true }},
		{messages.StreamJournal, "allow_rollup_hdrs", func(c *jetstream.StreamConfig) { c.AllowRollup = true; c.DenyPurge = false }},
		{messages.StreamJournal, "allow_msg_ttl", func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{messages.StreamJournal, "deny_delete", func(c *jetstream.StreamConfig) { c.DenyDelete = false }},
		{messages.StreamJournal, "deny_purge", func(c *jetstream.StreamConfig) { c.DenyPurge = false }},
		{messages.StreamJournal, "republish", func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}},
		{messages.StreamJournal, "subject_transform", func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "renewals.paid.*.*.*.*", Destination: "renewals.dunning.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}"}
		}},
		{messages.StreamJournal, "subjects", func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[1:] }},
		{messages.StreamJournal, "no_ack", func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{messages.StreamJournal, "discard", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew }},
		{messages.StreamJournal, "duplicate_window", func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }},
		{messages.StreamJournal, "sources", func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: messages.StreamDead}} }},
		{messages.StreamJournal, "mirror", func(c *jetstream.StreamConfig) {
			c.Subjects, c.Duplicates, c.AllowAtomicPublish, c.Mirror = nil, 0, false, &jetstream.StreamSource{Name: messages.StreamDead}
		}},
		{messages.StreamJournal, "retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
		{messages.StreamJournal, "storage", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{messages.StreamJournal, "persist_mode", func(c *jetstream.StreamConfig) {
			c.AllowAtomicPublish, c.PersistMode = false, jetstream.AsyncPersistMode
		}},
		{messages.StreamJournal, "sealed", func(c *jetstream.StreamConfig) { c.Sealed = true }},
		{messages.StreamDead, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = 29 * 24 * time.Hour }},
		{messages.StreamDead, "sealed", func(c *jetstream.StreamConfig) { c.Sealed = true }},
		{messages.StreamDead, "duplicate_window", func(c *jetstream.StreamConfig) { c.Duplicates = time.Hour }},
		{messages.StreamJobs, "retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.LimitsPolicy }},
		{messages.StreamJobs, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }},
		{messages.StreamJobs, "max_msg_size", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1024 }},
		{messages.StreamJobs, "max_consumers", func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 }},
		{messages.StreamJobs, "allow_msg_schedules", func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true }},
		{messages.StreamJobs, "allow_rollup_hdrs", func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
		{messages.StreamJobs, "duplicate_window", func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }},
		{messages.StreamJobs, "sealed", func(c *jetstream.StreamConfig) { c.Sealed = true }},
		{messages.StreamMarks, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{messages.StreamMarks, "allow_direct", func(c *jetstream.StreamConfig) { c.AllowDirect = true }},
		{StreamWorkers, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
	} {
		t.Run(tt.stream+" "+tt.setting, func(t *testing.T) {
			w := newWorld(t)
			c := w.streamConfig(tt.stream)
			tt.change(&c)
			if _, err := w.js.UpdateStream(t.Context(), c); err != nil { // some can only be made so
				if err := w.js.DeleteStream(t.Context(), tt.stream); err != nil {
					t.Fatal(err)
				}
				if _, err := w.js.CreateStream(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			found, err := Inspect(t.Context(), w.js)
			if err != nil {
				t.Fatal(err)
			}
			if tt.setting == "" {
				if len(found.Deviations) > 0 {
					t.Errorf("found fault with %v", found.Deviations[0])
				}
				return
			}
			var named *Deviation
			for _, d := range found.Deviations {
				if d.Stream == tt.stream && d.Setting == tt.setting {
					named = d
				}
			}
			if named == nil {
				t.Fatalf("found %v, want %s named", found.Deviations, tt.setting)
			}
			_, err = w.provisions(Provisioning{})
			_, still := Verify(t.Context(), w.js)
			if mended := err == nil && still == nil; mended != strings.Contains(named.Error(), "renewals provision") {
				t.Errorf("%v: provision: %v, then %v", named, err, still)
			}
		})
	}
}

// S46, S59, S82: the same for consumers.
func TestEveryConsumerSettingIsCompared(t *testing.T) {
	need := time.Second
	for _, tt := range []struct {
		setting string
		change  func(*jetstream.ConsumerConfig)
	}{
		{"", func(c *jetstream.ConsumerConfig) { c.Description = "ours" }},
		{"", func(c *jetstream.ConsumerConfig) { c.AckWait = need }},
		{"", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = -1 }},
		{"", func(c *jetstream.ConsumerConfig) { c.SampleFrequency = "10" }},
		{"", func(c *jetstream.ConsumerConfig) { over := time.Now().Add(-time.Minute); c.PauseUntil = &over }},
		{"", func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = MostBatch }},
		{"headers_only", func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }},
		{"max_deliver", func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 2 }},
		{"max_ack_pending", func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1000 }},
		{"backoff", func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{2 * time.Second, 3 * time.Second} }},
		{"filter_subject", func(c *jetstream.ConsumerConfig) { c.FilterSubject = "renewals.due.other" }},
		{"inactive_threshold", func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }},
		{"max_batch", func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = MostBatch - 1 }},
		{"max_expires", func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }},
		{"ack_wait", func(c *jetstream.ConsumerConfig) { c.AckWait = need - time.Millisecond }},
		{"deliver_policy", func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy }},
		{"max_waiting", func(c *jetstream.ConsumerConfig) { c.MaxWaiting = 2 }},
		{"mem_storage", func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }},
		{"pause_until", func(c *jetstream.ConsumerConfig) { until := time.Now().Add(time.Hour); c.PauseUntil = &until }},
	} {
		t.Run(tt.setting, func(t *testing.T) {
			w := newWorld(t)
			name := ConsumerName("default")
			verify := func(ctx context.Context) error {
				_, err := VerifyConsumer(ctx, w.js, "default", name, messages.DueSubject("default"), need, nil)
				return err
			}
			consumer, err := w.js.Consumer(t.Context(), messages.StreamJobs, name)
			if err != nil {
				t.Fatal(err)
			}
			c := consumer.CachedInfo().Config
			tt.change(&c)
			if _, err := w.js.UpdateConsumer(t.Context(), messages.StreamJobs, c); err != nil || c.PauseUntil != nil {
				if err := w.js.DeleteConsumer(t.Context(), messages.StreamJobs, name); err != nil {
					t.Fatal(err)
				}
				_, err := w.js.CreateConsumer(t.Context(), messages.StreamJobs, c)
				if tt.setting == "deliver_policy" {
					if err == nil {
						t.Error("the server takes a work queue's consumer that does not deliver all: verify has to find fault with it now")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			err = verify(t.Context())
			if tt.setting == "" {
				if err != nil {
					t.Errorf("found fault with %v", err)
				}
				return
			}
			var off *Deviation
			if !errors.As(err, &off) || off.Setting != tt.setting || off.Consumer != name {
				t.Fatalf("found %v, want %s named", err, tt.setting)
			}
			p := Provisioning{}
			switch {
			case strings.Contains(off.Error(), "--force=ack_wait"):
				p.AckWait, p.Force = DefaultAckWait, []string{ForceAckWait}
			case strings.Contains(off.Error(), "delete the consumer"):
				if err := w.js.DeleteConsumer(t.Context(), messages.StreamJobs, name); err != nil {
					t.Fatal(err)
				}
			case strings.Contains(off.Error(), "nats consumer resume"):
				if _, err := w.js.ResumeConsumer(t.Context(), messages.StreamJobs, name); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.provisions(p); err != nil {
				t.Fatal(err)
			}
			if err := verify(t.Context()); err != nil {
				t.Errorf("after what %v advises: %v", off, err)
			}
		})
	}
}

// A journal from before batches takes them from the next `renewals provision` on, and is as it must be until then.
func TestProvisionAllowsBatches(t *testing.T) {
	w := newWorld(t)
	w.changed(messages.StreamJournal, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false })
	if _, err := Verify(t.Context(), w.js); err != nil {
		t.Fatal(err)
	}
	told, err := w.provisions(Provisioning{})
	if err != nil || len(told) != 1 || !strings.Contains(told[0], "allow_atomic: false → true") {
		t.Errorf("provision: %v, %q", err, told)
	}
	if !w.streamConfig(messages.StreamJournal).AllowAtomicPublish {
		t.Error("the journal takes no batches")
	}
}
