package main

import (
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

	Strict bool      `help:"Warnings are errors, and with --untimely what every worker would reject now."`
	At     time.Time `help:"Judge times as of then, RFC 3339, instead of now." from:"command-line"`
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

func (c *validateCmd) Run(s *cli.Settings, t *terminal) error {
	reader, err := c.Job.reader(s)
	if err != nil {
		return err
	}
	in, name, _, err := openInput(c.File, t)
	if err != nil {
		return err
	}
	defer in.Close()
	found, invalid, warnings, untimely := 0, 0, 0, 0
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	out := io.Writer(t.page())
	if c.JSON {
		out = t.stdout
	}
	err = jobs(in, func(line int, text []byte, _ int64) error {
		found++
		reading, now := reader.read(text, at)
		if len(reading.Problems) > 0 {
			invalid++
			if other := reader.kind.Mistaken(text); other != "" {
				reading.Problems = []messages.Problem{{Path: "$", Message: other}}
			}
		}
		warnings += len(reading.Warnings)
		untimely += len(now)
		return errors.Join(
			c.print(out, name, line, reading.Job.ID, "now", now),
			c.print(out, name, line, reading.Job.ID, "error", reading.Problems),
			c.print(out, name, line, reading.Job.ID, "warning", reading.Warnings))
	})
	if err != nil {
		return err
	}
	summary := fmt.Sprintf("%d jobs, %d invalid, %d warnings", found, invalid, warnings)
	if untimely > 0 {
		summary += fmt.Sprintf(", %d that every worker would reject now", untimely)
	}
	fmt.Fprintln(t.stderr, summary)
	switch {
	case found == 0:
		return errors.New("no job found")
	case invalid > 0, untimely > 0 && !reader.untimely, c.Strict && warnings+untimely > 0:
		return cli.ErrReported
	}
	return nil
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
