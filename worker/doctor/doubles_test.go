package doctor

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// A monitor is a server's monitoring port, which can be made to tell of another server than there is.
type monitor struct {
	at *url.URL
	mu sync.Mutex
	in map[string]string // what it says, and what in place of that
}

func newMonitor(t *testing.T, b *natsd.Server) *monitor {
	t.Helper()
	m := &monitor{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := http.Get("http://" + b.MonitorAddr().String() + r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		text, _ := io.ReadAll(answer.Body)
		m.mu.Lock()
		defer m.mu.Unlock()
		for was, is := range m.in {
			text = []byte(strings.ReplaceAll(string(text), was, is))
		}
		_, _ = w.Write(text)
	}))
	t.Cleanup(s.Close)
	m.at, _ = url.Parse(s.URL)
	return m
}

func (m *monitor) says(in map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.in = in
}

// prometheus answers as Prometheus does, from what a test puts into it.
type prometheus struct {
	at       *url.URL
	mu       sync.Mutex
	rules    []map[string]any
	managers []map[string]any
	up       map[string]string // instance to value
}

func newPrometheus(t *testing.T) *prometheus {
	t.Helper()
	p := &prometheus{}
	p.reset()
	mux := http.NewServeMux()
	data := func(path string, data func(r *http.Request) any) {
		mux.HandleFunc("GET /prefix/api/v1/"+path, func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			defer p.mu.Unlock()
			_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data(r)})
		})
	}
	data("rules", func(*http.Request) any {
		return map[string]any{"groups": []map[string]any{{"name": "renewals", "rules": p.rules}}}
	})
	data("alertmanagers", func(*http.Request) any { return map[string]any{"activeAlertmanagers": p.managers} })
	data("query", func(r *http.Request) any {
		result := []map[string]any{}
		if r.URL.Query().Get("query") == `up{job="renewals"}` {
			for instance, value := range p.up {
				result = append(result, map[string]any{"metric": map[string]string{"instance": instance}, "value": []any{1.5, value}})
			}
		}
		return map[string]any{"resultType": "vector", "result": result}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.at, _ = url.Parse(s.URL)
	p.at = p.at.JoinPath("prefix")
	return p
}

// reset makes everything well.
func (p *prometheus) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
	for _, name := range testAlerts {
		p.rules = append(p.rules, map[string]any{"name": name, "type": "alerting", "health": "ok", "state": "inactive"})
	}
	p.managers = []map[string]any{{"url": "http://alertmanager:9093/api/v2/alerts"}}
	p.up = map[string]string{"w1:9464": "1", "w2:9464": "1"}
}

func (p *prometheus) change(how func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	how()
}
