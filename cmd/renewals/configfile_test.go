package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

func grammar(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := kong.New(&commands{}, defaults(), cli.Durations())
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// What a person reads who has to correct a file: its line, its key, what stands there and what was expected.
func TestConfigProblems(t *testing.T) {
	t.Parallel()
	flags := cli.SettingFlags(grammar(t))
	for _, row := range []struct{ situation, text, want string }{
		{"a typing error", "\nrety_delays: [5s]\n", "f:2: unknown key rety_delays, did you mean retry_delays?"},
		{"letters swapped", "accuonts: []\n", "f:1: unknown key accuonts, did you mean accounts?"},
		{"the flag's spelling", "try-timeout: 5s\n", "f:1: unknown key try-timeout, did you mean try_timeout?"},
		{"in an account", "accounts:\n  - name: se\n    usrname: u\n", "f:3: unknown key accounts[0].usrname, did you mean username?"},
		{"deep down", "accounts:\n- name: se\n  dunning:\n    soft_decline:\n      day: [1]\n", "f:5: unknown key accounts[0].dunning.soft_decline.day, did you mean days?"},
		{"nothing like it", "colour_of_hair: red\n", "f:1: unknown key colour_of_hair, expected accounts or a setting; `renewals schema config` has them all, and what decides about money is a flag and nothing else"},
		{"a secret", "nats_password: hunter2\n", "f:1: unknown key nats_password: a secret is not in this file, expected it in NATS_PASSWORD, or nats_creds or nats_nkey"},
		{"a number without a unit", "try_timeout: 65\n", "f:1: try_timeout: found 65, expected a duration such as 500ms, 65s, 1h30m or 120d"},
		{"in a list", "retry_delays:\n  - 5s\n  - soon\n", "f:3: retry_delays[1]: found \"soon\", expected a duration such as 500ms, 65s, 1h30m or 120d"},
		{"a list as a variable has it", "retry_delays: 5s,10s\n", "f:1: retry_delays: found \"5s,10s\", expected a list, each a duration such as 500ms, 65s, 1h30m or 120d"},
		{"a word of a set", "log_level: loud\n", "f:1: log_level: found \"loud\", expected one of debug, info, warn, error"},
		{"forgotten", "nats_url:\n", "f:1: nats_url: found nothing, expected text"},
		{"a number for a name", "accounts:\n- name: 24\n", "f:2: accounts[0].name: found 24: text that looks like a number or like true or false is written in quotes, expected 1 to 32 of a-z, 0-9 and -, the first no -"},
		{"too much", "accounts:\n- {name: se, concurrency: 5000}\n", "f:2: accounts[0].concurrency: found 5000, expected a whole number from 1 to 4096"},
		{"without a name", "accounts:\n- endpoint: eu\n", "f:2: accounts[0].name: not set, expected 1 to 32 of a-z, 0-9 and -, the first no -"},
		{"a mapping for a list", "accounts:\n  name: se\n", "f:2: accounts: found a mapping, expected a list"},
		{"twice", "try_timeout: 5s\npprof: true\ntry_timeout: 6s\n", "f:3: try_timeout: there twice, first on line 1"},
		{"several", "pprof: maybe\nlog_level: loud\n", "f:1: pprof: found \"maybe\", expected true or false\nf:2: log_level: found \"loud\", expected one of debug, info, warn, error"},
		{"a second document", "pprof: true\n---\npprof: false\n", "f:2: a second document, expected one: what stands there would be read by nobody"},
		{"no mapping", "- pprof\n", "f:1: found a list, expected a mapping"},
		{"indentation", "accounts:\n  - name: se\n endpoint: eu\n", "f:3: endpoint: no YAML: did not find expected key; look at the indentation and the quotes of this line and the one before"},
		{"indentation, far down", strings.Repeat("# nothing\n", 300) + "accounts:\n  - name: se\n endpoint: eu\n" + strings.Repeat("# nothing\n", 300), "f:303: endpoint: no YAML: did not find expected key; look"},
		{"a tab", "accounts:\n\t- name: se\n", "f:2: name: no YAML: found character that cannot start any token; look"},
		{"quotes that are not closed", "pprof: true\nnats_url: \"nats://me:hunter2@a\npprof: false\n", "f:2: nats_url: no YAML: found unexpected end of stream; look"},
		{"a mapping that holds itself", "accounts:\n- &a\n  name: se\n  <<: *a\n", "f:2: accounts: yaml: anchor 'a' value contains itself"},
	} {
		_, err := cli.ParseConfig("f", []byte(row.text), flags, false)
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s:\n got %v\nwant %s", row.situation, err, row.want)
		}
	}
}

