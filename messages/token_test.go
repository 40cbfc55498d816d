package messages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/messages"
)

// However a token, or something that holds one, is printed or marshalled, the token is not in it.
func TestTokenIsRedacted(t *testing.T) {
	t.Parallel()
	secret := messages.NewCustomerToken(token)
	job := messages.Job{ID: "1", CustomerToken: secret}
	hidden := struct{ inside messages.CustomerToken }{secret}
	held := map[string]any{"token": secret, "pointer": &secret, "job": job, "unexported": hidden, "list": []messages.CustomerToken{secret}}

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%T %v", "%10s", "%!"} {
		for name, v := range held {
			if got := fmt.Sprintf(strings.Replace(verb, "%T ", "", 1), v); leaks(got) {
				t.Errorf("%s of %s: got %s", verb, name, got)
			}
		}
	}
	for name, v := range held {
		got, err := json.Marshal(v)
		if leaks(string(got)) {
			t.Errorf("json.Marshal of %s: got %s, %v", name, got, err)
		}
		var log bytes.Buffer
		logger := zerolog.New(&log)
		logger.Info().Interface("v", v).Any("a", v).Fields(map[string]any{"f": v}).Err(fmt.Errorf("with %v", v)).Msgf("%v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		if leaks(log.String()) {
			t.Errorf("log of %s: got %s", name, log.String())
		}
	}
	var log bytes.Buffer
	logger := zerolog.New(&log)
	logger.Info().Stringer("v", secret).Msg("")
	if want := `{"level":"info","v":"[redacted]"}` + "\n"; log.String() != want {
		t.Errorf("got %s, want %s", log.String(), want)
	}
	if got, err := secret.MarshalText(); err != nil || string(got) != "[redacted]" {
		t.Errorf("got %s, %v", got, err)
	}
	if got := secret.GoString(); got != "[redacted]" {
		t.Errorf("got %s", got)
	}
	if got, err := json.Marshal(job); err != nil || !strings.Contains(string(got), `"customer_token":"[redacted]"`) {
		t.Errorf("got %s, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"customer_token":"x"}`), &job); err == nil {
		t.Error("json.Unmarshal made a job, want only DecodeJob to")
	}
}

// leaks reports whether s shows a good part of the token, in whatever base.
func leaks(s string) bool {
	half := token[:18]
	return strings.Contains(s, half) || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", half))
}

func TestToken(t *testing.T) {
	t.Parallel()
	secret := messages.NewCustomerToken(token)
	if got := secret.Reveal(); got != token {
		t.Errorf("got %s, want %s", got, token)
	}
	// printf %s 0b1d9815-165e-42e2-8867-35bc03789e00 | sha256sum | cut -c1-12
	if got, want := secret.Fingerprint(), "b17f6e500d48"; got != want {
		t.Errorf("got fingerprint %s, want %s", got, want)
	}
	var none messages.CustomerToken
	if !none.IsZero() || !messages.NewCustomerToken("").IsZero() || secret.IsZero() || none.Reveal() != "" || none.Fingerprint() != "" {
		t.Error("the zero token is not what an empty one is")
	}
}

// Wherever a job repeats its token, and whatever stands around the token where it belongs, no part of what is read of the job
// but CustomerToken has it: results and dead letters echo the rest.
func TestTokenIsReadFromNowhereElse(t *testing.T) {
	t.Parallel()
	job := string(golden(t, "job.json"))
	places := map[string]string{
		"id": edit(t, job, `"id": "1234834/`, `"id": "`+token+`/`), "subscription": edit(t, job, `"subscription_id": "1234834"`, `"subscription_id": "`+token+`"`),
		"period": edit(t, job, `"period": "2026-12"`, `"period": "`+token+`"`), "metadata": edit(t, job, `"premium"`, `"of `+token+`"`),
		"a name in metadata": edit(t, job, `"plan"`, `"`+token+`"`), "due_at": edit(t, job, `"due_at": "`, `"due_at": "`+token),
		"an unknown field": edit(t, job, `"attempt"`, `"`+token+`"`), "an unknown field's value": edit(t, job, `"attempt": 1`, `"new": "`+token+`"`),
		"a reference": edit(t, job, `"merchant_reference1": "`, `"merchant_reference1": "`+token), "the other reference": edit(t, job, `"merchant_reference1"`, `"merchant_reference2": "`+token+`", "merchant_reference1"`),
		"the currency": edit(t, job, `"EUR"`, `"`+token+`"`), "a line's type": edit(t, job, `"digital"`, `"`+token+`"`), "an interval": edit(t, job, `"MONTH"`, `"`+token+`"`),
		"a field of the order": edit(t, job, `"auto_capture"`, `"`+token+`": 1, "`+token+`": 1, "auto_capture"`), "a subscription's name": edit(t, job, `{{1234834}}`, `{{`+token+`}}`),
	}
	for place, payload := range places {
		for _, around := range [][2]string{{}, {" ", ""}, {"", `\n`}, {`\t `, `\u00a0`}, {`\"`, `\"`}, {`\u0000`, `\ufeff`}} {
			payload := edit(t, payload, `"customer_token": "`+token+`"`, `"customer_token": "`+around[0]+token+around[1]+`"`)
			r := messages.Read([]byte(payload), nil)
			if !strings.Contains(r.Job.CustomerToken.Reveal(), token) {
				t.Errorf("%s, %q: the token is not read", place, around)
			}
			if got := fmt.Sprintf("%+v", r); leaks(got) {
				t.Errorf("%s, %q: %s", place, around, got)
			}
		}
	}
}
