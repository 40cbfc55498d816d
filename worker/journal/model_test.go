package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
)

// This file leads the protocol through everything that can happen around one
// renewal: workers that crash or freeze between any two steps, a broker that stores a
// write and loses the answer or stores it late, a Klarna that makes an order and answers 500,
// customers and operators who act in between. The world is a model; the rules are
// not: every decision is made by the functions that the running worker uses. After
// every move the world says whether a promise is broken.
//
//   - TestModelSmallWorlds visits every state of small worlds.
//   - TestModelWalks goes at random through large ones.
//   - TestModelNeedsEveryRule takes one rule away at a time and expects a promise to
//     break: otherwise the rule is not needed, or the world is too kind.

// A modelWorld is one renewal, the messages, workers and journal around it, and
// Klarna's books, at one moment. It is copied for every move; what hangs on its
// pointers is never changed, only replaced.
type modelWorld struct {
	*setting
	left budget
	now  time.Duration // since modelDay

	journal [1 + maxPostings]lastRecord // of the renewal, then of each posting's stand-in
	late    [2]*lateWrite
	queue   [maxPostings]queued
	hands   [maxHands]*hand
	nonces  int

	books          [5]book // of the charges' keys, of the first of them on another account, of the captures' keys
	flights        [2]flight
	tokenCancelled bool
	orderEnded     bool // the authorisation has expired

	results [maxKeys]messages.Kind // the last one announced, by key
	inOrder [maxKeys]bool          // the key was claimed for a job that may be charged, or captured
	excused [maxKeys]bool          // what was made under this key is not the worker's fault, see operate and make
	told    [maxKeys]bool          // a dead letter tells of what was made under the key
	dead    [maxKeys]bool          // the key's attempt was told that its token is dead
	over    bool                   // an operator has cancelled the period

	restored time.Duration // when an operator accepted a journal that was set back; 0: never
	past     [3]lastRecord // of the renewal's records the first: what a copy of the journal may know

	desks [2]desk // that reconcile with the settlements

	misled bool // Klarna was behind with a capture that the journal cannot know of

	wrong string // the first promise that was broken
}

const (
	maxPostings = 5
	maxHands    = 4 // the last one only cleans up
	maxKeys     = 2 + maxPostings + 2
)

// A setting is what stays the same while a world runs.
type setting struct {
	name     string
	postings []posting
	workers  int
	skew     []time.Duration // of the workers' clocks
	budget   budget          // of trouble

	replies []reply // what Klarna may do besides making an order
	replays bool    // Klarna gives a refused key the same refusal again
	hides   bool    // Klarna looks at the token before the key: a cancelled one hides an order
	denies  bool    // Klarna may refuse a key to which it said yes without naming the order
	slow    bool    // Klarna may finish a request later than it says
	down    bool    // Klarna makes no orders at all
	moved   bool    // the second worker is configured for another merchant, whose keys Klarna keeps apart

	errs bool // an operator may name an order that is not the renewal's

	horizon  time.Duration // when the story is over, 0: never
	paid     bool          // the first job has been charged before, and acknowledged
	panicked int           // how often the last job has panicked before
	portal   int64         // what a person has captured of the first order without the worker
	batches  bool          // the hands are one worker's, which commits what they have ready together
	keeps    int           // how many of the renewal's records a journal that is set back has at least
	takes    int64         // what Klarna captures by itself of an order that is not only authorised

	// coarse takes steps together that only this worker can see, and acknowledged
	// messages may come again, as if their ack was lost.
	coarse bool

	machinery machinery
	guards    Guards // of the account; none unless a world is about them
}

// A budget is how often each kind of trouble may come.
type budget struct{ deliveries, faults, crashes, losses, panics, stops, cancels, resolves, purges, tokens, expiries, setbacks, reconciles int8 }

// A posting is a message in RENEWALS.
type posting struct {
	name          string
	key           int   // of its message ID: 0 is the first attempt, 1 the second, firstCapture and the next are captures
	amount        int64 // to be captured, 0: what is left
	authorises    bool  // a charge without auto_capture
	looked        bool  // a charge with it, and its order is looked at
	hash, payload string
	elsewhere     bool          // on another account, whose keys Klarna keeps apart
	invalid       bool          // it may not be charged
	expires, due  time.Duration // 0: never, at once
	follows       bool          // it is published once Klarna has seen the first
	replay        int           // 1 + the posting whose dead letter it repeats; 0: none
}

// queued is what became of a posting.
type queued struct {
	gone      bool // acknowledged, or purged
	acked     bool
	buried    bool // in RENEWAL_DEAD
	delivered int
	notBefore time.Duration
}

type lastRecord struct {
	sequence int
	state    *State
	by       string // the nonce of the delivery that committed it in a batch
}

// A lateWrite is on its way to the broker, its worker has given up.
type lateWrite struct {
	renewal, on int
	step        Transition
	verdict     messages.Reason
	by          string
	batch       bool // with the other one
}

// A hand is a worker's one delivery.
type hand struct {
	at      stage
	asks    question
	posting int
	nonce   string
	verdict messages.Reason
	standIn bool
	moved   bool        // at the other merchant
	found   *OrderFound // of the order to capture, once Klarna was asked

	next    Transition
	on      int  // the sequence that next was decided on
	unheard bool // it was sent in a batch of which nobody was told

	held  HeldClaim
	tally TryResult
	began time.Time // the try that is at Klarna
	fraud fraud
}

type stage uint8

const (
	idle     stage = iota
	deciding       // about to read the journal and ask the machine
	looking        // about to ask Klarna how much can be captured
	writing        // decided, not yet written
	unsure         // written, the answer lost
	sending        // the claim is ours, no byte sent
	trying         // the request is at Klarna
	pausing        // a try is over, another may follow
	polling
	burying
	acking
)

// question is what the machine is asked next.
type question uint8

const (
	whatDeliveryMeans question = iota
	whatTriesMean
	whatFraudStatusMeans
	whatPanicMeans
)

// machinery is the worker's part in the world: its own functions, and the order of its steps.
type machinery struct {
	remembers bool // records keep what [State.spare] leaves out
	deliver   func(State, Request, time.Time, Rules) Transition
	conclude  func(State, HeldClaim, Outcome, time.Time, Rules) Transition
	polled    func(s State, q Request, accepted, final bool, now time.Time, r Rules) Transition
	panicked  func(State, Request, time.Time, Rules) Transition
	sweep     func(State, time.Time, Rules) (Transition, bool)
	resolve   func(State, verdict) (Transition, error)
	provable  func(s State, key messages.IdempotencyKey, orderID string) error
	fits      func(Decision, State) error
	hear      func(t *TryResult, order Created, err error, began, ended time.Time, r Rules) (again bool)
	held      func(State, Rules) HeldClaim
	fence     func(Claim, time.Time, Rules) (sendable bool)
	together  func(all []int, of func(int) messages.Renewal) (batch, rest []int)

	rules Rules

	// Only set to see what happens.
	sendsUnclaimed, overwrites, acksEarly, buriesNothing, makesUpKeys, trustsBatches bool
}

// realMachinery is that of a worker with the default settings.
func realMachinery(testing.TB) machinery {
	r := NewRules(DefaultTiming(), 2*time.Minute)
	r.RetryDelays = []time.Duration{5 * time.Second, time.Minute, 2 * time.Hour} // they only matter for how long a world runs
	return machinery{
		deliver: Deliver, conclude: Conclude, polled: Polled, panicked: Panicked, sweep: Sweep, resolve: resolve, provable: State.Provable, fits: Decision.fits,
		hear: (*TryResult).Hear, held: Held, fence: Claim.Sendable, together: together[int], rules: r,
	}
}

var (
	// modelDay is when the renewal falls due; the world's time counts from it.
	modelDay = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

	modelKeys = [maxKeys]messages.IdempotencyKey{"key-1", "key-2", "stand-in-1", "stand-in-2", "stand-in-3", "stand-in-4", "stand-in-5", "capture-key-1", "capture-key-2"}

	modelRenewal messages.Renewal = "the renewal"

	// bookKeys says whose book each is, madeNames what Klarna calls what it makes there.
	bookKeys  = [...]int{0, 1, 0, firstCapture, firstCapture + 1}
	madeNames = [...]string{"order-1", "order-2", "order-3", "capture-1", "capture-2"}
)

const (
	// klarnaGivesUp is how long Klarna works on a request at most.
	// https://docs.klarna.com/acquirer/klarna-network/setup-your-integration/integration-resilience/request-timeout/
	klarnaGivesUp = 59 * time.Second
	// klarnaForgets is how long Klarna knows an idempotency key.
	// https://docs.klarna.com/api/kn/integration-resilience
	klarnaForgets = 24 * time.Hour
)

func newModelWorld(s *setting) *modelWorld {
	w := &modelWorld{setting: s, left: s.budget}
	for i := range w.journal {
		w.journal[i].state = &State{Phase: PhaseNone}
	}
	for i := range w.hands {
		w.hands[i] = &hand{}
	}
	w.books[0].captured = s.portal
	if s.paid {
		w.do(move{takes, 0, 0})
		w.finish(0, w.do)
		w.queue[0].acked = false // it does not come again
		w.left = s.budget
	}
	for range s.panicked {
		w.do(move{takes, 0, int8(len(s.postings) - 1)})
		for _, v := range []verb{panics, decides, writes} {
			w.do(move{verb: v})
		}
		w.left = s.budget
	}
	return w
}

// hand gives a hand to change.
func (w *modelWorld) hand(i int) *hand {
	h := *w.hands[i]
	w.hands[i] = &h
	return &h
}

func (w *modelWorld) clock(who int) time.Time {
	if who < len(w.skew) {
		return modelDay.Add(w.now + w.skew[who])
	}
	return modelDay.Add(w.now)
}

func (w *modelWorld) skewed() time.Duration {
	if len(w.skew) == 0 {
		return 0
	}
	return slices.Max(w.skew) - slices.Min(w.skew)
}

// renewal says under which renewal a delivery is filed.
func (h *hand) renewal() int {
	if h.standIn {
		return 1 + h.posting
	}
	return 0
}

func (w *modelWorld) key(h *hand) int {
	if h.standIn {
		return 2 + h.posting
	}
	return w.postings[h.posting].key
}

func keyNumber(k messages.IdempotencyKey) int { return slices.Index(modelKeys[:], k) }

func (w *modelWorld) book(h *hand) *book {
	switch p := w.postings[h.posting]; {
	case p.elsewhere || h.moved:
		return &w.books[2]
	case p.captures():
		return w.captureBook(p.key)
	default:
		return &w.books[p.key]
	}
}

func (w *modelWorld) request(h *hand) Request {
	p := w.postings[h.posting]
	q := Request{
		Renewal: modelRenewal, Key: modelKeys[w.key(h)], Hash: p.hash, Payload: []byte(p.payload), Verdict: h.verdict, DueAt: modelDay.Add(p.due),
		Replay: uint64(p.replay), Nonce: h.nonce, Host: "api.klarna.com", Delivered: w.queue[h.posting].delivered,
	}
	if !p.captures() {
		q.Attempt = int64(p.key) + 1
	}
	q.StandIn, q.Token = h.standIn, p.token()
	if q.Endpoint, q.Merchant = "https://api.klarna.com", "K1"; h.moved {
		q.Merchant = "K2"
	}
	if p.captures() {
		q.Capture = &CaptureWanted{Amount: p.amount, Found: h.found}
	}
	q.Authorised = p.authorised()
	return q
}

