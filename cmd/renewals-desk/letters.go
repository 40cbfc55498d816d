package main

import (
	"context"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

// dropLetters drops the dead letters of a charge that was settled, as resolve does: nobody has to look at it any more.
func (d *reconciler) dropLetters(ctx context.Context, r reconcile.Renewal) error {
	dead, err := desk.OpenDeadLetters(ctx, d.js)
	if err == nil {
		_, err = dead.DropSettled(ctx, messages.NewIdempotencyKey(r.Key(), r.MessageID))
	}
	return err
}
