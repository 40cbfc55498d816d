package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/klarna-renewals/renewals/worker/journal"
)

// clock compares what another clock showed between sent and now.
func (e *exam) clock(whose string, sent, shown time.Time) clockAnswer {
	took := e.Now().Sub(sent)
	if shown.IsZero() {
		return clockAnswer{}
	}
	return clockAnswer{whose: whose, ahead: sent.Add(took / 2).Sub(shown), give: took / 2, seen: true}
}

// clockWarns is from where on time synchronisation is not at work.
const clockWarns = 5 * time.Second

// examineClock compares this machine's clock with those of the servers that lead streams, and with the workers', whose
// entries carry both their own time and the broker's. Leases and windows go by the broker's; where a worker is too far off, it sends nothing.
func examineClock(_ context.Context, e *exam) []Finding {
	var worst, least clockAnswer
	for _, a := range e.streams() {
		if !a.seen {
			continue
		}
		if !worst.seen || a.surely() > worst.surely() {
			worst = a.clockAnswer
		}
		if !least.seen || a.give < least.give {
			least = a.clockAnswer
		}
	}
	if !worst.seen {
		return one(Unseen, "no stream could be asked for the broker's time", "", "")
	}
	found := worst.judge("this machine's clock", "the broker's")
	if live, err := e.workers(); err == nil {
		for _, w := range live {
			if w.At.IsZero() || w.Stored.IsZero() {
				continue
			}
			// An entry is stored a moment after it was stamped; how long a moment nobody knows.
			its := clockAnswer{whose: w.Name, ahead: w.At.Sub(w.Stored), give: time.Second, seen: true}
			found = append(found, its.judge("the clock of worker "+w.Name, "the broker's")...)
		}
	}
	if len(found) > 0 {
		return found
	}
	return well("this machine's clock is %s the broker's (±%s)", apart(least.ahead), least.give.Round(100*time.Microsecond))
}

// judge is nil where the clocks agree.
func (c clockAnswer) judge(whose, other string) []Finding {
	seen := fmt.Sprintf("%s is %s %s", whose, apart(c.ahead), other)
	if c.whose != "" && other == "the broker's" && whose == "this machine's clock" {
		seen += " on " + c.whose
	}
	switch {
	case c.surely() > journal.MaxSkew:
		return one(NotSafe, seen, fmt.Sprintf("at most %s is safe: a worker here sends nothing", short(journal.MaxSkew)), "mend time synchronisation (chrony, systemd-timesyncd) on whichever of the two is wrong")
	case c.surely() > clockWarns:
		return one(Warn, seen, fmt.Sprintf("time is not synchronised, and past %s nothing is sent", short(journal.MaxSkew)), "mend time synchronisation (chrony, systemd-timesyncd) on whichever of the two is wrong")
	}
	return nil
}

func apart(ahead time.Duration) string {
	text := ahead.Abs().Round(time.Millisecond).String()
	if ahead.Abs() < time.Millisecond {
		text = ahead.Abs().Round(time.Microsecond).String()
	}
	if ahead < 0 {
		return text + " behind"
	}
	return text + " ahead of"
}
