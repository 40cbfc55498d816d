package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// What each role can do with its list, and that it can do nothing else, is shown on a server in package test.

// Permissions are printed without a server, without credentials, and for the accounts that are meant.
func TestPrintPermissions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "renewals.yaml")
	if err := os.WriteFile(file, []byte("accounts:\n- {name: se}\n- {name: de}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		situation string
		env       variables
		args      []string
		want      []string // role and account of each grant
	}{
		{situation: "nothing configured", want: []string{"publisher default", "worker", "consumer", "operator", "provisioner", "monitor"}},
		{situation: "one account", env: variables{"KLARNA_ACCOUNT": "se"}, want: []string{"publisher se", "worker", "consumer", "operator", "provisioner", "monitor"}},
		{situation: "several accounts", env: variables{"RENEWALS_CONFIG": file}, want: []string{"publisher de", "publisher se", "worker", "consumer", "operator", "provisioner", "monitor"}},
		{situation: "one role", env: variables{"RENEWALS_CONFIG": file}, args: []string{"--role=publisher"}, want: []string{"publisher de", "publisher se"}},
		{
			situation: "other accounts, one of them twice", env: variables{"RENEWALS_CONFIG": file}, args: []string{"--role=publisher", "--account=no,fi", "--account=no"},
			want: []string{"publisher fi", "publisher no"},
		},
	} {
		out, _ := finish(t, cli.ExitDone, row.env, "", append([]string{"provision", "--print-permissions", "--json"}, row.args...)...)
		var grants []topology.Grant
		if err := json.Unmarshal([]byte(out), &grants); err != nil {
			t.Fatalf("%s: %v\n%s", row.situation, err, out)
		}
		var got []string
		inboxes := map[string]bool{}
		for _, g := range grants {
			got = append(got, strings.TrimSpace(string(g.Role)+" "+string(g.Account)))
			if inboxes[g.InboxPrefix] {
				t.Errorf("%s: inbox prefix %s is given twice", row.situation, g.InboxPrefix)
			}
			inboxes[g.InboxPrefix] = true
			want := []string{g.InboxPrefix + ".>"}
			if g.Role == topology.RoleWorker {
				want = append(want, topology.AdvisoryFilters...)
			}
			if !slices.Equal(g.Permissions.Subscribe.Allow, want) {
				t.Errorf("%s: %s may subscribe to %v, want %v", row.situation, g.Role, g.Permissions.Subscribe.Allow, want)
			}
			if (g.Domain == topology.MonitorDomain) != (g.Role == topology.RoleMonitor) {
				t.Errorf("%s: %s has JetStream domain %q", row.situation, g.Role, g.Domain)
			}
			if len(g.Permissions.Publish.Allow) == 0 {
				t.Errorf("%s: %s may publish nothing", row.situation, g.Role)
			}
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v, want %v", row.situation, got, row.want)
		}
	}
}

// A list says what one account's users need, and nothing of another account.
func TestPermissionsNameTheirAccounts(t *testing.T) {
	t.Parallel()
	out, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--role=worker", "--account=se,de")
	for _, want := range []string{`"$JS.ACK.RENEWALS.charge-de.>"`, `"$JS.API.CONSUMER.MSG.NEXT.RENEWALS.charge-se"`, "renewals_worker: {"} {
		if !strings.Contains(out, want) {
			t.Errorf("a worker of two accounts lacks %s:\n%s", want, out)
		}
	}
	for _, no := range []string{"charge-*", "charge-default", "API.STREAM.CREATE", "API.STREAM.DELETE", "API.STREAM.PURGE", "MSG.DELETE", "cancelled"} {
		if strings.Contains(out, no) {
			t.Errorf("a worker is given %s", no)
		}
	}
}

// In a domain all but a monitor's API has other subjects. That of a monitor, who may print as well, is nobody's but its own.
func TestPermissionsNameTheirDomain(t *testing.T) {
	t.Parallel()
	own, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions")
	if out, _ := finish(t, cli.ExitDone, variables{"NATS_JS_DOMAIN": topology.MonitorDomain}, "", "provision", "--print-permissions"); out != own {
		t.Errorf("as a monitor:\n%s", out)
	}
	hub, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--nats-js-domain=hub")
	for _, want := range []string{`JetStream domain "monitor", all others with "hub".`, `"$JS.hub.API.INFO"`, `"$JS.hub.API.$KV.RENEWAL_WORKERS.>"`, `"$JS.monitor.API.INFO"`, `"$JS.ACK.RENEWALS.charge-default.>"`} {
		if !strings.Contains(hub, want) {
			t.Errorf("the permissions for a domain lack %s:\n%s", want, hub)
		}
	}
	for _, no := range []string{`"$JS.API.`, `"$KV.`} {
		if strings.Contains(hub, no) {
			t.Errorf("the permissions for a domain have %s", no)
		}
	}
}

