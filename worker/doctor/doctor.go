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
	"slices"
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

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
	{"breaks", false, examineBreaks},
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

func newExam(ctx context.Context, p Patient) *exam {
	if p.HTTP == nil {
		p.HTTP = http.DefaultClient
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	e := &exam{Patient: p}
	e.denials, e.end = listen(p.JS.Conn())
	e.streams = sync.OnceValue(func() map[string]streamAnswer { return e.askStreams(ctx) })
	e.servers = sync.OnceValue(func() seenServers { return e.askServers(ctx) })
	e.overview = sync.OnceValues(func() (desk.Overview, error) { return e.look(ctx) })
	e.workers = sync.OnceValues(func() (live []topology.Presence, err error) {
		err = e.ask(ctx, []string{"STREAM.INFO." + topology.StreamWorkers, "CONSUMER.CREATE." + topology.StreamWorkers}, func(ctx context.Context) error {
			live, err = topology.Workers(ctx, p.JS)
			return err
		})
		return live, err
	})
	return e
}
