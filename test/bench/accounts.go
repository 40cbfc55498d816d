//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	accountsStart  = 3 * time.Second
	accountsIdle   = 2.0 // percent of one processor
	accountsScrape = 300 * time.Millisecond
	accountsRSS    = 100_000_000
	accountsLimit  = 5 * time.Minute // for all of it
	scrapes        = 5
)

// A crowd is how many accounts one worker has, and how long it is watched while none of them has a job.
type crowd struct {
	accounts     int
	settle, idle time.Duration
}

// crowded measures what a thousand accounts in one worker take, of which one has a job. A missed bar is printed and no failure.
//
//	make bench-accounts               a thousand; some two minutes
//	BENCH=quick make bench-accounts   a hundred; half a minute
func crowded() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, accountsLimit, fmt.Errorf("not done within %s", accountsLimit))
	defer cancel()
	c := crowd{accounts: 1000, settle: 20 * time.Second, idle: time.Minute}
	if os.Getenv("BENCH") == "quick" {
		c = crowd{accounts: 100, settle: 5 * time.Second, idle: 10 * time.Second}
	}
	site, leave, err := newSite(ctx, "accounts")
	if err != nil {
		return err
	}
	defer leave()
	found, err := c.measure(ctx, site.tools, filepath.Join(site.dir, "accounts"))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n\n%s", site.machine, found.text())
	return os.WriteFile(filepath.Join(site.out, "bench-accounts.md"), []byte(site.machine.String()+"\n\n"+found.markdown()), 0o644)
}

func (c crowd) measure(ctx context.Context, t tools, dir string) (found table, err error) {
	say("%d accounts", c.accounts)
	w, err := open(ctx, t, dir, setup{Group: "accounts", Who: "renewals", Accounts: c.accounts, Hands: c.accounts * fastHands, Replicas: 1, Jobs: 1, Light: true})
	defer w.close()
	if err == nil {
		found, err = w.crowd(ctx, c)
	}
	return found, w.explain(err)
}

func (w *world) crowd(ctx context.Context, c crowd) (table, error) {
	paid := w.results.reached(1)
	if err := publish(ctx, w.js, w.setup, 0, 1, w.results); err != nil {
		return nil, err
	}
	config, err := w.accounts()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	p, err := w.run("renewals", w.tools.renewals, "work", "--config", config, "--ops-addr", loopback(ports[0]))
	if err != nil {
		return nil, err
	}
	w.workers = append(w.workers, p)
	if err := await(ctx, w, paid); err != nil {
		return nil, fmt.Errorf("the first result: %w", err)
	}
	started := time.Since(began)
	say("idle for %s", c.settle+c.idle)
	idle, err := w.idle(ctx, p, c)
	if err != nil {
		return nil, err
	}
	scrape, size, err := w.scrape(ctx, "http://"+loopback(ports[0])+"/metrics")
	if err != nil {
		return nil, err
	}
	_, peak, err := p.memory()
	if err != nil {
		return nil, err
	}
	return table{
		{fmt.Sprintf("%s accounts in one worker", grouped(c.accounts)), "measured", "bar"},
		{"start to the first result", fmt.Sprintf("%.2f s", started.Seconds()), verdict(started, accountsStart)},
		{fmt.Sprintf("idle, of one processor, over %s", c.idle), fmt.Sprintf("%.1f %%", idle), atMost(idle, accountsIdle, "%")},
		{fmt.Sprintf("/metrics, %.1f MB, the slowest of %d", float64(size)/1e6, scrapes), fmt.Sprintf("%.2f s", scrape.Seconds()), verdict(scrape, accountsScrape)},
		{"largest resident set, after all that", fmt.Sprintf("%.0f MB", float64(peak)/1e6), atMost(float64(peak)/1e6, accountsRSS/1e6, "MB")},
	}, w.stopWorkers()
}

func atMost(got, bar float64, unit string) string {
	word := "met"
	if got > bar {
		word = "missed"
	}
	return fmt.Sprintf("≤ %g %s %s", bar, unit, word)
}

// idle is the share of a processor that a worker takes without jobs.
func (w *world) idle(ctx context.Context, p *process, c crowd) (percent float64, err error) {
	if err := await(ctx, w, time.After(c.settle)); err != nil {
		return 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := await(ctx, w, time.After(c.idle)); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return 100 * (after - before).Seconds() / time.Since(began).Seconds(), err
}

// scrape reads the metrics as Prometheus does that takes no compressed text, and gives the longest that it took and how much it was.
func (w *world) scrape(ctx context.Context, url string) (longest time.Duration, size int64, err error) {
	client := http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for range scrapes {
		began := time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, 0, err
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, 0, err
		}
		size, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("read %s: %s", url, response.Status)
		}
		if err != nil {
			return 0, 0, err
		}
		longest = max(longest, time.Since(began))
	}
	return longest, size, nil
}
