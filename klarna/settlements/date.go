package settlements

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Dates is how the dates of a file are written. Times of day, where there are any, follow after a space or a T as
// 15:04:05, with or without fractions and zone; without a zone they are UTC, as Klarna says.
type Dates string

// The orders of day, month and year. Any of . / - parts them.
const (
	DatesByForm   Dates = ""           // YYYY-MM-DD or DD.MM.YYYY; with slashes it must be said
	YearMonthDay  Dates = "YYYY-MM-DD" // the default of Klarna's reports, ISO 8601
	DayMonthYear  Dates = "DD-MM-YYYY"
	MonthDayYear  Dates = "MM-DD-YYYY"
	twoDigitsOnly       = "expected a year of four digits"
)

// ParseDates reads the name of an order of day, month and year, parted by anything: DD/MM/YYYY.
func ParseDates(s string) (Dates, error) {
	switch d := Dates(strings.ToUpper(strings.NewReplacer(".", "-", "/", "-").Replace(s))); d {
	case DatesByForm, YearMonthDay, DayMonthYear, MonthDayYear:
		return d, nil
	}
	return "", fmt.Errorf("found %.40q, expected YYYY-MM-DD, DD/MM/YYYY or MM/DD/YYYY", s)
}

var errDayFirst = errors.New("whether the day or the month comes first is unknown")

// parse reads a date. Zero for an empty one.
func (d Dates) parse(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	day, clock, _ := strings.Cut(strings.Replace(text, "T", " ", 1), " ")
	if len(day) != len("2006-01-02") {
		return time.Time{}, fmt.Errorf("found %.40q, expected a date with "+twoDigitsOnly[len("expected "):], text)
	}
	var year, month, date string
	if at := day[4]; at == '-' || at == '/' || at == '.' { // the year first, whatever was said: nothing else looks like it
		year, month, date = day[:4], day[5:7], day[8:]
	} else {
		first, second := day[:2], day[3:5]
		year, month, date = day[6:], second, first
		switch {
		case d == MonthDayYear:
			month, date = first, second
		case d == DayMonthYear, day[2] == '.' && d == DatesByForm:
		default:
			return time.Time{}, fmt.Errorf("found %.40q: %w", text, errDayFirst)
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04", "2006-01-02 "} {
		if t, err := time.Parse(layout, year+"-"+month+"-"+date+" "+strings.TrimSpace(clock)); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("found %.40q, expected a date", text)
}
