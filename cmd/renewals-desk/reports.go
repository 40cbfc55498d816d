package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// reports are files with settlements, read one after the other as if they were one.
type reports struct {
	files []string
	form  settlements.Form
}

// records gives what is in the files. A payout that is in two of them would count twice: that is an error, as what cannot be read is.
func (r reports) records(ctx context.Context) iter.Seq2[settlements.Record, error] {
	return func(yield func(settlements.Record, error) bool) { r.read(ctx, yield) }
}

func (r reports) read(ctx context.Context, yield func(settlements.Record, error) bool) {
	payouts, texts := map[string]int{}, map[[sha256.Size]byte]int{} // and the file that has it
	for i, name := range r.files {
		f, _, err := cli.OpenInput("FILE", name)
		if err != nil {
			yield(settlements.Record{}, err)
			return
		}
		text := sha256.New()
		rows := 0
		for record, err := range settlements.ReadCSV(io.TeeReader(cli.Interruptible(ctx, f), text), r.form) {
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			if record.Transaction != nil {
				rows++
			}
			if reference := payout(record); reference != "" {
				if before, known := payouts[reference]; known && before != i {
					err = fmt.Errorf("%s and %s both have payout %s, whose rows would count twice: leave it out of one of them", r.files[before], name, reference)
				}
				payouts[reference] = i
			}
			if !yield(record, err) || err != nil {
				f.Close()
				return
			}
		}
		f.Close()
		sum := [sha256.Size]byte(text.Sum(nil))
		if before, known := texts[sum]; known && rows > 0 {
			yield(settlements.Record{}, fmt.Errorf("%s and %s are the same, and their rows would count twice: leave out one of them", r.files[before], name))
			return
		}
		texts[sum] = i
	}
}

// payout is which one a record is of, "" where it does not say.
func payout(r settlements.Record) string {
	switch {
	case r.Payout != nil:
		return r.Payout.PaymentReference
	case r.Transaction != nil:
		return r.Transaction.PaymentReference
	}
	return ""
}
