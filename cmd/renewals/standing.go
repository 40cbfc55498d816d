package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/journal"
)

const instants = "2006-01-02 15:04:05.000"

// print writes the history for a person: what it is about, what happened, and how it stands.
func (h history) print(w *cli.Page, now time.Time, keyWindow time.Duration) {
	about := h.about()
	key := "-"
	if h.renewal != "" {
		key = string(h.renewal.Key())
	}
	fmt.Fprintf(w, "subscription %s, period %s, %s, %s, account %s\nrenewal key %s\n", cli.Printable(cmp.Or(string(about.SubscriptionID), "-")),
		cli.Printable(cmp.Or(string(about.Period), "-")), cli.Amount(about.OrderAmount, about.Currency), cli.Printable(cmp.Or(strings.TrimPrefix(references(about.Reference, about.Reference2), ", "), "merchant reference -")), about.Account, key)
	keys := map[messages.IdempotencyKey]bool{}
	for _, e := range h.records {
		if !keys[e.IdempotencyKey] && e.ID != "" {
			fmt.Fprintf(w, "key %s… is %s of message ID %s\n", short(e.IdempotencyKey), e.IdempotencyKey, cli.Printable(string(e.ID)))
		}
		keys[e.IdempotencyKey] = true
	}
	if len(h.records) > 0 {
		fmt.Fprintln(w)
		table := cli.NewTable("TIME (UTC)", "SINCE", "KIND", "ATTEMPT", "KEY", "TRIES", "DELIVERIES", "WORKER", "OUTCOME")
		table.Prose = true
		deliveries := map[messages.IdempotencyKey]int{}
		for i, e := range h.records {
			since := ""
			if i > 0 {
				since = "+" + cli.Lapse(e.At.Sub(h.records[i-1].At))
			}
			outcome := e.told()
			if isClaim(e.Kind) {
				if e.Deliveries > deliveries[e.IdempotencyKey] {
					outcome = e.claimed()
				}
				deliveries[e.IdempotencyKey] = e.Deliveries
			}
			table.Add(e.At.UTC().Format(instants), since, w.Paint(tone(e.Kind), string(e.Kind)), e.Attempt, short(e.IdempotencyKey), e.Tries, e.Deliveries, cli.Printable(e.Worker), outcome)
		}
		table.Print(w)
	}
	fmt.Fprintln(w)
	for _, sentence := range h.standing(now, keyWindow) {
		fmt.Fprintln(w, " ", sentence)
	}
}

// standing says in words where the renewal stands and what happens next.
func (h history) standing(now time.Time, keyWindow time.Duration) []string {
	var say []string
	add := func(format string, args ...any) { say = append(say, cli.Printable(fmt.Sprintf(format, args...))) }
	s := h.state
	say = append(say, h.leftOut()...)
	if h.stuck() {
		return say
	}
	switch s.Phase {
	case journal.PhaseNone, "":
		if len(h.records) == 0 {
			add("state: nothing recorded: no worker has claimed it yet")
		} else {
			add("state: none: nothing was charged and nothing is being charged; what was rejected is in the dead letters")
		}
	case journal.PhaseCharging, journal.PhaseCapturing:
		h.claim(now, keyWindow, add)
	case journal.PhasePending:
		add("state: pending: Klarna made order %s and is still deciding whether it is money; nothing is charged again", s.Claim.OrderID)
		add("next: the fraud status is asked for until it is final, and an operator is called when it is not within two days")
	case journal.PhasePaid, journal.PhaseCaptured, journal.PhaseCaptureFailed:
		h.order(now, add)
	case journal.PhaseDunning:
		d := h.of(messages.KindDunning)
		add("state: dunning: %s; nothing was charged", d.Reason)
		if d.NextAttemptAt != nil {
			add("next: the billing system may publish another attempt under a new message ID, suggested at %s", clock(*d.NextAttemptAt))
		} else {
			add("next: no further attempt is suggested")
		}
	case journal.PhaseUnresolved:
		h.doubt(add)
	case journal.PhaseCancelled:
		add("state: cancelled: this period will not be charged")
	default:
		add("state: %s", s.Phase)
	}
	for _, j := range h.jobs {
		add("queue: %s", queued(j, s, now))
	}
	return say
}

// doubt tells of a charge, or a capture, that is unresolved.
func (h history) doubt(add func(string, ...any)) {
	u := h.of(messages.KindUnresolved)
	next, resolve := "look in Klarna's portal for the order", "renewals resolve %s --paid --order-id ORDER   or   renewals resolve %[1]s --not-charged"
	if h.state.Capturing() {
		next, resolve = "look at the order in Klarna's portal for the capture", "renewals resolve %s --captured --capture-id CAPTURE   or   renewals resolve %[1]s --not-captured"
		add("state: unresolved capture: %s; whether Klarna captured %s is not known, and it is not asked any more", u.Reason, h.capture())
	} else {
		add("state: unresolved: %s; whether the customer was charged is not known, and Klarna is not asked any more", u.Reason)
	}
	for i, line := range h.sought() {
		add("%s%s", [...]string{"search: ", "        "}[min(i, 1)], line)
	}
	add("next: %s, then", next)
	add("      "+resolve, desk.Argument(string(u.SubscriptionID)+"/"+string(u.Period)))
}

