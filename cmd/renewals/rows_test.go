package main

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

// The past up to a moment ends by itself, as rows that no spreadsheet takes for a formula; so does what comes until a moment.
func TestWatchUntil(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("=SUM(A1)", "ok", "", 1), o.job("two", "soft-decline", "", 1))
	o.work()
	between := time.Now().UTC()
	o.publish(o.job("three", "ok", "", 1))
	o.work()
	rows := func(flags ...string) (ids []string) {
		t.Helper()
		out, _ := o.run(cli.ExitDone, append([]string{"watch", "--csv"}, flags...)...)
		all, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for n, cells := range all {
			if len(cells) != len(rowColumns) {
				t.Fatalf("row %d: %d cells, want %d", n, len(cells), len(rowColumns))
			}
			if n > 0 {
				ids = append(ids, cells[4])
			}
		}
		return ids
	}
	until := "--until=" + between.Format(time.RFC3339Nano)
	if got := strings.Join(rows("--since=1h", until), " "); got != "'=SUM(A1) two" && got != "two '=SUM(A1)" {
		t.Errorf("until then: %q", got)
	}
	if got := rows("--since=1h", until, "--subscription=three"); len(got) != 0 {
		t.Errorf("of a subscription until then: %q, want none", got)
	}
	if got := rows("--since=1h", "--until="+time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano), "--kind=paid,rejected"); len(got) != 2 || got[1] != "three" {
		t.Errorf("until a moment to come: %q, want the first and the last", got)
	}
	for _, row := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--csv", "--json"}, "--csv: beside --json"},
		{[]string{"--until=1h"}, "--until: 1h is before --since, now"},
		{[]string{"--since=1h", "--until=yesterday"}, `--until: "yesterday", expected a duration`},
	} {
		_, told := o.run(cli.ExitUsage, append([]string{"watch"}, row.flags...)...)
		o.expect(told, row.want)
	}
}

// Dead letters of one subscription, and of a time.
func TestDeadLettersOfOneSubscription(t *testing.T) {
	o := newOffice(t)
	o.publish(o.job("one", "ok", "", 1), o.job("two", "ok", "", 1))
	o.work()
	o.publish(o.job("one", "ok", "again", 2), o.job("two", "ok", "and again", 2))
	o.work()
	for _, row := range []struct {
		flag string
		want int
	}{{"--subscription=one", 1}, {"--subscription=on", 0}, {"--since=1h", 2}, {"--since=2099-01-01T00:00:00Z", 0}, {"--until=1h", 0}, {"--until=2099-01-01T00:00:00Z", 2}} {
		if letters := o.letters(row.flag); len(letters) != row.want {
			t.Errorf("%s: %d letters, want %d", row.flag, len(letters), row.want)
		}
	}
	out, _ := o.run(cli.ExitDone, "dead", "drop", "--all", "--until=1h", "--yes")
	o.expect(out, "nothing to drop")
	out, _ = o.run(cli.ExitDone, "dead", "drop", "--all", "--since=1h", "--subscription=two", "--yes")
	o.expect(out, "1 dropped")
	if left := o.letters("--subscription=one"); len(left) != 1 || o.count(messages.StreamDead) != 1 {
		t.Errorf("left: %+v, want that of the other subscription", left)
	}
	_, told := o.run(cli.ExitUsage, "dead", "drop", "1", "--subscription=one", "--yes")
	o.expect(told, "for --all only")
	_, told = o.run(cli.ExitUsage, "dead", "list", "--since=soon")
	o.expect(told, "--since: ")
}
