package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// clients is the folder in which `make clients`, which .ci/run calls, has installed what the official clients of other languages need.
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
	d.does("publisher", "publish", "--untimely", jobs)
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
	cmd := exec.Command(interpreter, append([]string{name}, args...)...)
	cmd.Dir = dir
	p := launch(t, cmd)
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

// TestClientsOfForwardedResults: what `watch --forward-to` posts is what CloudEvents' own SDK reads, in the order of the journal.
func TestClientsOfForwardedResults(t *testing.T) {
	dir := clients(t)
	d := history(t)
	text, err := os.ReadFile("clients/receive.mjs")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "receive.mjs"), string(text))
	endpoint := &process{cmd: exec.Command("node", "receive.mjs"), done: make(chan struct{})}
	endpoint.cmd.Dir, endpoint.cmd.Stdout, endpoint.cmd.Stderr = dir, endpoint, endpoint
	if err := endpoint.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { endpoint.err = endpoint.cmd.Wait(); close(endpoint.done) }()
	t.Cleanup(endpoint.kill)
	await(t, 20*time.Second, "the endpoint", func() bool { return strings.Contains(endpoint.text(), "\n") })
	to, _, _ := strings.Cut(endpoint.text(), "\n")

	watching := d.as("consumer", "watch", "--json", "--since=1h", "--forward-to="+to)
	await(t, 30*time.Second, "three events", func() bool { return strings.Count(endpoint.text(), "\n") == 4 })
	await(t, 10*time.Second, "their answers", func() bool { return strings.Count(watching.text(), "204 No Content") == 3 })
	if code := watching.stop(os.Interrupt); code != 130 || !strings.Contains(watching.text(), "503 Service Unavailable; again in ") || !strings.Contains(watching.text(), "forwarded 3, refused 0") {
		t.Errorf("exit code %d:\n%s", code, watching.text())
	}
	var printed []string // kind and id, from watch itself
	for line := range strings.Lines(watching.text()) {
		var r struct{ Kind, ID string }
		if json.Unmarshal([]byte(line), &r) == nil {
			printed = append(printed, r.Kind+" "+r.ID)
		}
	}
	for i, line := range strings.Split(strings.TrimSpace(endpoint.text()), "\n")[1:] {
		var e struct {
			ID, Type, Source, Subject, DataContentType, DataSchema string
			Data                                                   struct {
				ID             string
				SubscriptionID string `json:"subscription_id"`
				Period         string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		kind := strings.TrimSuffix(strings.TrimPrefix(e.Type, "renewals."), ".v1")
		if kind+" "+e.Data.ID != printed[i] || e.ID == "" || e.Source != "renewals/default" || e.Subject != e.Data.SubscriptionID+"/"+e.Data.Period ||
			e.DataContentType != "application/json" || e.DataSchema != messages.SchemaID(kind) {
			t.Errorf("event %d, printed as %s: %s", i, printed[i], line)
		}
	}
}
