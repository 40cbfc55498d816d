//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

const (
	reconcileBar   = 10 * time.Minute
	reconcileRSS   = 300 << 20
	reconcileLimit = 40 * time.Minute // for all of it
)

// reconciling measures what it takes to compare a month of renewals with a payout of a tenth of them, as a file and by the Settlements API, and
// that exactly the lies in it are named. A missed bar is printed and no failure; a break too many or too few is one.
//
//	make bench-reconcile                              a million renewals; some 10 minutes and 3 GB of disk
//	RECONCILE_RENEWALS=50000 make bench-reconcile     a minute's worth
func reconciling() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, reconcileLimit, fmt.Errorf("not done within %s", reconcileLimit))
	defer cancel()
	renewals := 1_000_000
	if text := os.Getenv("RECONCILE_RENEWALS"); text != "" {
		if _, err := fmt.Sscan(text, &renewals); err != nil || renewals < 10_000 {
			return fmt.Errorf("RECONCILE_RENEWALS: found %q, expected a number from 10000", text)
		}
	}
	site, leave, err := newSite(ctx, "reconcile")
	if err != nil {
		return err
	}
	defer leave()
	out, dir, t, m := site.out, site.dir, site.tools, site.machine
	w, err := open(ctx, t, filepath.Join(dir, "reconcile"), setup{Group: "reconcile", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Replicas: 1, Jobs: 1, Light: true})
	defer w.close()
	var found table
	if err == nil {
		found, err = w.reconcile(ctx, newMonth(renewals))
	}
	if err = w.explain(err); err != nil {
		return err
	}
	fmt.Printf("%s\n\n%s", m, found.text())
	return os.WriteFile(filepath.Join(out, "bench-reconcile.md"), []byte(m.String()+"\n\n"+found.markdown()), 0o644)
}

// reconcile fills the books and compares them with the payout, twice.
func (w *world) reconcile(ctx context.Context, m month) (found table, err error) {
	began := time.Now()
	file := filepath.Join(w.dir, "books.db")
	if err := w.fillBooks(ctx, m, file); err != nil {
		return nil, fmt.Errorf("fill the books: %w", err)
	}
	size, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	say("books of %s renewals in %s, %.0f MiB", grouped(m.renewals), time.Since(began).Round(time.Second), mebibytes(size.Size()))
	api := &settlementsAPI{payout: m.payout()}
	report := filepath.Join(w.dir, "report.csv")
	f, err := os.Create(report)
	if err == nil {
		err = errors.Join(api.payout.csv(f), f.Close())
	}
	if err != nil {
		return nil, err
	}
	server := api.serve()
	defer server.Close()
	found = table{
		{"", "took", "bar", "peak RSS MiB", "bar", "processor time", "breaks"},
		{fmt.Sprintf("%s renewals, a payout of %s rows", grouped(m.renewals), grouped(len(api.payout.rows)))},
	}
	for _, r := range []struct {
		name string
		args []string
	}{
		{"a CSV file", []string{report}},
		{"the Settlements API, refused six times and cut off once", nil},
	} {
		say("%s", r.name)
		d, err := w.desk(ctx, server.URL, append([]string{
			"reconcile", "--json", "--books=" + file, "--account=" + string(defaultAccount), "--expect-within=" + m.expectWithin().String(),
			"--from=" + firstOfMonth.Format(time.DateOnly), "--to=" + firstOfMonth.AddDate(0, 0, 29).Format(time.DateOnly),
		}, r.args...)...)
		if err == nil {
			err = m.judge(d.stdout, len(api.payout.rows))
		}
		if err == nil && r.args == nil {
			err = api.judge()
		}
		if err != nil {
			return found, fmt.Errorf("%s: %w", r.name, err)
		}
		found = append(found, []string{r.name, fmt.Sprintf("%.1f s", d.took.Seconds()), verdict(d.took, reconcileBar), fmt.Sprintf("%.0f", mebibytes(d.peak)), memoryVerdict(d.peak), fmt.Sprintf("%.1f s", d.cpu.Seconds()), fmt.Sprint(len(m.breaks()))})
	}
	return found, nil
}

func memoryVerdict(peak int64) string {
	word := "met"
	if peak > reconcileRSS {
		word = "missed"
	}
	return fmt.Sprintf("≤ %.0f %s", mebibytes(reconcileRSS), word)
}

