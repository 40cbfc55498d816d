//go:build linux

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// A journal of copies is what a worker would have written: as many records, each its renewal's own and of the size of the first. Readers and
// claims of both kinds get through.
func TestGrowth(t *testing.T) {
	w, err := open(t.Context(), programs(t), filepath.Join(t.TempDir(), "growth"), setup{Group: "growth", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Replicas: 1, Jobs: 1})
	defer w.close()
	if err != nil {
		t.Fatal(err)
	}
	const renewals = 100
	t.Setenv("BENCH_ONLY", "old") // one that is shown, and claims in either order
	found, err := w.grow(t.Context(), growing{renewals: renewals, looks: time.Second, searches: time.Second, old: 20})
	if err = w.explain(err); err != nil {
		t.Fatal(err)
	}
	if text := found.text(); len(found) != 5 || !strings.Contains(text, "show SUBSCRIPTION/PERIOD, the oldest") || !strings.Contains(text, "in random order") {
		t.Errorf("measured:\n%s", text)
	}
	for _, row := range found[2:] {
		if failed := row[6]; failed != "0" {
			t.Errorf("%s: failed claims: %s", row[0], failed)
		}
	}
	stream, err := w.js.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	model, err := stream.GetLastMsgForSubject(t.Context(), messages.KindFilter(messages.KindPaid, renewal(0)))
	if err != nil {
		t.Fatal(err)
	}
	copied, err := stream.GetLastMsgForSubject(t.Context(), messages.KindFilter(messages.KindPaid, renewal(renewals-1)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(copied.Data), string(renewal(renewals-1).Key())) || len(copied.Data) != len(model.Data) {
		t.Errorf("a copy of\n%s\nis\n%s", model.Data, copied.Data)
	}
}
