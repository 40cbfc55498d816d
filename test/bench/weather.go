//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What a round may lose to others before it is discarded, as shares of all processors' time.
const (
	mostSteal = 0.03
	mostLoad  = 0.10
)

// weather is what others had of the processors while a round was measured.
type weather struct {
	Steal float64 `json:"steal"` // by the machine's host, of all time
	Load  float64 `json:"load"`  // by programs that do not belong to the benchmark, of all time
}

func (w weather) quiet() bool { return w.Steal <= mostSteal && w.Load <= mostLoad }

// clocks are the times of the whole machine since it started, this program's with all that it has started and awaited, and
// those of the kernel's threads, which bring pages to the disk for a run and are no other program.
type clocks struct{ all, busy, steal, own, kernel time.Duration }

// since is the weather from one reading to another. Processes of the benchmark must have ended before both.
func (c clocks) since(before clocks) (w weather) {
	all := float64(c.all - before.all)
	if all <= 0 {
		return w
	}
	w.Steal = float64(c.steal-before.steal) / all
	others := (c.busy - before.busy) - (c.own - before.own) - (c.kernel - before.kernel)
	w.Load = max(float64(others)/all, 0) // the machine counts in ticks, this program's time is told to the microsecond
	return w
}

func readClocks() (c clocks, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, err
	}
	if c, err = parseClocks(text); err != nil {
		return c, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			return c, err
		}
		c.own += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	c.kernel, err = kernelThreads("/proc")
	return c, err
}

// kernelThreads is the time of the kernel's threads that there are.
func kernelThreads(proc string) (sum time.Duration, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	const kthreadd = "2" // the parent of them all
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		parent, used, err := parseStat(text)
		if err != nil {
			return 0, fmt.Errorf("process %s: %w", entry.Name(), err)
		}
		if parent == kthreadd {
			sum += used
		}
	}
	return sum, nil
}

// parseClocks reads the line of all processors, in hundredths of a second: user, nice, system, idle, iowait, irq, softirq,
// steal, and then guests, which user has already. https://man7.org/linux/man-pages/man5/proc_stat.5.html
func parseClocks(text []byte) (c clocks, err error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := strings.Fields(string(line))
	const user, nice, system, idle, iowait, irq, softirq, steal = 1, 2, 3, 4, 5, 6, 7, 8
	if len(fields) <= steal || fields[0] != "cpu" {
		return c, fmt.Errorf("read /proc/stat: found %q, expected the times of all processors", line)
	}
	for n, field := range fields[:steal+1] {
		if n == 0 {
			continue
		}
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return c, fmt.Errorf("read /proc/stat: %w", err)
		}
		took := time.Duration(ticks) * (time.Second / 100)
		c.all += took
		switch n {
		case user, nice, system, softirq, irq:
			c.busy += took
		case steal:
			c.steal += took
		case idle, iowait:
		}
	}
	return c, nil
}

// loadAverage is how many programs wanted a processor in the last minute.
func loadAverage() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one, nil
}
