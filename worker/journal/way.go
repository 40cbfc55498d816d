package journal

import (
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// A Way says whether a charge may be sent, as far as the periods beside it are concerned. Its zero value is free.
type Way struct {
	By      messages.Renewal        // the period that stands in it
	Key     messages.IdempotencyKey // of that period's last claim
	DueAt   time.Time               // of that period
	Blocked bool                    // for good: that period is charged, or may be; else its claim is open, and was there first
	First   bool                    // it has stood there ever since the claim was made: nobody who looked has sent anything under it
}

// Free says that nothing stands in it.
func (w Way) Free() bool { return w.By == "" }