func (w *modelWorld) verdict(posting int) messages.Reason {
	p := w.postings[posting]
	switch {
	case p.invalid:
		return messages.ReasonInvalid
	case p.expires > 0 && w.now >= p.expires:
		return messages.ReasonExpired
	}
	return ""
}

// fail notes that a promise is broken.
func (w *modelWorld) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

// A move is one thing that happens: what it is, to or by whom, and with or on what.
type move struct {
	verb      verb
	who, what int8
}

type verb uint8

const (
	takes verb = iota
	decides
	looks
	writes
	readsBack
	sends
	hears
	isCut
	ends
	stops
	polls
	buries
	acks
	commits
	crashes
	panics // the last that a worker does

	landsLate
	klarnaFinishes
	fraudAccepts
	fraudRejects
	tokenCancelled
	orderExpires
	sweeps
	cancels
	resolvesMade
	resolvesNone
	resolvesOther
	compares
	provesIt
	applies
	leavesDesk
	purges
	setsBack
	timePasses
)

func (v verb) String() string {
	return [...]string{"takes", "decides", "asks what is left of the order:", "writes", "looks for its write", "sends:", "is told of the order", "loses its connection",
		"ends its tries", "is told to stop", "asks for the fraud status", "writes the dead letter", "acknowledges", "commits all that is ready:", "crashes", "panics",
		"a late write arrives:", "Klarna finishes a request with an order", "Klarna accepts a pending order", "Klarna rejects a pending order",
		"the customer cancels the token", "the order's authorisation expires", "the sweep settles the claim", "an operator cancels the period",
		"an operator says that it was made", "an operator says that it was not made", "an operator names another order", "reconcile finds the sale of", "reconcile looks at the renewal once more", "reconcile records", "reconcile is killed", "purged:", "the journal is set back to", "time passes to"}[v]
}

// How a write goes.
const (
	confirmed   = iota
	unconfirmed // stored, the answer lost
	underWay    // the worker ends, its write still on the way
)

// moves appends everything that can happen now.
func (w *modelWorld) moves(all []move) []move {
	add := func(v verb, who, what int) { all = append(all, move{v, int8(who), int8(what)}) }
	addWrites := func(v verb, who int) {
		add(v, who, confirmed)
		if w.left.losses > 0 {
			add(v, who, unconfirmed)
			add(v, who, underWay)
		}
	}
	addSends := func(who int) {
		h := w.hands[who]
		if w.tooLate(h, who) {
			add(sends, who, int(unreachable))
			return
		}
		if w.possible(h, accepts) {
			add(sends, who, int(accepts))
		}
		for _, r := range w.replies {
			if w.left.faults > 0 && w.possible(h, r) {
				add(sends, who, int(r))
			}
		}
		if w.left.stops > 0 {
			add(stops, who, 0)
		}
	}
	busy := w.left.deliveries > 0
	for i, h := range w.hands[:w.workers] {
		busy = busy || h.at != idle
		switch h.at {
		case idle:
			for j := range w.postings {
				if w.left.deliveries > 0 && w.deliverable(j) {
					add(takes, i, j)
				}
			}
		case deciding:
			if w.coarse && !w.batches && h.asks != whatDeliveryMeans {
				addWrites(decides, i)
			} else {
				add(decides, i, confirmed)
			}
		case looking:
			add(looks, i, current)
			if w.left.faults > 0 {
				add(looks, i, unanswered)
				if w.order(h.next.State.Order.ID).last > 0 && w.restored == 0 { // Klarna is behind for moments, a journal was set back for hours
					add(looks, i, behind)
				}
			}
		case writing:
			addWrites(writes, i)
			w.addCommits(i, add)
		case unsure:
			add(readsBack, i, 0)
		case sending:
			addSends(i)
		case trying:
			if w.book(h).made > 0 {
				add(hears, i, 0)
			}
			add(isCut, i, 0)
		case pausing:
			add(ends, i, 0)
			addSends(i)
		case polling:
			add(polls, i, 0)
		case burying:
			add(buries, i, 0)
		case acking:
			add(acks, i, 0)
		}
		// A crash before anything was done is the same as a freeze.
		if w.left.crashes > 0 && (h.at > writing || h.at == deciding && h.asks != whatDeliveryMeans) {
			add(crashes, i, 0)
		}
		if w.left.panics > 0 && (h.at == sending || h.at == pausing || h.at == polling || h.asks == whatDeliveryMeans && (h.at == deciding || h.at == looking || h.at == writing)) {
			add(panics, i, 0)
		}
	}
	for i, u := range w.late {
		if u != nil && w.lands(i) {
			busy = true
			add(landsLate, 0, i)
		}
	}
	for i, f := range w.flights {
		if f.open {
			busy = true
			add(klarnaFinishes, 0, i)
		}
	}
	if busy = w.addDesks(busy, add); !busy {
		return all[:0] // nobody is there whom the rest could happen to
	}
	for k, b := range w.books {
		if b.made > 0 && b.status == fraudPending {
			add(fraudAccepts, 0, k)
			add(fraudRejects, 0, k)
		}
	}
	if w.left.tokens > 0 && !w.tokenCancelled {
		add(tokenCancelled, 0, 0)
	}
	s := w.journal[0].state
	if _, paid := s.ToCapture(); w.left.expiries > 0 && !w.orderEnded && paid {
		add(orderExpires, 0, 0)
	}
	if _, due := w.machinery.sweep(*s, w.clock(0), w.rules()); due {
		add(sweeps, 0, 0)
	}
	if w.left.cancels > 0 && (s.Phase == PhaseNone || s.Phase == PhaseDunning) {
		add(cancels, 0, 0)
	}
	if w.left.resolves > 0 && s.Phase == PhaseUnresolved {
		add(resolvesNone, 0, 0)
		if b := w.claimedBook(s); b.live() && b.status == fraudAccepted {
			add(resolvesMade, 0, 0)
		}
		if w.errs && !s.Capturing() {
			add(resolvesOther, 0, 0)
		}
	}
	for j := range w.postings {
		if w.left.purges > 0 && !w.queue[j].gone {
			add(purges, 0, j)
		}
	}
	w.addSetBacks(add)
	if len(w.instants()) > 0 {
		add(timePasses, 0, 0)
	}
	return all
}

// deliverable says that a worker may be handed the posting, whoever else has it:
// its AckWait may have run out, or it was published twice.
func (w *modelWorld) deliverable(j int) bool {
	p, q := w.postings[j], w.queue[j]
	if p.follows && !w.books[0].seen {
		return false
	}
	return (!q.gone || q.acked && w.coarse) && (p.replay == 0 || w.queue[p.replay-1].buried)
}

// instants are the moments to come at which something changes by itself, in order.
func (w *modelWorld) instants() []time.Duration {
	var all []time.Duration
	at := func(d time.Duration) {
		if d > w.now && (w.horizon == 0 || d <= w.horizon) {
			all = append(all, d)
		}
	}
	clocks := func(t time.Time) { // on every worker's clock
		at(t.Sub(modelDay))
		for _, skew := range w.skew {
			at(t.Sub(modelDay) - skew)
		}
	}
	r, s := w.machinery.rules, w.journal[0].state
	if c := s.Claim; s.Open() {
		if !c.Released {
			clocks(c.LeaseUntil)
			if slices.Contains(w.replies, takesLong) { // the last moment to send
				clocks(c.LeaseUntil.Add(-DefaultTiming().TryTimeout - w.machinery.rules.ClockMargin))
				if len(w.skew) > 0 {
					clocks(c.LeaseUntil.Add(-DefaultTiming().TryTimeout))
				}
			}
		}
		if s.Phase == PhasePending {
			clocks(c.FirstSentAt.Add(pendingLimit))
		} else if !c.FirstSentAt.IsZero() {
			clocks(c.FirstSentAt.Add(r.KeyWindow - 30*time.Second))
			clocks(c.FirstSentAt.Add(r.KeyWindow))
		}
		if !s.UndecidedAt.IsZero() && slices.Contains(w.replies, failsEarly) {
			clocks(s.UndecidedAt.Add(r.SettleDelay))
			clocks(s.UndecidedAt.Add(r.settled()))
		}
		if s.NotEvaluated.N > 0 {
			clocks(s.NotEvaluated.Since.Add(unreadFor))
		}
		clocks(s.StaleAt(r))
		for _, b := range w.books {
			if b.seen {
				at(b.first + r.KeyWindow)
				at(b.first + klarnaForgets)
			}
		}
	}
	if g := w.guards.earliest(*s); !g.IsZero() {
		clocks(g)
	}
	for _, f := range w.flights {
		if f.open {
			at(f.until + time.Second)
		}
	}
	for _, p := range w.postings {
		at(p.expires)
		at(p.due)
	}
	w.setBackInstants(at)
	slices.Sort(all)
	return all
}

// pass lets time pass, in whole seconds: skewed clocks are not, so that no two
// workers ever read the same time.
func (w *modelWorld) pass(to time.Duration) {
	w.now = (to + time.Second - 1).Truncate(time.Second)
	for i := range w.flights {
		if f := &w.flights[i]; f.open && f.until < w.now && !w.slow {
			*f = flight{} // Klarna has dropped it
		}
	}
}

// do makes a move and checks the promises.
func (w *modelWorld) do(m move) {
	who, what := int(m.who), int(m.what)
	switch m.verb {
	case takes:
		w.left.deliveries--
		w.nonces++
		w.queue[what].delivered++
		w.hands[who] = &hand{at: deciding, posting: what, nonce: fmt.Sprint("nonce-", w.nonces), verdict: w.verdict(what), moved: w.moved && who == 1}
		if w.coarse && w.left.panics == 0 {
			w.decide(w.hand(who), who)
		}
	case decides:
		h := w.hand(who)
		w.decide(h, who)
		if w.coarse && !w.batches && h.at == writing && h.asks != whatDeliveryMeans {
			w.write(h, what)
		}
	case looks:
		w.look(w.hand(who), who, what)
	case writes:
		w.write(w.hand(who), what)
	case commits:
		w.commit(what)
	case readsBack:
		h := w.hand(who)
		if w.journal[h.renewal()].sequence == h.on+1 {
			w.proceed(h)
		} else {
			h.at = deciding
		}
	case sends:
		w.send(w.hand(who), who, reply(what))
	case hears:
		w.hear(w.hand(who), who, accepts)
	case isCut:
		w.hear(w.hand(who), who, takesLong)
	case ends:
		h := w.hand(who)
		h.at, h.asks = deciding, whatTriesMean
	case stops:
		w.left.stops--
		h := w.hand(who)
		h.tally.HandBack = true
		h.at, h.asks = deciding, whatTriesMean
	case polls:
		h := w.hand(who)
		h.fraud = w.book(h).status
		h.at, h.asks = deciding, whatFraudStatusMeans
	case buries:
		w.bury(w.hand(who))
	case acks:
		w.acknowledge(w.hand(who))
	case crashes:
		w.left.crashes--
		w.hands[who] = &hand{}
	case panics:
		w.left.panics--
		h := w.hand(who)
		h.at, h.asks, h.tally = deciding, whatPanicMeans, TryResult{}
	case landsLate:
		w.land(what)
	case klarnaFinishes:
		f := w.flights[what]
		w.flights[what] = flight{}
		if b := &w.books[f.book]; b.made == 0 && (f.book < 3 || !w.tooMuch(b)) {
			w.make(b, fraudAccepted)
		}
	case fraudAccepts:
		w.books[what].status = fraudAccepted
		w.captureItself(&w.books[what])
	case fraudRejects:
		w.books[what].status = fraudRejected
	case tokenCancelled:
		w.left.tokens--
		w.tokenCancelled = true
	case orderExpires:
		w.left.expiries--
		w.orderEnded = true
	case sweeps:
		st, _ := w.machinery.sweep(*w.journal[0].state, w.clock(0), w.rules())
		w.store(0, w.journal[0].sequence, st, "")
	case cancels, resolvesMade, resolvesNone, resolvesOther:
		w.operate(m.verb)
	case compares, provesIt, applies, leavesDesk:
		w.reconcile(m)
	case purges:
		w.left.purges--
		w.queue[what].gone = true
	case setsBack:
		w.setBack(what)
	case timePasses:
		w.pass(w.instants()[0])
	}
	w.check()
}

