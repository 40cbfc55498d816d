package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klarna-renewals/renewals/messages"
)

// This file leads several periods of one subscription through everything that can happen between them: deliveries that claim at
// once, workers that die between any two steps or freeze until their lease is over, indexes and records read from a leader that has been
// deposed, refusals and second attempts. The rules are the worker's own. TestModelOfClosePeriods visits every state of small worlds;
// TestModelOfClosePeriodsNeedsEveryRule takes one rule away at a time.

// A spacingWorld is the periods' journal, those who handle their jobs, and Klarna's books, at one moment. It is copied for
// every move; what hangs on its pointers is never changed, only replaced.
type spacingWorld struct {
	*spacingSetting
	left  spacingBudget
	now   time.Duration // since modelDay
	nonce int

	log   []spacingRecord // the whole journal
	jobs  [maxSpaced][2]spacingJob
	hands [3]spacingHand
	wrong string
}

const maxSpaced = 3

// A spacingSetting is what stays the same while a world runs.
type spacingSetting struct {
	name    string
	periods []spacingPeriod
	hands   int
	mixed   bool // the second worker has spacing off: what it charges is not the others' fault
	budget  spacingBudget
	rules   spacingRules
}

// A spacingPeriod is one period, with the job of its first attempt and of a second after a refusal.
type spacingPeriod struct {
	due      int // day
	cadence  messages.Cadence
	offCycle bool
}

// spacingBudget is how often each kind of trouble may come.
type spacingBudget struct{ deliveries, crashes, refusals, undecided, stale, late, days int8 }

// spacingRules are the worker's part.
type spacingRules struct {
	Rules
	passage func(State, []Neighbour) Way
	yield   func(State, HeldClaim, Request, Way, time.Time, Rules) Transition
	deliver func(State, Request, time.Time, Rules) Transition

	// Only set to see what happens.
	looksFirst, looksOnce, trustsIndex, trustsRecords, forgetsPlace bool
}

func realSpacingRules() spacingRules {
	r := NewRules(DefaultTiming(), 2*time.Minute)
	r.RetryDelays = []time.Duration{time.Second}
	return spacingRules{Rules: r, passage: State.Passage, yield: Yield, deliver: Deliver}
}

type spacingRecord struct {
	period int
	state  *State
}

// A spacingJob is one attempt of a period.
type spacingJob struct {
	gone   bool // it has its result
	made   bool // Klarna made an order under its key
	result messages.Reason
	paid   bool // announced
}

type spacingStage uint8

const (
	restsSpaced spacingStage = iota
	decidesSpaced
	indexes  // is about to read the index
	reads    // is about to read the next neighbour
	sendsNow // the way was free
	concludes
)

// A spacingHand is one delivery.
type spacingHand struct {
	at              spacingStage
	period, attempt int
	nonce           string
	unspaced        bool
	before          bool // it looks before it takes a held claim over
	at0             int  // length of the journal that it decided on, or its claim's place
	held            HeldClaim
	index           [maxSpaced]int64
	near            []int
	beside          []Neighbour
	way             *Way
	outcome         Outcome
}

func (s *spacingSetting) start() spacingWorld { return spacingWorld{spacingSetting: s, left: s.budget} }

// view is a period's last record as a reader sees it who knows only so many records, and how many it has.
func (w *spacingWorld) view(period, known int) (s State, sequence int, records int64) {
	s = State{Phase: PhaseNone}
	for i, r := range w.log[:known] {
		if r.period == period {
			s, sequence = *r.state, i+1
			records++
		}
	}
	return s.stored(uint64(sequence)), sequence, records
}

func (w *spacingWorld) time() time.Time { return modelDay.AddDate(0, 1, 0).Add(w.now) }

func (w *spacingWorld) due(period int) time.Time {
	return modelDay.AddDate(0, 0, w.periods[period].due)
}

func (w *spacingWorld) request(h spacingHand) Request {
	p := w.periods[h.period]
	return Request{
		Renewal: spacedName(h.period), Key: spacedKey(h.period, h.attempt), Hash: fmt.Sprint(h.period, h.attempt), DueAt: w.due(h.period), Cadence: p.cadence, OffCycle: p.offCycle,
		Nonce: h.nonce, Delivered: 1, Unspaced: h.unspaced, Way: h.way,
	}
}

func spacedName(period int) messages.Renewal { return messages.Renewal(fmt.Sprint("s.", period)) }

