package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/worker/desk"
)

// rowColumns are what a spreadsheet gets of each result. Amounts are in minor units.
var rowColumns = []string{
	"sequence", "at", "kind", "account", "subscription_id", "period", "id", "attempt", "order_amount", "purchase_currency", "order_id", "capture_id", "captured_amount",
	"reason", "category", "next_attempt_at", "corrects", "idempotency_key",
}

// row is a record's cells, so that no spreadsheet takes one for a formula.
func (r record) row() []string {
	moment := func(t *time.Time) string {
		if t == nil || t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	captured := ""
	if r.CaptureID != "" {
		captured = strconv.FormatInt(r.Amount, 10)
	}
	cells := []string{
		strconv.FormatUint(r.sequence, 10), moment(&r.At), string(r.Kind), string(r.Account), string(r.SubscriptionID), string(r.Period), string(r.ID), strconv.FormatInt(r.Attempt, 10),
		strconv.FormatInt(r.OrderAmount, 10), r.Currency, r.OrderID, r.CaptureID, captured,
		string(r.Reason), string(r.Category), moment(r.NextAttemptAt), r.Corrects, string(r.IdempotencyKey),
	}
	for i, cell := range cells {
		cells[i] = desk.Cell(cell)
	}
	return cells
}

// recordRows prints the header, and then each record as it comes.
func recordRows(w io.Writer) func(record) error {
	out, begun := csv.NewWriter(w), false
	return func(r record) error {
		if !begun {
			begun = true
			if err := out.Write(rowColumns); err != nil {
				return fmt.Errorf("write CSV: %w", err)
			}
		}
		if err := out.Write(r.row()); err != nil {
			return fmt.Errorf("write CSV: %w", err)
		}
		out.Flush()
		return out.Error()
	}
}
