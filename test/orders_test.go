package test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
)

// TestSimulatorAndValidationAgree: of the orders that live integrations send, the simulator takes what validation lets pass, and
// refuses what it refuses, save for what Klarna never sees of it or is not known to look at.
func TestSimulatorAndValidationAgree(t *testing.T) {
	t.Parallel()
	orders, err := os.ReadFile("../messages/testdata/orders.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	unseen := map[string]bool{"a file that begins with a mark nobody sees": true, "a monthly box and a yearly club": true}
	sim := klarnasim.New(klarnasim.Options{})
	for line := range bytes.Lines(orders) {
		var o struct {
			Name   string
			Errors []string
			Order  json.RawMessage
		}
		if err := json.Unmarshal(line, &o); err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/customer-token/v1/tokens/ok-1/order", bytes.NewReader(o.Order))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Klarna-Idempotency-Key", o.Name)
		request.SetBasicAuth("merchant", "secret-password")
		answer := httptest.NewRecorder()
		sim.ServeHTTP(answer, request)
		want := http.StatusOK
		if len(o.Errors) > 0 && !unseen[o.Name] {
			want = http.StatusBadRequest
		}
		if answer.Code != want {
			t.Errorf("%s: the simulator answers %d %s, want %d", o.Name, answer.Code, answer.Body, want)
		}
	}
}
