package cli

import (
	"context"
	"io"
	"os"
)

// OpenInput opens a file; place is the argument or setting that names it. What is no regular file, such as a named pipe, is opened by the
// first read: that waits until somebody writes, for which see [Interruptible]. size is 0 where it is not known.
func OpenInput(place, path string) (in io.ReadCloser, size int64, err error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil, 0, Usagef("%s: %s is a directory, expected a file", place, path)
	}
	if err == nil && !info.Mode().IsRegular() {
		return io.NopCloser(&unopened{place: place, path: path}), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, Usagef("%s: %w", place, err)
	}
	return f, info.Size(), nil
}

// unopened is a file that the first read opens. It is closed where it ends, else with the process.
type unopened struct {
	place, path string
	file        *os.File
}

func (u *unopened) Read(p []byte) (int, error) {
	if u.file == nil {
		f, err := os.Open(u.path)
		if err != nil {
			return 0, Usagef("%s: %w", u.place, err)
		}
		u.file = f
	}
	n, err := u.file.Read(p)
	if err != nil {
		u.file.Close()
	}
	return n, err
}

// Interruptible is an input that ends with a context, too: somebody who types, or a pipe that brings nothing, keeps a read waiting.
// What then still reads ends with the process.
func Interruptible(ctx context.Context, in io.Reader) io.Reader {
	out, copied := io.Pipe()
	context.AfterFunc(ctx, func() { copied.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(copied, in)
		copied.CloseWithError(err)
	}()
	return out
}