func spacedKey(period, attempt int) messages.IdempotencyKey {
	return messages.IdempotencyKey(fmt.Sprint("key ", period, "/", attempt))
}

// write is the broker's compare-and-set, and what it announces.
func (w *spacingWorld) write(h *spacingHand, last State, on int, st Transition) bool {
	if _, sequence, _ := w.view(h.period, len(w.log)); sequence != on {
		return false
	}
	next := reread(st.State.follows(last))
	if w.rules.forgetsPlace {
		next.ClaimedSeq = 0
	}
	w.log = append(slices.Clip(w.log), spacingRecord{h.period, next})
	j := &w.jobs[h.period][h.attempt]
	switch st.Record {
	case messages.KindPaid:
		j.paid = true
	case messages.KindRejected:
		j.result = st.Reason
		if st.Reason == messages.ReasonTooClose {
			w.rejected(h, st)
		}
	case messages.KindUnresolved, messages.KindDunning:
		j.result = messages.Reason(st.Record)
	}
	return true
}

// rejected checks that what is not charged for another period's sake gave way to one that is, or may be.
func (w *spacingWorld) rejected(h *spacingHand, st Transition) {
	if w.jobs[h.period][h.attempt].made {
		w.wrong = fmt.Sprintf("period %d is rejected and has an order", h.period)
	}
	for other := range w.periods {
		s, _, _ := w.view(other, len(w.log))
		if other != h.period && w.close(h.period, other) && (s.Phase == PhasePaid || s.Phase == PhaseUnresolved) {
			return
		}
	}
	w.wrong = fmt.Sprintf("period %d is rejected as too close to nobody who is charged", h.period)
}

// close says that two periods are not both to be charged; written apart from the rules.
func (w *spacingWorld) close(a, b int) bool {
	p, q := w.periods[a], w.periods[b]
	days := map[messages.Cadence]int{"MONTH/1": 30, "WEEK/1": 7}
	apart := max(p.due-q.due, q.due-p.due)
	return !p.offCycle && !q.offCycle && 2*apart < min(days[p.cadence], days[q.cadence])
}

// A spacingMove is one thing that happens.
type spacingMove struct {
	verb      string
	who, what int
}

func (m spacingMove) String() string { return fmt.Sprint(m.verb, " ", m.who, " ", m.what) }

func (w *spacingWorld) moves() (all []spacingMove) {
	add := func(verb string, who, what int) { all = append(all, spacingMove{verb, who, what}) }
	idle := true
	for i, h := range w.hands[:w.spacingSetting.hands] {
		idle = idle && h.at == restsSpaced
		switch h.at {
		case restsSpaced:
			if i > 0 && w.hands[i-1].at == restsSpaced {
				continue // hands are alike
			}
			for p := range w.periods {
				for a := range 2 {
					if w.left.deliveries > 0 && w.deliverable(p, a) {
						add("takes", i, 2*p+a)
					}
				}
			}
		case indexes, reads:
			add("looks", i, 0)
			for old := 1; w.left.stale > 0 && old <= min(4, len(w.log)); old++ {
				add("looks", i, old)
			}
		case sendsNow:
			add("sends", i, 0)
			if w.left.refusals > 0 {
				add("sends", i, 1)
			}
			if w.left.undecided > 0 {
				add("sends", i, 2)
				add("sends", i, 3)
			}
		default:
			add("decides", i, 0)
		}
		if h.at > decidesSpaced && w.left.crashes > 0 {
			add("crashes", i, 0)
		}
	}
	for p := range w.periods {
		if s, _, _ := w.view(p, len(w.log)); w.left.late > 0 && s.Open() && !s.Claim.Released && w.time().Before(s.Claim.LeaseUntil) {
			add("passes", 0, 0)
			break
		}
	}
	if w.left.days > 0 {
		add("passes", 0, 1)
	}
	return all
}

func (w *spacingWorld) deliverable(period, attempt int) bool {
	s, _, _ := w.view(period, len(w.log))
	return !w.jobs[period][attempt].gone && (attempt == 0 || s.Phase == PhaseDunning || s.Holds(spacedKey(period, 1)))
}

