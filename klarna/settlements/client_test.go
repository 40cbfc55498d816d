package settlements_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/settlements"
)

const apiKey = "klarna_test_api_KEY"

// pauses is a timer that passes at once and notes for how long it was set.
type pauses struct {
	mu  sync.Mutex
	set []time.Duration
	c   chan time.Time
	// then is called with each pause.
	then func()
}

func (p *pauses) Start(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = append(p.set, d)
	p.c = make(chan time.Time, 1)
	p.c <- time.Time{}
	if p.then != nil {
		p.then()
	}
}
func (p *pauses) Stop()               {}
func (p *pauses) C() <-chan time.Time { return p.c }

// client speaks to a handler, through the prefix of a path.
func client(t *testing.T, handler http.HandlerFunc, waits *pauses) *settlements.Client {
	t.Helper()
	server := httptest.NewServer(http.StripPrefix("/prefix", handler))
	t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL + "/prefix")
	if err != nil {
		t.Fatal(err)
	}
	config := settlements.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("K123456_a", apiKey), Timer: waits}
	c, err := settlements.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRecordedTransactions(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("testdata/transactions.json")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.URL.Path != "/settlements/v1/transactions" || r.FormValue("payment_reference") != "XISA93DJ" || r.FormValue("size") != "500" || user != "K123456_a" || password != apiKey {
			t.Errorf("asked for %s with %s", r.URL, user)
		}
		_, _ = w.Write(recorded)
	}, &pauses{})
	var rows []settlements.Transaction
	for row, err := range c.Transactions(t.Context(), "XISA93DJ") {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if len(rows) != 3 || rows[0].Amount != 2000 || rows[1].VATAmount != 20 || rows[2].Effect() != -500 || rows[2].PaymentReference != "XISA93DJ" || rows[2].Line != 3 || rows[0].SaleDate.Year() != 2016 {
		t.Errorf("found %+v", rows)
	}
}

// collection serves n transactions, total and all; told is what it says of their number, and most what it gives at a time.
func collection(n, told, most int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		size, _ := strconv.Atoi(r.FormValue("size"))
		if most > 0 {
			size = min(size, most)
		}
		rows := []settlements.Transaction{}
		for i := offset; i < min(offset+size, n); i++ {
			rows = append(rows, settlements.Transaction{Type: settlements.Sale, Amount: int64(i), OrderID: fmt.Sprint("o-", i)})
		}
		page := map[string]any{"count": len(rows)}
		if told >= 0 {
			page["total"] = told
		}
		if told < 0 && offset+size < n { // beside a total it says nothing
			page["next"] = "https://elsewhere.example/settlements/v1/transactions?offset=" + strconv.Itoa(offset+size)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"transactions": rows, "pagination": page})
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows, told int
		most       int // rows of a page, whatever is asked for; 0: as many
		requests   int64
		err        string
	}{
		{0, 0, 0, 1, ""}, {1, 1, 0, 1, ""}, {500, 500, 0, 1, ""}, {501, 501, 0, 2, ""}, {1200, 1200, 0, 3, ""},
		{500, -1, 0, 2, ""}, {1200, -1, 0, 3, ""}, // only count is required
		{50, 50, 20, 3, ""}, {50, -1, 20, 3, ""}, // shorter pages than asked for are not the end
		{499, 1200, 0, 2, "499 elements came, expected 1200"},
	} {
		var requests atomic.Int64
		serve := collection(c.rows, c.told, c.most)
		client := client(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			serve(w, r)
		}, &pauses{})
		n, last := 0, error(nil)
		for row, err := range client.Transactions(t.Context(), "P") {
			if last = err; err == nil {
				if n++; row.Amount != int64(n-1) || row.Line != n {
					t.Fatalf("row %d is %+v", n, row)
				}
			}
		}
		if n != c.rows || requests.Load() != c.requests || (last == nil) != (c.err == "") || last != nil && !strings.Contains(last.Error(), c.err) {
			t.Errorf("%+v: found %d rows in %d requests, %v", c, n, requests.Load(), last)
		}
	}
}

// TestPageThatIsNotWhole: a page that says of itself that elements are missing is not the report's.
func TestPageThatIsNotWhole(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"transactions":[{"type":"SALE","amount":1}],"pagination":{"count":2}}`)
	}, &pauses{})
	for _, err := range c.Transactions(t.Context(), "P") {
		if err == nil || err.Error() != "a page has 1 elements and says that they are 2" {
			t.Errorf("found %v", err)
		}
	}
}

// TestAnswerOfAnotherForm is told at once: it would come again as it is.
func TestAnswerOfAnotherForm(t *testing.T) {
	t.Parallel()
	waits := &pauses{}
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"payment_reference":"P","totals":{"sale_amount":"15.99"}}`)
	}, waits)
	if _, err := c.Payout(t.Context(), "P"); err == nil || !strings.Contains(err.Error(), "totals.sale_amount") || len(waits.set) != 0 {
		t.Errorf("found %v after %d pauses, want the field after none", err, len(waits.set))
	}
}