// ---- The worker: its handler.handle, step by step.

// decide reads the renewal's last record and asks the machine. Both are one move:
// what is decided on an older record the journal refuses.
func (w *modelWorld) decide(h *hand, who int) {
	m, r, now := &w.machinery, w.rules(), w.clock(who)
	e, q := w.journal[h.renewal()], w.request(h)
	switch h.asks {
	case whatDeliveryMeans:
		h.next = m.deliver(*e.state, q, now, r)
	case whatTriesMean:
		w.sample(h)
		h.next = m.conclude(*e.state, h.held, h.tally.Outcome, now, r)
	case whatFraudStatusMeans:
		h.next = m.polled(*e.state, q, h.fraud == fraudAccepted, h.fraud != fraudPending, now, r)
	case whatPanicMeans:
		h.next = m.panicked(*e.state, q, now, r)
	}
	h.on, h.unheard = e.sequence, false
	if h.next.Then == Try {
		w.now += time.Second // no two deliveries claim at the same instant
	}
	if h.next.Record == "" || m.sendsUnclaimed && h.next.Then == Try {
		w.proceed(h)
		return
	}
	h.at = writing
}

// write goes to the journal in one of three ways.
func (w *modelWorld) write(h *hand, how int) {
	if how == underWay {
		w.left.losses--
		if i := slices.Index(w.late[:], nil); i >= 0 {
			w.late[i] = &lateWrite{renewal: h.renewal(), on: h.on, step: h.next, verdict: h.verdict}
		}
		*h = hand{}
		return
	}
	if !w.store(h.renewal(), h.on, h.next, h.verdict) {
		if h.at = deciding; w.own(h) {
			w.proceed(h)
		}
		return
	}
	if how == unconfirmed {
		w.left.losses--
		h.at = unsure
		return
	}
	w.proceed(h)
}

// store is the broker's compare-and-set.
func (w *modelWorld) store(renewal, on int, st Transition, verdict messages.Reason) bool {
	last := &w.journal[renewal]
	if last.sequence != on && !w.machinery.overwrites {
		return false
	}
	if (st.Record == messages.KindCharging || st.Record == messages.KindCapturing) && st.State.Open() && st.State.Holds(st.Key) && verdict == "" {
		w.inOrder[keyNumber(st.Key)] = true
	}
	w.announce(last.state, &st)
	w.keepsOrder(last.state, &st)
	w.guard(last.state, &st)
	st.State = st.State.follows(*last.state)
	if err := st.State.check(); err != nil {
		w.fail("a state is written that nobody reads: %v", err)
		return true
	}
	*last = lastRecord{sequence: last.sequence + 1, state: &st.State}
	if !w.machinery.remembers {
		last.state = reread(st.State)
	}
	if renewal == 0 && w.restored == 0 && last.sequence <= len(w.past) {
		w.past[last.sequence-1] = *last
	}
	return true
}

// proceed acts on a step whose record is written.
func (w *modelWorld) proceed(h *hand) {
	if h.asks == whatDeliveryMeans {
		switch h.next.Then {
		case Try:
			h.held = w.machinery.held(h.next.State, w.machinery.rules)
			h.held.Authorised, h.held.Token = w.postings[h.posting].authorised(), w.postings[h.posting].token()
			h.tally = TryResult{before: h.held.doubt(), Outcome: Outcome{Unsent: true}}
			h.at = sending
			if w.machinery.acksEarly {
				w.mayBeAcknowledged(h)
			}
			return
		case Poll:
			h.at = polling
			return
		case Look:
			h.at = looking
			return
		}
	}
	if h.next.Then == FileApart && (h.asks == whatDeliveryMeans || h.asks == whatPanicMeans) {
		h.standIn, h.verdict, h.at = true, h.next.Reason, deciding
		return
	}
	if h.next.Dead && !w.machinery.buriesNothing {
		h.at = burying
		return
	}
	w.end(h)
}

func (w *modelWorld) bury(h *hand) {
	w.queue[h.posting].buried = true
	if h.next.Stray() {
		w.told[w.key(h)] = true
	}
	w.end(h)
}

// end acknowledges the message or sends it back.
func (w *modelWorld) end(h *hand) {
	w.letGo(h)
	if h.next.Then != Ack {
		delay := h.next.Delay
		if h.next.Waits != "" && delay == MaxWait { // asking every minute would only make a world of two days long
			delay = 2 * time.Hour
		}
		w.queue[h.posting].notBefore = w.now + delay
		if h.next.Then == Park { // as a message of its own, the same job
			w.queue[h.posting].notBefore = h.next.Until.Sub(modelDay)
		}
		*h = hand{}
		return
	}
	w.mayBeAcknowledged(h)
	if h.at = acking; w.coarse {
		w.acknowledge(h)
	}
}

func (w *modelWorld) acknowledge(h *hand) {
	q := &w.queue[h.posting]
	q.gone, q.acked = true, true
	*h = hand{}
}

// send is one try: the fence, Klarna's books, and what the worker hears.
func (w *modelWorld) send(h *hand, who int, r reply) {
	if err := w.fence(h, who); err != nil {
		w.machinery.hear(&h.tally, Created{}, &klarna.NotSentError{Err: err}, w.clock(who), w.clock(who), w.machinery.rules)
		h.tally.HandBack = true
		h.at, h.asks = deciding, whatTriesMean
		return
	}
	if r != accepts {
		w.left.faults--
	}
	b := w.book(h)
	h.began = w.clock(who)
	w.mayBeSent(h, b, r)
	if b.seen && w.now >= b.first+klarnaForgets {
		*b = book{made: b.made, madeAt: b.madeAt, status: b.status, said: b.said, past: b.made, captured: b.captured, last: b.last}
	}
	if !b.seen && r != unreachable && r != turnsAway && r != limits {
		b.seen, b.first = true, w.now
	}
	if c := h.held.Claim.Capture; c != nil && r != unreachable {
		b.amount, b.of = c.Amount, c.OrderID
	}
	switch r {
	case accepts:
		if !b.stored() || w.machinery.makesUpKeys {
			w.make(b, fraudAccepted)
		}
	case acceptsPending:
		w.make(b, fraudPending)
	case acceptsRejected:
		w.make(b, fraudRejected)
	case acceptsThen500:
		w.make(b, fraudAccepted)
	case acceptsNameless:
		w.make(b, fraudAccepted)
		b.nameless = true
	case declines, refusesToken, notAllowed, rejects:
		b.refused, b.said = r, true
	case takesLong, failsEarly:
		i := slices.IndexFunc(w.flights[:], func(f flight) bool { return !f.open })
		w.flights[i] = flight{true, w.bookNumber(b), w.now + klarnaGivesUp}
		if r == takesLong {
			h.at = trying
			return
		}
	}
	w.hear(h, who, r)
}

func (w *modelWorld) hear(h *hand, who int, r reply) {
	b := w.book(h)
	order, err := r.answer(madeNames[w.bookNumber(b)], b.answered)
	h.tally.Canary = CanaryWellKlarna // where it matters; see TestUnread for others
	if w.machinery.hear(&h.tally, order, err, h.began, w.clock(who), w.machinery.rules) {
		h.at = pausing
		return
	}
	h.at, h.asks = deciding, whatTriesMean
}

func (w *modelWorld) tooLate(h *hand, who int) bool {
	return w.fence(h, who) != nil
}

// ---- Klarna, the customer and the operator.

// A book is what Klarna knows of one idempotency key.
type book struct {
	made     int8 // orders, or captures, ever
	past     int8 // of them, those that the key no longer leads to
	answered fraud
	status   fraud // as it is now
	nameless bool  // the order was never named
	seen     bool
	first    time.Duration // when the key was first evaluated
	madeAt   time.Duration // the last that was made
	refused  reply         // the refusal, 0: none
	said     bool          // there was a refusal, ever

	captured, last int64  // of the order: in all, and the last time
	amount         int64  // of the capture
	of             string // the order that it was made of
}

type fraud uint8

const (
	fraudAccepted fraud = iota
	fraudPending
	fraudRejected
)

func (f fraud) String() string { return [...]string{"ACCEPTED", "PENDING", "REJECTED"}[f] }

// live says that an order exists which is money, or may become money.
func (b book) live() bool { return b.made > 0 && b.status != fraudRejected }

// stored says that the key leads to an order.
func (b book) stored() bool { return b.made > b.past }

// A flight is a request that Klarna is still at work on, whoever waits for it.
type flight struct {
	open  bool
	book  int8
	until time.Duration
}

func (w *modelWorld) bookNumber(b *book) int8 {
	for i := range w.books {
		if b == &w.books[i] {
			return int8(i)
		}
	}
	return -1
}

// reply is what Klarna does with a request and what comes back.
type reply uint8

const (
	accepts         reply = iota // an order, or the stored one again
	acceptsPending               // an order whose fraud status is not final
	acceptsRejected              // an order that fraud control has refused
	acceptsThen500               // an order, and the answer is 500
	acceptsNameless              // an order, and the answer does not name it
	nameless                     // 2xx and no order
	fails                        // 500 and no order
	declines                     // PAYMENT_METHOD_FAILED
	refusesToken                 // TOKEN_CANCELLED
	turnsAway                    // 401
	limits                       // 429
	busy                         // 503 with Klarna's error object
	unreachable                  // the dial fails
	takesLong                    // no answer yet
	failsEarly                   // 500, and Klarna is still at work on it
	notAllowed                   // CAPTURE_NOT_ALLOWED: expired, or more than is left
	rejects                      // an order whose fraud status is REJECTED, and that nobody sees again
)

func (r reply) String() string {
	return [...]string{"answers with an order", "answers with a pending order", "answers with a rejected order", "makes an order and answers 500",
		"makes an order and does not name it", "answers 2xx without an order", "answers 500", "answers PAYMENT_METHOD_FAILED", "answers TOKEN_CANCELLED",
		"answers 401", "answers 429", "answers 503 with an error object", "cannot be reached", "takes long", "answers 500 and goes on", "answers CAPTURE_NOT_ALLOWED",
		"answers with an order that comes to nothing"}[r]
}

