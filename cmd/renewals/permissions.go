package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// permissionSettings ask provision for what each role needs on NATS, in place of its work.
type permissionSettings struct {
	PrintPermissions bool     `help:"Print the least that each role must be allowed on NATS, and change nothing." from:"command-line"`
	Role             string   `help:"With --print-permissions: publisher, worker, consumer, operator, provisioner or monitor. Default: all of them." from:"command-line"`
	Account          []string `help:"With --print-permissions: the accounts. Default: those that are configured." from:"command-line"`
	JSON             bool     `name:"json" help:"With --print-permissions: as JSON, for tools that make user credentials."`
}

// check says what is asked for in vain.
func (p permissionSettings) check() error {
	switch {
	case !p.PrintPermissions && p.Role != "":
		return cli.Usagef("--role: set without --print-permissions")
	case !p.PrintPermissions && len(p.Account) > 0:
		return cli.Usagef("--account: set without --print-permissions; the accounts to provision are KLARNA_ACCOUNT, or those of --config")
	case p.Role != "" && !slices.Contains(topology.Roles, topology.Role(p.Role)):
		return cli.Usagef("--role: %q, expected one of %s", p.Role, rolesText())
	}
	for _, name := range p.Account {
		if _, err := messages.ParseAccount(name); err != nil {
			return cli.Usagef("--account: %w", err)
		}
	}
	return nil
}

// print writes the grants of the configured accounts, or of those that --account names, for streams in a JetStream domain.
func (p permissionSettings) print(w io.Writer, domain string, configured func() ([]messages.Account, error)) error {
	var accounts []messages.Account
	for _, name := range p.Account {
		accounts = append(accounts, messages.Account(name))
	}
	if len(accounts) == 0 {
		var err error
		if accounts, err = configured(); err != nil {
			return err
		}
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	var grants []topology.Grant
	for _, r := range topology.Roles {
		if p.Role == "" || topology.Role(p.Role) == r {
			grants = append(grants, topology.GrantsOf(r, accounts, domain)...)
		}
	}
	if p.JSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(grants)
	}
	_, err := io.WriteString(w, configuration(grants))
	return err
}

func rolesText() string {
	names := make([]string, len(topology.Roles))
	for i, r := range topology.Roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// configuration is the grants as variables of a NATS configuration.
func configuration(grants []topology.Grant) string {
	var b strings.Builder
	b.WriteString("# Printed by `renewals provision --print-permissions`: the least that each role must be allowed. Include it at the top\n" +
		"# level and give it to users, permissions: $renewals_worker. Each user connects with the inbox prefix of its role, a\n" +
		"# monitor also with JetStream domain \"" + topology.MonitorDomain + "\"" + others(grants) + ". Publishers, consumers and monitors need NATS accounts of their own.\n" +
		"# Take out what no user has: a server refuses a variable that nothing uses.\n")
	for _, g := range grants {
		name := "renewals_" + string(g.Role)
		if g.Account != "" {
			name += "_" + string(g.Account)
		}
		fmt.Fprintf(&b, "\n%s: {\n  publish: {\n    allow: [\n", name)
		for _, s := range g.Permissions.Publish.Allow {
			fmt.Fprintf(&b, "      %q\n", s)
		}
		b.WriteString("    ]\n  }\n  subscribe: {\n    allow: [\n")
		for _, s := range g.Permissions.Subscribe.Allow {
			fmt.Fprintf(&b, "      %q\n", s)
		}
		b.WriteString("    ]\n  }\n}\n")
	}
	return b.String()
}

// others says in which domain everybody but a monitor reaches the streams, where that is not the server's own.
func others(grants []topology.Grant) string {
	i := slices.IndexFunc(grants, func(g topology.Grant) bool { return g.Role != topology.RoleMonitor })
	if i < 0 || grants[i].Domain == "" {
		return ""
	}
	return ", all others with \"" + grants[i].Domain + "\""
}
