package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

const (
	// askFor is how long one question may go unanswered.
	askFor = 4 * time.Second
	// atOnce is how many questions of a kind are under way.
	atOnce = 16
	// nearlyFull is from where on a limit is a warning.
	nearlyFull = 0.8
	// certificateWarns is how long before its end a certificate should have been replaced.
	certificateWarns = 7 * 24 * time.Hour
)

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

// ask asks JetStream for some calls, such as STREAM.INFO.RENEWALS, and gives up as soon as one of them is refused.
func (e *exam) ask(ctx context.Context, calls []string, do func(context.Context) error) error {
	subjects := make([]string, len(calls))
	for i, call := range calls {
		subjects[i] = topology.API(e.JS, call)
	}
	return e.askSubjects(ctx, subjects, do)
}

// askSubjects is ask for subjects that are none of JetStream's.
func (e *exam) askSubjects(ctx context.Context, subjects []string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	ended := e.denials.put(&question{subjects, end})
	err := do(ctx)
	ended()
	if denied, ok := errors.AsType[*deniedError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}
