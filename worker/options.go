package worker

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// Account is one Klarna merchant account that the worker charges for.
type Account struct {
	Name   messages.Account
	Klarna *klarna.Client
	// Host of the endpoint, for logs, and for workers of earlier versions, which know no more of it.
	Host string
	// Endpoint in the form of [klarna.CanonicalEndpoint] and Merchant, a name that stays the same when the API key is
	// rotated, see [klarna.Merchant]. The journal remembers both: an idempotency key means nothing anywhere else.
	Endpoint, Merchant string
	// Rate is in requests a second; 0: unlimited.
	Rate float64
	// Concurrency is how many charges may be in flight, at least 1. Default: as many as Rate needs while charges take as long
	// as they do, 16 to [MostConcurrency]; 64 without a rate.
	Concurrency int
	// Spacing keeps periods of one subscription apart that are due close together. Default: it does.
	Spacing Spacing
	// Policy suggests when to try again after a refusal. Default [dunning.DefaultPolicy].
	Policy dunning.Policy
	// MinAttemptGap is how long after the last attempt at a renewal the next one is rejected as too soon, unless its job says that the
	// customer has acted; at most a week. Zero: the default, an hour. [NoAttemptGap]: attempts may follow at once.
	MinAttemptGap time.Duration
	// MaxAttempts is how many attempts a renewal may have, 1 to 256. Default 20.
	MaxAttempts int
	// Rules by which its orders are read. Default: the strictest.
	Rules messages.Rules
}

// NoAttemptGap is the [Account.MinAttemptGap] of an account whose attempts may follow each other at once.
const NoAttemptGap time.Duration = -1

const (
	// MostConcurrency is how many charges of an account may be in flight where its [Account.Concurrency] does not say. Its client
	// should keep as many connections.
	MostConcurrency = gate.MostPermits
	// MaxAttemptGap keeps the attempts of a renewal inside the journal's memory: retries are suggested up to 100 days after the first.
	MaxAttemptGap = 7 * 24 * time.Hour
	// MostAttempts is how many attempts an account may allow at most: the journal keeps no more results of one renewal.
	MostAttempts = journal.MaxSettled
)

// Spacing is whether an account keeps periods of one subscription apart that are due close together.
type Spacing string

const (
	SpacingHold Spacing = ""    // a charge waits for the period beside it, and is rejected once that is charged
	SpacingOff  Spacing = "off" // each is charged, whatever is beside it
)

// Options are a worker's settings. Start from [DefaultOptions].
type Options struct {
	// Name of this worker, unique among the live ones; it stands in records and logs.
	Name     string
	Accounts []Account
	// Version of the program, for others to see whether all workers have the same. Default: none is told.
	Version string

	// TryTimeout bounds one HTTP request, body included. Klarna gives up at 59 s
	// itself, so a shorter one abandons live requests. Default 65 s.
	TryTimeout time.Duration
	// TryBudget is how long one delivery goes on trying. Default 30 s.
	TryBudget time.Duration
	// SettleDelay is the pause after a try that was cut or timed out: by then
	// Klarna has finished or dropped it. Default 60 s.
	SettleDelay time.Duration
	// RetryDelays are the pauses between deliveries of an undecided job, ±20 %,
	// the last one repeating. Default 5 s, 1 m, 5 m, 15 m, 1 h, 2 h.
	RetryDelays []time.Duration
	// KeyWindow is how long after the first send an idempotency key is used.
	// Klarna honours one for 24 h. Default 23 h.
	KeyWindow time.Duration
	// ShutdownTimeout is how long tries in flight may take to finish once Run's
	// context has ended. Default 75 s.
	ShutdownTimeout time.Duration
	// Batching says when records are committed in batches. Default [journal.BatchAuto].
	Batching journal.Batching

	Log zerolog.Logger
	// Metrics to count in. Default: some that nobody reads.
	Metrics *Metrics
	// Now is this machine's clock, as people set it. Default time.Now.
	Now func() time.Time
	// Monotonic is the time that has passed, by a clock which nobody sets. Every
	// decision goes by it since the last comparison with the broker's, and by none
	// while it and Now are apart. Default: the process's own.
	Monotonic func() time.Duration
	// Ahead is how far Now and Monotonic are ahead of the broker's clock, for a demonstration that makes time pass. What the broker
	// measures, such as AckWait, delays and the moment at which a parked job fires, passes no faster for it. Default: not at all.
	Ahead func() time.Duration
}

// times are those that workers of the same accounts should agree on, by the names of their settings.
func (o Options) times() map[string]string {
	return map[string]string{
		"try_timeout": o.TryTimeout.String(), "try_budget": o.TryBudget.String(), "settle_delay": o.SettleDelay.String(),
		"key_window": o.KeyWindow.String(), "retry_delays": fmt.Sprint(o.RetryDelays),
	}
}

// DefaultOptions are the settings of the design, without a name or accounts.
func DefaultOptions() Options {
	t := journal.DefaultTiming()
	return Options{
		TryTimeout: t.TryTimeout, TryBudget: t.TryBudget, SettleDelay: t.SettleDelay, RetryDelays: t.RetryDelays, KeyWindow: t.KeyWindow,
		ShutdownTimeout: 75 * time.Second,
		Batching:        journal.BatchAuto,
		Log:             zerolog.Nop(),
		Now:             time.Now,
	}
}

// maxKeyWindow is how long Klarna honours a key.
// https://docs.klarna.com/api/kn/integration-resilience
const maxKeyWindow = 24 * time.Hour