func (w *spacingWorld) do(m spacingMove) {
	h := &w.hands[m.who]
	switch m.verb {
	case "takes":
		w.left.deliveries--
		w.take(h, m.what/2, m.what%2)
		h.unspaced = w.mixed && m.who == 1
	case "crashes":
		w.left.crashes--
		*h = spacingHand{}
	case "passes":
		if m.what == 1 {
			w.left.days--
			w.now += 24 * time.Hour
			break
		}
		w.left.late--
		w.now += w.rules.AckWait + time.Second
	case "looks":
		if m.what > 0 {
			w.left.stale--
		}
		w.look(h, len(w.log)-m.what)
	case "sends":
		w.send(h, m.what)
	case "decides":
		if h.at == decidesSpaced {
			w.decide(h)
		} else {
			w.conclude(h)
		}
	}
	w.check()
}

func (w *spacingWorld) take(h *spacingHand, period, attempt int) {
	w.nonce++
	*h = spacingHand{at: decidesSpaced, period: period, attempt: attempt, nonce: fmt.Sprint("nonce ", w.nonce)}
	if w.rules.looksFirst {
		h.at, h.before = indexes, true
	}
}

// decide asks what the delivery means, and writes what it says.
func (w *spacingWorld) decide(h *spacingHand) {
	w.now += time.Second // no two deliveries claim at the same instant
	s, on, _ := w.view(h.period, len(w.log))
	st := w.rules.deliver(s, w.request(*h), w.time(), w.rules.Rules)
	if st.Record != "" && !w.write(h, s, on, st) {
		return
	}
	switch st.Then {
	case Try:
		h.held = Held(st.State, w.rules.Rules)
		h.at, h.before, h.at0 = indexes, false, len(w.log)
		if h.unspaced || w.rules.looksFirst || w.rules.looksOnce && !h.held.SetsClock || w.periods[h.period].offCycle {
			h.at = sendsNow
		}
	case LookAround:
		h.at, h.before = indexes, true
	default:
		w.end(h, st)
	}
}

func (w *spacingWorld) end(h *spacingHand, st Transition) {
	if st.Then == Ack {
		w.jobs[h.period][h.attempt].gone = true
	}
	*h = spacingHand{}
}

// look reads the index, or the next neighbour, as somebody answers who knows only so many records.
func (w *spacingWorld) look(h *spacingHand, known int) {
	own, sequence, _ := w.view(h.period, len(w.log))
	if h.before && w.rules.looksFirst {
		own = State{Phase: PhaseNone, DueAt: w.due(h.period), Cadence: w.periods[h.period].cadence}
	}
	if h.at == indexes {
		subjects := map[string]uint64{}
		for _, r := range w.log[:known] {
			kind := messages.KindCharging
			if r.state.Phase == PhaseNone {
				kind = messages.KindRejected
			}
			subjects[messages.RecordAddress{Kind: kind, Renewal: messages.NewRenewal("s", messages.Period(fmt.Sprint(r.period))), Due: w.due(r.period).Unix(), Account: "a"}.Subject()]++
		}
		// What a worker holds to know that its own claim is in the answer.
		mine := own
		if !h.before {
			mine, sequence, _ = w.view(h.period, h.at0)
		}
		index := readIndex(subjects, own)
		if !w.rules.trustsIndex && index[spacedName(h.period)].records < mine.Rev && known < sequence {
			return // asked again
		}
		h.near, h.beside = nil, nil
		for _, r := range index.near(spacedName(h.period)) {
			var p int
			fmt.Sscanf(string(r), "s.%d", &p)
			h.near = append(h.near, p)
			h.index[p] = index[r].records
		}
		h.at = reads
	} else {
		p := h.near[0]
		s, _, _ := w.view(p, known)
		if !w.rules.trustsRecords && s.Rev < h.index[p] {
			h.at = indexes // all is asked again
			return
		}
		h.near, h.beside = h.near[1:], append(slices.Clip(h.beside), Neighbour{spacedName(p), s})
	}
	if len(h.near) > 0 {
		return
	}
	way := w.rules.passage(own, h.beside)
	switch {
	case h.before:
		h.way, h.at = &way, decidesSpaced
		if w.rules.looksFirst && !way.Free() {
			*h = spacingHand{}
		}
	case way.Free():
		h.at = sendsNow
	default:
		s, on, _ := w.view(h.period, len(w.log))
		st := w.rules.yield(s, h.held, w.request(*h), way, w.time(), w.rules.Rules)
		if st.Record == "" || w.write(h, s, on, st) {
			w.end(h, st)
		}
	}
}

