package dunning_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

// Written out and not derived from the table: a billing team has built on each of these lines.
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		situation string
		status    int
		code      string
		want      string // reason category fix_by, notify and retry where they apply
	}{
		{"not enough money on the card", 403, "PAYMENT_METHOD_FAILED", "payment_method_failed soft_decline customer notify retry"},
		{"the card expired", 403, "UNAVAILABLE_PAYMENT_METHOD", "unavailable_payment_method customer_action customer notify retry"},
		{"Klarna suspended the token", 403, "TOKEN_SUSPENDED", "token_suspended customer_action klarna notify retry"},
		{"the customer cancelled in the Klarna app (S19)", 403, "TOKEN_CANCELLED", "token_cancelled token_dead customer notify"},
		{"the same, as the newer pages spell it (S19)", 403, "TOKEN_CANCELED", "token_canceled token_dead customer notify"},
		{"the token belongs to another merchant ID", 403, "TOKEN_FORBIDDEN", "token_forbidden merchant_error merchant"},
		{"charged in another currency", 403, "PAYMENT_METHOD_CURRENCY_MISMATCH", "payment_method_currency_mismatch merchant_error merchant"},
		{"tokens are not enabled for this merchant ID", 403, "INVALID_OPERATION", "invalid_operation merchant_error merchant"},
		{"the merchant ID is closed", 403, "MERCHANT_INACTIVE", "merchant_inactive merchant_error merchant"},
		{"not approved", 403, "REJECTED", "rejected merchant_error merchant"},
		{"an order line without a name", 400, "BAD_REQUEST", "bad_request merchant_error merchant"},
		{"tax that does not add up", 400, "BAD_VALUE", "bad_value merchant_error merchant"},
		{"a token of another environment", 404, "TOKEN_NOT_FOUND", "token_not_found merchant_error merchant"},
		{"a wrong path", 404, "NOT_FOUND", "not_found merchant_error merchant"},
		{"an order over 1 MB, no code documented", 413, "", "request_entity_too_large merchant_error merchant"},
		{"an order over 1 MB, some code", 413, "PAYLOAD_TOO_LARGE", "request_entity_too_large merchant_error merchant"},
		{"a capture that makes no sense", 422, "UNPROCESSABLE_ENTITY", "unprocessable_entity merchant_error merchant"},
		{"a capture with a bad address", 422, "INVALID_ADDRESS", "invalid_address merchant_error merchant"},
		{"a capture after the authorisation expired", 403, "CAPTURE_NOT_ALLOWED", "capture_not_allowed merchant_error merchant"},
		{"a capture of an order Klarna does not know", 404, "NO_SUCH_ORDER", "no_such_order merchant_error merchant"},
		{"a code in small letters", 403, "payment_method_failed", "payment_method_failed soft_decline customer notify retry"},
		{"a code in mixed letters", 403, "Token_Cancelled", "token_cancelled token_dead customer notify"},
		{"a known code under a status Klarna has not documented", 402, "PAYMENT_METHOD_FAILED", "payment_method_failed soft_decline customer notify retry"},
	} {
		t.Run(row.situation, func(t *testing.T) {
			t.Parallel()
			d, known := dunning.Decide(row.status, row.code)
			if got := words(d); got != row.want || !known {
				t.Errorf("Decide(%d, %q) = %s, known %v; want %s", row.status, row.code, got, known, row.want)
			}
			if d.Status != row.status || d.Code != row.code {
				t.Errorf("Decide(%d, %q) says it is about %d %q", row.status, row.code, d.Status, d.Code)
			}
		})
	}
	if got, want := words(dunning.FraudRejected()), "fraud_rejected customer_action klarna notify"; got != want {
		t.Errorf("FraudRejected() = %s, want %s", got, want)
	}
}

const unknown = "unknown_code merchant_error merchant"

// S19: adding a status or a code to the table is a visible diff here.
func TestDecideUnknown(t *testing.T) {
	t.Parallel()
	for status := 100; status <= 599; status++ {
		for _, code := range []string{"", "FRAUD_REJECTED", "UNKNOWN_CODE", "1020", "SOMETHING_NEW"} {
			want, wantKnown := unknown, false
			if status == 413 {
				want, wantKnown = "request_entity_too_large merchant_error merchant", true
			}
			if d, known := dunning.Decide(status, code); words(d) != want || known != wantKnown {
				t.Errorf("Decide(%d, %q) = %s, known %v; want %s, %v", status, code, words(d), known, want, wantKnown)
			}
		}
	}
}

