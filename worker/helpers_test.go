package worker

import (
	"time"

	"github.com/klarna-renewals/renewals/klarna"
)

var midday = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// turnedDown is Klarna's answer with a status, and an object of its own where there is a code.
func turnedDown(status int, code string) error {
	return &klarna.Error{StatusCode: status, Code: code, HasErrorObject: code != ""}
}
