package klarnasim

import (
	"time"
)

// Options of a [Simulator]. The zero value answers at once, accepts any credentials and limits nothing.
type Options struct {
	// Addr to listen on, for [Start]. Default 127.0.0.1:0, any free port.
	Addr string
	// Seed of everything random: order ids, latencies, Faults. The same seed and keys give the same faults.
	Seed uint64
	// Now is the clock to which Advance adds. Default time.Now.
	Now func() time.Time
	// KeepBodies keeps the bytes of every order's body in the books. A run of a million orders is better off without.
	KeepBodies bool
	// Log, where set, is told of every request once it is answered. It is called concurrently.
	Log func(Exchange)

	// What follows can be changed while the simulator runs, see [Simulator.Change].

	// Latency before each answer; the median, where LatencyP99 is set. Default none.
	Latency time.Duration
	// LatencyP99 is the 99th percentile of a log-normal latency. Default 0: every answer takes Latency.
	LatencyP99 time.Duration
	// Rate is the number of requests per second and user name before 429. Default 0: no limit, and no X-Ratelimit headers.
	Rate int
	// Username and Password are checked where set. A request without Basic credentials is always answered 401.
	Username, Password string
	// Faults is the share of tries, 0 to 1, that fail at random: 429, 5xx with and without an error object, cut
	// connections, unreadable answers, before and after the order or the capture is made, and 5xx and 408 that come LateBy
	// before it is made. Default 0.
	Faults float64
	// LateBy is how long Klarna is still at work on a request that it has answered so. Default 30 s; Klarna gives up at 59 s.
	LateBy time.Duration
	// Outage is the beginning of a token, like "503" or "cut", that every request suffers in addition, reading a token
	// included: "404-bare" is a proxy that knows no path, "308" a host that has moved. Default "".
	Outage string
	// PendingFor is how long pending-accept- and pending-reject- stay PENDING. Default 2 s.
	PendingFor time.Duration
	// AuthorizedFor is how long an order without auto_capture can be captured, from when it was made. Default 28 days, as
	// with Klarna: https://docs.klarna.com/order-management/manage-orders-with-the-api/refund-and-extend-orders/extend-order-authorization/
	AuthorizedFor time.Duration
	// ForgetErrors evaluates a refused order or capture again when its key is repeated, instead of repeating the refusal. Klarna
	// documents neither.
	ForgetErrors bool
	// StrictSchema refuses also what Klarna's published schema does not allow and Klarna is not known to refuse: optional texts
	// of another length, country codes of another form, totals that are off by a rounded unit price.
	StrictSchema bool
	// Report is the form of CSV settlement reports.
	Report ReportForm
	// ConflictInFlight answers 409 to a second request whose key is at work, instead of making it wait. Klarna documents
	// neither.
	ConflictInFlight bool
}

// Exchange is one request and what was answered.
type Exchange struct {
	Method           string
	Path             string // without the customer token
	TokenFingerprint string
	IdempotencyKey   string
	Status           int    // 0: cut without an answer
	ErrorCode        string // of Klarna's error object, "" without one
	OrderID          string
	CaptureID        string
}

// KeyValidity is how long a key is remembered.
// https://docs.klarna.com/api/escalation-and-retry-policy
const KeyValidity = 24 * time.Hour

func (o Options) withDefaults() *Options {
	if o.PendingFor == 0 {
		o.PendingFor = 2 * time.Second
	}
	if o.LateBy == 0 {
		o.LateBy = 30 * time.Second
	}
	if o.AuthorizedFor == 0 {
		o.AuthorizedFor = 28 * 24 * time.Hour
	}
	return &o
}