// TestAnswerThatStops: one that stands still in the middle of a page is asked for again, and the next is read.
func TestAnswerThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint, _ := url.Parse("https://api.klarna.com")
		answers := []io.ReadCloser{&stopping{ended: make(chan struct{})}, io.NopCloser(strings.NewReader(`{"payment_reference":"P"}`))}
		var told []string
		c, err := settlements.New(settlements.Config{
			Endpoint: endpoint, Credentials: klarna.StaticCredentials("u", apiKey), Waiting: func(err error, _ time.Duration) { told = append(told, err.Error()) },
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				body := answers[0]
				answers = answers[1:]
				return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Payout(t.Context(), "P")
		if err != nil || p.PaymentReference != "P" || len(told) != 1 || told[0] != "read answer: 8 bytes came within 1m5s, and no more" {
			t.Errorf("%+v, %v; told %q", p, err, told)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// stopping gives the beginning of an answer, and then nothing until it is closed.
type stopping struct {
	began bool
	ended chan struct{}
	once  sync.Once
}

func (s *stopping) Read(p []byte) (int, error) {
	if !s.began {
		s.began = true
		return copy(p, `{"paymen`), nil
	}
	<-s.ended
	return 0, http.ErrBodyReadAfterClose
}

func (s *stopping) Close() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

// TestTriesAgain: 429 and 5xx, and what is cut short, are tried again, and nothing else.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers []int
		header  string // Retry-After
		tries   int
		status  int // of the error, 0 without
	}{
		{[]int{429, 500, 502, 503, 504, 200}, "", 6, 0},
		{[]int{429, 200}, "90", 2, 0},
		{[]int{0, 0, 200}, "", 3, 0}, // cut
		{[]int{401}, "", 1, 401}, {[]int{403}, "", 1, 403}, {[]int{404}, "", 1, 404}, {[]int{400}, "", 1, 400}, {[]int{302}, "", 1, 302},
	} {
		var tries atomic.Int64
		waits := &pauses{}
		client := client(t, func(w http.ResponseWriter, _ *http.Request) {
			status := c.answers[min(int(tries.Add(1)), len(c.answers))-1]
			if c.header != "" {
				w.Header().Set("Retry-After", c.header)
			}
			switch status {
			case 0:
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, `{"payment_ref`)
				panic(http.ErrAbortHandler)
			case 200:
				_, _ = io.WriteString(w, `{"payment_reference":"P","totals":{"sale_amount":9007199254740993}}`)
			default:
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"error_code":"SOME_CODE","error_messages":["m"],"correlation_id":"c-1"}`)
			}
		}, waits)
		p, err := client.Payout(t.Context(), "P")
		var refused *klarna.Error
		switch {
		case int(tries.Load()) != c.tries:
			t.Errorf("%v: %d tries, want %d", c.answers, tries.Load(), c.tries)
		case c.status == 0 && (err != nil || p.Totals.Sale != 9007199254740993):
			t.Errorf("%v: %+v, %v", c.answers, p, err)
		case c.status != 0 && (!errors.As(err, &refused) || refused.StatusCode != c.status || refused.Code != "SOME_CODE" || refused.CorrelationID != "c-1"):
			t.Errorf("%v: error %v", c.answers, err)
		case c.header == "90" && waits.set[len(waits.set)-1] < 90*time.Second:
			t.Errorf("%v: waited for %v, asked for 90 s", c.answers, waits.set)
		}
		if err != nil && strings.Contains(err.Error(), apiKey) {
			t.Errorf("the key is in %v", err)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	t.Cleanup(server.Close)
	endpoint, _ := url.Parse(server.URL)
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	told := 0
	c, err := settlements.New(settlements.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("u", "p"), Patience: time.Minute, Timer: &pauses{},
		Clock: clock(func() time.Time { now = now.Add(20 * time.Second); return now }), Waiting: func(error, time.Duration) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Payout(t.Context(), "P"); err == nil || told == 0 || told > 4 {
		t.Errorf("error %v after %d pauses, want one after at most 4", err, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Payout(ctx, "P"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

type clock func() time.Time

func (c clock) Now() time.Time { return c() }

func TestSettingsOfClient(t *testing.T) {
	endpoint, _ := url.Parse("https://api.klarna.com")
	for want, config := range map[string]settlements.Config{
		"endpoint: not set":                             {Credentials: klarna.StaticCredentials("u", "p")},
		"credentials: not set":                          {Endpoint: endpoint},
		"rate: 6, expected at most 5 requests a second": {Endpoint: endpoint, Credentials: klarna.StaticCredentials("u", "p"), Rate: 6},
	} {
		if _, err := settlements.New(config); err == nil || err.Error() != want {
			t.Errorf("found %v, want %s", err, want)
		}
	}
}
