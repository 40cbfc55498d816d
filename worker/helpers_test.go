package worker

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

var midday = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// turnedDown is Klarna's answer with a status, and an object of its own where there is a code.
func turnedDown(status int, code string) error {
	return &klarna.Error{StatusCode: status, Code: code, HasErrorObject: code != ""}
}

// claims says that a record has a claim that is not released: a delivery is about to ask Klarna, and no panic was counted.
func claims(m *nats.Msg) bool {
	s, err := journal.ParseState(m.Header.Get(messages.HeaderState))
	return err == nil && s.Claim != nil && !s.Claim.Released
}

// clientOf is a client of a Klarna that answers so.
func clientOf(t *testing.T, answer http.HandlerFunc) *klarna.Client {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := klarna.New(klarna.Config{Endpoint: endpoint, Credentials: klarna.StaticCredentials("merchant", "secret-password")})
	if err != nil {
		t.Fatal(err)
	}
	return client
}
