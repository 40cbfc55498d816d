package worker

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/klarna"
)

// answered is an answer of Klarna with its error object.
func answered(status int, code string) error {
	return &klarna.Error{StatusCode: status, Code: code, HasErrorObject: code != ""}
}

func TestHear(t *testing.T) {
	order := klarna.CreatedOrder{OrderID: "order-1", FraudStatus: "ACCEPTED"}
	with := func(status string) klarna.CreatedOrder { o := order; o.FraudStatus = status; return o }
	undecided := Claim{UndecidedTries: 1}
	yes := Claim{Answered2xx: true}

	for _, tt := range []struct {
		name   string
		before Claim
		order  klarna.CreatedOrder
		err    error
		want   outcome
		again  bool
	}{
		{"accepted", Claim{}, order, nil, outcome{Answer: answerAccepted, Made: "order-1", Tries: 1}, false},
		{"accepted after an undecided try", undecided, order, nil, outcome{Answer: answerAccepted, Made: "order-1", Tries: 1}, false},
		{"pending", Claim{}, with("PENDING"), nil, outcome{Answer: answerPending, Made: "order-1", Tries: 1}, false},
		{"no fraud status", Claim{}, with(""), nil, outcome{Answer: answerPending, Made: "order-1", Tries: 1}, false},
		{"a fraud status of tomorrow", Claim{}, with("MAYBE"), nil, outcome{Answer: answerPending, Made: "order-1", Tries: 1}, false},
		{"fraud rejected", Claim{}, with("REJECTED"), nil, outcome{Answer: answerFraudRejected, Made: "order-1", Tries: 1}, false},

		{"soft decline", Claim{}, klarna.CreatedOrder{}, answered(403, "PAYMENT_METHOD_FAILED"), outcome{Answer: answerRefused, Tries: 1}, false},
		{"token cancelled", Claim{}, klarna.CreatedOrder{}, answered(403, "TOKEN_CANCELLED"), outcome{Answer: answerRefused, Tries: 1}, false},
		{"our request is bad", Claim{}, klarna.CreatedOrder{}, answered(400, "BAD_VALUE"), outcome{Answer: answerRefused, Tries: 1}, false},
		{"soft decline after an undecided try", undecided, klarna.CreatedOrder{}, answered(403, "PAYMENT_METHOD_FAILED"), outcome{Answer: answerRefused, Tries: 1}, false},
		{"token cancelled after an undecided try (S39)", undecided, klarna.CreatedOrder{}, answered(403, "TOKEN_CANCELLED"), outcome{Tries: 1, Contradicted: true}, false},
		{"soft decline after a 2xx without an order", yes, klarna.CreatedOrder{}, answered(403, "PAYMENT_METHOD_FAILED"), outcome{Tries: 1, Contradicted: true}, false},

		{"password wrong", Claim{}, klarna.CreatedOrder{}, answered(401, ""), outcome{Tries: 1, Unsent: true, NotEvaluated: true}, false},
		{"firewall", Claim{}, klarna.CreatedOrder{}, answered(403, ""), outcome{Tries: 1, Unsent: true, NotEvaluated: true}, false},
		{"rate limit (S27)", Claim{}, klarna.CreatedOrder{}, &klarna.Error{StatusCode: 429, RetryAfter: 3 * time.Second}, outcome{Tries: 1, Unsent: true, RetryAfter: 3 * time.Second}, true},
		{"host unknown", Claim{}, klarna.CreatedOrder{}, &klarna.NotSentError{Err: errors.New("no such host")}, outcome{Unsent: true}, true},

		{"failed for sure", Claim{}, klarna.CreatedOrder{}, answered(503, "SERVICE_UNAVAILABLE"), outcome{Tries: 1}, true},
		{"maintenance page (S4)", Claim{}, klarna.CreatedOrder{}, answered(503, ""), outcome{Tries: 1, Undecided: 1}, true},
		{"internal error (S2)", Claim{}, klarna.CreatedOrder{}, answered(500, "INTERNAL_SERVER_ERROR"), outcome{Tries: 1, Undecided: 1}, true},
		{"in-flight duplicate", Claim{}, klarna.CreatedOrder{}, answered(409, "CONFLICT"), outcome{Tries: 1, Undecided: 1}, true},
		{"yes, without an order (S13)", Claim{}, klarna.CreatedOrder{}, &klarna.UnknownError{StatusCode: 200, Answered2xx: true}, outcome{Tries: 1, Undecided: 1, Answered2xx: true}, true},
		{"cut", Claim{}, klarna.CreatedOrder{}, &klarna.UnknownError{Cut: true}, outcome{Tries: 1, Cut: true}, false},
		{"timed out", Claim{}, klarna.CreatedOrder{}, &klarna.UnknownError{TimedOut: true}, outcome{Tries: 1, Cut: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := tally{before: tt.before, outcome: outcome{Unsent: true}}
			again := heard.hear(tt.order, tt.err)
			if tt.err != nil {
				tt.want.LastError = tt.err.Error()
			}
			if heard.outcome != tt.want || again != tt.again {
				t.Errorf("hear = %+v, again %t\nwant %+v, again %t", heard.outcome, again, tt.want, tt.again)
			}
		})
	}
}

