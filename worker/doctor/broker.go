package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// askStreams asks for all streams at the same time.
func (e *exam) askStreams(ctx context.Context) map[string]streamAnswer {
	names := topology.Streams()
	answers := make([]streamAnswer, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() {
			a := &answers[i]
			a.err = e.ask(ctx, []string{"STREAM.INFO." + name}, func(ctx context.Context) error {
				sent := e.Now()
				s, err := e.JS.Stream(ctx, name)
				if err != nil {
					return fmt.Errorf("%s: %w", topology.Called(name), err)
				}
				a.info = s.CachedInfo()
				a.clockAnswer = e.clock(leaderOf(a.info), sent, a.info.TimeStamp)
				return nil
			})
		})
	}
	asking.Wait()
	all := map[string]streamAnswer{}
	for i, name := range names {
		all[name] = answers[i]
	}
	return all
}

// look is not taken where a stream cannot be asked for: it would wait for each.
func (e *exam) look(ctx context.Context) (o desk.Overview, err error) {
	for _, name := range topology.Streams() {
		if err := e.streams()[name].err; err != nil {
			return o, err
		}
	}
	needs := []string{"CONSUMER.CREATE." + topology.StreamWorkers, "INFO", "STREAM.INFO." + messages.StreamNews}
	for _, name := range []string{messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamNews} {
		needs = append(needs, "STREAM.MSG.GET."+name)
	}
	err = e.ask(ctx, needs, func(ctx context.Context) error {
		o, err = desk.Look(ctx, e.JS, e.Now())
		return err
	})
	return o, err
}

// accounts are those to look for in NATS.
func (e *exam) accounts() []messages.Account {
	if len(e.Names) > 0 {
		return e.Names
	}
	var names []messages.Account
	live, _ := e.workers()
	for _, w := range live {
		for name := range w.Accounts {
			names = append(names, name)
		}
	}
	if o, err := e.overview(); err == nil {
		for _, a := range o.Accounts {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

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
