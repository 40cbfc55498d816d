package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// jetStreamAs is JetStream as one of the users.
func (d *deployed) jetStreamAs(user string) (jetstream.JetStream, *violations) {
	d.t.Helper()
	nc, refused := d.connect(user)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		d.t.Fatal(err)
	}
	return js, refused
}

// aged is the journal with another age, as whoever shortens it would write it.
func aged(t *testing.T, js jetstream.JetStream, age time.Duration) error {
	t.Helper()
	stream, err := js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxAge = age
	_, err = js.UpdateStream(t.Context(), config)
	return err
}

// S73: whoever is on call cannot make the journal forget: not by its age, nor by deleting it, emptying it or a record of it.
// The role that may change streams is noticed at once, and by everybody who looks.
func TestDeployedJournalKeepsItsAge(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	p := d.as("worker", "work")
	file := filepath.Join(d.dir, "jobs.jsonl")
	write(t, file, string(job(1, "ok-1"))+"\n")
	d.does("publisher", "publish", file)
	await(t, 20*time.Second, "the order", func() bool { return len(d.klarna.Simulator.Books().Orders) == 1 })

	operator, refused := d.jetStreamAs("operator")
	if err := aged(t, operator, 3*time.Second); err == nil {
		t.Error("the operator has shortened the journal's age")
	}
	for what, try := range map[string]func(context.Context) error{
		"STREAM.DELETE": func(ctx context.Context) error { return operator.DeleteStream(ctx, messages.StreamJournal) },
		"STREAM.PURGE":  func(ctx context.Context) error { return api(ctx, operator, "STREAM.PURGE."+messages.StreamJournal, "") },
		"STREAM.MSG.DELETE": func(ctx context.Context) error {
			return api(ctx, operator, "STREAM.MSG.DELETE."+messages.StreamJournal, `{"seq":1}`)
		},
		"STREAM.CREATE": func(ctx context.Context) error {
			return api(ctx, operator, "STREAM.CREATE."+messages.StreamJobs, `{"name":"RENEWALS"}`)
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			t.Errorf("the operator may do %s", what)
		}
		await(t, 5*time.Second, "the server to refuse "+what, func() bool {
			return strings.Contains(strings.Join(refused.seen(), "\n"), what)
		})
	}
	if !strings.Contains(strings.Join(refused.seen(), "\n"), "STREAM.UPDATE.RENEWAL_JOURNAL") {
		t.Errorf("refused: %v", refused.seen())
	}
	if said := d.does("operator", "status"); !strings.Contains(said, "nothing needs a human") {
		t.Errorf("status says %s", said)
	}

	provisioner, _ := d.jetStreamAs("provisioner")
	if err := api(t.Context(), provisioner, "STREAM.PURGE."+messages.StreamJournal, ""); err == nil {
		t.Error("the provisioner may empty the journal")
	}
	if err := aged(t, provisioner, time.Hour); err != nil {
		t.Fatal(err)
	}
	// Far sooner than the look once a minute.
	await(t, 10*time.Second, "the worker to notice", func() bool {
		return strings.Contains(p.text(), "setting max_age: found 1h0m0s") && strings.Contains(p.text(), "nothing is claimed until this is put right")
	})
	if said := d.does("monitor", "!", "status"); !strings.Contains(said, "setting max_age: found 1h0m0s, expected at least 30 days") {
		t.Errorf("status says %s", said)
	}
	write(t, file, string(job(2, "ok-2"))+"\n")
	d.does("publisher", "publish", file)
	if said := d.does("provisioner", "provision"); !strings.Contains(said, "max_age: 1h0m0s → 120 days") {
		t.Errorf("provision says %s", said)
	}
	await(t, 10*time.Second, "the worker to go on", func() bool { return strings.Contains(p.text(), "claiming goes on") })
	await(t, 20*time.Second, "the second job's result", func() bool { // whether it is charged is up to what was forgotten
		return strings.Contains(p.text(), `"id":"1234002/2026-12/1"`)
	})
}

