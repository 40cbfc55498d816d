package doctor

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// A deniedError is what this user of NATS may not do.
type deniedError struct {
	Subject   string
	Subscribe bool // to it, else publish
}

func (e *deniedError) Error() string {
	if e.Subscribe {
		return "this user may not subscribe to " + e.Subject + ", where the answers come"
	}
	return "this user may not ask " + e.Subject
}

// Denials tell what the server refuses of a connection. It says so beside the question, which then is never answered.
type denials struct {
	mu      sync.Mutex
	waiting map[*question]bool
	deaf    *deniedError // the place for answers is asked for once, so this is said once, and of every question after it
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
func deniedIn(err error) *deniedError {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	_, what, _ := strings.Cut(err.Error(), `Violation for `)
	verb, subject, _ := strings.Cut(what, ` to "`)
	subject, _, _ = strings.Cut(subject, `"`)
	return &deniedError{Subject: subject, Subscribe: strings.HasPrefix(verb, "Subscription")}
}

// refuse ends the questions that wait for what was refused; without a place for answers all of them.
func (d *denials) refuse(denied *deniedError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if denied.Subscribe {
		d.deaf = denied
	}
	for q := range d.waiting {
		if denied.Subscribe || q.about(denied.Subject) {
			q.end(denied)
		}
	}
}

// put is called before a question is asked. What it returns is called when it has ended.
func (d *denials) put(q *question) (ended func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deaf != nil {
		q.end(d.deaf)
	}
	d.waiting[q] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, q)
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
