package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

type tokenCmd struct {
	Show   tokenShowCmd   `cmd:"" help:"Status and payment method of a customer token."`
	Cancel tokenCancelCmd `cmd:"" help:"Cancel a customer token, for good."`
}

type tokenShowCmd struct {
	Account accountSettings `embed:""`
	Log     logSettings     `embed:""`
	Token   string          `arg:"" help:"The customer token."`
	JSON    bool            `name:"json" help:"As JSON."`
}

type tokenCancelCmd struct {
	Account accountSettings `embed:""`
	Log     logSettings     `embed:""`
	Token   string          `arg:"" help:"The customer token."`
	Yes     bool            `help:"Do not ask." from:"command-line"`
}

const tokenTimeout = 30 * time.Second

// clientOf is the one account that is meant: KLARNA_ACCOUNT, or the only one.
func clientOf(a accountSettings, s *settings, log zerolog.Logger) (worker.Account, error) {
	accounts, err := a.Accounts(s, tokenTimeout, log)
	if err != nil {
		return worker.Account{}, err
	}
	for _, account := range accounts {
		if len(accounts) == 1 || account.Name == messages.Account(a.Account) {
			return account, nil
		}
	}
	return worker.Account{}, usagef("%s: not set, expected one of the accounts of %s", s.Place("klarna-account"), s.File.Path)
}

func (c *tokenShowCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	account, err := clientOf(c.Account, s, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	token, err := account.Klarna.Token(ctx, klarna.NewCustomerToken(c.Token))
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(t.stdout).Encode(token)
	}
	fmt.Fprintf(t.stdout, "status %s, payment method %s", printable(token.Status), printable(token.PaymentMethodType))
	if card := token.Card; card != nil {
		fmt.Fprintf(t.stdout, ", card %s %s until %s", printable(card.Brand), printable(card.MaskedNumber), printable(card.ExpiryDate))
	}
	if debit := token.DirectDebit; debit != nil {
		fmt.Fprintf(t.stdout, ", direct debit %s", printable(debit.MaskedNumber))
	}
	fmt.Fprintln(t.stdout)
	return nil
}

func (c *tokenCancelCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	account, err := clientOf(c.Account, s, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	if !c.Yes && !t.confirm(fmt.Sprintf("Cancel the customer token %s on account %s (%s)? It can never be charged again.",
		messages.NewCustomerToken(c.Token).Fingerprint(), account.Name, account.Host)) {
		return usagef("--yes: not set, and nobody confirmed; nothing was cancelled")
	}
	if err := account.Klarna.CancelToken(ctx, klarna.NewCustomerToken(c.Token)); err != nil {
		return err
	}
	fmt.Fprintln(t.stdout, "cancelled: Klarna has accepted it and carries it out within moments")
	return nil
}
