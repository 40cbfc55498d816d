package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// A worker's garbage is collected seldom while little of its memory is alive, which saves a tenth of the CPU, and more often
// the more charges are in flight, so that 256 of them take a process half as large again, and a thousand accounts one of 100 MB.
const (
	fewestCollections = 300 // as GOGC has it
	mostCollections   = 75
	collectAt         = 20 << 20 // bytes of the heap, as long as no more than about half of them are alive
)

// gcPercent is the garbage that may lie beside so many bytes that are alive, in steps that do not follow every breath.
func gcPercent(alive uint64) int {
	free := 100*collectAt/max(int(alive), 1) - 100
	return min(max(free/50*50, mostCollections), fewestCollections)
}

// collecting keeps the garbage collector to that until it is stopped. Whoever sets GOGC knows better.
func collecting(ctx context.Context) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { collect(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func collect(ctx context.Context) {
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for set := 0; ; {
		metrics.Read(alive)
		if percent := gcPercent(alive[0].Value.Uint64()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
