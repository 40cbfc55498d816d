package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// howToSee is what to do about servers that nobody could look at; of the checks that need it the first says so.
const howToSee = "name the monitoring port of each (--nats-monitoring-url http://nats-1:8222,…) or a user of the system account (--system-context); or look at `curl http://SERVER:8222/jsz`: config.sync_always has to be true"

const asForSync = "as fsync says"

// missing is the finding where some of those that hold streams did not tell of themselves.
func (s seenServers) missing(holders []string, do string) []Finding {
	var lost []string
	for _, name := range holders {
		if !slices.Contains(s.names(), name) {
			lost = append(lost, name)
		}
	}
	if len(holders) > 0 && len(lost) == 0 {
		return nil
	}
	seen := "how the servers write to their disks is not known"
	if len(lost) > 0 {
		seen = "nothing was seen of " + strings.Join(lost, ", ")
	}
	if len(s.errs) > 0 {
		seen += " (" + strings.Join(s.errs, "; ") + ")"
	}
	return one(Unseen, seen, "", do)
}

// askServers asks by every way that there is.
func (e *exam) askServers(ctx context.Context) (all seenServers) {
	if e.System != nil {
		all.add(e.pingServers(ctx))
	}
	for _, at := range e.Monitoring {
		s, err := e.monitor(ctx, at)
		if err != nil {
			all.errs = append(all.errs, at.Redacted()+": "+err.Error())
			continue
		}
		all.add([]server{s}, nil)
	}
	if e.System == nil && len(e.Monitoring) == 0 {
		all.add(e.guess(ctx, usualPort), nil)
	}
	return all
}

// add takes in servers that are not there yet.
func (s *seenServers) add(list []server, err error) {
	if err != nil {
		s.errs = append(s.errs, "system account: "+err.Error())
	}
	for _, one := range list {
		if !slices.ContainsFunc(s.list, func(o server) bool { return o.id == one.id }) {
			s.list = append(s.list, one)
		}
	}
}

// The answers of a server that matter here. https://docs.nats.io/running-a-nats-service/nats_admin/monitoring
type (
	varz struct {
		ID      string `json:"server_id"`
		Name    string `json:"server_name"`
		Version string `json:"version"`
	}
	jsz struct {
		ID       string `json:"server_id"`
		Disabled bool   `json:"disabled"`
		Stored   uint64 `json:"storage"`
		Config   struct {
			MaxStore int64         `json:"max_storage"`
			Interval time.Duration `json:"sync_interval"`
			Always   bool          `json:"sync_always"`
		} `json:"config"`
	}
)

// defaultSync is the server's, which it does not name where it is not set.
const defaultSync = 2 * time.Minute

func (j jsz) server(id, name, version string) server {
	s := server{id: id, name: name, version: version, always: j.Config.Always, interval: j.Config.Interval, stored: j.Stored, room: uint64(max(j.Config.MaxStore, 0))}
	if s.interval <= 0 {
		s.interval = defaultSync
	}
	return s
}

// monitor asks a monitoring port.
func (e *exam) monitor(ctx context.Context, at *url.URL) (server, error) {
	var v varz
	var j jsz
	if err := e.get(ctx, at.JoinPath("jsz"), &j); err != nil {
		return server{}, err
	}
	if err := e.get(ctx, at.JoinPath("varz"), &v); err != nil {
		return server{}, err
	}
	if j.Disabled || v.ID == "" || v.ID != j.ID {
		return server{}, errors.New("no NATS server with JetStream")
	}
	return j.server(v.ID, v.Name, v.Version), nil
}

// usualPort is the monitoring port of NATS's own examples.
const usualPort = "8222"

// guess tries a monitoring port beside the connection, and believes it only as the server that is connected to.
func (e *exam) guess(ctx context.Context, port string) []server {
	nc := e.JS.Conn()
	u, err := url.Parse(nc.ConnectedUrl())
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	s, err := e.monitor(ctx, &url.URL{Scheme: "http", Host: net.JoinHostPort(u.Hostname(), port)})
	if err != nil || s.id != nc.ConnectedServerId() {
		return nil
	}
	return []server{s}
}

// pinged is how long after an answer another server may answer.
const pinged = 500 * time.Millisecond

// pingServers asks all servers by the system account.
func (e *exam) pingServers(ctx context.Context) (all []server, err error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answers, err := e.System.SubscribeSync(e.System.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := e.System.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", answers.Subject, []byte("{}")); err != nil {
		return nil, err
	}
	holders := e.holders()
	for {
		wait, done := context.WithTimeout(ctx, pinged)
		m, err := answers.NextMsgWithContext(wait)
		done()
		if err != nil && (len(all) > 0 || ctx.Err() != nil) {
			return all, nil
		}
		if errors.Is(err, nats.ErrNoResponders) || err == nil && m.Header.Get("Status") == "503" {
			return nil, errors.New("nobody answers: is it a user of the system account?")
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if err != nil {
			continue
		}
		var answer struct {
			Server struct {
				ID      string `json:"id"`
				Name    string `json:"name"`
				Version string `json:"ver"`
			} `json:"server"`
			Data *jsz `json:"data"`
		}
		if json.Unmarshal(m.Data, &answer) == nil && answer.Data != nil && !answer.Data.Disabled {
			all = append(all, answer.Data.server(answer.Server.ID, answer.Server.Name, answer.Server.Version))
		}
		if len(holders) > 0 && (seenServers{list: all}).missing(holders, "") == nil {
			return all, nil
		}
	}
}

// maxAnswer is more than any answer that is read here, in bytes: the rules of a large Prometheus.
const maxAnswer = 16 << 20

// get reads a JSON document. Its errors carry no URL, which may hold a password.
func (e *exam) get(ctx context.Context, at *url.URL, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return errors.New("no URL that can be asked")
	}
	answer, err := e.HTTP.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into); err != nil {
		return errors.New("the answer is not what it should be: no JSON that fits")
	}
	return nil
}
