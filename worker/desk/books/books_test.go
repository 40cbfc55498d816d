package books

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"pgregory.net/rapid"
)

const created = "2026-11-01T00:00:00Z"

// built is a file of books made of records, cut into batches by cut: it gives the size of the next one.
func built(t testing.TB, path string, records []Record, cut func(left int) int) {
	t.Helper()
	w, err := Create(path, "the test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for len(records) > 0 {
		n := cut(len(records))
		rows := make([]Row, n)
		for i, r := range records[:n] {
			rows[i] = Read(r)
		}
		if err := w.Add(t.Context(), created, rows); err != nil {
			t.Fatal(err)
		}
		records = records[n:]
	}
}

func whole(left int) int { return left }

// dumped is everything that a file holds, table by table.
func dumped(t testing.TB, path string) string {
	t.Helper()
	b, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out strings.Builder
	for _, table := range []string{"journal", "renewals", "records", "correlations", "unreadable"} {
		fmt.Fprintln(&out, table)
		for _, row := range all(t, b, "SELECT * FROM "+table+" ORDER BY 1, 2") {
			for _, name := range slices.Sorted(maps.Keys(row)) {
				fmt.Fprintf(&out, " %s=%v", name, row[name])
			}
			fmt.Fprintln(&out)
		}
	}
	return out.String()
}

// all reads rows as maps without what is NULL.
func all(t testing.TB, b *Books, query string, args ...any) (found []map[string]any) {
	t.Helper()
	rows, err := b.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, _ := rows.Columns()
	for rows.Next() {
		values := make([]any, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{}
		for i, v := range values {
			if v != nil {
				row[names[i]] = v
			}
		}
		found = append(found, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// Books that were built batch by batch, by writers that came and went, equal books that were built at once.
func TestBatchesMakeNoDifference(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		records := drawn(rt)
		n++
		once, cut := filepath.Join(dir, fmt.Sprint(n, ".once")), filepath.Join(dir, fmt.Sprint(n, ".cut"))
		built(t, once, records, whole)
		for rest := records; len(rest) > 0; {
			part := rapid.IntRange(1, len(rest)).Draw(rt, "until the writer goes")
			built(t, cut, rest[:part], func(left int) int { return rapid.IntRange(1, left).Draw(rt, "batch") })
			rest = rest[part:]
		}
		if got, want := dumped(t, cut), dumped(t, once); got != want {
			rt.Fatalf("cut into batches:\n%s\nat once:\n%s", got, want)
		}
		for _, path := range []string{once, cut} {
			_ = os.Remove(path)
		}
	})
}

func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "books.db")
	w, err := Create(path, "sync of ada, process 7")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Create(path, "another")
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Holder != "sync of ada, process 7" || !strings.Contains(err.Error(), path) {
		t.Errorf("a second writer: %v, want it refused, with the name of the first and the file", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Create(path, "another")
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	_ = again.Close()
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	foreign, newer, text := filepath.Join(dir, "foreign"), filepath.Join(dir, "newer"), filepath.Join(dir, "text")
	c, err := sqlite3.Open(foreign)
	if err == nil {
		err = errors.Join(c.Exec("CREATE TABLE photos (name TEXT)"), c.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	built(t, newer, nil, whole)
	if c, err = sqlite3.Open(newer); err == nil {
		err = errors.Join(c.Exec(fmt.Sprintf("PRAGMA user_version = %d", Version+1)), c.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte(strings.Repeat("a letter\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{foreign, "not the books"}, {newer, "use the newer program"}, {text, "not a database"}, {filepath.Join(dir, "none"), "renewals-desk sync"}, {dir, ""},
	} {
		before, _ := os.ReadFile(tt.path)
		if _, err := Open(t.Context(), tt.path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("read %s: %v, want %q", tt.path, err, tt.want)
		}
		if tt.want == "renewals-desk sync" {
			continue
		}
		if w, err := Create(tt.path, "the test"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("write %s: %v, want %q", tt.path, err, tt.want)
			_ = w.Close()
		}
		if after, _ := os.ReadFile(tt.path); string(after) != string(before) {
			t.Errorf("%s has changed", tt.path)
		}
	}
}
