package journal

import (
	"errors"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// finalCodes are the refusals after which the same bytes can never be stored
// where they belong. The list is closed: whatever else the broker says, a full quota (10002), a full disk or stream (10077) and
// codes that do not exist yet among it, may pass.
// https://github.com/nats-io/nats-server/blob/main/server/errors.json
var finalCodes = [...]jetstream.ErrorCode{
	jetstream.JSErrCodeStreamMessageExceedsMaximum, // 10054: larger than the stream or the server allows
	10097, // header larger than 64 KiB
	CodeSealed,
}

// CodeSealed is the refusal of a stream that was sealed, which cannot be taken back.
const CodeSealed jetstream.ErrorCode = 10109

// Final says that a write was refused once and for all. A missing permission is not
// among it: the server tells the connection of it, not the publisher, for whom it is a timeout like any other; and
// permissions are reloaded.
func Final(err error) bool {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadHeaderMsg) || errors.Is(err, nats.ErrConnectionClosed) {
		return true
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && slices.Contains(finalCodes[:], refused.ErrorCode)
}