// answer is the reply as the worker hears it.
func (r reply) answer(made string, status fraud) (Created, error) {
	refusal := func(status int, code string) (Created, error) {
		return Created{}, &klarna.Error{StatusCode: status, Code: code, HasErrorObject: code != ""}
	}
	switch r {
	case accepts, acceptsPending, acceptsRejected:
		return Created{ID: made, FraudStatus: status.String()}, nil
	case acceptsNameless, nameless:
		return Created{}, &klarna.UnknownError{StatusCode: 200, Answered2xx: true}
	case declines:
		return refusal(403, "PAYMENT_METHOD_FAILED")
	case refusesToken:
		return refusal(403, "TOKEN_CANCELLED")
	case notAllowed:
		return refusal(403, "CAPTURE_NOT_ALLOWED")
	case rejects:
		return Created{ID: "order-0", FraudStatus: klarna.FraudRejected}, nil
	case turnsAway:
		return refusal(401, "")
	case limits:
		return refusal(429, "TOO_MANY_REQUESTS")
	case busy:
		return refusal(503, "SERVICE_UNAVAILABLE")
	case unreachable:
		return Created{}, &klarna.NotSentError{Err: errors.New("dial")}
	case takesLong:
		return Created{}, &klarna.UnknownError{Cut: true}
	}
	return refusal(500, "INTERNAL_SERVER_ERROR")
}

// possible says whether Klarna can do that with the next request of a hand: the
// first answer under a key is given again, unless it was an error.
func (w *modelWorld) possible(h *hand, r reply) bool {
	b := *w.book(h)
	if !b.seen || w.now >= b.first+klarnaForgets || w.machinery.makesUpKeys {
		b = book{made: b.made, past: b.made}
	}
	no := w.tokenCancelled // to anything new
	capturing := h.held.Claim.Capture != nil
	if capturing {
		no = w.tooMuch(&book{amount: h.held.Claim.Capture.Amount, of: h.held.Claim.Capture.OrderID})
	}
	hidden := w.hides && no
	replayed := reply(0)
	if w.replays && !b.stored() {
		replayed = b.refused
	}
	fresh := !b.stored() && replayed == 0 && !no && !w.down
	switch r {
	case unreachable, turnsAway, limits, busy, fails, nameless:
		return true
	case takesLong:
		return !w.flights[0].open || !w.flights[1].open
	case failsEarly:
		return fresh && (!w.flights[0].open || !w.flights[1].open)
	case accepts:
		return fresh || b.stored() && !hidden && !w.down
	case declines:
		return fresh || replayed == declines || w.denies && b.nameless && (h.tally.Answered2xx || h.tally.before.Answered2xx)
	case refusesToken, notAllowed:
		return capturing == (r == notAllowed) && (hidden || replayed == r || no && replayed == 0 && !b.stored())
	case acceptsPending, acceptsRejected, rejects:
		return fresh && !capturing
	}
	return fresh
}

// make is Klarna taking the money, or authorising it.
func (w *modelWorld) make(b *book, status fraud) {
	b.made++
	b.madeAt, b.answered, b.status = w.now, status, status
	if s := w.journal[0].state; s.Phase == PhaseUnresolved && w.claimedBook(s) == b {
		w.searched(s.Claim, b)
	}
	if b.of != "" {
		o := w.order(b.of)
		o.captured, o.last = o.captured+b.amount, b.amount
	} else if status == fraudAccepted {
		w.captureItself(b)
	}
	if w.slow && b.said {
		w.excused[bookKeys[w.bookNumber(b)]] = true // no rule can know of an order that Klarna makes later than it says
	}
}

// operate is an operator's command, a compare-and-set like any other.
func (w *modelWorld) operate(v verb) {
	var st Transition
	var err error
	s := *w.journal[0].state
	switch v {
	case cancels:
		w.left.cancels--
		w.over = true
		st, err = cancel(s)
	case resolvesMade:
		w.left.resolves--
		v := verdict{kind: messages.KindPaid, made: madeNames[w.bookNumber(w.claimedBook(&s))], authorised: w.authorised(&s)}
		if s.Capturing() {
			v.kind, v.authorised = messages.KindCaptured, nil
		}
		st, err = w.machinery.resolve(s, v)
	case resolvesOther:
		w.left.resolves--
		w.excused[keyNumber(s.Claim.Key)] = true
		st, err = w.machinery.resolve(s, verdict{kind: messages.KindPaid, made: stranger})
	case resolvesNone:
		w.left.resolves--
		w.excused[keyNumber(s.Claim.Key)] = true // if there is an order or a capture, or comes one, it is the operator's
		v := verdict{kind: messages.KindDunning}
		if s.Capturing() {
			v.kind = messages.KindCaptureFailed
		}
		st, err = w.machinery.resolve(s, v)
	}
	if err != nil {
		w.fail("an operator is refused: %v", err)
		return
	}
	w.store(0, w.journal[0].sequence, st, "")
}

// claimedBook is the book of the renewal's last claim: one key may be claimed on
// either account, not on both.
func (w *modelWorld) claimedBook(s *State) *book {
	switch k := keyNumber(s.Claim.Key); {
	case k >= firstCapture:
		return w.captureBook(k)
	case k == 0 && w.books[2].seen:
		return &w.books[2]
	default:
		return &w.books[k]
	}
}

// ---- The promises.

// check: a renewal is charged once, and what was announced stays true. Orders that
// are excused count for nothing here; letGo still wants them on record.
func (w *modelWorld) check() {
	orders := int8(0)
	for i, b := range w.books {
		k := bookKeys[i]
		if b.made > 1 {
			w.fail("there are %d orders or captures under %s", b.made, modelKeys[k])
		}
		if !b.live() || w.excused[k] {
			continue
		}
		if k < firstCapture {
			orders++
		}
		if w.results[k] == messages.KindDunning || w.results[k] == messages.KindCaptureFailed {
			w.fail("%s is announced as %s, and there is %s", modelKeys[k], w.results[k], madeNames[i])
		}
	}
	if orders > 1 {
		w.fail("the renewal is charged twice")
	}
	s := w.journal[0].state
	if s.Phase == PhasePending && s.Claim.OrderID == "" {
		w.fail("the pending order of %s is forgotten", s.Claim.Key)
	}
	w.checkCaptures(s.Order)
}

// announce: what is recorded is true, and a key has one result, unless the record
// says what it corrects.
func (w *modelWorld) announce(before *State, st *Transition) {
	k, b := keyNumber(st.Key), book{}
	switch {
	case k >= firstCapture:
		b = *w.captureBook(k)
	case k < 2 && before.Holds(st.Key):
		b = *w.claimedBook(before)
	case k < 2 && w.restored > 0: // its claim may be forgotten
		b = w.books[k]
	}
	switch st.Record {
	case messages.KindCharging, messages.KindCapturing:
		if before.Phase == PhasePending && st.State.Phase != PhasePending {
			w.fail("%s has a pending order, and is charged again", st.Key)
		}
		return
	case messages.KindPending, messages.KindCancelled:
		return
	case messages.KindPaid:
		if (b.made == 0 || b.status != fraudAccepted) && st.State.Claim.OrderID != stranger {
			w.fail("%s is announced as paid, Klarna made %d orders, fraud status %s", st.Key, b.made, b.status)
		}
		w.announceLeft(st)
	case messages.KindDunning:
		if st.Reason == messages.ReasonRefusedWithoutCode {
			if b.live() && !w.excused[k] {
				w.fail("%s is announced as refused without a code, Klarna made an order", st.Key)
			}
		} else if !b.said && !w.excused[k] && (b.made == 0 || b.status != fraudRejected) {
			w.fail("%s is announced as dunning, Klarna did not refuse it", st.Key)
		}
	case messages.KindCaptured:
		if b.made == 0 {
			w.fail("%s is announced as captured, Klarna captured nothing", st.Key)
		}
	case messages.KindCaptureFailed:
		if !b.said && !w.orderEnded && !w.excused[k] && (st.Reason != messages.ReasonRefusedWithoutCode || b.made > 0) {
			w.fail("%s is announced as capture_failed, Klarna did not refuse it", st.Key)
		}
	case messages.KindUnresolved:
		w.searched(st.State.Claim, &b)
	case messages.KindRejected:
		w.announceUncapturable(st)
		if before.Open() && !before.Holds(st.Key) && (st.State.Phase != before.Phase || st.State.Claim != before.Claim) {
			w.fail("the rejection of %s changes the claim of %s", st.Key, before.Claim.Key)
		}
	}
	was := w.results[k]
	if was != "" && st.Corrects != was && (was != messages.KindRejected || st.Record != messages.KindRejected) {
		w.fail("%s has two results: %s after %s, which it does not correct", st.Key, st.Record, was)
	}
	if (st.Record == messages.KindPaid || st.Record == messages.KindDunning) && (st.State.Attempts < 1 || st.State.FirstAttemptAt.IsZero()) {
		w.fail("%s is announced as %s of attempt %d, begun at %s", st.Key, st.Record, st.State.Attempts, st.State.FirstAttemptAt)
	}
	w.results[k] = st.Record
	w.toldOfToken(k, st)
}

// searched: whoever looks at Klarna between the times that an unresolved record names finds what was made under its key, be it made
// before the record or after. Where Klarna takes longer than it says nobody can know.
func (w *modelWorld) searched(c *Claim, b *book) {
	if b.made == 0 || w.slow {
		return
	}
	made, slack := modelDay.Add(b.madeAt), w.skewed()+time.Second // time passes in whole seconds
	if c.FirstSentAt.IsZero() || c.Search == nil || made.Before(c.FirstSentAt.Add(-slack)) || made.After(c.Search.Until.Add(slack)) {
		w.fail("%s is unresolved, to be searched for from %s: %+v, and Klarna made it at %s", c.Key, c.FirstSentAt, c.Search, made)
	}
}

// mayBeSent: Klarna is asked only for what may be charged, and only while it
// knows the key.
func (w *modelWorld) mayBeSent(h *hand, b *book, r reply) {
	name := w.postings[h.posting].name
	switch {
	case r == unreachable:
	case !w.inOrder[w.key(h)]:
		w.fail("%s may not be charged, and Klarna is asked", name)
	case w.postings[h.posting].due > w.now+w.skewed():
		w.fail("%s is not due, and Klarna is asked", name)
	case h.held.Claim.Capture == nil && slices.ContainsFunc(w.postings, func(p posting) bool {
		return !p.captures() && p.key != w.postings[h.posting].key && w.inOrder[p.key] && p.due != w.postings[h.posting].due
	}):
		w.fail("%s states another due moment than what was charged before, and Klarna is asked", name)
	case w.over && h.held.Claim.Capture == nil:
		w.fail("the period is cancelled, and Klarna is asked for %s", name)
	case b.seen && w.now >= b.first+w.machinery.rules.KeyWindow+w.skewed():
		w.fail("%s is used %s after its first request", modelKeys[w.key(h)], w.now-b.first)
	default:
		w.mayBeSentNow(h, b)
	}
}

// mayBeAcknowledged: a message leaves the stream only with its result recorded, and
// its dead letter written where one belongs to it.
func (w *modelWorld) mayBeAcknowledged(h *hand) {
	name, s, k := w.postings[h.posting].name, w.journal[h.renewal()].state, modelKeys[w.key(h)]
	e, settled := s.Settled[k]
	switch {
	case s.Phase == PhasePending && s.Holds(k) && !settled:
		// Reopened by an order in doubt after this was decided. The sweep ends it.
	case !settled:
		w.fail("%s is acknowledged, %s has no result", name, k)
	case h.verdict == "" && e.SHA256 != w.request(h).settlementHash(e):
		w.fail("%s is acknowledged with another job's result", name)
	case s.Open() && s.Holds(k) && !e.binds(w.request(h)):
		w.fail("%s is acknowledged, its claim is open", name)
	case deadAgain(e) && !w.queue[h.posting].buried:
		w.fail("%s is acknowledged as %s, there is no dead letter", name, e.Kind)
	}
}