// fillBooks writes the month by the books' own writer, into books of a journal that has aged but for its last record: what is compared is in the
// file, and a broker with all of it would cost gigabytes.
func (w *world) fillBooks(ctx context.Context, m month, file string) error {
	stream, err := w.js.Stream(ctx, messages.StreamJournal)
	if err != nil {
		return err
	}
	config := stream.CachedInfo().Config
	config.FirstSeq = uint64(2 * m.renewals)
	if err := w.js.DeleteStream(ctx, messages.StreamJournal); err != nil {
		return err
	}
	if stream, err = w.js.CreateStream(ctx, config); err != nil {
		return err
	}
	last := m.records(m.renewals - 1)[1]
	_, err = w.js.PublishMsg(ctx, &nats.Msg{Subject: last.Subject, Data: last.Body, Header: nats.Header{messages.HeaderState: {last.State}, "ce-id": {last.EventID}}})
	if err != nil {
		return err
	}
	writer, err := books.Create(file, "the benchmark")
	if err != nil {
		return err
	}
	defer writer.Close()
	created := stream.CachedInfo().Created.UTC().Format(time.RFC3339Nano)
	const batch = 5000
	rows := make([]books.Row, 0, batch)
	for n := range m.renewals {
		for _, r := range m.records(n) {
			rows = append(rows, books.Read(r))
		}
		if len(rows) < batch && n < m.renewals-1 {
			continue
		}
		if err := writer.Add(ctx, created, rows); err != nil {
			return err
		}
		rows = rows[:0]
	}
	return nil
}

// desk is a run of renewals-desk.
type desk struct {
	took, cpu time.Duration
	peak      int64 // resident set, bytes
	stdout    []byte
}

// desk runs renewals-desk to its end. That it found something is no error.
func (w *world) desk(ctx context.Context, klarna string, args ...string) (d desk, err error) {
	var said, wrong strings.Builder
	c := exec.CommandContext(ctx, w.tools.desk, args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "NATS_URL=" + w.brokerURL, "KLARNA_ENDPOINT=" + klarna, "KLARNA_USERNAME=K123456_bench", "KLARNA_PASSWORD=bench"}
	c.Stdout, c.Stderr, c.SysProcAttr = &said, &wrong, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := c.Start(); err != nil {
		return d, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	p := &process{name: "renewals-desk", cmd: c}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-tick.C:
			if _, peak, err := p.memory(); err == nil {
				d.peak = max(d.peak, peak) // 0 of one that has just ended
			}
		}
	}
	d.took, d.cpu, d.stdout = time.Since(began), c.ProcessState.UserTime()+c.ProcessState.SystemTime(), []byte(said.String())
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() == 1 && said.Len() > 0 {
		err = nil
	}
	if wrong.Len() > 0 {
		fmt.Fprint(os.Stderr, wrong.String())
	}
	if err != nil {
		return d, fmt.Errorf("renewals-desk %s: %w", strings.Join(args, " "), err)
	}
	return d, nil
}

// judge compares what a reconciliation has named with the lies that were told.
func (m month) judge(stdout []byte, rows int) error {
	var said struct {
		Rows, Expected int
		Breaks         []messages.Break
		Unused         []struct{ Reason string }
		Unanswered     []string
	}
	if err := json.Unmarshal(stdout, &said); err != nil {
		return fmt.Errorf("read what renewals-desk says: %w", err)
	}
	missed, wrong := m.breaks(), []string{}
	for _, b := range said.Breaks {
		name := fmt.Sprintf("%s of %s", b.Kind, b.SubscriptionID)
		if !missed[name] {
			wrong = append(wrong, name)
		}
		delete(missed, name)
	}
	if len(missed) > 0 || len(wrong) > 0 || said.Rows != rows || said.Expected != m.expected() || len(said.Unused) != liesOfEach || len(said.Unanswered) > 0 {
		return fmt.Errorf("not named: %v; named and no lie: %.20q; rows %d, expected %d; captures not settled yet %d, expected %d; unused rows %d, expected %d; not answered: %q",
			slices.Sorted(maps.Keys(missed)), wrong, said.Rows, rows, said.Expected, m.expected(), len(said.Unused), liesOfEach, said.Unanswered)
	}
	return nil
}
