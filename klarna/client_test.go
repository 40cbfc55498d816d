package klarna_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

const (
	theToken = "0b1d9815-165e-42e2-8867-35bc03789e00"
	theUser  = "K123_abcdef"
	theKey   = "klarna_test_api_R4nd0mR4nd0m"
)

// newClient returns a client of the endpoint, with a path prefix when the URL has one.
func newClient(t testing.TB, endpoint string, alter ...func(*klarna.Config)) *klarna.Client {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	config := klarna.Config{
		Endpoint: u, Credentials: klarna.StaticCredentials(theUser, theKey), Timeout: 30 * time.Second,
		UserAgent: "renewals/1.2.3", Module: "RENEWALS", Version: "1.2.3",
	}
	for _, a := range alter {
		a(&config)
	}
	client, err := klarna.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdle)
	return client
}

// received is a request as a server saw it.
type received struct {
	Method, URI, Proto, Body string
	Header                   http.Header
}

// recorder is an HTTP server below the prefix /klarna that keeps every request. A client that forgets the prefix meets 404.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []received
}

func newRecorder(t testing.TB, handler http.Handler) *recorder {
	t.Helper()
	r := &recorder{}
	mux := http.NewServeMux()
	mux.Handle("/klarna/", http.StripPrefix("/klarna", http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err == nil {
			r.mu.Lock()
			r.requests = append(r.requests, received{Method: q.Method, URI: q.RequestURI, Proto: q.Proto, Body: string(body), Header: q.Header.Clone()})
			r.mu.Unlock()
		}
		q.Body = io.NopCloser(strings.NewReader(string(body)))
		handler.ServeHTTP(w, q)
	})))
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) endpoint() string { return r.URL + "/klarna" }

func (r *recorder) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// answering returns a handler that always gives the same answer.
func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func charge(c *klarna.Client, alter ...func(*klarna.CreateOrderRequest)) (klarna.CreatedOrder, error) {
	request := klarna.CreateOrderRequest{CustomerToken: klarna.NewCustomerToken(theToken), IdempotencyKey: "key-1", Body: []byte(monthly)}
	for _, a := range alter {
		a(&request)
	}
	return c.CreateOrder(context.Background(), request)
}

func withToken(token string) func(*klarna.CreateOrderRequest) {
	return func(r *klarna.CreateOrderRequest) { r.CustomerToken = klarna.NewCustomerToken(token) }
}

func TestRequests(t *testing.T) {
	t.Parallel()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(theUser+":"+theKey))
	const metadata = `{"integrator":{"name":"RENEWALS","module_name":"RENEWALS","module_version":"1.2.3"}}`
	for _, row := range []struct {
		name   string
		call   func(*klarna.Client) error
		method string
		uri    string
		body   string
		key    string
	}{
		{
			name: "create order", call: func(c *klarna.Client) error { _, err := charge(c); return err },
			method: "POST", uri: "/klarna/customer-token/v1/tokens/" + theToken + "/order", body: monthly, key: "key-1",
		},
		{
			name: "create order, a token that needs escaping", call: func(c *klarna.Client) error { _, err := charge(c, withToken("a/b ?%é")); return err },
			method: "POST", uri: "/klarna/customer-token/v1/tokens/a%2Fb%20%3F%25%C3%A9/order", body: monthly, key: "key-1",
		},
		{
			name: "get token", call: func(c *klarna.Client) error {
				_, err := c.Token(context.Background(), klarna.NewCustomerToken(theToken))
				return err
			},
			method: "GET", uri: "/klarna/customer-token/v1/tokens/" + theToken,
		},
		{
			name: "cancel token", call: func(c *klarna.Client) error {
				return c.CancelToken(context.Background(), klarna.NewCustomerToken(theToken))
			},
			method: "PATCH", uri: "/klarna/customer-token/v1/tokens/" + theToken + "/status", body: `{"status":"CANCELLED"}`,
		},
		{
			name: "get order", call: func(c *klarna.Client) error { _, err := c.Order(context.Background(), "o/1"); return err },
			method: "GET", uri: "/klarna/ordermanagement/v1/orders/o%2F1",
		},
		{
			name: "create capture", call: func(c *klarna.Client) error {
				_, err := c.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o/1", IdempotencyKey: "key-2", CapturedAmount: 1})
				return err
			},
			method: "POST", uri: "/klarna/ordermanagement/v1/orders/o%2F1/captures", body: `{"captured_amount":1}`, key: "key-2",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newRecorder(t, answering(200, `{"order_id":"o/1","status":"ACTIVE","fraud_status":"ACCEPTED"}`, "Capture-Id", "c-1"))
			if err := row.call(newClient(t, server.endpoint())); err != nil {
				t.Fatal(err)
			}
			requests := server.all()
			if len(requests) != 1 {
				t.Fatalf("%d requests, want 1", len(requests))
			}
			got := requests[0]
			if got.Method != row.method || got.URI != row.uri || got.Body != row.body {
				t.Errorf("%s %s %q, want %s %s %q", got.Method, got.URI, got.Body, row.method, row.uri, row.body)
			}
			want := http.Header{
				"Accept": {"application/json"}, "Accept-Encoding": {"identity"}, "Authorization": {basic}, "User-Agent": {"renewals/1.2.3"},
				"X-Klarna-Integration-Metadata": {metadata},
			}
			if row.body != "" {
				want["Content-Type"] = []string{"application/json"}
				want["Content-Length"] = []string{fmt.Sprint(len(row.body))}
			}
			if row.key != "" {
				want["Klarna-Idempotency-Key"] = []string{row.key}
			}
			for name := range got.Header {
				if want.Get(name) != got.Header.Get(name) {
					t.Errorf("header %s: %q, want %q", name, got.Header.Get(name), want.Get(name))
				}
			}
			for name := range want {
				if _, ok := got.Header[name]; !ok {
					t.Errorf("header %s is missing", name)
				}
			}
		})
	}
}

