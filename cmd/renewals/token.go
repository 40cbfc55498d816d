package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

type tokenCmd struct {
	Show   tokenShowCmd   `cmd:"" help:"Status and payment method of a customer token."`
	Cancel tokenCancelCmd `cmd:"" help:"Cancel a customer token, for good."`
}

// tokenSettings say where the customer token is, which is a secret: whoever has it can charge.
type tokenSettings struct {
	File string `name:"token-file" help:"File with the customer token. Default, and -: standard input, which on a terminal is a question." from:"command-line"`

	Argument string `arg:"" optional:"" name:"none" help:"Refused: whatever stands here can be read by others."`
}

// check refuses a secret where it does not belong, before anything else is looked at.
func (s tokenSettings) check() error {
	if s.Argument != "" {
		return cli.Usagef("an argument, expected none: a customer token on a command line can be read by everybody on the machine and stays in the shell's history; give it by --token-file, on standard input or when asked")
	}
	return nil
}

// mostToken is more than any customer token has.
const mostToken = 1 << 10

// read asks a person where there is one to ask, and shows nothing of the answer.
func (s tokenSettings) read(ctx context.Context, t *terminal) (messages.CustomerToken, error) {
	var none messages.CustomerToken
	var text []byte
	var err error
	if asked, ok := t.stdin.(*os.File); (s.File == "" || s.File == "-") && ok && cli.IsTerminal(asked) {
		text, err = t.secret(ctx, asked, "Customer token: ")
	} else {
		in := t.stdin
		if s.File != "" && s.File != "-" {
			file, _, err := cli.OpenInput("--token-file", s.File)
			if err != nil {
				return none, err
			}
			defer file.Close()
			in = file
		}
		text, err = io.ReadAll(io.LimitReader(cli.Interruptible(ctx, in), mostToken))
	}
	if err != nil {
		return none, fmt.Errorf("read the customer token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if !customerToken.MatchString(token) {
		return none, cli.Usagef("customer token: found %d bytes, expected 1 to 255 of A-Z, a-z, 0-9, dot, _, ~ and -, by --token-file or on standard input", len(token))
	}
	return messages.NewCustomerToken(token), nil
}

var customerToken = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,255}$`)

type tokenShowCmd struct {
	Account cli.AccountSettings `embed:""`
	Log     cli.LogSettings     `embed:""`
	Token   tokenSettings       `embed:""`
	JSON    bool                `name:"json" help:"As JSON."`
}

type tokenCancelCmd struct {
	NATS     cli.NATSSettings     `embed:""`
	Account  cli.AccountSettings  `embed:""`
	Log      cli.LogSettings      `embed:""`
	Token    tokenSettings        `embed:""`
	Decision cli.DecisionSettings `embed:""`

	Subscription string `help:"The subscription that the token was for: the record is filed under it." from:"command-line"`
	NoRecord     bool   `help:"Cancel without NATS, and leave no record of it." from:"command-line"`
}

const tokenTimeout = 30 * time.Second

// clientOf is the one account that is meant: KLARNA_ACCOUNT, or the only one.
func clientOf(a cli.AccountSettings, s *cli.Settings, log zerolog.Logger) (worker.Account, error) {
	accounts, err := a.Accounts(s, tokenTimeout, log)
	if err != nil {
		return worker.Account{}, err
	}
	for _, account := range accounts {
		if len(accounts) == 1 || account.Name == messages.Account(a.Account) {
			return account, nil
		}
	}
	return worker.Account{}, cli.Usagef("%s: not set, expected one of the accounts of %s", s.Place("klarna-account"), s.File.Path)
}

func (c *tokenShowCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.Token.check(); err != nil {
		return err
	}
	account, err := clientOf(c.Account, s, c.Log.Logger(t.logs()))
	if err != nil {
		return err
	}
	secret, err := c.Token.read(ctx, t)
	if err != nil {
		return err
	}
	token, err := account.Klarna.Token(ctx, klarna.NewCustomerToken(secret.Reveal()))
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(t.stdout).Encode(token)
	}
	fmt.Fprintf(t.stdout, "status %s, payment method %s", cli.Printable(token.Status), cli.Printable(token.PaymentMethodType))
	if card := token.Card; card != nil {
		fmt.Fprintf(t.stdout, ", card %s %s until %s", cli.Printable(card.Brand), cli.Printable(card.MaskedNumber), cli.Printable(card.ExpiryDate))
	}
	if debit := token.DirectDebit; debit != nil {
		fmt.Fprintf(t.stdout, ", direct debit %s", cli.Printable(debit.MaskedNumber))
	}
	fmt.Fprintln(t.stdout)
	return nil
}

// Run records what was asked for before Klarna is asked, and then that Klarna has taken it on: whatever dies in between, somebody
// can see that the token may be gone.
func (c *tokenCancelCmd) Run(ctx context.Context, s *cli.Settings, t *terminal) error {
	if err := c.Token.check(); err != nil {
		return err
	}
	log := c.Log.Logger(t.logs())
	account, err := clientOf(c.Account, s, log)
	if err != nil {
		return err
	}
	ctx, record, end, err := c.recorder(ctx, s, log)
	if err != nil {
		return err
	}
	defer end()
	secret, err := c.Token.read(ctx, t)
	if err != nil {
		return err
	}
	if err := t.agreed(ctx, c.Decision.Yes, fmt.Sprintf("Cancel the customer token %s on account %s (%s)? It can never be charged again.",
		secret.Fingerprint(), account.Name, account.Host)); err != nil {
		return err
	}
	decision := c.Decision.Decision(time.Now())
	news := messages.TokenNews{
		Account: account.Name, SubscriptionID: messages.SubscriptionID(c.Subscription), TokenFingerprint: secret.Fingerprint(),
		Finding: messages.TokenCancelling, At: decision.At, Actor: decision.Actor, Note: decision.Note,
	}
	if err := record(ctx, news); err != nil {
		return fmt.Errorf("nothing was cancelled: %w", err)
	}
	if err := account.Klarna.CancelToken(ctx, klarna.NewCustomerToken(secret.Reveal())); err != nil {
		return fmt.Errorf("%w; whether it is cancelled, renewals token show says", err)
	}
	fmt.Fprintln(t.stdout, "cancelled: Klarna has accepted it and carries it out within moments")
	news.Finding, news.At = messages.TokenCancelled, time.Now()
	if err := record(ctx, news); err != nil {
		return fmt.Errorf("it is cancelled, but on record only that this was asked for: %w", err)
	}
	return nil
}

// recorder writes to the stream of news, unless nobody wants a record. The connection is made before anything else happens.
func (c *tokenCancelCmd) recorder(ctx context.Context, s *cli.Settings, log zerolog.Logger) (_ context.Context, record func(context.Context, messages.TokenNews) error, end func(), err error) {
	if c.NoRecord {
		return ctx, func(context.Context, messages.TokenNews) error { return nil }, func() {}, nil
	}
	server, err := c.NATS.Server(s)
	if err != nil {
		return ctx, nil, nil, err
	}
	ctx, js, err := server.Connect(ctx, log)
	if err != nil {
		return ctx, nil, nil, fmt.Errorf("%w\n--no-record cancels without a record", err)
	}
	record = func(ctx context.Context, news messages.TokenNews) error {
		m, err := news.Message()
		if err != nil {
			return err
		}
		_, err = js.PublishMsg(ctx, m, jetstream.WithExpectStream(messages.StreamNews))
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			return fmt.Errorf("stream %s is missing; run `renewals provision`, or with --no-record cancel without a record", messages.StreamNews)
		}
		if err != nil {
			return fmt.Errorf("record it in %s: %w", messages.StreamNews, err)
		}
		return nil
	}
	return ctx, record, js.Conn().Close, nil
}
