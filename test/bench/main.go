//go:build linux

// Command bench measures the worker beside two loops that keep none, or almost none, of its promises. Broker, simulator and
// workers are processes of their own on one machine, each run begins with an empty broker, and each ends with an audit that
// every job has one order and one result.
//
//	make bench                 15 rounds of everything but a million jobs; an hour on a quiet machine, at most 100 minutes; where
//	                           there is strace, also on brokers' disks that are slower than this machine's
//	BENCH=quick make bench     one round of less, to see that it works; under a minute
//	BENCH=memory make bench    one worker drains a million jobs; at most 15 minutes
//	BENCH_ONLY=300 make bench  only the runs whose name holds 300; BENCH_ROUNDS=21 for other than 15 rounds
//
// What it tells are ratios between runs of one round, and processor time: rates depend on the machine and on its minute. A round
// in which the machine's host or other programs took more of the processors than a little does not count and is measured
// again, up to twice as many rounds; how many were discarded, and what was taken in those that count, stands above each
// group, as does whether Klarna is the strict simulator or a light one, which validates nothing. Each figure is the
// median of the rounds that count, with the smallest and the largest. No choice of a round is anybody's.
//
// It prints tables and writes them with all figures, and the raw ones of each round, to bench.json and bench.md in bin, or in the directory that BENCH_OUT names;
// with BENCH=memory to bench-memory.json and bench-memory.md, and the curve to test/bench/memory.svg. The stores of its brokers are
// there for as long as it runs, so that an fsync is one of a disk: up to 6 GB. A missed bar is printed and no failure; a
// broken promise is one.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	if play, ok := parts[strings.Join(os.Args[1:min(len(os.Args), 2)], "")]; ok {
		if err := play(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	r, err := benchmark(ctx, os.Getenv("BENCH"), cmp.Or(os.Getenv("BENCH_OUT"), "bin"))
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "bench: stopped")
		return 1
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	fmt.Print(r.text())
	fmt.Fprintf(os.Stderr, "\ntook %s\n", time.Since(began).Round(time.Second))
	return 0
}

// parts are what this program is within a run of itself.
var parts = map[string]func(args []string) error{
	"accounts":  func([]string) error { return crowded() },
	"growth":    func([]string) error { return growth() },
	"reconcile": func([]string) error { return reconciling() },
	"loop": func(args []string) error {
		if len(args) != 4 {
			return fmt.Errorf("loop: found %q, expected who, hands, jobs, record sizes", args)
		}
		hands, err := strconv.Atoi(args[1])
		jobs, also := strconv.Atoi(args[2])
		sizes, too := parseRecordSizes(args[3])
		if err := errors.Join(err, also, too); err != nil {
			return err
		}
		l := loop{who: args[0], hands: hands, records: sizes}
		return l.run(os.Getenv("NATS_URL"), os.Getenv("KLARNA_ENDPOINT"), jobs)
	},
	"klarna": func(args []string) error {
		if len(args) != 2 {
			return fmt.Errorf("klarna: found %q, expected address, latency", args)
		}
		latency, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		k := lightKlarna{latency: latency}
		return k.serve(args[0])
	},
}

// benchmark builds what it measures, measures it, and writes what it found to out.
func benchmark(ctx context.Context, mode, out string) (r report, _ error) {
	quick := mode == "quick"
	rounds, err := roundsOf(mode)
	if err != nil {
		return r, err
	}
	r.Mode = cmp.Or(mode, "full")
	began := time.Now()
	if err := os.MkdirAll(out, 0o755); err != nil {
		return r, err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(out, "bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	p := newProgress(os.Stderr)
	defer p.close()
	p.say("building")
	t, err := build(ctx, dir)
	if err != nil {
		return r, err
	}
	if r.Machine, err = thisMachine(t, dir); err != nil {
		return r, err
	}
	if mode != "memory" {
		r.Asked = rounds
		if r.Groups, err = interleaved(ctx, t, dir, quick, rounds, p); err != nil {
			return r, err
		}
		r.Runs = runsOf(r.Groups)
	}
	name := "bench"
	if mode == "memory" {
		name = "bench-memory"
	}
	if err := r.drain(ctx, t, mode, out, dir, p); err != nil {
		return r, err
	}
	r.Bars, r.Took = r.judge(), time.Since(began).Round(time.Second).String()
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return r, err
	}
	return r, errors.Join(
		os.WriteFile(filepath.Join(out, name+".json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(out, name+".md"), []byte(r.markdown()), 0o644))
}

// roundsOf is how often each figure is measured.
func roundsOf(mode string) (rounds int, err error) {
	rounds = 15
	if mode == "quick" {
		rounds = 1
	}
	if text := os.Getenv("BENCH_ROUNDS"); text != "" {
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			return 0, fmt.Errorf("BENCH_ROUNDS: found %q, expected a number from 1", text)
		}
	}
	if mode != "quick" && mode != "" && mode != "memory" {
		return 0, fmt.Errorf("BENCH: found %q, expected quick, memory or nothing", mode)
	}
	return rounds, nil
}

// drain measures the memory while a backlog is drained, where the mode asks for that, and draws it.
func (r *report) drain(ctx context.Context, t tools, mode, out, dir string, p *progress) (err error) {
	curve := filepath.Join(out, "memory.svg")
	switch {
	case mode != "memory" && wanted("draining"):
		r.Memory, err = drain(ctx, t, filepath.Join(dir, "drain"), 20_000, 100*time.Millisecond, p.follow("draining 20,000 jobs"))
	case mode == "memory":
		curve = filepath.Join("test", "bench", "memory.svg")
		r.Memory, err = drain(ctx, t, filepath.Join(dir, "drain"), 1_000_000, time.Second, p.follow("draining 1,000,000 jobs"))
	}
	if err != nil {
		return fmt.Errorf("draining: %w", err)
	}
	if r.Memory != nil {
		if err := os.WriteFile(curve, []byte(plot(r.Memory)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// build makes the programs of a run.
func build(ctx context.Context, dir string) (tools, error) {
	self, err := os.Executable()
	if err != nil {
		return tools{}, err
	}
	load, err := loadAverage() // building is the first of ours that loads the machine
	if err != nil {
		return tools{}, err
	}
	t := tools{renewals: filepath.Join(dir, "renewals"), broker: filepath.Join(dir, "nats-server"), loop: self, load: load}
	for binary, pkg := range map[string]string{t.renewals: "github.com/klarna-renewals/renewals/cmd/renewals", t.broker: "github.com/nats-io/nats-server/v2"} {
		if err := buildProgram(ctx, binary, pkg); err != nil {
			return t, err
		}
	}
	return t, nil
}

// buildDesk makes renewals-desk as well, which only some benchmarks need.
func (t *tools) buildDesk(ctx context.Context, dir string) error {
	t.desk = filepath.Join(dir, "renewals-desk")
	return buildProgram(ctx, t.desk, "github.com/klarna-renewals/renewals/cmd/renewals-desk")
}

func buildProgram(ctx context.Context, binary, pkg string) error {
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
