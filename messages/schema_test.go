package messages_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/klarna-renewals/renewals/messages"
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

// object is what these tests look at in a schema.
type object struct {
	ID          string `json:"$id"`
	Dialect     string `json:"$schema"`
	Title       string
	Description string
	Required    []string
	Properties  map[string]json.RawMessage
	Defs        map[string]object `json:"$defs"`
	Items       json.RawMessage
	Examples    []json.RawMessage
}

func (o object) property(t testing.TB, name string) (p object) {
	t.Helper()
	if err := json.Unmarshal(o.Properties[name], &p); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

// known are the values of an open list.
func (o object) known(t testing.TB) (values []string) {
	t.Helper()
	for _, example := range o.Examples {
		var value string
		if err := json.Unmarshal(example, &value); err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	return values
}

func readSchema(t testing.TB, name string) (o object) {
	t.Helper()
	b, _ := messages.Schema(name)
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return o
}

// fields are the JSON names of a Go type, true where encoding never leaves it out.
func fields(of reflect.Type) map[string]bool {
	all := map[string]bool{}
	for _, f := range reflect.VisibleFields(of) {
		if name, option, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			all[name] = option == ""
		}
	}
	return all
}

// No field is in a Go type only, or in a schema only, and what is always there is required.
func TestResultsAndSchemasAgree(t *testing.T) {
	t.Parallel()
	common := fields(reflect.TypeFor[messages.Record]())
	charging := readSchema(t, string(messages.KindCharging))
	brief := []string{"id", "order_amount", "purchase_currency", "token_fingerprint"} // all that a claim's body always has, see messages.EncodeClaim
	for _, event := range []messages.Event{
		messages.Charging{}, messages.Pending{}, messages.Paid{}, messages.Dunning{}, messages.Unresolved{}, messages.Rejected{}, messages.Cancelled{},
		messages.Capturing{}, messages.Captured{}, messages.CaptureFailed{},
	} {
		name := string(event.Kind())
		schema := readSchema(t, name)
		inGo := fields(reflect.TypeOf(event))
		if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(inGo)); !slices.Equal(got, want) {
			t.Errorf("%s: got fields %v in the schema, want those of Go, %v", name, got, want)
		}
		for field, always := range inGo {
			if event.Kind() == messages.KindCharging && !slices.Contains(brief, field) {
				always = false
			}
			if always && !slices.Contains(schema.Required, field) {
				t.Errorf("%s: %s is always there, want it required", name, field)
			}
		}
		for field := range common {
			if !bytes.Equal(schema.Properties[field], charging.Properties[field]) {
				t.Errorf("%s: %s is described in another way than in charging", name, field)
			}
		}
		if want := messages.SchemaID(name); schema.ID != want || schema.Dialect != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: got $id %s and $schema %s", name, schema.ID, schema.Dialect)
		}
		var reasons []string
		for _, r := range messages.Reasons(event.Kind()) {
			reasons = append(reasons, string(r))
		}
		if _, has := schema.Properties["reason"]; has || reasons != nil {
			if got := schema.property(t, "reason").known(t); !slices.Equal(got, reasons) {
				t.Errorf("%s: got reasons %v, want %v", name, got, reasons)
			}
		}
	}
}

func TestJobAndSchemaAgree(t *testing.T) {
	t.Parallel()
	schema := readSchema(t, "job")
	inGo := fields(reflect.TypeFor[messages.Job]())
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(inGo)); !slices.Equal(got, want) {
		t.Errorf("got fields %v in the schema, want those of Go, %v", got, want)
	}
	delete(inGo, "id") // it may come in a header
	for field, always := range inGo {
		if always != slices.Contains(schema.Required, field) {
			t.Errorf("%s: required differs between Go and schema", field)
		}
	}

	// Of the order there is no Go type: what counts is which names the code of each object knows.
	known := switchNames(t, "order.go")
	order, line := schema.Defs["order"], schema.Defs["order_line"]
	for method, described := range map[string]object{
		"orderField": order, "lineField": line, "address": schema.Defs["address"], "subscription": line.property(t, "subscription"),
		"productIdentifiers": line.property(t, "product_identifiers"), "merchantURLs": order.property(t, "merchant_urls"), "attachment": order.property(t, "attachment"),
	} {
		if got, want := slices.Sorted(maps.Keys(described.Properties)), known[method]; len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: got fields %v in the schema, want those of Go, %v", method, got, want)
		}
	}

	if len(schema.Examples) == 0 {
		t.Error("got no example of a job")
	}
	for _, example := range schema.Examples {
		if r := messages.Read(example, nil); len(r.Problems)+len(r.Warnings) > 0 || !validates(compile(t, "job"), example) {
			t.Errorf("example: %s %s", report(r.Problems), report(r.Warnings))
		}
	}
}

