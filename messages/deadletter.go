package messages

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxHeader bounds a dead letter's headers, in bytes. nats-server refuses more than 64 KiB, and headers count towards
	// max_payload with a body that may be as large as the stream takes.
	maxHeader       = 16 << 10
	maxHeaderErrors = 4 << 10
	maxDropped      = 1 << 10
)

// DeadLetter is what a rejected or unresolved job is kept with, beside its payload as received.
type DeadLetter struct {
	Reason   Reason
	Errors   []Problem
	Account  Account
	Stream   string // where the job came from
	Sequence uint64 // of the job in that stream
	// Subject is where the job was published, and where a replay of it goes. A letter without one is of a time when every
	// job came on [DueSubject].
	Subject  string
	At       time.Time
	Original map[string][]string // the job's own headers
}

// Header returns the headers of the dead letter, Nats-Msg-Id among them: reason, the job's stream and sequence and the hex
// SHA-256 of its payload, so that a letter published again is one letter, and neither another reason nor the job of a
// stream that was made anew is taken for it.
func (d DeadLetter) Header(payload []byte) nats.Header {
	sum := sha256.Sum256(payload)
	errors, _ := json.Marshal(firstProblems(d.Errors, maxHeaderErrors))
	h := nats.Header{
		HeaderMsgID:    {fmt.Sprintf("%s/%s/%d/%x", d.Reason, d.Stream, d.Sequence, sum)},
		HeaderReason:   {string(d.Reason)},
		HeaderErrors:   {string(errors)},
		HeaderAccount:  {string(d.Account)},
		HeaderStream:   {d.Stream},
		HeaderSequence: {strconv.FormatUint(d.Sequence, 10)},
		HeaderAt:       {instant(d.At).Format(time.RFC3339Nano)},
	}
	if d.Subject != "" {
		h[HeaderSubject] = []string{oneLine(d.Subject)}
	}
	size := 0
	for name, values := range h {
		size += headerSize(name, values)
	}
	var dropped []string
	for _, name := range slices.SortedFunc(maps.Keys(d.Original), func(a, b string) int {
		return cmp.Or(headerSize(a, d.Original[a])-headerSize(b, d.Original[b]), strings.Compare(a, b))
	}) {
		copied := make([]string, len(d.Original[name]))
		for i, v := range d.Original[name] {
			copied[i] = oneLine(v)
		}
		n := headerSize(PrefixOriginal+name, copied)
		if !validHeaderName(name) || size+n > maxHeader-maxDropped {
			dropped = append(dropped, name)
			continue
		}
		h[PrefixOriginal+name] = copied
		size += n
	}
	if len(dropped) > 0 {
		h[HeaderDropped] = []string{droppedNames(dropped)}
	}
	return h
}

// headerSize is what a header takes on the wire: name, colon, space and CR LF for each value.
func headerSize(name string, values []string) (n int) {
	for _, v := range values {
		n += len(name) + len(v) + 4
	}
	return n
}

// firstProblems returns as many problems as take at most limit bytes as JSON.
func firstProblems(problems []Problem, limit int) []Problem {
	size := len("[]")
	for i, p := range problems {
		b, _ := json.Marshal(p)
		if size += len(b) + 1; size > limit {
			return problems[:i]
		}
	}
	return problems[:len(problems):len(problems)]
}

func droppedNames(names []string) string {
	slices.Sort(names)
	list := ""
	for i, name := range names {
		name = oneLine(strings.ReplaceAll(cut(name, maxName), ",", " "))
		if len(list)+len(name) > maxDropped-2*maxName {
			return list + fmt.Sprintf(", and %d more", len(names)-i)
		}
		if i > 0 {
			list += ", "
		}
		list += name
	}
	return list
}

// oneLine makes s a header value: a control character would end it, or begin another header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// validHeaderName reports whether the client library will send a header of this name.
func validHeaderName(name string) bool {
	return visible(name) && !strings.ContainsAny(name, " :")
}

// ParseDeadLetter reads the headers that [DeadLetter.Header] wrote. The error says which of them is not as written.
func ParseDeadLetter(header map[string][]string) (d DeadLetter, err error) {
	first := func(name string) string {
		if v := values(header, name); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	d = DeadLetter{
		Reason: Reason(first(HeaderReason)), Stream: first(HeaderStream), Subject: first(HeaderSubject), Original: map[string][]string{},
	}
	if d.Account, err = ParseAccount(first(HeaderAccount)); err != nil {
		return DeadLetter{}, fmt.Errorf("read header %s: %w", HeaderAccount, err)
	}
	if d.Sequence, err = strconv.ParseUint(first(HeaderSequence), 10, 64); err != nil {
		return DeadLetter{}, fmt.Errorf("read header %s: %w", HeaderSequence, err)
	}
	if d.At, err = time.Parse(time.RFC3339, first(HeaderAt)); err != nil {
		return DeadLetter{}, fmt.Errorf("read header %s: %w", HeaderAt, err)
	}
	if err = json.Unmarshal([]byte(first(HeaderErrors)), &d.Errors); err != nil {
		return DeadLetter{}, fmt.Errorf("read header %s: %w", HeaderErrors, err)
	}
	for name, values := range header {
		if len(name) > len(PrefixOriginal) && strings.EqualFold(name[:len(PrefixOriginal)], PrefixOriginal) {
			d.Original[name[len(PrefixOriginal):]] = values
		}
	}
	return d, nil
}

// Replay returns the headers under which the payload of a dead letter is published once more on its Subject: sequence is
// the dead letter's own, and msgID a fresh Nats-Msg-Id. The job's ID stays what it was: one that came in Nats-Msg-Id
// travels in ce-id.
func (d DeadLetter) Replay(sequence uint64, msgID string) nats.Header {
	h := nats.Header{
		HeaderMsgID:  {msgID},
		HeaderReplay: {strconv.FormatUint(sequence, 10)},
	}
	for _, name := range []string{headerTraceParent, headerTraceState, headerContentType} {
		if v := values(d.Original, name); len(v) > 0 {
			h[name] = v[:1]
		}
	}
	if len(h[headerTraceParent]) > 0 {
		h[headerTraceDest] = []string{notTraced}
	}
	switch id, event := values(d.Original, HeaderMsgID), values(d.Original, headerCloudEventID); {
	case len(event) > 0:
		h[headerCloudEventID] = event
	case len(id) > 0 && len(values(d.Original, HeaderReplay)) == 0:
		h[headerCloudEventID] = []string{percentEncode(id[0])}
	}
	return h
}