// letGo: when a worker is done with a delivery, an order that it was told of is on record.
func (w *modelWorld) letGo(h *hand) {
	if !h.tally.Answer.made() {
		return
	}
	k, s := w.key(h), w.journal[0].state
	if !w.told[k] && w.results[k] != messages.KindPaid && w.results[k] != messages.KindCaptured && w.book(h).status != fraudRejected &&
		!(s.Holds(modelKeys[k]) && s.Claim.made() == h.tally.Made) {
		w.fail("%s was made under %s, and nothing tells of it", h.tally.Made, modelKeys[k])
	}
	if !w.told[k] && w.results[k] == messages.KindPaid && s.Holds(modelKeys[k]) && s.Claim.OrderID != h.tally.Made {
		w.fail("%s was made under %s, which is paid with %s, and nothing tells of it", h.tally.Made, modelKeys[k], s.Claim.OrderID)
	}
}

// An ending is how a world comes to rest.
type ending struct {
	down      bool // Klarna answers 500 for ever; else it is healthy
	wakesLast bool // who is frozen wakes up when all is over
}

// rest lets everything come to its end, without further trouble: every job is
// acknowledged, no claim stays open.
func (w *modelWorld) rest(e ending, watch func(move)) {
	calm := *w.setting
	calm.horizon, calm.workers, calm.down, calm.replies = 0, maxHands, e.down, []reply{refusesToken, notAllowed, declines}
	if e.down {
		calm.replies = []reply{fails}
	}
	w.setting, w.left = &calm, budget{}
	do := func(m move) {
		if watch != nil {
			watch(m)
		}
		w.left = budget{deliveries: 1, faults: 1}
		w.do(m)
	}
	wake := func() {
		for i := range maxHands {
			w.finish(i, do)
		}
		w.closeDesks(do)
	}
	if !e.wakesLast {
		wake()
	}
	w.settle(do)
	wake()
	w.settle(do)
	w.atRest()
}

// finish leads a worker's delivery to its end, without trouble.
func (w *modelWorld) finish(i int, do func(move)) {
	for n := 0; w.hands[i].at != idle && w.wrong == ""; n++ {
		if n > 100 {
			w.fail("worker %d does not come to an end", i+1)
		}
		w.left = budget{faults: 1}
		all := w.moves(nil)
		do(all[slices.IndexFunc(all, func(m move) bool { return int(m.who) == i && m.verb <= panics })])
	}
}

// atRest: whatever Klarna made has a result that does not deny it.
func (w *modelWorld) atRest() {
	for i, b := range w.books {
		k := bookKeys[i]
		switch r := w.results[k]; {
		case !b.live() || w.excused[k] || w.told[k]:
		case r != messages.KindPaid && r != messages.KindCaptured && r != messages.KindUnresolved:
			w.fail("%s was made under %s, and its result is %q", madeNames[i], modelKeys[k], r)
		}
	}
	w.capturesAtRest()
}

// settle hands out every message until it is acknowledged, and sweeps, while time passes.
func (w *modelWorld) settle(do func(move)) {
	const spare = maxHands - 1 // a worker that has never been in trouble
	ready := func(j int) bool { return !w.queue[j].gone && w.deliverable(j) }
	for n := 0; w.wrong == ""; n++ {
		s := w.journal[0].state
		waiting := s.Open() && !s.Claim.FirstSentAt.IsZero() // an unsent one may wait for whoever meets it
		next := w.instants()
		for j := range w.postings {
			if ready(j) && w.queue[j].notBefore <= w.now {
				do(move{takes, spare, int8(j)})
				w.finish(spare, do)
			}
			if waiting = waiting || ready(j); ready(j) && w.queue[j].notBefore > w.now {
				next = append(next, w.queue[j].notBefore)
			}
		}
		if _, due := w.machinery.sweep(*w.journal[0].state, w.clock(0), w.rules()); due {
			do(move{verb: sweeps})
		}
		for k, b := range w.books {
			if b.live() && b.status == fraudPending && !w.down && w.now > b.first+8*time.Hour {
				do(move{fraudAccepts, 0, int8(k)})
			}
		}
		if !waiting {
			return
		}
		if n > 500 {
			w.fail("a job or a claim is stuck")
		}
		if len(next) > 0 {
			w.pass(max(slices.Min(next), w.now))
		}
	}
}

// ---- The search.

// A finding is a broken promise and the way to it.
type finding struct {
	wrong  string
	path   []move
	ending *ending
}

// explore visits every state of a setting's world, nearest first, up to a limit,
// and brings every thirty-second of them to rest. It stops at the first broken promise.
func explore(s *setting, limit int) (states int, found *finding) {
	type arrival struct {
		from int32
		by   move
	}
	var (
		b        bytes.Buffer
		all      []move
		next     modelWorld
		start    = newModelWorld(s)
		arrivals = []arrival{{from: -1}}
		seen     = map[identity]struct{}{start.identity(&b): {}}
		layer    = []*modelWorld{start}
		first    = 0 // number of the layer's first world
	)
	way := func(n int) (path []move) {
		for i := int32(n); arrivals[i].from >= 0; i = arrivals[i].from {
			path = append(path, arrivals[i].by)
		}
		slices.Reverse(path)
		return path
	}
	for len(layer) > 0 && len(arrivals) < limit {
		var following []*modelWorld
		for n, w := range layer {
			all = w.moves(all[:0])
			for _, m := range all {
				next = *w
				next.do(m)
				id := next.identity(&b)
				if _, known := seen[id]; known && next.wrong == "" {
					continue
				}
				seen[id] = struct{}{}
				arrivals = append(arrivals, arrival{int32(first + n), m})
				if next.wrong != "" {
					return len(arrivals), &finding{next.wrong, way(len(arrivals) - 1), nil}
				}
				kept := next
				following = append(following, &kept)
				if id[0]%32 == 0 {
					e := ending{down: id[1]&1 == 0, wakesLast: id[1]&2 == 0}
					if next.rest(e, nil); next.wrong != "" {
						return len(arrivals), &finding{next.wrong, way(len(arrivals) - 1), &e}
					}
				}
			}
		}
		first += len(layer)
		layer = following
	}
	return len(arrivals), nil
}

// An identity is a world in a few bytes. Worlds with the same future share it:
// times count from now, workers with the same clock are alike, a nonce is as good
// as another, and counters that only pauses and reports depend on are left out.
type identity [16]byte

func (w *modelWorld) identity(b *bytes.Buffer) identity {
	b.Reset()
	id := identifier{w, b}
	l := w.left
	b.Write([]byte{byte(l.deliveries), byte(l.faults), byte(l.crashes), byte(l.losses), byte(l.panics), byte(l.stops), byte(l.cancels), byte(l.resolves), byte(l.purges), byte(l.tokens), byte(l.expiries), byte(l.setbacks), byte(l.reconciles)})
	id.restored()
	for i := range 1 + len(w.postings) {
		if id.flags(w.journal[i].sequence > 0); w.journal[i].sequence > 0 {
			id.state(w.journal[i].state)
		}
	}
	for i, p := range w.postings {
		id.flags(w.queue[i].gone, w.queue[i].acked, w.queue[i].buried)
		id.since(p.expires, 0)
		id.since(p.due, 0)
	}
	for i, u := range w.late {
		if id.flags(u != nil && w.lands(i), u != nil && u.batch); u != nil && w.lands(i) {
			b.WriteByte(byte(u.renewal))
			id.step(&u.step)
			id.text(string(u.verdict))
		}
	}
	for i := range w.books[:3] {
		id.book(&w.books[i])
	}
	for _, f := range w.flights {
		if id.flags(f.open); f.open {
			b.WriteByte(byte(f.book))
			id.since(f.until, time.Hour)
		}
	}
	for k := range 2 + len(w.postings) {
		id.text(string(w.results[k]))
		id.flags(w.inOrder[k], w.excused[k], w.told[k], w.dead[k])
	}
	id.captures()
	id.desks()
	id.flags(w.tokenCancelled, w.orderEnded, w.over)
	sum := sha256.New()
	sum.Write(b.Bytes())
	var hands []string
	for i := range w.workers {
		b.Reset()
		id.hand(w.hands[i])
		hands = append(hands, b.String())
	}
	if len(w.skew) == 0 && !w.moved {
		slices.Sort(hands)
	}
	for _, h := range hands {
		sum.Write([]byte(h))
	}
	return identity(sum.Sum(b.AvailableBuffer()[:0])[:16])
}

type identifier struct {
	*modelWorld
	*bytes.Buffer
}

func (id identifier) text(s string) {
	id.WriteString(s)
	id.WriteByte(0)
}

func (id identifier) flags(all ...bool) {
	var bits byte
	for i, f := range all {
		if f {
			bits |= 1 << i
		}
	}
	id.WriteByte(bits)
}

// since is a time from now; what lies back further than the horizon is all the same.
func (id identifier) since(d, horizon time.Duration) {
	id.Write(binary.AppendVarint(id.AvailableBuffer(), int64(max(d-id.now, -horizon)/(500*time.Millisecond))))
}

func (id identifier) time(t time.Time, horizon time.Duration) {
	if id.flags(t.IsZero()); !t.IsZero() {
		id.since(t.Sub(modelDay), horizon)
	}
}

func (id identifier) book(b *book) {
	id.Write([]byte{byte(b.made), byte(b.past), byte(b.answered), byte(b.status), byte(b.refused)})
	id.flags(b.nameless, b.seen, b.said)
	if b.seen {
		id.since(b.first, klarnaForgets+time.Hour)
	}
}

func (id identifier) claim(c *Claim, open bool) {
	id.WriteByte(byte(keyNumber(c.Key)))
	id.flags(c.Released, c.Answered2xx, c.UndecidedTries > 0, c.Contradicted, c.Deliveries > 0, c.Restored)
	id.text(string(c.Corrects))
	id.text(c.SHA256)
	id.text(c.made())
	id.time(c.FirstSentAt, 60*time.Hour)
	if open {
		horizon := 3 * time.Minute
		if c.FirstSentAt.IsZero() {
			horizon = 200 * time.Hour
		}
		id.time(c.LeaseUntil, horizon)
	}
}

func (id identifier) state(s *State) {
	id.text(string(s.Phase))
	if s.Claim != nil {
		id.claim(s.Claim, s.Open())
	}
	for _, k := range modelKeys[:2+len(id.postings)] {
		e := s.Settled[k]
		id.text(string(e.Kind))
		id.text(string(e.Reason))
		id.text(e.SHA256)
		id.WriteByte(byte(e.Replay))
	}
	if n := s.NotEvaluated; s.Open() && n.N > 0 {
		id.WriteByte(byte(min(n.N, unreadTries)))
		id.time(n.Since, 30*time.Hour)
	}
	for _, k := range modelKeys[:2+len(id.postings)] {
		id.WriteByte(byte(s.panics(k)))
	}
	id.flags(s.Attempts > 0, s.FirstAttemptAt.IsZero(), s.DueAt.Before(modelDay), s.Claim != nil && s.Claim.Merchant == "K2")
	id.captured(s)
	id.guarded(s)
}

