package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// permissionSettings ask provision for what each role needs on NATS, in place of its work.
type permissionSettings struct {
	PrintPermissions bool     `help:"Print the least that each role must be allowed on NATS, and change nothing."`
	Role             string   `help:"With --print-permissions: publisher, worker, consumer, operator, provisioner or monitor. Default: all of them."`
	Account          []string `help:"With --print-permissions: the accounts. Default: those that are configured."`
	JSON             bool     `name:"json" help:"With --print-permissions: as JSON, for tools that make user credentials."`
}

// check says what is asked for in vain.
func (p permissionSettings) check() error {
	switch {
	case !p.PrintPermissions && p.Role != "":
		return usagef("--role: set without --print-permissions")
	case !p.PrintPermissions && len(p.Account) > 0:
		return usagef("--account: set without --print-permissions; the accounts to provision are KLARNA_ACCOUNT, or those of --config")
	case p.Role != "" && !slices.Contains(roles, role(p.Role)):
		return usagef("--role: %q, expected one of %s", p.Role, rolesText())
	}
	for _, name := range p.Account {
		if _, err := messages.ParseAccount(name); err != nil {
			return usagef("--account: %w", err)
		}
	}
	return nil
}

// print writes the grants of the configured accounts, or of those that --account names.
func (p permissionSettings) print(w io.Writer, configured func() ([]messages.Account, error)) error {
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
	var grants []grant
	for _, r := range roles {
		if p.Role == "" || role(p.Role) == r {
			grants = append(grants, grantsOf(r, accounts)...)
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

// role is a kind of NATS user.
type role string

const (
	rolePublisher   role = "publisher"   // a billing system: jobs of one account
	roleWorker      role = "worker"      // renewals work
	roleConsumer    role = "consumer"    // whoever acts on results
	roleOperator    role = "operator"    // show, resolve, cancel, dead: whoever is on call
	roleProvisioner role = "provisioner" // provision: nobody else changes a stream
	roleMonitor     role = "monitor"     // renewals status
)

var roles = []role{rolePublisher, roleWorker, roleConsumer, roleOperator, roleProvisioner, roleMonitor}

func rolesText() string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// grant is everything that one user may do; nothing else is allowed.
type grant struct {
	Role        role             `json:"role"`
	Account     messages.Account `json:"account,omitempty"` // of a publisher
	InboxPrefix string           `json:"inbox_prefix"`
	Domain      string           `json:"jetstream_domain,omitempty"` // of a monitor
	Permissions permissions      `json:"permissions"`
}

// permissions are as a NATS server reads them.
// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization
type permissions struct {
	Publish   allowed `json:"publish"`
	Subscribe allowed `json:"subscribe"`
}

type allowed struct {
	Allow []string `json:"allow"`
}

// marks are the streams that remember how far the journal had come.
var marks = []string{messages.StreamMarks, messages.StreamMarksCopy}

// bucket is the stream behind the workers' bucket.
const bucket = "KV_" + topology.BucketWorkers

// everyStream is all that provision makes, the bucket's included.
var everyStream = append([]string{messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead, bucket}, marks...)

// quota asks how much of what the NATS account may store is taken.
var quota = []string{"$JS.API.INFO"}

// monitorDomain is under what name a monitor reaches JetStream: it has a NATS account of its own, into which the parts of
// the API that it needs are imported. Their usual names answer there that the account has no JetStream.
const monitorDomain = "monitor"

// grantsOf lists what a role needs: one grant, or for publishers one for each account. Each has an inbox prefix of its
// own, since whoever may read _INBOX.> reads the answers to everybody, the jobs with their customer tokens among them.
// The lists say what a user may send and receive, not where the answer to a request goes: the server does not check that,
// so that publishers, consumers and monitors belong into NATS accounts apart from the workers'.
func grantsOf(r role, accounts []messages.Account) []grant {
	var may []string
	switch r {
	case rolePublisher:
		grants := make([]grant, len(accounts))
		for i, a := range accounts {
			grants[i] = newGrant(r, a, []string{messages.DueSubject(a), messages.CaptureSubject(a)})
		}
		return grants
	case roleWorker:
		may = slices.Concat(
			quota, info(everyStream...),
			messagesOf(marks...), []string{messages.MarkSubjects},
			messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal),
			read(messages.StreamJournal),
			presences(),
			[]string{"$KV." + topology.BucketWorkers + ".>", "$JS.API.DIRECT.GET." + bucket + ".>"},
			recordsOf(accounts, messages.KindCharging, messages.KindPending, messages.KindPaid, messages.KindDunning, messages.KindRejected,
				messages.KindCapturing, messages.KindCaptured, messages.KindCaptureFailed),
			// Of every account: whoever sweeps settles what any worker abandoned.
			records(messages.KindUnresolved), []string{messages.DeadSubject("*", "*")},
		)
		for _, a := range accounts {
			may = append(may, messages.ParkedFilter(a)) // nobody else: who may write there may empty the stream
		}
		for _, c := range consumers(accounts) {
			may = append(may,
				"$JS.API.CONSUMER.INFO."+c.stream+"."+c.name,
				"$JS.API.CONSUMER.MSG.NEXT."+c.stream+"."+c.name,
			)
			may = append(may, acks(c.stream, c.name)...)
		}
	case roleConsumer:
		may = slices.Concat(info(messages.StreamJournal), read(messages.StreamJournal), acks(messages.StreamJournal, "*"))
	case roleOperator:
		may = slices.Concat(
			quota, info(everyStream...),
			messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead),
			api("STREAM.MSG.DELETE", messages.StreamDead),
			read(messages.StreamJournal), read(messages.StreamDead),
			presences(),
			records(messages.KindPaid, messages.KindDunning, messages.KindCancelled, messages.KindCaptured, messages.KindCaptureFailed),
		)
		for _, a := range accounts {
			may = append(may, messages.DueSubject(a), messages.CaptureSubject(a)) // dead letters that are replayed
		}
	case roleProvisioner:
		may = slices.Concat(
			api("STREAM.CREATE", everyStream...), api("STREAM.UPDATE", everyStream...), info(everyStream...),
			// A journal that was restored is accepted by a new mark, which names the journal's last record.
			messagesOf(messages.StreamJournal), messagesOf(marks...), []string{messages.MarkSubjects},
		)
		for _, c := range consumers(accounts) {
			may = append(may, "$JS.API.CONSUMER.CREATE."+c.stream+"."+c.name+"."+c.filter, "$JS.API.CONSUMER.INFO."+c.stream+"."+c.name)
		}
	case roleMonitor:
		may = slices.Concat(
			quota, info(everyStream...),
			messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal), // the oldest jobs, and what is unresolved
			presences(),
		)
		for i, subject := range may {
			may[i] = strings.Replace(subject, "$JS.API.", "$JS."+monitorDomain+".API.", 1)
		}
		g := newGrant(r, "", may)
		g.Domain = monitorDomain
		return []grant{g}
	}
	return []grant{newGrant(r, "", may)}
}

