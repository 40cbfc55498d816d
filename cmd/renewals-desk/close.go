package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/desk/reconcile"
)

type closeCmd struct {
	NATS     cli.NATSSettings     `embed:""`
	Log      cli.LogSettings      `embed:""`
	Decision cli.DecisionSettings `embed:""`

	ID   []string `arg:"" optional:"" help:"Breaks, by the IDs that renewals-desk breaks lists."`
	From string   `placeholder:"FILE" help:"Close many: CSV with a header, with id and note; renewals-desk breaks --csv makes one. Lines without a note are left open. - is standard input." from:"command-line"`
	JSON bool     `name:"json" help:"What was closed, as JSON Lines." from:"command-line"`
}

// wish is a break that is to be closed, and why.
type wish struct {
	place string // where that was said, "" on the command line
	id    messages.BreakID
	note  string
	now   reconcile.Standing
}

func (c *closeCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	if err := c.check(); err != nil {
		return err
	}
	wishes, err := c.wishes(ctx, w)
	if err != nil {
		return err
	}
	ctx, news, hangUp, err := openNews(ctx, c.NATS, c.Log, s, w)
	if err != nil {
		return err
	}
	defer hangUp()
	d := closing{news: news, decision: c.Decision, streams: w, aside: w.beside(c.JSON), asJSON: c.JSON}
	if wishes, err = d.look(ctx, wishes); err != nil {
		return err
	}
	if len(wishes) > 0 {
		if err := d.ask(ctx, wishes); err != nil {
			return err
		}
		if err := d.close(ctx, wishes); err != nil {
			return err
		}
	}
	if d.refused > 0 {
		return cli.ErrReported
	}
	return nil
}

func (c *closeCmd) check() error {
	switch {
	case c.From != "" && len(c.ID) > 0:
		return cli.Usagef("--from: the file says which breaks, expected no ID beside it")
	case c.From != "" && c.Decision.Note != "":
		return cli.Usagef("--note: with --from, whose lines have one each, expected one of them")
	case c.From != "":
		return nil
	case len(c.ID) == 0:
		return cli.Usagef("ID: found nothing, expected IDs of `renewals-desk breaks`, or --from FILE")
	case strings.TrimSpace(c.Decision.Note) == "":
		return cli.Usagef("--note: not set, expected what was done about it, for whoever finds it next")
	}
	for _, id := range c.ID {
		if err := checkID(id); err != nil {
			return cli.Usagef("ID: %w", err)
		}
	}
	return nil
}

// checkID keeps a wildcard, or part of another subject, from being looked up.
func checkID(id string) error {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return fmt.Errorf("%.80q, expected a break's, such as 1f0d3c6a-5b7e-5c21-9d0f-0e0d6f4e5d11", id)
	}
	return nil
}

// wishes reads what is to be closed, each break once.
func (c *closeCmd) wishes(ctx context.Context, w *streams) (all []wish, err error) {
	seen := map[messages.BreakID]bool{}
	add := func(one wish) {
		if !seen[one.id] {
			seen[one.id] = true
			all = append(all, one)
		}
	}
	for _, id := range c.ID {
		add(wish{id: messages.BreakID(id), note: c.Decision.Note})
	}
	if c.From == "" {
		return all, nil
	}
	in, name := w.stdin, "stdin"
	if c.From != "-" {
		f, _, err := cli.OpenInput("--from", c.From)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, c.From
	}
	err = desk.ReadSheet(cli.Interruptible(ctx, in), checkHeader, func(line int, values map[string]string) error {
		if values["note"] == "" || values["status"] == string(messages.BreakClosed) {
			return nil
		}
		if err := checkID(values["id"]); err != nil {
			return fmt.Errorf("line %d: id: %w", line, err)
		}
		add(wish{place: fmt.Sprintf("%s:%d: ", name, line), id: messages.BreakID(values["id"]), note: values["note"]})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w; nothing was closed", name, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no line has a note: nothing was closed", name)
	}
	return all, nil
}

// checkHeader names a column that nobody would read.
func checkHeader(names []string) error {
	return desk.CheckHeader(names, breakColumns, "id", "note")
}

// closing closes breaks.
type closing struct {
	*streams
	news     reconcile.News
	decision cli.DecisionSettings
	aside    *cli.Page
	asJSON   bool
	refused  int
}

// look reads how each stands, and says which are not to be closed: nobody has told of them, or they are closed already.
func (d *closing) look(ctx context.Context, wishes []wish) (left []wish, err error) {
	for _, one := range wishes {
		if one.now, err = d.news.Find(ctx, one.id); err != nil {
			return nil, err
		}
		switch b := one.now; {
		case b.Sequence == 0:
			d.refuse(one, "nobody has told of such a break: `renewals-desk breaks --all` lists all")
		case b.Status == messages.BreakClosed:
			fmt.Fprintf(d.aside, "%s%s of %s is closed already, by %s: %s\n", one.place, b.Kind, dash(name(b.Break)), cli.Printable(b.Actor), cli.Printable(b.Note))
			d.tell(b.Break)
		default:
			left = append(left, one)
		}
	}
	return left, nil
}

func (d *closing) refuse(one wish, why string) {
	d.refused++
	fmt.Fprintf(d.margin(), "%s%s: %s\n", one.place, one.id, why)
}

// tell is for programs.
func (d *closing) tell(b messages.Break) {
	if d.asJSON {
		_ = json.NewEncoder(d.stdout).Encode(b) // whoever does not read on misses nothing
	}
}

// ask shows what is to be closed.
func (d *closing) ask(ctx context.Context, wishes []wish) error {
	var all []reconcile.Standing
	for _, one := range wishes {
		all = append(all, one.now)
	}
	breakTable(all, false, time.Now()).Print(d.aside)
	return cli.Agreed(ctx, d.stdin, d.margin(), d.decision.Yes, fmt.Sprintf("Close %s? Nothing is charged or given back by this: it says that somebody has.", plural(int64(len(wishes)), "break", "breaks")))
}

func (d *closing) close(ctx context.Context, wishes []wish) error {
	closed := 0
	defer func() { fmt.Fprintf(d.aside, "%s closed\n", plural(int64(closed), "break", "breaks")) }()
	for _, one := range wishes {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		decision := d.decision.Decision(time.Now())
		err := d.news.Close(ctx, one.now, decision.Actor, one.note, decision.At)
		switch {
		case errors.Is(err, reconcile.ErrMoved):
			d.refuse(one, reconcile.ErrMoved.Error())
			continue
		case err != nil:
			return fmt.Errorf("%w; it may be closed all the same: run the same command again", err)
		}
		closed++
		b := one.now.Break
		b.Status, b.Actor, b.Note, b.At = messages.BreakClosed, decision.Actor, one.note, decision.At.UTC()
		d.tell(b)
	}
	return nil
}