func (id identifier) step(st *Transition) {
	id.text(string(st.Record))
	id.text(string(st.Reason))
	id.text(string(st.Corrects))
	id.Write([]byte{byte(keyNumber(st.Key)), byte(st.Then)})
	if id.flags(st.Dead); st.Record != "" {
		id.state(&st.State)
	}
}

func (id identifier) hand(h *hand) {
	id.WriteByte(byte(h.at))
	if h.at == idle {
		return
	}
	id.Write([]byte{byte(h.asks), byte(h.posting), byte(h.fraud)})
	id.text(string(h.verdict))
	mine := func(s *State) bool { return s.Claim != nil && s.Claim.Nonce == h.nonce }
	id.flags(h.standIn, h.moved, mine(id.journal[0].state), id.late[0] != nil && mine(&id.late[0].step.State), id.late[1] != nil && mine(&id.late[1].step.State))
	for _, other := range id.hands[:id.workers] {
		id.flags((other.at == writing || other.at == unsure) && mine(&other.next.State))
	}
	if h.found != nil {
		id.found(h.found)
	}
	switch h.at {
	case writing, unsure:
		sequence := id.journal[h.renewal()].sequence
		id.flags(h.on == sequence, h.on+1 == sequence, mine(&h.next.State), h.unheard, id.own(h), id.sentLate(h))
		id.step(&h.next)
	case burying, acking:
		id.text(string(h.next.Reason))
		id.WriteByte(byte(h.next.Then))
	}
	if h.at == sending || h.at == trying || h.at == pausing || h.asks == whatTriesMean {
		id.claim(&h.held.Claim, true)
		o := h.tally.Outcome
		id.WriteByte(byte(o.Answer))
		id.text(o.Made)
		id.flags(h.held.SetsClock, o.Unsent, o.NotEvaluated, o.Answered2xx, o.Contradicted, o.Cut, o.HandBack)
		id.flags(o.Tries > 0, o.Undecided > 0)
	}
}

// story tells a finding move by move, and how the renewal stands after each.
func (f *finding) story(s *setting) string {
	var b strings.Builder
	w := newModelWorld(s)
	show := func(m move) { fmt.Fprintf(&b, "  %s\n      %s\n", w.tell(m), w.stand()) }
	b.WriteString("  (each move, and how the renewal stood before it)\n")
	for _, m := range f.path {
		show(m)
		w.do(m)
	}
	if f.ending != nil {
		fmt.Fprintf(&b, "  and then without further trouble %+v\n", *f.ending)
		shown := 0
		w.rest(*f.ending, func(m move) {
			if shown++; shown < 80 {
				show(m)
			}
		})
	}
	fmt.Fprintf(&b, "      %s\n  %s", w.stand(), f.wrong)
	return b.String()
}

func (w *modelWorld) stand() string {
	var b strings.Builder
	s := w.journal[0].state
	fmt.Fprintf(&b, "%s record %d: %s", w.now, w.journal[0].sequence, s.Phase)
	if c := s.Claim; c != nil {
		fmt.Fprintf(&b, " %s %s %s", c.Key, c.Nonce, c.made())
		if c.Capture != nil {
			fmt.Fprintf(&b, " of %d", c.Capture.Amount)
		}
		if s.Open() {
			fmt.Fprintf(&b, " lease until %s released %t undecided %d", c.LeaseUntil.Sub(modelDay), c.Released, c.UndecidedTries)
			if !c.FirstSentAt.IsZero() {
				fmt.Fprintf(&b, " first sent at %s", c.FirstSentAt.Sub(modelDay))
			}
		}
	}
	if o := s.Order; o != nil {
		fmt.Fprintf(&b, " (%s: %d captured, at Klarna %d)", o.ID, o.Captured, w.order(o.ID).captured)
	}
	for _, k := range modelKeys {
		if e, ok := s.Settled[k]; ok {
			fmt.Fprintf(&b, " [%s %s %s]", k, e.Kind, e.Reason)
		}
	}
	return b.String()
}

func (w *modelWorld) tell(m move) string {
	h, detail := w.hands[m.who], ""
	switch m.verb {
	case takes, purges:
		detail = w.postings[m.what].name
	case acks:
		detail = w.postings[h.posting].name
	case looks:
		detail = [...]string{"Klarna tells", "Klarna is one capture behind", "no answer"}[m.what]
	case decides:
		detail = [...]string{"", "writes it, the answer is lost", "ends, its write still on the way"}[m.what]
	case writes:
		detail = fmt.Sprintf("%s of %s", h.next.Record, h.next.Key) + [...]string{"", ", the answer is lost", " and ends, the write still on its way"}[m.what]
	case sends:
		if detail = "Klarna " + reply(m.what).String(); w.tooLate(h, int(m.who)) {
			detail = "nothing: it is too late"
		}
	case commits:
		detail = [...]string{"", "the answer is lost", "it is on its way, and nothing is heard of it", "it is on its way, and the worker crashes", "the worker crashes before the last record is sent"}[m.what]
	case buries:
		detail = string(h.next.Reason)
	case landsLate:
		detail = fmt.Sprintf("%s of %s", w.late[m.what].step.Record, w.late[m.what].step.Key)
	case klarnaFinishes, fraudAccepts, fraudRejects:
		detail = fmt.Sprintf("(book %d)", m.what+1)
	case compares:
		detail = fmt.Sprintf("%s (desk %d)", w.sold(m.what), m.who+1)
	case provesIt, applies, leavesDesk:
		detail = fmt.Sprintf("(desk %d)", m.who+1) + [...]string{"", ", its write still on the way"}[m.what]
	case setsBack:
		detail = fmt.Sprintf("its first %d records of the renewal", m.what)
	case timePasses:
		detail = w.instants()[0].String()
	}
	if m.verb <= panics {
		return fmt.Sprintf("worker %d %s %s", m.who+1, m.verb, detail)
	}
	return m.verb.String() + " " + detail
}

// ---- The worlds.

// withoutRace leaves a test of the model to a run without the race detector, which make test has, too: a world has one goroutine, so that the
// detector finds nothing there, and makes every state ten times as dear.
func withoutRace(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("make test runs it without the race detector")
	}
}

// TestModelSmallWorlds visits the nearest states of the small worlds, which are all that most of them have; with -model.whole every state.
func TestModelSmallWorlds(t *testing.T) {
	withoutRace(t)
	limit := 10_000
	switch {
	case *whole:
		limit = math.MaxInt
	case testing.Short():
		limit = 3_000
	}
	for _, s := range smallWorlds(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			states, found := explore(s, limit)
			if found != nil {
				t.Fatalf("got a broken promise after %d states, want none:\n%s", states, found.story(s))
			}
			t.Logf("%d states", states)
		})
	}
}

// TestModelWalks goes at random through worlds in which everything can happen.
func TestModelWalks(t *testing.T) {
	withoutRace(t)
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	again, expiring, replay, invalid := first, first, first, first
	again.name = "attempt 1, published again"
	expiring.expires = time.Hour
	replay.name, replay.replay = "attempt 1, replayed", 1
	invalid.name, invalid.hash, invalid.payload, invalid.invalid = "attempt 1, invalid", "order 0", "payload 0", true
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2"}
	early := second
	early.due = 3 * time.Hour
	elsewhere := posting{name: "attempt 1 on another account", hash: "order 1 elsewhere", payload: "payload 1 elsewhere", elsewhere: true}
	everything := []reply{acceptsPending, acceptsRejected, acceptsThen500, acceptsNameless, nameless, fails, declines, refusesToken, turnsAway, limits, busy, unreachable, takesLong, failsEarly, notAllowed}
	c := newModelCaptures()

	machinery := realMachinery(t)
	for name, postings := range map[string][]posting{
		"one job twice, another attempt":    {first, again, second},
		"two accounts, an early attempt":    {first, elsewhere, early},
		"an invalid job and its correction": {invalid, first, second},
		"an expiring job and its replay":    {expiring, replay, second},
		"a charge and two captures":         {c.charge, c.again, c.part, c.more},
		"one capture ID, several captures":  {c.charge, c.part, c.other, c.replay, c.rest},
		"captures of what Klarna left":      {c.auto, c.again, c.part, c.rest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rounds := 16
			if testing.Short() {
				rounds = 4
			}
			for range rounds {
				rapid.Check(t, func(t *rapid.T) {
					s := setting{
						name: name, postings: postings, workers: 3, replies: everything, machinery: machinery,
						replays: rapid.Bool().Draw(t, "Klarna replays refusals"), hides: rapid.Bool().Draw(t, "Klarna looks at the token first"),
					}
					if slices.ContainsFunc(postings, posting.captures) && rapid.SampledFrom([]bool{true, true, true, false}).Draw(t, "the charge is paid") {
						s.paid, s.portal = true, 20*int64(rapid.IntRange(0, 1).Draw(t, "captured in the portal"))
					}
					if !postings[0].authorises {
						s.portal, s.takes = 0, rapid.SampledFrom([]int64{0, 40, orderAmount}).Draw(t, "captured by Klarna itself")
					}
					if rapid.Bool().Draw(t, "clocks are apart") {
						s.skew = []time.Duration{0, s.machinery.rules.ClockMargin/2 - 100*time.Millisecond, -s.machinery.rules.ClockMargin / 2}
					}
					s.guards = rapid.SampledFrom([]Guards{{}, {}, {MinAttemptGap: time.Hour, MaxAttempts: 20}, {MaxAttempts: 1}}).Draw(t, "guards")
					some := func(name string, most int) int8 { return int8(rapid.IntRange(0, most).Draw(t, name)) }
					s.budget = budget{deliveries: 12, faults: some("faults", 8), crashes: some("crashes", 5), losses: some("losses", 5), panics: some("panics", 12),
						stops: some("stops", 2), cancels: some("cancels", 1), resolves: some("resolves", 2), purges: some("purges", 1), tokens: some("tokens", 1), expiries: some("expiries", 4) / 4}
					w, f := newModelWorld(&s), finding{}
					for range 100 {
						all := w.moves(nil)
						if len(all) == 0 || w.wrong != "" {
							break
						}
						var verbs []verb
						for _, m := range all {
							if !slices.Contains(verbs, m.verb) {
								verbs = append(verbs, m.verb)
							}
						}
						v := rapid.SampledFrom(verbs).Draw(t, "verb")
						all = slices.DeleteFunc(all, func(m move) bool { return m.verb != v })
						m := rapid.SampledFrom(all).Draw(t, "move")
						f.path = append(f.path, m)
						w.do(m)
					}
					if w.wrong == "" {
						f.ending = &ending{down: rapid.Bool().Draw(t, "Klarna stays down"), wakesLast: rapid.Bool().Draw(t, "frozen workers wake last")}
						w.rest(*f.ending, nil)
					}
					if f.wrong = w.wrong; f.wrong != "" {
						t.Fatalf("\n%s", f.story(&s))
					}
				})
			}
		})
	}
}

var whole = flag.Bool("model.whole", false, "whether the largest of the small worlds of the model are visited to their last state; `make model` does")

var deeper = flag.Int("model.deeper", 0, "how many deliveries and faults the small worlds of the model have on top; each multiplies their states by ten")

