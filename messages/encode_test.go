package messages_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/klarna-renewals/renewals/messages"
)

// What is written by hand is what encoding/json would write, whatever the fields hold, and no field is left out.
func TestEncodeIsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for _, e := range []messages.Event{filled[messages.Charging](t), filled[messages.Paid](t)} {
			got, err := messages.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(e); err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != want.String() {
				t.Fatalf("got %s, want %s", got, want.String())
			}
		}
	})
}

// filled is a value with something, or nothing, in every field.
func filled[E any](t *rapid.T) (e E) {
	fill(t, reflect.ValueOf(&e).Elem())
	return e
}

func fill(t *rapid.T, v reflect.Value) {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "plain", `"quoted" \ and <b>&`, "line\nfeed\u2028\x7f", "bad \xff UTF-8", "ünïcödé"}), rapid.StringN(0, 20, 100))
	switch field := v.Addr().Interface().(type) {
	case *time.Time:
		if rapid.Bool().Draw(t, "set") {
			*field = time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "time")).UTC()
		}
		return
	case *map[string]string:
		*field = rapid.MapOfN(text, text, 0, 3).Draw(t, "pairs")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.String:
		v.SetString(text.Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.SampledFrom([]int64{0, 1, -7, 1599, 1 << 40}).Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "flag"))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	default:
		t.Fatalf("a field of kind %s, which this test does not fill", v.Kind())
	}
}
