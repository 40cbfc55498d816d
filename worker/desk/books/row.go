package books

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/journal"
)

// A Record is a message of the journal as it came.
type Record struct {
	Sequence uint64
	Stored   time.Time // by the broker
	Subject  string
	State    string // the header Renewals-State
	EventID  string // the header ce-id
	Body     []byte
}

// Fingerprint tells the record from any other that may ever stand at its sequence.
func (r Record) Fingerprint() string {
	h := sha256.New()
	for _, part := range []string{r.Subject, r.EventID, r.State} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	h.Write(r.Body)
	return hex.EncodeToString(h.Sum(nil))
}

// A Row is a record as the books have it.
type Row struct {
	Record
	address messages.RecordAddress
	problem string // why it cannot be read; then all that follows is empty
	event   event
	stands  state
}

// event is everything that the bodies of all kinds hold.
type event struct {
	messages.Record
	OrderID             string                 `json:"order_id"`
	FraudStatus         string                 `json:"fraud_status"`
	Captured            *bool                  `json:"captured"`
	CaptureBefore       time.Time              `json:"capture_before"`
	PaymentMethod       messages.PaymentMethod `json:"authorized_payment_method"`
	CaptureID           string                 `json:"capture_id"`
	CapturedAmount      *int64                 `json:"captured_amount"`
	TotalCapturedAmount *int64                 `json:"total_captured_amount"`
	RemainingAmount     *int64                 `json:"remaining_amount"`
	Reference           string                 `json:"reference"`
	CorrelationID       string                 `json:"correlation_id"`
	CorrelationIDs      []string               `json:"correlation_ids"`
	Corrects            string                 `json:"corrects"`
	Reason              string                 `json:"reason"`
	Category            string                 `json:"category"`
	FixBy               string                 `json:"fix_by"`
	NotifyCustomer      *bool                  `json:"notify_customer"`
	Retryable           *bool                  `json:"retryable"`
	NextAttemptAt       *time.Time             `json:"next_attempt_at"`
	Final               *bool                  `json:"final"`
	HTTPStatus          int64                  `json:"http_status"`
	ErrorCode           string                 `json:"error_code"`
	ErrorMessages       []string               `json:"error_messages"`
	Errors              []messages.Problem     `json:"errors"`
	LastError           string                 `json:"last_error"`
	TokenStatus         string                 `json:"token_status"`
	UndecidedTries      *int64                 `json:"undecided_tries"`
	FirstSentAt         time.Time              `json:"first_sent_at"`
	LastSentAt          time.Time              `json:"last_sent_at"`
	SearchUntil         time.Time              `json:"search_until"`
	ConflictsWith       string                 `json:"conflicts_with"`
	Undone              *bool                  `json:"undone"`
}

// state is what the books keep of a renewal's state.
type state struct {
	Phase    string    `json:"phase"`
	DueAt    time.Time `json:"due_at"`
	Attempts int64     `json:"attempts"`

	Claim *journal.Claim `json:"claim"`
}

// Read reads a record. One that no worker of a known version wrote makes a row, too, which says so.
func Read(r Record) Row {
	row := Row{Record: r}
	err := row.read()
	if err != nil {
		row.problem = err.Error()
	}
	return row
}

func (row *Row) read() (err error) {
	if row.address, err = messages.ParseRecordSubject(row.Subject); err != nil {
		return err
	}
	if err := json.Unmarshal(row.Body, &row.event); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	row.event.PurchaseCurrency = strings.ToUpper(row.event.PurchaseCurrency) // a job may write it as it likes
	if err := json.Unmarshal([]byte(row.State), &row.stands); err != nil {
		return fmt.Errorf("read %s header: %w", messages.HeaderState, err)
	}
	if row.stands.Phase == "" {
		return fmt.Errorf("read %s header: no phase", messages.HeaderState)
	}
	if row.address.Kind == messages.KindCharging && row.event.IdempotencyKey == "" && row.stands.Claim != nil {
		row.tell()
	}
	return nil
}

// tell says of a claim what its body leaves to subject and state.
func (row *Row) tell() {
	claim := messages.Charging{Record: row.event.Record}
	journal.State{Claim: row.stands.Claim, Attempts: row.stands.Attempts}.Tell(&claim, row.address.Renewal, row.address.Account)
	e, undecided := &row.event, int64(claim.UndecidedTries)
	e.Record, e.FirstSentAt, e.LastError, e.UndecidedTries = claim.Record, claim.FirstSentAt, claim.LastError, &undecided
}

// claims says that the record announces nothing: a worker is asking Klarna.
func (row *Row) claims() bool {
	return row.address.Kind == messages.KindCharging || row.address.Kind == messages.KindCapturing
}

// amount is what the record is about; nil where that is not known.
func (row *Row) amount() *int64 {
	if a := row.event.CapturedAmount; a != nil && *a != 0 {
		return a
	}
	if row.event.PurchaseCurrency == "" {
		return nil
	}
	return &row.event.OrderAmount
}

// detail is what was said about it, as one line for a person.
func (row *Row) detail() string {
	var said []string
	for _, p := range row.event.Errors {
		said = append(said, p.Path+": "+p.Message)
	}
	said = append(said, row.event.ErrorMessages...)
	if row.event.LastError != "" {
		said = append(said, row.event.LastError)
	}
	return strings.Join(said, "; ")
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(Instant)
}
