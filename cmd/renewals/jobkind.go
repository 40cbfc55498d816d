package main

import (
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// jobSettings say which kind of jobs a file holds.
type jobSettings struct {
	Capture bool `help:"Capture jobs, which take the money of orders made without auto_capture, instead of charges." from:"command-line"`

	MixedCadences bool   `help:"For an account with mixed_cadences: allow: an order may recur in several ways."`
	MerchantName  string `help:"Warn where it is in a subscription's name."`
}

// rules are those of the account that the jobs are for.
func (s jobSettings) rules() messages.Rules {
	return messages.Rules{MixedCadences: s.MixedCadences, MerchantName: s.MerchantName}
}

func (s jobSettings) kind() desk.JobKind {
	if s.Capture {
		return desk.CaptureJob
	}
	return desk.ChargeJob
}
