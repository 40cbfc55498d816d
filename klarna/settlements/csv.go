package settlements

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Form is what a file does not say of itself. The zero value finds out, and asks by its error where it cannot.
type Form struct {
	// Delimiter is one of , ; | and tab. Default: the one that parts the names of the first line.
	Delimiter rune
	// Decimal is . or , as the decimal sign. Default: by each number; 1.234 could be both, and is an error.
	Decimal rune
	// Dates is the order of day, month and year.
	Dates Dates
	// MinorUnits tells how many decimals a currency has. Default 2 for all, as all that Klarna settles in have.
	MinorUnits func(code string) (digits int, ok bool)
}

// ReadCSV reads a settlement report, one record at a time. A file is one or more sections: a line of names with payouts
// below it, where the merchant has the totals switched on, and a line of names with transactions below it. Columns are
// known by name, in any order; names that are not Klarna's are passed over. A byte order mark, CRLF, blank lines and
// Excel's sep= are nothing to complain about. The last thing that comes is the end, or an error, mostly a *[FormatError].
func ReadCSV(r io.Reader, form Form) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		f, err := open(r, form)
		for err == nil {
			var records []Record
			if records, err = f.next(); err != nil {
				break
			}
			for _, record := range records {
				if !yield(record, nil) {
					return
				}
			}
		}
		if errors.Is(err, io.EOF) {
			yield(Record{End: true}, nil)
		} else {
			yield(Record{}, err)
		}
	}
}

// file is a report on its way through.
type file struct {
	Form
	lines   *csv.Reader
	leash   *leash
	before  int // lines that the reader has not seen
	header  []string
	totals  Columns // of the last header of payouts
	rows    bool    // header is one of transactions
	payouts []Payout
	begun   bool // the section has had transactions
}

// maxLine bounds what a quote that is never closed can swallow.
const maxLine = 1 << 20

// leash is a reader that ends when one line takes too much of it.
type leash struct {
	io.Reader
	left int
}

var errNoHeader = errors.New("expected a line with the names of Klarna's columns, such as type, order_id and amount")

var errLongLine = errors.New("a line of more than 1 MiB: is a quote not closed?")

func (l *leash) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongLine
	}
	n, err := l.Reader.Read(p)
	l.left -= n
	return n, err
}

func open(r io.Reader, form Form) (*file, error) {
	f := &file{Form: form}
	if f.MinorUnits == nil {
		f.MinorUnits = func(string) (int, bool) { return 2, true }
	}
	start := bufio.NewReaderSize(r, 64<<10)
	first, err := start.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(first, []byte("\xff\xfe")), bytes.HasPrefix(first, []byte("\xfe\xff")), bytes.IndexByte(first, 0) >= 0:
		return nil, &FormatError{Line: 1, Err: errors.New("this is no UTF-8: save the file as CSV UTF-8")}
	case bytes.HasPrefix(first, []byte("\xef\xbb\xbf")):
		_, _ = start.Discard(3)
		first = first[3:]
	}
	if head, rest, _ := bytes.Cut(first, []byte("\n")); bytes.HasPrefix(head, []byte("sep=")) && len(bytes.TrimSpace(head)) <= len("sep=;") {
		if f.Delimiter == 0 && len(head) > len("sep=") {
			f.Delimiter = rune(head[len("sep=")])
		}
		_, _ = start.Discard(len(first) - len(rest))
		first, f.before = rest, 1
	}
	if f.Delimiter == 0 {
		f.Delimiter = delimiter(first)
	}
	f.leash = &leash{start, maxLine}
	f.lines = csv.NewReader(f.leash)
	f.lines.Comma, f.lines.FieldsPerRecord, f.lines.ReuseRecord = f.Delimiter, -1, true
	return f, nil
}

// delimiter is the one that parts most of Klarna's names in the first line that is not blank.
func delimiter(start []byte) rune {
	best, most := ';', 0
	line := bytes.TrimLeft(start, " \t\r\n")
	line, _, _ = bytes.Cut(line, []byte("\n"))
	for _, d := range ";,\t|" {
		names := 0
		for _, field := range strings.Split(string(line), string(d)) {
			if _, known := canonical(strings.Trim(strings.TrimSpace(field), `"`)); known {
				names++
			}
		}
		if names > most {
			best, most = d, names
		}
	}
	return best
}

// next reads one line. io.EOF is the end.
func (f *file) next() ([]Record, error) {
	f.leash.left = maxLine
	fields, err := f.lines.Read()
	if err != nil {
		return nil, f.failed(err)
	}
	for len(fields) > 0 && strings.TrimSpace(fields[len(fields)-1]) == "" {
		fields = fields[:len(fields)-1] // spreadsheets fill lines up
	}
	switch {
	case len(fields) == 0:
		return nil, nil
	case f.isHeader(fields):
		return f.begin(fields)
	case f.header == nil:
		return nil, f.wrong(-1, "", errNoHeader)
	case len(fields) > len(f.header):
		return nil, f.wrong(len(f.header), "", fmt.Errorf("found %d fields, expected at most %d: is a delimiter in the text?", len(fields), len(f.header)))
	case f.rows:
		t, err := f.transaction(fields)
		return []Record{{Transaction: t}}, err
	}
	p, err := f.payout(fields)
	if err == nil {
		f.payouts = append(f.payouts, *p)
	}
	return []Record{{Payout: p}}, err
}

