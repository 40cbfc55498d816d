package messages

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth    = 64
	maxProblems = 100
	maxQuoted   = 20 // longer strings are described, not quoted: part of a token would still be a secret
	maxName     = 64
)

// scanner reads a JSON document (RFC 8259) strictly, once, from front to back. Package encoding/json cannot be used:
// it lets the last of two equal names win and takes ORDER_AMOUNT for order_amount, so that what was validated need not be
// what Klarna reads. A scanner on Go's jsontext would do, and was measured: it costs 4 µs a job
// more, while the processor time of a renewal is to stay within 1.6 times that of a bare loop (test/bench). When that
// bound is dropped, or jsontext is as fast, drop this.
//
// What is wrong with a value becomes a [Problem] at its path and reading goes on behind it. Only where the document is
// not JSON at all does reading end, and broken say why.
type scanner struct {
	data   []byte
	pos    int
	depth  int
	broken string

	path     []step
	names    [][]byte // of the objects that are open, outermost first
	problems []Problem
	warnings []Problem
	unlisted int  // problems beyond maxProblems
	repeated bool // a name at the top level

	around  event // of a message in structured mode
	rules   Rules
	nothing bool     // order_amount is 0
	groups  [2]group // of subscriptions: the first, and another
}

type step struct {
	name  []byte // of a field, or nil
	index int    // of an element
}

// document reads the only value there may be.
func (s *scanner) document(value func()) {
	value()
	if s.space(); s.broken == "" && s.pos < len(s.data) {
		s.fail("expected nothing after the end of the document")
	}
}

func (s *scanner) fail(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf("found no valid JSON at byte %d: ", s.pos) + fmt.Sprintf(format, args...)
	}
	s.pos = len(s.data)
}

func (s *scanner) space() {
	i := s.pos
	for i < len(s.data) && s.data[i] <= ' ' && (s.data[i] == ' ' || s.data[i] == '\n' || s.data[i] == '\r' || s.data[i] == '\t') {
		i++
	}
	s.pos = i
}

// next returns the first byte of the coming value, 0 at the end.
func (s *scanner) next() byte {
	if s.space(); s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// found names the coming value by its first byte.
func found(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// is reports whether the coming value begins with c. Otherwise it reads past that value and notes what was expected.
func (s *scanner) is(c byte, expected string) bool {
	if s.next() == c {
		return true
	}
	s.mismatch(expected)
	return false
}

// mismatch reads past a value of the wrong type.
func (s *scanner) mismatch(expected string) {
	got := s.next()
	if s.skip(); s.broken == "" {
		s.problem("found %s, expected %s", found(got), expected)
	}
}

// object reads an object, calling field with each name once; field reads the value. It reports whether there was one.
func (s *scanner) object(field func(name []byte)) bool {
	if !s.is('{', "an object") || !s.enter() {
		return false
	}
	base := len(s.names)
	var many map[string]bool // instead of names once there are many
	for s.next() != '}' {
		if len(s.names) > base && !s.comma() {
			return false
		}
		if s.next() != '"' {
			s.fail("expected a name in double quotes")
			return false
		}
		name := s.content()
		if s.next() != ':' {
			s.fail("expected a colon")
			return false
		}
		s.pos++

		repeated := false
		if len(s.names)-base < 32 {
			for _, other := range s.names[base:] {
				repeated = repeated || bytes.Equal(other, name)
			}
			s.names = append(s.names, name)
		} else {
			if many == nil {
				many = make(map[string]bool, 64)
				for _, other := range s.names[base:] {
					many[string(other)] = true
				}
			}
			repeated = many[string(name)]
			many[string(name)] = true
		}

		s.path = append(s.path, step{name: name})
		switch {
		case repeated:
			s.repeated = s.repeated || s.depth == 1
			s.problem("found this name twice, expected it once")
			s.skip()
		case !utf8.Valid(name):
			s.problem("found a name that is not valid UTF-8")
			s.skip()
		default:
			field(name)
		}
		s.path = s.path[:len(s.path)-1]
		if s.broken != "" {
			return false
		}
	}
	s.names = s.names[:base]
	s.leave()
	return true
}

// array reads an array, calling element for each element, which reads it. It reports whether there was one.
func (s *scanner) array(element func(i int)) bool {
	if !s.is('[', "an array") || !s.enter() {
		return false
	}
	for i := 0; s.next() != ']'; i++ {
		if i > 0 && !s.comma() {
			return false
		}
		s.path = append(s.path, step{index: i})
		element(i)
		s.path = s.path[:len(s.path)-1]
		if s.broken != "" {
			return false
		}
	}
	s.leave()
	return true
}

func (s *scanner) enter() bool {
	s.pos++
	if s.depth++; s.depth > maxDepth {
		s.fail("expected at most %d levels of nesting", maxDepth)
	}
	return s.broken == ""
}

func (s *scanner) leave() {
	s.pos++
	s.depth--
}

// comma reads the separator, behind which another name or element has to follow.
func (s *scanner) comma() bool {
	if s.next() != ',' {
		s.fail("expected a comma or the end of the object or array")
		return false
	}
	s.pos++
	if c := s.next(); c == '}' || c == ']' {
		s.fail("expected no comma before the end of the object or array")
		return false
	}
	return true
}

// skip reads any value, as strictly as every other.
func (s *scanner) skip() {
	switch c := s.next(); {
	case c == '{':
		s.object(func([]byte) { s.skip() })
	case c == '[':
		s.array(func(int) { s.skip() })
	case c == '"':
		if !utf8.Valid(s.content()) {
			s.problem("found a string that is not valid UTF-8")
		}
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	default:
		s.number()
	}
}

// raw reads any value and returns its bytes as they are.
func (s *scanner) raw(value func()) []byte {
	s.space()
	start := s.pos
	value()
	if s.broken != "" {
		return nil
	}
	return s.data[start:s.pos:s.pos]
}

func (s *scanner) literal(word string) {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		s.fail("expected a value")
		return
	}
	s.pos += len(word)
}

func (s *scanner) boolean() (value, ok bool) {
	switch c := s.next(); c {
	case 't':
		s.literal("true")
		return true, s.broken == ""
	case 'f':
		s.literal("false")
		return false, s.broken == ""
	default:
		s.mismatch("true or false")
		return false, false
	}
}

// number reads a number and returns it as it is written.
func (s *scanner) number() []byte {
	start := s.pos
	digits := func() {
		from := s.pos
		for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
			s.pos++
		}
		if s.pos == from {
			s.fail("expected a digit")
		}
	}
	at := func(chars string) bool { return s.pos < len(s.data) && strings.IndexByte(chars, s.data[s.pos]) >= 0 }

	if !at("-0123456789") {
		s.fail("expected a value")
	}
	if at("-") {
		s.pos++
	}
	if at("0") {
		s.pos++
	} else {
		digits()
	}
	if at(".") {
		s.pos++
		digits()
	}
	if at("eE") {
		s.pos++
		if at("+-") {
			s.pos++
		}
		digits()
	}
	if s.broken != "" {
		return nil
	}
	return s.data[start:s.pos]
}

