package main

import (
	"fmt"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
)

type schemaCmd struct {
	Name string `arg:"" optional:"" help:"job, capture, paid, dunning, captured, …, asyncapi, or config for the file of --config. Default: the list of names."`
}

// configSchema is the one that is not of a message.
const configSchema = "config"

func (c *schemaCmd) Run(s *cli.Settings, t *terminal) error {
	names := append(messages.SchemaNames(), configSchema)
	if c.Name == "" {
		_, err := fmt.Fprintln(t.stdout, strings.Join(names, "\n"))
		return err
	}
	if c.Name == configSchema {
		return cli.WriteConfigSchema(t.stdout, s.Grammar)
	}
	text, ok := messages.Schema(c.Name)
	if !ok {
		return cli.Usagef("NAME: %q, expected one of %s", c.Name, strings.Join(names, ", "))
	}
	_, err := t.stdout.Write(text)
	return err
}