// checked are the settings with their defaults. The error names the first that is off.
func (o Options) checked() (Options, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Monotonic == nil {
		began := time.Now()
		o.Monotonic = func() time.Duration { return time.Since(began) }
	}
	if o.Ahead == nil {
		o.Ahead = func() time.Duration { return 0 }
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	for _, c := range []struct {
		name string
		ok   bool
		want string
		got  any
	}{
		{"name", o.Name != "", "a name that is unique among the workers", o.Name},
		{"accounts", len(o.Accounts) > 0, "at least one account", len(o.Accounts)},
		{"try timeout", o.TryTimeout > 0, "a positive duration", o.TryTimeout},
		{"try budget", o.TryBudget > 0, "a positive duration", o.TryBudget},
		{"settle delay", o.SettleDelay >= 0, "zero or a positive duration", o.SettleDelay},
		{"retry delays", len(o.RetryDelays) > 0 && positive(o.RetryDelays), "one or more positive durations", o.RetryDelays},
		{"key window", o.KeyWindow > 0 && o.KeyWindow < maxKeyWindow, "a positive duration under 24h, for which Klarna honours a key", o.KeyWindow},
		{"shutdown timeout", o.ShutdownTimeout > 0, "a positive duration", o.ShutdownTimeout},
		{"batches", slices.Contains(journal.Batchings(), o.Batching), "one of auto, sync-always, off", o.Batching},
	} {
		if !c.ok {
			return o, fmt.Errorf("%s: found %q, expected %s", c.name, fmt.Sprint(c.got), c.want)
		}
	}
	if err := o.keepsPromise(); err != nil {
		return o, err
	}
	accounts, seen := make([]Account, len(o.Accounts)), map[messages.Account]bool{}
	for i, a := range o.Accounts {
		if seen[a.Name] {
			return o, fmt.Errorf("account %s: named twice", a.Name)
		}
		seen[a.Name] = true
		var err error
		if accounts[i], err = a.checked(); err != nil {
			return o, err
		}
	}
	o.Accounts = accounts
	return o, nil
}

// checked is the account with its defaults.
func (a Account) checked() (Account, error) {
	if _, err := messages.ParseAccount(string(a.Name)); err != nil {
		return a, fmt.Errorf("account: %w", err)
	}
	a.Concurrency = max(a.Concurrency, 0)
	if a.Policy.SoftDecline.MaxAttempts == 0 && a.Policy.CustomerAction.MaxAttempts == 0 {
		a.Policy = dunning.DefaultPolicy()
	}
	if err := a.Policy.Validate(); err != nil {
		return a, fmt.Errorf("account %s: retry policy: %w", a.Name, err)
	}
	standard := journal.DefaultGuards()
	a.MinAttemptGap, a.MaxAttempts = cmp.Or(a.MinAttemptGap, standard.MinAttemptGap), cmp.Or(a.MaxAttempts, int(standard.MaxAttempts))
	switch {
	case a.MinAttemptGap > MaxAttemptGap:
		return a, fmt.Errorf("account %s: min attempt gap: found %s, expected at most %s", a.Name, a.MinAttemptGap, MaxAttemptGap)
	case a.MaxAttempts < 1 || a.MaxAttempts > MostAttempts:
		return a, fmt.Errorf("account %s: max attempts: found %d, expected 1 to %d", a.Name, a.MaxAttempts, MostAttempts)
	}
	return a, nil
}

// guards are what the state machine knows of the account.
func (a Account) guards() journal.Guards {
	return journal.Guards{MinAttemptGap: max(a.MinAttemptGap, 0), MaxAttempts: int64(a.MaxAttempts)}
}

const (
	// klarnaWorks is how long Klarna may work on a request: a try and the delay after it have to outlast that.
	// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
	klarnaWorks = 60 * time.Second
	// safeKeyWindow leaves an hour of Klarna's 24 for clocks, retries and deliveries.
	safeKeyWindow = 23 * time.Hour
)

// keepsPromise refuses settings with which a renewal could be charged twice. A simulator on this machine may be hurried.
func (o Options) keepsPromise() error {
	for _, a := range o.Accounts {
		if a.local() {
			continue
		}
		switch {
		case o.TryTimeout+o.SettleDelay < klarnaWorks:
			return fmt.Errorf("try timeout and settle delay: found %s and %s, expected at least %s together, since Klarna may work on a request of account %s for so long",
				o.TryTimeout, o.SettleDelay, klarnaWorks, a.Name)
		case o.KeyWindow > safeKeyWindow:
			return fmt.Errorf("key window: found %s, expected at most %s, since Klarna forgets a key of account %s after %s", o.KeyWindow, safeKeyWindow, a.Name, maxKeyWindow)
		}
	}
	return nil
}

// local says that the account's requests cannot leave this machine.
func (a Account) local() bool {
	u, err := url.Parse(a.Endpoint)
	return err == nil && klarna.Loopback(u)
}

func positive(ds []time.Duration) bool {
	for _, d := range ds {
		if d <= 0 {
			return false
		}
	}
	return true
}

// timing is what the state machine knows of the settings.
func (o Options) timing() journal.Timing {
	return journal.Timing{TryTimeout: o.TryTimeout, TryBudget: o.TryBudget, SettleDelay: o.SettleDelay, RetryDelays: o.RetryDelays, KeyWindow: o.KeyWindow}
}
