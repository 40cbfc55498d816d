package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// What this user may not ask is named, at once, and keeps nobody else from being asked.
func (w *world) denied() {
	t := w.T
	w.patient.JS = w.as("blind")
	worst, text := verdicts(w.examine(w.patient))
	for name, want := range map[string]string{
		"journal":     "unseen: this user may not ask $JS.API.STREAM.MSG.GET.RENEWAL_MARKS: ; run it as the operator",
		"permissions": "warn: user blind looks like role operator, but may not: $JS.API.STREAM.MSG.GET.RENEWAL_MARKS: commands of this user fail",
	} {
		if !strings.Contains(text[name], want) {
			t.Errorf("%s: %s, want %s", name, text[name], want)
		}
		delete(worst, name)
	}
	for name, verdict := range worst {
		if verdict != OK {
			t.Errorf("%s: %s", name, text[name])
		}
	}

	// Of many accounts it is told once.
	w.patient.JS, w.patient.Names = w.as("operator"), nil
	for n := range 25 {
		w.patient.Names = append(w.patient.Names, messages.Account(fmt.Sprint("a", n)))
	}
	_, text = verdicts(w.examine(w.patient))
	for name, want := range map[string]string{
		"consumers":   "unseen: this user may not ask $JS.API.CONSUMER.INFO.RENEWALS",
		"permissions": "warn: user operator looks like role operator, but may not: $JS.API.CONSUMER.INFO.RENEWALS.capture-a0,",
	} {
		if !strings.HasPrefix(text[name], want) || strings.Count(text[name], "\n") != 1 {
			t.Errorf("%s: %s, want %s once", name, text[name], want)
		}
	}
	if !strings.Contains(text["consumers"], ", and so for 24 more accounts") {
		t.Errorf("consumers: %s", text["consumers"])
	}

	// Without a place for answers nothing is answered.
	w.patient.JS = w.as("operator-elsewhere")
	_, text = verdicts(w.examine(w.patient))
	if want := "this user may not subscribe to _INBOX."; !strings.Contains(text["journal"], want) || !strings.Contains(text["streams"], want) {
		t.Errorf("the journal: %s; the streams: %s; want %s", text["journal"], text["streams"], want)
	}

	// The server says so once, and a question that comes later is told, too.
	e := newExam(w.Context(), Patient{JS: w.as("operator-elsewhere")})
	defer e.end()
	for n := range 2 {
		err := e.ask(w.Context(), []string{"STREAM.INFO." + messages.StreamJobs}, func(ctx context.Context) error {
			_, err := e.JS.Stream(ctx, messages.StreamJobs)
			return err
		})
		if denied, ok := errors.AsType[*deniedError](err); !ok || !denied.Subscribe {
			t.Errorf("question %d: %v, want that the user may not subscribe", n+1, err)
		}
	}
}

// How the servers write is seen by the system account as by their monitoring ports, and by nothing else.
func (w *world) systemAccount() {
	t := w.T
	monitoring := w.patient.Monitoring
	w.patient.Monitoring, w.patient.System = nil, w.connect("sys")
	worst, text := verdicts(w.examine(w.patient))
	if worst["fsync"] != OK || !strings.Contains(text["fsync"], "on every write, on n1, n2, n3") || worst["disk"] != OK || worst["servers"] != OK {
		t.Errorf("with the system account: %s%s%s", text["fsync"], text["disk"], text["servers"])
	}
	w.patient.System = w.connect("admin")
	worst, text = verdicts(w.examine(w.patient))
	if worst["fsync"] != Unseen || !strings.Contains(text["fsync"], "is it a user of the system account?") {
		t.Errorf("with another account: %s", text["fsync"])
	}
	w.patient.System = nil
	worst, text = verdicts(w.examine(w.patient))
	if worst["fsync"] != Unseen || !strings.Contains(text["fsync"], "nothing was seen of n1, n2, n3") || worst["servers"] != Unseen {
		t.Errorf("without either: %s%s", text["fsync"], text["servers"])
	}
	w.patient.Monitoring = []*url.URL{monitoring[0], monitoring[2]}
	worst, text = verdicts(w.examine(w.patient))
	if worst["fsync"] != Unseen || !strings.Contains(text["fsync"], "nothing was seen of n2") {
		t.Errorf("of two servers: %s", text["fsync"])
	}
}

// A port that nobody named is believed only where it is that of the server that is connected to.
func (w *world) guesses() {
	e := newExam(w.Context(), w.patient)
	defer e.end()
	if own := e.guess(w.Context(), w.monitors[0].at.Port()); len(own) != 1 || own[0].name != "n1" || !own[0].always {
		w.Errorf("the server's own port: %+v", own)
	}
	if other := e.guess(w.Context(), w.monitors[1].at.Port()); len(other) != 0 {
		w.Errorf("another server's port: %+v", other)
	}
	if none := e.guess(w.Context(), "1"); len(none) != 0 {
		w.Errorf("nobody's port: %+v", none)
	}
}

// One server with NATS's default is what a first installation is.
func TestOneServer(t *testing.T) {
	t.Parallel()
	js := broker.JetStream(t)
	worst, text := verdicts(Examine(t.Context(), Patient{JS: js}, func(Finding) {}))
	if worst["journal"] != NotSafe || worst["streams"] != NotSafe || strings.Count(text["streams"], "missing") != 1 {
		t.Errorf("before provisioning: %s%s", text["journal"], text["streams"])
	}
	if err := topology.Provision(t.Context(), js, topology.Provisioning{Accounts: []messages.Account{testAccount}}); err != nil {
		t.Fatal(err)
	}
	worst, text = verdicts(Examine(t.Context(), Patient{JS: js, Names: []messages.Account{testAccount}}, func(Finding) {}))
	for name, want := range map[string]Verdict{"journal": OK, "streams": OK, "consumers": OK, "fsync": Unseen, "replicas": Warn, "permissions": Warn, "workers": Warn, "klarna": Unseen, "alerts": Unseen} {
		if worst[name] != want {
			t.Errorf("%s: %s, want %s", name, text[name], want)
		}
	}
}
