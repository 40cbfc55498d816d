package cli

import (
	"strings"
	"testing"
)

// A table is one line a row where that fits; where it does not, the last columns go below by their names.
func TestTable(t *testing.T) {
	t.Parallel()
	accounts := NewTable("ACCOUNT", "BACKLOG", "IN FLIGHT", "PAUSED")
	accounts.Add("default", 12, 3, "-")
	accounts.Add("se", 7, 0, "credentials")
	letters := NewTable("SEQ", "ID", "WHY")
	letters.Prose = true
	letters.Add(1, "1234834/2026-12/1", "order.order_amount: found 1600, expected 1599, the sum of total_amount")
	letters.Add(22, "日本/2026-12/1", "")
	for _, row := range []struct {
		name  string
		table *Table
		width int
		want  string
	}{
		{"a file", accounts, 0, `
ACCOUNT  BACKLOG  IN FLIGHT  PAUSED
default  12       3          -
se       7        0          credentials
`},
		{"it fits", accounts, 40, `
ACCOUNT  BACKLOG  IN FLIGHT  PAUSED
default  12       3          -
se       7        0          credentials
`},
		{"two columns below", accounts, 26, `
ACCOUNT  BACKLOG
default  12
    in flight 3  paused -
se       7
    in flight 0  paused
    credentials
`},
		{"text in its column", letters, 60, `
SEQ  ID                 WHY
1    1234834/2026-12/1  order.order_amount: found 1600,
                        expected 1599, the sum of
                        total_amount
22   日本/2026-12/1
`},
		{"text below", letters, 40, `
SEQ  ID
1    1234834/2026-12/1
    order.order_amount: found 1600,
    expected 1599, the sum of
    total_amount
22   日本/2026-12/1
`},
	} {
		var b strings.Builder
		row.table.Print(&Page{Writer: &b, Width: row.width})
		if got := b.String(); got != row.want[1:] {
			t.Errorf("%s: got\n%s\nwant%s", row.name, got, row.want)
		}
	}
}
