package dunning

import (
	"fmt"
	"slices"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// Schedule says when the attempts after the first are suggested.
type Schedule struct {
	// Days after the first attempt, ascending, 1 to 100: Days[0] is for attempt 2. Empty: there is no second attempt.
	Days []int `json:"days"`
	// MaxAttempts counts the first one in: 1 to len(Days)+1.
	MaxAttempts int `json:"max_attempts"`
}

// Policy is an account's retry policy. The journal carries the policy that was in force at a renewal's first attempt for
// the whole chain of attempts, so its JSON form is a stored format: fields are added, never renamed.
//
// Klarna publishes no schedule: its guide says to retry on one's own
// (https://docs.kustom.co/v3/checkout/use-cases/recurring).
type Policy struct {
	SoftDecline    Schedule `json:"soft_decline"`
	CustomerAction Schedule `json:"customer_action"`
}

// maxDay keeps the last suggested attempt inside the journal's memory: a period whose due_at is older than the
// journal's age (120 days) less a week is refused as too old.
const maxDay = 100

// DefaultPolicy is 1, 3, 5 and 7 days, five attempts in all, after a soft decline, and 3 and 7 days, three attempts,
// where the customer has to act first. The journal leaves it out: changed, it would change for chains of attempts that are under way.
func DefaultPolicy() Policy {
	return Policy{
		SoftDecline:    Schedule{Days: []int{1, 3, 5, 7}, MaxAttempts: 5},
		CustomerAction: Schedule{Days: []int{3, 7}, MaxAttempts: 3},
	}
}

// Equal says that two policies suggest the same.
func (p Policy) Equal(o Policy) bool {
	return p.SoftDecline.equal(o.SoftDecline) && p.CustomerAction.equal(o.CustomerAction)
}

func (s Schedule) equal(o Schedule) bool {
	return s.MaxAttempts == o.MaxAttempts && slices.Equal(s.Days, o.Days)
}

// Validate reports the first setting that is out of its range, by its JSON path.
func (p Policy) Validate() error {
	if err := p.SoftDecline.validate("soft_decline"); err != nil {
		return err
	}
	return p.CustomerAction.validate("customer_action")
}

func (s Schedule) validate(path string) error {
	last := 0
	for i, day := range s.Days {
		if day <= last || day > maxDay {
			return fmt.Errorf("%s.days[%d]: %d, expected ascending days from 1 to %d", path, i, day, maxDay)
		}
		last = day
	}
	if s.MaxAttempts < 1 || s.MaxAttempts > len(s.Days)+1 {
		return fmt.Errorf("%s.max_attempts: %d, expected 1 to %d, the first attempt and one for each of the days", path, s.MaxAttempts, len(s.Days)+1)
	}
	return nil
}

// Next suggests when the attempt that follows attempt (1 is the first) is made, after a refusal of category c; first is
// the time of the first attempt. ok is false and final true where no further one is suggested: the refusal is not
// retryable, the category has no schedule, or the schedule is used up.
//
// A day is 24 hours and the answer is in UTC: the suggestion keeps the first attempt's time of day there and moves by
// an hour on a local clock when that changes to or from daylight saving. Counting from the first attempt keeps a late
// attempt from pushing the rest of the chain; a slot that has passed by the time it is suggested means now.
func (p Policy) Next(c messages.Category, retryable bool, attempt int64, first time.Time) (next time.Time, ok bool, final bool) {
	var s Schedule
	switch c {
	case messages.CategorySoftDecline:
		s = p.SoftDecline
	case messages.CategoryCustomerAction:
		s = p.CustomerAction
	}
	attempt = max(attempt, 1)
	if !retryable || attempt >= int64(s.MaxAttempts) || attempt > int64(len(s.Days)) {
		return time.Time{}, false, true
	}
	return first.UTC().Add(time.Duration(s.Days[attempt-1]) * 24 * time.Hour), true, false
}
