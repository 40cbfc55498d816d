package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/klarna-renewals/renewals/worker"
)

// A timelapse is a clock that worker and simulator share. It leaps: between two leaps time passes as everywhere, so that leases,
// timeouts and whatever the broker measures fit each other as ever, and over all it runs speed times as fast. A worker takes a leap for
// what it is, a clock that was set: it sends nothing until that was compared again, a second later.
type timelapse struct {
	speed float64 // 1: it does not leap
	began time.Time
	ahead atomic.Int64
}

const leapEvery = 5 * time.Second

func newTimelapse(speed float64) *timelapse { return &timelapse{speed: speed, began: time.Now()} }

func (c *timelapse) lead() time.Duration { return time.Duration(c.ahead.Load()) }

func (c *timelapse) now() time.Time { return time.Now().Add(c.lead()) }

// set makes a worker go by the clock.
func (c *timelapse) set(o *worker.Options) {
	o.Now, o.Ahead = c.now, c.lead
	o.Monotonic = func() time.Duration { return time.Since(c.began) + c.lead() }
}

// run leaps until ctx ends, never past the moment that next names, and not while that has come or is zero: something is under way then.
// What that costs in speed is made good by the leaps that follow.
func (c *timelapse) run(ctx context.Context, next func() time.Time) {
	began, tick := time.Now(), time.NewTicker(leapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.leap(time.Since(began), next())
		}
	}
}

// leap catches up with what should have passed while elapsed did.
func (c *timelapse) leap(elapsed time.Duration, next time.Time) {
	behind := (c.speed-1)*float64(elapsed) - float64(c.lead())
	if left := float64(next.Sub(c.now())); !next.IsZero() && left > 0 && behind > 0 {
		c.ahead.Add(int64(min(behind, left)))
	}
}
