package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// finder connects and opens the journal.
func finder(ctx context.Context, n cli.NATSSettings, s *cli.Settings, t *terminal, log zerolog.Logger) (context.Context, desk.Finder, error) {
	server, err := n.Server(s)
	if err != nil {
		return nil, desk.Finder{}, err
	}
	ctx, js, err := server.Connect(ctx, log)
	if err != nil {
		return nil, desk.Finder{}, err
	}
	journal, err := journal.Open(ctx, js, log)
	if err != nil {
		js.Conn().Close()
		return nil, desk.Finder{}, cli.JournalProblem(err)
	}
	return ctx, desk.Finder{JetStream: js, Journal: journal, Progress: func(label string, total int64) (func(int64), func()) {
		bar := cli.NewProgress(t.stderr, label, total)
		return bar.Set, bar.Done
	}}, nil
}

// one finds the one renewal that is meant.
func one(ctx context.Context, f desk.Finder, name string) (history, error) {
	renewals, err := f.Renewals(ctx, name)
	if err != nil {
		return history{}, err
	}
	var found, unresolved []history
	for _, r := range renewals {
		h, err := historyOf(ctx, f, r)
		if err != nil {
			return h, err
		}
		if h.last == 0 {
			continue
		}
		found = append(found, h)
		if h.state.Phase == journal.PhaseUnresolved {
			unresolved = append(unresolved, h)
		}
	}
	switch {
	case len(unresolved) == 1:
		return unresolved[0], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		instead, err := periodsInstead(ctx, f, name)
		if err != nil {
			return history{}, err
		}
		return history{}, fmt.Errorf("%s: no record of it in %s%s", cli.Printable(name), messages.StreamJournal, instead)
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.name()
	}
	return history{}, fmt.Errorf("%s: %d renewals go by it: %s", cli.Printable(name), len(found), strings.Join(names, "; "))
}
