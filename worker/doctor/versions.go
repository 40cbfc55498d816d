package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A release of nats-server.
type release [3]int

// parseRelease reads 2.15.2 and 2.15.0-RC.1; ok is false for anything else.
func parseRelease(text string) (r release, ok bool) {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "-")
	n, _ := fmt.Sscanf(text, "%d.%d.%d", &r[0], &r[1], &r[2])
	return r, n == 3
}

func (r release) before(o release) bool { return slices.Compare(r[:], o[:]) < 0 }

// faults of servers before a release, the worst first. The numbers are those of nats-io/nats-server's issues and pull requests. Of the
// lines 2.12 and 2.14 the later releases were not searched for the last of them.
var faults = []struct {
	before  release
	verdict Verdict
	why     string
}{
	{release{2, 12, 0}, NotSafe, "it has no message schedules, and early jobs cannot be parked"},
	{release{2, 12, 3}, NotSafe, "records that wait for the disk may be lost (#7594), and removed servers counted for a majority (#7589)"},
	{release{2, 12, 4}, NotSafe, "one truncated block keeps a stream from opening (#7704)"},
	{release{2, 12, 9}, Warn, "places of deliveries may leak until nothing is handed out (#8156, #7984)"},
	{release{2, 15, 0}, Warn, "sync_interval: always leaves out compacted blocks (#8456, #8475), so that a power cut may cost records, and schedules were lost (#8423)"},
}

// examineServers looks at versions.
func examineServers(_ context.Context, e *exam) (found []Finding) {
	nc := e.JS.Conn()
	versions := map[string]string{nc.ConnectedServerName(): nc.ConnectedServerVersion()}
	for _, s := range e.servers().list {
		versions[s.name] = s.version
	}
	var names, unseen []string
	distinct := map[string]bool{}
	for _, name := range e.holders() {
		if versions[name] == "" {
			unseen = append(unseen, name)
		}
	}
	for name, version := range versions {
		names = append(names, name+" "+version)
		distinct[version] = true
		found = append(found, judgeServer(name, version)...)
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Seen, b.Seen) })
	slices.Sort(names)
	if len(distinct) > 1 && len(found) == 0 {
		return one(Warn, "mixed versions: "+strings.Join(names, ", "), "what one of them can do another cannot, and one of them may become the leader", "finish the upgrade")
	}
	if !nc.HeadersSupported() {
		found = append(found, Finding{Verdict: NotSafe, Seen: "the server was told not to support headers (no_header_support)", Why: "compare-and-set is by headers", Do: "take it out of the server's configuration"})
	}
	if found = append(found, judgePayload(nc.MaxPayload())...); len(found) > 0 {
		return found
	}
	seen := fmt.Sprintf("nats-server %s; nats.go %s, renewals %s", strings.Join(names, ", "), nats.Version, e.Version)
	if len(unseen) > 0 {
		return one(Unseen, seen+"; not seen: "+strings.Join(unseen, ", "), "", asForSync)
	}
	return well("%s", seen)
}

// leastPayload is what a dead letter of the largest job may take, in bytes: as much as the stream of jobs takes.
const leastPayload = 512 << 10

func judgePayload(most int64) []Finding {
	if most >= leastPayload {
		return nil
	}
	return one(NotSafe, fmt.Sprintf("max_payload of the servers is %d KB", most>>10), "large jobs and their dead letters cannot be stored", "take max_payload out of the servers' configuration: its default is 1 MB")
}

// judgeServer names the worst fault of a version.
func judgeServer(name, version string) []Finding {
	r, ok := parseRelease(version)
	if !ok {
		return one(Unseen, fmt.Sprintf("%s has version %q, which is no release", name, version), "", "compare it with the faults in deploy/RUNBOOK.md")
	}
	for _, f := range faults {
		if r.before(f.before) {
			return one(f.verdict, fmt.Sprintf("%s is nats-server %s", name, version), f.why, "upgrade to 2.15 or newer")
		}
	}
	return nil
}

// examineConnection asks who can read along, and whether there will be a connection next week.
func examineConnection(_ context.Context, e *exam) []Finding {
	if e.InClear != "" {
		seen, rest, _ := strings.Cut(e.InClear, ": ")
		why, do, _ := strings.Cut(rest, "; ")
		return one(NotSafe, seen, why, do)
	}
	server := e.JS.Conn().ConnectedUrlRedacted()
	state, err := e.JS.Conn().TLSConnectionState()
	if err != nil || len(state.PeerCertificates) == 0 {
		return well("%s, on this machine", server)
	}
	until := state.PeerCertificates[0].NotAfter
	if until.Sub(e.Now()) < certificateWarns {
		return one(Warn, fmt.Sprintf("the certificate of %s ends %s", server, until.UTC().Format(time.DateTime)), "then nobody connects, and nothing is charged", "renew it, and those of the other servers")
	}
	return well("%s, encrypted, certificate until %s", server, until.UTC().Format(time.DateOnly))
}
