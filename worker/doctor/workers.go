package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// examineWorkers looks at what live workers say of themselves.
func examineWorkers(_ context.Context, e *exam) (found []Finding) {
	live, err := e.workers()
	if err != nil {
		return blind(err)
	}
	found = misaddressed(e)
	if len(live) == 0 {
		return append(found, one(Warn, "no worker is live", "nothing is charged; jobs wait", "start renewals work")...)
	}
	found = append(found, mixed(live)...)
	found = append(found, pauses(live)...)
	var without []string
	for _, a := range e.accounts() {
		if !slices.ContainsFunc(live, func(w topology.Presence) bool { _, ok := w.Accounts[a]; return ok }) {
			without = append(without, string(a))
		}
	}
	if len(without) > 0 {
		found = append(found, Finding{Verdict: Warn, Seen: "no worker serves " + list(without), Why: "its jobs wait", Do: "start a worker with that account"})
	}
	if len(found) > 0 {
		return found
	}
	names, versions := []string{}, map[string]bool{}
	for _, w := range live {
		names = append(names, fmt.Sprintf("%s (up %s)", w.Name, since(e.Now().Sub(w.Started))))
		versions[w.Version] = true
	}
	slices.Sort(names)
	return well("%d live, version %s, the same settings, none paused: %s", len(live), strings.Join(slices.Sorted(maps.Keys(versions)), ", "), list(names))
}

// misaddressed names what the last tokens of subjects are where they are no accounts' names. Where the jobs cannot be seen, that is
// said by other checks.
func misaddressed(e *exam) []Finding {
	o, err := e.overview()
	if err != nil || len(o.Misaddressed) == 0 {
		return nil
	}
	var names []string
	jobs := 0
	for _, m := range o.Misaddressed {
		names, jobs = append(names, m.Account), jobs+m.Jobs
	}
	slices.Sort(names)
	return one(Warn, fmt.Sprintf("%d jobs wait for what no account can be called: %s", jobs, list(slices.Compact(names))),
		"no worker takes them", "have them published under the right account, then remove these (RUNBOOK.md, RenewalsUnservedJobs)")
}

// mixed names what workers disagree on that they should agree on.
func mixed(live []topology.Presence) (found []Finding) {
	values := map[string]map[string][]string{} // of each setting: value to workers
	note := func(setting, value, worker string) {
		if value == "" {
			return // of an earlier version
		}
		if values[setting] == nil {
			values[setting] = map[string][]string{}
		}
		values[setting][value] = append(values[setting][value], worker)
	}
	for _, w := range live {
		note("version", w.Version, w.Name)
		for name, value := range w.Times {
			note(name, value, w.Name)
		}
		for name, a := range w.Accounts {
			note("endpoint of account "+string(name), a.Endpoint, w.Name)
			note("merchant of account "+string(name), a.Merchant, w.Name)
			if a.Endpoint != "" {
				note("rate of account "+string(name), rateText(a.Total), w.Name)
			}
		}
	}
	for _, setting := range slices.Sorted(maps.Keys(values)) {
		if len(values[setting]) < 2 {
			continue
		}
		var parts []string
		for _, value := range slices.Sorted(maps.Keys(values[setting])) {
			workers := values[setting][value]
			slices.Sort(workers)
			parts = append(parts, value+" on "+list(workers))
		}
		f := Finding{Verdict: Warn, Seen: fmt.Sprintf("workers differ in %s: %s", setting, strings.Join(parts, "; ")), Why: "which of them takes a job decides by what it is charged", Do: "give all the same, and restart those that have another"}
		if setting == "version" {
			f.Why, f.Do = "fine during a rollout, not for days", "finish the rollout"
		}
		found = append(found, f)
	}
	return found
}

func rateText(rate float64) string {
	if rate == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%.4g/s", rate)
}

// pauses are those in force, once for all workers that have them.
func pauses(live []topology.Presence) (found []Finding) {
	type pause struct {
		account messages.Account
		reason  string
	}
	who, why := map[pause][]string{}, map[pause]string{}
	for _, w := range live {
		for reason, sentence := range w.Paused {
			who[pause{"", reason}], why[pause{"", reason}] = append(who[pause{"", reason}], w.Name), sentence
		}
		for name, a := range w.Accounts {
			for reason, sentence := range a.Paused {
				who[pause{name, reason}], why[pause{name, reason}] = append(who[pause{name, reason}], w.Name), sentence
			}
		}
	}
	for p, workers := range who {
		what := "account " + string(p.account)
		if p.account == "" {
			what = "every account"
		}
		slices.Sort(workers)
		found = append(found, Finding{Verdict: Warn, Seen: fmt.Sprintf("%s paused %s, %s: %s", list(workers), what, p.reason, why[p]), Why: "its jobs wait", Do: "see deploy/RUNBOOK.md, What status says"})
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Seen, b.Seen) })
	return found
}
