package doctor

import (
	"context"
	"fmt"
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
