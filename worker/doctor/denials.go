package doctor

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/worker/topology"
)

// A DeniedError is what this user of NATS may not do.
type DeniedError struct {
	Subject   string
	Subscribe bool // to it, else publish
}

func (e *DeniedError) Error() string {
	if e.Subscribe {
		return "this user may not subscribe to " + e.Subject + ", where the answers come"
	}
	return "this user may not ask " + e.Subject
}

// Denials tell what the server refuses of a connection. It says so beside the question, which then is never answered.
type denials struct {
	mu      sync.Mutex
	waiting map[*question]bool
}

// A question is waiting for an answer.
type question struct {
	subjects []string
	end      context.CancelCauseFunc
}

// listen hears what is refused until it is told to end; everything else goes where it went before.
func listen(nc *nats.Conn) (d *denials, end func()) {
	d = &denials{waiting: map[*question]bool{}}
	before := nc.ErrorHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if denied := deniedIn(err); denied != nil {
			d.refuse(denied)
		} else if before != nil {
			before(nc, sub, err)
		}
	})
	return d, func() { nc.SetErrorHandler(before) }
}

// deniedIn reads the server's sentence: Permissions Violation for Publish to "subject".
func deniedIn(err error) *DeniedError {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	_, what, _ := strings.Cut(err.Error(), `Violation for `)
	verb, subject, _ := strings.Cut(what, ` to "`)
	subject, _, _ = strings.Cut(subject, `"`)
	return &DeniedError{Subject: subject, Subscribe: strings.HasPrefix(verb, "Subscription")}
}

// refuse ends the questions that wait for what was refused; without a place for answers all of them.
func (d *denials) refuse(denied *DeniedError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for q := range d.waiting {
		if denied.Subscribe || q.about(denied.Subject) {
			q.end(denied)
		}
	}
}

func (q *question) about(subject string) bool {
	for _, s := range q.subjects {
		if subject == s || strings.HasPrefix(subject, s+".") {
			return true
		}
	}
	return false
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
	q := &question{subjects, end}
	e.denials.mu.Lock()
	e.denials.waiting[q] = true
	e.denials.mu.Unlock()
	err := do(ctx)
	e.denials.mu.Lock()
	delete(e.denials.waiting, q)
	e.denials.mu.Unlock()
	if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}
