package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker"
)

// rotation lets paused accounts try again as soon as somebody may have mended their credentials: when the file of an API
// key has changed, and on SIGHUP. The clients read a changed file themselves, with their next request.
type rotation struct {
	files  []string
	seen   []os.FileInfo // nil where there is no file
	next   int           // of files, to be looked at
	signal chan os.Signal
}

// rotationFiles are looked at every rotationEvery. With a thousand accounts each has its turn within ten seconds, since looking at
// so many at once would be a good part of what an idle worker does.
const (
	rotationEvery = time.Second
	rotationFiles = 100
)

// newRotation begins to catch SIGHUP, which would end the process otherwise. stop lets go of it.
func newRotation(entries []cli.AccountEntry) (r *rotation, stop func()) {
	r = &rotation{signal: make(chan os.Signal, 1)}
	signal.Notify(r.signal, syscall.SIGHUP)
	for _, e := range entries {
		if e.PasswordFile != "" {
			r.files = append(r.files, e.PasswordFile)
		}
	}
	r.seen = make([]os.FileInfo, len(r.files))
	r.changed(len(r.files))
	return r, func() { signal.Stop(r.signal) }
}

// run calls retry until ctx ends.
func (r *rotation) run(ctx context.Context, log zerolog.Logger, retry func()) {
	tick := time.NewTicker(rotationEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.signal:
			log.Info().Msg("SIGHUP: paused accounts try again")
			retry()
		case <-tick.C:
			for _, file := range r.changed(rotationFiles) {
				log.Info().Str("file", file).Msg("API key changed: paused accounts try again")
				retry()
			}
		}
	}
}

// changed looks at the next files, at most n of them, and lists those that are not as they were. A file that has gone is no
// change yet: it is in the middle of one.
func (r *rotation) changed(n int) (files []string) {
	for range min(n, len(r.files)) {
		i, file := r.next, r.files[r.next]
		r.next = (r.next + 1) % len(r.files)
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		if was := r.seen[i]; was != nil && os.SameFile(was, info) && was.Size() == info.Size() && was.ModTime().Equal(info.ModTime()) {
			continue
		}
		r.seen[i] = info
		files = append(files, file)
	}
	return files
}

// beside watches for new credentials while a worker runs, which then tries again at once.
func (r *rotation) beside(ctx context.Context, log zerolog.Logger, w *worker.Worker) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctxWatch, end := context.WithCancel(ctx)
	defer end()
	watching.Go(func() { r.run(ctxWatch, log, w.Retry) })
	return w.Run(ctx)
}
