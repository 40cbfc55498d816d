package messages

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// TokenFinding says what became known of a customer token. More may follow: ignore what you do not know.
type TokenFinding string

const (
	// TokenCancelling: somebody has asked Klarna to cancel it, and the answer is not known. Where nothing follows, look at the token.
	TokenCancelling TokenFinding = "cancelling"
	// TokenCancelled: Klarna has taken the cancellation on. The token can never be charged again.
	TokenCancelled TokenFinding = "cancelled"
)

// TokenNews is what became known of a customer token: the body of a message on renewals.token.<subscription>.<account> of
// [StreamNews]. It never holds the token.
type TokenNews struct {
	Account Account `json:"account"`
	// SubscriptionID is the one that the token was for, where that was said.
	SubscriptionID   SubscriptionID `json:"subscription_id,omitempty"`
	TokenFingerprint string         `json:"token_fingerprint"` // as results have it
	Finding          TokenFinding   `json:"finding"`
	At               time.Time      `json:"at"`
	Actor            string         `json:"actor,omitempty"` // who asked for it
	Note             string         `json:"note,omitempty"`  // why
}

// Subject is where the news are published. Without a subscription its place is %, which no subscription is written as.
func (n TokenNews) Subject() string {
	subscription := "%"
	if n.SubscriptionID != "" {
		subscription = string(escape(nil, string(n.SubscriptionID), subjectToken))
	}
	return strings.Join([]string{"renewals.token", subscription, string(n.Account)}, ".")
}

// Message is what publishes the news, with the headers of CloudEvents that results have.
func (n TokenNews) Message() (*nats.Msg, error) {
	n.At, n.Actor, n.Note = instant(n.At), cut(n.Actor, maxWord), cut(n.Note, maxSentence)
	var body bytes.Buffer
	if err := encode(&body, n); err != nil {
		return nil, fmt.Errorf("encode news of token %s: %w", n.TokenFingerprint, err)
	}
	m := nats.NewMsg(n.Subject())
	m.Data = bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	m.Header = Envelope{
		ID:   fmt.Sprintf("token/%s/%s/%d", n.TokenFingerprint, n.Finding, n.At.UnixNano()),
		Kind: "token", Account: n.Account, SubscriptionID: n.SubscriptionID, Time: n.At,
	}.Header()
	m.Header["ce-dataschema"] = []string{percentEncode(SchemaID("token"))}
	return m, nil
}
