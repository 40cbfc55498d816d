package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// examineUnresolved asks how long customers have been left with a charge that nobody knows of.
func examineUnresolved(_ context.Context, e *exam) []Finding {
	o, err := e.overview()
	if err != nil {
		return blind(err)
	}
	var late []string
	var oldest time.Duration
	for _, u := range o.Unresolved {
		age := o.At.Sub(u.At)
		if oldest = max(oldest, age); age > e.UnresolvedFor {
			late = append(late, string(u.SubscriptionID)+"/"+string(u.Period))
		}
	}
	if len(late) > 0 || o.NotVisited > 0 {
		return one(Warn, fmt.Sprintf("%d renewals have been unresolved for more than %s, the oldest for %s", len(late)+o.NotVisited, short(e.UnresolvedFor), since(oldest)),
			"their customers may have been charged, and are charged no more", "look each up at Klarna, then renewals resolve")
	}
	if n := len(o.Unresolved); n > 0 {
		return well("%d, the oldest for %s", n, since(oldest))
	}
	return well("none")
}

// examineDead counts the jobs that no machine can finish.
func examineDead(_ context.Context, e *exam) []Finding {
	if err := e.streams()[messages.StreamDead].err; err != nil {
		return blind(err)
	}
	if n := e.streams()[messages.StreamDead].info.State.Msgs; n > 0 {
		return one(Warn, fmt.Sprintf("%d wait", n), "nobody is charged for them", "renewals dead list says what each needs")
	}
	return well("none")
}

// examineBreaks counts where Klarna's settlements differ from the journal and nobody has closed it.
func examineBreaks(_ context.Context, e *exam) []Finding {
	o, err := e.overview()
	if err != nil {
		return blind(err)
	}
	n, kinds := 0, map[string]int{}
	for _, a := range o.Accounts {
		for kind, of := range a.Breaks {
			n, kinds[string(kind)] = n+of, kinds[string(kind)]+of
		}
	}
	if n == 0 && o.NewsUnread == 0 {
		return well("none")
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	if o.NewsUnread > 0 {
		parts = append(parts, fmt.Sprintf("%d messages of %s were not read", o.NewsUnread, messages.StreamNews))
	}
	return one(Warn, strings.Join(parts, ", "), "Klarna's settlements have the money elsewhere than the journal", "renewals-desk breaks says which; once each is dealt with, renewals-desk close")
}
