//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// A few accounts in one worker are measured as a thousand are.
func TestAccounts(t *testing.T) {
	t.Parallel()
	found, err := crowd{accounts: 4, idle: 500 * time.Millisecond}.measure(t.Context(), programs(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 5 {
		t.Fatalf("measured:\n%s", found.text())
	}
	for _, row := range found[1:] {
		if len(row) != 3 || strings.HasPrefix(row[1], "0 ") || !strings.HasPrefix(row[2], "≤ ") {
			t.Errorf("row %q", row)
		}
	}
	if size := found[3][0]; !strings.HasPrefix(size, "/metrics, 0.") || strings.HasPrefix(size, "/metrics, 0.0 ") {
		t.Errorf("metrics of four accounts: %q", size)
	}
}
