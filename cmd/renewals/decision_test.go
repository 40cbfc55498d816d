package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
)

// decide are the flags that take a decision about money, pick what a decision or an answer is about, or confirm it, by command. They
// are on the command line or nowhere.
var decide = map[string][]string{
	"work":         {"accept-empty-journal", "force"},
	"provision":    {"accept-empty-journal", "accept-restored-journal", "force", "print-permissions", "role", "account"},
	"publish":      {"capture", "untimely"},
	"validate":     {"capture", "at", "untimely"},
	"watch":        {"kind", "account", "subscription", "since", "until", "csv", "forward-to"},
	"status":       {"watch", "unresolved", "csv"},
	"show":         {"all", "as"},
	"resolve":      {"from", "paid", "not-charged", "captured", "not-captured", "order-id", "capture-id", "unverified", "correct", "actor", "note", "yes"},
	"cancel":       {"unknown", "undo", "actor", "note", "yes"},
	"dead list":    {"account", "reason", "subscription", "since", "until"},
	"dead show":    {"reveal-token"},
	"dead replay":  {"all", "account", "reason", "subscription", "since", "until", "yes"},
	"dead drop":    {"all", "account", "reason", "subscription", "since", "until", "yes"},
	"token show":   {"token-file"},
	"token cancel": {"token-file", "actor", "note", "yes", "subscription", "no-record"},
	"trigger":      {"list"}, // which publishes nothing
}

// set are the flags that say how and where the program works, whatever it is asked for: each has a variable and a key of the file.
// Those under "" are settings of whichever command has them.
var set = map[string][]string{
	"": {
		"config", "json", "log-level", "log-format", "timeout", "key-window",
		"nats-url", "nats-creds", "nats-nkey", "nats-user", "nats-ca", "nats-cert", "nats-key", "nats-context", "nats-inbox-prefix", "nats-js-domain",
		"klarna-account", "klarna-endpoint", "klarna-username", "klarna-mid", "klarna-password-file", "klarna-rate", "klarna-concurrency", "klarna-allow-http",
		"replicas", "retention", "dead-retention", "ack-wait", "mixed-cadences", "merchant-name", "nats-monitoring-url", "system-context", "system-creds", "system-nkey",
	},
	"dev":      {"jobs", "keep-running", "store", "speed"},
	"work":     {"try-timeout", "try-budget", "settle-delay", "retry-delays", "shutdown-timeout", "batches", "ops-addr", "pprof", "provision"},
	"trigger":  {"wait", "within", "account"},
	"sample":   {"jobs"},
	"publish":  {"account", "stamp"},
	"validate": {"account", "strict"},
	"doctor": {
		"strict", "prometheus", "unresolved-for",
		"try-timeout", "try-budget", "settle-delay", "retry-delays", "shutdown-timeout",
	},
	"cancel":        {"account"},
	"klarna-sim":    {"addr", "latency", "latency-p99", "faults", "late-by", "outage", "seed", "rate", "username", "bodies"},
	"dunning-table": {"markdown"},
}

// eachFlag visits every flag of every command, those of all commands under "".
func eachFlag(t *testing.T, visit func(command string, flag *kong.Flag)) *kong.Application {
	t.Helper()
	parser, err := kong.New(&commands{}, defaults(), cli.Durations())
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		visit("", flag)
	}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if command, ok := node.(*kong.Command); ok {
			for _, flag := range command.Flags {
				_, name, _ := strings.Cut(command.FullPath(), " ")
				visit(name, flag)
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// S62: a variable left in a shell profile said "not charged", and a dunning was recorded.
func TestNothingInAnEnvironmentDecides(t *testing.T) {
	t.Parallel()
	type named struct{ command, flag string }
	there := map[named]bool{}
	types := map[string]string{} // of each key of the file
	obeyed := &cli.Settings{Env: func(variable string) (string, bool) { return "true", true }, File: &cli.ConfigFile{}}
	grammar := eachFlag(t, func(command string, flag *kong.Flag) {
		if command == "" && (flag.Name == "help" || flag.Name == "version") {
			return
		}
		there[named{command, flag.Name}] = true
		decides, sets := slices.Contains(decide[command], flag.Name), slices.Contains(set[command], flag.Name) || slices.Contains(set[""], flag.Name)
		switch {
		case decides == sets:
			t.Errorf("%s --%s: in neither list, or in both: a flag that decides about money, picks or confirms belongs to the first, any other to the second", command, flag.Name)
		case decides:
			if text, err := obeyed.Resolve(nil, nil, flag); text != nil || err != nil {
				t.Errorf("%s --%s: %v, %v from a variable, want nothing", command, flag.Name, text, err)
			}
		default:
			if cli.OnCommandLine(flag) {
				t.Errorf("%s --%s: has no variable, want one", command, flag.Name)
			}
			kind := flag.Target.Type().String()
			if was := types[cli.FileKey(flag)]; was != "" && was != kind {
				t.Errorf("%s --%s: key %s is %s here and %s elsewhere", command, flag.Name, cli.FileKey(flag), kind, was)
			}
			types[cli.FileKey(flag)] = kind
		}
	})
	for _, list := range []map[string][]string{decide, set} {
		for command, names := range list {
			for _, name := range names {
				if command != "" && !there[named{command, name}] {
					t.Errorf("%s --%s: there is no such flag", command, name)
				}
			}
		}
	}
	keys := cli.SettingFlags(grammar)
	for key := range types {
		if keys[key] == nil && key != "config" {
			t.Errorf("%s: no key of the file", key)
		}
	}
	for _, names := range decide {
		for _, name := range names {
			if key := strings.ReplaceAll(name, "-", "_"); keys[key] != nil && types[key] == "" {
				t.Errorf("%s: a key of the file, want a flag and nothing else", key)
			}
		}
	}
}

// A file that everybody's commands read confirms nothing either.
func TestFileDoesNotDecide(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"yes: true", "paid: true", "not_charged: true", "order_id: x", "all: true", "accept_empty_journal: true", "force: [ack_wait]", "reason: invalid", "account: se"} {
		file := filepath.Join(t.TempDir(), "renewals.yaml")
		if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, told := finish(t, cli.ExitUsage, variables{"RENEWALS_CONFIG": file}, "", "dead", "drop", "--all"); !strings.Contains(told, ":1: unknown key ") {
			t.Errorf("%s: got %q", line, told)
		}
	}
}

// S62: each of these was obeyed once.
func TestVariablesDoNotDecide(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		variables []string
		args      []string
		want      string
	}{
		{[]string{"RENEWALS_NOT_CHARGED", "true", "RENEWALS_YES", "true"}, []string{"resolve", "1/2"}, "missing flags: --paid or --not-charged"},
		{[]string{"RENEWALS_PAID", "true", "RENEWALS_ORDER_ID", "x", "RENEWALS_YES", "true"}, []string{"resolve", "1/2"}, "missing flags: --paid or --not-charged"},
		{[]string{"RENEWALS_ALL", "true", "RENEWALS_YES", "true", "RENEWALS_REASON", "invalid"}, []string{"dead", "drop"}, "expected"},
	} {
		env := variables{}.with(row.variables...)
		var told strings.Builder
		if code := run(t.Context(), row.args, strings.NewReader(""), io.Discard, &told, env.lookup); code != cli.ExitUsage || !strings.Contains(told.String(), row.want) {
			t.Errorf("%v with %v: exit code %d and %q, want %d and %q", row.args, row.variables, code, told.String(), cli.ExitUsage, row.want)
		}
	}
}
