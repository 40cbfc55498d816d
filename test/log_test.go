package test

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// pipe is what a process writes to, and what reads it.
func pipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close(); _ = writer.Close() })
	return reader, writer
}

// startLoggingTo is [world.start] with standard error of its own.
func (w *world) startLoggingTo(stderr *os.File, env []string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stderr = append(append(w.env(), quick...), env...), stderr
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// ends tells a process to stop, and says how it ended.
func ends(t *testing.T, cmd *exec.Cmd, within time.Duration) error {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(within):
		t.Fatalf("still running %s after it was told to stop", within)
		return nil
	}
}

// TestLogPipeClosed: whoever reads the log may go, the charges in flight go on.
func TestLogPipeClosed(t *testing.T) {
	t.Parallel()
	const jobs = 20
	w := newWorld(t, klarnasim.Options{Latency: 200 * time.Millisecond})
	w.provision()
	reader, writer := pipe(t)
	worker := w.startLoggingTo(writer, nil, "work")
	if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	for n := range jobs {
		w.publish(job(n, "ok-"+strconv.Itoa(n)))
	}
	await(t, 20*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	if err := ends(t, worker, 20*time.Second); err != nil {
		t.Errorf("the worker ended with %v, want exit code 0", err)
	}
}

// TestOutputPipeClosed: what others rely on goes on when nobody reads what it prints, and a command in a pipe ends without a word.
func TestOutputPipeClosed(t *testing.T) {
	t.Parallel()
	closed := func(args ...string) *exec.Cmd {
		reader, writer := pipe(t)
		_ = reader.Close()
		cmd := exec.Command(program, args...)
		cmd.Env, cmd.Stdout = []string{"HOME=" + t.TempDir()}, writer
		return cmd
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	simulator := closed("klarna-sim", "--addr="+address)
	if err := simulator.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = simulator.Process.Kill(); _ = simulator.Wait() })
	await(t, 20*time.Second, "the simulator", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	var ended *exec.ExitError
	if err := ends(t, simulator, 20*time.Second); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		t.Errorf("the simulator ended with %v, want exit code 130: it was told to stop", err)
	}
	if err := closed("dev").Run(); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("dev ended with %v, want exit code 1: its results were not written", err)
	}
	if err := closed("dunning-table").Run(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("dunning-table ended with %v, want %v", err, syscall.SIGPIPE)
	}
}
