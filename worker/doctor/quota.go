package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/worker/topology"
)

// examineQuota looks at the limits of the NATS account.
func examineQuota(ctx context.Context, e *exam) (found []Finding) {
	var quota topology.Quota
	var info *jetstream.AccountInfo
	err := e.ask(ctx, []string{"INFO"}, func(ctx context.Context) (err error) {
		if quota, err = topology.ReadQuota(ctx, e.JS); err == nil {
			info, err = e.JS.AccountInfo(ctx)
		}
		return err
	})
	if err != nil {
		return blind(err)
	}
	storage := "no limit on storage"
	if quota.Limit > 0 {
		storage = fmt.Sprintf("%.0f %% of %s of storage taken", 100*quota.Share(), bytes(quota.Limit))
	}
	switch {
	case quota.Full():
		found = append(found, Finding{Verdict: NotSafe, Seen: storage, Why: "the broker refuses jobs and records", Do: "raise the account's quota, or free space in it"})
	case quota.Share() >= nearlyFull:
		found = append(found, Finding{Verdict: Warn, Seen: storage, Why: "at 100 % the broker refuses jobs and records", Do: "raise the account's quota, or free space in it"})
	}
	tiers := append([]jetstream.Tier{info.Tier}, slices.Collect(maps.Values(info.Tiers))...)
	for _, t := range tiers {
		found = append(found, crowded(t.Streams, t.Limits.MaxStreams, "streams")...)
		found = append(found, crowded(t.Consumers, t.Limits.MaxConsumers, "consumers")...)
	}
	if len(found) > 0 {
		return found
	}
	return well("%s; %s, %s", storage, of(info.Streams, info.Limits.MaxStreams, "streams"), of(info.Consumers, info.Limits.MaxConsumers, "consumers"))
}

func crowded(taken, limit int, what string) []Finding {
	if limit <= 0 || float64(taken) < nearlyFull*float64(limit) {
		return nil
	}
	return one(Warn, of(taken, limit, what)+" of the NATS account are taken",
		"no further account can be provisioned, and whoever reads results needs consumers, too", "raise the account's limit")
}

func of(taken, limit int, what string) string {
	if limit <= 0 {
		return fmt.Sprintf("%d %s", taken, what)
	}
	return fmt.Sprintf("%d of %d %s", taken, limit, what)
}

func bytes(n uint64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.3g GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.3g MB", float64(n)/1e6)
}

// diskFull is where a server may not be able to store the records of the charges in flight.
const diskFull = 0.97

// examineDisk looks at how much of what each server may store is taken; by default that is three quarters of what was free.
func examineDisk(_ context.Context, e *exam) (found []Finding) {
	seen := e.servers()
	if f := seen.missing(e.holders(), asForSync); f != nil {
		return f
	}
	var texts []string
	for _, s := range seen.list {
		if s.room == 0 {
			continue
		}
		share := float64(s.stored) / float64(s.room)
		text := fmt.Sprintf("%s: %.0f %% of %s", s.name, 100*share, bytes(s.room))
		texts = append(texts, text)
		why, do := "when it is full the broker stores no records, and answers of Klarna wait for that", "make room on its disk, or raise max_file_store"
		switch {
		case share >= diskFull:
			found = append(found, Finding{Verdict: NotSafe, Seen: "taken on " + text, Why: why, Do: do})
		case share >= nearlyFull:
			found = append(found, Finding{Verdict: Warn, Seen: "taken on " + text, Why: why, Do: do})
		}
	}
	if len(found) > 0 {
		return found
	}
	slices.Sort(texts)
	return well("taken on %s", strings.Join(texts, ", "))
}
