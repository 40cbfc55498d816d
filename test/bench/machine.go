//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine is what figures depend on.
type machine struct {
	CPU    string        `json:"cpu"`
	Cores  int           `json:"cores"`
	Kernel string        `json:"kernel"`
	Go     string        `json:"go"`
	Broker string        `json:"nats_server"`
	Fsync  time.Duration `json:"fsync_ns"` // the median, where the brokers store
	Load   string        `json:"load"`     // the average of the minute before
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, nats-server %s; an fsync takes %s; load before it began: %s",
		m.CPU, m.Cores, m.Kernel, m.Go, m.Broker, m.Fsync.Round(time.Microsecond), m.Load)
}

func thisMachine(t tools, dir string) (machine, error) {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), Load: t.load}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil { // not every architecture names its model
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, err
	}
	m.Kernel = strings.TrimSpace(string(kernel))
	version, err := exec.Command(t.broker, "--version").Output()
	if err != nil {
		return m, fmt.Errorf("ask nats-server for its version: %w", err)
	}
	m.Broker = strings.TrimPrefix(strings.TrimSpace(string(version)), "nats-server: v")
	m.Fsync, err = fsync(dir)
	return m, err
}

// fsync is how long the disk takes to keep a page.
func fsync(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, 101)
	page := make([]byte, 4<<10)
	for n := range took {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took[n] = time.Since(began)
	}
	return median(took), nil
}
