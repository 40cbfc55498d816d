package books

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// A BusyError says who writes the books: there is one writer at a time.
type BusyError struct{ Path, Holder string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("books %s are written by %s: stop that one, or read them, which disturbs nobody", e.Path, e.Holder)
}

// hold takes the right to write the books, beside SQLite's own locks, which come and go with each transaction. The kernel gives it back
// whenever and however the process ends.
func hold(path, holder string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write books: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		who, _ := io.ReadAll(io.LimitReader(f, 512))
		return nil, &BusyError{Path: path, Holder: strings.TrimSpace(string(who))}
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(holder+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f, nil
}
