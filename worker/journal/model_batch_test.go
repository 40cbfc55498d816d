package journal

import (
	"strconv"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file is the model's part for batches: the hands are deliveries of one worker, which commits what they have ready at one moment
// together. As on the server, each expectation is compared with what was there before the batch, and one that does not hold refuses
// all. A worker that is told nothing writes each record by itself, and finds what was stored after all to be its own.

// How a batch goes. It has more than one record; where an expectation does not hold none is stored, whatever else happens.
const (
	batchConfirmed = iota
	batchUnheard   // stored, the answer lost
	batchDelayed   // neither stored nor answered, and still on its way while its records are written one by one
	batchOrphaned  // on its way, the worker crashes
	batchHalfSent  // the worker crashes before it has sent the last record: the server drops the rest
)

// batch is who commits together now.
func (w *modelWorld) batch() []int {
	var ready []int
	for i, h := range w.hands[:w.workers] {
		if h.at == writing {
			ready = append(ready, i)
		}
	}
	batch, _ := w.machinery.together(ready, func(i int) messages.Renewal { return messages.Renewal(strconv.Itoa(w.hands[i].renewal())) })
	return batch
}

func (w *modelWorld) addCommits(who int, add func(v verb, who, what int)) {
	if !w.batches {
		return
	}
	batch := w.batch()
	if len(batch) < 2 || batch[0] != who {
		return
	}
	add(commits, who, batchConfirmed)
	if w.left.losses > 0 && w.late == [2]*lateWrite{} {
		add(commits, who, batchUnheard)
		add(commits, who, batchDelayed)
		add(commits, who, batchOrphaned)
	}
	if w.left.crashes > 0 {
		add(commits, who, batchHalfSent)
	}
}

// commit is the worker's and the broker's part of one batch.
func (w *modelWorld) commit(fate int) {
	batch := w.batch()
	holds := true
	for _, i := range batch {
		h := w.hands[i]
		holds = holds && h.on == w.journal[h.renewal()].sequence
	}
	switch fate {
	case batchHalfSent:
		w.left.crashes--
		w.crashAll()
		return
	case batchDelayed, batchOrphaned:
		w.left.losses--
		for n, i := range batch[:2] {
			h := w.hand(i)
			h.unheard = true
			w.late[n] = &lateWrite{renewal: h.renewal(), on: h.on, step: h.next, verdict: h.verdict, by: h.nonce, batch: true}
		}
		if fate == batchOrphaned {
			w.crashAll()
		}
		return
	case batchUnheard:
		w.left.losses--
	}
	for _, i := range batch {
		h := w.hand(i)
		if holds { // the server does not look at what the batch itself has changed
			w.store(h.renewal(), w.journal[h.renewal()].sequence, h.next, h.verdict)
			w.journal[h.renewal()].by = h.nonce
		}
		h.unheard = fate == batchUnheard
		if (holds || w.machinery.trustsBatches) && fate == batchConfirmed {
			w.proceed(h)
		}
	}
}

// crashAll is the end of the worker whose hands all are.
func (w *modelWorld) crashAll() {
	for i := range w.workers {
		w.hands[i] = &hand{}
	}
}

// lands says whether a late write would be stored now: of a batch, whether all of it would.
func (w *modelWorld) lands(i int) bool {
	holds := func(u *lateWrite) bool { return u.on == w.journal[u.renewal].sequence }
	if !w.late[i].batch {
		return holds(w.late[i])
	}
	for _, u := range w.late {
		if u == nil || !u.batch || !holds(u) {
			return false
		}
	}
	return true
}

// land stores a late write, or a whole batch of them.
func (w *modelWorld) land(what int) {
	late := w.late
	for i, u := range late {
		if u != nil && (i == what || u.batch && late[what].batch) {
			w.late[i] = nil
			w.store(u.renewal, u.on, u.step, u.verdict)
			w.journal[u.renewal].by = u.by
		}
	}
}

// own says that what a hand sent before, of which it was told nothing, is its renewal's last record.
func (w *modelWorld) own(h *hand) bool {
	last := w.journal[h.renewal()]
	return h.unheard && last.sequence == h.on+1 && last.by == h.nonce
}

// sentLate says that a record of a hand is still on its way in a batch.
func (w *modelWorld) sentLate(h *hand) bool {
	for _, u := range w.late {
		if u != nil && u.batch && u.by == h.nonce {
			return true
		}
	}
	return false
}

func batchWorlds() []*setting {
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2"}
	elsewhere := posting{name: "attempt 1 on another account", hash: "order 1 elsewhere", payload: "payload 1", elsewhere: true}
	return []*setting{
		{name: "batches, two attempts", postings: []posting{first, second}, batches: true, horizon: 10 * time.Minute,
			budget: budget{deliveries: 3, crashes: 1, losses: 1}},
		{name: "batches, one ID, two accounts", postings: []posting{first, elsewhere}, batches: true, horizon: 10 * time.Minute,
			budget: budget{deliveries: 3, crashes: 1, losses: 1}},
	}
}

func brokenBatchRules() []brokenRule {
	return []brokenRule{
		{"a batch has at most one record of a renewal", "batches, two attempts", func(m *machinery) {
			m.together = func(all []int, _ func(int) messages.Renewal) (batch, rest []int) { return all, nil }
		}},
		{"a batch that was refused for the sake of one record has stored none", "batches, one ID, two accounts", func(m *machinery) { m.trustsBatches = true }},
	}
}
