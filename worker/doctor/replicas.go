package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

func clustered(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Cluster.Name != ""
}

func leaderOf(info *jetstream.StreamInfo) string {
	if info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// placed are the servers that hold a copy, the leader first.
func placed(info *jetstream.StreamInfo) (servers []string) {
	if info.Cluster == nil {
		return nil
	}
	if info.Cluster.Leader != "" {
		servers = append(servers, info.Cluster.Leader)
	}
	for _, r := range info.Cluster.Replicas {
		servers = append(servers, r.Name)
	}
	return servers
}

// holders are the servers that hold any of the streams, sorted.
func (e *exam) holders() []string {
	all := map[string]bool{}
	for _, a := range e.streams() {
		if a.err == nil {
			for _, s := range placed(a.info) {
				all[s] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// examineReplicas asks whether the loss of a machine is the loss of a memory.
func examineReplicas(_ context.Context, e *exam) (found []Finding) {
	few, single := []string{}, false
	seen := 0
	for _, name := range topology.Streams() {
		a := e.streams()[name]
		if a.err != nil {
			continue // a finding of the streams
		}
		seen++
		if !clustered(a.info) {
			single = true
			continue
		}
		if a.info.Config.Replicas < topology.SafeReplicas {
			few = append(few, fmt.Sprintf("%s (%d)", topology.Called(name), a.info.Config.Replicas))
		}
		found = append(found, copies(a.info)...)
	}
	switch {
	case seen == 0:
		return blind(e.streams()[messages.StreamJournal].err)
	case single:
		return one(Warn, "one NATS server without a cluster", "its lost disk is the lost memory of what was charged", "run three (deploy/nats/cluster.conf), or keep backups and know what a restore means (deploy/RUNBOOK.md, Restoring NATS)")
	case len(few) > 0:
		found = append(found, Finding{Verdict: Warn, Seen: fmt.Sprintf("fewer than %d replicas: %s", topology.SafeReplicas, strings.Join(few, ", ")),
			Why: "one lost disk loses them", Do: fmt.Sprintf("run renewals provision --replicas %d", topology.SafeReplicas)})
	}
	if len(found) > 0 {
		return found
	}
	return well("%d streams have their leaders, and current copies on %s", seen, strings.Join(e.holders(), ", "))
}

const (
	// behind is more than a copy lacks, in records, on a busy day while all is well.
	behind = 1000
	// silent is how long a server is not heard of that has lost its cluster.
	silent = 10 * time.Second
)

// copies says what is wrong with where a stream's copies are.
func copies(info *jetstream.StreamInfo) (found []Finding) {
	name := topology.Called(info.Config.Name)
	if info.Cluster.Leader == "" {
		return one(NotSafe, name+" has no leader", "nothing can be stored in it, and answers of Klarna wait for that", "bring back the servers that hold it: "+strings.Join(placed(info), ", "))
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(placed(info))))); n < info.Config.Replicas {
		found = append(found, Finding{Verdict: Warn, Seen: fmt.Sprintf("%s is on %d servers, %d replicas are configured", name, n, info.Config.Replicas),
			Why: "it survives the loss of fewer machines than it says", Do: "see `nats stream info " + info.Config.Name + "`; a server is missing in the cluster"})
	}
	for _, r := range info.Cluster.Replicas {
		switch {
		case r.Offline:
			found = append(found, Finding{Verdict: Warn, Seen: fmt.Sprintf("%s: the copy on %s is offline", name, r.Name), Why: "the loss of one more server stops all charges", Do: "bring " + r.Name + " back"})
		case !r.Current && (r.Lag > behind || r.Active > silent):
			found = append(found, Finding{Verdict: Warn, Seen: fmt.Sprintf("%s: the copy on %s is %d records behind", name, r.Name, r.Lag), Why: "until it has caught up it is no copy", Do: "look again; if it stays, see the server's log and disk"})
		}
	}
	return found
}