func newGrant(r role, a messages.Account, may []string) grant {
	g := grant{Role: r, Account: a, InboxPrefix: "_INBOX_" + string(r)}
	if a != "" {
		g.InboxPrefix += "_" + string(a)
	}
	slices.Sort(may)
	g.Permissions.Publish.Allow = slices.Compact(may)
	g.Permissions.Subscribe.Allow = []string{g.InboxPrefix + ".>"}
	if r == roleWorker { // what the server tells of changes: names, no messages
		g.Permissions.Subscribe.Allow = slices.Concat(g.Permissions.Subscribe.Allow, topology.AdvisoryFilters)
	}
	return g
}

// jobConsumer is a durable consumer of jobs.
type jobConsumer struct{ stream, name, filter string }

// consumers are those of all accounts, three for each: charges, those that were parked until they were due, and captures.
func consumers(accounts []messages.Account) (all []jobConsumer) {
	for _, a := range accounts {
		all = append(all,
			jobConsumer{messages.StreamJobs, topology.ConsumerName(a), messages.DueSubject(a)},
			jobConsumer{messages.StreamLater, topology.LaterConsumerName(a), messages.LaterSubject(a)},
			jobConsumer{messages.StreamJobs, topology.CaptureConsumerName(a), messages.CaptureSubject(a)},
		)
	}
	return all
}

// api are the subjects of one verb of JetStream's API on streams.
// https://docs.nats.io/reference/reference-protocols/nats_api_reference
func api(verb string, streams ...string) (subjects []string) {
	for _, s := range streams {
		subjects = append(subjects, "$JS.API."+verb+"."+s)
	}
	return subjects
}

func info(streams ...string) []string { return api("STREAM.INFO", streams...) }

// messagesOf reads single messages.
func messagesOf(streams ...string) []string { return api("STREAM.MSG.GET", streams...) }

// read follows a stream in order, by consumers that end by themselves. They have random names.
func read(stream string) []string {
	return []string{
		"$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.INFO." + stream + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*",
		"$JS.API.CONSUMER.DELETE." + stream + ".*",
	}
}

// presences watches the workers' bucket.
func presences() []string {
	return []string{"$JS.API.CONSUMER.CREATE." + bucket + ".>", "$JS.API.CONSUMER.DELETE." + bucket + ".*", "$JS.FC." + bucket + ".>"}
}

// acks are both forms of acknowledgement: with the server's feature flag js_ack_fc_v2 they begin with domain and account.
func acks(stream, consumer string) []string {
	tail := stream + "." + consumer + ".>"
	return []string{"$JS.ACK." + tail, "$JS.ACK.*.*." + tail}
}

func records(kinds ...messages.Kind) (subjects []string) {
	for _, k := range kinds {
		subjects = append(subjects, messages.RecordSubject(k, "*", "*"))
	}
	return subjects
}

// mostOwn is for how many accounts a worker's records are listed one by one: further ones would only make the list long.
const mostOwn = 20

// recordsOf are those of some accounts, so that a worker of few accounts cannot speak for others.
func recordsOf(accounts []messages.Account, kinds ...messages.Kind) (subjects []string) {
	if len(accounts) > mostOwn {
		return records(kinds...)
	}
	for _, k := range kinds {
		for _, a := range accounts {
			subjects = append(subjects, messages.RecordSubject(k, "*", a))
		}
	}
	return subjects
}

// configuration is the grants as variables of a NATS configuration.
func configuration(grants []grant) string {
	var b strings.Builder
	b.WriteString("# Printed by `renewals provision --print-permissions`: the least that each role must be allowed. Include it at the top\n" +
		"# level and give it to users, permissions: $renewals_worker. Each user connects with the inbox prefix of its role, a\n" +
		"# monitor also with JetStream domain \"" + monitorDomain + "\". Publishers, consumers and monitors need NATS accounts of their own.\n" +
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
