package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/deploy"
	"github.com/klarna-renewals/renewals/worker/doctor"
	"github.com/klarna-renewals/renewals/worker/journal"
)

type doctorCmd struct {
	NATS    cli.NATSSettings    `embed:""`
	Account cli.AccountSettings `embed:""`
	Log     cli.LogSettings     `embed:""`
	Tries   trySettings         `embed:""`
	View    viewSettings        `embed:""`

	Prometheus    string        `help:"URL of the Prometheus that scrapes the workers, to see whether the alerts are loaded."`
	Retention     time.Duration `help:"How long the journal is meant to remember, as provision was told."`
	UnresolvedFor time.Duration `default:"24h" help:"From which age on an unresolved renewal is one too long."`
	JSON          bool          `name:"json" help:"As JSON, one line."`
	Strict        bool          `help:"Exit with 1 also for warnings and for what cannot be seen."`
}

// Run fails where something is not safe. What is not answered within the timeout of the whole is not seen.
func (c *doctorCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	until := time.Now().Add(c.NATS.Timeout)
	patient, err := c.patient(s, t)
	if err != nil {
		return err
	}
	if err := c.View.check(c.NATS.Reach, s); err != nil {
		return err
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	patient.JS, patient.InClear = js, cli.InClear(js.Conn())
	leave, err := c.View.sight(ctx, c.NATS, s, &patient)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return c.examine(ctx, patient, t)
}

// examine tells what is found, and fails where it is not safe, or where the streams were not seen at all.
func (c *doctorCmd) examine(ctx context.Context, p doctor.Patient, t *terminal) error {
	tell := func(f doctor.Finding) { printFinding(t.page(), f) }
	if c.JSON {
		tell = func(doctor.Finding) {}
	}
	found := doctor.Examine(ctx, p, tell)
	counts := doctor.Count(found)
	if c.JSON {
		worst, _ := doctor.Worst(found)
		if err := json.NewEncoder(t.stdout).Encode(struct {
			At       time.Time              `json:"at"`
			Verdict  doctor.Verdict         `json:"verdict"` // the worst
			Counts   map[doctor.Verdict]int `json:"counts"`
			Findings []doctor.Finding       `json:"findings"`
		}{time.Now().UTC(), worst.Verdict, counts, found}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(t.page(), "\n%s\n", summary(counts))
	}
	if counts[doctor.NotSafe] > 0 || doctor.Blind(found) || c.Strict && counts[doctor.OK] < len(found) {
		return cli.ErrReported
	}
	return nil
}

func summary(counts map[doctor.Verdict]int) string {
	verdict := "safe"
	switch {
	case counts[doctor.NotSafe] > 0:
		verdict = "NOT SAFE"
	case counts[doctor.Unseen] > 0:
		verdict = "nothing unsafe is seen, but not everything is seen"
	case counts[doctor.Warn] > 0:
		verdict = "safe, with warnings"
	}
	return fmt.Sprintf("%s: %d not safe, %d cannot be seen from here, %d warnings, %d ok", verdict, counts[doctor.NotSafe], counts[doctor.Unseen], counts[doctor.Warn], counts[doctor.OK])
}

// verdictText is a verdict as people read it.
var verdictText = map[doctor.Verdict]string{doctor.OK: "ok", doctor.Warn: "warn", doctor.NotSafe: "NOT SAFE", doctor.Unseen: "not seen"}

func printFinding(p *cli.Page, f doctor.Finding) {
	colour := map[doctor.Verdict]cli.Style{doctor.OK: cli.Green, doctor.Warn: cli.Yellow, doctor.NotSafe: cli.Alarm}[f.Verdict]
	row := []string{p.Paint(colour, verdictText[f.Verdict]), strings.ReplaceAll(f.Check, "_", " "), cli.Printable(findingText(f))}
	_ = p.Lines(cli.Layout{Widths: []int{8, 12}, Prose: true, Indent: 4}.Format(row, p.Width)...)
}

// findingText is what was seen, why it matters and what to do.
func findingText(f doctor.Finding) string {
	text := f.Seen
	if f.Verdict == doctor.Unseen {
		text = "cannot be seen from here: " + text
	}
	if f.Why != "" {
		text += ": " + f.Why
	}
	if f.Do != "" {
		text += "; " + f.Do
	}
	return text
}

// patient is everything but the connections.
func (c *doctorCmd) patient(s *cli.Settings, t *terminal) (p doctor.Patient, err error) {
	if err := c.Tries.check(s); err != nil {
		return p, cli.Usage(err)
	}
	p = doctor.Patient{
		LeaseNeeded: journal.Timing{TryTimeout: c.Tries.TryTimeout, TryBudget: c.Tries.TryBudget}.LeaseNeeded(),
		Retention:   c.Retention, UnresolvedFor: c.UnresolvedFor, Version: cli.Version(),
	}
	if c.Prometheus != "" {
		if p.Prometheus, err = webURL(c.Prometheus); err != nil {
			return p, cli.Usagef("%s: %w", s.Place("prometheus"), err)
		}
	}
	if p.Alerts, err = alertNames(deploy.Rules); err != nil {
		return p, err
	}
	if !c.Account.Configured(s) {
		return p, nil
	}
	accounts, err := c.Account.Accounts(s, c.Tries.TryTimeout, c.Log.Logger(t.logs()))
	if err != nil {
		return p, err
	}
	for _, a := range accounts {
		endpoint, err := url.Parse(a.Endpoint)
		if err != nil {
			return p, cli.Usage(err)
		}
		p.Names = append(p.Names, a.Name)
		p.Klarna = append(p.Klarna, doctor.Account{Name: a.Name, Klarna: a.Klarna, Endpoint: endpoint})
	}
	return p, nil
}

// alertNames reads which rules there are, recorded series among them.
func alertNames(text []byte) (names []string, err error) {
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Record string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read the alert rules of this program: %w", err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert+r.Record)
		}
	}
	return names, nil
}
