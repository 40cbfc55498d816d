package books

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// Anew empties the books for another journal. What they held is kept in a file beside them, whose name it returns: it may be all that is
// left of the records that were lost. Readers see the old books until they are empty.
func (w *Writer) Anew(now time.Time) (kept string, err error) {
	if kept, err = w.keep(now); err != nil {
		return "", w.failed(err)
	}
	w.finalize()
	if err = w.drop(); err == nil {
		err = migrate(w.conn, Version)
	}
	if err == nil {
		err = w.prepare()
	}
	if err != nil {
		return kept, w.failed(err)
	}
	return kept, nil
}

// keep copies the books beside themselves, under a name that nothing has.
func (w *Writer) keep(now time.Time) (string, error) {
	name := w.path + ".until-" + now.UTC().Format("20060102T150405Z")
	free := name
	for n := 2; ; n++ {
		if _, err := os.Lstat(free); os.IsNotExist(err) {
			break
		}
		free = fmt.Sprintf("%s-%d", name, n)
	}
	if err := w.conn.Exec("VACUUM INTO " + sqlite3.Quote(free)); err != nil {
		return "", fmt.Errorf("keep the old books as %s: %w", free, err)
	}
	return free, os.Chmod(free, 0o600)
}

// drop takes away every table, children before whom they point to or not.
func (w *Writer) drop() error {
	s, _, err := w.conn.Prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	if err != nil {
		return err
	}
	script := []string{"PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE"}
	for s.Step() {
		script = append(script, "DROP TABLE "+sqlite3.QuoteIdentifier(s.ColumnText(0)))
	}
	if err := s.Close(); err != nil {
		return err
	}
	script = append(script, "PRAGMA user_version = 0", "COMMIT", "PRAGMA foreign_keys = ON")
	if err := w.conn.Exec(strings.Join(script, "; ")); err != nil {
		_ = w.conn.Exec("ROLLBACK")
		return err
	}
	return nil
}
