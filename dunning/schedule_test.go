package dunning_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/messages"
)

func TestNextByDefault(t *testing.T) {
	t.Parallel()
	const none = ""
	for _, row := range []struct {
		refusal   string
		category  messages.Category
		retryable bool
		first     string
		want      []string // after attempt 1, 2, …
	}{
		{refusal: "soft decline (S20, S21)", category: messages.CategorySoftDecline, retryable: true, first: "2026-12-01T00:00:00Z",
			want: []string{"2026-12-02T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-06T00:00:00Z", "2026-12-08T00:00:00Z", none, none}},
		{refusal: "the customer has to act", category: messages.CategoryCustomerAction, retryable: true, first: "2026-12-01T00:00:00Z",
			want: []string{"2026-12-04T00:00:00Z", "2026-12-08T00:00:00Z", none, none}},
		{refusal: "refused for fraud", category: messages.CategoryCustomerAction, first: "2026-12-01T00:00:00Z", want: []string{none, none}},
		{refusal: "dead token (S18)", category: messages.CategoryTokenDead, first: "2026-12-01T00:00:00Z", want: []string{none, none}},
		{refusal: "our own mistake", category: messages.CategoryMerchantError, first: "2026-12-01T00:00:00Z", want: []string{none, none}},
		{refusal: "our own mistake, said to be retryable", category: messages.CategoryMerchantError, retryable: true, first: "2026-12-01T00:00:00Z", want: []string{none}},
		{refusal: "a category of a later version", category: "later", retryable: true, first: "2026-12-01T00:00:00Z", want: []string{none}},
		{refusal: "over the end of a year", category: messages.CategorySoftDecline, retryable: true, first: "2026-12-30T23:59:59Z",
			want: []string{"2026-12-31T23:59:59Z", "2027-01-02T23:59:59Z", "2027-01-04T23:59:59Z", "2027-01-06T23:59:59Z", none}},
		{refusal: "over the end of February", category: messages.CategorySoftDecline, retryable: true, first: "2027-02-27T12:00:00Z",
			want: []string{"2027-02-28T12:00:00Z", "2027-03-02T12:00:00Z", "2027-03-04T12:00:00Z", "2027-03-06T12:00:00Z", none}},
		{refusal: "over 29 February", category: messages.CategorySoftDecline, retryable: true, first: "2028-02-28T12:00:00Z",
			want: []string{"2028-02-29T12:00:00Z", "2028-03-02T12:00:00Z", "2028-03-04T12:00:00Z", "2028-03-06T12:00:00Z", none}},
		// Berlin's clocks go forward on 2027-03-28 and back on 2026-10-25, New York's back on 2026-11-01.
		{refusal: "Berlin, summer time begins", category: messages.CategorySoftDecline, retryable: true, first: "2027-03-27T08:00:00+01:00",
			want: []string{"2027-03-28T07:00:00Z", "2027-03-30T07:00:00Z", "2027-04-01T07:00:00Z", "2027-04-03T07:00:00Z", none}},
		{refusal: "Berlin, summer time ends", category: messages.CategorySoftDecline, retryable: true, first: "2026-10-24T02:30:00+02:00",
			want: []string{"2026-10-25T00:30:00Z", "2026-10-27T00:30:00Z", "2026-10-29T00:30:00Z", "2026-10-31T00:30:00Z", none}},
		{refusal: "New York, summer time ends", category: messages.CategoryCustomerAction, retryable: true, first: "2026-10-30T23:00:00-04:00",
			want: []string{"2026-11-03T03:00:00Z", "2026-11-07T03:00:00Z", none}},
	} {
		t.Run(row.refusal, func(t *testing.T) {
			t.Parallel()
			first, err := time.Parse(time.RFC3339, row.first)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range row.want {
				next, ok, final := dunning.DefaultPolicy().Next(row.category, row.retryable, int64(i+1), first)
				got := none
				if ok {
					got = next.Format(time.RFC3339)
				}
				if got != want || final != (want == none) || !ok && !next.IsZero() {
					t.Errorf("after attempt %d: got %q, final %v; want %q, %v", i+1, got, final, want, want == none)
				}
			}
		})
	}
}

