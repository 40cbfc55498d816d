package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk/books"
)

// booksSettings say where the books are.
type booksSettings struct {
	Path string `name:"books" help:"File of the books. Default: renewals/books.db in $XDG_STATE_HOME, or in ~/.local/state."`
}

// path is where the books are, by the XDG Base Directory Specification (https://specifications.freedesktop.org/basedir-spec/latest/).
func (b booksSettings) path(s *cli.Settings) (string, error) {
	if b.Path != "" {
		return b.Path, nil
	}
	if state := s.Lookup("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "renewals", "books.db"), nil
	}
	home := s.Lookup("HOME")
	if home == "" {
		return "", cli.Usagef("RENEWALS_BOOKS: not set, and neither is HOME: expected the file of the books")
	}
	return filepath.Join(home, ".local", "state", "renewals", "books.db"), nil
}

// open opens the books for reading.
func (b booksSettings) open(ctx context.Context, s *cli.Settings) (*books.Books, error) {
	path, err := b.path(s)
	if err != nil {
		return nil, err
	}
	return books.Open(ctx, path)
}

// filterSettings say which records are meant.
type filterSettings struct {
	Since   string   `help:"From then on: a time 2026-12-01 or 2026-12-01T12:00:00Z, or a duration ago: 90m, 30d." from:"command-line"`
	Until   string   `help:"Before then." from:"command-line"`
	Account []string `help:"Accounts. Default: all." from:"command-line"`
}

func (f filterSettings) filter(now time.Time) (filter books.Filter, err error) {
	if filter.Since, err = moment("--since", f.Since, now); err != nil {
		return filter, err
	}
	if filter.Until, err = moment("--until", f.Until, now); err != nil {
		return filter, err
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, cli.Usagef("--until: %s is not after --since", f.Until)
	}
	for _, name := range f.Account {
		account, err := messages.ParseAccount(name)
		if err != nil {
			return filter, cli.Usagef("--account: %w", err)
		}
		filter.Accounts = append(filter.Accounts, account)
	}
	return filter, nil
}

// moment reads a time, a day or a duration before now. "" is none.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	d, err := cli.ParseDuration(text)
	if err != nil {
		return time.Time{}, cli.Usagef("%s: %w, a day such as 2026-12-01, or a time such as 2026-12-01T12:00:00Z", flag, err)
	}
	return now.Add(-d), nil
}
