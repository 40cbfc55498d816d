// Package doctor examines a deployment: is it safe to charge customers here? Each check says what was seen, why that matters and what
// to do. Nothing is written, to no stream and not to Klarna, and what cannot be seen is said to be so: nothing is well because nobody
// looked.
//
// Every check needs what the operator or the monitor may do, see [topology.GrantsOf]; what this user may not ask is named in the
// finding. How NATS writes to its disks and which versions its servers have only their monitoring ports or the system account tell.
package doctor

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// A Verdict is what a check comes to.
type Verdict string

// The verdicts, the worst first.
const (
	NotSafe Verdict = "not_safe" // a promise is not kept, or will not be when something fails that does fail
	Unseen  Verdict = "unseen"   // it cannot be seen from here
	Warn    Verdict = "warn"     // somebody should do something about it, in working hours
	OK      Verdict = "ok"
)

var order = []Verdict{NotSafe, Unseen, Warn, OK}

// A Finding is one line of a report.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Seen    string  `json:"seen"`
	Why     string  `json:"why,omitempty"`
	Do      string  `json:"do,omitempty"`
}

// An Account is a Klarna account as it is configured here.
type Account struct {
	Name     messages.Account
	Klarna   *klarna.Client
	Endpoint *url.URL
}

// A Patient is the deployment, and whoever looks at it.
type Patient struct {
	// JS is the connection, as a user of NATS who has one of the roles.
	JS jetstream.JetStream
	// InClear says why what goes over it can be read on its way, "" where it cannot.
	InClear string
	// Names are the accounts to look for in NATS. Default: those that workers serve or that have jobs.
	Names []messages.Account
	// Klarna are the accounts whose credentials are here.
	Klarna []Account
	// LeaseNeeded is the shortest ack_wait that the configured times allow.
	LeaseNeeded time.Duration
	// Retention is how long the journal is meant to remember; 0: not said.
	Retention time.Duration
	// UnresolvedFor is from which age on a renewal has been unresolved for too long.
	UnresolvedFor time.Duration
	// Monitoring are the monitoring ports of the NATS servers. Default: port 8222 of the one that is connected to, if it answers there.
	Monitoring []*url.URL
	// System is a connection as a user of NATS's system account; nil: none.
	System *nats.Conn
	// Prometheus that scrapes the workers; nil: not said. Alerts are the names of the rules that it should have.
	Prometheus *url.URL
	Alerts     []string
	// HTTP asks monitoring ports and Prometheus. Default: [http.DefaultClient].
	HTTP *http.Client
	// Version of this program.
	Version string
	// Now is this machine's clock. Default: time.Now.
	Now func() time.Time
}

// check is one subject of the examination. A cheap one asks nobody but NATS, and what no worker tells of.
type check struct {
	name  string
	cheap bool
	look  func(context.Context, *exam) []Finding
}

// checks in the order of their importance, by what they keep from being charged twice, forgotten or left undone.
var checks = []check{
	{"journal", false, examineJournal},
	{"fsync", true, examineSync},
	{"replicas", false, examineReplicas},
	{"streams", false, examineStreams},
	{"consumers", false, examineConsumers},
	{"clock", true, examineClock},
	{"klarna", false, examineKlarna},
	{"quota", false, examineQuota},
	{"disk", true, examineDisk},
	{"servers", true, examineServers},
	{"connection", false, examineConnection},
	{"permissions", false, examinePermissions},
	{"workers", false, examineWorkers},
	{"alerts", false, examineAlerts},
	{"unresolved", false, examineUnresolved},
	{"dead_letters", false, examineDead},
}

// Checks are the names of all checks, in the order of their findings.
func Checks() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Examine makes all checks at the same time and tells their findings in order, each as soon as those before it are told. Once ctx has
// ended what was not answered is [Unseen].
func Examine(ctx context.Context, p Patient, tell func(Finding)) (all []Finding) {
	return examine(ctx, p, checks, tell)
}

// Glance makes those checks that cost next to nothing and that a look at accounts and workers does not make already. It finds what is
// seen to be wrong, and is silent about what it does not see.
func Glance(ctx context.Context, p Patient) (worst Finding, ok bool) {
	cheap := slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return !c.cheap })
	found := examine(ctx, p, cheap, func(Finding) {})
	return Worst(slices.DeleteFunc(found, func(f Finding) bool { return f.Verdict == Unseen || f.Verdict == OK }))
}

func examine(ctx context.Context, p Patient, checks []check, tell func(Finding)) (all []Finding) {
	e := newExam(ctx, p)
	defer e.end()
	found := make([]chan []Finding, len(checks))
	for i, c := range checks {
		found[i] = make(chan []Finding, 1)
		go func() { found[i] <- c.look(ctx, e) }()
	}
	for i, c := range checks {
		for _, f := range <-found[i] {
			f.Check = c.name
			tell(f)
			all = append(all, f)
		}
	}
	return all
}

// Count says how many findings came to each verdict.
func Count(all []Finding) map[Verdict]int {
	counts := map[Verdict]int{}
	for _, f := range all {
		counts[f.Verdict]++
	}
	return counts
}

// Worst is the first of the findings with the worst verdict; ok is false where there are none.
func Worst(all []Finding) (worst Finding, ok bool) {
	for _, v := range order {
		for _, f := range all {
			if f.Verdict == v {
				return f, true
			}
		}
	}
	return worst, false
}
