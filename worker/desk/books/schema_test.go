package books

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// README.md describes every table and column that there is, and no other.
func TestSchemaIsDocumented(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## ")
	documented := map[string][]string{}
	for part := range strings.SplitSeq("\n## "+rest, "\n## ") {
		table, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "```")
		for line := range strings.Lines(text) {
			if cells := strings.Split(line, "|"); len(cells) > 2 {
				line = cells[1]
			}
			for _, name := range regexp.MustCompile("`([a-z_0-9]+)`").FindAllStringSubmatch(line, -1) {
				documented[table] = append(documented[table], name[1])
			}
		}
	}
	real := schema(t, Version)
	if got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(real)); !slices.Equal(got, want) {
		t.Errorf("tables %v, want %v", got, want)
	}
	for table, want := range real {
		got := slices.Sorted(slices.Values(documented[table]))
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: documented are %v\nthere are %v", table, got, want)
		}
	}
}

// schema is what a file of a version has: columns by table.
func schema(t *testing.T, version int64) map[string][]string {
	t.Helper()
	c := fileOf(t, filepath.Join(t.TempDir(), "books.db"), version)
	defer c.Close()
	return columnsOf(t, c)
}

func fileOf(t *testing.T, path string, version int64) *sqlite3.Conn {
	t.Helper()
	c, err := sqlite3.Open(path)
	if err == nil {
		err = migrate(c, version)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func columnsOf(t *testing.T, c *sqlite3.Conn) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	s, _, err := c.Prepare("SELECT m.name, p.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table' ORDER BY 1, p.cid")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for s.Step() {
		found[s.ColumnText(0)] = append(found[s.ColumnText(0)], s.ColumnText(1))
	}
	return found
}

// A file of every earlier version comes to the schema of a new one, and loses no column that anybody reads.
func TestMigrations(t *testing.T) {
	want := schema(t, Version)
	for version := int64(0); version <= Version; version++ {
		path := filepath.Join(t.TempDir(), fmt.Sprint(version))
		c := fileOf(t, path, version)
		before := columnsOf(t, c)
		if err := migrate(c, Version); err != nil {
			t.Fatalf("from version %d: %v", version, err)
		}
		got := columnsOf(t, c)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("from version %d: %v\nwant %v", version, got, want)
		}
		for table, columns := range before {
			for _, name := range columns {
				if !slices.Contains(got[table], name) {
					t.Errorf("from version %d: %s.%s is gone", version, table, name)
				}
			}
		}
		_ = c.Close()
	}
	if _, err := migrations.ReadFile(fmt.Sprintf("migrations/%d.sql", Version+1)); err == nil {
		t.Errorf("there is a migration to version %d, and Version is %d", Version+1, Version)
	}
}

// Books of an earlier version say after a sync what new ones say.
func TestMigrationsBringRowsUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	c := fileOf(t, path, 1)
	for n, row := range []struct{ phase, history string }{{"paid", "paid1"}, {"dunning", "paid1 dunning1"}, {"charging", "paid1 dunning1"}, {"paid", "dunning1 paid2"}, {"captured", "paid2 dunning1"}} {
		script := fmt.Sprintf(`INSERT INTO renewals (id, name, renewal_key, account, phase, paid_at, captured_amount, first_sequence, last_sequence, records, purchase_currency)
			VALUES (%[1]d, 'sub-%[1]d', '', 'default', '%[2]s', '2026-12-01T12:00:00.000Z', 1600, 1, 1, 1, 'eur');`, n, row.phase)
		for i, word := range strings.Fields(row.history) {
			script += fmt.Sprintf(`INSERT INTO records (sequence, renewal_id, kind, account, at, stored_at, purchase_currency) VALUES (%d, %d, '%s', 'default', '', '', 'eur');`, 10*n+i+1, n, word[:len(word)-1])
		}
		if err := c.Exec(script); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(migrate(c, Version), c.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, row := range all(t, b, "SELECT id, phase, paid_at, captured_amount FROM renewals") {
		paid := row["phase"] == "paid" || row["phase"] == "captured"
		if (row["paid_at"] != nil) != paid || (row["captured_amount"] != nil) != paid {
			t.Errorf("%v", row)
		}
	}
	if written := all(t, b, "SELECT purchase_currency FROM records UNION SELECT purchase_currency FROM renewals"); len(written) != 1 || written[0]["purchase_currency"] != "EUR" {
		t.Errorf("currencies %v, want EUR", written)
	}
}
