package worker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/test/broker"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// TestProvisionWaitsForALeader: of a cluster of three one node is up. The worker
// says that it waits, and provisions when the others have come.
func TestProvisionWaitsForALeader(t *testing.T) {
	t.Parallel()
	const size = 3
	first := broker.Node(t, size)
	js := broker.Connect(t, first)
	o := DefaultOptions()
	var waits atomic.Int64
	o.Name, o.Accounts = "waits", []Account{{Name: "default"}}
	o.Log = zerolog.New(zerolog.ConsoleWriter{Out: counting{&waits}, NoColor: true})
	w, err := New(js, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- w.Provision(t.Context(), topology.Provisioning{Accounts: []messages.Account{"default"}, Replicas: 3})
	}()
	select {
	case err := <-done:
		t.Fatalf("Provision on a node alone: %v, want it to wait", err)
	case <-time.After(7 * time.Second): // an API call goes unanswered for five
	}
	if waits.Load() != 1 {
		t.Errorf("said %d times that it waits, want once", waits.Load())
	}
	second := broker.Node(t, size, first)
	broker.Node(t, size, first, second)
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("not provisioned")
	}
	if _, err := topology.Verify(t.Context(), js); err != nil {
		t.Error(err)
	}
}

type counting struct{ lines *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.lines.Add(1)
	return len(p), nil
}

// TestProvisionSaysWhatWaitingDoesNotMend: a single server has no room for three
// replicas, however long one waits.
func TestProvisionSaysWhatWaitingDoesNotMend(t *testing.T) {
	w := newWorld(t)
	o := DefaultOptions()
	o.Name, o.Accounts = "provisions", []Account{{Name: "default"}}
	provisioning, err := New(w.js, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]topology.Provisioning{
		"replicas":  {Accounts: []messages.Account{"default"}, Replicas: 3},
		"retention": {Accounts: []messages.Account{"default"}, Retention: time.Hour},
	} {
		if err := provisioning.Provision(t.Context(), p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, err := range []error{jetstream.ErrJetStreamNotEnabled, topology.ErrJournalMissing, errors.New("anything else"), &jetstream.APIError{Code: 500, ErrorCode: 10074}} {
		if topology.NotYet(err) {
			t.Errorf("%v is waited for", err)
		}
	}
	for _, code := range []jetstream.ErrorCode{10005, 10007, 10008, 10009} {
		if err := fmt.Errorf("provision: %w", &jetstream.APIError{Code: 503, ErrorCode: code}); !topology.NotYet(err) {
			t.Errorf("%v is not waited for", err)
		}
	}
}
