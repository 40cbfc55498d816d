package books

import (
	"context"
	"fmt"
	"sync"

	"github.com/ncruces/go-sqlite3"
)

// This file leaves the indexes of records for the end where books are filled for the first time. A row touches eleven of them, most by a
// random UUID: once they are larger than the cache each touch reads a page and writes one, and filling the books with millions of records
// takes several times as long as reading them. Made at the end, an index is sorted once.
//
// Books without them answer what they are asked, slowly. Whoever writes next, after a crash, makes them or goes on without.

// fillFrom is how many records are to come at least for the indexes to be left for the end.
const fillFrom = 50_000

// fillTo is how many it has been measured with. Beyond, every row is indexed as it comes, which takes longer.
const fillTo = 2_000_000

// An index is what the schema says of one.
type index struct{ name, script string }

// declared are the indexes of records, as a new file has them.
var declared = sync.OnceValues(func() (all []index, err error) {
	c, err := sqlite3.Open(":memory:")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := migrate(c, Version); err != nil {
		return nil, err
	}
	return indexes(c)
})

func indexes(c *sqlite3.Conn) (all []index, err error) {
	s, _, err := c.Prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'records' AND sql IS NOT NULL ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for s.Step() {
		all = append(all, index{s.ColumnText(0), s.ColumnText(1)})
	}
	return all, s.Err()
}

// missing are the indexes that an earlier writer left for the end, or did not come to make.
func (w *Writer) missing() (left []index, err error) {
	all, err := declared()
	if err != nil {
		return nil, err
	}
	there, err := indexes(w.conn)
	if err != nil {
		return nil, w.failed(err)
	}
	made := map[string]bool{}
	for _, i := range there {
		made[i.name] = true
	}
	for _, i := range all {
		if !made[i.name] {
			left = append(left, i)
		}
	}
	return left, nil
}

// fill leaves the indexes of records for the end, where the books have no records yet.
func (w *Writer) fill() error {
	all, err := declared()
	if err != nil {
		return err
	}
	script := "BEGIN IMMEDIATE"
	for _, i := range all {
		script += "; DROP INDEX IF EXISTS " + sqlite3.QuoteIdentifier(i.name)
	}
	if err := w.conn.Exec(script + "; COMMIT"); err != nil {
		_ = w.conn.Exec("ROLLBACK")
		return w.failed(err)
	}
	return nil
}

// index makes the indexes that are missing, each in a transaction of its own.
func (w *Writer) index(ctx context.Context) error {
	left, err := w.missing()
	if err != nil {
		return err
	}
	if len(left) == 0 {
		return nil
	}
	// A sort takes as much memory as the cache may have, and beside a full cache more than SQLite has here.
	if err := w.conn.Exec("PRAGMA cache_size = -16384; PRAGMA shrink_memory"); err != nil {
		return w.failed(err)
	}
	defer func() { _ = w.conn.Exec("PRAGMA cache_size = -131072") }()
	old := w.conn.SetInterrupt(ctx)
	defer w.conn.SetInterrupt(old)
	for _, i := range left {
		if err := w.conn.Exec(i.script); err != nil {
			return w.failed(fmt.Errorf("make index %s: %w", i.name, err))
		}
	}
	return nil
}
