package books

import (
	"time"

	"github.com/ncruces/go-sqlite3"
)

// binder gives a statement its values one after the other. What is empty is NULL. The first error is kept for run.
type binder struct {
	s   *sqlite3.Stmt
	n   int
	err error
}

func bind(s *sqlite3.Stmt) *binder { return &binder{s: s, err: s.ClearBindings()} }

func (b *binder) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *binder) text(v string) {
	if b.n++; v != "" {
		b.keep(b.s.BindText(b.n, v))
	}
}

func (b *binder) number(v int64) {
	b.n++
	b.keep(b.s.BindInt64(b.n, v))
}

// some is a number of which 0 says that it is not known.
func (b *binder) some(v int64) {
	if b.n++; v != 0 {
		b.keep(b.s.BindInt64(b.n, v))
	}
}

func (b *binder) maybe(v *int64) {
	if b.n++; v != nil {
		b.keep(b.s.BindInt64(b.n, *v))
	}
}

func (b *binder) flag(v bool) {
	b.n++
	b.keep(b.s.BindBool(b.n, v))
}

func (b *binder) maybeFlag(v *bool) {
	if b.n++; v != nil {
		b.keep(b.s.BindBool(b.n, *v))
	}
}

func (b *binder) time(t time.Time) { b.text(instant(t)) }

// run executes a statement that returns nothing.
func (b *binder) run() error {
	if b.err != nil {
		return b.err
	}
	return b.s.Exec()
}

// id executes a statement that returns a row with an id, or none.
func (b *binder) id() (id int64, found bool, err error) {
	if b.err != nil {
		return 0, false, b.err
	}
	if found = b.s.Step(); found {
		id = b.s.ColumnInt64(0)
	}
	return id, found, b.s.Reset()
}
