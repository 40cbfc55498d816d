package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/messages"
)

// answered is a conversation as it went over the wire somewhere, and what has to become of it.
type answered struct {
	Name    string
	Replies []struct {
		Raw   string // each character is one byte
		Close bool   // the connection ends behind it
		Then  string // comes late on this connection, before the answer to whatever is asked on it next
	} // to the first POST and the following; the last repeats
	Kind, Reason string
	OrderID      string `json:"order_id"`
	Posts        int
	Unread       bool // the first reply is from somebody who did not look at the order: the key's clock does not run
}

func wireBytes(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// witness is a Klarna that imports nothing of ours: a TCP server that says what it was given, byte for byte. Tokens are
// known by the number of the conversation that they end with.
type witness struct {
	URL      string
	script   []answered
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	posts [][]string // of each conversation: key and body
	wrong []string
}

func newWitness(t *testing.T, script []answered) *witness {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{URL: "http://" + listener.Addr().String(), script: script, listener: listener, conns: map[net.Conn]bool{}, posts: make([][]string, len(script))}
	w.serving.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for conn := range w.conns {
			_ = conn.Close()
		}
		w.mu.Unlock()
		w.serving.Wait()
	})
	return w
}

func (w *witness) accept() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.conns[conn] = true
		w.mu.Unlock()
		w.serving.Go(func() {
			w.talk(conn)
			_ = conn.Close()
			w.mu.Lock()
			delete(w.conns, conn)
			w.mu.Unlock()
		})
	}
}

func (w *witness) talk(conn net.Conn) {
	reader := bufio.NewReader(conn)
	late := ""
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		if late != "" {
			_, _ = conn.Write(wireBytes(late))
			return
		}
		if strings.HasSuffix(request.URL.Path, "/00000000-0000-0000-0000-000000000000") { // which names nobody
			unknown := `{"error_code":"NOT_FOUND","error_messages":["Invalid customer-token ID"],"correlation_id":"c"}`
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(unknown), unknown)
			continue
		}
		if request.Method == http.MethodGet { // reading a token, or an order
			known := `{"status":"ACTIVE","payment_method_type":"INVOICE"}`
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(known), known)
			continue
		}
		n := w.note(request, body)
		if n < 0 {
			return
		}
		replies := w.script[n].Replies
		reply := replies[min(w.count(n), len(replies))-1]
		if _, err := conn.Write(wireBytes(reply.Raw)); err != nil || reply.Close {
			return
		}
		late = reply.Then
	}
}

// note keeps a POST and says which conversation it belongs to.
func (w *witness) note(request *http.Request, body []byte) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Sscanf(request.URL.Path, "/customer-token/v1/tokens/conversation-%d/order", &n); err != nil || n >= len(w.script) {
		w.wrong = append(w.wrong, "POST "+request.URL.Path)
		return -1
	}
	if coding := request.Header.Get("Accept-Encoding"); coding != "identity" {
		w.wrong = append(w.wrong, fmt.Sprintf("Accept-Encoding: %q", coding))
	}
	w.posts[n] = append(w.posts[n], request.Header.Get("Klarna-Idempotency-Key")+" "+string(body))
	return n
}

func (w *witness) count(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.posts[n])
}

// TestRecordedAnswers: a real worker against answers as servers gave them, byte for byte, spoken by a server that shares none of
// our beliefs. Each conversation has an account of its own, so that none can pause another.
//
// S54 (an answer that comes late on the same connection), S55 (the host has moved), S56 (gzip without being asked), and
// the looser forms of Klarna's own words.
func TestRecordedAnswers(t *testing.T) {
	t.Parallel()
	var script []answered
	recorded, err := os.ReadFile(filepath.Join("testdata", "answers.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(recorded) {
		var a answered
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		script = append(script, a)
	}
	if len(script) < 30 {
		t.Fatalf("%d conversations, want 30 or more", len(script))
	}
	klarna := newWitness(t, script)
	w := newWorld(t, klarnasim.Options{})
	secret := filepath.Join(w.store, "password")
	if err := os.WriteFile(secret, []byte("secret-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := "accounts:\n"
	var accounts []messages.Account
	for n := range script {
		accounts = append(accounts, messages.Account(fmt.Sprintf("conversation-%d", n)))
		config += fmt.Sprintf("- {name: %s, endpoint: %s, username: merchant, password_file: %s}\n", accounts[n], klarna.URL, secret)
	}
	file := filepath.Join(w.store, "renewals.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.provision(accounts...)
	payloads := make([][]byte, len(script))
	for n, account := range accounts {
		payloads[n] = job(n, fmt.Sprintf("conversation-%d", n))
		if _, err := w.js.Publish(t.Context(), messages.DueSubject(account), payloads[n]); err != nil {
			t.Fatal(err)
		}
	}
	w.start([]string{"RENEWALS_CONFIG=" + file, "KLARNA_ENDPOINT=", "KLARNA_USERNAME=", "KLARNA_PASSWORD="}, "work")
	await(t, 60*time.Second, "a result of every conversation", func() bool { return w.left() == 0 })

	results, stopped := map[string]record{}, map[string]bool{}
	for _, r := range w.results() {
		results[r.Event["account"].(string)] = r
	}
	for _, r := range w.records() {
		stopped[r.Event["account"].(string)] = stopped[r.Event["account"].(string)] || r.Kind == "charging" && !strings.Contains(r.State, `"first_sent_at"`)
	}
	klarna.mu.Lock()
	defer klarna.mu.Unlock()
	for n, a := range script {
		r := results[string(accounts[n])]
		reason, _ := r.Event["reason"].(string)
		order, _ := r.Event["order_id"].(string)
		if r.Kind != a.Kind || reason != a.Reason || order != a.OrderID {
			t.Errorf("%s: %s %s %s, want %s %s %s", a.Name, r.Kind, reason, order, a.Kind, a.Reason, a.OrderID)
		}
		if stopped[string(accounts[n])] != a.Unread {
			t.Errorf("%s: the key's clock stopped %v, want %v", a.Name, !a.Unread, a.Unread)
		}
		posts := klarna.posts[n]
		if len(posts) != a.Posts {
			t.Errorf("%s: %d POSTs, want %d", a.Name, len(posts), a.Posts)
		}
		_, key := keys(payloads[n])
		for _, post := range posts {
			if post != posts[0] || !strings.HasPrefix(post, string(key)+" {") {
				t.Errorf("%s: another key or other bytes: %.60s", a.Name, post)
			}
		}
	}
	if len(klarna.wrong) > 0 {
		t.Errorf("requests that no server expects: %q", klarna.wrong)
	}
}
