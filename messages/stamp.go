package messages

import (
	"bytes"
	"encoding/json"
)

// An Option alters a job before its bytes are made.
type Option func(*Job)

// Stamped puts the job's ID into the order's merchant_reference2 where that is not set, before the bytes are frozen: Klarna's
// settlements then name the very attempt, which is evidence where an outcome stays unknown. Everything else stays byte for byte as it
// is; an order that is no JSON object, too.
func Stamped(j *Job) {
	if j.ID == "" {
		return
	}
	start, end, found, ok := member(j.Order, "merchant_reference2")
	if !ok {
		return
	}
	stamp := appendString(nil, string(j.ID))
	switch value := string(j.Order[start:end]); {
	case found && value != `""` && value != "null":
	case found:
		j.Order = bytes.Join([][]byte{j.Order[:start], stamp, j.Order[end:]}, nil)
	default:
		field := append([]byte(`"merchant_reference2":`), stamp...)
		if rest := bytes.TrimLeft(j.Order[start:], " \t\r\n"); len(rest) > 0 && rest[0] != '}' {
			field = append(field, ',')
		}
		j.Order = bytes.Join([][]byte{j.Order[:start], field, j.Order[start:]}, nil)
	}
}

// member finds the value of a member of a JSON object; where there is none, start is behind the opening brace. ok is false where
// text is no object, or has the member twice.
func member(text []byte, name string) (start, end int, found, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return 0, 0, false, false
	}
	behind := int(decoder.InputOffset())
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return 0, 0, false, false
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return 0, 0, false, false
		}
		if key != name {
			continue
		}
		if found {
			return 0, 0, false, false
		}
		end = int(decoder.InputOffset())
		start, found = end-len(value), true
	}
	if closing, err := decoder.Token(); err != nil || closing != json.Delim('}') {
		return 0, 0, false, false
	}
	if !found {
		start, end = behind, behind
	}
	return start, end, found, true
}
