package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

type watchCmd struct {
	NATS natsSettings `embed:""`
	Log  logSettings  `embed:""`

	Kind    []string `help:"Kinds to show: charging, pending, paid, dunning, unresolved, rejected, cancelled, capturing, captured, capture_failed. Default: all but charging and capturing."`
	Account []string `help:"Accounts to show. Default: all."`

	Subscription string `help:"The subscription to show, all its periods. Default: all of them."`

	JSON  bool   `name:"json" help:"JSON Lines also on a terminal."`
	Since string `help:"Begin in the past: a duration, 90m or 7d, or a time, 2026-12-01T00:00:00Z. Default: now."`
}

func (c *watchCmd) Run(ctx context.Context, s *settings, t *terminal) error {
	config, err := c.consumer(time.Now())
	if err != nil {
		return usageError{err}
	}
	server, err := c.NATS.server(s)
	if err != nil {
		return err
	}
	ctx, js, err := server.connect(ctx, c.Log.logger(t))
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	asJSON := c.JSON || !isTerminal(t.stdout)
	err = follow(ctx, js, config, func(r record) error { return printRecord(t.stdout, r, asJSON) })
	if err == nil {
		err = lostConnection(ctx)
	}
	return err
}

func (c *watchCmd) consumer(now time.Time) (jetstream.OrderedConsumerConfig, error) {
	config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy}
	if c.Since != "" {
		since, err := time.Parse(time.RFC3339, c.Since)
		if err != nil {
			d, err := parseDuration(c.Since)
			if err != nil {
				return config, fmt.Errorf("--since: %w, or a time such as 2026-12-01T00:00:00Z", err)
			}
			since = now.Add(-d)
		}
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	kinds := slices.DeleteFunc(messages.Kinds(), isClaim)
	if len(c.Kind) > 0 {
		kinds = nil
		for _, kind := range c.Kind {
			if !slices.Contains(messages.Kinds(), messages.Kind(kind)) {
				return config, fmt.Errorf("--kind: %q, expected one of %s", kind, join(messages.Kinds()))
			}
			kinds = append(kinds, messages.Kind(kind))
		}
	}
	accounts := []messages.Account{"*"}
	if len(c.Account) > 0 {
		accounts = nil
		for _, name := range c.Account {
			account, err := messages.ParseAccount(name)
			if err != nil {
				return config, fmt.Errorf("--account: %w", err)
			}
			accounts = append(accounts, account)
		}
	}
	filter := messages.RecordFilter
	if c.Subscription != "" {
		subscription, err := messages.ParseSubscriptionID(c.Subscription)
		if err != nil {
			return config, fmt.Errorf("--subscription: %w", err)
		}
		filter = func(kind messages.Kind, account messages.Account) string {
			return messages.SubscriptionRecordFilter(kind, subscription, account)
		}
	}
	for _, kind := range kinds {
		for _, account := range accounts {
			config.FilterSubjects = append(config.FilterSubjects, filter(kind, account))
		}
	}
	slices.SortFunc(config.FilterSubjects, strings.Compare)
	config.FilterSubjects = slices.Compact(config.FilterSubjects) // the server refuses a filter that is there twice
	return config, nil
}
