package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clients is the folder in which `make clients` has installed what the official clients of other languages need.
func clients(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CLIENTS")
	if dir == "" {
		t.Skip("`make clients` installs the clients for JavaScript and Python")
	}
	return dir
}

// history is NATS as deploy/nats configures it with a paid, a refused and a rejected renewal, and no worker any more.
func history(t *testing.T) *deployed {
	t.Helper()
	d := deploy(t, "node.conf", 1)
	d.does("provisioner", "provision")
	d.mirror(1)
	jobs := filepath.Join(d.dir, "jobs.jsonl")
	write(t, jobs, strings.Join([]string{
		string(job(1, "ok-1")), string(job(2, "soft-decline-2")),
		string(job(3, "ok-3", func(j map[string]any) { j["expires_at"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339) })),
	}, "\n"))
	d.does("publisher", "publish", jobs)
	watching := d.as("consumer", "watch", "--json", "--since=1h")
	worker := d.as("worker", "work")
	for _, kind := range []string{"paid", "dunning", "rejected"} {
		await(t, 30*time.Second, kind, func() bool { return strings.Contains(watching.text(), `{"kind":"`+kind+`"`) })
	}
	watching.kill()
	worker.kill()
	write(t, filepath.Join(d.dir, "job.json"), string(job(9, "ok-9")))
	return d
}

// script runs a file of this folder in the one of the clients, where its imports are.
func script(t *testing.T, dir, interpreter, name string, args ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("clients", name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), string(text))
	p := &process{cmd: exec.Command(interpreter, append([]string{name}, args...)...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(p.kill)
	code := p.exit(2 * time.Minute)
	if code != 0 {
		t.Errorf("%s %s: exit code %d", interpreter, name, code)
	}
	t.Log(strings.TrimSpace(p.text()))
}

// python says by what nats.py is run, and skips where there is none: not every registry has it.
func python(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("python3", "-c", "import nats.js, nkeys").CombinedOutput(); err != nil {
		t.Skipf("NOT TRIED with Python: no nats.py with nkeys here (%v)\n%s", err, out)
	}
	return "python3"
}

// TestClientsOfRoles: every role does its work through the official clients, with the permissions that are shipped, and nothing else.
func TestClientsOfRoles(t *testing.T) {
	dir := clients(t)
	t.Run("JavaScript", func(t *testing.T) { script(t, dir, "node", "roles.mjs", history(t).dir) })
	t.Run("JavaScript, nats 2", func(t *testing.T) { script(t, dir, "node", "roles2.mjs", history(t).dir) })
	t.Run("Python", func(t *testing.T) { script(t, dir, python(t), "roles.py", history(t).dir) })
}