// send is one try: an order, a refusal, or no answer with or without an order.
func (w *spacingWorld) send(h *spacingHand, how int) {
	h.at = concludes
	if !h.held.Claim.Sendable(w.time(), w.rules.Rules) {
		h.outcome = Outcome{Unsent: true, HandBack: true}
		return
	}
	j := &w.jobs[h.period][h.attempt]
	switch {
	case how == 0 || j.made && how != 3:
		j.made = true
		h.outcome = Outcome{Answer: Accepted, Made: string(spacedKey(h.period, h.attempt)), Tries: 1}
	case how == 1:
		w.left.refusals--
		h.outcome = refused
	case how == 2:
		w.left.undecided--
		h.outcome = Outcome{Tries: 1, Undecided: 1, UndecidedAt: w.time()}
	case how == 3:
		w.left.undecided--
		j.made = true
		h.outcome = Outcome{Tries: 1, Undecided: 1, UndecidedAt: w.time()}
	}
}

func (w *spacingWorld) conclude(h *spacingHand) {
	s, on, _ := w.view(h.period, len(w.log))
	st := Conclude(s, h.held, h.outcome, w.time(), w.rules.Rules)
	if st.Record == "" || w.write(h, s, on, st) {
		w.end(h, st)
	}
}

// check says whether two periods have orders that are too close.
func (w *spacingWorld) check() {
	for a := range w.periods {
		for b := range a {
			if !w.mixed && w.close(a, b) && w.ordered(a) && w.ordered(b) {
				w.wrong = fmt.Sprintf("periods %d and %d are both charged", b, a)
			}
		}
	}
}

func (w *spacingWorld) ordered(p int) bool { return w.jobs[p][0].made || w.jobs[p][1].made }

// settle lets everything come to its end without further trouble, and checks that it does: no claim is left open, and what is
// not charged has a reason.
func (w *spacingWorld) settle() {
	w.left = spacingBudget{}
	for _, pass := range [...]time.Duration{0, w.rules.AckWait + time.Second, 0, time.Minute, time.Minute, 24 * time.Hour, 0, 0} {
		w.now += pass
		for i := range w.hands {
			w.finishes(i)
		}
		for p := range w.periods {
			for a := range 2 {
				if w.deliverable(p, a) {
					w.take(&w.hands[0], p, a)
					w.finishes(0)
				}
			}
		}
		if w.wrong != "" {
			return
		}
	}
	w.ended()
}

// finishes lets a hand go on to its end.
func (w *spacingWorld) finishes(i int) {
	for n := 0; w.hands[i].at != restsSpaced && w.wrong == ""; n++ {
		if w.do(w.quiet(i)); n > 50 {
			w.wrong = "a delivery does not end"
		}
	}
}

// quiet is a hand's move when nothing goes wrong.
func (w *spacingWorld) quiet(i int) spacingMove {
	switch w.hands[i].at {
	case indexes, reads:
		return spacingMove{"looks", i, 0}
	case sendsNow:
		return spacingMove{"sends", i, 0}
	}
	return spacingMove{"decides", i, 0}
}

// ended checks what is left when nothing happens any more.
func (w *spacingWorld) ended() {
	for p := range w.periods {
		s, _, _ := w.view(p, len(w.log))
		j := w.jobs[p]
		switch {
		case w.wrong != "":
		case s.Open():
			w.wrong = fmt.Sprintf("period %d is left %s", p, s.Phase)
		case s.Phase == PhasePaid != w.ordered(p) && s.Phase != PhaseUnresolved:
			w.wrong = fmt.Sprintf("period %d is %s, orders %t", p, s.Phase, w.ordered(p))
		case s.Phase == PhaseNone && j[0].result != messages.ReasonTooClose, s.Phase == PhaseDunning && !j[1].gone:
			w.wrong = fmt.Sprintf("period %d ends %s without a charge that was due", p, s.Phase)
		}
	}
}

