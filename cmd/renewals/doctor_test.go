package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/deploy"
	"github.com/klarna-renewals/renewals/worker/doctor"
)

// What a newcomer's first NATS server is: it confirms before it syncs.
func TestDoctor(t *testing.T) {
	t.Parallel()
	b := broker(t, func(o *server.Options) { o.HTTPHost, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT })
	env := environmentFor(b, simulator(t)).with("NATS_MONITORING_URL", "http://"+b.MonitorAddr().String())
	finish(t, cli.ExitDone, env, "", "provision")
	out, _ := finish(t, cli.ExitFailed, env, "", "doctor")
	for _, want := range []string{
		"NOT SAFE  fsync         every 2m on renewals-dev, one copy of the journal: a power cut can lose the records of the last 2m, and so the memory of what was charged; put sync_interval: always",
		"ok        klarna        default: 127.0.0.1:", " lets this account in",
		"not seen  alerts        cannot be seen from here: ",
		"\n\nNOT SAFE: 1 not safe, 1 cannot be seen from here, 3 warnings, 12 ok\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if strings.Contains(out, testPassword) {
		t.Errorf("the API key is told:\n%s", out)
	}

	out, _ = finish(t, cli.ExitDone, env, "", "status")
	if want := "warning: fsync: every 2m on renewals-dev, one copy of the journal: a power cut can lose the records of the last 2m, and so the memory of what was charged (renewals doctor)"; !strings.Contains(out, want) {
		t.Errorf("%q is not in:\n%s", want, out)
	}
	out, _ = finish(t, cli.ExitDone, env.with("NATS_MONITORING_URL", ""), "", "status", "--json")
	if !strings.Contains(out, `"needs_human":[]`) || strings.Contains(out, "fsync") {
		t.Errorf("status tells of what it does not see:\n%s", out)
	}

	// Without a sight of the disks nothing is unsafe that can be seen.
	out, _ = finish(t, cli.ExitDone, env.with("NATS_MONITORING_URL", ""), "", "doctor", "--json")
	var report struct {
		Verdict  doctor.Verdict
		Counts   map[doctor.Verdict]int
		Findings []doctor.Finding
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Verdict != doctor.Unseen || report.Counts[doctor.NotSafe] != 0 || report.Counts[doctor.OK] < 5 || len(report.Findings) < len(doctor.Checks()) {
		t.Errorf("as JSON: %s", out)
	}
	finish(t, cli.ExitFailed, env.with("NATS_MONITORING_URL", ""), "", "doctor", "--strict")

	// What a worker says of itself.
	p := start(t, env, "", "work")
	eventually(t, "the worker is seen", func() bool {
		seen := start(t, env, "", "doctor")
		seen.wait(t)
		return strings.Contains(seen.stdout.String(), "ok        workers       1 live, version devel, the same settings, none paused: ") && strings.Contains(seen.stdout.String(), "as workers marked it")
	})
	other := start(t, env.with("RENEWALS_KEY_WINDOW", "22h", "KLARNA_RATE", "5"), "", "work")
	eventually(t, "that another has other settings is seen", func() bool {
		seen := start(t, env, "", "doctor")
		seen.wait(t)
		said := seen.stdout.String()
		return strings.Contains(said, "workers differ in key_window: 22h0m0s on ") && strings.Contains(said, "workers differ in rate of account default: 5/s on ") && !strings.Contains(said, "differ in endpoint")
	})
	other.stop()
	p.stop()

	// Nobody's accounts are configured where an operator sits.
	out, _ = finish(t, cli.ExitDone, variables{"NATS_URL": b.ClientURL()}, "", "doctor")
	if want := "not seen  klarna        cannot be seen from here: no Klarna account is configured here; run it with"; !strings.Contains(out, want) {
		t.Errorf("%q is not in:\n%s", want, out)
	}
}

func TestDoctorAskedInVain(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--prometheus=prometheus:9090"}, `--prometheus: "prometheus:9090"`},
		{[]string{"--nats-monitoring-url=http://n1:8222,nats://user:hunter2@n2:4222"}, `--nats-monitoring-url: "nats://[redacted]@n2:4222", expected http://host:port`},
		{[]string{"--system-nkey=/nowhere"}, "system account: --nats-nkey: "},
		{[]string{"--try-timeout=0s"}, "--try-timeout"},
	} {
		if _, told := finish(t, cli.ExitUsage, nil, "", append([]string{"doctor"}, row.args...)...); !strings.Contains(told, row.want) {
			t.Errorf("%v: got %q, want %q", row.args, told, row.want)
		}
	}
}

// Every rule that is shipped is asked for.
func TestAlertNames(t *testing.T) {
	t.Parallel()
	names, err := alertNames(deploy.Rules)
	if err != nil || len(names) != strings.Count(string(deploy.Rules), "- alert: ")+strings.Count(string(deploy.Rules), "- record: ") || len(names) < 12 {
		t.Errorf("%d names, %v: %q", len(names), err, names)
	}
}