// S51: the 400 of a token order may carry no code: https://docs.klarna.com/api/errors/ and ErrorV2 in Klarna's schema.
func TestRefusalWithoutACode(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		situation   string
		status      int
		code, fraud string
		want        string
	}{
		{"refused for fraud", 400, "", "REJECTED", "fraud_rejected customer_action klarna notify"},
		{"in small letters", 400, "", "rejected", "fraud_rejected customer_action klarna notify"},
		{"a known code says more", 403, "PAYMENT_METHOD_FAILED", "REJECTED", "payment_method_failed soft_decline customer notify retry"},
		{"an unknown code says less", 403, "NEWS", "REJECTED", "fraud_rejected customer_action klarna notify"},
		{"no word at all", 400, "", "", unknown},
		{"a fraud status that is no refusal", 400, "", "PENDING", unknown},
		{"no refusal at all", 500, "", "REJECTED", unknown},
	} {
		d, known := dunning.DecideRefused(row.status, row.code, row.fraud)
		if got := words(d); got != row.want || known != (row.want != unknown) {
			t.Errorf("%s: DecideRefused(%d, %q, %q) = %s, known %v; want %s", row.situation, row.status, row.code, row.fraud, got, known, row.want)
		}
	}
}

// S4: what says nothing of the charge is no refusal, whatever code comes with it.
func TestDecideIsForRefusalsOnly(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		situation string
		status    int
	}{
		{"created", 200}, {"redirected", 302}, {"our password is wrong", 401}, {"the request timed out", 408},
		{"the key is in use", 409}, {"too early", 425}, {"rate limit", 429}, {"Klarna is down", 500}, {"maintenance", 503},
	} {
		for _, d := range dunning.Table() {
			if got, known := dunning.Decide(row.status, d.Code); known || words(got) != unknown {
				t.Errorf("%s: Decide(%d, %q) = %s, known %v; want %s, false", row.situation, row.status, d.Code, words(got), known, unknown)
			}
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	codes, reasons := map[string]bool{}, map[messages.Reason]bool{}
	for _, d := range dunning.Table() {
		if !strings.HasPrefix(d.Source, "https://") {
			t.Errorf("%s has no public source: %q", d.Reason, d.Source)
		}
		if reasons[d.Reason] {
			t.Errorf("reason %s stands on two rows", d.Reason)
		}
		reasons[d.Reason] = true
		if d.Code == "" {
			continue
		}
		if got, want := string(d.Reason), strings.ToLower(d.Code); got != want {
			t.Errorf("the reason of %s is %s, want %s", d.Code, got, want)
		}
		if codes[d.Code] {
			t.Errorf("code %s stands on two rows", d.Code)
		}
		codes[d.Code] = true
	}
}

// S39: only a decline of the money itself is believed after a try whose outcome is not known.
func TestSurvivesUndecided(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"PAYMENT_METHOD_FAILED": true, "UNAVAILABLE_PAYMENT_METHOD": true}
	for _, d := range dunning.Table() {
		if got := dunning.SurvivesUndecided(strings.ToLower(d.Code)); got != want[d.Code] {
			t.Errorf("SurvivesUndecided(%q) = %v, want %v", strings.ToLower(d.Code), got, want[d.Code])
		}
		if got := dunning.SurvivesUndecided(d.Code); got != want[d.Code] {
			t.Errorf("SurvivesUndecided(%q) = %v, want %v", d.Code, got, want[d.Code])
		}
	}
	for code := range want {
		if d, _ := dunning.Decide(403, code); d.FixBy != messages.FixByCustomer {
			t.Errorf("%s survives an undecided try and is fixed by %s, want the customer", code, d.FixBy)
		}
	}
}

// Whatever Klarna answers, a customer hears nothing about a mistake of the merchant's, and no mistake of the merchant's
// is tried again unchanged.
func TestOwnMistakesStayOurs(t *testing.T) {
	t.Parallel()
	var codes []string
	for _, d := range dunning.Table() {
		codes = append(codes, d.Code)
	}
	rapid.Check(t, func(t *rapid.T) {
		status := rapid.IntRange(-1, 999).Draw(t, "status")
		code := rapid.OneOf(rapid.SampledFrom(codes), rapid.StringMatching(`[A-Z_]{0,30}`), rapid.String()).Draw(t, "code")
		d, known := dunning.Decide(status, code)
		if (d.FixBy == messages.FixByMerchant) != (d.Category == messages.CategoryMerchantError) {
			t.Fatalf("%s is %s, to be fixed by %s", d.Reason, d.Category, d.FixBy)
		}
		if d.Category == messages.CategoryMerchantError && (d.NotifyCustomer || d.Retryable) {
			t.Fatalf("merchant error %s: notify %v, retry %v", d.Reason, d.NotifyCustomer, d.Retryable)
		}
		if !known && d.Category != messages.CategoryMerchantError {
			t.Fatalf("unknown %d %q is a %s", status, code, d.Category)
		}
		if d.Category == messages.CategoryTokenDead && d.Retryable {
			t.Fatalf("%s is tried again on a dead token", d.Reason)
		}
	})
}

func words(d dunning.Decision) string {
	s := string(d.Reason) + " " + string(d.Category) + " " + string(d.FixBy)
	if d.NotifyCustomer {
		s += " notify"
	}
	if d.Retryable {
		s += " retry"
	}
	return s
}
