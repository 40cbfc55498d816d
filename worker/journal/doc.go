// Package journal is what a renewal is and may become.
//
// The last record of a renewal, of whatever kind, carries its whole [State]. The machine is made of pure functions,
// [Deliver], [Conclude], [Polled], [Panicked], [LookedInVain] and [Sweep], from that state and an event to a [Transition]: the
// record to write, and what becomes of the message. None of them reads a clock, a stream or Klarna. [Journal.Apply] is the only way
// in which a transition becomes a record: by compare-and-set on the state that it was computed from; where that is lost,
// the new last state is read and the function asked again.
//
// Each rule is here because a system without it charged twice, lost a job or contradicted itself. The model test
// walks every interleaving of workers, crashes and answers in small worlds, and shows for each rule what happens without it: see
// there before removing one.
//
// Whether the journal itself is still the one that was written to is what [Marks] watch over.
package journal
