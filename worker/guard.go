package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// verifyEvery is how often the settings that the promise rests on are checked
// while the worker runs.
const verifyEvery = time.Minute

// guard stops claiming while a stream does not have the settings that the
// promise rests on, until somebody has put them right.
func (w *Worker) guard(ctx context.Context) {
	for sleep(ctx, w.verifyEvery) {
		_, err := Verify(ctx, w.js)
		var off *Deviation
		switch {
		case err == nil:
			if w.pauses.lift(pauseSettings) {
				w.opts.Log.Info().Msg("the streams are as they must be again: claiming goes on")
			}
		case errors.As(err, &off), errors.Is(err, jetstream.ErrStreamNotFound):
			if w.pauses.set(pauseSettings, err.Error()) {
				w.opts.Log.Error().Err(err).Msg("nothing is claimed until this is put right")
			}
		default: // no answer says nothing about the settings
			w.opts.Log.Debug().Err(err).Msg("settings not verified")
		}
	}
}
