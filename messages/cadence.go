package messages

import (
	"strconv"
	"strings"
	"time"
)

// A Cadence is how often a subscription is charged, as Klarna's interval and interval_count: MONTH/1. "" where that could not be read.
type Cadence string

// cadence is the same while an order is read.
type cadence struct {
	interval string
	count    int64
}

func (c cadence) String() string { return "every " + strconv.FormatInt(c.count, 10) + " " + c.interval }

// fact is the cadence as the journal keeps it.
func (c cadence) fact() Cadence {
	switch {
	case c.count == 0:
		return ""
	case c.count == 1 && c.interval == "MONTH":
		return "MONTH/1" // nearly every one
	}
	return Cadence(c.interval + "/" + strconv.FormatInt(c.count, 10))
}

// daysOf an interval, as nearly as whole days can say.
var daysOf = map[string]int64{"DAY": 1, "WEEK": 7, "MONTH": 30, "YEAR": 365}

// Length is how long one lasts, in whole days: a month counts 30, a year 365; 0 where it is not known.
func (c Cadence) Length() time.Duration {
	const longest = 100 * 365
	interval, count, _ := strings.Cut(string(c), "/")
	n, err := strconv.ParseInt(count, 10, 32)
	if err != nil || n < 1 {
		return 0
	}
	return time.Duration(min(daysOf[interval]*n, longest)) * 24 * time.Hour
}