// smallWorlds are the worlds that are visited whole.
func smallWorlds(tb testing.TB) []*setting {
	tb.Helper()
	first := posting{name: "attempt 1", hash: "order 1", payload: "payload 1"}
	second := posting{name: "attempt 2", key: 1, hash: "order 2", payload: "payload 2"}
	elsewhere := posting{name: "attempt 1 on another account", hash: "order 1 elsewhere", payload: "payload 1", elsewhere: true}
	invalid := posting{name: "attempt 1, invalid", hash: "order 0", payload: "payload 0", invalid: true}
	expiring, expired, early, replay := first, first, first, first
	expiring.expires = time.Hour
	expired.expires = 1
	early.due = 3 * time.Hour
	replay.name, replay.replay = "attempt 1, replayed", 1
	earlier := second
	earlier.name, earlier.due = "attempt 2, due before", -time.Hour

	machinery := realMachinery(tb)
	apart := []time.Duration{0, machinery.rules.ClockMargin}
	const soon = 10 * time.Minute
	all := []*setting{
		{name: "answers", postings: []posting{first}, horizon: soon, denies: true,
			replies: []reply{acceptsThen500, fails, declines, turnsAway, limits, busy, unreachable, nameless, acceptsNameless},
			budget:  budget{deliveries: 2, faults: 2, stops: 1}},
		{name: "answers without a code", postings: []posting{first}, horizon: 20 * time.Minute,
			replies: []reply{acceptsThen500, turnsAway},
			budget:  budget{deliveries: 3, faults: 4}},
		{name: "crashes", postings: []posting{first}, horizon: soon,
			replies: []reply{acceptsThen500, declines, unreachable},
			budget:  budget{deliveries: 3, faults: 1, crashes: 2}},
		{name: "the key's window", postings: []posting{first}, horizon: 26 * time.Hour,
			replies: []reply{acceptsThen500, unreachable},
			budget:  budget{deliveries: 3, faults: 1, crashes: 1}},
		{name: "lost writes", postings: []posting{first}, horizon: soon,
			replies: []reply{declines},
			budget:  budget{deliveries: 2, faults: 1, crashes: 1, losses: 2}},
		{name: "cut connections", postings: []posting{first}, horizon: soon,
			replies: []reply{takesLong, declines},
			budget:  budget{deliveries: 2, faults: 2, crashes: 1}},
		{name: "clocks apart", postings: []posting{first}, skew: apart, horizon: soon,
			replies: []reply{takesLong, declines},
			budget:  budget{deliveries: 2, faults: 2}},
		{name: "errors that come early", postings: []posting{first}, horizon: soon,
			replies: []reply{failsEarly, declines},
			budget:  budget{deliveries: 3, faults: 2, crashes: 1}},
		{name: "errors that come early, and a fraud check", postings: []posting{first}, horizon: soon,
			replies: []reply{failsEarly, rejects},
			budget:  budget{deliveries: 2, faults: 2}},
		{name: "errors that come early, clocks apart", postings: []posting{first}, skew: apart, horizon: soon,
			replies: []reply{failsEarly, declines},
			budget:  budget{deliveries: 2, faults: 2}},
		{name: "a slow Klarna", postings: []posting{first, second}, slow: true, horizon: soon,
			replies: []reply{takesLong, declines},
			budget:  budget{deliveries: 2, faults: 2}},
		{name: "a cancelled token", postings: []posting{first}, hides: true, horizon: soon,
			replies: []reply{acceptsThen500, refusesToken},
			budget:  budget{deliveries: 3, faults: 2, tokens: 1, crashes: 1}},
		{name: "two attempts", postings: []posting{first, second}, horizon: soon,
			replies: []reply{acceptsThen500, declines},
			budget:  budget{deliveries: 3, faults: 2}},
		{name: "two attempts, errors replayed", postings: []posting{first, second}, replays: true, horizon: soon,
			replies: []reply{declines},
			budget:  budget{deliveries: 3, faults: 1, losses: 1}},
		{name: "an operator", postings: []posting{first, second}, horizon: 26 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, resolves: 1}},
		{name: "a cancelled period", postings: []posting{first, second}, horizon: soon,
			replies: []reply{acceptsThen500, declines},
			budget:  budget{deliveries: 3, faults: 1, cancels: 1}},
		{name: "a purge", postings: []posting{first, second}, horizon: 26 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 2, faults: 1, purges: 1}},
		{name: "an abandoned job", postings: []posting{first}, horizon: 26 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 2, faults: 1, crashes: 1, purges: 1}},
		{name: "one ID, two accounts", postings: []posting{first, elsewhere}, horizon: soon,
			replies: []reply{acceptsThen500, declines},
			budget:  budget{deliveries: 3, faults: 1, crashes: 1}},
		{name: "another merchant", postings: []posting{first}, moved: true, horizon: 26 * time.Hour,
			replies: []reply{acceptsThen500, unreachable},
			budget:  budget{deliveries: 3, faults: 2, crashes: 1}},
		{name: "two due moments", postings: []posting{first, earlier}, horizon: soon,
			replies: []reply{acceptsThen500, declines},
			budget:  budget{deliveries: 3, faults: 1, crashes: 1}},
		{name: "fraud checks", postings: []posting{first}, horizon: 51 * time.Hour,
			replies: []reply{acceptsPending, acceptsRejected},
			budget:  budget{deliveries: 3, faults: 1}},
		{name: "fraud checks and a second attempt", postings: []posting{first, second}, horizon: soon,
			replies: []reply{acceptsPending, acceptsRejected, fails},
			budget:  budget{deliveries: 3, faults: 1}},
		{name: "an expiring job", postings: []posting{expiring, second}, horizon: 2 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, crashes: 1}},
		{name: "a corrected job", postings: []posting{invalid, first}, horizon: soon,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, faults: 1, crashes: 1}},
		{name: "a replayed job", postings: []posting{expired, replay}, horizon: soon,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 4, faults: 1, crashes: 1}},
		{name: "panics", postings: []posting{first, second}, horizon: soon,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, panics: 1}},
		{name: "panics of a pending job", postings: []posting{first}, horizon: soon,
			replies: []reply{acceptsPending},
			budget:  budget{deliveries: 3, faults: 1, panics: 2}},
		{name: "the last panic", postings: []posting{first, second}, horizon: soon, panicked: MaxPanics - 1,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 2, faults: 1, panics: 1}},
		{name: "panics of an early job", postings: []posting{early, invalid}, horizon: 4 * time.Hour,
			replies: []reply{acceptsThen500},
			budget:  budget{deliveries: 3, panics: 2}},
	}
	all = append(all, captureWorlds()...)
	all = append(all, setBackWorlds()...)
	all = append(all, guardWorlds()...)
	all = append(all, settlementWorlds()...)
	all = append(all, batchWorlds()...)
	for _, s := range all {
		s.workers, s.coarse, s.machinery = 2, true, machinery
		s.budget.deliveries += int8(*deeper)
		s.budget.faults += int8(*deeper)
	}
	return all
}

// TestModelNeedsEveryRule takes one rule after the other away, and expects the
// search to find out.
func TestModelNeedsEveryRule(t *testing.T) {
	withoutRace(t)
	for _, tt := range slices.Concat(brokenRules(), brokenCaptureRules(), brokenSetBackRules(), brokenGuards(), brokenSettlementRules(), brokenBatchRules()) {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			worlds := smallWorlds(t)
			s := worlds[slices.IndexFunc(worlds, func(s *setting) bool { return s.name == tt.world })]
			s.machinery.remembers = true // worlds in which a rule is missed tell more of their states apart so
			tt.without(&s.machinery)
			states, found := explore(s, math.MaxInt)
			if found == nil {
				t.Fatalf("got no broken promise in the %d states of %q, want one", states, tt.world)
			}
			t.Logf("after %d moves and %d states: %s", len(found.path), states, found.wrong)
		})
	}
}

// A brokenRule is a rule, a small world in which it is missed, and the machinery without it.
type brokenRule struct {
	rule, world string
	without     func(*machinery)
}

// asking changes what the machine is asked of a delivery, saying what it says, and so on.
func asking(change func(s *State, q *Request, now time.Time)) func(*machinery) {
	return func(m *machinery) {
		ask := m.deliver
		m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
			change(&s, &q, now)
			return ask(s, q, now, r)
		}
	}
}

func saying(change func(st *Transition, s State, q Request, now time.Time)) func(*machinery) {
	return func(m *machinery) {
		ask := m.deliver
		m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
			st := ask(s, q, now, r)
			change(&st, s, q, now)
			return st
		}
	}
}

func concluding(change func(s State, h *HeldClaim, o *Outcome)) func(*machinery) {
	return func(m *machinery) {
		ask := m.conclude
		m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
			change(s, &h, &o)
			return ask(s, h, o, now, r)
		}
	}
}

func concluded(change func(*Transition)) func(*machinery) {
	return func(m *machinery) {
		ask := m.conclude
		m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
			st := ask(s, h, o, now, r)
			change(&st)
			return st
		}
	}
}

func believing(which func(Outcome) bool) func(*machinery) {
	return func(m *machinery) {
		m.hear = func(t *TryResult, order Created, err error, began, ended time.Time, r Rules) bool {
			again := t.Hear(order, err, began, ended, r)
			if which(t.Outcome) {
				t.Answer = Refused
			}
			return again
		}
	}
}

// backstop takes away what would catch the absence of these rules: that a refusal is
// judged by when the undecided try before it ended. They are kept, since a refusal that decides nothing costs a request and a
// delivery, and since one rule should not carry it all.
var backstop = judging(func(r *Rules) { r.SettleDelay, r.ClockMargin = 0, 0 })

// judging changes the rules by which a refusal is judged.
func judging(change func(*Rules)) func(*machinery) {
	return func(m *machinery) {
		m.hear = func(t *TryResult, order Created, err error, began, ended time.Time, r Rules) bool {
			change(&r)
			return t.Hear(order, err, began, ended, r)
		}
	}
}

func fencing(change func(c *Claim, now time.Time)) func(*machinery) {
	return func(m *machinery) {
		ask := m.fence
		m.fence = func(c Claim, now time.Time, r Rules) bool {
			change(&c, now)
			return ask(c, now, r)
		}
	}
}

func forgetting(p Phase) func(*machinery) {
	return asking(func(s *State, _ *Request, _ time.Time) {
		if s.Phase == p {
			s.Phase = PhaseDunning
		}
	})
}

func edit(s *State, change func(*Claim)) {
	c := *s.Claim
	change(&c)
	*s = s.Claimed(c)
}

func takeover(st *Transition, s State, q Request) bool {
	return st.Record == messages.KindCharging && s.Open() && s.Holds(q.Key)
}

