package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// decisionSettings are what every command asks for that settles something about a customer's money.
type decisionSettings struct {
	Actor string `help:"Who decides, for the record. Default: you, as user@host." from:"command-line"`
	Note  string `help:"Why, for the record." from:"command-line"`
	Yes   bool   `help:"Do not ask." from:"command-line"`
}

func (d decisionSettings) decision(now time.Time) journal.Decision {
	actor := strings.TrimSpace(d.Actor)
	if actor == "" {
		actor = thisUser()
	}
	return journal.Decision{Actor: actor, Note: d.Note, At: now}
}

func thisUser() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// agreed asks a person before something changes. Where nobody can be asked only --yes will do.
func (t *terminal) agreed(yes bool, question string) error {
	switch {
	case yes:
		return nil
	case !cli.IsTerminal(t.stdin):
		return cli.Usagef("--yes: not set, and standard input is no terminal to ask on; nothing was changed")
	case !t.confirm(question):
		fmt.Fprintln(t.margin(), "nothing was changed")
		return cli.ErrReported
	}
	return nil
}

// unchanged makes sure that a decision is about what was shown: a question can stay open for hours.
func unchanged(ctx context.Context, f desk.Finder, h history) error {
	at, err := f.Journal.Last(ctx, h.renewal)
	if err == nil && at.Sequence != h.last {
		return errors.New("the renewal has moved on meanwhile: nothing was changed, look again")
	}
	return err
}

// decisionProblem says what an error of the journal means for a decision.
func decisionProblem(what string, err error) error {
	var refused *journal.RefusedError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w; it may be recorded all the same: look with `renewals show`, then repeat it", what, err)
}
