package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klarna-renewals/renewals/messages"
)

type validateCmd struct {
	Job jobSettings `embed:""`

	File string `arg:"" optional:"" help:"JSON Lines, or one document over several lines. Default, and -: standard input."`
	JSON bool   `name:"json" help:"One JSON object a problem."`
}

// finding is one problem of one job.
type finding struct {
	File     string             `json:"file"`
	Line     int                `json:"line"` // where the job begins
	ID       messages.MessageID `json:"id,omitempty"`
	Severity string             `json:"severity"` // error or warning
	Path     string             `json:"path"`
	Message  string             `json:"message"`
}

func (f finding) String() string {
	severity := ""
	if f.Severity == "warning" {
		severity = "warning: "
	}
	return fmt.Sprintf("%s:%d: %s%s: %s", f.File, f.Line, severity, printable(f.Path), printable(f.Message))
}

func (c *validateCmd) Run(t *terminal) error {
	in, name, _, err := openInput(c.File, t)
	if err != nil {
		return err
	}
	defer in.Close()
	kind := c.Job.kind()
	found, invalid, warnings := 0, 0, 0
	err = jobs(in, func(line int, text []byte, _ int64) error {
		found++
		reading := kind.read(text, nil)
		if len(reading.Problems) > 0 {
			invalid++
			if other := kind.mistaken(text); other != "" {
				reading.Problems = []messages.Problem{{Path: "$", Message: other}}
			}
		}
		warnings += len(reading.Warnings)
		return errors.Join(
			c.print(t.stdout, name, line, reading.Job.ID, "error", reading.Problems),
			c.print(t.stdout, name, line, reading.Job.ID, "warning", reading.Warnings))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stderr, "%d jobs, %d invalid, %d warnings\n", found, invalid, warnings)
	switch {
	case found == 0:
		return errors.New("no job found")
	case invalid > 0:
		return errReported
	}
	return nil
}

func (c *validateCmd) print(w io.Writer, file string, line int, id messages.MessageID, severity string, problems []messages.Problem) error {
	for _, p := range problems {
		f := finding{file, line, id, severity, p.Path, p.Message}
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
