package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

type exportCmd struct {
	Books  booksSettings  `embed:""`
	Filter filterSettings `embed:""`

	Kind []string `help:"Kinds of records. Default: all but charging and capturing." from:"command-line"`
	CSV  bool     `name:"csv" help:"CSV, which is the only form." from:"command-line"`
}

func (c *exportCmd) Run(ctx context.Context, s *cli.Settings, w *streams) error {
	filter, err := c.Filter.filter(time.Now())
	if err != nil {
		return err
	}
	for _, kind := range c.Kind {
		if !slices.Contains(messages.Kinds(), messages.Kind(kind)) {
			var known []string
			for _, k := range messages.Kinds() {
				known = append(known, string(k))
			}
			return cli.Usagef("--kind: %q, expected some of %s", kind, strings.Join(known, ", "))
		}
		filter.Kinds = append(filter.Kinds, messages.Kind(kind))
	}
	b, err := c.Books.open(ctx, s)
	if err != nil {
		return err
	}
	defer b.Close()
	out := bufio.NewWriterSize(w.stdout, 64<<10)
	n, err := b.Export(ctx, out, filter)
	if err == nil {
		err = out.Flush()
	}
	if err == nil && cli.IsTerminal(w.stderr) && !cli.IsTerminal(w.stdout) {
		fmt.Fprintf(w.stderr, "%s\n", plural(n, "record written", "records written"))
	}
	return err
}
