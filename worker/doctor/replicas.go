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

// examineReplicas asks whether the loss of a machine is the loss of a memory.
func examineReplicas(_ context.Context, e *exam) []Finding {
	var c copies
	single, seen := false, 0
	for _, name := range topology.Streams() {
		a := e.streams()[name]
		switch {
		case a.err != nil && topology.NotYet(a.err):
			c.leaderless = append(c.leaderless, topology.Called(name)) // while others answer
		case a.err != nil: // a finding of the streams
		case clustered(a.info):
			seen++
			c.look(a.info)
		default:
			seen++
			single = true
		}
	}
	if seen == 0 {
		return blind(e.streams()[messages.StreamJournal].err)
	}
	found := c.findings()
	if single {
		found = append(found, Finding{Verdict: Warn, Seen: "one NATS server without a cluster", Why: "its lost disk is the lost memory of what was charged",
			Do: "run three (deploy/nats/cluster.conf), or keep backups and know what a restore means (deploy/RUNBOOK.md, Restoring NATS)"})
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

// copies gathers what is wrong with where streams are kept.
type copies struct {
	leaderless, outvoted, few, unplaced []string            // streams
	offline, late                       map[string][]string // servers, with the streams of which they should have copies
}

func (c *copies) look(info *jetstream.StreamInfo) {
	name, away := topology.Called(info.Config.Name), 0
	on := placed(info)
	for _, r := range info.Cluster.Replicas {
		switch {
		case r.Offline:
			away++
			c.offline = noting(c.offline, r.Name, name)
		case !r.Current && (r.Lag > behind || r.Active > silent):
			c.late = noting(c.late, r.Name, fmt.Sprintf("%s (%d records)", name, r.Lag))
		}
	}
	switch {
	case info.Cluster.Leader == "":
		c.leaderless = append(c.leaderless, name)
	case 2*away >= info.Config.Replicas && away > 0:
		c.outvoted = append(c.outvoted, name)
	case len(on) < info.Config.Replicas:
		c.unplaced = append(c.unplaced, fmt.Sprintf("%s (%d of %d)", name, len(on), info.Config.Replicas))
	}
	if info.Config.Replicas < topology.SafeReplicas {
		c.few = append(c.few, fmt.Sprintf("%s (%d)", name, info.Config.Replicas))
	}
}

func noting(all map[string][]string, server, stream string) map[string][]string {
	if all == nil {
		all = map[string][]string{}
	}
	all[server] = append(all[server], stream)
	return all
}

func (c *copies) findings() (found []Finding) {
	add := func(v Verdict, what []string, seen, why, do string) {
		if len(what) > 0 {
			found = append(found, Finding{Verdict: v, Seen: seen + strings.Join(what, ", "), Why: why, Do: do})
		}
	}
	const stands = "nothing can be stored there, and answers of Klarna wait for that"
	add(NotSafe, c.leaderless, "without a leader: ", stands, "bring back the servers that hold it")
	add(NotSafe, c.outvoted, "without a majority of its copies: ", stands, "bring back the servers that hold it")
	for _, server := range slices.Sorted(maps.Keys(c.offline)) {
		add(Warn, c.offline[server], server+" is offline, which holds copies of ", "the loss of one more server stops all charges", "bring "+server+" back")
	}
	for _, server := range slices.Sorted(maps.Keys(c.late)) {
		add(Warn, c.late[server], server+" is behind with ", "until it has caught up it holds no copy", "look again; if it stays, see that server's log and disk")
	}
	add(Warn, c.unplaced, "on fewer servers than replicas are configured: ", "it survives the loss of fewer machines than it says", "see `nats stream info`: a server is missing in the cluster")
	add(Warn, c.few, fmt.Sprintf("fewer than %d replicas: ", topology.SafeReplicas), "one lost disk loses them", fmt.Sprintf("run renewals provision --replicas %d", topology.SafeReplicas))
	return found
}
