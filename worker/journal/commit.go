package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// The headers of an atomic batch, ADR-50. The server keeps them with the records.
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// batched is a record for a batch: the original may have to be written by itself.
func batched(m *nats.Msg) *nats.Msg {
	return &nats.Msg{Subject: m.Subject, Header: maps.Clone(m.Header), Data: m.Data}
}

// commit sends a batch in one go and waits for the one answer, which is to the last of its records: an error that the server met
// before is in it. It outlasts ctx, since others wait for it, by [PublishTimeout] at most. The marks judge the answer as that of one publish.
func (j *Journal) commit(ctx context.Context, batch []*waiting) (last uint64, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), PublishTimeout)
	defer cancel()
	turn, n, closing := j.marks.begin(ctx), uint64(len(batch)), batch[len(batch)-1].record
	err = errPanicked
	defer func() { j.marks.endBatch(turn, closing, last-min(last, n-1), last, err) }()
	id := rand.Text()[:16] // it is kept with each record
	for i, w := range batch {
		w.record.Header.Set(headerBatchID, id)
		w.record.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		if w.record == closing {
			w.record.Header.Set(headerBatchCommit, "1")
			break
		}
		if err = j.js.Conn().PublishMsg(w.record); err != nil {
			return 0, fmt.Errorf("send record %d of a batch of %d: %w", i+1, n, err)
		}
	}
	answer, err := j.js.Conn().RequestMsgWithContext(ctx, closing)
	if err == nil {
		last, err = batchStored(answer.Data, id, n)
	}
	if err != nil {
		j.log.Debug().Err(err).Int("records", len(batch)).Msg("batch not confirmed, writing each record by itself")
		return 0, fmt.Errorf("commit a batch of %d records: %w", n, err)
	}
	return last, nil
}

// errNotBatched is a server's that has stored the last record, and knows nothing of batches.
var errNotBatched = errors.New("the answer is not about the batch")

// batchStored reads the answer to a batch.
func batchStored(answer []byte, id string, records uint64) (last uint64, err error) {
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Stream   string              `json:"stream"`
		Sequence uint64              `json:"seq"`
		Batch    string              `json:"batch"`
		Count    uint64              `json:"count"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return 0, jetstream.ErrInvalidJSAck
	}
	switch {
	case ack.Error != nil:
		return 0, ack.Error
	case ack.Stream != messages.StreamJournal || ack.Batch != id || ack.Count != records || ack.Sequence < records:
		return 0, errNotBatched
	}
	return ack.Sequence, nil
}
