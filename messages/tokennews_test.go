package messages

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestTokenNewsAndSchemaAgree: the schema's example is what is published, and its fields are those of the type.
func TestTokenNewsAndSchemaAgree(t *testing.T) {
	text, _ := Schema("token")
	var schema struct {
		Properties map[string]struct{ Examples []TokenFinding }
		Examples   []json.RawMessage
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var n TokenNews
	var want, got map[string]any
	if err := json.Unmarshal(schema.Examples[0], &n); err != nil || json.Unmarshal(schema.Examples[0], &want) != nil {
		t.Fatal(err)
	}
	m, err := n.Message()
	if err != nil || json.Unmarshal(m.Data, &got) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("published %s, %v\nwant %s", m.Data, err, schema.Examples[0])
	}
	if m.Subject != "renewals.token.1234834.default" || m.Header["ce-type"][0] != "renewals.token.v1" || !strings.HasSuffix(m.Header["ce-dataschema"][0], "/schemas/token.json") {
		t.Errorf("subject %s, headers %v", m.Subject, m.Header)
	}
	if n.SubscriptionID = ""; n.Subject() != "renewals.token.%.default" {
		t.Errorf("without a subscription: %s", n.Subject())
	}
	if known := schema.Properties["finding"].Examples; !reflect.DeepEqual(known, []TokenFinding{TokenCancelling, TokenCancelled}) {
		t.Errorf("findings %v", known)
	}
	fields := reflect.TypeFor[TokenNews]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("field %s is not in the schema", name)
		}
	}
	if fields.NumField() != len(schema.Properties) {
		t.Errorf("%d fields, %d properties", fields.NumField(), len(schema.Properties))
	}
}