func (f *file) failed(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF) && f.header == nil: // as a download that failed leaves it
		return &FormatError{Line: 1, Err: errNoHeader}
	case errors.As(err, &parse):
		if parse.StartLine != parse.Line { // a quote went astray there
			return &FormatError{Line: parse.StartLine + f.before, Err: fmt.Errorf("%w, in line %d", parse.Err, parse.Line+f.before)}
		}
		return &FormatError{Line: parse.Line + f.before, Column: parse.Column, Err: parse.Err}
	case errors.Is(err, errLongLine):
		return &FormatError{Line: max(f.line(), 1), Err: errLongLine}
	}
	return err
}

// line is where the fields that were read last begin.
func (f *file) line() int {
	defer func() { _ = recover() }() // FieldPos of a reader that has read nothing
	line, _ := f.lines.FieldPos(0)
	return line + f.before
}

// wrong is an error in a field, or with -1 in the line.
func (f *file) wrong(field int, name string, err error) error {
	line, column := f.lines.FieldPos(max(field, 0))
	if field < 0 {
		column = 0
	}
	return &FormatError{Line: line + f.before, Column: column, Name: name, Err: err}
}

// isHeader says whether a line holds names: two are enough, since no value of a report is one.
func (f *file) isHeader(fields []string) bool {
	names := 0
	for _, field := range fields {
		if _, known := canonical(field); known {
			names++
		}
	}
	return names >= 2
}

// begin takes in a line of names.
func (f *file) begin(fields []string) ([]Record, error) {
	header, columns := make([]string, len(fields)), Columns{}
	totals := false
	for i, field := range fields {
		name, known := canonical(field)
		if known && columns[name] {
			return nil, f.wrong(i, name, errors.New("the column is there twice"))
		}
		if known {
			header[i], columns[name] = name, true
			totals = totals || totalColumn(name) != nil
		}
	}
	f.rows = columns["type"] || columns["order_id"] && !totals
	if !f.rows && f.begun || !f.rows && f.header == nil {
		f.payouts, f.begun = nil, false // another section
	}
	f.header = header
	if !f.rows {
		f.totals = columns
		return nil, nil
	}
	f.begun = true
	if len(f.payouts) == 1 {
		columns["payment_reference"] = columns["payment_reference"] || f.payouts[0].PaymentReference != ""
		columns["currency_code"] = columns["currency_code"] || f.payouts[0].CurrencyCode != ""
	}
	return []Record{{Columns: columns}}, nil
}

func (f *file) payout(fields []string) (*Payout, error) {
	p := &Payout{Columns: f.totals, Line: f.line()}
	for i, field := range fields {
		if place := payoutColumn(f.header[i]); place != nil {
			*place(p) = strings.TrimSpace(field)
		}
	}
	p.CurrencyCode = strings.ToUpper(p.CurrencyCode)
	for i, field := range fields {
		var err error
		if place := totalColumn(f.header[i]); place != nil && strings.TrimSpace(field) != "" {
			*place(&p.Totals), err = f.amount(field, p.CurrencyCode)
			*place(&p.Totals) = abs(*place(&p.Totals), f.header[i])
		} else if f.header[i] == "payout_date" {
			p.PayoutDate, err = f.Dates.parse(field)
		}
		if err != nil {
			return nil, f.wrong(i, f.header[i], err)
		}
	}
	return p, nil
}

// abs takes away a total's sign, which is a setting of the report, but not from totals that may be negative.
func abs(amount int64, total string) int64 {
	switch total {
	case "total_settlement_amount", "total_fee_correction_amount", "total_reversal_amount":
		return amount
	}
	return max(amount, -amount)
}

func (f *file) transaction(fields []string) (*Transaction, error) {
	t := &Transaction{Line: f.line()}
	for i, field := range fields {
		if place := rowColumn(f.header[i]); place != nil {
			*place(t) = strings.Clone(strings.TrimSpace(field))
		}
	}
	t.Type = Type(strings.ToUpper(string(t.Type)))
	t.CurrencyCode = strings.ToUpper(t.CurrencyCode)
	f.belongs(t)
	for i, field := range fields {
		var err error
		switch f.header[i] {
		case "amount":
			t.Amount, err = f.amount(field, t.CurrencyCode)
		case "vat_amount":
			if strings.TrimSpace(field) != "" {
				t.VATAmount, err = f.amount(field, t.CurrencyCode)
			}
		case "capture_date":
			t.CaptureDate, err = f.Dates.parse(field)
		case "sale_date":
			t.SaleDate, err = f.Dates.parse(field)
		}
		if err != nil {
			return nil, f.wrong(i, f.header[i], err)
		}
	}
	return t, nil
}

// belongs fills in what the section's only payout tells of a row, or its only one in the row's currency.
func (f *file) belongs(t *Transaction) {
	var of *Payout
	for i := range f.payouts {
		p := &f.payouts[i]
		if t.CurrencyCode != "" && p.CurrencyCode != "" && t.CurrencyCode != p.CurrencyCode || t.MerchantID != "" && p.MerchantID != "" && t.MerchantID != p.MerchantID ||
			t.PaymentReference != "" && p.PaymentReference != "" && t.PaymentReference != p.PaymentReference {
			continue
		}
		if of != nil {
			return
		}
		of = p
	}
	if of == nil {
		return
	}
	for _, fill := range []struct {
		field *string
		with  string
	}{{&t.PaymentReference, of.PaymentReference}, {&t.CurrencyCode, of.CurrencyCode}, {&t.MerchantID, of.MerchantID}} {
		if *fill.field == "" {
			*fill.field = fill.with
		}
	}
}

func (f *file) amount(field, currency string) (int64, error) {
	digits, known := f.MinorUnits(currency)
	if !known && currency != "" {
		return 0, fmt.Errorf("currency %.10q is none", currency)
	}
	return parseAmount(field, f.Decimal, digits)
}
