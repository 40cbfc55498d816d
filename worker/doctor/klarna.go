package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/worker/gate"
)

const (
	// slow is when charges take so long that tries run into their limits on a busy day.
	slow = 5 * time.Second
	// mostAccounts is how many accounts have a line each while all is well with them.
	mostAccounts = 8
)

// examineKlarna sends the canary for every account: the look at a token that cannot exist, which names no customer.
func examineKlarna(ctx context.Context, e *exam) []Finding {
	if len(e.Klarna) == 0 {
		return one(Unseen, "no Klarna account is configured here", "", "run it with the workers' KLARNA_ variables or --config")
	}
	answers := make([][]Finding, len(e.Klarna))
	var asking sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, a := range e.Klarna {
		asking.Go(func() {
			places <- struct{}{}
			answers[i] = e.canary(ctx, a)
			<-places
		})
	}
	asking.Wait()
	all := slices.Concat(answers...)
	bad := slices.DeleteFunc(slices.Clone(all), func(f Finding) bool { return f.Verdict == OK })
	switch {
	case len(e.Klarna) <= mostAccounts:
		return all
	case len(bad) > 0:
		return bad
	}
	return well("%d accounts are let in, and answered 404 to the canary", len(e.Klarna))
}

// canary asks for one account.
func (e *exam) canary(ctx context.Context, a Account) []Finding {
	var certificate chan string
	var until time.Time
	if a.Endpoint.Scheme == "https" {
		certificate = make(chan string, 1)
		go func() {
			by := ""
			by, until = issued(ctx, a.Endpoint.Hostname(), a.Endpoint.Port())
			certificate <- by
		}()
	}
	asked, cancel := context.WithTimeout(ctx, 2*askFor)
	defer cancel()
	began := time.Now()
	_, err := a.Klarna.Token(asked, klarna.NewCustomerToken(gate.CanaryToken))
	took := time.Since(began).Round(time.Millisecond)
	a.Klarna.CloseIdle()
	how := ", " + took.String()
	if certificate != nil {
		if by := <-certificate; by != "" {
			how += fmt.Sprintf(", certificate by %s until %s", by, until.UTC().Format(time.DateOnly))
		}
	}
	return e.judgeCanary(a, err, took, until, how)
}

// judgeCanary says what its answer means, in the worker's terms.
func (e *exam) judgeCanary(a Account, err error, took time.Duration, until time.Time, how string) []Finding {
	name, host := string(a.Name), a.Endpoint.Host
	switch gate.ConditionOf(err) {
	case gate.Unheard:
		return one(Warn, fmt.Sprintf("%s: %s says to wait: %v", name, host, err), "the account's rate is used up, by others with the same merchant ID, too", "lower the account's rate, or see who else asks")
	case gate.Unwell:
		return unwell(name, host, err)
	case gate.Well:
		if answered, ok := errors.AsType[*klarna.Error](err); ok && !answered.HasErrorObject {
			return one(Warn, fmt.Sprintf("%s: %s answers %d as Klarna does not", name, host, answered.StatusCode), "a proxy, or another server, stands where Klarna should", "check the endpoint, and what is on the way to it")
		}
		return one(Warn, fmt.Sprintf("%s: %s answers the canary with %v, not with 404", name, host, err), "this merchant may not look at customer tokens, or not charge them", "ask Klarna to enable recurring payments for it")
	}
	switch {
	case a.Endpoint.Scheme == "http" && !klarna.Loopback(a.Endpoint):
		return one(NotSafe, fmt.Sprintf("%s: %s is asked in the clear", name, host), "the API key and customer tokens can be read on their way", "use an https endpoint")
	case !until.IsZero() && until.Sub(e.Now()) < certificateWarns:
		return one(Warn, fmt.Sprintf("%s: the certificate of %s ends %s", name, host, until.UTC().Format(time.DateTime)), "then nothing is charged; jobs wait", "tell whoever runs that host")
	case took > slow:
		return one(Warn, fmt.Sprintf("%s: %s took %s to answer", name, host, took), "charges take longer than this, and time out at RENEWALS_TRY_TIMEOUT", "look at the network, and at Klarna's status page")
	}
	return well("%s: %s lets this account in%s", name, host, how)
}

// unwell is what keeps the account's jobs from going out.
func unwell(name, host string, err error) []Finding {
	const waits = "the account is not charged while this is so; its jobs wait"
	seen := fmt.Sprintf("%s: %s: %s", name, host, strings.TrimPrefix(fmt.Sprint(err), "get token: "))
	if errors.Is(err, context.DeadlineExceeded) {
		seen = fmt.Sprintf("%s: %s gave no answer in time", name, host)
	}
	switch klarna.ClassOf(err) {
	case klarna.ClassOK:
		return one(NotSafe, fmt.Sprintf("%s: %s knows a token that cannot exist", name, host), "it says yes to everything, so it is not Klarna", "check the endpoint, and what is on the way to it")
	case klarna.ClassNotSent:
		return one(NotSafe, seen, waits, "check the endpoint, name resolution, firewall and certificates; the worker uses no HTTP proxy, whatever HTTPS_PROXY says")
	case klarna.ClassNotEvaluated:
		return one(NotSafe, seen, waits, "check user name, API key and endpoint with the merchant portal, and what stands between")
	}
	return one(Warn, seen, waits, "ask again in a minute; if it stays, see Klarna's status page")
}

// issued is who issued the certificate of a host, and until when it is valid; "" where that could not be seen: then the canary says why.
func issued(ctx context.Context, host, port string) (by string, until time.Time) {
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	conn, err := new(tls.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", until
	}
	defer func() { _ = conn.Close() }()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	by = leaf.Issuer.CommonName
	if len(leaf.Issuer.Organization) > 0 {
		by = leaf.Issuer.Organization[0]
	}
	return by, leaf.NotAfter
}
