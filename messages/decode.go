package messages

import (
	"encoding/json"
	"fmt"
)

// DecodeEvent reads the body of a record, what [Encode] wrote: of a message that a consumer of results was handed, kind is the
// second part of its subject; [ParseRecordSubject] knows the kinds of today only. Fields that this version does not know are
// passed over, since some are added at any time. The error is an [*UnknownKindError] for a kind of tomorrow, which a consumer
// that does not wait for it skips, or says what of the body could not be read.
func DecodeEvent(kind Kind, body []byte) (Event, error) {
	decode, known := decoders[kind]
	if !known {
		return nil, &UnknownKindError{Kind: kind}
	}
	event, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("read the body of a record of kind %s: %w", kind, err)
	}
	return event, nil
}

// An UnknownKindError is a kind that this version does not know.
type UnknownKindError struct{ Kind Kind }

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("kind %q: not known here", string(e.Kind))
}

var decoders = map[Kind]func([]byte) (Event, error){
	KindCharging:      decodeAs[Charging],
	KindPending:       decodeAs[Pending],
	KindPaid:          decodeAs[Paid],
	KindDunning:       decodeAs[Dunning],
	KindUnresolved:    decodeAs[Unresolved],
	KindRejected:      decodeAs[Rejected],
	KindCancelled:     decodeAs[Cancelled],
	KindCapturing:     decodeAs[Capturing],
	KindCaptured:      decodeAs[Captured],
	KindCaptureFailed: decodeAs[CaptureFailed],
}

func decodeAs[E Event](body []byte) (Event, error) {
	var e E
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, err
	}
	return e, nil
}
