package books

import (
	"embed"
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// Version is the schema's, as PRAGMA user_version has it. A newer one only adds.
	Version = 2
	// application tells the books from any other SQLite file, as PRAGMA application_id has it: "rnwl".
	application = 0x726e776c
)

// pragma reads a number that SQLite keeps in the file's header.
func pragma(c *sqlite3.Conn, name string) (n int64, err error) {
	s, _, err := c.Prepare("PRAGMA " + name)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if s.Step() {
		n = s.ColumnInt64(0)
	}
	return n, s.Err()
}

// migrate brings the schema up to a version, each step in a transaction of its own.
func migrate(c *sqlite3.Conn, to int64) error {
	from, err := checked(c)
	if err != nil {
		return err
	}
	for v := from + 1; v <= to; v++ {
		script, err := migrations.ReadFile(fmt.Sprintf("migrations/%d.sql", v))
		if err != nil {
			return err
		}
		set := fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", script, application, v)
		if err := c.Exec(set); err != nil {
			_ = c.Exec("ROLLBACK")
			return fmt.Errorf("migrate to schema version %d: %w", v, err)
		}
	}
	return nil
}

// checked gives the version of a file that holds books, or nothing yet.
func checked(c *sqlite3.Conn) (version int64, err error) {
	app, err := pragma(c, "application_id")
	if err != nil {
		return 0, err
	}
	if version, err = pragma(c, "user_version"); err != nil {
		return 0, err
	}
	objects, err := pragma(c, "schema_version") // counts changes of the schema: 0 in a new file
	switch {
	case err != nil:
		return 0, err
	case app != application && (version != 0 || objects != 0):
		return 0, ErrForeign
	case version > Version:
		return 0, fmt.Errorf("schema version %d, this program knows %d: use the newer program that wrote it, or delete the file and sync anew", version, Version)
	}
	return version, nil
}
