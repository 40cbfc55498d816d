package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// jobSettings say what the jobs of a file are, and whom they are for.
type jobSettings struct {
	Capture  bool `help:"Capture jobs, which take the money of orders made without auto_capture, instead of charges." from:"command-line"`
	Untimely bool `help:"Take also what every worker would reject now: not_due, too_old or expired." from:"command-line"`

	Account       string        `setting:"KLARNA_ACCOUNT" help:"The account to charge. Default: the only one of --config, else \"default\"."`
	Retention     time.Duration `help:"How long the journal remembers a renewal, from which follows what is too_old. Default 120d."`
	MixedCadences bool          `help:"For an account with mixed_cadences: allow: an order may recur in several ways."`
	MerchantName  string        `help:"Warn where it is in a subscription's name."`
}

func (s jobSettings) kind() desk.JobKind {
	if s.Capture {
		return desk.CaptureJob
	}
	return desk.ChargeJob
}

// reader is what jobs are read by.
func (s jobSettings) reader(from *cli.Settings) (jobReader, error) {
	entry, err := accountOf(from, s.Account)
	r := jobReader{
		kind: s.kind(), account: messages.Account(entry.Name), untimely: s.Untimely, memory: messages.DefaultMemory,
		rules: messages.Rules{MixedCadences: s.MixedCadences || entry.MixedCadences == "allow", MerchantName: s.MerchantName},
	}
	if r.rules.MerchantName == "" {
		r.rules.MerchantName = entry.MerchantName
	}
	if s.Retention > 0 {
		r.memory += s.Retention - topology.DefaultRetention
	}
	return r, err
}

// accountOf is the entry of the one account that jobs are for: the one that is named, else the only one of the file or that which is called
// "default". Without a file the entry has a name alone.
func accountOf(s *cli.Settings, name string) (cli.AccountEntry, error) {
	if s.File == nil || len(s.File.Accounts) == 0 {
		if name == "" {
			name = cli.DefaultAccount
		}
		if _, err := messages.ParseAccount(name); err != nil {
			return cli.AccountEntry{}, cli.Usagef("%s: %w", s.Place("account"), err)
		}
		return cli.AccountEntry{Name: name}, nil
	}
	accounts := s.File.Accounts
	if name == "" && len(accounts) == 1 {
		return accounts[0], nil
	}
	sought := name
	if name == "" {
		sought = cli.DefaultAccount
	}
	i := slices.IndexFunc(accounts, func(e cli.AccountEntry) bool { return e.Name == sought })
	if i >= 0 {
		return accounts[i], nil
	}
	names := make([]string, len(accounts))
	for i, e := range accounts {
		names[i] = e.Name
	}
	if len(names) > mostNamed {
		names = append(names[:mostNamed], "…")
	}
	if name == "" {
		return cli.AccountEntry{}, cli.Usagef("%s: not set, expected one of the accounts of %s: %s", s.Place("account"), s.File.Path, strings.Join(names, ", "))
	}
	return cli.AccountEntry{}, cli.Usagef("%s: %q is not among the accounts of %s: %s", s.Place("account"), name, s.File.Path, strings.Join(names, ", "))
}

// mostNamed accounts are listed in a message.
const mostNamed = 10

// jobReader reads jobs as the workers of an account will.
type jobReader struct {
	kind     desk.JobKind
	account  messages.Account
	rules    messages.Rules
	memory   time.Duration // of the journal
	untimely bool          // what would be rejected now is taken, too
}

// read reads one job; now is why every worker would reject it at a time, although it is valid in itself.
func (r jobReader) read(text []byte, at time.Time) (reading desk.JobReading, now []messages.Problem) {
	if len(text) >= maxLine {
		reading.Problems = []messages.Problem{{Path: "$", Message: fmt.Sprintf("found %d bytes or more, of which no more were read, expected at most 256 KiB, one job a line", maxLine)}}
		return reading, nil
	}
	reading = r.kind.ReadBy(r.rules, text, nil)
	return reading, reading.Untimely(at, r.memory)
}
