package messages

import (
	"github.com/nats-io/nats.go"
)

// Headers that this project reads and writes.
const (
	HeaderMsgID    = nats.MsgIdHdr     // Nats-Msg-Id: JetStream drops a message that repeats one
	HeaderState    = "Renewals-State"  // of a record: the renewal's whole state after it, JSON
	HeaderReplay   = "Renewals-Replay" // of a job: the sequence of the dead letter that it repeats
	HeaderReason   = "Renewals-Reason" // this and the following, of a dead letter
	HeaderErrors   = "Renewals-Errors" // JSON, an array of Problem
	HeaderAccount  = "Renewals-Account"
	HeaderStream   = "Renewals-Stream"
	HeaderSequence = "Renewals-Sequence"
	HeaderSubject  = "Renewals-Subject" // where the job was published
	HeaderAt       = "Renewals-At"
	HeaderDropped  = "Renewals-Dropped" // names of the job's headers that were too large to keep
	// PrefixOriginal marks the job's own headers in its dead letter: unmarked, the server would obey a copied
	// Nats-Expected-Stream or Nats-Msg-Id.
	PrefixOriginal = "Renewals-Orig-"
)

const (
	headerCloudEventID = "ce-id"
	headerTraceParent  = "traceparent"
	headerTraceState   = "tracestate"
	headerContentType  = "content-type"
	contentType        = "application/json"
	maxTrace           = 512 // bytes
)

// A server whose account has a msg_trace destination follows every message that has a sampled traceparent: it adds headers to what
// it stores, and drops what comes from a user who may not publish to that destination. What is never to be lost, nor changed on the
// way, says with this header that it is not to be followed; its traceparent is for those who consume it.
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-41.md
const (
	headerTraceDest = "Nats-Trace-Dest"
	notTraced       = "trace disabled"
)