func TestCaptureAndSchemaAgree(t *testing.T) {
	t.Parallel()
	schema := readSchema(t, "capture")
	inGo := fields(reflect.TypeFor[messages.Capture]())
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), slices.Sorted(maps.Keys(inGo)); !slices.Equal(got, want) {
		t.Errorf("got fields %v in the schema, want those of Go, %v", got, want)
	}
	if got, want := slices.Sorted(maps.Keys(schema.Properties)), switchNames(t, "capture.go")["capture"]; !slices.Equal(got, want) {
		t.Errorf("got fields %v in the schema, want those that are read, %v", got, want)
	}
	delete(inGo, "id") // it may come in a header
	for field, always := range inGo {
		if always != slices.Contains(schema.Required, field) {
			t.Errorf("%s: required differs between Go and schema", field)
		}
	}
	if !reflect.DeepEqual(schema.Defs["order_line"], readSchema(t, "job").Defs["order_line"]) {
		t.Error("a line of a capture is described in another way than one of an order")
	}
	if len(schema.Examples) == 0 {
		t.Error("got no example of a capture job")
	}
	for _, example := range schema.Examples {
		if r := messages.ReadCapture(example, nil); len(r.Problems)+len(r.Warnings) > 0 || !validates(compile(t, "capture"), example) {
			t.Errorf("example: %s %s", report(r.Problems), report(r.Warnings))
		}
	}
}

// What capture_failed has of dunning is described in the same words, save where they speak of an order.
func TestCaptureFailedIsDunning(t *testing.T) {
	t.Parallel()
	failed, dunning := readSchema(t, "capture_failed"), readSchema(t, "dunning")
	for field := range fields(reflect.TypeFor[messages.Dunning]()) {
		if _, ok := failed.Properties[field]; !ok {
			t.Errorf("got no %s, want every field of dunning", field)
		}
	}
	for _, field := range []string{"category", "fix_by"} {
		if got, want := failed.property(t, field).known(t), dunning.property(t, field).known(t); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", field, got, want)
		}
	}
}

// switchNames returns the string cases of each method's switch, sorted.
func switchNames(t testing.TB, file string) map[string][]string {
	t.Helper()
	parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for _, decl := range parsed.Decls {
		method, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(method, func(n ast.Node) bool {
			if c, ok := n.(*ast.CaseClause); ok {
				for _, e := range c.List {
					if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
						name, _ := strconv.Unquote(lit.Value)
						names[method.Name.Name] = append(names[method.Name.Name], name)
					}
				}
			}
			return true
		})
		slices.Sort(names[method.Name.Name])
	}
	return names
}