// String is the world but for what makes no difference.
func (w *spacingWorld) String() string {
	var b strings.Builder
	fmt.Fprint(&b, w.left)
	now := w.time()
	for i, r := range w.log {
		s := r.state.stored(uint64(i + 1))
		fmt.Fprintf(&b, "|%d %s", r.period, s.Phase)
		if s.Claim != nil {
			fmt.Fprintf(&b, " %s %s %t %t %t %t %d %d", s.Claim.Key, s.Claim.Nonce, s.Claim.Released, s.Claim.Held, s.Claim.FirstSentAt.IsZero(), now.Before(s.Claim.LeaseUntil), s.Claim.UndecidedTries, s.ClaimedSeq)
			if s.Claim.Unspaced {
				b.WriteString(" unspaced")
			}
			fmt.Fprint(&b, now.Before(s.Claim.FirstSentAt.Add(w.rules.KeyWindow)), now.Before(s.StaleAt(w.rules.Rules)))
		}
	}
	for _, h := range w.hands {
		fmt.Fprintf(&b, "|%t %d %d %d %s %t %v %d %v %v %v %v", h.unspaced, h.at, h.period, h.attempt, h.nonce, h.before, h.index, h.at0, h.near, len(h.beside), h.outcome.Answer, h.held.SetsClock)
		for _, n := range h.beside {
			fmt.Fprintf(&b, " %s %s %d", n.Renewal, n.State.Phase, n.State.ClaimedSeq)
		}
		if h.way != nil {
			fmt.Fprintf(&b, " %v", *h.way)
		}
	}
	fmt.Fprint(&b, w.jobs)
	return b.String()
}

// explore visits every state up to a number of them, and returns how many and the first story that breaks a promise.
func (s *spacingSetting) explore(most int) (states int, story string) {
	type step struct {
		world spacingWorld
		path  []spacingMove
	}
	seen := map[string]bool{}
	stack := []step{{world: s.start()}}
	for len(stack) > 0 && states < most {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		states++
		moves := at.world.moves()
		if len(moves) == 0 {
			end := at.world
			if end.settle(); end.wrong != "" {
				return states, fmt.Sprintf("%s after %v, and then nothing going wrong", end.wrong, at.path)
			}
		}
		for _, m := range moves {
			next := at.world
			next.do(m)
			path := append(slices.Clip(at.path), m)
			if next.wrong != "" {
				return states, fmt.Sprintf("%s after %v", next.wrong, path)
			}
			if id := next.String(); !seen[id] {
				seen[id] = true
				stack = append(stack, step{next, path})
			}
		}
	}
	return states, ""
}

// spacingStates is how many states of a world are visited at most.
func spacingStates() int {
	switch {
	case *whole:
		return 150_000
	case testing.Short():
		return 3_000
	}
	return 10_000
}

// spacingWorlds are small on their own and together have every kind of trouble.
func spacingWorlds(r spacingRules) []*spacingSetting {
	month, week := messages.Cadence("MONTH/1"), messages.Cadence("WEEK/1")
	twice := []spacingPeriod{{0, month, false}, {0, month, false}}
	chained := []spacingPeriod{{0, month, false}, {12, month, false}, {24, month, false}}
	worlds := []*spacingSetting{
		{name: "one period under two names", periods: twice, hands: 2, budget: spacingBudget{deliveries: 4, crashes: 1, late: 1}},
		{name: "two names, stale reads", periods: twice, hands: 2, budget: spacingBudget{deliveries: 3, stale: 2}},
		{name: "two names, a crash and a stale read", periods: twice, hands: 2, budget: spacingBudget{deliveries: 3, crashes: 1, stale: 1, late: 1}},
		{name: "two names, refusals", periods: twice, hands: 2, budget: spacingBudget{deliveries: 4, refusals: 2}},
		{name: "two names, a refusal and a crash", periods: twice, hands: 2, budget: spacingBudget{deliveries: 4, refusals: 1, crashes: 1, late: 1}},
		{name: "two names, no answer", periods: twice, hands: 2, budget: spacingBudget{deliveries: 4, undecided: 1, late: 1}},
		{name: "two names, no answer for a day", periods: twice, hands: 2, budget: spacingBudget{deliveries: 3, undecided: 1, days: 1}},
		{name: "two names, one worker with spacing off", periods: twice, hands: 2, mixed: true, budget: spacingBudget{deliveries: 4, crashes: 1, late: 1, refusals: 1}},
		{name: "two names, a refusal and a stale read", periods: twice, hands: 2, budget: spacingBudget{deliveries: 4, refusals: 1, stale: 1}},
		{name: "three names", periods: append(slices.Clone(twice), twice[0]), hands: 3, budget: spacingBudget{deliveries: 4}},
		{name: "a chain", periods: chained, hands: 3, budget: spacingBudget{deliveries: 4}},
		{name: "a chain, a crash", periods: chained, hands: 2, budget: spacingBudget{deliveries: 4, crashes: 1, late: 1}},
		{name: "a chain, a refusal", periods: chained, hands: 2, budget: spacingBudget{deliveries: 4, refusals: 1}},
		{name: "weekly and monthly", periods: []spacingPeriod{{0, month, false}, {3, week, false}, {6, week, false}}, hands: 2, budget: spacingBudget{deliveries: 4, crashes: 1, late: 1}},
		{name: "one of them off-cycle", periods: []spacingPeriod{{0, month, false}, {0, month, true}, {1, month, false}}, hands: 2, budget: spacingBudget{deliveries: 4, crashes: 1, late: 1}},
	}
	for _, w := range worlds {
		w.rules = r
	}
	return worlds
}

