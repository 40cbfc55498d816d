package test

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/messages"
)

// programs are those that messages/README.md shows, by file name.
func programs(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../messages/README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^<!-- (\\w+\\.\\w+) -->\n```\\w+\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		shown[m[1]] = m[2]
	}
	if len(shown) != 9 {
		t.Fatalf("found %d programs in messages/README.md, expected connection, publisher and consumer in three languages", len(shown))
	}
	return shown
}

// TestReadmeClientsInGo builds what messages/README.md shows as a reader would, beside connect.go, in a folder that is not in the checkout.
func TestReadmeClientsInGo(t *testing.T) {
	t.Parallel()
	shown, dir := programs(t), t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]string{}
	for name, text := range shown {
		if filepath.Ext(name) != ".go" {
			continue
		}
		if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
			t.Errorf("%s is not formatted (%v)", name, err)
		}
		write(t, filepath.Join(dir, name), text)
		for _, program := range []string{"publisher", "consumer"} {
			if name == "connect.go" || name == program+".go" {
				overlay[filepath.Join(root, "messages/shown", program, name)] = filepath.Join(dir, name)
			}
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(text))
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir+"/", "./messages/shown/publisher", "./messages/shown/consumer")
	build.Dir = root
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	asShown(t, dir, filepath.Join(dir, "publisher"), filepath.Join(dir, "consumer"), "")
}

// TestClientsOfReadme runs what messages/README.md shows in other languages.
func TestClientsOfReadme(t *testing.T) {
	dir := clients(t)
	for name, text := range programs(t) {
		write(t, filepath.Join(dir, name), text)
	}
	t.Run("JavaScript", func(t *testing.T) { asShown(t, dir, "node", "node", ".mjs") })
	t.Run("Python", func(t *testing.T) { asShown(t, dir, python(t), "python3", ".py") })
}

// asShown runs a publisher and a consumer in a folder, by themselves or by an interpreter where they have an extension.
func asShown(t *testing.T, dir, publisher, consumer, extension string) {
	d := deploy(t, "node.conf", 1)
	shown := func(user, command, name, stdin string) *process {
		t.Helper()
		var args []string
		if extension != "" {
			args = []string{name + extension}
		}
		cmd := exec.Command(command, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		file := func(name string) string { return filepath.Join(d.dir, name) }
		cmd.Env = append(os.Environ(), "NATS_URL="+d.servers[0].ClientURL(), "NATS_NKEY="+file(user+".nk"), "NATS_CA="+file("ca.pem"), "NATS_CERT="+file("client.pem"), "NATS_KEY="+file("client.key"))
		return launch(t, cmd)
	}

	// The stream is not there yet: nobody answers, and a publisher goes on trying.
	jobs := []string{string(job(1, "ok-1")), string(job(2, "soft-decline-2")), string(job(2, "soft-decline-2")), string(job(3, "503-bare-3"))}
	p := shown("publisher", publisher, "publisher", strings.Join(jobs, "\n")+"\n")
	await(t, 20*time.Second, "the publisher to try again", func() bool { return strings.Contains(p.text(), "again in 1") })
	d.does("provisioner", "provision")
	d.mirror(1)
	if code := p.exit(30 * time.Second); code != 0 {
		t.Fatalf("the publisher's exit code is %d", code)
	}
	for _, line := range []string{"1234001/2026-12/1: ", "1234002/2026-12/1: published\n1234002/2026-12/1: was published before\n1234003/2026-12/1: published\n"} {
		if !strings.Contains(p.text(), line) {
			t.Errorf("the publisher does not say %q", line)
		}
	}

	worker := d.as("worker", "work")
	c := shown("consumer", consumer, "consumer", "")
	says := func(pattern string) {
		t.Helper()
		await(t, 30*time.Second, pattern, func() bool { return regexp.MustCompile(`(?m)` + pattern).MatchString(c.text()) })
	}
	says(`^1234001 2026-12: paid, order \S+$`)
	says(`^1234002 2026-12: tell the customer \(payment_method_failed\), next attempt 20\S+Z$`)
	says(`^unresolved: passed over$`)
	if code := c.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the consumer's exit code is %d", code)
	}
	worker.kill()

	// It goes on where it ended.
	c = shown("consumer", consumer, "consumer", "")
	d.does("operator", "resolve", "1234003/2026-12", "--not-charged", "--yes")
	correction := `^1234003 2026-12: ours to mend \(not_charged\), no longer unresolved, next attempt 20\S+Z$`
	says(correction)
	if regexp.MustCompile(`(?m)^123400[12]`).MatchString(c.text()) {
		t.Error("what was acked comes again")
	}
	// The same record once more is no other one: what follows is.
	operator, _ := d.jetStreamAs("operator")
	journal, err := operator.Stream(t.Context(), messages.StreamJournal)
	if err != nil {
		t.Fatal(err)
	}
	record, err := journal.GetLastMsgForSubject(t.Context(), "renewals.dunning.1234003.>")
	if err != nil {
		t.Fatal(err)
	}
	again := &nats.Msg{Subject: record.Subject, Data: record.Data, Header: nats.Header{"ce-id": record.Header["ce-id"], messages.HeaderState: record.Header[messages.HeaderState]}}
	if _, err := operator.PublishMsg(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	d.does("operator", "cancel", "1234002", "2026-12", "--yes")
	says(`^cancelled: passed over$`)
	if n := len(regexp.MustCompile(`(?m)`+correction).FindAllString(c.text(), -1)); n != 1 {
		t.Errorf("a result that came twice was acted upon %d times", n)
	}
	// What cannot be acted upon is said, and comes again.
	if _, err := operator.Publish(t.Context(), "renewals.paid.x.y.0.default", []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	says(`renewals\.paid\.x\.y\.0\.default: .`)
	results, _ := d.jetStreamAs("consumer")
	durable, err := results.Consumer(t.Context(), messages.StreamJournal, map[string]string{"": "access-go", ".mjs": "access-js", ".py": "access-py"}[extension])
	if err != nil {
		t.Fatal(err)
	}
	if info := durable.CachedInfo(); info.NumAckPending != 1 || info.NumPending != 0 {
		t.Errorf("not acked: %d, not handed out: %d; want the one that cannot be acted upon", info.NumAckPending, info.NumPending)
	}
	if code := c.stop(syscall.SIGINT); code != 0 {
		t.Errorf("the consumer's exit code is %d", code)
	}
	if refused := d.log.seen(); len(refused) > 0 {
		t.Errorf("refused:\n%s", strings.Join(refused, "\n"))
	}
}
