package desk

import (
	"testing"
)

func TestArgument(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, want string }{
		{"1234834/2026-12", "1234834/2026-12"}, {"a b", "'a b'"}, {"it's", `'it'\''s'`}, {"$HOME", "'$HOME'"}, {"", "''"}, {"é", "'é'"},
	} {
		if got := Argument(row.text); got != row.want {
			t.Errorf("argument(%q) = %s, want %s", row.text, got, row.want)
		}
	}
}
