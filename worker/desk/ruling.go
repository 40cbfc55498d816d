package desk

import (
	"fmt"
	"strings"
)

// Verdict is what an operator says became of an unresolved charge or capture.
type Verdict string

const (
	VerdictPaid        Verdict = "paid"         // of a charge: Klarna has an order for it
	VerdictNotCharged  Verdict = "not_charged"  // of a charge: Klarna has none, or one that came to nothing
	VerdictCaptured    Verdict = "captured"     // of a capture: Klarna has it
	VerdictNotCaptured Verdict = "not_captured" // of a capture: Klarna has none
)

// ParseVerdict reads a verdict as people write it, in a table or like the flag: not-charged, --paid.
func ParseVerdict(text string) (Verdict, error) {
	v := Verdict(strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(strings.TrimSpace(text), "--")), "-", "_"))
	switch v {
	case VerdictPaid, VerdictNotCharged, VerdictCaptured, VerdictNotCaptured:
		return v, nil
	}
	return "", fmt.Errorf("%.40q, expected paid or not_charged of a charge, captured or not_captured of a capture", text)
}

// Flag is the verdict as the flag of a command.
func (v Verdict) Flag() string { return "--" + strings.ReplaceAll(string(v), "_", "-") }

// OfCapture says that it is one about a capture.
func (v Verdict) OfCapture() bool { return v == VerdictCaptured || v == VerdictNotCaptured }

// Ruling is a verdict with what it names.
type Ruling struct {
	Verdict   Verdict
	OrderID   string // of paid: the order; of a capture, where given, the order that it is of
	CaptureID string // of captured
	// Captured, of paid, says whether the money is captured; nil: nothing is said.
	Captured *bool
}

// CheckID says what is wrong with an id of Klarna's that a person typed: nothing of it can be one.
func CheckID(id string) error {
	if len(id) > 255 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%.80q, expected an id of Klarna's: at most 255 characters without spaces", id)
	}
	return nil
}

// Same says that two rulings come to the same.
func (r Ruling) Same(as Ruling) bool {
	if r.Verdict != as.Verdict {
		return false
	}
	return r.Verdict == VerdictPaid && r.OrderID == as.OrderID || r.Verdict == VerdictCaptured && r.CaptureID == as.CaptureID ||
		r.Verdict == VerdictNotCharged || r.Verdict == VerdictNotCaptured
}

// Made is what a ruling says Klarna has made: the order, or the capture; "" where it says that there is none.
func (r Ruling) Made() string {
	switch r.Verdict {
	case VerdictPaid:
		return r.OrderID
	case VerdictCaptured:
		return r.CaptureID
	}
	return ""
}
