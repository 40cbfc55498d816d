package main

import (
	"fmt"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
)

type schemaCmd struct {
	Name string `arg:"" optional:"" help:"job, capture, paid, dunning, captured, … or asyncapi. Default: the list of names."`
}

func (c *schemaCmd) Run(t *terminal) error {
	if c.Name == "" {
		_, err := fmt.Fprintln(t.stdout, strings.Join(messages.SchemaNames(), "\n"))
		return err
	}
	text, ok := messages.Schema(c.Name)
	if !ok {
		return usagef("NAME: %q, expected one of %s", c.Name, strings.Join(messages.SchemaNames(), ", "))
	}
	_, err := t.stdout.Write(text)
	return err
}
