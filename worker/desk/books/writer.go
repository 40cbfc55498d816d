package books

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"

	"github.com/klarna-renewals/renewals/messages"
)

// A Writer writes the books; there is one at a time. It is not safe for concurrent use.
type Writer struct {
	conn *sqlite3.Conn
	lock *os.File
	path string

	renewal, record, correlation, unreadable, position *sqlite3.Stmt
}

// settings of the writer's connection. With WAL and synchronous NORMAL a loss of power takes the last commits, whole, and what they held is
// read again; nothing is ever torn (https://sqlite.org/pragma.html#pragma_synchronous). 128 MiB of cache hold the indexes that every row touches at random, and the log grows to 64 MiB before the file
// is written, so that a page which many rows touch is written once.
const settings = "_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=foreign_keys(1)&_pragma=cache_size(-131072)&_pragma=wal_autocheckpoint(16384)"

// Create opens the file for writing, makes it where there is none, and brings its schema up to date. holder says to others who writes. The
// error is a [*BusyError] where somebody else does.
func Create(path, holder string) (*Writer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make books: %w", err)
	}
	lock, err := hold(path, holder)
	if err != nil {
		return nil, err
	}
	w := &Writer{lock: lock, path: path}
	if err := w.open(); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("open books %s: %w", path, err)
	}
	return w, nil
}

func (w *Writer) open() (err error) {
	// The amounts and names of customers are in it: it is its owner's.
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// What is not ours is not even put into WAL mode.
	if w.conn, err = sqlite3.Open(address(w.path, "rw", "_pragma=busy_timeout(60000)")); err != nil {
		return err
	}
	if _, err := checked(w.conn); err != nil {
		return err
	}
	if err := w.conn.Close(); err != nil {
		return err
	}
	if w.conn, err = sqlite3.Open(address(w.path, "rw", settings)); err != nil {
		return err
	}
	if err := migrate(w.conn, Version); err != nil {
		return err
	}
	return w.prepare()
}

// Close gives the books to the next writer.
func (w *Writer) Close() error {
	var err error
	if w.conn != nil {
		w.finalize()
		err = w.conn.Close()
	}
	return cmp.Or(err, w.lock.Close())
}

func (w *Writer) finalize() {
	for _, s := range []**sqlite3.Stmt{&w.renewal, &w.record, &w.correlation, &w.unreadable, &w.position} {
		if *s != nil {
			_ = (*s).Close()
			*s = nil
		}
	}
}

func (w *Writer) prepare() error {
	for text, s := range map[string]**sqlite3.Stmt{
		setRenewal: &w.renewal, insertRecord: &w.record,
		insertCorrelation: &w.correlation, insertUnreadable: &w.unreadable, setPosition: &w.position,
	} {
		var err error
		if *s, _, err = w.conn.PrepareFlags(text, sqlite3.PREPARE_PERSISTENT); err != nil {
			return err
		}
	}
	return nil
}

const (
	insertCorrelation = `INSERT INTO correlations (correlation_id, sequence) VALUES (?, ?) ON CONFLICT DO NOTHING`
	insertUnreadable  = `INSERT INTO unreadable (sequence, subject, problem) VALUES (?, ?, ?)`
	setPosition       = `INSERT INTO journal (one, stream, created_at, last_sequence, fingerprint, stored_at) VALUES (1, ?, ?, ?, ?, ?)
		ON CONFLICT (one) DO UPDATE SET created_at = excluded.created_at, last_sequence = excluded.last_sequence, fingerprint = excluded.fingerprint, stored_at = excluded.stored_at`
)

// Position says how far the books have read.
func (w *Writer) Position() (p Position, err error) {
	s, _, err := w.conn.Prepare(selectPosition)
	if err != nil {
		return p, err
	}
	defer s.Close()
	if s.Step() {
		p = Position{CreatedAt: s.ColumnText(0), LastSequence: uint64(s.ColumnInt64(1)), Fingerprint: s.ColumnText(2), StoredAt: s.ColumnText(3)}
	}
	return p, s.Err()
}

// Add writes rows that follow on what the books hold, and where the books stand after them, in one transaction: a process that is killed
// leaves all of it or nothing.
func (w *Writer) Add(ctx context.Context, created string, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	old := w.conn.SetInterrupt(ctx)
	defer w.conn.SetInterrupt(old)
	if err := w.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return w.failed(err)
	}
	err := w.add(created, rows)
	if err == nil {
		err = w.conn.Exec("COMMIT")
	}
	if err != nil {
		w.conn.SetInterrupt(old)
		_ = w.conn.Exec("ROLLBACK")
		return w.failed(err)
	}
	return nil
}

func (w *Writer) failed(err error) error { return fmt.Errorf("write books %s: %w", w.path, err) }

func (w *Writer) add(created string, rows []Row) error {
	renewals, err := w.renewals(rows)
	if err != nil {
		return err
	}
	for i := range rows {
		row := &rows[i]
		if row.problem == "" {
			err = w.insert(renewals[row.address.Renewal].id, row)
		} else {
			err = w.note(row)
		}
		if err != nil {
			return err
		}
	}
	last := rows[len(rows)-1].Record
	b := bind(w.position)
	b.text(messages.StreamJournal)
	b.text(created)
	b.number(int64(last.Sequence))
	b.text(last.Fingerprint())
	b.text(instant(last.Stored))
	return b.run()
}

// renewals writes what the rows change of each renewal, in the order in which they first appear: each gets the same id however rows are cut
// into batches.
func (w *Writer) renewals(rows []Row) (map[messages.Renewal]*renewal, error) {
	changed := map[messages.Renewal]*renewal{}
	var order []*renewal
	for i := range rows {
		row := &rows[i]
		if row.problem != "" {
			continue
		}
		r := changed[row.address.Renewal]
		if r == nil {
			r = &renewal{first: row}
			changed[row.address.Renewal] = r
			order = append(order, r)
		}
		r.take(row)
	}
	for _, r := range order {
		if err := r.save(w.renewal); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// note keeps what cannot be read.
func (w *Writer) note(row *Row) error {
	b := bind(w.unreadable)
	b.number(int64(row.Sequence))
	b.text(row.Subject)
	b.text(row.problem)
	return b.run()
}
