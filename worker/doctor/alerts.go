package doctor

import (
	"context"
	"fmt"
	"net/url"
	"slices"
)

// The answers of Prometheus that matter here. https://prometheus.io/docs/prometheus/latest/querying/api/
type (
	rules struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Name, Type, Health, State string
				} `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	samples struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"` // time, value as text
			} `json:"result"`
		} `json:"data"`
	}
	managers struct {
		Data struct {
			Active []struct {
				URL string `json:"url"`
			} `json:"activeAlertmanagers"`
		} `json:"data"`
	}
)

// examineAlerts asks Prometheus whether somebody would hear of trouble.
func examineAlerts(ctx context.Context, e *exam) (found []Finding) {
	if e.Prometheus == nil {
		return one(Unseen, "whether the alerts are loaded is not known", "", "name the Prometheus that scrapes the workers (--prometheus http://prometheus:9090); the rules are in deploy/prometheus/rules.yaml")
	}
	var r rules
	if err := e.get(ctx, e.Prometheus.JoinPath("api/v1/rules"), &r); err != nil {
		return one(Unseen, fmt.Sprintf("%s does not tell its rules: %v", e.Prometheus.Redacted(), err), "", "check --prometheus")
	}
	loaded, firing := map[string]bool{}, []string{}
	for _, g := range r.Data.Groups {
		for _, rule := range g.Rules {
			if !slices.Contains(e.Alerts, rule.Name) {
				continue
			}
			loaded[rule.Name] = true
			if rule.Health == "err" {
				found = append(found, Finding{Verdict: NotSafe, Seen: "rule " + rule.Name + " cannot be evaluated", Why: "it never fires", Do: "see Prometheus's page of rules, and load deploy/prometheus/rules.yaml as it is"})
			}
			if rule.State == "firing" {
				firing = append(firing, rule.Name)
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(e.Alerts), func(name string) bool { return loaded[name] })
	if len(missing) > 0 {
		found = append(found, Finding{Verdict: NotSafe, Seen: fmt.Sprintf("%d of %d rules are not loaded: %s", len(missing), len(e.Alerts), list(missing)),
			Why: "nobody hears of what they are about", Do: "load deploy/prometheus/rules.yaml in Prometheus"})
	}
	found = append(found, e.receivers(ctx)...)
	targets, down := e.targets(ctx)
	if found = append(found, down...); len(found) > 0 {
		return found
	}
	if len(firing) > 0 {
		return one(Warn, "firing now: "+list(slices.Compact(slices.Sorted(slices.Values(firing)))), "somebody should be at it", "see deploy/RUNBOOK.md, Alerts")
	}
	return well("%d rules loaded, none fires, %d targets are up, and there is an Alertmanager", len(loaded), targets)
}

// receivers says whether what fires goes anywhere.
func (e *exam) receivers(ctx context.Context) []Finding {
	var m managers
	if err := e.get(ctx, e.Prometheus.JoinPath("api/v1/alertmanagers"), &m); err == nil && len(m.Data.Active) == 0 {
		return one(NotSafe, "Prometheus knows no Alertmanager", "alerts fire, and nobody hears of it", "configure alerting.alertmanagers in Prometheus")
	}
	return nil
}

// targets counts the workers that Prometheus sees, and says which it should see and does not.
func (e *exam) targets(ctx context.Context) (up int, found []Finding) {
	query := e.Prometheus.JoinPath("api/v1/query")
	query.RawQuery = url.Values{"query": {`up{job="renewals"}`}}.Encode()
	var s samples
	if err := e.get(ctx, query, &s); err != nil {
		return 0, one(Unseen, fmt.Sprintf("%s does not tell its targets: %v", e.Prometheus.Redacted(), err), "", "check --prometheus")
	}
	var down []string
	for _, target := range s.Data.Result {
		if fmt.Sprint(target.Value[1]) == "1" {
			up++
		} else {
			down = append(down, target.Metric["instance"])
		}
	}
	if len(down) > 0 {
		slices.Sort(down)
		found = append(found, Finding{Verdict: Warn, Seen: "Prometheus does not reach " + list(down), Why: "their numbers are missing in every alert", Do: "see Prometheus's page of targets"})
	}
	live, err := e.workers()
	if err == nil && up+len(down) < len(live) {
		found = append(found, Finding{Verdict: NotSafe, Seen: fmt.Sprintf("%d workers are live, Prometheus has %d targets of job %s", len(live), up+len(down), "renewals"),
			Why: "of what the others see nobody hears", Do: "scrape them as deploy/prometheus/prometheus.yaml does; the job's name must be renewals"})
	}
	return up, found
}
