package books

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// The books find a renewal by everything that its records say, and nothing else; a reading of the same records into plain maps agrees.
func TestFindAgreesWithAPlainReading(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		records := drawn(rt)
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		built(t, path, records, whole)
		must, may := said{}, said{} // what a claim says is found while it is open, and may be found by its result later
		claims := map[messages.Renewal]Row{}
		for _, r := range records {
			row := Read(r)
			if row.problem != "" {
				continue
			}
			may.add(&row)
			delete(claims, row.address.Renewal)
			if !row.claims() {
				must.add(&row)
			} else if claimed(row.stands.Phase) && row.event.PurchaseCurrency != "" {
				claims[row.address.Renewal] = row
			}
		}
		for _, claim := range claims {
			must.open(&claim)
		}
		b, err := Open(t.Context(), path)
		if err != nil {
			rt.Fatal(err)
		}
		defer b.Close()
		for text, allowed := range may {
			hits, more, err := b.Find(t.Context(), text, 100)
			if err != nil || more {
				rt.Fatal(err, more)
			}
			got := map[string]bool{}
			for _, h := range hits {
				if got[h.Renewal.RenewalKey] = true; !allowed[h.Renewal.RenewalKey] {
					rt.Errorf("%q finds %s, of which no record says it", text, h.Renewal.RenewalKey)
				}
			}
			for key := range must[text] {
				if !got[key] {
					rt.Errorf("%q does not find %s, of which a record says it", text, key)
				}
			}
		}
		_ = os.Remove(path)
	})
}

// said is which renewals' records say a text.
type said map[string]map[string]bool

func (s said) add(row *Row) {
	e, key := row.event, string(row.address.Renewal.Key())
	for _, text := range append([]string{string(e.ID), string(e.IdempotencyKey), e.MerchantReference1, e.MerchantReference2, e.OrderID, e.CaptureID, e.CorrelationID, e.TokenFingerprint,
		string(e.SubscriptionID), string(e.SubscriptionID) + "/" + string(e.Period), key}, e.CorrelationIDs...) {
		if text == "" {
			continue
		}
		if s[text] == nil {
			s[text] = map[string]bool{}
		}
		s[text][key] = true
	}
}

// open adds what names a claim that has no result yet.
func (s said) open(row *Row) {
	claim := Row{address: row.address}
	e := &claim.event
	e.ID, e.IdempotencyKey, e.MerchantReference1, e.MerchantReference2 = row.event.ID, row.event.IdempotencyKey, row.event.MerchantReference1, row.event.MerchantReference2
	s.add(&claim)
}

func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	records := charged(1, 30)
	for i := range records {
		records[i].Sequence, records[i].Stored = uint64(i+1), noon
	}
	built(t, path, records[:len(records)-1], whole) // the last one is open
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	key := messages.NewIdempotencyKey(messages.NewRenewalKey("sub-7", "2026-12"), "sub-7/2026-12/1")
	for _, tt := range []struct {
		text, by, first string
		n               int
	}{
		{"order-7", "order id", "sub-7", 1}, {"order-2", "order id", "sub-2", 1}, {"sub-7/2026-12/1", "message ID", "sub-7", 1}, {"sub-29/2026-12/1", "message ID", "sub-29", 1},
		{"sub-29-2026-12", "merchant reference 1", "sub-29", 1},
		{"sub-7-2026-12", "merchant reference 1", "sub-7", 1}, {"sub-7", "subscription", "sub-7", 1}, {"sub-7/2026-12", "subscription and period", "sub-7", 1},
		{"corr-7", "correlation ID", "sub-7", 1}, {string(key), "idempotency key", "sub-7", 1}, {string(key[:13]), "idempotency key, its beginning", "sub-7", 1},
		{"sub-28-2026", "merchant reference 1, its beginning", "sub-28", 1},
		{"b17f6e500d48", "token fingerprint", "sub-1", 10}, {"16.03 EUR 2026-12-01", "amount and day", "sub-4", 4}, {"16,03 eur", "amount", "sub-4", 4},
		{"16.03 EUR 2026-12-02", "", "", 0}, {"16.03 SEK", "", "", 0}, {"16.035 EUR", "", "", 0}, {"or", "", "", 0}, {"nothing", "", "", 0}, {"", "", "", 0}, {"%", "", "", 0}, {"'; DROP TABLE records; --", "", "", 0},
	} {
		hits, more, err := b.Find(t.Context(), tt.text, 10)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		by, first := "", ""
		if len(hits) > 0 {
			by, first = hits[0].By, hits[0].Renewal.SubscriptionID
		}
		if len(hits) != tt.n || by != tt.by || first != tt.first || more != (tt.n == 10) {
			t.Errorf("%q: %d by %q, first %s, more %t; want %d by %q, %s", tt.text, len(hits), by, first, more, tt.n, tt.by, tt.first)
		}
	}
}

// Every question of find reads an index. A scan of two million rows would take a second.
func TestFindReadsIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "books.db")
	built(t, path, nil, whole)
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	queries := []string{"SELECT renewal_id FROM records WHERE amount = 1 AND purchase_currency = 'EUR' AND at >= '' AND at < '9' AND " + results}
	queries = append(queries, strings.ReplaceAll(referring, "?1", "'a'"), strings.NewReplacer("?1", "'a'", "?2", "'b'").Replace(paid))
	for _, n := range names {
		queries = append(queries, fmt.Sprintf(n.query, "= 'a'"), fmt.Sprintf(n.query, ">= 'a' AND "+column(n.query)+" < 'b'"))
	}
	for _, q := range queries {
		for _, step := range all(t, b, "EXPLAIN QUERY PLAN "+q) {
			if strings.HasPrefix(step["detail"].(string), "SCAN") {
				t.Errorf("%s\n%s", q, step["detail"])
			}
		}
	}
}