// queued says of a job in the queue what it is and what it waits for, by the state of its renewal.
func queued(j desk.WaitingJob, s journal.State, now time.Time) string {
	what := "job"
	if j.Job == desk.CaptureJob {
		what = "capture job"
	}
	return fmt.Sprintf("%s %s, sequence %d of %s, published %s ago for account %s: %s", what, cmp.Or(string(j.ID), "without a valid ID"), j.Sequence, cmp.Or(j.Stream, messages.StreamJobs),
		age(now, j.Published), cmp.Or(j.Misaddressed, string(j.Account)), j.Standing(s, now))
}

// order tells of a renewal that is paid, and how much of its order is captured.
func (h history) order(now time.Time, add func(string, ...any)) {
	o := h.state.Order
	if o == nil {
		add("state: paid with order %s, captured with the charge; nothing more is charged for this period", h.state.Claim.OrderID)
		return
	}
	rest := o.Amount - o.Captured
	total, captured, remain := cli.Amount(o.Amount, o.Currency), cli.Amount(o.Captured, o.Currency), cli.Amount(rest, o.Currency)
	why := h.of(messages.KindCaptureFailed)
	until := "Klarna has not said until when"
	if !o.CaptureBefore.IsZero() {
		until = "capture" + before(o.CaptureBefore)
	}
	switch {
	case rest <= 0:
		add("state: captured in full: %s of order %s; nothing more is charged or captured for this period", captured, o.ID)
		return
	case h.state.Phase == journal.PhaseCaptureFailed:
		add("state: capture failed: %s; of order %s %s of %s are captured, %s remain, %s", why.Reason, o.ID, captured, total, remain, until)
	case o.Captured == 0:
		add("state: paid with order %s: %s authorised, %s; nothing more is charged for this period", o.ID, total, until)
	default:
		add("state: captured in part: %s of %s of order %s, %s remain, %s", captured, total, o.ID, remain, until)
	}
	switch late := !o.CaptureBefore.IsZero() && !now.Before(o.CaptureBefore); {
	case late:
		add("next: the authorisation ended %s ago: Klarna captures nothing more of it", cli.Lapse(now.Sub(o.CaptureBefore)))
	case h.state.Phase != journal.PhaseCaptureFailed:
		add("next: to take the money, publish a capture job: `renewals publish --capture`")
	case why.NextAttemptAt != nil:
		add("next: the billing system may publish another capture under a new message ID, suggested at %s", clock(*why.NextAttemptAt))
	default:
		add("next: no further capture is suggested; since the period has an order, nothing new is charged for it either")
	}
}

// claim tells of a charge, or a capture, that is not decided.
func (h history) claim(now time.Time, keyWindow time.Duration, add func(string, ...any)) {
	c := h.state.Claim
	doing := "charging"
	if h.state.Capturing() {
		doing = "capturing " + h.capture() + ","
	}
	add("state: %s under key %s, %d tries in %d deliveries, %d of them undecided", doing, c.Key, c.Tries, c.Deliveries, c.UndecidedTries)
	switch left := c.FirstSentAt.Add(keyWindow).Sub(now); {
	case c.FirstSentAt.IsZero():
		add("key:   Klarna has not read a request under it yet; its time does not run")
	case left > 0:
		add("key:   in use since %s, may be used for another %s; after that the renewal is unresolved", clock(c.FirstSentAt), cli.Lapse(left))
	default:
		add("key:   in use since %s, may no longer be used: the next delivery or the sweep makes the renewal unresolved", clock(c.FirstSentAt))
	}
	if c.Answered2xx {
		add("       Klarna has said yes without naming what it made: there may be an order, or a capture")
	}
	if c.Contradicted {
		add("       Klarna refused it after a try that may have succeeded")
	}
	if c.LastError != "" {
		add("       last: %s", c.LastError)
	}
	switch left := c.LeaseUntil.Sub(now); {
	case c.Held:
		add("next: it waits for another period of the subscription, which is due close to it: once that is charged this one is rejected as too_close")
	case c.Released:
		add("next: the next delivery of the job tries again under the same key")
	case left > 0:
		add("next: worker %s holds the claim for another %s; then any worker goes on under the same key", c.Worker, cli.Lapse(left))
	default:
		add("next: the claim of worker %s ended %s ago: the next delivery of the job goes on under the same key", c.Worker, cli.Lapse(-left))
	}
}
