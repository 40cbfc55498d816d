package cli

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// writes keeps each write by itself.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestLogLinesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		gathered, flush := NewLogLines(&out)
		log := zerolog.New(gathered)
		seen := func() []string {
			synctest.Wait()
			gathered.mu.Lock()
			defer gathered.mu.Unlock()
			return slices.Clone(out)
		}
		log.Info().Msg("one")
		log.Debug().Msg("two")
		<-time.After(logHeldFor - 1)
		if out := seen(); len(out) != 0 {
			t.Errorf("%q before their time", out)
		}
		<-time.After(time.Nanosecond)
		if out := seen(); len(out) != 1 || strings.Count(out[0], "\n") != 2 {
			t.Errorf("%q, want two lines in one write", out)
		}
		<-time.After(time.Minute)
		log.Info().Msg("three")
		<-time.After(logHeldFor)
		if out := seen(); len(out) != 2 || !strings.Contains(out[1], "three") {
			t.Errorf("%q, want the third line by itself", out)
		}

		log.Info().Msg("before")
		log.Warn().Msg("trouble")
		if out := seen(); len(out) != 3 || !strings.Contains(out[2], "before") || !strings.HasSuffix(out[2], "trouble\"}\n") {
			t.Errorf("%q, want a warning at once and what came before it first", out)
		}
		log.Info().Msg("last")
		flush()
		if out := seen(); len(out) != 4 || !strings.Contains(out[3], "last") {
			t.Errorf("%q, want the last line when all is over", out)
		}
		flush()
		<-time.After(time.Minute)
		if out := seen(); len(out) != 4 {
			t.Errorf("%q, want nothing written of nothing", out)
		}
	})
}

func TestLogLinesAreBounded(t *testing.T) {
	var out writes
	gathered, flush := NewLogLines(&out)
	defer flush()
	line := strings.Repeat("x", 1000) + "\n"
	for range 100 {
		if n, err := gathered.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(out) != 3 {
		t.Fatalf("%d writes, want 3", len(out))
	}
	for _, text := range out {
		if len(text) > logHeld+len(line) || !strings.HasSuffix(text, "x\n") {
			t.Errorf("a write of %d bytes", len(text))
		}
	}
}
