package test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
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

// ends says how a process ended that was told to by a signal; 0: by none.
func ends(t *testing.T, cmd *exec.Cmd, told syscall.Signal, within time.Duration) error {
	t.Helper()
	if err := cmd.Process.Signal(told); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(within):
		t.Fatalf("still running after %s", within)
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
	if err := ends(t, worker, syscall.SIGTERM, 20*time.Second); err != nil {
		t.Errorf("the worker ended with %v, want exit code 0", err)
	}
}

// fullPipe takes nothing more, and nobody reads it.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	_, writer := pipe(t)
	if err := writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := writer.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the pipe took %d bytes (%v), want it full", n, err)
	}
	return writer
}

// TestLogPipeBlocked: a log that nobody reads keeps no job waiting, nor the end of the worker.
func TestLogPipeBlocked(t *testing.T) {
	t.Parallel()
	const jobs = 300
	w := newWorld(t, klarnasim.Options{})
	stderr := fullPipe(t)
	var ended *exec.ExitError
	if err := ends(t, w.startLoggingTo(stderr, nil, "work"), 0, 20*time.Second); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("without streams the worker ended with %v, want exit code 1", err)
	}
	w.provision()
	for n := range jobs {
		w.publish(job(n, "ok-"+strconv.Itoa(n)))
	}
	address := freeAddress(t)
	worker := w.startLoggingTo(stderr, []string{"RENEWALS_LOG_LEVEL=debug", "RENEWALS_OPS_ADDR=" + address}, "work")
	await(t, 30*time.Second, "the jobs to leave the stream", func() bool { return w.left() == 0 })
	w.settledOnce(jobs)
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if metrics, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(metrics), "\nrenewals_log_lines_dropped_total 0\n") {
		t.Errorf("no count of lines that were dropped (%v):\n%.1000s", err, metrics)
	}
	if err := ends(t, worker, syscall.SIGTERM, 20*time.Second); err != nil {
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
	address := freeAddress(t)
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
	if err := ends(t, simulator, syscall.SIGTERM, 20*time.Second); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		t.Errorf("the simulator ended with %v, want exit code 130: it was told to stop", err)
	}
	if err := closed("dev").Run(); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("dev ended with %v, want exit code 1: its results were not written", err)
	}
	if err := closed("dunning-table").Run(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("dunning-table ended with %v, want %v", err, syscall.SIGPIPE)
	}
}
