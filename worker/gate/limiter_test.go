package gate

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
)

// S27: a Klarna that says to come back in an hour is asked again after a minute,
// by one request, and is shown to take none for as long as that lasts.
func TestRetryAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100)
		l.observe(klarna.RateLimit{}, true, time.Hour)
		if ok, longer := l.Wait(t.Context(), 5*time.Second); ok || longer != time.Minute {
			t.Errorf("wait = %t, %s; want none for a minute", ok, longer)
		}
		if why := l.Closed(); !strings.Contains(why, "00:01:00") {
			t.Errorf("closed = %q, want the time when it is asked again", why)
		}
		l.observe(klarna.RateLimit{}, false, 0) // to what was asked before
		if l.Closed() == "" {
			t.Error("opened by an answer from before")
		}
		for range 2 {
			<-time.After(time.Minute)
			if l.Closed() != "" || l.turns(time.Second) != 1 {
				t.Errorf("after a minute: closed %q, %d turns; want one request to ask", l.Closed(), l.turns(time.Second))
			}
			asked := 0
			for range 10 {
				if ok, _ := l.Wait(t.Context(), patience/2); ok {
					asked++
				}
			}
			if asked != 1 {
				t.Errorf("%d requests asked whether it is over, want 1", asked)
			}
			l.observe(klarna.RateLimit{}, true, time.Hour)
		}
		<-time.After(time.Minute)
		l.Wait(t.Context(), 0)
		l.observe(klarna.RateLimit{}, false, 0)
		for range 10 {
			if ok, _ := l.Wait(t.Context(), time.Second); !ok {
				t.Error("still closed after an answer")
			}
		}
		if n := l.turns(time.Second); n != 100 {
			t.Errorf("turns in a second: %d, want 100", n)
		}
	})
}

// S27: waiting for what others are told takes no longer than was agreed.
func TestWaitsNoLongerThanAgreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1)
		l.observe(klarna.RateLimit{}, true, 3*time.Second)
		began := time.Now()
		ok, _ := l.Wait(t.Context(), 5*time.Second)
		if took := time.Since(began); !ok || took != 3*time.Second {
			t.Errorf("wait = %t after %s, want a turn after 3 s", ok, took)
		}
		if ok, longer := l.Wait(t.Context(), time.Second/2); ok || longer != time.Second {
			t.Errorf("wait = %t, %s; want to be told a second", ok, longer)
		}
	})
}

// TestRefusedBeforeItsTurn: who waits for a turn when Klarna says to wait has none.
func TestRefusedBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(10)
		var before, after atomic.Int64
		var all sync.WaitGroup
		refused := make(chan struct{})
		for range 20 {
			all.Go(func() {
				if ok, _ := l.Wait(t.Context(), 5*time.Second); !ok {
					return
				}
				select {
				case <-refused:
					after.Add(1)
				default:
					before.Add(1)
				}
			})
		}
		Sleep(t.Context(), 250*time.Millisecond)
		l.Observe(klarna.RateLimit{}, &klarna.Error{StatusCode: http.StatusTooManyRequests, RetryAfter: time.Minute})
		close(refused)
		all.Wait()
		if before.Load() != 3 || after.Load() != 0 {
			t.Errorf("%d had their turn before Klarna said to wait, %d after, want 3 and 0", before.Load(), after.Load())
		}
		Sleep(t.Context(), time.Minute)
		if ok, _ := l.Wait(t.Context(), 0); !ok {
			t.Error("nobody asks once the minute is over")
		}
	})
}