// A location with daylight saving gives the same instants as UTC.
func TestNextIgnoresTheLocation(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Skipf("no time zone database: %v", err)
		}
		for day := range 366 {
			first := time.Date(2026, 1, 1+day, 2, 30, 0, 0, location)
			for attempt := range int64(4) {
				got, _, _ := dunning.DefaultPolicy().Next(messages.CategorySoftDecline, true, attempt+1, first)
				want, _, _ := dunning.DefaultPolicy().Next(messages.CategorySoftDecline, true, attempt+1, first.UTC())
				if !got.Equal(want) || got.Location() != time.UTC {
					t.Fatalf("%s %v attempt %d: got %v, want %v", zone, first, attempt+1, got, want)
				}
			}
		}
	}
}

// Neither the clock nor the time of the latest attempt is an input: a late attempt does not push the chain.
func TestNextMayHavePassed(t *testing.T) {
	t.Parallel()
	first := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	got, ok, final := dunning.DefaultPolicy().Next(messages.CategorySoftDecline, true, 2, first)
	if want := time.Date(2020, 1, 4, 0, 0, 0, 0, time.UTC); !got.Equal(want) || !ok || final {
		t.Errorf("got %v, %v, %v; want %v, true, false", got, ok, final, want)
	}
}

// S20, S21: however the policy reads, a chain has exactly MaxAttempts attempts, each later than the one before.
func TestChainHasMaxAttempts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s dunning.Schedule
		for day := range 100 {
			if rapid.IntRange(0, 9).Draw(t, "day") == 0 {
				s.Days = append(s.Days, day+1)
			}
		}
		s.MaxAttempts = rapid.IntRange(1, len(s.Days)+1).Draw(t, "max_attempts")
		p := dunning.Policy{SoftDecline: s, CustomerAction: dunning.DefaultPolicy().CustomerAction}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		first := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "first"), 0)
		attempts, last := 1, first
		for {
			next, ok, final := p.Next(messages.CategorySoftDecline, true, int64(attempts), first)
			if ok == final {
				t.Fatalf("after attempt %d: ok %v, final %v", attempts, ok, final)
			}
			if final {
				break
			}
			if !next.After(last) {
				t.Fatalf("attempt %d at %v is not after %v", attempts+1, next, last)
			}
			attempts, last = attempts+1, next
		}
		if attempts != s.MaxAttempts {
			t.Fatalf("got %d attempts, want %d of %+v", attempts, s.MaxAttempts, s)
		}
	})
}

func TestPolicyValidate(t *testing.T) {
	t.Parallel()
	days := func(max int, days ...int) dunning.Schedule { return dunning.Schedule{Days: days, MaxAttempts: max} }
	fine := days(3, 3, 7)
	for _, row := range []struct {
		name   string
		policy dunning.Policy
		want   string
	}{
		{"the default", dunning.DefaultPolicy(), ""},
		{"one attempt only", dunning.Policy{SoftDecline: days(1), CustomerAction: days(1)}, ""},
		{"fewer attempts than days", dunning.Policy{SoftDecline: days(2, 1, 3, 5), CustomerAction: fine}, ""},
		{"nothing set", dunning.Policy{}, "soft_decline.max_attempts: 0, expected 1 to 1, the first attempt and one for each of the days"},
		{"more attempts than days", dunning.Policy{SoftDecline: days(4, 1, 3), CustomerAction: fine}, "soft_decline.max_attempts: 4, expected 1 to 3, the first attempt and one for each of the days"},
		{"day 0", dunning.Policy{SoftDecline: fine, CustomerAction: days(2, 0)}, "customer_action.days[0]: 0, expected ascending days from 1 to 100"},
		{"a day twice", dunning.Policy{SoftDecline: days(3, 2, 2), CustomerAction: fine}, "soft_decline.days[1]: 2, expected ascending days from 1 to 100"},
		{"days that go back", dunning.Policy{SoftDecline: days(3, 5, 2), CustomerAction: fine}, "soft_decline.days[1]: 2, expected ascending days from 1 to 100"},
		{"past the journal's memory", dunning.Policy{SoftDecline: days(2, 101), CustomerAction: fine}, "soft_decline.days[0]: 101, expected ascending days from 1 to 100"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := row.policy.Validate(); err != nil {
				got = err.Error()
			}
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// The journal of a running deployment holds this form.
func TestPolicyAsStored(t *testing.T) {
	t.Parallel()
	const want = `{"soft_decline":{"days":[1,3,5,7],"max_attempts":5},"customer_action":{"days":[3,7],"max_attempts":3}}`
	got, err := json.Marshal(dunning.DefaultPolicy())
	if err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}
