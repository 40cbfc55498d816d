package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// examineSync asks whether what a server confirms is on its disk. Where it is not, a power cut takes the last records of one server, and
// with several servers what they all lose at the same time, or what one lost that then was missed by the others:
// https://jepsen.io/analyses/nats-2.12.1
func examineSync(_ context.Context, e *exam) []Finding {
	journal := e.streams()[messages.StreamJournal]
	if journal.err != nil {
		return blind(journal.err)
	}
	seen := e.servers()
	var late []string
	longest := time.Duration(0)
	holders := e.holders()
	for _, s := range seen.list {
		if !s.always && slices.Contains(holders, s.name) {
			late = append(late, s.name)
			longest = max(longest, s.interval)
		}
	}
	const do = "put sync_interval: always into the jetstream block of every server (deploy/nats/server.conf) and restart one after the other"
	switch {
	case len(late) > 0 && journal.info.Config.Replicas < topology.SafeReplicas:
		return one(NotSafe, fmt.Sprintf("every %s on %s, %s", short(longest), strings.Join(late, ", "), copiesText(journal.info.Config.Replicas)),
			fmt.Sprintf("a power cut can lose the records of the last %s, and so the memory of what was charged", short(longest)), do)
	case len(late) > 0:
		return one(Warn, fmt.Sprintf("every %s on %s, %s", short(longest), strings.Join(late, ", "), copiesText(journal.info.Config.Replicas)),
			"a power cut that all servers share, or a crash of one while the others are cut off, can lose confirmed records, and so the memory of what was charged", do)
	}
	if f := seen.missing(holders, howToSee); f != nil {
		return f
	}
	return well("on every write, on %s", strings.Join(holders, ", "))
}

func copiesText(replicas int) string {
	if replicas == 1 {
		return "one copy of the journal"
	}
	return fmt.Sprintf("%d copies of the journal", replicas)
}
