package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// writes keeps each write by itself.
type writes struct {
	read  chan struct{} // until it is closed each write blocks; nil: none does
	mu    sync.Mutex
	texts []string
	err   error // of each
}

func (w *writes) Write(p []byte) (int, error) {
	if w.read != nil {
		<-w.read
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.texts = append(w.texts, string(p))
	return len(p), nil
}

// seen are the writes so far.
func (w *writes) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.texts
}

func gapOf(lines int) []byte { return fmt.Appendf(nil, "%d missing\n", lines) }

func TestLogLinesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		gathered, flush := NewLogLines(&out, gapOf, func(n int) { t.Errorf("%d lines dropped", n) })
		log := zerolog.New(gathered)
		seen := func() []string {
			synctest.Wait()
			return out.seen()
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
		for range 2 {
			if !flush() {
				t.Error("not everything is written")
			}
			if out := seen(); len(out) != 4 || !strings.Contains(out[3], "last") {
				t.Errorf("%q, want the last line when all is over, once", out)
			}
		}
	})
}

func TestLogLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := writes{read: make(chan struct{})}
		dropped := 0
		gathered, flush := NewLogLines(&out, gapOf, func(n int) { dropped += n })
		write := func(lines int) {
			for range lines {
				if n, err := gathered.Write([]byte(strings.Repeat("x", 1023) + "\n")); n != 1024 || err != nil {
					t.Fatal(n, err)
				}
			}
			synctest.Wait()
		}
		const written, most, over = logHeld >> 10, logMost >> 10, 100
		write(written) // at once, although nobody reads
		write(most + over)
		if dropped != over {
			t.Errorf("%d lines dropped, want the %d for which there is no room", dropped, over)
		}
		close(out.read)
		synctest.Wait()
		if texts := out.seen(); len(texts) != 2 || len(texts[0]) != logHeld || texts[1] != strings.Repeat(strings.Repeat("x", 1023)+"\n", most)+"100 missing\n" {
			t.Errorf("%d writes, the last of %d bytes, want one of %d and all that there was room for, with what is missing behind it", len(texts), len(texts[len(texts)-1]), logHeld)
		}

		if _, err := gathered.Write(make([]byte, logMost+1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if texts := out.seen(); texts[len(texts)-1] != "1 missing\n" {
			t.Errorf("%.100q, want that a line is missing for which there is never room", texts[len(texts)-1])
		}
		flush()
	})
}

// A full disk drops lines, too, and is told of once there is room.
func TestLogLinesThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := writes{err: syscall.ENOSPC}
		var dropped atomic.Int64
		gathered, flush := NewLogLines(&out, gapOf, func(n int) { dropped.Add(int64(n)) })
		for range 2 {
			_, _ = gathered.WriteLevel(zerolog.ErrorLevel, []byte("lost\n"))
			synctest.Wait()
		}
		out.mu.Lock()
		out.err = nil
		out.mu.Unlock()
		_, _ = gathered.WriteLevel(zerolog.ErrorLevel, []byte("kept\n"))
		if flush(); dropped.Load() != 2 || fmt.Sprint(out.seen()) != "[kept\n2 missing\n]" {
			t.Errorf("%d lines dropped, %q written", dropped.Load(), out.seen())
		}
	})
}

// TestLogPipeBlocked: nobody waits for a pipe that nobody reads, and whoever begins to read it finds what is missing.
func TestLogPipeBlocked(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			defer writer.Close()
			var dropped atomic.Int64
			log, flush := LogSettings{Level: "info", Format: format}.Gathered(Log{Stderr: writer, Margin: NewPage(writer, true)}, func(n int) { dropped.Add(int64(n)) })
			const lines = 10_000
			for n := range lines {
				log.Warn().Int("n", n).Msg(strings.Repeat("x", 300))
			}
			began := time.Now()
			if flush() {
				t.Error("everything is written, to a pipe that nobody reads")
			}
			if took := time.Since(began); took > logLeave+10*time.Second {
				t.Errorf("the end waited %s for it", took)
			}
			if dropped.Load() == 0 {
				t.Error("no line is counted as dropped")
			}
			var read bytes.Buffer
			found := make(chan error, 1)
			go func() { _, err := io.Copy(&read, reader); found <- err }()
			if !flush() {
				t.Error("not everything is written, to a pipe that is read")
			}
			_ = writer.Close()
			if err := <-found; err != nil {
				t.Fatal(err)
			}
			all := strings.SplitAfter(strings.TrimSpace(read.String()), "\n")
			last := all[len(all)-1]
			if got, want := len(all)-1, lines-int(dropped.Load()); got != want || !strings.Contains(last, "lines of the log are missing") || !strings.Contains(last, fmt.Sprint(dropped.Load())) {
				t.Errorf("%d lines and then %s, want %d and that %d are missing", got, last, want, dropped.Load())
			}
		})
	}
}
