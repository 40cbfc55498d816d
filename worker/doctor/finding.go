package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/worker/topology"
)

// A Verdict is what a check comes to.
type Verdict string

// The verdicts, the worst first.
const (
	NotSafe Verdict = "not_safe" // a promise is not kept, or will not be when something fails that does fail
	Unseen  Verdict = "unseen"   // it cannot be seen from here
	Warn    Verdict = "warn"     // somebody should do something about it, in working hours
	OK      Verdict = "ok"
)

var order = []Verdict{NotSafe, Unseen, Warn, OK}

// A Finding is one line of a report.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Seen    string  `json:"seen"`
	Why     string  `json:"why,omitempty"`
	Do      string  `json:"do,omitempty"`
}

// Count says how many findings came to each verdict.
func Count(all []Finding) map[Verdict]int {
	counts := map[Verdict]int{}
	for _, f := range all {
		counts[f.Verdict]++
	}
	return counts
}

// Blind says that the streams themselves were not seen: nothing that all is well elsewhere makes up for that.
func Blind(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool {
		return f.Verdict == Unseen && (f.Check == "journal" || f.Check == "streams")
	})
}

// Worst is the first of the findings with the worst verdict; ok is false where there are none.
func Worst(all []Finding) (worst Finding, ok bool) {
	for _, v := range order {
		for _, f := range all {
			if f.Verdict == v {
				return f, true
			}
		}
	}
	return worst, false
}

// one is a check's only finding.
func one(v Verdict, seen, why, do string) []Finding {
	return []Finding{{Verdict: v, Seen: seen, Why: why, Do: do}}
}

func well(format string, args ...any) []Finding { return one(OK, fmt.Sprintf(format, args...), "", "") }

// blind is the finding of a check that got no answer.
func blind(err error) []Finding {
	if denied, ok := errors.AsType[*deniedError](err); ok {
		do := "run it as the operator, the monitor or a worker, with the permissions that renewals provision --print-permissions prints"
		if denied.Subscribe {
			do = "set NATS_INBOX_PREFIX to that of the role: _INBOX_operator, _INBOX_monitor or _INBOX_worker"
		}
		return one(Unseen, denied.Error(), "", do)
	}
	if topology.Missing(err) {
		return one(Unseen, "what is to be looked at is missing", "", "run renewals provision")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		return one(Unseen, "no answer in time", "", "look again with more --timeout; if it stays, see whether the stream's leader is up and this user may ask")
	}
	return one(Unseen, err.Error(), "", "")
}

// short writes a duration without the units that are zero: 2m, 1h30m.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []struct{ tail, keep string }{{"m0s", "m"}, {"h0m", "h"}} {
		if n := len(text) - len(zero.tail); n > 0 && text[n:] == zero.tail {
			text = text[:n] + zero.keep
		}
	}
	return text
}

// since is an age as a person says it.
func since(d time.Duration) string {
	if d >= 48*time.Hour {
		return topology.Days(d.Truncate(24 * time.Hour))
	}
	return short(d.Truncate(time.Second))
}
