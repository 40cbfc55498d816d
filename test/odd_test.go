package test

import (
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// S51: 15 of 500 jobs are refused with an empty 403. The others are charged as if nothing were, and so is whatever comes
// later; nobody is paused, and the odd ones alone wait.
func TestOddRefusalsDisturbNobody(t *testing.T) {
	t.Parallel()
	const jobs, odd, later = 500, 15, 100
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	p := w.start(nil, "work")
	w.awaitWorkers(1)
	tokens := strings.Split("403-bare-"+strings.Repeat(" ok-", (jobs-1)/odd), " ")
	w.fill("default", jobs, 0, tokens...)
	await(t, 30*time.Second, "the others' orders", func() bool { return w.klarna.Simulator.Counts().Orders == jobs-odd })
	w.fill("default", later, jobs+1, "ok-")
	began := time.Now()
	await(t, 10*time.Second, "the later jobs' orders", func() bool { return w.klarna.Simulator.Counts().Orders == jobs-odd+later })
	took := time.Since(began)
	await(t, 10*time.Second, "the odd ones alone", func() bool { return w.left() == odd })
	w.settledOnce(jobs - odd + later)
	if strings.Contains(p.text(), "account paused") {
		t.Error("the account was paused")
	}
	for _, live := range w.workers() {
		if why := live.Accounts["default"].Paused; len(why) > 0 {
			t.Errorf("paused: %v", why)
		}
	}
	counts := w.klarna.Simulator.Counts()
	if canaries := counts.Statuses[404]; canaries == 0 || canaries > counts.Statuses[403]/2 {
		t.Errorf("canaries: %d for %d odd answers", canaries, counts.Statuses[403])
	}
	t.Logf("%d jobs after the odd ones took %s; answers %v", later, took.Round(time.Millisecond), counts.Statuses)
}
