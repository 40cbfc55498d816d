package messages

import (
	"time"
	"unicode/utf8"
)

// cut keeps at most limit bytes of s, whole characters only.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
