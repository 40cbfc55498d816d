package messages_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compile(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	b, ok := messages.Schema(name)
	if !ok {
		t.Fatalf("no schema %q", name)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validates reports whether the schema accepts a document. One that is not JSON it never sees, and one that is not UTF-8
// it sees repaired: neither is its business.
func validates(schema *jsonschema.Schema, document []byte) bool {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	return err != nil || !utf8.Valid(document) || schema.Validate(doc) == nil
}