// TestUnknownNeverBecomesDunning: whatever was heard before, in whatever order,
// a refusal is believed only where no earlier try can have made an order, or where it is a
// decline of the money itself; and never after a 2xx.
func TestUnknownNeverBecomesDunning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heard := tally{outcome: outcome{Unsent: true}, before: Claim{
			UndecidedTries: rapid.IntRange(0, 2).Draw(t, "undecided before"),
			Answered2xx:    rapid.Bool().Draw(t, "2xx before"),
		}}
		mayExist, said2xx := heard.before.UndecidedTries > 0, heard.before.Answered2xx
		for again := true; again; {
			status := rapid.SampledFrom([]int{100, 200, 302, 400, 401, 403, 404, 408, 409, 422, 425, 429, 500, 503, 504}).Draw(t, "status")
			code := rapid.SampledFrom([]string{"", "PAYMENT_METHOD_FAILED", "UNAVAILABLE_PAYMENT_METHOD", "TOKEN_CANCELLED", "BAD_VALUE", "TOMORROW"}).Draw(t, "code")
			err := answered(status, code)
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				err = &klarna.UnknownError{Cut: true}
			case 1:
				err = &klarna.UnknownError{StatusCode: 200, Answered2xx: true}
			case 2:
				err = &klarna.NotSentError{Err: errors.New("dial")}
			}
			again = heard.hear(klarna.CreatedOrder{}, err)
			if heard.Answer == answerRefused {
				money := code == "PAYMENT_METHOD_FAILED" || code == "UNAVAILABLE_PAYMENT_METHOD"
				if said2xx || mayExist && !money {
					t.Fatalf("%v is dunning although an order may exist", err)
				}
			} else if heard.Answer != answerNone {
				t.Fatalf("%v gives %v", err, heard.Answer)
			}
			switch klarna.ClassOf(err) {
			case klarna.ClassUnknown, klarna.ClassCut:
				mayExist = true
			case klarna.ClassAnswered2xx:
				said2xx = true
			}
		}
	})
}

func TestHashTellsPartsApart(t *testing.T) {
	seen := map[string]string{}
	for _, parts := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"abc", ""}, {"", "abc"}, {"a", "b", "c"}} {
		h := hash([]byte(parts[len(parts)-1]), parts[:len(parts)-1]...)
		if other, ok := seen[h]; ok {
			t.Errorf("hash(%q) = hash(%s)", parts, other)
		}
		seen[h] = fmt.Sprintf("%q", parts)
	}
}

// TestHashIsStored: the journal of a running deployment holds these hashes.
func TestHashIsStored(t *testing.T) {
	stored := fmt.Sprintf("%x", sha256.Sum256([]byte("\x00\x00\x00\x00\x00\x00\x00\x07default\x00\x00\x00\x00\x00\x00\x00\x05token\x00\x00\x00\x00\x00\x00\x00\x02{}")))
	if got := hash([]byte("{}"), "default", "token"); got != stored {
		t.Errorf("hash = %s, want %s", got, stored)
	}
}