// S84, S85, S86: periods that are too close are never both charged, none goes uncharged that was due, and no claim is left behind.
func TestModelOfClosePeriods(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	for _, w := range spacingWorlds(realSpacingRules()) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			states, story := w.explore(spacingStates())
			if story != "" {
				t.Errorf("after %d states: %s", states, story)
			}
			t.Logf("%d states", states)
		})
	}
}

// Without each rule a promise breaks.
func TestModelOfClosePeriodsNeedsEveryRule(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	for _, row := range []struct {
		name   string
		in     string // the world in which it is missed
		remove func(*spacingRules)
	}{
		{"look after the claim, not before it", "one period under two names", func(r *spacingRules) { r.looksFirst = true }},
		{"whoever takes a claim over looks as well", "one period under two names", func(r *spacingRules) { r.looksOnce = true }},
		{"an index that does not know the claim is none", "two names, stale reads", func(r *spacingRules) { r.trustsIndex = true }},
		{"a record older than the index is none", "two names, stale reads", func(r *spacingRules) { r.trustsRecords = true }},
		{"who takes over keeps the place of the claim", "one period under two names", func(r *spacingRules) { r.forgetsPlace = true }},
		{"the later one yields", "one period under two names", func(r *spacingRules) {
			r.passage = func(s State, beside []Neighbour) Way {
				s.ClaimedSeq = 0 // nobody was earlier
				return s.Passage(beside)
			}
		}},
		{"the earlier one does not yield", "one period under two names", func(r *spacingRules) {
			r.passage = func(s State, beside []Neighbour) Way {
				s.ClaimedSeq = 1 << 60
				return s.Passage(beside)
			}
		}},
		{"an open claim is waited for, not rejected for", "one period under two names", func(r *spacingRules) {
			r.passage = func(s State, beside []Neighbour) Way {
				w := s.Passage(beside)
				w.Blocked = !w.Free()
				return w
			}
		}},
		{"a claim is not taken back once a byte may have gone out", "two names, one worker with spacing off", func(r *spacingRules) {
			r.yield = func(s State, h HeldClaim, q Request, way Way, now time.Time, rules Rules) Transition {
				h.SetsClock = true
				return Yield(s, h, q, way, now, rules)
			}
		}},
		{"a claim is not taken back that somebody held who does not look", "two names, one worker with spacing off", func(r *spacingRules) {
			r.yield = func(s State, h HeldClaim, q Request, way Way, now time.Time, rules Rules) Transition {
				c := *s.Claim
				c.Unspaced, h.Claim.Unspaced = false, false
				return Yield(s.Claimed(c), h, q, way, now, rules)
			}
		}},
		{"an unresolved one may be charged", "two names, no answer for a day", func(r *spacingRules) {
			r.passage = func(s State, beside []Neighbour) Way {
				return s.Passage(slices.DeleteFunc(slices.Clone(beside), func(n Neighbour) bool { return n.State.Phase == PhaseUnresolved }))
			}
		}},
		{"a held claim is looked at before it is taken over", "one period under two names", func(r *spacingRules) {
			r.deliver = func(s State, q Request, now time.Time, rules Rules) Transition {
				if s.Claim != nil && s.Claim.Held && q.Way != nil {
					q.Way = &Way{}
				}
				return Deliver(s, q, now, rules)
			}
			r.looksOnce = true
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := realSpacingRules()
			row.remove(&r)
			for _, w := range spacingWorlds(r) {
				if w.name != row.in {
					continue
				}
				if states, story := w.explore(50_000); story != "" {
					t.Logf("%s, after %d states: %s", w.name, states, story)
					return
				}
			}
			t.Error("no promise breaks without this rule")
		})
	}
}
