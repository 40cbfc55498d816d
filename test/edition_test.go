package test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// What CHANGELOG.md says of a deployment of the contract's first edition: its journal is touched by nobody, is kept as an archive,
// and once it has left its place nothing that it knew to be paid is paid twice, whatever is published again.
func TestMovingFromTheFirstEdition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	at := func(d time.Duration) func(map[string]any) {
		moment := time.Now().Add(d).UTC().Format(time.RFC3339)
		return func(j map[string]any) { j["due_at"] = moment }
	}
	another := func(id string) func(map[string]any) {
		return func(j map[string]any) { j["id"], j["attempt"] = id, 2 }
	}
	longAgo, today := at(-72*time.Hour), at(-time.Hour)
	drained := func() {
		t.Helper()
		await(t, time.Minute, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	}
	before := w.start(nil, "work")
	w.publish(job(1, "ok-1", longAgo))
	w.publish(job(2, "ok-2", today))
	drained()
	w.settledOnce(2)
	w.markIsAt(w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).State.LastSeq)
	before.kill()

	w.firstEdition()
	w.refusesTheJournal()
	w.archivesTheJournal()

	w.start([]string{w.noGap()}, "work")
	requests := w.klarna.Simulator.Books().Requests
	for _, again := range [][]byte{
		job(1, "ok-1", longAgo),                               // Klarna may have forgotten its key
		job(1, "ok-1", longAgo, another("1234001/2026-12/2")), // nor is another one used
		job(2, "ok-2", today, another("1234002/2026-12/2")),   // it follows an attempt of which nothing is known
	} {
		w.publish(again)
		drained()
	}
	if n := w.klarna.Simulator.Books().Requests - requests; n != 0 {
		t.Errorf("%d requests for what fell due before", n)
	}
	for _, fresh := range [][]byte{job(2, "ok-2", today), job(3, "ok-3", today), job(4, "ok-4", at(0))} {
		w.publish(fresh)
		drained()
	}
	if orders := len(w.klarna.Simulator.Books().Orders); orders != 4 {
		t.Errorf("orders at Klarna: %d, want the two of before and two", orders)
	}
	var got []string
	for _, r := range w.results() {
		reason, _ := r.Event["reason"].(string)
		got = append(got, strings.TrimSpace(r.Event["id"].(string)+" "+r.Kind+" "+reason))
	}
	want := []string{
		"1234001/2026-12/1 unresolved journal_restored", "1234001/2026-12/2 rejected blocked_by_unresolved", "1234002/2026-12/2 unresolved journal_restored",
		"1234002/2026-12/1 rejected blocked_by_unresolved", "1234003/2026-12/1 paid", "1234004/2026-12/1 paid",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("results:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// firstEdition makes the journal one as workers of the first edition left it.
func (w *world) firstEdition() {
	w.t.Helper()
	config := w.journalInfo(func(*jetstream.StreamInfo) bool { return true }).Config
	config.Subjects = nil
	for _, k := range messages.Kinds() {
		config.Subjects = append(config.Subjects, "renewals."+string(k)+".*.*")
	}
	if _, err := w.js.UpdateStream(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.js.Publish(w.t.Context(), "renewals.paid.4a87da77-4bba-50c6-8cae-6972612639ac.default", []byte("{}")); err != nil {
		w.t.Fatal(err)
	}
}

// refusesTheJournal runs what provisions, charges, reads and decides.
func (w *world) refusesTheJournal() {
	w.t.Helper()
	for _, args := range [][]string{
		{"provision"}, {"provision", "--accept-empty-journal"}, {"work"}, {"work", "--provision"}, {"show", "1234001/2026-12"}, {"cancel", "1234009", "2026-12", "--yes"},
	} {
		p := w.start(nil, args...)
		if code := p.exit(30 * time.Second); code != 1 || !strings.Contains(p.text(), "setting subjects: found ") || !strings.Contains(p.text(), "first edition of the contract") {
			w.t.Errorf("renewals %s ends with %d, want it to refuse the journal by name:\n%s", strings.Join(args, " "), code, p.text())
		}
	}
}

// archivesTheJournal keeps it under another name, and makes a new one in its place.
func (w *world) archivesTheJournal() {
	w.t.Helper()
	archive := jetstream.StreamConfig{Name: "RENEWAL_JOURNAL_1", Sources: []*jetstream.StreamSource{{Name: messages.StreamJournal}}, DenyDelete: true}
	if _, err := w.js.CreateStream(w.t.Context(), archive); err != nil {
		w.t.Fatal(err)
	}
	await(w.t, 30*time.Second, "the archive", func() bool { return w.leftIn(archive.Name) == w.leftIn(messages.StreamJournal) })
	if err := w.js.DeleteStream(w.t.Context(), messages.StreamJournal); err != nil {
		w.t.Fatal(err)
	}
	p := w.start(nil, "provision", "--accept-empty-journal")
	if code := p.exit(30 * time.Second); code != 0 {
		w.t.Fatalf("provision ends with %d:\n%s", code, p.text())
	}
	if w.leftIn(archive.Name) == 0 {
		w.t.Error("the archive went with the journal")
	}
}
