package worker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/journal"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A settingsWatch stops claiming while a stream does not have the settings that the promise rests on, or an account while one of
// its consumers has not, until somebody has put them right.
type settingsWatch struct {
	js      jetstream.JetStream
	every   time.Duration
	clock   *clock
	memory  *memory
	batches *journal.Batches
	pauses  *pausing
	quota   *quotaWatch
	metrics *Metrics
	log     zerolog.Logger

	accounts []*account   // once they are bound
	fewTold  bool         // in the log
	looks    atomic.Int64 // that have ended; what a test waits for
}

// follow leaves an entry in news whenever something of this worker's was changed. A subject that it may not follow
// costs it the minute until it looks by itself.
func (s *settingsWatch) follow(news chan struct{}) (stop func()) {
	mine := map[string]bool{}
	for _, a := range s.accounts {
		for name := range topology.Consumers(a.config.Name) {
			mine[name] = true
		}
	}
	var subs []*nats.Subscription
	for _, subject := range topology.Advisories {
		of := strings.HasSuffix(subject, ".*")
		sub, err := s.js.Conn().Subscribe(subject, func(m *nats.Msg) {
			if !of || mine[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]] {
				select {
				case news <- struct{}{}:
				default: // it has the news
				}
			}
		})
		if err != nil {
			s.log.Debug().Err(err).Str("subject", subject).Msg("changes are seen once a minute only")
			continue
		}
		subs = append(subs, sub)
	}
	return func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}
}

// verifyEvery is how often the settings are looked at without news.
const verifyEvery = time.Minute

// verifyGap is how long after a change the settings are looked at once more.
const verifyGap = 500 * time.Millisecond

// unansweredGap is how long after settings that could not be read the next look at them is.
const unansweredGap = 5 * time.Second

// run looks first when the server surely tells of changes:
// what changed after the start's look and before that is told to nobody.
func (s *settingsWatch) run(ctx context.Context) {
	news := make(chan struct{}, 1)
	defer s.follow(news)()
	one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	_ = s.js.Conn().FlushWithContext(one) // without an answer the look below gets none either, and comes again
	cancel()
	answered := s.checkAll(ctx)
	for {
		wait := s.every
		if !answered {
			wait = min(wait, unansweredGap)
		}
		timer := time.NewTimer(wait)
		told := false
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-news:
			told = true
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		answered = s.checkAll(ctx)
		if told && gate.Sleep(ctx, verifyGap) { // the server may tell of a change before it answers by it
			answered = s.checkAll(ctx)
		}
	}
}

// checkAll says whether the server answered about everything.
func (s *settingsWatch) checkAll(ctx context.Context) (answered bool) {
	defer s.looks.Add(1)
	answered = s.checkStreams(ctx)
	s.quota.check(ctx)
	listed := s.list(ctx, len(s.accounts))
	silent := 0
	for _, a := range s.accounts {
		if a.check(ctx, listed) {
			silent = 0
			continue
		}
		answered = false
		if silent++; silent == mostSilent {
			break
		}
	}
	return answered
}

// mostSilent is of how many accounts in a row nothing may be learned before the look is put off: a broker that is away answers about
// none, and each question waits for seconds.
const mostSilent = 3

// list asks for all consumers at once; where that is not answered each is asked for.
func (s *settingsWatch) list(ctx context.Context, accounts int) topology.Listing {
	one, cancel := context.WithTimeout(ctx, journal.PublishTimeout)
	defer cancel()
	listed, err := topology.List(one, s.js, accounts)
	if err != nil {
		s.log.Debug().Err(err).Msg("consumers not listed, asking for each")
	}
	return listed
}

// checkStreams pauses everything while a stream or the bucket is not as it must be. It says whether it learned that.
func (s *settingsWatch) checkStreams(ctx context.Context) (answered bool) {
	err := s.verify(ctx)
	var off *topology.Deviation
	switch {
	case err == nil:
		s.metrics.deviate("", nil)
		if s.pauses.lift(gate.PauseSettings) {
			s.log.Info().Msg("the streams are as they must be again: claiming goes on")
		}
	case errors.As(err, &off), topology.Missing(err):
		s.metrics.deviate("", err)
		if s.pauses.set(gate.PauseSettings, err.Error()) {
			s.log.Error().Err(err).Msg("nothing is claimed until this is put right")
		}
	default: // no answer says nothing about the settings
		s.log.Debug().Err(err).Msg("settings not verified")
		return false
	}
	return true
}

// verify checks the settings of the streams, and learns how long the journal remembers.
func (s *settingsWatch) verify(ctx context.Context) error {
	found, err := topology.Inspect(ctx, s.js)
	s.clock.blind.Store(found.Missing == topology.StreamWorkers)
	if err != nil {
		return err
	}
	s.metrics.few.Set(float64(len(found.Few)))
	if warnings := found.Warnings(); len(warnings) > 0 && !s.fewTold {
		s.log.Warn().Strs("streams", warnings).Msg("fewer copies than survive the loss of a machine")
		s.fewTold = true
	}
	if err := found.Err(); err != nil {
		return err
	}
	s.memory.learn(s.clock.now(), found.Retention)
	s.batches.Learn(found.Journal)
	return nil
}