// The list of a result may grow: its schema names what is known, explains it, and takes what is not. And it shows one real result.
func TestResultSchemasAreOpen(t *testing.T) {
	t.Parallel()
	for _, kind := range messages.Kinds() {
		schema, validator := readSchema(t, string(kind)), compile(t, string(kind))
		var example, inSchema map[string]any
		if err := errors.Join(json.Unmarshal(golden(t, string(kind)+".json"), &example), json.Unmarshal(schema.Examples[0], &inSchema)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(inSchema, example) || len(schema.Examples) != 1 {
			t.Errorf("%s: got the example %v, want the result in testdata", kind, inSchema)
		}
		for _, field := range []string{"reason", "category", "fix_by", "corrects", "fraud_status", "a_field_of_tomorrow"} {
			if property, described := schema.Properties[field]; described || field == "a_field_of_tomorrow" {
				if described && bytes.Contains(property, []byte(`"enum"`)) {
					t.Errorf("%s: %s is a closed list", kind, field)
				}
				tomorrow := maps.Clone(example)
				tomorrow[field] = "tomorrow"
				if err := validator.Validate(tomorrow); err != nil {
					t.Errorf("%s with the %s of tomorrow: %v", kind, field, err)
				}
			}
			if !slices.Contains([]string{"reason", "category"}, field) || schema.Properties[field] == nil {
				continue
			}
			for _, value := range schema.property(t, field).known(t) {
				if !strings.Contains(schema.property(t, field).Description, "`"+value+"` (") {
					t.Errorf("%s: %s %s is not explained", kind, field, value)
				}
			}
		}
	}
}

// An amount is an integer of 64 bits in every schema, or a generator for Java makes an int of it.
func TestAmountsHave64Bits(t *testing.T) {
	t.Parallel()
	for _, name := range messages.SchemaNames() {
		if name == "asyncapi" {
			continue
		}
		schema := readSchema(t, name)
		if schema.Title == "" || len(schema.Examples) == 0 {
			t.Errorf("%s: got the title %q and %d examples, want one and at least one", name, schema.Title, len(schema.Examples))
		}
		amounts := 0
		for place, o := range map[string]object{"": schema, "order": schema.Defs["order"], "order_line": schema.Defs["order_line"]} {
			for field, property := range o.Properties {
				if !strings.HasSuffix(field, "_amount") && field != "unit_price" {
					continue
				}
				if amounts++; !bytes.Contains(property, []byte(`"format": "int64"`)) {
					t.Errorf("%s: %s %s has no format int64", name, place, field)
				}
			}
		}
		if amounts == 0 && name != "token" {
			t.Errorf("%s: found no amount", name)
		}
	}
}

// Every constant of a closed set is in the set's list, or known to the schema.
func TestClosedSets(t *testing.T) {
	t.Parallel()
	declared := map[string][]string{}
	for _, file := range []string{"reason.go", "subject.go"} {
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if of, ok := spec.Type.(*ast.Ident); ok {
					value, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
					declared[of.Name] = append(declared[of.Name], value)
				}
			}
			return true
		})
	}
	sets := map[string][]string{
		"Category": readSchema(t, "dunning").property(t, "category").known(t),
		"FixBy":    readSchema(t, "dunning").property(t, "fix_by").known(t),
		// Dead letters only.
		"Reason": {string(messages.ReasonOrderAfterDunning), string(messages.ReasonSecondOrder), string(messages.ReasonCaptureAfterFailure)},
	}
	for _, kind := range messages.Kinds() {
		sets["Kind"] = append(sets["Kind"], string(kind))
		for _, r := range messages.Reasons(kind) {
			sets["Reason"] = append(sets["Reason"], string(r))
		}
	}
	word := regexp.MustCompile(`^[a-z][a-z_]*$`)
	for name, listed := range sets {
		slices.Sort(listed)
		slices.Sort(declared[name])
		if got, want := slices.Compact(listed), declared[name]; !slices.Equal(got, want) {
			t.Errorf("%s: got listed %v, want every constant, %v", name, got, want)
		}
		for _, value := range declared[name] {
			if !word.MatchString(value) {
				t.Errorf("%s: %q is not lower case", name, value)
			}
		}
	}
}

func TestSchemaNames(t *testing.T) {
	t.Parallel()
	for _, name := range messages.SchemaNames() {
		if b, ok := messages.Schema(name); !ok || len(b) == 0 || !utf8.Valid(b) {
			t.Errorf("%s: got %d bytes, %v", name, len(b), ok)
		}
	}
	for _, name := range []string{"", "jobs", "../job", "job.json", "paid/../job"} {
		if _, ok := messages.Schema(name); ok {
			t.Errorf("got a schema %q", name)
		}
	}
	for _, name := range []string{"job", "capture"} {
		if got, want := readSchema(t, name).ID, messages.SchemaID(name); got != want {
			t.Errorf("%s: got $id %s, want %s", name, got, want)
		}
	}
	files, err := os.ReadDir("schemas")
	if err != nil || len(files) != len(messages.SchemaNames())-1 {
		t.Errorf("got %d schema files, want one for each of %v but asyncapi (%v)", len(files), messages.SchemaNames(), err)
	}
}

// AsyncAPI's own tool checks the document's form (make asyncapi); that it speaks of our subjects and headers is checked here.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	b, _ := messages.Schema("asyncapi")
	document := string(b)
	address := []string{messages.DueSubject("{account}"), messages.CaptureSubject("{account}")}
	for _, kind := range messages.Kinds() {
		address = append(address, "renewals."+string(kind)+".{subscription}.{period}.{due}.{account}")
	}
	address = append(address, messages.DeadSubject("{idempotency_key}", "{account}"), "renewals.parked.{subscription}.{period}.{place}.{account}")
	for _, a := range address {
		if !strings.Contains(document, "\n    address: "+a+"\n") {
			t.Errorf("got no channel %s", a)
		}
	}
	for _, name := range messages.SchemaNames() {
		if ref := "$ref: './schemas/" + name + ".json'"; strings.Contains(document, ref) != (name != "asyncapi") {
			t.Errorf("got no %s", ref)
		}
	}
	header := messages.Envelope{ID: "1", Kind: messages.KindPaid, Account: "a", SubscriptionID: "s", Period: "p", TraceParent: "t", TraceState: "t"}.Header()
	header.Set(messages.HeaderState, "{}")
	described := describedHeaders(t)["resultHeaders"]
	if got, want := slices.Sorted(maps.Keys(described.Properties)), slices.Sorted(maps.Keys(header)); !slices.Equal(got, want) {
		t.Errorf("got headers %v described, want those of a result, %v", got, want)
	}
	optional := []string{"Nats-Trace-Dest", "ce-subject", "traceparent", "tracestate"}
	for name := range header {
		if slices.Contains(described.Required, name) == slices.Contains(optional, name) {
			t.Errorf("%s: got required %v, want %v", name, described.Required, !slices.Contains(optional, name))
		}
	}
}

