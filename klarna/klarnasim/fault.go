package klarnasim

import (
	"net/http"
	"strconv"
	"strings"
)

// fault replaces an answer for some tries of a key.
type fault struct {
	answer  reply
	created bool // the order is made, or refused, all the same
	tries   int  // the first tries of a key; always is for ever
	late    bool // the order is made after the answer, see Options.LateBy
}

const always = -1

// faultWords are the faults that have a name; the longer of two that match comes first.
func faultWords() []faultWord {
	return []faultWord{
		{"cut-headers", reply{status: http.StatusOK, shape: cutHeaders, body: blankOrder()}, "the connection is cut after the headers"},
		{"cut-body", reply{status: http.StatusOK, shape: cutBody, body: blankOrder()}, "the connection is cut in the body"},
		{"cut", reply{shape: cut}, "the connection is cut without an answer"},
		{"empty-200", reply{status: http.StatusOK, shape: bare}, "200 without a body"},
		{"no-id-200", reply{status: http.StatusOK, shape: noID}, "200 with {}"},
		{"broken-200", reply{status: http.StatusOK, shape: half, body: blankOrder()}, "200 with half an answer"},
		{"late-answer", reply{status: http.StatusGatewayTimeout, shape: overtaken}, "the order is made, but answered 504, and the answer comes late, to whoever asks next on the connection"},
	}
}

type faultWord struct {
	text   string
	answer reply
	says   string // what Klarna does, in a line
}

// takeFault takes one fault off the beginning of *rest, and leaves *rest alone when there is none.
func takeFault(rest *string) (fault, bool) {
	f := fault{tries: always}
	left := *rest
	if take(&left, "created-") {
		f.created, f.tries = true, 1
	}
	word, ok := "", false
	for _, known := range faultWords() {
		if !strings.HasPrefix(left, known.text) {
			continue
		}
		if known.answer.shape == overtaken {
			f.created, f.tries = true, 1
		}
		if word, left, ok = strings.Cut(left[len(known.text):], "-"); ok && f.repeat(word) {
			f.answer, *rest = known.answer, left
			return f, true
		}
		return fault{}, false
	}
	if word, left, ok = strings.Cut(left, "-"); !ok || len(word) < 3 || !f.repeat(word[3:]) {
		return fault{}, false
	}
	status, err := strconv.ParseUint(word[:3], 10, 16)
	if err != nil || status < 300 || status > 599 {
		return fault{}, false
	}
	if f.answer = refuse(int(status), ""); status < 400 {
		f.answer = reply{status: int(status), shape: bare, location: "https://moved.example/"}
	}
	word, after, ok := strings.Cut(left, "-")
	switch {
	case !ok:
	case word == "bare":
		f.answer.shape, left = bare, after
	case word == "html":
		f.answer.shape, left = html, after
	case word == "uncoded":
		f.answer.shape, left = uncoded, after
	case word == "numbered":
		f.answer.shape, left = numbered, after
	case isCode(word):
		f.answer.code, left = word, after
	}
	*rest = left
	return f, true
}

// repeat reads "" or "x3", the number of tries that f spoils.
func (f *fault) repeat(word string) bool {
	if word == "" {
		return true
	}
	digits, ok := strings.CutPrefix(word, "x")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil {
		return false
	}
	f.tries = int(n)
	return true
}

// isCode tells an error_code from the rest of a token: capitals, or small letters with a line below, which no beginning has.
func isCode(word string) bool {
	other := func(first, last rune) bool {
		return strings.IndexFunc(word, func(r rune) bool { return r != '_' && (r < first || r > last) }) >= 0
	}
	return len(word) >= 3 && (!other('A', 'Z') || strings.Contains(word, "_") && !other('a', 'z'))
}

// blankOrder is the body of an answer that is never read to its end.
func blankOrder() []byte {
	return []byte(`{"order_id":"00000000-0000-4000-a000-000000000000","fraud_status":"ACCEPTED"}`)
}

// chance draws the fault that a try meets at random, by its key and number.
func chance(o *Options, key string, try int) (fault, bool) {
	if o.Faults <= 0 {
		return fault{}, false
	}
	x := mix(mixString(o.Seed, key), uint64(try))
	if share(x) >= o.Faults {
		return fault{}, false
	}
	words := [...]string{
		"429-", "503-", "503-bare-", "502-html-", "500-", "cut-",
		"created-503-bare-", "created-500-", "created-cut-", "created-cut-body-", "created-empty-200-", "created-broken-200-",
		"late-500-", "late-500-TIMEOUT-", "late-502-html-", "late-504-bare-", "late-408-",
	}
	word := words[mix(x, 2)%uint64(len(words))]
	early := take(&word, "late-")
	f, ok := takeFault(&word)
	f.late = early
	return f, ok
}
