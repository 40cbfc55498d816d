package test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// S15: an operator cancels a period. Before the next attempt that ends its charges, and no customer hears of
// it; once Klarna was asked it is too late, and the result is published like any other.
func TestCancelledPeriod(t *testing.T) {
	t.Parallel()
	cancel := []string{"cancel", "1234001", "2026-12", "--yes", "--actor=anna", "--note=left us"}
	t.Run("before the next attempt", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, klarnasim.Options{})
		w.provision()
		w.start(nil, "work")
		w.publish(job(1, "soft-decline-once-1"))
		await(t, 20*time.Second, "the first attempt", func() bool { return w.left() == 0 })
		asked := w.klarna.Simulator.Counts().Requests
		if p := w.start(nil, cancel...); p.exit(10*time.Second) != 0 {
			t.Fatalf("cancel: %s", p.text())
		}
		w.publish(job(1, "soft-decline-once-1", func(j map[string]any) { j["id"], j["attempt"] = "1234001/2026-12/2", 2 }))
		await(t, 20*time.Second, "the second attempt", func() bool { return w.left() == 0 })

		results := w.results()
		if len(results) != 2 || results[0].Kind != "dunning" || results[1].Kind != "rejected" || results[1].Event["reason"] != "cancelled" {
			t.Errorf("results %v, want the dunning of attempt 1 and attempt 2 rejected as cancelled", results)
		}
		if n := w.klarna.Simulator.Counts().Requests; n != asked {
			t.Errorf("requests to Klarna after the cancellation: %d, want 0", n-asked)
		}
	})
	t.Run("while Klarna works on the charge", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, klarnasim.Options{})
		w.provision()
		w.start(nil, "work")
		w.publish(job(1, "slow-700-1"))
		await(t, 20*time.Second, "the request", func() bool { return len(w.klarna.Simulator.Books().Keys) == 1 })
		if p := w.start(nil, cancel...); p.exit(10*time.Second) != 1 || !strings.Contains(p.text(), "too late") {
			t.Errorf("cancel: %s; want exit code 1 and that it is too late", p.text())
		}
		await(t, 20*time.Second, "the job to leave the stream", func() bool { return w.left() == 0 })
		w.settledOnce(1)
		for _, r := range w.records() {
			if r.Kind == "cancelled" {
				t.Error("the paid period is cancelled")
			}
		}
	})
}

// S50: a stream takes a message ID once, whichever account it is for, and tells only the
// publisher. So `publish` names each job that was dropped, and says why.
func TestSameIDOnASecondAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision("se", "de")
	file := filepath.Join(t.TempDir(), "jobs.jsonl")
	write(t, file, string(job(1, "ok-1"))+"\n")
	for _, tt := range []struct{ account, counted, told string }{
		{"se", "accepted 1, duplicates 0, invalid 0, failed 0", ""},
		{"de", "accepted 0, duplicates 1, invalid 0, failed 0", "jobs.jsonl:1: 1234001/2026-12/1: duplicate, dropped: within its duplicate window the stream takes a Nats-Msg-Id once, whichever account it is for"},
	} {
		p := w.start(nil, "publish", "--account="+tt.account, file)
		if code := p.exit(10 * time.Second); code != 0 || !strings.Contains(p.text(), tt.counted) || !strings.Contains(p.text(), tt.told) {
			t.Errorf("publish on account %s: exit code %d, it says %q, want %q and %q", tt.account, code, p.text(), tt.counted, tt.told)
		}
	}
	if n := w.left(); n != 1 {
		t.Errorf("jobs in the stream: %d, want 1", n)
	}
}

// S25: whoever was away reads what he missed from the journal, byte for byte as it was told to
// those who were there, although worker and broker were restarted in between. Nothing is announced a second time.
func TestMissedResultsAreReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	told := func(p *process) (lines []string) {
		for line := range strings.Lines(p.text()) {
			if strings.HasPrefix(line, "{") && strings.HasSuffix(line, "\n") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	work := w.start(nil, "work")
	there := w.start(nil, "watch", "--json", "--since=1h")
	tokens := []string{"ok-1", "soft-decline-2", "cancelled-3"}
	for n, token := range tokens {
		w.publish(job(n, token))
	}
	await(t, 20*time.Second, "the results of those who are there", func() bool { return len(told(there)) == len(tokens) })
	heard := told(there)
	there.kill()
	work.kill()
	w.broker.Shutdown()
	w.broker.WaitForShutdown()
	w.startBroker()

	w.start(nil, "work")
	w.publish(job(len(tokens), "ok-4"))
	await(t, 20*time.Second, "the job after the restart", func() bool { return w.left() == 0 })
	away := w.start(nil, "watch", "--json", "--since=1h")
	await(t, 20*time.Second, "what was missed", func() bool { return len(told(away)) > len(tokens) })
	if again := told(away); !slices.Equal(again[:len(tokens)], heard) || len(again) != len(tokens)+1 {
		t.Errorf("told at first\n%s\nand to him who was away\n%s\nwant the same, and one more", strings.Join(heard, ""), strings.Join(again, ""))
	}
}