func brokenRules() []brokenRule {
	return []brokenRule{
		// The claim.
		{"the claim is written before the first byte is sent", "two attempts", func(m *machinery) { m.sendsUnclaimed = true }},
		{"every record is a compare-and-set", "two attempts", func(m *machinery) { m.overwrites = true }},
		{"every delivery uses the same key", "crashes", func(m *machinery) { m.makesUpKeys = true }},
		{"a key is sent to no other merchant", "another merchant",
			asking(func(s *State, q *Request, _ time.Time) {
				if s.Holds(q.Key) {
					q.Endpoint, q.Merchant = s.Claim.Endpoint, s.Claim.Merchant
				}
			})},
		{"what a worker that never told may have sent is searched for", "panics of a pending job",
			func(m *machinery) {
				broken, sweep, r := m.panicked, m.sweep, m.rules
				told := func(st Transition) Transition {
					if st.Record == messages.KindUnresolved && st.State.Claim.Search != nil {
						edit(&st.State, func(c *Claim) {
							s := c.search()
							s.Until = s.LastSentAt.Add(r.TryTimeout + r.SettleDelay)
							c.Search = &s
						})
					}
					return st
				}
				saying(func(st *Transition, _ State, _ Request, _ time.Time) { *st = told(*st) })(m)
				m.panicked = func(s State, q Request, now time.Time, r Rules) Transition { return told(broken(s, q, now, r)) }
				m.sweep = func(s State, now time.Time, r Rules) (Transition, bool) {
					st, due := sweep(s, now, r)
					return told(st), due
				}
			}},
		{"all attempts of a period state one due moment", "two due moments",
			asking(func(s *State, _ *Request, _ time.Time) { s.DueAt = time.Time{} })},
		{"a claim keeps everybody else out until its lease ends", "cut connections",
			asking(func(s *State, q *Request, _ time.Time) {
				if s.Open() && s.Holds(q.Key) && s.Claim.Nonce != q.Nonce && !s.Claim.Released {
					edit(s, func(c *Claim) { c.LeaseUntil = modelDay.Add(-time.Hour) })
				}
			})},
		{"no claim over the open claim of another key", "two attempts",
			asking(func(s *State, q *Request, _ time.Time) {
				if s.Open() && !s.Holds(q.Key) {
					s.Phase = PhaseDunning
				}
			})},
		{"a claim that was not released counts as one more undecided try", "a cancelled token",
			saying(func(st *Transition, s State, q Request, _ time.Time) {
				if takeover(st, s, q) {
					edit(&st.State, func(c *Claim) { c.UndecidedTries = s.Claim.UndecidedTries })
				}
			})},
		{"the same ID on another account is another job", "one ID, two accounts",
			asking(func(s *State, q *Request, _ time.Time) {
				if s.Holds(q.Key) {
					q.Hash = s.Claim.SHA256
				}
			})},
		{"a job is not charged before it is due", "panics of an early job",
			asking(func(_ *State, q *Request, _ time.Time) { q.DueAt = modelDay })},
		{"a panic leaves the claim open, and to its holder", "panics",
			func(m *machinery) {
				ask := m.panicked
				m.panicked = func(s State, q Request, now time.Time, r Rules) Transition {
					st := ask(s, q, now, r)
					if st.State.Open() {
						st.State.Phase = PhaseNone
					}
					return st
				}
			}},
		{"an abandoned claim is swept", "an abandoned job",
			func(m *machinery) {
				m.sweep = func(State, time.Time, Rules) (Transition, bool) { return Transition{}, false }
			}},

		// The phases.
		{"a paid renewal is not charged again", "two attempts", forgetting(PhasePaid)},
		{"an unresolved renewal is not charged again", "an operator", forgetting(PhaseUnresolved)},
		{"a cancelled period is not charged", "a cancelled period", forgetting(PhaseCancelled)},
		{"a settled key is not announced again", "two attempts",
			asking(func(s *State, q *Request, _ time.Time) {
				if !s.Open() {
					*s = s.unsettle(q.Key)
				}
			})},
		{"a settled key stays settled when the next is claimed", "two attempts",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) {
				if st.Record == messages.KindCharging {
					st.State.Settled = nil
				}
			})},
		{"a replayed job is charged once", "a replayed job",
			asking(func(s *State, q *Request, _ time.Time) {
				if q.Replay > 0 && !s.Open() {
					*s = s.unsettle(q.Key)
				}
			})},

		// The window and the fence.
		{"no byte is sent after the key's window", "the key's window",
			func(m *machinery) {
				fencing(func(c *Claim, now time.Time) { c.FirstSentAt = now })(m)
				ask := m.deliver
				m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
					r.KeyWindow = 1000 * time.Hour
					return ask(s, q, now, r)
				}
			}},
		{"the window is asked for again when the byte is sent", "the key's window",
			fencing(func(c *Claim, now time.Time) { c.FirstSentAt = now })},
		{"no try begins that the lease does not outlast", "crashes",
			fencing(func(c *Claim, now time.Time) { c.LeaseUntil = now.Add(time.Hour) })},
		{"the holder of a lease lets it end sooner, for clocks that are ahead", "clocks apart",
			func(m *machinery) {
				backstop(m)
				fencing(func(c *Claim, _ time.Time) { c.LeaseUntil = c.LeaseUntil.Add(m.rules.ClockMargin) })(m)
			}},
		{"a cut try settles later, for clocks that are ahead", "clocks apart",
			func(m *machinery) {
				backstop(m)
				concluded(func(st *Transition) {
					if st.Record == messages.KindCharging && !st.State.Claim.Released {
						edit(&st.State, func(c *Claim) { c.LeaseUntil = c.LeaseUntil.Add(-m.rules.ClockMargin) })
					}
				})(m)
			}},
		{"a takeover keeps the key's clock", "the key's window",
			saying(func(st *Transition, s State, q Request, now time.Time) {
				if takeover(st, s, q) {
					edit(&st.State, func(c *Claim) { c.FirstSentAt = now })
				}
			})},
		{"only the delivery that started the key's clock stops it", "the key's window",
			func(m *machinery) {
				m.held = func(s State, _ Rules) HeldClaim {
					return HeldClaim{Claim: *s.Claim, UndecidedAt: s.UndecidedAt, SetsClock: true}
				}
			}},
		{"the key's clock stops only if nothing was sent", "the key's window",
			concluding(func(_ State, _ *HeldClaim, o *Outcome) { o.Unsent = o.Answer == NoAnswer })},
		{"time never turns unknown into dunning", "the key's window",
			saying(func(st *Transition, _ State, q Request, _ time.Time) {
				if st.Record == messages.KindUnresolved {
					st.Record, st.Dead, st.State.Phase = messages.KindDunning, false, PhaseDunning
					st.State = st.State.Settle(q.Key, Settlement{Kind: messages.KindDunning, SHA256: q.Hash})
				}
			})},

		// The answers.
		{"an answer that was not evaluated refuses nobody", "answers", believing(func(o Outcome) bool { return o.NotEvaluated })},
		{"an answer without a code refuses nothing that may have been made", "answers without a code",
			concluding(func(_ State, h *HeldClaim, o *Outcome) {
				if o.NotEvaluated {
					h.Claim.UndecidedTries, o.Undecided = 0, 0
				}
			})},
		{"a yes without an order is never followed by dunning", "answers", believing(func(o Outcome) bool { return o.Contradicted })},
		{"after an undecided try the token's refusal is not believed", "a cancelled token", believing(func(o Outcome) bool { return o.Contradicted })},
		{"after a cut try comes the settle delay", "cut connections",
			func(m *machinery) {
				backstop(m)
				concluding(func(_ State, _ *HeldClaim, o *Outcome) {
					if o.Cut {
						o.Cut, o.Undecided = false, o.Undecided+1
					}
				})(m)
			}},
		{"after a 5xx comes the settle delay, too", "errors that come early", judging(func(r *Rules) { r.SettleDelay, r.ClockMargin = 0, 0 })},
		{"a refusal settles later, for clocks that are ahead", "errors that come early, clocks apart", judging(func(r *Rules) { r.ClockMargin = 0 })},
		{"what one delivery has left undecided the next one knows", "errors that come early",
			concluding(func(_ State, _ *HeldClaim, o *Outcome) { o.UndecidedAt = modelDay.Add(-time.Hour) })},
		{"a refusal that came too soon decides nothing", "errors that come early", believing(func(o Outcome) bool { return o.TooSoon })},
		{"an order that Klarna rejected decides no sooner", "errors that come early, and a fraud check",
			func(m *machinery) {
				m.hear = func(t *TryResult, order Created, err error, began, ended time.Time, r Rules) bool {
					again := t.Hear(order, err, began, ended, r)
					if order.FraudStatus == klarna.FraudRejected {
						t.Answer, t.Made = FraudRejected, order.ID
					}
					return again
				}
			}},
		{"who sent nothing takes back no more than its own", "a cancelled token",
			concluding(func(_ State, h *HeldClaim, o *Outcome) {
				if o.Unsent {
					h.Claim.UndecidedTries = 0
				}
			})},
		{"pending is not paid", "fraud checks",
			concluding(func(_ State, _ *HeldClaim, o *Outcome) {
				if o.Answer == Pending {
					o.Answer = Accepted
				}
			})},
		{"a fraud status that is not final decides nothing", "fraud checks",
			func(m *machinery) {
				ask := m.polled
				m.polled = func(s State, q Request, accepted, final bool, now time.Time, r Rules) Transition {
					return ask(s, q, accepted || !final, true, now, r)
				}
			}},

		// The result.
		{"a result is written by the holder of the claim", "crashes",
			concluding(func(s State, h *HeldClaim, _ *Outcome) {
				if s.Open() && s.Holds(h.Claim.Key) {
					h.Claim.Nonce = s.Claim.Nonce
				}
			})},
		{"an order in hand is recorded by whoever has lost the claim", "crashes",
			concluding(func(s State, h *HeldClaim, o *Outcome) {
				if s.Claim.Nonce != h.Claim.Nonce {
					o.Answer = NoAnswer
				}
			})},
		{"a result that overrides another says so", "an operator", concluded(func(st *Transition) { st.Corrects = "" })},
		{"an order that comes to light after the next attempt is told of", "an operator",
			concluded(func(st *Transition) { st.Dead = st.Dead && st.Reason != messages.ReasonOrderAfterDunning })},
		{"an order on record is not overwritten by one who knows of none", "fraud checks",
			func(m *machinery) {
				ask := m.conclude
				m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
					if s.Phase == PhasePending && s.Claim.Nonce == h.Claim.Nonce && o.Answer == NoAnswer {
						return record(s, h, o, now, r)
					}
					return ask(s, h, o, now, r)
				}
			}},
		{"an earlier rejection is no result of the claim that corrects it", "a replayed job",
			func(m *machinery) {
				ask := m.conclude
				m.conclude = func(s State, h HeldClaim, o Outcome, now time.Time, r Rules) Transition {
					if _, rejected := s.Settled[h.Claim.Key]; rejected && s.Claim.Nonce != h.Claim.Nonce && !o.Answer.made() {
						return Transition{Then: Ack}
					}
					return ask(s, h, o, now, r)
				}
			}},

		// The end of a message.
		{"the message is acknowledged last", "crashes", func(m *machinery) { m.acksEarly = true }},
		{"no job is rejected while its claim is open", "an expiring job",
			func(m *machinery) {
				ask := m.deliver
				m.deliver = func(s State, q Request, now time.Time, r Rules) Transition {
					if q.Verdict != "" {
						return reject(s, q, q.Verdict)
					}
					return ask(s, q, now, r)
				}
			}},
		{"a rejection carries the renewal's state on", "an expiring job",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) {
				if st.Record == messages.KindRejected {
					st.State.Phase, st.State.Claim = PhaseNone, nil
				}
			})},
		{"a rejected job is put aside before it is acknowledged", "an expiring job", func(m *machinery) { m.buriesNothing = true }},
		{"a dead letter that may be missing is written again", "an expiring job",
			saying(func(st *Transition, _ State, _ Request, _ time.Time) { st.Dead = st.Dead && !st.Duplicate })},
	}
}
