package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Provision makes what workers bind, see [topology.Provision]. An empty journal that takes the place of a lost one is accepted as
// it is: what fell due before is charged as after [journal.AcceptRestored].
func Provision(ctx context.Context, js jetstream.JetStream, p topology.Provisioning) error {
	forgets, err := p.LosesMemory(ctx, js)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", messages.StreamJournal, err)
	}
	err = topology.Provision(ctx, js, p)
	var lowering *topology.LoweringError
	if forgets && p.AcceptEmptyJournal && (err == nil || errors.As(err, &lowering)) {
		if _, err := journal.AcceptRestored(ctx, js); err != nil {
			return err
		}
	}
	return err
}

// Provision makes what the worker binds, as the function [Provision] does. A
// cluster that starts has no leader for a while, or not all of its members: it is waited for. The error is one that
// waiting does not mend; nil also once ctx has ended.
func (w *Worker) Provision(ctx context.Context, p topology.Provisioning) error {
	for told := false; ; told = true {
		err := Provision(ctx, w.js, p)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case !topology.NotYet(err):
			return err
		case !told:
			w.log.Warn().Err(err).Msg("the broker cannot provision yet, asking again until it can; a missing permission looks like this, too")
		}
		gate.Sleep(ctx, time.Second)
	}
}
