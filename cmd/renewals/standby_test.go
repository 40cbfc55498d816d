package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// What is waited for is said after a moment: once in a file, on a terminal in a line that goes away.
func TestStandby(t *testing.T) {
	for _, row := range []struct {
		name  string
		width int
		want  string
	}{
		{"a file", 0, "waiting for the last of many results\n"},
		{"a terminal", 40, "  1s  waiting for the last of many res…\r\x1b[K  2s  waiting for the last of many res…\r\x1b[K"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b strings.Builder
			s := newStandby(&cli.Page{Writer: &b, Width: row.width})
			s.begin("waiting for two results")
			<-time.After(standbyAfter / 2) // of the bubble's time
			s.begin("waiting for the last of many results")
			<-time.After(2*standbyAfter + standbyAfter/2)
			s.end()
			<-time.After(3 * standbyAfter)
			synctest.Wait()
			if got := b.String(); got != row.want {
				t.Errorf("%s: got %q, want %q", row.name, got, row.want)
			}
		})
	}
}
