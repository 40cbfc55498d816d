package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/dunning"
)

type dunningTableCmd struct {
	JSON     bool `name:"json" xor:"format" help:"One JSON array."`
	Markdown bool `xor:"format" help:"A Markdown table."`
}

func (c *dunningTableCmd) Run(t *terminal) error {
	if c.JSON {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(dunning.Table())
	}
	if c.Markdown {
		return writeMarkdown(t.stdout)
	}
	printDunningTable(t.page())
	return nil
}

func printDunningTable(p *cli.Page) {
	table := cli.NewTable("STATUS", "ERROR_CODE", "REASON", "CATEGORY", "FIX BY", "NOTIFY CUSTOMER", "RETRYABLE")
	for _, d := range dunning.Table() {
		status, code := answer(d)
		table.Add(status, code, d.Reason, d.Category, d.FixBy, yes(d.NotifyCustomer), yes(d.Retryable))
	}
	table.Print(p)
}

func writeMarkdown(w io.Writer) error {
	fmt.Fprint(w, "| status | error_code | reason | category | fix_by | notify_customer | retryable |\n|---|---|---|---|---|---|---|\n")
	for _, d := range dunning.Table() {
		status, code := answer(d)
		if d.Code != "" {
			code = "`" + code + "`"
		}
		if _, err := fmt.Fprintf(w, "| %s | [%s](%s) | `%s` | `%s` | `%s` | %s | %s |\n",
			status, code, d.Source, d.Reason, d.Category, d.FixBy, yes(d.NotifyCustomer), yes(d.Retryable)); err != nil {
			return err
		}
	}
	return nil
}

// answer names what Klarna said, also where that is neither a status nor a code.
func answer(d dunning.Decision) (status, code string) {
	switch {
	case d == dunning.FraudRejected():
		return "2xx", "fraud_status REJECTED"
	case d == dunning.RefusedWithoutCode():
		return "any", "no word of Klarna's, again and again"
	case d.Status == 0:
		return "4xx", "any other"
	case d.Code == "":
		return fmt.Sprint(d.Status), "any"
	}
	return fmt.Sprint(d.Status), d.Code
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
