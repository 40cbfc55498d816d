package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

type publishCmd struct {
	NATS cli.NATSSettings `embed:""`
	Log  cli.LogSettings  `embed:""`
	Job  jobSettings      `embed:""`

	Stamp bool `help:"Put the message ID into an empty merchant_reference2, by which Klarna's settlements then name the very attempt."`

	File string `arg:"" optional:"" help:"JSON Lines, or one job over several lines. Default, and -: standard input."`
}

func (c *publishCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	reader, err := c.Job.reader(s)
	if err != nil {
		return err
	}
	if c.Stamp && c.Job.Capture {
		return cli.Usagef("--stamp: with --capture, expected charges: a capture has a reference of its own")
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return err
	}
	in, name, size, err := openInput(c.File, t)
	if err != nil {
		return err
	}
	defer in.Close()
	ctx, js, err := server.Connect(ctx, c.Log.Logger(t.logs()), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return err
	}
	defer js.Conn().Close()

	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	bar := cli.NewProgress(t.stderr, "published", size)
	p := publication{kind: reader.kind, account: reader.account, name: name, bar: bar, stamp: c.Stamp, odd: oddities{printf: bar.Printf}}
	out := newOutbox(ctx, js, func(o outgoing, f fate) { p.told(ctx, abort, o, f) })
	err = jobs(cli.Interruptible(ctx, in), func(number int, text []byte, read int64) error {
		bar.Set(read)
		id, msg, err := p.message(reader, number, text)
		if err != nil || msg == nil {
			return err
		}
		return out.put(number, id, msg)
	})
	out.close()
	bar.Done()
	p.odd.report(t.margin())
	p.again.report(t.margin())
	fmt.Fprintf(t.stdout, "accepted %d, duplicates %d, invalid %d, failed %d\n", p.accepted, p.duplicates, p.invalid, p.failed)
	if err == nil {
		err = cli.LostConnection(ctx)
	}
	if err == nil && p.invalid+p.failed > 0 {
		err = cli.ErrReported
	}
	return err
}

// A publication counts what becomes of the jobs of one file, and tells of the odd ones.
type publication struct {
	kind    desk.JobKind
	account messages.Account
	name    string // of the file
	bar     *cli.Progress
	stamp   bool

	odd   oddities
	again repeated
	ids   reused

	accepted, duplicates, invalid, failed int
}

// message reads one job; it is nil where that is not published, which was told.
func (p *publication) message(reader jobReader, number int, text []byte) (messages.MessageID, *nats.Msg, error) {
	reading, now := reader.read(text, time.Now())
	switch {
	case len(reading.Problems) > 0:
		p.refuse(number, text, reading.Problems)
		return "", nil, nil
	case len(now) > 0 && !reader.untimely:
		p.refuseNow(number, now)
		return "", nil, nil
	}
	if taken := p.ids.note(reading.Job.ID, number, text); len(taken) > 0 {
		p.refuse(number, text, taken)
		return "", nil, nil
	}
	p.odd.note(fmt.Sprintf("%s:%d", p.name, number), reading.Warnings, now)
	if p.stamp {
		messages.Stamped(&reading.Job)
	} else {
		p.again.note(reading.Renewal(), reading.Facts.MerchantReference1, reading.Facts.MerchantReference2)
	}
	msg, err := p.kind.Message(reader.rules, p.account, reading)
	if err != nil {
		return "", nil, fmt.Errorf("%s:%d: %w", p.name, number, err)
	}
	return reading.Job.ID, msg, nil
}

// told takes in what became of one; abort ends what cannot go on.
func (p *publication) told(ctx context.Context, abort context.CancelCauseFunc, o outgoing, f fate) {
	where := fmt.Sprintf("%s:%d: %s", p.name, o.line, cli.Printable(string(o.id)))
	switch {
	case f.err != nil && ctx.Err() != nil:
		p.failed++ // what was on its way when the command was told to stop
	case errors.Is(f.err, jetstream.ErrNoStreamResponse):
		p.failed++
		abort(fmt.Errorf("publish to %s: no stream takes it; run `renewals provision`", p.kind.Subject(p.account)))
	case f.err != nil:
		p.failed++
		p.bar.Printf("%s: not known to be published: %v; publish it again, a job is charged once however often it is published\n", where, f.err)
	case f.duplicate:
		p.duplicates++
		p.bar.Printf("%s: duplicate, dropped: within its duplicate window the stream takes a Nats-Msg-Id once, whichever account it is for, be it of a charge or of a capture; "+
			"if this is another or a corrected job, give it a new id, or publish it again after that window (%s, unless it was made longer)\n", where, cli.DurationText(topology.DuplicateWindow))
	default:
		p.accepted++
	}
}

// refuse tells of a job that is not published.
func (p *publication) refuse(line int, text []byte, problems []messages.Problem) {
	p.invalid++
	why := cmp.Or(p.kind.Mistaken(text), (&messages.InvalidError{Problems: problems}).Error())
	if bytes.IndexByte(text, '\n') >= 0 {
		why += "; read with all lines that follow as one job, since it does not end with a closing brace"
	}
	p.bar.Printf("%s:%d: not published: %s\n", p.name, line, why)
}

// refuseNow tells of a job that no worker would charge at this time: published, it would be rejected and become a dead letter.
func (p *publication) refuseNow(line int, now []messages.Problem) {
	p.invalid++
	p.bar.Printf("%s:%d: not published: every worker would reject it now: %s: %s; --untimely publishes it all the same\n", p.name, line, now[0].Path, now[0].Message)
}

// openInput opens a file, or standard input for "" and "-". size is 0 where it is not known.
func openInput(path string, t *terminal) (in io.ReadCloser, name string, size int64, err error) {
	if path == "" || path == "-" {
		return io.NopCloser(t.stdin), "stdin", 0, nil
	}
	in, size, err = cli.OpenInput("FILE", path)
	return in, path, size, err
}

// jobs hands out the jobs of an input with the bytes read so far: one a line, numbered by their lines, or one that is spread
// over all lines, numbered by the first. With one job a line the first ends with its closing brace.
func jobs(in io.Reader, each func(number int, text []byte, read int64) error) error {
	var document []byte
	begin, first, end := 0, true, int64(0)
	err := lines(in, func(number int, text []byte, read int64) error {
		if first && len(text) < maxLine && !bytes.HasSuffix(text, []byte("}")) {
			begin = number
		}
		if first, end = false, read; begin == 0 {
			return each(number, text, read)
		}
		if len(document) < maxLine {
			document = append(append(document, text...), '\n')
		}
		return nil
	})
	if err == nil && begin > 0 {
		err = each(begin, bytes.TrimSuffix(document, []byte("\n")), end)
	}
	return err
}

// maxLine is well over the largest job, so that a job that is too large is reported as just that.
const maxLine = 1 << 20

// lines hands out the lines that are not blank, numbered from 1, with the bytes read so far. A line over maxLine is cut
// there and its rest skipped: it is too large for a job either way, also where what is left of it is a job, or blank.
func lines(in io.Reader, each func(number int, text []byte, read int64) error) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	var text []byte
	var read int64
	for number := 1; ; number++ {
		text = text[:0]
		part, err := reader.ReadSlice('\n')
		for ; ; part, err = reader.ReadSlice('\n') {
			read += int64(len(part))
			text = append(text, part[:min(len(part), maxLine-len(text))]...)
			if !errors.Is(err, bufio.ErrBufferFull) {
				break
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read line %d: %w", number, err)
		}
		line := text
		if len(text) < maxLine {
			line = bytes.TrimSpace(text)
		}
		if len(line) > 0 {
			if err := each(number, line, read); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}
