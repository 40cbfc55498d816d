package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// A user is what the server tells a connection of itself. It is asked, since to try what must not be possible might do it.
// https://docs.nats.io/running-a-nats-service/configuration/sys_accounts
type user struct {
	Name        string `json:"user"`
	Account     string `json:"account"`
	Permissions *struct {
		Publish   *rights `json:"publish"`
		Subscribe *rights `json:"subscribe"`
	} `json:"permissions"`
}

type rights struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// may says that everything that a filter stands for is allowed. Nil rights allow everything.
func (r *rights) may(filter string) bool {
	if r == nil {
		return true
	}
	if slices.ContainsFunc(r.Deny, func(d string) bool { return covers(d, filter) || covers(filter, d) }) {
		return false
	}
	return len(r.Allow) == 0 || slices.ContainsFunc(r.Allow, func(a string) bool { return covers(a, filter) })
}

// covers says that one filter stands for everything that the other stands for.
func covers(filter, other string) bool {
	f, o := strings.Split(filter, "."), strings.Split(other, ".")
	for i, token := range f {
		switch {
		case token == ">":
			return len(o) > i
		case i >= len(o), o[i] == ">":
			return false
		case token != "*" && token != o[i]:
			return false
		}
	}
	return len(f) == len(o)
}

// A likeness is how a user's rights compare with a role's.
type likeness struct {
	role    topology.Role
	missing []string // what the role needs and the user may not
	beyond  []string // what the user may and the role does not need
}

// compare ignores where answers come: whoever reads this has had one.
func (u user) compare(g topology.Grant) likeness {
	l := likeness{role: g.Role}
	publish, subscribe := u.Permissions.Publish, u.Permissions.Subscribe
	l.missing = slices.DeleteFunc(slices.Clone(g.Permissions.Publish.Allow), publish.may)
	for _, s := range g.Permissions.Subscribe.Allow {
		if !inbox(s) && !subscribe.may(s) {
			l.missing = append(l.missing, "subscribe "+s)
		}
	}
	l.beyond = beyond(publish, g.Permissions.Publish.Allow, "")
	l.beyond = append(l.beyond, beyond(subscribe, g.Permissions.Subscribe.Allow, "subscribe ")...)
	return l
}

// beyond are rights that nothing of what is needed covers.
func beyond(have *rights, need []string, verb string) (all []string) {
	if have == nil || len(have.Allow) == 0 {
		return []string{verb + ">"}
	}
	for _, a := range have.Allow {
		needed := slices.ContainsFunc(need, func(n string) bool { return covers(n, a) })
		if !needed && !(verb != "" && inbox(a)) {
			all = append(all, verb+a)
		}
	}
	return all
}

// inbox says that a filter is the place of one user's answers; _INBOX.> is everybody's.
func inbox(filter string) bool {
	return strings.HasPrefix(filter, "_INBOX_")
}

// unlike is by how many rights they differ.
func (l likeness) unlike() int { return len(l.missing) + len(l.beyond) }

// roleOf finds the role that this user's rights are most like, by the accounts that they name, and compares them with what that role
// needs for all accounts.
func (e *exam) roleOf(u user) (best likeness) {
	own := u.accounts()
	all := append(slices.Clone(own), e.accounts()...)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(own) == 0 {
		own = all
	}
	for _, role := range topology.Roles {
		for _, g := range topology.GrantsOf(role, own, e.JS.Options().Domain) {
			if l := u.compare(g); best.role == "" || l.unlike() < best.unlike() {
				best = l
			}
		}
	}
	if best.role == topology.RolePublisher { // of one account
		return best
	}
	return u.compare(topology.GrantsOf(best.role, all, e.JS.Options().Domain)[0])
}

// accounts are those whose jobs the user may have to do with.
func (u user) accounts() (all []messages.Account) {
	if u.Permissions.Publish == nil {
		return nil
	}
	for _, subject := range u.Permissions.Publish.Allow {
		parts := strings.Split(subject, ".")
		name, ok := strings.CutPrefix(parts[len(parts)-1], topology.ConsumerName(""))
		if due, err := messages.ParseDueSubject(subject); err == nil {
			all = append(all, due)
		} else if a, err := messages.ParseAccount(name); ok && err == nil {
			all = append(all, a)
		}
	}
	return all
}

// examinePermissions asks what this user may do, and compares that with the roles.
func examinePermissions(ctx context.Context, e *exam) []Finding {
	var answer struct {
		Data user `json:"data"`
	}
	err := e.askSubjects(ctx, []string{topology.UserInfo}, func(ctx context.Context) error {
		m, err := e.JS.Conn().RequestWithContext(ctx, topology.UserInfo, nil)
		if err != nil {
			return err
		}
		return json.Unmarshal(m.Data, &answer)
	})
	if err != nil {
		return blind(err)
	}
	u := answer.Data
	if u.Permissions == nil || u.Permissions.Publish == nil && u.Permissions.Subscribe == nil {
		return one(Warn, fmt.Sprintf("%s may do everything in the NATS account %s", called(u.Name), u.Account),
			"deleting the journal among it, and reading every customer token", "give each its role (renewals provision --print-permissions, deploy/nats/accounts.conf)")
	}
	l := e.roleOf(u)
	seen := fmt.Sprintf("%s looks like role %s", called(u.Name), l.role)
	do := fmt.Sprintf("renewals provision --print-permissions --role %s prints what it should be", l.role)
	switch {
	case len(l.missing) > 0:
		return one(Warn, seen+", but may not: "+list(l.missing), "commands of this user fail, or wait for answers that do not come", do)
	case len(l.beyond) > 0:
		return one(Warn, seen+", and may besides: "+list(l.beyond), "what nobody needs somebody will do by mistake", do)
	}
	return well("%s, and may nothing else", seen)
}

// called shortens the public keys that users are often named by.
func called(name string) string {
	switch {
	case name == "":
		return "this user"
	case len(name) > 20:
		return "user " + name[:8] + "…"
	}
	return "user " + name
}

// list names the first few.
func list(all []string) string {
	const most = 4
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}