// S73: whoever is on call drops dead letters; no job, no record and no stream.
func TestOperatorChangesNoStream(t *testing.T) {
	t.Parallel()
	operator, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--role=operator")
	provisioner, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--role=provisioner")
	const drops = `"$JS.API.STREAM.MSG.DELETE.RENEWAL_DEAD"`
	if !strings.Contains(operator, drops) {
		t.Errorf("the operator lacks %s", drops)
	}
	for _, no := range []string{"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "MSG.DELETE", "STREAM.RESTORE", "CONSUMER.CREATE.RENEWALS", "renewals.mark"} {
		if strings.Contains(strings.ReplaceAll(operator, drops, ""), no) {
			t.Errorf("the operator is given %s", no)
		}
	}
	for _, no := range []string{"STREAM.DELETE", "STREAM.PURGE", "MSG.DELETE", "STREAM.RESTORE", `"renewals.paid`, `"renewals.due`, "MSG.NEXT", "CONSUMER.DELETE"} {
		if strings.Contains(provisioner, no) {
			t.Errorf("the provisioner is given %s", no)
		}
	}
}

// A worker of few accounts speaks for no other, but settles what others abandoned; of many, one list serves all.
func TestWorkersOwnRecords(t *testing.T) {
	t.Parallel()
	few, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--role=worker", "--account=se,de")
	for _, kind := range []string{"charging", "pending", "paid", "dunning", "rejected", "capturing", "captured", "capture_failed"} {
		if strings.Contains(few, `"renewals.`+kind+`.*.*.*.*"`) || !strings.Contains(few, `"renewals.`+kind+`.*.*.*.se"`) || !strings.Contains(few, `"renewals.`+kind+`.*.*.*.de"`) {
			t.Errorf("records of kind %s, of two accounts:\n%s", kind, few)
		}
	}
	for _, all := range []string{`"renewals.unresolved.*.*.*.*"`, `"renewals.dead.*.*"`} {
		if !strings.Contains(few, all) {
			t.Errorf("a sweeper lacks %s", all)
		}
	}
	var names []string
	for n := range 20 + 1 {
		names = append(names, "a"+strconv.Itoa(n))
	}
	many, _ := finish(t, cli.ExitDone, nil, "", "provision", "--print-permissions", "--role=worker", "--account="+strings.Join(names, ","))
	if !strings.Contains(many, `"renewals.charging.*.*.*.*"`) || strings.Contains(many, `"renewals.charging.*.*.*.a1"`) {
		t.Errorf("records of %d accounts are listed one by one", len(names))
	}
}

// Every subject that a worker follows is in the shorter list that it is given.
func TestAdvisoryFilters(t *testing.T) {
	t.Parallel()
	for _, subject := range topology.Advisories {
		if !slices.ContainsFunc(topology.AdvisoryFilters, func(filter string) bool {
			want, got := strings.Split(filter, "."), strings.Split(subject, ".")
			return slices.EqualFunc(want, got, func(w, g string) bool { return w == "*" || w == g })
		}) {
			t.Errorf("a worker may not follow %s", subject)
		}
	}
}

func TestPermissionsAskedForInVain(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--role=worker"}, "--role: set without --print-permissions"},
		{[]string{"--account=se"}, "--account: set without --print-permissions; the accounts to provision are KLARNA_ACCOUNT"},
		{[]string{"--print-permissions", "--role=admin"}, `--role: "admin", expected one of publisher, worker, consumer, operator, provisioner, monitor`},
		{[]string{"--print-permissions", "--account=*"}, "--account: "},
		{[]string{"--print-permissions", "--nats-js-domain=a.b"}, `--nats-js-domain: "a.b", expected one word`},
	} {
		if _, told := finish(t, cli.ExitUsage, nil, "", append([]string{"provision"}, row.args...)...); !strings.Contains(told, row.want) {
			t.Errorf("%v: got %q, want %q", row.args, told, row.want)
		}
	}
}
