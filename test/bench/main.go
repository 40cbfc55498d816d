//go:build linux

// Command bench measures the worker beside two loops that keep none, or almost none, of its promises. Broker, simulator and
// workers are processes of their own on one machine, each run begins with an empty broker, and each ends with an audit that
// every job has one order and one result.
//
//	make bench                 everything but memory, in rounds whose medians count; under 8 minutes
//	BENCH=quick make bench     one round of less, and a small backlog; under a minute
//	BENCH=memory make bench    one worker drains a million jobs; at most 15 minutes
//	BENCH_ONLY=300 make bench  only the runs whose name holds 300; BENCH_ROUNDS=5 for other than three rounds
//
// It prints tables and writes them with all figures to bench.json and bench.md in bin, or in the directory that BENCH_OUT names;
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
	"growth": func([]string) error { return growth() },
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
		if r.Runs, err = interleaved(ctx, t, dir, quick, rounds, p); err != nil {
			return r, err
		}
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
	rounds = 3
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
	case mode == "quick" && wanted("draining"):
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

// interleaved measures every setup once in each round, so that a slow minute of the machine hits all alike, and every other
// round backwards, so that a machine that grows slower does not favour whoever comes first.
func interleaved(ctx context.Context, t tools, dir string, quick bool, rounds int, p *progress) ([]measured, error) {
	try := func(s setup) (figures, error) {
		f, err := measure(ctx, t, filepath.Join(dir, "run"), s, p.follow(s.String()))
		if err != nil {
			return f, fmt.Errorf("%s: %w", s, err)
		}
		return f, nil
	}
	// How much fits into a run, and how large the worker's records are, is found with one that does not count.
	first, err := try(setup{Group: "how fast is this machine", Who: "renewals", Workers: 1, Accounts: 1, Hands: fastHands, Light: true, Replicas: 1, Jobs: 1500})
	if err != nil {
		return nil, err
	}
	t.records = first.Records
	var runs []measured
	for _, s := range setups(quick, first.Rate) {
		if wanted(s.String()) {
			runs = append(runs, measured{Setup: s})
		}
	}
	p.expect(rounds * len(runs))
	for round := range rounds {
		for n := range runs {
			if round%2 == 1 {
				n = len(runs) - 1 - n
			}
			f, err := try(runs[n].Setup)
			if err != nil {
				return nil, err
			}
			runs[n].Rounds = append(runs[n].Rounds, f)
			p.done(fmt.Sprintf("%s: %s a second", runs[n].Setup, grouped(int(f.Rate))))
		}
	}
	for n := range runs {
		runs[n].Median = medians(runs[n].Rounds)
	}
	return runs, nil
}

// wanted says whether a run's name is one of those that are asked for.
func wanted(name string) bool { return strings.Contains(name, os.Getenv("BENCH_ONLY")) }

// build makes the programs of a run.
func build(ctx context.Context, dir string) (tools, error) {
	self, err := os.Executable()
	if err != nil {
		return tools{}, err
	}
	t := tools{renewals: filepath.Join(dir, "renewals"), broker: filepath.Join(dir, "nats-server"), loop: self}
	for binary, pkg := range map[string]string{t.renewals: "github.com/klarna-renewals/renewals/cmd/renewals", t.broker: "github.com/nats-io/nats-server/v2"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
			return t, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return t, nil
}
