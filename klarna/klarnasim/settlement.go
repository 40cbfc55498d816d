package klarnasim

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Settlements: one payout for each simulated day, merchant and currency, of what was captured and given back on that day in UTC. It
// is there from 07:45 on the next. What is documented of them: https://docs.klarna.com/settlement-reports

const (
	day        = 24 * time.Hour
	payoutTime = 7*time.Hour + 45*time.Minute // of the next day
	// The fees of an invented contract: each sale has two.
	feePercentage = 299 // hundredths of a percent
	feeFixed      = 35  // minor units
	feeVAT        = 1900
)

// payoutKey is whose payout of which day.
type payoutKey struct {
	day      int64 // since 1970
	username string
	currency string
}

// entry is a row before it is written, as small as it can be: there may be millions.
type entry struct {
	order   *order
	kind    rowKind
	piece   int32 // which capture or refund; -1 for an automatic capture
	hidden  bool  // counted in the totals only
	unnamed bool  // without references
	amount  int64
	at      moment
}

type rowKind uint8

const (
	saleRow rowKind = iota
	percentageRow
	fixedRow
	returnRow
	defaultRow // returned by Klarna
	reversalRow
)

// rowTypes are Klarna's names: type and detailed type.
var rowTypes = [...][2]string{
	saleRow: {"SALE", "PURCHASE"}, percentageRow: {"FEE", "PURCHASE_FEE_PERCENTAGE"}, fixedRow: {"FEE", "PURCHASE_FEE_FIXED"},
	returnRow: {"RETURN", "PURCHASE_RETURN"}, defaultRow: {"RETURN", "PAYMENT_DEFAULT"}, reversalRow: {"REVERSAL", "REVERSAL"},
}

// payout is one payment to the merchant.
type payout struct {
	payoutKey
	reference string
	entries   []entry
}

func (k payoutKey) date() moment { return moment(k.day+1)*moment(day) + moment(payoutTime) }

// name of a payout: as many letters as Klarna's.
func (k payoutKey) name(seed uint64) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	x := mixString(mix(seed, uint64(k.day)), k.currency+"/"+k.username)
	var name strings.Builder
	for range 12 {
		name.WriteByte(letters[x&31])
		x >>= 5
	}
	return name.String()
}

// settlements are the payouts until now, the oldest first. They are kept until a day has passed or something has changed.
type settlements struct {
	until       int64 // the day that is not paid out yet
	payouts     []*payout
	byReference map[string]*payout
	byOrder     map[uint64][]*payout
}

// settle makes the payouts until now. The lock must be held.
func (s *Simulator) settle() *settlements {
	now := s.now()
	s.settleLate(now)
	until := int64(now-moment(payoutTime)) / int64(day)
	if s.settled != nil && s.settled.until == until {
		return s.settled
	}
	made := &settlements{until: until, byReference: map[string]*payout{}, byOrder: map[uint64][]*payout{}}
	days := map[payoutKey]*payout{}
	for _, o := range s.orders {
		s.settleOrder(o, now, func(currency string, e entry) {
			key := payoutKey{int64(e.at) / int64(day), o.username, currency}
			if key.day >= until {
				return
			}
			if days[key] == nil {
				days[key] = &payout{payoutKey: key, reference: key.name(s.options.Load().Seed)}
			}
			days[key].entries = append(days[key].entries, e)
			if of := made.byOrder[o.number]; len(of) == 0 || !slices.Contains(of, days[key]) {
				made.byOrder[o.number] = append(of, days[key])
			}
		})
	}
	for _, p := range days {
		slices.SortStableFunc(p.entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
		made.payouts, made.byReference[p.reference] = append(made.payouts, p), p
	}
	slices.SortFunc(made.payouts, func(a, b *payout) int {
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(a.username, b.username), cmp.Compare(a.currency, b.currency))
	})
	s.settled = made
	return made
}

// settleOrder tells of an order's rows, with the lies about it.
func (s *Simulator) settleOrder(o *order, now moment, tell func(currency string, e entry)) {
	lies := s.lies[o.number]
	currency := string(o.currency[:])
	if l, ok := lies[OtherCurrency]; ok {
		currency = l.Currency
	}
	_, unnamed := lies[ReferenceMissing]
	row := func(kind rowKind, piece int, amount int64, at moment) {
		_, hidden := lies[RowCut]
		tell(currency, entry{order: o, kind: kind, piece: int32(piece), hidden: hidden && kind == saleRow, unnamed: unnamed, amount: amount, at: at})
	}
	sale := func(piece int, amount int64, at moment) {
		if _, missing := lies[RowMissing]; missing || amount == 0 {
			return
		}
		if l, ok := lies[OtherAmount]; ok {
			amount = l.Amount
		}
		if l, ok := lies[Late]; ok {
			at = at.after(l.after())
		}
		row(saleRow, piece, amount, at)
		if _, doubled := lies[RowDoubled]; doubled {
			row(saleRow, piece, amount, at)
		}
		row(percentageRow, piece, (amount*feePercentage+5000)/10000, at)
		row(fixedRow, piece, feeFixed, at)
		if l, ok := lies[Returned]; ok {
			row(defaultRow, piece, cmp.Or(l.Amount, amount), at.after(l.after()))
		}
		if l, ok := lies[Reversed]; ok {
			row(reversalRow, piece, cmp.Or(l.Amount, amount), at.after(l.after()))
		}
	}
	if o.autoCapture && o.captured(now) > 0 {
		sale(-1, o.amount, o.acceptedAt())
	}
	for i, c := range o.captures {
		sale(i, c.amount, c.at)
	}
	for i, r := range o.refunds {
		row(returnRow, i, r.amount, r.at)
	}
}

// acceptedAt is when an order was accepted, which is when an automatic capture takes its money.
func (o *order) acceptedAt() moment {
	switch {
	case o.turned != "":
		return o.turnedByHandAt
	case o.ending == pendingAccept:
		return o.turnsAt
	}
	return o.createdAt
}