func TestCreateOrderReadsLeniently(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status int
		body   string
		want   klarna.CreatedOrder
	}{
		{
			name: "all of the schema", status: 200, body: `{"order_id":"o-1","fraud_status":"ACCEPTED","redirect_url":"https://k","authorized_payment_method":{"type":"card","number_of_days":30,"number_of_installments":3}}`,
			want: klarna.CreatedOrder{OrderID: "o-1", FraudStatus: "ACCEPTED", RedirectURL: "https://k", AuthorizedPaymentMethod: klarna.PaymentMethod{Type: "card", NumberOfInstallments: 3, NumberOfDays: 30}},
		},
		{name: "no redirect_url, as in Klarna's samples", status: 200, body: `{"order_id":"o-1","fraud_status":"PENDING"}`, want: klarna.CreatedOrder{OrderID: "o-1", FraudStatus: "PENDING"}},
		{name: "lower case", status: 200, body: `{"order_id":"o-1","fraud_status":"accepted"}`, want: klarna.CreatedOrder{OrderID: "o-1", FraudStatus: "ACCEPTED"}},
		{name: "a value that Klarna adds", status: 200, body: `{"order_id":"o-1","fraud_status":"REVIEW"}`, want: klarna.CreatedOrder{OrderID: "o-1", FraudStatus: "REVIEW"}},
		{name: "a field that Klarna adds", status: 200, body: `{"order_id":"o-1","x":{"y":[1]}}`, want: klarna.CreatedOrder{OrderID: "o-1"}},
		{name: "another 2xx", status: 201, body: `{"order_id":"o-1","fraud_status":"ACCEPTED"}`, want: klarna.CreatedOrder{OrderID: "o-1", FraudStatus: "ACCEPTED"}},
		{name: "payment method as a string", status: 200, body: `{"order_id":"o-1","authorized_payment_method":"invoice"}`, want: klarna.CreatedOrder{OrderID: "o-1", AuthorizedPaymentMethod: klarna.PaymentMethod{Type: "invoice"}}},
		{name: "payment method with numbers of another type", status: 200, body: `{"authorized_payment_method":{"type":"invoice","number_of_days":"30","number_of_installments":1.5},"order_id":"o-1"}`,
			want: klarna.CreatedOrder{OrderID: "o-1", AuthorizedPaymentMethod: klarna.PaymentMethod{Type: "invoice"}}},
		{name: "payment method of another type", status: 200, body: `{"authorized_payment_method":[7],"order_id":"o-1"}`, want: klarna.CreatedOrder{OrderID: "o-1"}},
		{name: "payment method null", status: 200, body: `{"authorized_payment_method":null,"order_id":"o-1"}`, want: klarna.CreatedOrder{OrderID: "o-1"}},
		{name: "optional fields of other types", status: 200, body: `{"fraud_status":1,"redirect_url":{},"order_id":"o-1"}`, want: klarna.CreatedOrder{OrderID: "o-1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newRecorder(t, answering(row.status, row.body, "klarna-correlation-id", "corr-1"))
			got, err := charge(newClient(t, server.endpoint()))
			row.want.CorrelationID = "corr-1"
			if err != nil || got != row.want {
				t.Errorf("order %+v, error %v, want %+v", got, err, row.want)
			}
		})
	}
}

