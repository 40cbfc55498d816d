package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Provision makes what the worker binds, as the function [Provision] does. A
// cluster that starts has no leader for a while, or not all of its members: it is waited for. The error is one that
// waiting does not mend; nil also once ctx has ended.
func (w *Worker) Provision(ctx context.Context, p Provisioning) error {
	for told := false; ; told = true {
		err := Provision(ctx, w.js, p)
		switch {
		case err == nil, ctx.Err() != nil:
			return nil
		case !notYet(err):
			return err
		case !told:
			w.opts.Log.Warn().Err(err).Msg("the broker cannot provision yet, asking again until it can; a missing permission looks like this, too")
		}
		sleep(ctx, time.Second)
	}
}

// notYetCodes are the answers of a cluster that is not complete.
var notYetCodes = map[jetstream.ErrorCode]bool{
	10005: true, // no suitable peers for the placement of a stream
	10007: true, // not assigned to this server
	10008: true, // temporarily unavailable: no leader
	10009: true, // the leader changes
}

// notYet says that the broker did not answer, or as a cluster that has no leader.
func notYet(err error) bool {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return notYetCodes[refused.ErrorCode]
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}
