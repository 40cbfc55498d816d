package journal

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// TestStateIsJSON: what is written by hand reads back as what encoding/json would
// write, whatever the fields hold, and no field is left out.
func TestStateIsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		fill(t, reflect.ValueOf(&s).Elem())
		s.Version = stateVersion
		got, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if s.Phase == "" {
			s.Phase = PhaseNone
		}
		text, err := json.Marshal(s.spare())
		if err != nil {
			t.Fatal(err)
		}
		var gotFields, wantFields any
		if err := json.Unmarshal([]byte(got), &gotFields); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if err := json.Unmarshal(text, &wantFields); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(gotFields, wantFields) {
			t.Fatalf("got  %s\nwant %s", got, text)
		}
	})
}

// fill puts something, or nothing, into every field.
func fill(t *rapid.T, v reflect.Value) {
	switch field := v.Addr().Interface().(type) {
	case *time.Time:
		if rapid.Bool().Draw(t, "set") {
			*field = time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "time")).UTC()
		}
		return
	case *map[messages.IdempotencyKey]Settlement:
		*field = map[messages.IdempotencyKey]Settlement{}
		for _, k := range rapid.SliceOfN(rapid.StringN(1, 10, 40), 0, 3).Draw(t, "keys") {
			var e Settlement
			fill(t, reflect.ValueOf(&e).Elem())
			(*field)[messages.IdempotencyKey(k)] = e
		}
		return
	case *map[messages.IdempotencyKey]int:
		*field = rapid.MapOfN(rapid.Map(rapid.StringN(1, 10, 40), func(k string) messages.IdempotencyKey { return messages.IdempotencyKey(k) }), rapid.IntRange(0, 20), 0, 3).Draw(t, "counts")
		return
	case *map[string]string:
		*field = rapid.MapOfN(rapid.StringN(1, 10, 40), rapid.StringN(0, 10, 40), 0, 3).Draw(t, "pairs")
		return
	case *[]messages.Problem:
		return
	case *[]string:
		*field = rapid.SliceOfN(rapid.OneOf(rapid.Just(`"a" \ <b>&`+"\n\u2028"), rapid.StringN(0, 20, 100)), 0, 3).Draw(t, "texts")
		return
	case *[]int:
		*field = rapid.SliceOfN(rapid.IntRange(1, 100), 0, 4).Draw(t, "days")
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.SampledFrom([]string{"", `"a" \ <b>&` + "\n\u2028"}), rapid.StringN(0, 20, 100)).Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.SampledFrom([]int64{0, 1, -7, 1599}).Draw(t, "number"))
	case reflect.Uint64:
		v.SetUint(rapid.SampledFrom([]uint64{0, 1, 1 << 50}).Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "flag"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("a field of kind %s, which this test does not fill", v.Kind())
	}
}
