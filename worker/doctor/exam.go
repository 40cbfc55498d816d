package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// askFor is how long one question may go unanswered.
const askFor = 4 * time.Second

// An exam is one examination: what more than one check looks at is asked for once.
type exam struct {
	Patient
	denials *denials
	end     func()

	streams  func() map[string]streamAnswer
	servers  func() seenServers
	overview func() (desk.Overview, error)
	workers  func() ([]topology.Presence, error)
}

// A streamAnswer is a stream as its leader tells of it.
type streamAnswer struct {
	info *jetstream.StreamInfo
	err  error
	clockAnswer
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
	needs := []string{"CONSUMER.CREATE." + topology.StreamWorkers, "INFO"}
	for _, name := range []string{messages.StreamJobs, messages.StreamLater, messages.StreamJournal} {
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

// one is a check's only finding.
func one(v Verdict, seen, why, do string) []Finding {
	return []Finding{{Verdict: v, Seen: seen, Why: why, Do: do}}
}

func well(format string, args ...any) []Finding { return one(OK, fmt.Sprintf(format, args...), "", "") }

// blind is the finding of a check that got no answer.
func blind(err error) []Finding {
	if denied, ok := errors.AsType[*DeniedError](err); ok {
		return one(Unseen, denied.Error(), "", "print permissions anew (renewals provision --print-permissions) and give this user its role's, with the role's inbox prefix (NATS_INBOX_PREFIX)")
	}
	if topology.Missing(err) {
		return one(Unseen, "what is to be looked at is missing", "", "run renewals provision")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		return one(Unseen, "no answer in time", "", "look again with more --timeout; if it stays, see whether the stream's leader is up and this user may ask")
	}
	return one(Unseen, err.Error(), "", "")
}

// short writes a duration without the units that are zero: 2m, 1h30m.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []struct{ tail, keep string }{{"m0s", "m"}, {"h0m", "h"}} {
		if n := len(text) - len(zero.tail); n > 0 && text[n:] == zero.tail {
			text = text[:n] + zero.keep
		}
	}
	return text
}
