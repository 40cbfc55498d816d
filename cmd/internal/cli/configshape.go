package cli

import (
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// A shape is what a value of the configuration file must look like. The check of the file and its JSON Schema are both made of it.
type shape struct {
	is       valueKind
	about    string
	keys     map[string]*shape // of a mapping
	required []string
	of       *shape // of a list
	alone    bool   // a list of one may be written without brackets
	min, max *float64
	among    []string // of text: all that is allowed; none: anything
	pattern  string   // of text
	expected string   // what the pattern means
	flag     *kong.Flag
}

type valueKind string

const (
	isMapping  valueKind = "a mapping"
	isList     valueKind = "a list"
	isText     valueKind = "text"
	isNumber   valueKind = "a number"
	isInteger  valueKind = "a whole number"
	isYesNo    valueKind = "true or false"
	isDuration valueKind = "a duration such as 500ms, 65s, 1h30m or 120d"
)

// durationPattern is what ParseDuration reads, but for what is too long for a time.Duration.
const durationPattern = `([0-9]{1,4}d|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+)`

// fileShape is that of the whole file: accounts, and every setting of every command.
func fileShape(flags map[string]*kong.Flag) *shape {
	file := &shape{is: isMapping, about: "Settings of renewals, of all its commands. A flag wins over the environment, that over this file, that over the default.", keys: map[string]*shape{}}
	for key, flag := range flags {
		file.keys[key] = flagShape(flag)
	}
	// The one setting of renewals-desk that renewals has not: one file is for both.
	if file.keys["books"] == nil {
		file.keys["books"] = &shape{is: isText, about: "File of the books, of renewals-desk. --books, RENEWALS_BOOKS."}
	}
	file.keys["accounts"] = &shape{is: isList, about: "Klarna merchant accounts.", of: structShape(reflect.TypeFor[AccountEntry]())}
	return file
}

// FileKeys are the keys that a file may have, and those of each of its accounts.
func FileKeys(flags map[string]*kong.Flag) (file, account []string) {
	s := fileShape(flags)
	return sortedKeys(s.keys), sortedKeys(s.keys["accounts"].of.keys)
}

func flagShape(flag *kong.Flag) *shape {
	s := typeShape(flag.Target.Type())
	s.flag = flag
	s.about = strings.TrimSuffix(flag.OrigHelp, ".") + ". --" + flag.Name + ", " + variable(flag) + "."
	if flag.Default != "" {
		s.about += " Default " + flag.Default + "."
	}
	if flag.Enum != "" {
		s.among = slices.DeleteFunc(flag.EnumSlice(), func(one string) bool { return one == "" })
	}
	return s
}

func typeShape(t reflect.Type) *shape {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeShape(t.Elem())
	case t == reflect.TypeFor[time.Duration]():
		return &shape{is: isDuration}
	case t.Kind() == reflect.Slice:
		return &shape{is: isList, of: typeShape(t.Elem()), alone: true}
	case t.Kind() == reflect.Struct:
		return structShape(t)
	case t.Kind() == reflect.Bool:
		return &shape{is: isYesNo}
	case t.Kind() == reflect.Float64:
		return &shape{is: isNumber}
	case t.Kind() == reflect.String:
		return &shape{is: isText}
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		return &shape{is: isInteger, min: bound("0")}
	}
	return &shape{is: isInteger}
}

// structShape reads the tags yaml, help, enum, min, max, pattern with expected, required and, for text that is a duration, is.
func structShape(t reflect.Type) *shape {
	s := &shape{is: isMapping, keys: map[string]*shape{}}
	for field := range t.Fields() {
		key := field.Tag.Get("yaml")
		if !field.IsExported() || key == "" || key == "-" {
			continue
		}
		one := typeShape(field.Type)
		if one.is == isList {
			one.alone = false
		}
		one.about = field.Tag.Get("help")
		one.pattern, one.expected = field.Tag.Get("pattern"), field.Tag.Get("expected")
		if words := field.Tag.Get("enum"); words != "" {
			one.among = strings.Split(words, ",")
		}
		if field.Tag.Get("is") == "duration" {
			one.is = isDuration
		}
		bounded := one
		if one.of != nil {
			bounded = one.of
		}
		bounded.min, bounded.max = bound(field.Tag.Get("min")), bound(field.Tag.Get("max"))
		if _, ok := field.Tag.Lookup("required"); ok {
			s.required = append(s.required, key)
		}
		s.keys[key] = one
	}
	return s
}

func bound(text string) *float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil
	}
	return &n
}

// schema is the shape as JSON Schema.
func (s *shape) schema() map[string]any {
	j := map[string]any{}
	switch s.is {
	case isMapping:
		properties := map[string]any{}
		for key, one := range s.keys {
			properties[key] = one.schema()
		}
		j["type"], j["properties"], j["additionalProperties"] = "object", properties, false
		if len(s.required) > 0 {
			j["required"] = s.required
		}
	case isList:
		list := map[string]any{"type": "array", "items": s.of.schema()}
		if j = list; s.alone {
			j = map[string]any{"anyOf": []any{s.of.schema(), list}}
		}
	case isText:
		j["type"] = "string"
		if s.pattern != "" {
			j["pattern"] = s.pattern
		}
		if s.among != nil {
			j["enum"] = s.among
		}
	case isNumber:
		j["type"] = "number"
	case isInteger:
		j["type"] = "integer"
	case isYesNo:
		j["type"] = "boolean"
	case isDuration:
		j["anyOf"] = []any{map[string]any{"type": "string", "pattern": "^" + durationPattern + "$"}, map[string]any{"const": 0}}
	}
	if s.min != nil {
		j["minimum"] = *s.min
	}
	if s.max != nil {
		j["maximum"] = *s.max
	}
	if s.about != "" {
		j["description"] = s.about
	}
	return j
}

func WriteConfigSchema(w io.Writer, grammar *kong.Application) error {
	schema := fileShape(SettingFlags(grammar)).schema()
	schema["$schema"], schema["title"] = "https://json-schema.org/draft/2020-12/schema", "Configuration of renewals"
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(schema)
}

// nearest is the one of some words that was most likely meant, "" where none is near.
func nearest(word string, among []string) string {
	best, least := "", 1+len(word)/3
	for _, candidate := range among {
		if d := edits(word, candidate); d <= least && (best == "" || d < least) {
			best, least = candidate, d
		}
	}
	return best
}

// edits is how many letters have to be added, taken away, changed or swapped with their neighbour to turn one word into another.
func edits(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			changed := last[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, changed)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