// What a file may say, and how flags get it.
func TestConfigValues(t *testing.T) {
	t.Parallel()
	file, err := cli.ParseConfig("f", []byte("try_timeout: &long 50s\nsettle_delay: *long\nretry_delays: [5s, 10s]\nlatency: 0\npprof: true\nfaults: 5.0e-1\n"+
		"accounts:\n- &first {name: a, endpoint: eu, rate: 5, min_attempt_gap: 0}\n- {<<: *first, name: b, max_attempts: 3}\n"), cli.SettingFlags(grammar(t)), false)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"try_timeout": "50s", "settle_delay": "50s", "retry_delays": "5s,10s", "latency": "0", "pprof": "true", "faults": "0.5"} {
		if got := file.Settings[key].Text; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if b := file.Accounts[1]; len(file.Accounts) != 2 || b.Name != "b" || b.Endpoint != "eu" || *b.Rate != 5 || b.MinAttemptGap != "0" || *b.MaxAttempts != 3 {
		t.Errorf("got %+v", file.Accounts)
	}
	if got := file.Accounts[1].Where("max_attempts"); got != "f:9: account b: max_attempts" {
		t.Errorf("got %s", got)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "{}\n"} {
		if file, err := cli.ParseConfig("f", []byte(empty), nil, false); err != nil || len(file.Settings) > 0 {
			t.Errorf("%q: %v, %v", empty, file, err)
		}
	}
}

// The schema that an editor checks the file with says the same as the program, for every key with every kind of value.
func TestConfigSchemaIsWhatIsRead(t *testing.T) {
	t.Parallel()
	model := grammar(t)
	flags := cli.SettingFlags(model)
	var printed bytes.Buffer
	if err := cli.WriteConfigSchema(&printed, model); err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(&printed)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("config.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	values := []string{
		"true", "no", "0", "1", "3", "-1", "500", "5000", "10000000", "1.5", "5s", "1h30m", "120d", "7d", "0s", "5 s", "soon", `"5"`, `""`, "null", "eu", "se", "Se", "hold", "off", "allow", "info", "auto",
		`"2026-12-01"`, "1e400", ".nan", "0x10", "[]", "{}", "[5s, 10s]", "[5s, soon]", "[1, 3]", "[a, b]", "[0]", "[101]", "{days: [1, 3]}",
		"{soft_decline: {days: [1, 2], max_attempts: 3}}", "{soft_decline: {days: [0]}}", "{customer_action: 3}",
	}
	top, inAccount := cli.FileKeys(flags)
	good, bad := 0, 0
	for _, value := range values {
		for _, key := range append(top, "password", "yes") {
			compareConfig(t, schema, flags, key+": "+value+"\n", &good, &bad)
		}
		for _, key := range append(inAccount, "retry_delays") {
			compareConfig(t, schema, flags, "accounts:\n- {name: se, endpoint: eu}\n- {"+strings.TrimPrefix("name: de, "+key+": "+value, map[bool]string{true: "name: de, "}[key == "name"])+"}\n", &good, &bad)
		}
	}
	if good < 100 || bad < 1000 {
		t.Errorf("%d good and %d bad files: the test shows little", good, bad)
	}
}

// compareConfig has the schema and the program judge a file.
func compareConfig(t *testing.T, schema *jsonschema.Schema, flags map[string]*kong.Flag, text string, good, bad *int) {
	t.Helper()
	var asRead any
	if err := yaml.Unmarshal([]byte(text), &asRead); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	encoded, err := json.Marshal(asRead)
	if err != nil {
		return // what JSON has no word for: not a number, infinity
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	says := schema.Validate(instance)
	_, read := cli.ParseConfig("f", []byte(text), flags, false)
	if (says == nil) != (read == nil) {
		t.Errorf("%s: the schema says %v, the program %v", text, says, read)
	}
	if read == nil {
		*good++
	} else {
		*bad++
	}
}
