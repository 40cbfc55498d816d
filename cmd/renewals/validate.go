package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

type validateCmd struct {
	Job jobSettings `embed:""`

	File string `arg:"" optional:"" help:"JSON Lines, or one document over several lines. Default, and -: standard input."`
	JSON bool   `name:"json" help:"One JSON object a problem."`

	Strict bool   `help:"Warnings are errors, and with --untimely what every worker would reject now."`
	At     string `placeholder:"TIME" help:"Judge times as of then, RFC 3339, instead of now." from:"command-line"`
}

// finding is one problem of one job.
type finding struct {
	File     string             `json:"file"`
	Line     int                `json:"line"` // where the job begins
	ID       messages.MessageID `json:"id,omitempty"`
	Severity string             `json:"severity"` // error, warning, or now: what every worker would reject now
	Path     string             `json:"path"`
	Message  string             `json:"message"`
	Kind     string             `json:"kind,omitempty"` // of a warning, or the reason of a rejection
}

func (f finding) String() string {
	severity := ""
	if f.Severity != "error" {
		severity = f.Severity + ": "
	}
	return fmt.Sprintf("%s:%d: %s%s: %s", f.File, f.Line, severity, cli.Printable(f.Path), cli.Printable(f.Message))
}

func (c *validateCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	reader, err := c.Job.reader(s)
	if err != nil {
		return err
	}
	at := time.Now()
	if c.At != "" {
		if at, err = time.Parse(time.RFC3339, c.At); err != nil {
			return cli.Usagef("--at: %q, expected a time such as 2026-12-01T00:00:00Z", c.At)
		}
	}
	in, name, _, err := openInput(c.File, t)
	if err != nil {
		return err
	}
	defer in.Close()
	v := validation{cmd: c, reader: reader, out: t.page(), name: name, at: at}
	if c.JSON {
		v.out = t.stdout
	}
	if err := jobs(cli.Interruptible(ctx, in), func(line int, text []byte, _ int64) error { return v.job(line, text) }); err != nil {
		return err
	}
	fmt.Fprintln(t.stderr, v.summary())
	switch {
	case v.found == 0:
		return errors.New("no job found")
	case v.invalid > 0, v.untimely > 0 && !reader.untimely, c.Strict && v.warnings+v.untimely > 0:
		return cli.ErrReported
	}
	return nil
}

// A validation counts what is found in the jobs of one file, and tells of it.
type validation struct {
	cmd    *validateCmd
	reader jobReader
	out    io.Writer
	name   string // of the file
	at     time.Time
	ids    reused

	found, invalid, warnings, untimely int
}

// job checks one, as it would be before it is published.
func (v *validation) job(line int, text []byte) error {
	v.found++
	reading, now := v.reader.read(text, v.at)
	switch {
	case len(reading.Problems) > 0:
		if other := v.reader.kind.Mistaken(text); other != "" {
			reading.Problems = []messages.Problem{{Path: "$", Message: other}}
		}
	case len(now) == 0 || v.reader.untimely:
		reading.Problems = v.ids.note(reading.Job.ID, line, text)
	}
	if len(reading.Problems) > 0 {
		v.invalid++
	}
	v.warnings += len(reading.Warnings)
	v.untimely += len(now)
	return errors.Join(
		v.cmd.print(v.out, v.name, line, reading.Job.ID, "now", now),
		v.cmd.print(v.out, v.name, line, reading.Job.ID, "error", reading.Problems),
		v.cmd.print(v.out, v.name, line, reading.Job.ID, "warning", reading.Warnings))
}

func (v *validation) summary() string {
	summary := fmt.Sprintf("%d jobs, %d invalid, %d warnings", v.found, v.invalid, v.warnings)
	if v.untimely > 0 {
		summary += fmt.Sprintf(", %d that every worker would reject now", v.untimely)
	}
	return summary
}

func (c *validateCmd) print(w io.Writer, file string, line int, id messages.MessageID, severity string, problems []messages.Problem) error {
	for _, p := range problems {
		f := finding{file, line, id, severity, p.Path, p.Message, string(p.Kind)}
		if !c.JSON {
			fmt.Fprintln(w, f)
			continue
		}
		if err := json.NewEncoder(w).Encode(f); err != nil {
			return err
		}
	}
	return nil
}
