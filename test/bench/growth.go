//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// growing is how much of it there is.
type growing struct {
	renewals int
	looks    time.Duration // after which a reader that goes on is stopped
	searches time.Duration // the same for one that looks for what is not there
	old      int           // claims of old renewals
	busy     bool          // something else keeps the processors busy
}

const (
	longestClaim = 250 * time.Millisecond // what a claim may take, whoever reads
	growthLimit  = 25 * time.Minute
)

// growth builds a journal, and measures what whoever reads it costs those who charge. A missed bar is printed and no failure.
//
//	make bench-growth                a million renewals; some 15 minutes and 8 GB of disk
//	BENCH=quick make bench-growth    a hundred thousand; some 3 minutes
//	BENCH_BUSY=1 make bench-growth   with a process on each processor that does nothing but run
//	BENCH_ONLY=show                  only the readers whose name holds it
func growth() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, growthLimit, fmt.Errorf("not done within %s", growthLimit))
	defer cancel()
	g := growing{renewals: 1_000_000, looks: 8 * time.Second, searches: 3 * time.Minute, old: 3600, busy: os.Getenv("BENCH_BUSY") != ""}
	if os.Getenv("BENCH") == "quick" {
		g = growing{renewals: 100_000, looks: 3 * time.Second, searches: 30 * time.Second, old: 900, busy: g.busy}
	}
	site, leave, err := newSite(ctx, "growth")
	if err != nil {
		return err
	}
	defer leave()
	out, dir, t, m := site.out, site.dir, site.tools, site.machine
	w, err := open(ctx, t, filepath.Join(dir, "growth"), setup{Group: "growth", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Replicas: 1, Jobs: 1})
	defer w.close()
	var found table
	if err == nil {
		found, err = w.grow(ctx, g)
	}
	if err = w.explain(err); err != nil {
		return err
	}
	fmt.Printf("%s\n\n%s", m, found.text())
	return os.WriteFile(filepath.Join(out, "bench-growth.md"), []byte(m.String()+"\n\n"+found.markdown()), 0o644)
}

func say(what string, of ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(what, of...))
}

// grow builds the journal and tries every reader.
func (w *world) grow(ctx context.Context, g growing) (found table, err error) {
	model, err := w.model(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a renewal to copy: %w", err)
	}
	began := time.Now()
	middle, err := w.fill(ctx, model, g.renewals)
	if err != nil {
		return nil, fmt.Errorf("fill the journal: %w", err)
	}
	size, err := sizeOf(filepath.Join(w.dir, "nats-server-0"))
	if err != nil {
		return nil, err
	}
	say("%s renewals in %s, %.0f MiB", grouped(g.renewals), time.Since(began).Round(time.Second), mebibytes(size))
	if g.busy {
		if err := w.occupy(); err != nil {
			return nil, err
		}
	}
	found = table{{"", "took", "bar", "longest claim", "bar", "99 % of claims", "failed", "broker CPU", "RSS MiB"}}
	title := grouped(g.renewals) + " renewals, the broker just started, nothing of its store in the page cache"
	if g.busy {
		title += ", all processors busy"
	}
	found = append(found, []string{title})
	c := &claims{model: model, next: g.renewals}
	for _, r := range append(w.readers(g, middle), w.oldClaims(g)...) {
		if !wanted(r.name) {
			continue
		}
		say("%s", r.name)
		seen, err := w.beside(ctx, c, r)
		if err != nil {
			return found, fmt.Errorf("%s: %w", r.name, err)
		}
		found = append(found, seen.row(r))
	}
	return found, nil
}

// occupy keeps every processor busy until the world is closed.
func (w *world) occupy() error {
	for n := range runtime.NumCPU() {
		p, err := w.run(fmt.Sprintf("busy-%d", n), "/bin/sh", "-c", "while :; do :; done")
		if err != nil {
			return err
		}
		w.workers = append(w.workers, p)
	}
	return nil
}

// chill starts the broker anew without anything of its store in memory, neither its own nor the kernel's.
func (w *world) chill(ctx context.Context) error {
	if err := w.halt(); err != nil {
		return err
	}
	if err := cold(filepath.Join(w.dir, "nats-server-0")); err != nil {
		return fmt.Errorf("take the store out of the page cache: %w", err)
	}
	return w.startAgain(ctx)
}

// cold takes a store's files out of the kernel's memory, which needs no permission and leaves everybody else's there.
func cold(store string) error {
	return filepath.WalkDir(store, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil { // only what is on disk can be left out
			return err
		}
		const dontNeed = 4 // https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
		if _, _, problem := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); problem != 0 {
			return problem
		}
		return nil
	})
}

// beside runs a reader beside claims on a broker that has nothing in memory.
func (w *world) beside(ctx context.Context, c *claims, r reader) (s sight, err error) {
	if err := w.chill(ctx); err != nil {
		return s, err
	}
	stream, err := c.start(ctx, w, r.renewals)
	if err != nil {
		return s, err
	}
	defer stream.end()
	if err := await(ctx, w, time.After(time.Second)); err != nil { // the first claims load what the broker needs to write at all
		return s, err
	}
	stream.forget()
	cpu, err := w.brokers[0].cpu()
	if err != nil {
		return s, err
	}
	one, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	first := time.Now()
	for range max(r.rounds, 1) {
		began := time.Now()
		if err = r.read(one, w); err != nil {
			break
		}
		s.took = max(s.took, time.Since(began))
	}
	s.stopped = one.Err() != nil
	s.took = cmp.Or(s.took, time.Since(first))
	switch {
	case ctx.Err() != nil:
		return s, context.Cause(ctx)
	case err != nil && !s.stopped:
		return s, err
	}
	after, err := w.brokers[0].cpu()
	if err != nil {
		return s, err
	}
	s.cpu = after - cpu
	stream.end()
	s.claims, s.failed = stream.done()
	_, s.peak, err = w.brokers[0].memory()
	return s, err
}

// command runs a program as a person would, each time with other arguments; what it prints goes nowhere.
func command(program string, want int, args func(round int) []string) func(context.Context, *world) error {
	round := 0
	return func(ctx context.Context, w *world) error {
		c := exec.CommandContext(ctx, program, args(round)...)
		round++
		c.Env = []string{"HOME=" + w.dir, "PATH=" + os.Getenv("PATH"), "NATS_URL=" + w.brokerURL}
		err := c.Run()
		if ended, ok := errors.AsType[*exec.ExitError](err); ok && ended.ExitCode() == want {
			return nil
		}
		return err
	}
}

// A site is where a benchmark beside the tables happens: a folder of its own in the one that BENCH_OUT names, and the programs.
type site struct {
	out, dir string
	tools    tools
	machine  machine
}

// newSite builds the programs. leave takes the folder away.
func newSite(ctx context.Context, name string) (s site, leave func(), err error) {
	if s.out, err = filepath.Abs(cmp.Or(os.Getenv("BENCH_OUT"), "bin")); err != nil {
		return s, nil, err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return s, nil, err
	}
	if s.dir, err = os.MkdirTemp(s.out, "bench-"+name+"-"); err != nil {
		return s, nil, err
	}
	say("building")
	if s.tools, err = build(ctx, s.dir); err == nil {
		err = s.tools.buildDesk(ctx, s.dir)
	}
	if err == nil {
		s.machine, err = thisMachine(s.tools, s.dir)
	}
	leave = func() { os.RemoveAll(s.dir) }
	if err != nil {
		leave()
	}
	return s, leave, err
}