// integer reads a whole number of 64 bits from least to most.
func (s *scanner) integer(least, most int64) (int64, bool) {
	c := s.next()
	if c != '-' && (c < '0' || c > '9') {
		s.mismatch(expectedInteger(least, most))
		return 0, false
	}
	text := s.number()
	if s.broken != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	written := err == nil
	if !written {
		n, written = whole(text)
	}
	if !written || n < least || n > most {
		shown := string(text)
		if len(shown) > maxQuoted {
			shown = fmt.Sprintf("a number of %d digits", len(shown))
		}
		s.problem("found %s, expected %s", shown, expectedInteger(least, most))
		return 0, false
	}
	if err != nil {
		s.warning(WarnFraction, "found %s, expected %d", brief(text), n)
	}
	return n, true
}

func expectedInteger(least, most int64) string {
	if most == math.MaxInt64 {
		return fmt.Sprintf("an integer of 64 bits from %d", least)
	}
	return fmt.Sprintf("an integer from %d to %d", least, most)
}

// str reads a string. ok is false where there is none, or one that is not valid UTF-8.
func (s *scanner) str() (_ []byte, ok bool) {
	if !s.is('"', "a string") {
		return nil, false
	}
	text := s.content()
	if s.broken != "" {
		return nil, false
	}
	if !utf8.Valid(text) {
		s.problem("found a string that is not valid UTF-8")
		return nil, false
	}
	return text, true
}

// content reads the string that begins here and returns what it means: the bytes as they are where nothing is escaped.
// The escape of half a surrogate pair, which no UTF-8 can express, gives a byte that is not valid UTF-8.
func (s *scanner) content() []byte {
	data, start := s.data, s.pos+1
	var unescaped []byte
	for i := start; ; {
		for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' {
			i++
		}
		s.pos = i
		switch {
		case i == len(data):
			s.fail("expected the end of a string")
			return nil
		case data[i] == '"':
			s.pos++
			if unescaped != nil {
				return append(unescaped, data[start:i]...)
			}
			return data[start:i]
		case data[i] == '\\':
			unescaped = append(unescaped, data[start:i]...)
			if unescaped = s.escaped(unescaped); s.broken != "" {
				return nil
			}
			i, start = s.pos, s.pos
		default:
			s.fail("expected control characters in strings to be escaped")
			return nil
		}
	}
}

// The one-letter escapes of JSON, and what each means.
const (
	escapeLetters  = `"\/bfnrt`
	escapeMeanings = "\"\\/\b\f\n\r\t"
)

// escaped reads one escape sequence and appends what it means to b.
func (s *scanner) escaped(b []byte) []byte {
	if s.pos+1 >= len(s.data) {
		s.fail("expected the end of a string")
		return b
	}
	if i := strings.IndexByte(escapeLetters, s.data[s.pos+1]); i >= 0 {
		s.pos += 2
		return append(b, escapeMeanings[i])
	}
	r, ok := s.unicodeEscape(s.pos)
	if !ok {
		s.fail("expected a valid escape sequence")
		return b
	}
	s.pos += 6
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(b, r)
	}
	if low, ok := s.unicodeEscape(s.pos); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			s.pos += 6
			return utf8.AppendRune(b, pair)
		}
	}
	return append(b, 0xff)
}