// api puts a request to JetStream's API; the error is its own, or that nobody answered.
func api(ctx context.Context, js jetstream.JetStream, subject, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m, err := js.Conn().RequestWithContext(ctx, "$JS.API."+subject, []byte(body))
	if err != nil {
		return err
	}
	var answer struct{ Error *jetstream.APIError }
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// S91: through the shipped accounts and permissions, what a publisher writes into headers for the server moves nothing of
// others: it rolls up no subject, writes into no other, and purges nothing that waits.
func TestDeployedPublishersHeaders(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	inside, _ := d.jetStreamAs("worker")
	nc, refused := d.connect("publisher")
	publisher, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	early := func(n int) []byte {
		return job(n, fmt.Sprint("ok-", n), func(j map[string]any) {
			j["due_at"] = time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		})
	}
	waiting := func() uint64 {
		later, err := inside.Stream(t.Context(), messages.StreamLater)
		if err != nil {
			t.Fatal(err)
		}
		return later.CachedInfo().State.Msgs
	}
	p := d.as("worker", "work")
	if _, err := publisher.Publish(t.Context(), messages.DueSubject("default"), early(1)); err != nil {
		t.Fatal(err)
	}
	await(t, 20*time.Second, "the early job to be parked", func() bool { return waiting() == 1 })
	later, err := inside.Stream(t.Context(), messages.StreamLater)
	if err != nil {
		t.Fatal(err)
	}
	before, err := later.GetMsg(t.Context(), later.CachedInfo().State.FirstSeq)
	if err != nil {
		t.Fatal(err)
	}
	at := "@at " + time.Now().Add(2*time.Second).UTC().Format(time.RFC3339)
	accepted := 0
	for n, header := range []nats.Header{
		{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}},
		{"Nats-Schedule": {at}, "Nats-Schedule-Target": {"renewals.due.other"}},
		{"Nats-Schedule": {at}, "Nats-Schedule-Target": {"renewals.dunning.s.p.0.default"}},
		{"Nats-Schedule-Target": {"renewals.later.other"}},
		{"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {before.Subject}},
		{"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {"renewals.due.default"}},
	} {
		_, err := publisher.PublishMsg(t.Context(), &nats.Msg{Subject: messages.DueSubject("default"), Header: header, Data: early(10 + n)})
		if answer := (*jetstream.APIError)(nil); err != nil && !errors.As(err, &answer) {
			t.Errorf("%v: %v", header, err)
		}
		if err == nil {
			accepted++
		}
	}
	// Nothing of it gets where a publisher may not write, straight either.
	for _, subject := range []string{before.Subject, "renewals.later.default", "renewals.later.other", "renewals.due.other"} {
		if err := nc.Publish(subject, early(30)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, 5*time.Second, "the server to refuse other subjects", func() bool { return len(refused.seen()) == 4 })
	await(t, 20*time.Second, "what was accepted to be parked", func() bool { return waiting() == uint64(1+accepted) })
	after, err := later.GetMsg(t.Context(), before.Sequence)
	if err != nil || after.Subject != before.Subject || !bytes.Equal(after.Data, before.Data) {
		t.Errorf("the job that waits: %v, %v", after, err)
	}
	jobs, err := inside.Stream(t.Context(), messages.StreamJobs)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := inside.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	if jobs, records := jobs.CachedInfo().State, journal.CachedInfo().State.Msgs; records != 0 || jobs.LastSeq != uint64(1+accepted) {
		t.Errorf("records %d, jobs %d; want none and %d", records, jobs.LastSeq, 1+accepted)
	}
	if orders := d.klarna.Simulator.Books().Orders; len(orders) != 0 {
		t.Errorf("%d orders of jobs that are due in an hour", len(orders))
	}
	if strings.Contains(p.text(), `"level":"error"`) {
		t.Error("the worker met an error")
	}
	t.Logf("%d of 7 accepted", accepted)
}

// A consumer to which results are pushed, faster than it takes them, is not left waiting: it may answer flow control, as the older clients do
// whose ordered consumers are of that sort.
func TestDeployedFlowControl(t *testing.T) {
	t.Parallel()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	operator, _ := d.jetStreamAs("operator")
	const many = 100
	for n := range many {
		if _, err := operator.PublishAsync(fmt.Sprintf("renewals.cancelled.x.%d.0.default", n), make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-operator.PublishAsyncComplete():
	case <-time.After(30 * time.Second):
		t.Fatal("the records are not stored")
	}
	nc, refused := d.connect("consumer")
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := js.SubscribeSync("renewals.cancelled.>", nats.OrderedConsumer(), nats.BindStream(messages.StreamJournal))
	if err != nil {
		t.Fatal(err)
	}
	for n := range many {
		if _, err := pushed.NextMsg(10 * time.Second); err != nil {
			t.Fatalf("after %d of %d: %v", n, many, err)
		}
	}
	if list := append(refused.seen(), d.log.seen()...); len(list) > 0 {
		t.Errorf("refused:\n%s", strings.Join(list, "\n"))
	}
}
