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
		{situation: "not enough money on the card", status: 403, code: "PAYMENT_METHOD_FAILED", want: "payment_method_failed soft_decline customer notify retry"},
		{situation: "the card expired", status: 403, code: "UNAVAILABLE_PAYMENT_METHOD", want: "unavailable_payment_method customer_action customer notify retry"},
		{situation: "Klarna suspended the token", status: 403, code: "TOKEN_SUSPENDED", want: "token_suspended customer_action klarna notify retry"},
		{situation: "the customer cancelled in the Klarna app (S19)", status: 403, code: "TOKEN_CANCELLED", want: "token_cancelled token_dead customer notify"},
		{situation: "the same, as the newer pages spell it (S19)", status: 403, code: "TOKEN_CANCELED", want: "token_canceled token_dead customer notify"},
		{situation: "the token belongs to another merchant ID", status: 403, code: "TOKEN_FORBIDDEN", want: "token_forbidden merchant_error merchant"},
		{situation: "charged in another currency", status: 403, code: "PAYMENT_METHOD_CURRENCY_MISMATCH", want: "payment_method_currency_mismatch merchant_error merchant"},
		{situation: "tokens are not enabled for this merchant ID", status: 403, code: "INVALID_OPERATION", want: "invalid_operation merchant_error merchant"},
		{situation: "the merchant ID is closed", status: 403, code: "MERCHANT_INACTIVE", want: "merchant_inactive merchant_error merchant"},
		{situation: "not approved", status: 403, code: "REJECTED", want: "rejected merchant_error merchant"},
		{situation: "an order line without a name", status: 400, code: "BAD_REQUEST", want: "bad_request merchant_error merchant"},
		{situation: "tax that does not add up", status: 400, code: "BAD_VALUE", want: "bad_value merchant_error merchant"},
		{situation: "a token of another environment", status: 404, code: "TOKEN_NOT_FOUND", want: "token_not_found merchant_error merchant"},
		{situation: "a wrong path", status: 404, code: "NOT_FOUND", want: "not_found merchant_error merchant"},
		{situation: "an order over 1 MB, no code documented", status: 413, want: "request_entity_too_large merchant_error merchant"},
		{situation: "an order over 1 MB, some code", status: 413, code: "PAYLOAD_TOO_LARGE", want: "request_entity_too_large merchant_error merchant"},
		{situation: "a capture that makes no sense", status: 422, code: "UNPROCESSABLE_ENTITY", want: "unprocessable_entity merchant_error merchant"},
		{situation: "a capture with a bad address", status: 422, code: "INVALID_ADDRESS", want: "invalid_address merchant_error merchant"},
		{situation: "a capture after the authorisation expired", status: 403, code: "CAPTURE_NOT_ALLOWED", want: "capture_not_allowed merchant_error merchant"},
		{situation: "a capture of an order Klarna does not know", status: 404, code: "NO_SUCH_ORDER", want: "no_such_order merchant_error merchant"},
		{situation: "a code in small letters", status: 403, code: "payment_method_failed", want: "payment_method_failed soft_decline customer notify retry"},
		{situation: "a code in mixed letters", status: 403, code: "Token_Cancelled", want: "token_cancelled token_dead customer notify"},
		{situation: "a known code under a status Klarna has not documented", status: 402, code: "PAYMENT_METHOD_FAILED", want: "payment_method_failed soft_decline customer notify retry"},
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
	for want, d := range map[string]dunning.Decision{
		"fraud_rejected customer_action klarna notify": dunning.FraudRejected(),
		// Nobody refused: the customer never hears of it (S23).
		"not_charged merchant_error merchant retry":  dunning.NotCharged(),
		"not_captured merchant_error merchant retry": dunning.NotCapturable(messages.ReasonNotCaptured),
		"order_expired merchant_error merchant":      dunning.NotCapturable(messages.ReasonOrderExpired),
	} {
		if got := words(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
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
		{situation: "refused for fraud", status: 400, fraud: "REJECTED", want: "fraud_rejected customer_action klarna notify"},
		{situation: "in small letters", status: 400, fraud: "rejected", want: "fraud_rejected customer_action klarna notify"},
		{situation: "a known code says more", status: 403, code: "PAYMENT_METHOD_FAILED", fraud: "REJECTED", want: "payment_method_failed soft_decline customer notify retry"},
		{situation: "an unknown code says less", status: 403, code: "NEWS", fraud: "REJECTED", want: "fraud_rejected customer_action klarna notify"},
		{situation: "no word at all", status: 400, want: unknown},
		{situation: "a fraud status that is no refusal", status: 400, fraud: "PENDING", want: unknown},
		{situation: "no refusal at all", status: 500, fraud: "REJECTED", want: unknown},
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