// unicodeEscape returns the value of the \uXXXX at pos.
func (s *scanner) unicodeEscape(pos int) (rune, bool) {
	if len(s.data) < pos+6 || s.data[pos] != '\\' || s.data[pos+1] != 'u' {
		return 0, false
	}
	n := rune(0)
	for _, c := range s.data[pos+2 : pos+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	return n, true
}

// problem notes what is wrong with the value that is being read.
func (s *scanner) problem(format string, args ...any) {
	if s.full() {
		s.unlisted++
		return
	}
	s.problems = append(s.problems, Problem{Path: s.where(), Message: fmt.Sprintf(format, args...)})
}

func (s *scanner) problemAt(path, format string, args ...any) {
	if s.full() {
		s.unlisted++
		return
	}
	s.problems = append(s.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// full reports whether further problems are only counted, so that a hostile document costs no more than a good one.
func (s *scanner) full() bool { return len(s.problems) >= maxProblems }

func (s *scanner) warning(kind WarningKind, format string, args ...any) {
	if len(s.warnings) < maxProblems {
		s.warnings = append(s.warnings, Problem{s.where(), fmt.Sprintf(format, args...), kind})
	}
}

func (s *scanner) warningAt(kind WarningKind, path, format string, args ...any) {
	if len(s.warnings) < maxProblems {
		s.warnings = append(s.warnings, Problem{path, fmt.Sprintf(format, args...), kind})
	}
}

// at is the path of a field of the object that is being read.
func (s *scanner) at(field string) string {
	if len(s.path) == 0 {
		return field
	}
	return s.where() + "." + field
}

// where is the path of the value that is being read.
func (s *scanner) where() string {
	if len(s.path) == 0 {
		return "$"
	}
	var b strings.Builder
	for i, p := range s.path {
		switch {
		case p.name == nil:
			fmt.Fprintf(&b, "[%d]", p.index)
		case len(p.name) > maxName:
			fmt.Fprintf(&b, "[a name of %d bytes]", len(p.name))
		case !plain(p.name):
			fmt.Fprintf(&b, "[%+q]", p.name)
		case i == 0:
			b.Write(p.name)
		default:
			b.WriteByte('.')
			b.Write(p.name)
		}
		if b.Len() > 4*maxName && i+1 < len(s.path) {
			b.WriteString("…")
			break
		}
	}
	return b.String()
}

// plain reports whether a name reads well in a path without quotes.
func plain(name []byte) bool {
	for _, c := range name {
		if !unreserved(c) || c == '.' || c == '~' {
			return false
		}
	}
	return len(name) > 0
}

// brief is a short text as it is, and how long a longer one is.
func brief(text []byte) string {
	if len(text) > maxQuoted {
		return fmt.Sprintf("%d bytes", len(text))
	}
	return string(text)
}

func runes(text []byte) int { return utf8.RuneCount(text) }

// quote shows a short string, and says how long a longer one is.
func quote(text []byte) string {
	if len(text) > maxQuoted {
		return fmt.Sprintf("a string of %d bytes", len(text))
	}
	return strconv.QuoteToASCII(string(text))
}

func (s *scanner) require(field, expected string, found bool) {
	if !found {
		s.problemAt(s.at(field), "found nothing, expected %s", expected)
	}
}

// group is what stands between the braces of a subscription's name on a line.
type group struct {
	id   []byte
	line int
}

// null reads null in place of an optional field, and says whether it was there.
func (s *scanner) null() bool {
	if s.next() != 'n' {
		return false
	}
	if s.literal("null"); s.broken == "" {
		s.warning(WarnNull, "found null, expected the field to be left out")
	}
	return true
}

// whole returns the integer that is written with a fraction or an exponent: 1999.0, 2e3.
func whole(text []byte) (n int64, ok bool) {
	if len(text) > 64 || !bytes.ContainsAny(text, ".eE") {
		return 0, false
	}
	if _, exponent, has := strings.Cut(strings.ToLower(string(text)), "e"); has && len(strings.TrimLeft(exponent, "+-0")) > 2 {
		return 0, false // it would take memory
	}
	r, ok := new(big.Rat).SetString(string(text))
	if !ok || !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	return r.Num().Int64(), true
}

// byteOrderMark refuses one by its name: RFC 8259 forbids it, and it cannot be seen.
func (s *scanner) byteOrderMark() {
	if bytes.HasPrefix(s.data, []byte("\ufeff")) || bytes.HasPrefix(s.data, []byte{0xfe, 0xff}) || bytes.HasPrefix(s.data, []byte{0xff, 0xfe}) {
		s.fail("expected the document to begin with no byte order mark (U+FEFF), in UTF-8")
	}
}
