//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one of the programs of a run. What it says goes to a file: a pipe would make this process read every line.
type process struct {
	name   string
	cmd    *exec.Cmd
	output string
	told   atomic.Bool // to end
	done   chan struct{}
}

// endedError is a process that ended without being told.
type endedError struct{ name, how, said string }

func (e *endedError) Error() string { return e.name + " ended by itself: " + e.how + e.said }

// start runs a program. One that ends without being told is reported to died, with the last that it said.
func start(dir, name string, environment []string, died chan<- error, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), output: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	output, err := os.OpenFile(p.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = environment, output, output
	// In a group of its own an interrupt from the terminal reaches this process alone, which ends the others in order; and
	// they end with it, however that happens.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the state has it as well
		if !p.told.Load() {
			select {
			case died <- &endedError{name: name, how: p.cmd.ProcessState.String(), said: p.last(20)}:
			default: // one such error is enough
			}
		}
		close(p.done)
	}()
	return p, nil
}

// tell sends a signal after which the process is expected to end.
func (p *process) tell(signal syscall.Signal) {
	p.told.Store(true)
	_ = p.cmd.Process.Signal(signal) // it may have ended
}

// end waits until a process that was told to has ended. One that does not within 20 s is killed, which is an error.
func (p *process) end() error {
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.tell(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not stop within 20 s%s", p.name, p.last(20))
	}
}

// last is what the process said last, under its name, each line indented.
func (p *process) last(lines int) string {
	f, err := os.Open(p.output)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 16 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, err := io.ReadAll(f)
	if text = bytes.TrimSpace(text); err != nil || len(text) == 0 {
		return ""
	}
	all := strings.Split(string(text), "\n")
	return "\n" + p.name + " said last:\n    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}

// cpu is the processor time of all threads so far, to a hundredth of a second.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, used, err := parseStat(text)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
	}
	return used, nil
}

// parseStat reads a process's parent and processor time.
func parseStat(text []byte) (parent string, used time.Duration, err error) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // the name before it may hold spaces
	const ppid, utime, stime = 4 - 3, 14 - 3, 15 - 3
	if len(fields) <= stime {
		return "", 0, fmt.Errorf("found %q, expected 15 fields or more", text)
	}
	user, err := strconv.ParseInt(fields[utime], 10, 64)
	if err != nil {
		return "", 0, err
	}
	system, err := strconv.ParseInt(fields[stime], 10, 64)
	return fields[ppid], time.Duration(user+system) * (time.Second / 100), err
}

// memory is the resident set in bytes, now and at its largest. Getrusage would do for the latter only if the parent had
// less: its figure is inherited across exec.
// https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
func (p *process) memory() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "VmRSS":
			into = &now
		case "VmHWM":
			into = &peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
		}
		*into = kib << 10
	}
	return now, peak, nil
}
