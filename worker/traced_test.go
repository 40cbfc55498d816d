package worker

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// TestTracedAccount: the server follows each message of an account that has a sampled traceparent, to a destination of the account's. It adds
// headers to what it stores of them, and drops those of a user who may not publish there. Neither may happen to a record, whose mark
// has its headers, nor to a job that is parked.
func TestTracedAccount(t *testing.T) {
	for name, permissions := range map[string]string{"may be told of": `{}`, "may not be told of": `{publish: {deny: "trace.dest"}}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(config, []byte(`accounts {
				APP { jetstream: enabled, users: [{user: worker, password: secret, permissions: `+permissions+`}], msg_trace { dest: "trace.dest", sampling: 100 } }
			}`), 0o600); err != nil {
				t.Fatal(err)
			}
			var o server.Options
			if err := o.ProcessConfigFile(config); err != nil {
				t.Fatal(err)
			}
			w := newWorldOf(t, &o, nats.UserInfo("worker", "secret"))
			var worker *Worker
			w.startWith(&worker)
			traced := nats.Header{"traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Nats-Trace-Dest": {"trace disabled"}} // as a publisher has to who may not
			w.publishTo("default", w.due("traced", "ok-1", 1), traced)
			w.publishTo("default", w.due("early", "ok-2", 1, w.dueIn(2500*time.Millisecond)), traced)
			w.awaitEmpty()
			w.verified()
			w.expect(2, "paid", "paid")
			if why := worker.Ready(); why != nil {
				t.Errorf("not ready: %v", why)
			}
		})
	}
}