// S13: whatever a 200 carries instead of an order, it is neither an order nor a refusal.
func TestCreateOrderIsStrictAboutSuccess(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, body string }{
		{"empty body", ""},
		{"empty object", "{}"},
		{"empty id", `{"order_id":"","fraud_status":"ACCEPTED"}`},
		{"blank id", `{"order_id":"  ","fraud_status":"ACCEPTED"}`},
		{"null id", `{"order_id":null}`},
		{"number as id", `{"order_id":4711}`},
		{"half an object", `{"order_id":"o-1","fraud_sta`},
		{"text after the object", `{"order_id":"o-1"} and more`},
		{"plain text", "OK"},
		{"a page", "<html>Welcome</html>"},
		{"a list", `[{"order_id":"o-1"}]`},
		{"an error object", `{"error_code":"TOKEN_CANCELLED","correlation_id":"x"}`},
		{"longer than a megabyte", `{"order_id":"o-1","x":"` + strings.Repeat("x", 1<<20) + `"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newRecorder(t, answering(200, row.body, "Klarna-Correlation-Id", "corr-1"))
			order, err := charge(newClient(t, server.endpoint()))
			var unknown *klarna.UnknownError
			if !errors.As(err, &unknown) || !unknown.Answered2xx || unknown.StatusCode != 200 || unknown.CorrelationID != "corr-1" {
				t.Errorf("order %+v, error %#v, want unknown, answered 2xx", order, err)
			}
			if got := klarna.ClassOf(err); got != klarna.ClassAnswered2xx {
				t.Errorf("class %v, want %v", got, klarna.ClassAnswered2xx)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status int
		body   string
		header []string
		want   klarna.Error
		class  klarna.Class
	}{
		{
			name: "a decline", status: 403, body: `{"error_code":"PAYMENT_METHOD_FAILED","error_messages":["a","b"],"correlation_id":"c-1","reason":"x"}`,
			want: klarna.Error{StatusCode: 403, Code: "PAYMENT_METHOD_FAILED", Messages: []string{"a", "b"}, CorrelationID: "c-1", HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{
			name: "correlation id in the header only", status: 403, body: `{"error_code":"TOKEN_CANCELED"}`, header: []string{"KLARNA-CORRELATION-ID", "c-2"},
			want:  klarna.Error{StatusCode: 403, Code: "TOKEN_CANCELED", CorrelationID: "c-2", HasErrorObject: true},
			class: klarna.ClassRefused,
		},
		{
			name: "one message instead of a list", status: 400, body: `{"error_code":"BAD_VALUE","error_message":"m"}`,
			want: klarna.Error{StatusCode: 400, Code: "BAD_VALUE", Messages: []string{"m"}, HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{
			name: "messages of another type", status: 400, body: `{"error_messages":{"a":1},"correlation_id":7,"error_code":"BAD_VALUE"}`,
			want: klarna.Error{StatusCode: 400, Code: "BAD_VALUE", CorrelationID: "7", HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{
			name: "messages that are null, and no correlation id", status: 403, body: `{"error_code":"PAYMENT_METHOD_FAILED","error_messages":null}`,
			want: klarna.Error{StatusCode: 403, Code: "PAYMENT_METHOD_FAILED", HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{
			name: "messages that are one string", status: 403, body: `{"error_code":"PAYMENT_METHOD_FAILED","error_messages":"m"}`,
			want: klarna.Error{StatusCode: 403, Code: "PAYMENT_METHOD_FAILED", Messages: []string{"m"}, HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{
			name: "a code in small letters", status: 403, body: `{"error_code":"payment_method_failed"}`, want: klarna.Error{StatusCode: 403, Code: "payment_method_failed", HasErrorObject: true},
			class: klarna.ClassRefused,
		},
		{
			name: "a refusal without a code", status: 400, body: `{"correlation_id":"c","fraud_status":"rejected","reason":"declined"}`,
			want: klarna.Error{StatusCode: 400, CorrelationID: "c", HasErrorObject: true, FraudStatus: "REJECTED"}, class: klarna.ClassRefused,
		},
		{name: "a correlation id alone", status: 403, body: `{"correlation_id":"c"}`, want: klarna.Error{StatusCode: 403, CorrelationID: "c", HasErrorObject: true}, class: klarna.ClassRefused},
		{name: "a reason alone", status: 403, body: `{"reason":"declined"}`, want: klarna.Error{StatusCode: 403, HasErrorObject: true}, class: klarna.ClassRefused},
		{name: "messages alone", status: 403, body: `{"error_messages":["m"]}`, want: klarna.Error{StatusCode: 403, Messages: []string{"m"}, HasErrorObject: true}, class: klarna.ClassRefused},
		{
			name: "a number as code among Klarna's fields", status: 403, body: `{"error_code":1020,"correlation_id":"c"}`,
			want: klarna.Error{StatusCode: 403, Code: "1020", CorrelationID: "c", HasErrorObject: true}, class: klarna.ClassRefused,
		},
		{name: "a firewall's JSON", status: 403, body: `{"error_code":1020,"error_name":"access_denied"}`, want: klarna.Error{StatusCode: 403, Code: "1020"}, class: klarna.ClassNotEvaluated},
		{name: "nothing but nulls", status: 403, body: `{"error_code":null,"correlation_id":null,"reason":null}`, want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{
			name: "a code that Klarna adds", status: 403, body: `{"error_code":"Something-New"}`, want: klarna.Error{StatusCode: 403, Code: "Something-New", HasErrorObject: true},
			class: klarna.ClassRefused,
		},
		{name: "empty body, as Kustom may", status: 403, want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{name: "a firewall's page", status: 403, body: "<html>blocked</html>", want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{name: "a gateway's JSON", status: 404, body: `{"message":"no route"}`, want: klarna.Error{StatusCode: 404}, class: klarna.ClassNotEvaluated},
		{name: "an empty code", status: 403, body: `{"error_code":" "}`, want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{name: "JSON, but no object", status: 403, body: `"error_code"`, want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{name: "a page of more than a megabyte", status: 403, body: strings.Repeat("x", 1<<20+1), want: klarna.Error{StatusCode: 403}, class: klarna.ClassNotEvaluated},
		{name: "our password", status: 401, want: klarna.Error{StatusCode: 401}, class: klarna.ClassNotEvaluated},
		{
			name: "rate limited", status: 429, body: `{"error_code":"TOO_MANY_REQUESTS"}`,
			header: []string{"X-Ratelimit-Limit", "40, 40;w=1", "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "3"},
			want: klarna.Error{
				StatusCode: 429, Code: "TOO_MANY_REQUESTS", HasErrorObject: true, RetryAfter: 3 * time.Second,
				RateLimit: klarna.RateLimit{Known: true, Limit: 40, Reset: 3 * time.Second},
			},
			class: klarna.ClassRateLimited,
		},
		{
			name: "rate limited by a gateway", status: 429, header: []string{"Retry-After", "7", "X-Ratelimit-Reset", "2"},
			want:  klarna.Error{StatusCode: 429, RetryAfter: 7 * time.Second},
			class: klarna.ClassRateLimited,
		},
		{
			name: "maintenance until a date, by Klarna's clock", status: 503, body: `{"error_code":"SERVICE_UNAVAILABLE"}`,
			header: []string{"Date", "Tue, 01 Dec 2026 00:00:00 GMT", "Retry-After", "Tue, 01 Dec 2026 00:01:30 GMT"},
			want:   klarna.Error{StatusCode: 503, Code: "SERVICE_UNAVAILABLE", HasErrorObject: true, RetryAfter: 90 * time.Second},
			class:  klarna.ClassFailed,
		},
		{name: "a wait without end", status: 503, header: []string{"Retry-After", "999999999999999999999"}, want: klarna.Error{StatusCode: 503, RetryAfter: time.Hour}, class: klarna.ClassUnknown},
		{
			name: "nonsense in headers", status: 429, header: []string{"Retry-After", "soon", "X-Ratelimit-Reset", "-1", "X-Ratelimit-Remaining", "NaN"}, want: klarna.Error{StatusCode: 429},
			class: klarna.ClassRateLimited,
		},
		{
			name: "the reset that comes with every answer is no wait", status: 500, header: []string{"X-Ratelimit-Remaining", "39", "X-Ratelimit-Reset", "1"},
			want:  klarna.Error{StatusCode: 500, RateLimit: klarna.RateLimit{Known: true, Remaining: 39, Reset: time.Second}},
			class: klarna.ClassUnknown,
		},
		{name: "a proxy", status: 502, body: "<html>Bad Gateway</html>", want: klarna.Error{StatusCode: 502}, class: klarna.ClassUnknown},
		{name: "a redirect is not followed", status: 302, header: []string{"Location", "/klarna/elsewhere"}, want: klarna.Error{StatusCode: 302}, class: klarna.ClassNotEvaluated},
		{
			name: "a redirect that asks for the same again is not followed", status: 307, header: []string{"Location", "/klarna/elsewhere"}, want: klarna.Error{StatusCode: 307},
			class: klarna.ClassNotEvaluated,
		},
		{name: "a redirect to a result", status: 303, header: []string{"Location", "/klarna/elsewhere"}, want: klarna.Error{StatusCode: 303}, class: klarna.ClassUnknown},
		{name: "a proxy's password", status: 407, body: `{"error_code":"X"}`, want: klarna.Error{StatusCode: 407, Code: "X", HasErrorObject: true}, class: klarna.ClassNotEvaluated},
		{name: "a hotel's network", status: 511, body: "<html>log in</html>", want: klarna.Error{StatusCode: 511}, class: klarna.ClassNotEvaluated},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newRecorder(t, answering(row.status, row.body, row.header...))
			client := newClient(t, server.endpoint())
			_, err := charge(client)
			var got *klarna.Error
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want an answer", err)
			}
			if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", row.want) {
				t.Errorf("got  %+v\nwant %+v", *got, row.want)
			}
			if class := klarna.ClassOf(err); class != row.class {
				t.Errorf("class %v, want %v", class, row.class)
			}
			if n := len(server.all()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestMessagesAreShortened(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(map[string]any{
		"error_code":     "BAD_VALUE",
		"error_messages": append(slices.Repeat([]string{"m"}, 50), "never seen"),
		"error_message":  strings.Repeat("ä", 1000) + "\n",
		"correlation_id": strings.Repeat("c", 1000),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = charge(newClient(t, newRecorder(t, answering(400, string(body))).endpoint()))
	var got *klarna.Error
	if !errors.As(err, &got) || len(got.Messages) > 10 || len(got.CorrelationID) > 128 {
		t.Errorf("error %v, want few messages", err)
	}
	_, err = charge(newClient(t, newRecorder(t, answering(400, `{"error_code":"X","error_messages":["`+strings.Repeat("ä", 1000)+`\n\u0007"]}`)).endpoint()))
	if text := err.Error(); len(text) > 700 || strings.ContainsAny(text, "\n\a\ufffd") {
		t.Errorf("error text of %d bytes: %q", len(text), text)
	}
}

func TestRateLimitOfASuccess(t *testing.T) {
	t.Parallel()
	server := newRecorder(t, answering(200, `{"order_id":"o-1"}`, "X-Ratelimit-Limit", "200, 200;w=1", "X-Ratelimit-Remaining", "17", "X-Ratelimit-Reset", "1"))
	got, err := charge(newClient(t, server.endpoint()))
	want := klarna.RateLimit{Known: true, Limit: 200, Remaining: 17, Reset: time.Second}
	if err != nil || got.RateLimit != want {
		t.Errorf("rate limit %+v, error %v, want %+v", got.RateLimit, err, want)
	}
}

func TestCreateCapture(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status int
		header []string
		want   string
		class  klarna.Class
	}{
		{name: "as documented", status: 201, header: []string{"Capture-Id", "c-1"}, want: "c-1", class: klarna.ClassOK},
		{name: "only a location", status: 201, header: []string{"Location", "/ordermanagement/v1/orders/o-1/captures/c-2"}, want: "c-2", class: klarna.ClassOK},
		{name: "a whole URL as location", status: 201, header: []string{"Location", "https://api.klarna.com/ordermanagement/v1/orders/o-1/captures/c-2/"}, want: "c-2", class: klarna.ClassOK},
		{name: "the header before the location", status: 201, header: []string{"Capture-Id", " c-1 ", "Location", "/ordermanagement/v1/orders/o-1/captures/c-2"}, want: "c-1", class: klarna.ClassOK},
		{name: "another 2xx", status: 200, header: []string{"Capture-Id", "c-3"}, want: "c-3", class: klarna.ClassOK},
		{name: "neither", status: 201, class: klarna.ClassAnswered2xx},
		{name: "another location", status: 201, header: []string{"Location", "/somewhere"}, class: klarna.ClassAnswered2xx},
		{name: "a location without an id", status: 201, header: []string{"Location", "/ordermanagement/v1/orders/o-1/captures/"}, class: klarna.ClassAnswered2xx},
		{name: "an id on a refusal", status: 403, header: []string{"Capture-Id", "c-4"}, class: klarna.ClassNotEvaluated},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, newRecorder(t, answering(row.status, "", row.header...)).endpoint())
			got, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o-1", IdempotencyKey: "k", CapturedAmount: 1})
			if got.CaptureID != row.want || klarna.ClassOf(err) != row.class {
				t.Errorf("capture %q, error %v, want %q, %v", got.CaptureID, err, row.want, row.class)
			}
		})
	}
	server := newRecorder(t, answering(201, "", "Capture-Id", "c-1", "Klarna-Correlation-Id", "x-1", "X-Ratelimit-Remaining", "7"))
	got, err := newClient(t, server.endpoint()).CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o-1", IdempotencyKey: "k", CapturedAmount: 1})
	if want := (klarna.Capture{CaptureID: "c-1", CorrelationID: "x-1", RateLimit: klarna.RateLimit{Known: true, Remaining: 7}}); got != want || err != nil {
		t.Errorf("capture %+v, error %v, want %+v", got, err, want)
	}
}

func TestRefusedCaptures(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status int
		code   string
		class  klarna.Class
	}{
		{403, "CAPTURE_NOT_ALLOWED", klarna.ClassRefused},
		{403, "PAYMENT_METHOD_FAILED", klarna.ClassRefused},
		{404, "NO_SUCH_ORDER", klarna.ClassRefused},
		{409, "CONFLICT", klarna.ClassUnknown},
		{422, "UNPROCESSABLE_ENTITY", klarna.ClassRefused},
		{429, "TOO_MANY_REQUESTS", klarna.ClassRateLimited},
		{500, "UNEXPECTED_ERROR", klarna.ClassUnknown},
		{503, "TEMPORARILY_UNAVAILABLE", klarna.ClassFailed},
		{504, "TEMPORARILY_UNAVAILABLE", klarna.ClassUnknown},
	} {
		client := newClient(t, newRecorder(t, answering(row.status, `{"error_code":"`+row.code+`","correlation_id":"x-1"}`)).endpoint())
		_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o-1", IdempotencyKey: "k", CapturedAmount: 1})
		var answered *klarna.Error
		if !errors.As(err, &answered) || answered.Code != row.code || answered.CorrelationID != "x-1" || klarna.ClassOf(err) != row.class {
			t.Errorf("%d %s: error %v of class %v, want %v", row.status, row.code, err, klarna.ClassOf(err), row.class)
		}
	}
}

// The bytes of a capture are contract: a worker of another version, or of another version of Go, has to repeat the request
// that went out before it.
func TestCaptureBody(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		request klarna.CreateCaptureRequest
		want    string
	}{
		{"an amount", klarna.CreateCaptureRequest{CapturedAmount: 1}, `{"captured_amount":1}`},
		{"Klarna's most", klarna.CreateCaptureRequest{CapturedAmount: 200_000_000}, `{"captured_amount":200000000}`},
		{"everything", klarna.CreateCaptureRequest{
			CapturedAmount: 1599, Description: "Paket 1 von 2", Reference: "1234834-2026-12-c1",
			OrderLines: []byte("[ {\"name\": \"<Ä>\",\t\"total_amount\":1599.0, \"x\":\"\\u003c\"} ]\n"),
		}, "{\"captured_amount\":1599,\"description\":\"Paket 1 von 2\",\"reference\":\"1234834-2026-12-c1\",\"order_lines\":[ {\"name\": \"<Ä>\",\t\"total_amount\":1599.0, \"x\":\"\\u003c\"} ]\n}"},
		{"no lines are not the same as none", klarna.CreateCaptureRequest{CapturedAmount: 1, OrderLines: []byte("[]")}, `{"captured_amount":1,"order_lines":[]}`},
		{"a reference only", klarna.CreateCaptureRequest{CapturedAmount: 1, Reference: "r"}, `{"captured_amount":1,"reference":"r"}`},
		{"characters of all kinds", klarna.CreateCaptureRequest{CapturedAmount: 1, Description: "\"\\/\b\f\n\r\t\x00\x1f\x7f<&>é🥪\u2028\u2029"},
			`{"captured_amount":1,"description":"\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f" + `\u003c\u0026\u003eé🥪\u2028\u2029"}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			server := newRecorder(t, answering(500, ""))
			client := newClient(t, server.endpoint())
			row.request.OrderID, row.request.IdempotencyKey = "o-1", "k"
			for range 2 {
				if _, err := client.CreateCapture(context.Background(), row.request); klarna.ClassOf(err) != klarna.ClassUnknown {
					t.Fatal(err)
				}
			}
			for _, got := range server.all() {
				if got.Body != row.want {
					t.Errorf("body\n%s\nwant\n%s", got.Body, row.want)
				}
			}
		})
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status int
		body   string
		want   klarna.Order
		class  klarna.Class
	}{
		{
			name: "captured", status: 200, body: `{"order_id":"o-1","status":"CAPTURED","fraud_status":"accepted","order_amount":1599,"captured_amount":1599,"purchase_currency":"eur","captures":[{"capture_id":"c-1","captured_amount":1599}]}`,
			want: klarna.Order{
				OrderID: "o-1", Status: "CAPTURED", FraudStatus: "ACCEPTED", OrderAmount: 1599, CapturedAmount: 1599, PurchaseCurrency: "eur",
				Captures: []klarna.OrderCapture{{CaptureID: "c-1", CapturedAmount: 1599}},
			}, class: klarna.ClassOK,
		},
		{name: "fields of other types", status: 200, body: `{"captures":{},"order_amount":"1","status":1,"order_id":"o-1"}`, want: klarna.Order{OrderID: "o-1"}, class: klarna.ClassOK},
		{name: "another order", status: 200, body: `{"order_id":"o-10","fraud_status":"ACCEPTED","captured_amount":1599}`, want: klarna.Order{}, class: klarna.ClassAnswered2xx},
		{name: "its id in capitals", status: 200, body: `{"order_id":"O-1"}`, want: klarna.Order{OrderID: "O-1"}, class: klarna.ClassOK},
		{name: "no id", status: 200, body: `{"fraud_status":"ACCEPTED"}`, want: klarna.Order{}, class: klarna.ClassAnswered2xx},
		{name: "a page", status: 200, body: "<html>", want: klarna.Order{}, class: klarna.ClassAnswered2xx},
		{name: "unknown here", status: 404, body: `{"error_code":"NO_SUCH_ORDER"}`, want: klarna.Order{}, class: klarna.ClassRefused},
	} {
		got, err := newClient(t, newRecorder(t, answering(row.status, row.body)).endpoint()).Order(context.Background(), "o-1")
		if !reflect.DeepEqual(got, row.want) || klarna.ClassOf(err) != row.class {
			t.Errorf("%s: order %+v, error %v, want %+v, %v", row.name, got, err, row.want, row.class)
		}
	}
}

func TestTokenStatusInAnyCase(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		body, status string
		active       bool
	}{
		{`{"status":"ACTIVE","payment_method_type":"INVOICE","card":{"brand":"VISA","expiry_date":"12/2020","masked_number":"****1234"}}`, "ACTIVE", true},
		{`{"status":"active"}`, "ACTIVE", true},
		{`{"status":"cancelled","card":"none"}`, "CANCELLED", false},
		{`{"status":"NEW_STATUS"}`, "NEW_STATUS", false},
	} {
		got, err := newClient(t, newRecorder(t, answering(200, row.body)).endpoint()).Token(context.Background(), klarna.NewCustomerToken(theToken))
		if err != nil || got.Status != row.status || got.Active() != row.active {
			t.Errorf("%s: token %+v, error %v", row.body, got, err)
		}
	}
	_, err := newClient(t, newRecorder(t, answering(200, `{}`)).endpoint()).Token(context.Background(), klarna.NewCustomerToken(theToken))
	if got := klarna.ClassOf(err); got != klarna.ClassAnswered2xx {
		t.Errorf("no status: class %v, want %v", got, klarna.ClassAnswered2xx)
	}
}

func TestWhatIsNeverSent(t *testing.T) {
	t.Parallel()
	server := newRecorder(t, answering(200, `{"order_id":"o-1"}`))
	client := newClient(t, server.endpoint())
	ended, end := context.WithCancel(context.Background())
	end()
	for _, row := range []struct {
		name string
		call func() error
	}{
		{"no token", func() error { _, err := charge(client, withToken("")); return err }},
		{"a token that climbs the path", func() error { _, err := charge(client, withToken("..")); return err }},
		{"no key", func() error {
			_, err := charge(client, func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = "" })
			return err
		}},
		{"a key that would end the header", func() error {
			_, err := charge(client, func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = "a\r\nb: c" })
			return err
		}},
		{"no body", func() error {
			_, err := charge(client, func(r *klarna.CreateOrderRequest) { r.Body = nil })
			return err
		}},
		{"no order id", func() error { _, err := client.Order(context.Background(), ""); return err }},
		{"capture without a key", func() error {
			_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o", CapturedAmount: 1})
			return err
		}},
		{"capture of no amount", func() error {
			_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o", IdempotencyKey: "k"})
			return err
		}},
		{"capture of an order that climbs the path", func() error {
			_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "..", IdempotencyKey: "k", CapturedAmount: 1})
			return err
		}},
		{"capture of lines that are no JSON", func() error {
			_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{OrderID: "o", IdempotencyKey: "k", CapturedAmount: 1, OrderLines: []byte(`[],"a":1`)})
			return err
		}},
		{"capture that BeforeSend withholds", func() error {
			_, err := client.CreateCapture(context.Background(), klarna.CreateCaptureRequest{
				OrderID: "o", IdempotencyKey: "k", CapturedAmount: 1, BeforeSend: func() error { return errors.New("the lease is over") },
			})
			return err
		}},
		{"a context that has ended", func() error {
			_, err := client.CreateOrder(ended, klarna.CreateOrderRequest{CustomerToken: klarna.NewCustomerToken(theToken), IdempotencyKey: "k", Body: []byte("{}")})
			return err
		}},
		{"no credentials", func() error {
			_, err := charge(newClient(t, server.endpoint(), func(c *klarna.Config) { c.Credentials = &failing{} }))
			return err
		}},
		{"nobody listens", func() error { _, err := charge(newClient(t, "http://"+unusedAddress(t))); return err }},
		{"nobody listens for a GET", func() error {
			_, err := newClient(t, "http://"+unusedAddress(t)).Order(context.Background(), "o-1")
			return err
		}},
		{"no such host", func() error { _, err := charge(newClient(t, "http://host.invalid")); return err }},
		{"a certificate that nobody vouches for", func() error {
			tlsServer := httptest.NewUnstartedServer(answering(200, `{"order_id":"o-1"}`))
			tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the handshake
			tlsServer.StartTLS()
			defer tlsServer.Close()
			_, err := charge(newClient(t, tlsServer.URL))
			return err
		}},
		{"TLS 1.1", func() error {
			old := httptest.NewUnstartedServer(answering(200, `{"order_id":"o-1"}`))
			old.Config.ErrorLog = log.New(io.Discard, "", 0)
			old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
			old.StartTLS()
			defer old.Close()
			settings := old.Client().Transport.(*http.Transport).TLSClientConfig
			settings.MinVersion = tls.VersionTLS10
			_, err := charge(newClient(t, old.URL, func(c *klarna.Config) { c.TLS = settings }))
			return err
		}},
		{"https to a server of plain http", func() error {
			_, err := charge(newClient(t, strings.Replace(server.URL, "http", "https", 1)))
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := row.call()
			var notSent *klarna.NotSentError
			if !errors.As(err, &notSent) || klarna.ClassOf(err) != klarna.ClassNotSent {
				t.Errorf("error %v (%v), want not sent", err, klarna.ClassOf(err))
			}
			assertNoSecret(t, err)
		})
	}
	if n := len(server.all()); n != 0 {
		t.Errorf("%d requests arrived, want none", n)
	}
}

// failing is a source whose file is gone once the client is made.
type failing struct{ asked atomic.Bool }

func (f *failing) Credentials() (klarna.Credentials, error) {
	if f.asked.Swap(true) {
		return klarna.Credentials{}, errors.New("the file is gone")
	}
	return klarna.Credentials{Username: "u", Password: klarna.NewSecret("p")}, nil
}

func unusedAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	endpoint, _ := url.Parse("https://api.klarna.com")
	good := klarna.StaticCredentials("u", "p")
	for _, row := range []struct {
		config klarna.Config
		names  string
	}{
		{klarna.Config{Credentials: good}, "endpoint"},
		{klarna.Config{Endpoint: endpoint}, "credentials"},
		{klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("u", "")}, "API key"},
		{klarna.Config{Endpoint: endpoint, Credentials: good, Timeout: -1}, "timeout"},
	} {
		if _, err := klarna.New(row.config); err == nil || !strings.Contains(err.Error(), row.names) {
			t.Errorf("error %v, want one that names the %s", err, row.names)
		}
	}
}

// A rotated key is used by the next try, without a restart.
func TestCredentialsAreReadForEachTry(t *testing.T) {
	t.Parallel()
	server := newRecorder(t, answering(200, `{"order_id":"o-1"}`))
	source := &rotating{}
	client := newClient(t, server.endpoint(), func(c *klarna.Config) { c.Credentials = source })
	for _, password := range []string{"first", "first", "second"} {
		source.password.Store(&password)
		if _, err := charge(client); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, r := range server.all() {
		text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
		got = append(got, string(text))
	}
	if want := []string{"u:first", "u:first", "u:second"}; !slices.Equal(got, want) {
		t.Errorf("credentials %q, want %q", got, want)
	}
}

type rotating struct{ password atomic.Pointer[string] }

func (r *rotating) Credentials() (klarna.Credentials, error) {
	if p := r.password.Load(); p != nil {
		return klarna.Credentials{Username: "u", Password: klarna.NewSecret(*p)}, nil
	}
	return klarna.Credentials{Username: "u", Password: klarna.NewSecret("none")}, nil
}

func TestConnectionIsReusedAfterRefusals(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	var n atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answers := []http.HandlerFunc{
			answering(403, `{"error_code":"PAYMENT_METHOD_FAILED"}`), answering(429, `{"error_code":"TOO_MANY_REQUESTS"}`),
			answering(404, `{"error_code":"TOKEN_NOT_FOUND"}`), answering(200, `{"order_id":"o-1"}`),
		}
		answers[int(n.Add(1)-1)%len(answers)](w, nil)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	for range 50 {
		_, _ = charge(client)
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for 50 tries, want 1", got)
	}
}

// Every connection of a full load is kept for the next one.
func TestConnectionsAreKeptForTheConcurrency(t *testing.T) {
	t.Parallel()
	const concurrency = 20
	var connections atomic.Int64
	arrived, proceed := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-proceed
		answering(200, `{"order_id":"o-1"}`)(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, server.URL, func(c *klarna.Config) { c.Concurrency = concurrency })
	for range 3 {
		var wait sync.WaitGroup
		for range concurrency {
			wait.Go(func() {
				if _, err := charge(client); err != nil {
					t.Error(err)
				}
			})
		}
		for range concurrency {
			<-arrived
		}
		for range concurrency {
			proceed <- struct{}{}
		}
		wait.Wait()
	}
	// A dial that was begun for a try which then got another connection leaves one more.
	if got := connections.Load(); got > concurrency*3/2 {
		t.Errorf("%d connections for three rounds of %d tries", got, concurrency)
	}
}

// S1, S9: the same key and the same bytes reach Klarna in every try, whatever the tries before met.
func TestEveryTrySendsTheSame(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		token   string
		classes []klarna.Class // of the tries, to the first that ends it
		orders  int
	}{
		{"ok-1", []klarna.Class{klarna.ClassOK}, 1},
		{"503x2-1", []klarna.Class{klarna.ClassFailed, klarna.ClassFailed, klarna.ClassOK}, 1},
		{"503x2-bare-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"500x1-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"502x1-html-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"429x2-1", []klarna.Class{klarna.ClassRateLimited, klarna.ClassRateLimited, klarna.ClassOK}, 1},
		{"409x1-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"401x1-1", []klarna.Class{klarna.ClassNotEvaluated, klarna.ClassOK}, 1},
		{"403x1-bare-1", []klarna.Class{klarna.ClassNotEvaluated, klarna.ClassOK}, 1},
		{"cutx2-1", []klarna.Class{klarna.ClassCut, klarna.ClassCut, klarna.ClassOK}, 1},
		{"cut-headersx1-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"created-500-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"created-503-bare-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"created-cutx3-1", []klarna.Class{klarna.ClassCut, klarna.ClassCut, klarna.ClassCut, klarna.ClassOK}, 1},
		{"created-cut-body-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"created-empty-200-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"created-broken-200-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"no-id-200x1-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"503x1-soft-decline-1", []klarna.Class{klarna.ClassFailed, klarna.ClassRefused}, 0},
		{"created-cut-soft-decline-1", []klarna.Class{klarna.ClassCut, klarna.ClassRefused}, 0},
		{"lost-cancelled-1", []klarna.Class{klarna.ClassCut, klarna.ClassRefused}, 1},
	} {
		t.Run(row.token, func(t *testing.T) {
			t.Parallel()
			sim := klarnasim.New(klarnasim.Options{})
			server := newRecorder(t, sim)
			client := newClient(t, server.endpoint())
			var classes []klarna.Class
			for range 10 {
				_, err := charge(client, withToken(row.token))
				class := klarna.ClassOf(err)
				classes = append(classes, class)
				if class == klarna.ClassOK || class == klarna.ClassRefused {
					break
				}
				assertNoSecret(t, err, row.token)
			}
			if !slices.Equal(classes, row.classes) {
				t.Errorf("classes %v, want %v", classes, row.classes)
			}
			requests := server.all()
			if len(requests) != len(row.classes) {
				t.Errorf("%d requests, want %d", len(requests), len(row.classes))
			}
			for i, r := range requests {
				if r.Body != monthly || r.Header.Get("Klarna-Idempotency-Key") != "key-1" || r.URI != requests[0].URI {
					t.Errorf("try %d sent other bytes, another key or another path than the first: %+v", i+1, r)
				}
			}
			if books := sim.Books(); len(books.Orders) != row.orders || books.OtherBodies != 0 {
				t.Errorf("%d orders, %d other bodies, want %d, 0", len(books.Orders), books.OtherBodies, row.orders)
			}
		})
	}
}

// The same of captures: one key, one capture.
func TestEveryTryCapturesTheSame(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		reference string
		classes   []klarna.Class // of the tries, to the first that ends it
		captures  int
	}{
		{"parcel 1", []klarna.Class{klarna.ClassOK}, 1},
		{"503x2-1", []klarna.Class{klarna.ClassFailed, klarna.ClassFailed, klarna.ClassOK}, 1},
		{"500x1-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"429x1-1", []klarna.Class{klarna.ClassRateLimited, klarna.ClassOK}, 1},
		{"409x1-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"401x1-1", []klarna.Class{klarna.ClassNotEvaluated, klarna.ClassOK}, 1},
		{"cutx2-1", []klarna.Class{klarna.ClassCut, klarna.ClassCut, klarna.ClassOK}, 1},
		{"created-500-1", []klarna.Class{klarna.ClassUnknown, klarna.ClassOK}, 1},
		{"created-cutx3-1", []klarna.Class{klarna.ClassCut, klarna.ClassCut, klarna.ClassCut, klarna.ClassOK}, 1},
		{"created-cut-headers-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"created-cut-body-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"created-empty-200-1", []klarna.Class{klarna.ClassAnswered2xx, klarna.ClassOK}, 1},
		{"503x1-soft-decline-1", []klarna.Class{klarna.ClassFailed, klarna.ClassRefused}, 0},
		{"lost-cancelled-1", []klarna.Class{klarna.ClassCut, klarna.ClassRefused}, 1},
		{"late-60000-1", []klarna.Class{klarna.ClassCut, klarna.ClassRefused}, 0},
	} {
		t.Run(row.reference, func(t *testing.T) {
			t.Parallel()
			sim := klarnasim.New(klarnasim.Options{KeepBodies: true})
			server := newRecorder(t, sim)
			client := newClient(t, server.endpoint())
			order, err := charge(client, func(r *klarna.CreateOrderRequest) {
				r.Body = []byte(strings.Replace(monthly, `"auto_capture":true`, `"auto_capture":false`, 1))
			})
			if err != nil {
				t.Fatal(err)
			}
			request := klarna.CreateCaptureRequest{
				OrderID: order.OrderID, IdempotencyKey: "key-2", CapturedAmount: 1000, Reference: row.reference,
				OrderLines: []byte("[ {\"name\":\"Box\",\"quantity\":1,\n\"unit_price\":1000,\"total_amount\":1000} ]"),
			}
			var classes []klarna.Class
			for range 10 {
				_, err := client.CreateCapture(context.Background(), request)
				class := klarna.ClassOf(err)
				classes = append(classes, class)
				if class == klarna.ClassOK || class == klarna.ClassRefused {
					break
				}
			}
			if !slices.Equal(classes, row.classes) {
				t.Errorf("classes %v, want %v", classes, row.classes)
			}
			requests := server.all()[1:]
			for i, r := range requests {
				if r.Body != requests[0].Body || !strings.Contains(r.Body, string(request.OrderLines)) || r.Header.Get("Klarna-Idempotency-Key") != "key-2" || r.URI != requests[0].URI {
					t.Errorf("try %d sent other bytes, another key or another path than the first: %+v", i+1, r)
				}
			}
			books := sim.Books()
			if got := books.Orders[0]; len(requests) != len(row.classes) || len(got.Captures) != row.captures || books.OtherBodies != 0 {
				t.Errorf("%d requests, captures %+v, %d other bodies, want %d, %d, 0", len(requests), got.Captures, books.OtherBodies, len(row.classes), row.captures)
			}
			read, err := client.Order(context.Background(), order.OrderID)
			if want := int64(row.captures) * 1000; err != nil || read.CapturedAmount != want || read.RemainingAuthorizedAmount != 1599-want || len(read.Captures) != row.captures || read.ExpiresAt == "" {
				t.Errorf("order %+v, error %v, want %d captured", read, err, want)
			}
		})
	}
}

// TestLateRefusalOverTLS: closing a connection, TLS writes once more. When that is refused, since a try that lasted so long is not to be
// followed by another under the same claim, the request was sent all the same: an order may exist.
func TestLateRefusalOverTLS(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		timeout time.Duration
		end     func(asked context.Context) // of the server's answer
	}{
		"timed out": {300 * time.Millisecond, func(asked context.Context) { <-asked.Done() }},
		"cut":       {time.Minute, func(context.Context) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var whole, late atomic.Bool
			server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				whole.Store(err == nil && string(body) == monthly)
				late.Store(true)
				row.end(r.Context())
			}))
			t.Cleanup(server.Close)
			client := newClient(t, server.URL, func(c *klarna.Config) {
				c.Timeout, c.TLS = row.timeout, server.Client().Transport.(*http.Transport).TLSClientConfig
			})
			refused := errors.New("the claim ends before a try could")
			_, err := charge(client, func(r *klarna.CreateOrderRequest) {
				r.BeforeSend = func() error {
					if late.Load() {
						return refused
					}
					return nil
				}
			})
			if !whole.Load() || klarna.ClassOf(err) != klarna.ClassCut {
				t.Errorf("arrived whole: %t; error %v (%v), want cut", whole.Load(), err, klarna.ClassOf(err))
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.StartTLS(klarnasim.Options{Username: theUser, Password: theKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	var protos sync.Map
	client := newClient(t, server.URL, func(c *klarna.Config) { c.TLS = server.ClientTLS })
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protos.Store(r.Proto, true)
		server.Simulator.ServeHTTP(w, r)
	}))
	proxy.EnableHTTP2 = true
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	counted := newClient(t, proxy.URL, func(c *klarna.Config) { c.TLS = proxy.Client().Transport.(*http.Transport).TLSClientConfig })

	var wait sync.WaitGroup
	for i := range 100 {
		wait.Go(func() {
			for _, c := range []*klarna.Client{client, counted} {
				order, err := charge(c, func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = fmt.Sprint(i) })
				if err != nil {
					t.Error(err)
					continue
				}
				if read, err := c.Order(context.Background(), order.OrderID); err != nil || read.Status != "CAPTURED" {
					t.Errorf("order %+v, error %v", read, err)
				}
			}
		})
	}
	wait.Wait()
	if n := len(server.Simulator.Books().Orders); n != 100 {
		t.Errorf("%d orders, want 100", n)
	}
	if _, ok := protos.Load("HTTP/2.0"); ok {
		t.Error("HTTP/2 was spoken: a lost connection would take many tries with it")
	}
	for token, want := range map[string]klarna.Class{
		"cut-1": klarna.ClassCut, "created-cut-1": klarna.ClassCut, "cut-body-1": klarna.ClassAnswered2xx,
		"cut-headers-1": klarna.ClassAnswered2xx, "soft-decline-1": klarna.ClassRefused, "503-1": klarna.ClassFailed,
	} {
		_, err := charge(client, withToken(token), func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = token })
		if got := klarna.ClassOf(err); got != want {
			t.Errorf("%s: %v (%v), want %v", token, err, got, want)
		}
	}
	pieces := 0
	if _, err = charge(client, func(r *klarna.CreateOrderRequest) {
		r.IdempotencyKey, r.BeforeSend = "large", func() error { pieces++; return nil }
		r.Body = []byte(monthly + strings.Repeat(" ", 8<<10))
	}); err != nil || pieces != 1 {
		t.Errorf("an order of 8 KiB left in %d pieces, error %v, want one", pieces, err)
	}
	refused := errors.New("the lease is over")
	_, err = charge(client, func(r *klarna.CreateOrderRequest) {
		r.IdempotencyKey, r.BeforeSend = "fenced", func() error { return refused }
	})
	if !errors.Is(err, refused) || klarna.ClassOf(err) != klarna.ClassNotSent {
		t.Errorf("refused before the body: %v, want not sent", err)
	}
	if n := server.Simulator.Counts().Orders; n != 102 {
		t.Errorf("%d orders, want 102: a refused try must not make one", n)
	}
}

func TestTenThousandOrdersWithAThousandKeys(t *testing.T) {
	t.Parallel()
	server, err := klarnasim.Start(klarnasim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	var ids sync.Map
	var next atomic.Int64
	var wait sync.WaitGroup
	for range 64 {
		wait.Go(func() {
			for {
				n := next.Add(1)
				if n > 10_000 {
					return
				}
				key := fmt.Sprint("key-", n%1000)
				order, err := charge(client, func(r *klarna.CreateOrderRequest) { r.IdempotencyKey = key })
				if err != nil {
					t.Error(err)
					continue
				}
				if first, loaded := ids.LoadOrStore(key, order.OrderID); loaded && first != order.OrderID {
					t.Errorf("key %s: order %s, and %s before", key, order.OrderID, first)
				}
			}
		})
	}
	wait.Wait()
	books := server.Simulator.Books()
	if len(books.Orders) != 1000 || books.Requests != 10_000 {
		t.Errorf("%d orders after %d requests, want 1000 after 10000", len(books.Orders), books.Requests)
	}
}