// Descriptions are Markdown to whoever makes a page of them: outside of backticks <account> is an HTML tag, which shows
// nothing, and * an emphasis. `make schemas` looks at the page itself.
func TestDescriptionsAreMarkdown(t *testing.T) {
	t.Parallel()
	for _, name := range messages.SchemaNames() {
		b, _ := messages.Schema(name)
		var document any
		if err := yaml.Unmarshal(b, &document); err != nil { // JSON is YAML
			t.Fatal(name, err)
		}
		texts := descriptions(document)
		for _, text := range texts {
			for i, part := range strings.Split(text, "`") {
				if i%2 == 0 && strings.ContainsAny(part, "<*") {
					t.Errorf("%s: %q stands outside of backticks in %q", name, part, text)
				}
			}
		}
		if len(texts) == 0 {
			t.Errorf("%s: found no description", name)
		}
	}
}

// descriptions are all of a document, wherever in it.
func descriptions(v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, part := range v {
			if text, ok := part.(string); ok && (name == "description" || name == "summary") {
				all = append(all, text)
			}
			all = append(all, descriptions(part)...)
		}
	case []any:
		for _, part := range v {
			all = append(all, descriptions(part)...)
		}
	}
	return all
}

// headers are what the AsyncAPI document says of those of a message.
type headers struct {
	Required   []string
	Properties map[string]struct{ Description, Const string }
	Prefixes   map[string]struct{ Description string } `yaml:"patternProperties"`
}

func describedHeaders(t testing.TB) map[string]headers {
	t.Helper()
	b, _ := messages.Schema("asyncapi")
	var document struct {
		Components struct{ Schemas map[string]headers }
	}
	if err := yaml.Unmarshal(b, &document); err != nil {
		t.Fatal(err)
	}
	return document.Components.Schemas
}

// Every header of ours is described, in the AsyncAPI document and in the README, and there is none that is not written.
func TestHeadersAreDescribed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	original := map[string][]string{"X-Shop": {"7"}, "X-Large": {strings.Repeat("x", 20<<10)}}
	letter := messages.DeadLetter{Reason: messages.ReasonInvalid, Account: "default", Stream: "RENEWALS", Sequence: 7, Subject: "renewals.due.default", At: at, Original: original}
	written := map[string][]string{
		"resultHeaders":     {messages.HeaderState},
		"claimHeaders":      {messages.HeaderState},
		"jobHeaders":        slices.Collect(maps.Keys(letter.Replay(7, "fresh"))),
		"deadLetterHeaders": slices.Collect(maps.Keys(letter.Header(nil))),
		"parkedHeaders":     slices.Collect(maps.Keys(messages.Parked{ID: "1", Account: "default", Published: at, DueAt: at}.Header())),
	}
	described, known := describedHeaders(t), map[string]bool{}
	for schema, names := range written {
		for _, name := range names {
			known[name] = true
			property, ok := described[schema].Properties[name]
			for pattern, p := range described[schema].Prefixes {
				if regexp.MustCompile(pattern).MatchString(name) {
					property.Description, ok = p.Description, true
					known[strings.TrimPrefix(pattern, "^")] = true
				}
			}
			if !ok || property.Description == "" {
				t.Errorf("%s: header %s is not described", schema, name)
			}
		}
		for name := range described[schema].Properties {
			if strings.HasPrefix(name, "Renewals-") && !slices.Contains(names, name) {
				t.Errorf("%s: header %s is described and never written", schema, name)
			}
		}
	}

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	constants := headerConstants(t)
	if len(constants) < 13 {
		t.Errorf("got %v, want every header of ours", constants)
	}
	for _, name := range constants {
		if !known[name] {
			t.Errorf("header %s is in no message that this test knows: describe it", name)
		}
		if inTable := "`" + name; !regexp.MustCompile("(?m)^\\|.*" + inTable + "[`*]").Match(readme) {
			t.Errorf("README: header %s is not in the table of headers", name)
		}
	}
}

// headerConstants are the values of the constants that begin with Renewals-, wherever in this package.
func headerConstants(t testing.TB) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for _, value := range spec.Values {
					if lit, ok := value.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, `"Renewals-`) {
						name, _ := strconv.Unquote(lit.Value)
						names = append(names, name)
					}
				}
			}
			return true
		})
	}
	return names
}
