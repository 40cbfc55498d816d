package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

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
