package messages

import (
	"encoding/base64"
	"strings"
)

// headerContentType of a message that is an event as a whole, in CloudEvents' structured content mode, begins with these
// words; every other is read in binary mode, as it always was. No message is a job in both modes: an event has a
// specversion, which a job must not have, so a lost or forged header makes a job invalid and never another job.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
const (
	eventTypes     = "application/cloudevents"
	eventType      = eventTypes + "+json"
	eventBatchType = eventTypes + "-batch"
)

// event is what surrounds the job of a message in structured mode. The zero event surrounds none.
type event struct {
	place                   string // where the job is: data or data_base64; "" where there is none
	id                      string
	hasID, badID            bool
	traceParent, traceState string // the extension of that name, "" where it could not be handed on
}

// unwrap makes the scanner read the job inside of an event, where the message is one. It reports whether there is a document
// to read; where there is none the problems, or broken, say why.
func (s *scanner) unwrap(header map[string][]string) bool {
	switch media := eventMedia(header); {
	case media == "":
		return true
	case strings.HasPrefix(media, eventBatchType):
		s.problem("found a batch of events in the header %s, expected one event in each message, as %s", headerContentType, eventType)
		return false
	case media != eventType:
		s.problem("found an event in another format in the header %s, expected JSON, as %s", headerContentType, eventType)
		return false
	}
	s.byteOrderMark()
	var job []byte
	s.document(func() { job = s.event() })
	if s.broken != "" {
		s.around = event{}
	}
	if s.broken != "" || job == nil {
		return false
	}
	s.data, s.pos = job, 0
	return true
}

// eventMedia returns the media type of a message that says that it is an event, "" of any other. Of several it is the one
// that is read last or not at all, whatever the order in which headers come.
func eventMedia(header map[string][]string) (media string) {
	for name, values := range header {
		if !strings.EqualFold(name, headerContentType) {
			continue
		}
		for _, v := range values {
			if m := mediaType(v); strings.HasPrefix(m, eventTypes) {
				media = max(media, m)
			}
		}
	}
	return media
}

// mediaType is a media type without its parameters, in lower case.
func mediaType(s string) string {
	media, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// event reads an event and returns the bytes of its job, nil where there are none to read. An attribute that is null is
// none; those that are not known are extensions, which anybody may add.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
func (s *scanner) event() (job []byte) {
	e := &s.around
	var hasVersion, hasSource, hasType, hasData, hasBase64 bool
	isObject := s.object(func(name []byte) {
		if s.next() == 'n' {
			s.literal("null")
			return
		}
		switch string(name) {
		case "specversion":
			hasVersion = true
			if text, ok := s.str(); ok && string(text) != "1.0" {
				s.problem(`found %s, expected "1.0", the version of CloudEvents`, quote(text))
			}
		case "id":
			e.hasID = true
			e.id, e.badID = s.eventID()
		case "source":
			hasSource = true
			s.nonEmpty()
		case "type":
			hasType = true
			s.nonEmpty()
		case "datacontenttype":
			if text, ok := s.str(); ok && !isJSON(string(text)) {
				s.problem("found %s, expected application/json", quote(text))
			}
		case "data":
			hasData, e.place = true, "data"
			job = s.wrapped()
		case "data_base64":
			hasBase64, e.place = true, "data_base64"
			job = s.base64()
		case "traceparent":
			e.traceParent = s.trace()
		case "tracestate":
			e.traceState = s.trace()
		default:
			s.skip()
		}
	})
	if !isObject {
		return nil
	}
	s.require("specversion", `"1.0", the version of CloudEvents`, hasVersion)
	s.require("id", "a string, the event's id", e.hasID)
	s.require("source", "a string", hasSource)
	s.require("type", "a string", hasType)
	if hasData == hasBase64 {
		if e.place = ""; hasData {
			s.problemAt("data_base64", "found it beside data, expected the job in one of the two")
		} else {
			s.require("data", "the job", false)
		}
		return nil
	}
	return job
}

func (s *scanner) nonEmpty() {
	if text, ok := s.str(); ok && len(text) == 0 {
		s.problem("found an empty string, expected a text")
	}
}

// eventID reads the id of an event; what is wrong with it is told apart from what is wrong with the job's, which has the
// same path.
func (s *scanner) eventID() (id string, bad bool) {
	if c := s.next(); c != '"' {
		s.skip()
		s.problem("found %s as the event's id, expected a string", found(c))
		return "", true
	}
	text, ok := s.str()
	return string(text), !ok
}

// wrapped reads past the job and returns its bytes as they are. What is wrong inside is found when the job is read, and its
// depth is counted from the job, as in binary mode.
func (s *scanner) wrapped() []byte {
	depth, listed, unlisted := s.depth, len(s.problems), s.unlisted
	s.depth = 0
	job := s.raw(s.skip)
	s.depth, s.problems, s.unlisted = depth, s.problems[:listed], unlisted
	return job
}

// base64 reads a string and returns the bytes that it stands for, nil where it stands for none.
func (s *scanner) base64() []byte {
	text, ok := s.str()
	if !ok {
		return nil
	}
	b, err := base64.StdEncoding.AppendDecode(make([]byte, 0, len(text)), text)
	if err != nil {
		s.problem("found a string of %d bytes that is no Base64, expected that of RFC 4648, section 4, with its padding", len(text))
		return nil
	}
	return b
}

// trace reads an extension that is handed on to the result, as [TraceContext] reads a header.
func (s *scanner) trace() string {
	if s.next() != '"' {
		s.skip()
		return ""
	}
	text, ok := s.str()
	if !ok || len(text) > maxTrace || !visible(string(text)) {
		return ""
	}
	return string(text)
}

// trace is the trace that the event came with; a state without a parent says nothing.
func (e event) trace() (traceparent, tracestate string) {
	if e.traceParent == "" {
		return "", ""
	}
	return e.traceParent, e.traceState
}

func isJSON(contentType string) bool {
	media := mediaType(contentType)
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}
