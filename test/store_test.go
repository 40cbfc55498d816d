package test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// TestDeployedStoreIsEncrypted: a job that is charged, one that waits, is parked or ends as a dead letter, and their customer
// tokens stand nowhere on the disks of the shipped servers, neither in streams nor in what servers replicate. Without the
// cipher they do, so that it is known to be looked for in the right place.
func TestDeployedStoreIsEncrypted(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, file string
		nodes      int
		change     func(*server.Options)
		clear      bool
	}{
		{name: "one server", file: "node.conf", nodes: 1, change: func(*server.Options) {}},
		{name: "three servers", file: "cluster.conf", nodes: 3, change: func(*server.Options) {}},
		{name: "without the cipher", file: "node.conf", nodes: 1, change: func(o *server.Options) { o.JetStreamKey, o.JetStreamCipher = "", server.NoCipher }, clear: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := deploy(t, row.file, row.nodes, row.change)
			if row.nodes > 1 {
				await(t, 30*time.Second, "the servers to have a leader", func() bool {
					return slices.ContainsFunc(d.servers, func(s *server.Server) bool {
						return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == row.nodes
					})
				})
			}
			const token, customer = "ok-d6a1c5c0-51c3-4b0f-9a2e-2f9a5b8f7e61", "premium-monthly-of-a-customer"
			d.does("provisioner", "provision", "--replicas="+map[bool]string{true: "3", false: "1"}[row.nodes > 1])
			worker := d.as("worker", "work")
			var lines []byte
			for n := range 3 {
				lines = append(append(lines, job(n, token, func(j map[string]any) {
					j["order"].(map[string]any)["order_lines"].([]any)[0].(map[string]any)["name"] = customer
					switch n {
					case 1: // a dead letter, which is kept
						j["expires_at"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
					case 2: // parked
						j["due_at"] = time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
					}
				})...), '\n')
			}
			file := filepath.Join(t.TempDir(), "jobs.jsonl")
			write(t, file, string(lines))
			d.does("publisher", "publish", "--untimely", file)
			await(t, 30*time.Second, "the jobs to be done with", func() bool {
				status := d.as("monitor", "status", "--json")
				status.exit(30 * time.Second)
				said := status.text()
				return strings.Contains(said, `"dead_letters":1`) && strings.Contains(said, `"parked":1`) && strings.Contains(worker.text(), `"kind":"paid"`)
			})
			found := map[string]int{token: 0, customer: 0}
			files := 0
			for _, s := range d.servers {
				err := filepath.WalkDir(s.StoreDir(), func(path string, e fs.DirEntry, err error) error {
					if os.IsNotExist(err) { // servers replace files
						return nil
					}
					if err != nil || !e.Type().IsRegular() {
						return err
					}
					text, err := os.ReadFile(path)
					if os.IsNotExist(err) {
						return nil
					}
					files++
					for what := range found {
						found[what] += bytes.Count(text, []byte(what))
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for what, n := range found {
				if (n > 0) != row.clear {
					t.Errorf("%s stands %d times in the store in clear, want that: %t", what, n, row.clear)
				}
			}
			if files < 10 {
				t.Errorf("looked at %d files", files)
			}
			t.Logf("%d files", files)
		})
	}
}
