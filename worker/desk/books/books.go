// Package books keeps a read model of the journal in a SQLite file, for whoever asks by anything but the renewal's name: support by
// an order id, finance by day and amount, the reconciliation by merchant reference.
//
// The books decide nothing. They follow the journal ([Syncer]), lag behind it by as much as nobody has synced, and may be thrown away:
// a new file is filled from the journal. What has aged out of the journal stays in the file, and is lost with it. The schema is described
// in README.md and stable: any SQLite program may read the file while it is written.
package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

var (
	// ErrForeign is a file of SQLite that is not the books: nothing is written to it.
	ErrForeign = errors.New("a database that is not the books of renewals-desk")
	// ErrNone is that there is no file yet: it takes a sync.
	ErrNone = errors.New("no books")
)

// Instant is how the books write times: UTC, milliseconds, always as wide, so that text compares as time does.
const Instant = "2006-01-02T15:04:05.000Z"

// Books reads the file. It is safe for concurrent use, beside a writer, too; each read sees the books as of one commit.
type Books struct {
	*sql.DB
	path string

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

// prepare prepares a statement once: of one that finds a few rows this is most of its time. There are as many as there are texts.
func (b *Books) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.prepared[text]; s != nil {
		return s, nil
	}
	s, err := b.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if b.prepared == nil {
		b.prepared = map[string]*sql.Stmt{}
	}
	b.prepared[text] = s // closed with the file
	return s, nil
}

// Open opens the file for reading. The error wraps [ErrNone] where there is none, [ErrForeign] where it is something else.
func Open(ctx context.Context, path string) (*Books, error) {
	if err := present(path); err != nil {
		return nil, err
	}
	db, err := driver.Open(address(path, "ro", "_pragma=busy_timeout(10000)&_pragma=query_only(1)"), func(c *sqlite3.Conn) error {
		version, err := checked(c)
		if err == nil && version < Version {
			err = fmt.Errorf("schema version %d, expected %d: sync once, which brings it up to date", version, Version)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open books %s: %w", path, err)
	}
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open books %s: %w", path, err)
	}
	return &Books{DB: db, path: path}, nil
}

func present(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Size() == 0:
		return fmt.Errorf("open books %s: %w there; fill them with `renewals-desk sync`", path, ErrNone)
	case err != nil:
		return fmt.Errorf("open books: %w", err)
	}
	return nil
}

// address is a file name as SQLite's URIs have it, whatever is in it.
func address(path, mode, pragmas string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath() + "?mode=" + mode + "&" + pragmas
}

// Position is how far the books have read which journal.
type Position struct {
	CreatedAt    string // of the stream, as the broker says it; "" where nothing was ever read
	LastSequence uint64
	Fingerprint  string // of the record at LastSequence
	StoredAt     string // when the broker stored that record, as [Instant]
}

const selectPosition = "SELECT created_at, last_sequence, fingerprint, coalesce(stored_at, '') FROM journal"

// Position says how far the books have read.
func (b *Books) Position(ctx context.Context) (p Position, err error) {
	err = b.QueryRowContext(ctx, selectPosition).Scan(&p.CreatedAt, &p.LastSequence, &p.Fingerprint, &p.StoredAt)
	if errors.Is(err, sql.ErrNoRows) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read books %s: %w", b.path, err)
	}
	return p, nil
}

// Accounts are those that have renewals.
func (b *Books) Accounts(ctx context.Context) (names []string, err error) {
	rows, err := b.QueryContext(ctx, "SELECT DISTINCT account FROM renewals WHERE stands_in = 0 ORDER BY 1")
	if err != nil {
		return nil, fmt.Errorf("read books %s: %w", b.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("read books %s: %w", b.path, err)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
