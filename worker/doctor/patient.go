package doctor

import (
	"net/http"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// An Account is a Klarna account as it is configured here.
type Account struct {
	Name     messages.Account
	Klarna   *klarna.Client
	Endpoint *url.URL
}

// A Patient is the deployment, and whoever looks at it.
type Patient struct {
	// JS is the connection, as a user of NATS who has one of the roles.
	JS jetstream.JetStream
	// InClear says why what goes over it can be read on its way, "" where it cannot.
	InClear string
	// Names are the accounts to look for in NATS. Default: those that workers serve or that have jobs.
	Names []messages.Account
	// Klarna are the accounts whose credentials are here.
	Klarna []Account
	// LeaseNeeded is the shortest ack_wait that the configured times allow.
	LeaseNeeded time.Duration
	// Retention is how long the journal is meant to remember; 0: not said.
	Retention time.Duration
	// UnresolvedFor is from which age on a renewal has been unresolved for too long.
	UnresolvedFor time.Duration
	// Monitoring are the monitoring ports of the NATS servers. Default: port 8222 of the one that is connected to, if it answers there.
	Monitoring []*url.URL
	// System is a connection as a user of NATS's system account; nil: none.
	System *nats.Conn
	// Prometheus that scrapes the workers; nil: not said. Alerts are the names of the rules that it should have.
	Prometheus *url.URL
	Alerts     []string
	// HTTP asks monitoring ports and Prometheus. Default: [http.DefaultClient].
	HTTP *http.Client
	// Version of this program.
	Version string
	// Now is this machine's clock. Default: time.Now.
	Now func() time.Time
}
