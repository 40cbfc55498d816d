package topology

import (
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/klarna-renewals/renewals/messages"
)

// A Role is a kind of NATS user.
type Role string

const (
	RolePublisher   Role = "publisher"   // a billing system: jobs of one account
	RoleWorker      Role = "worker"      // renewals work
	RoleConsumer    Role = "consumer"    // whoever acts on results
	RoleOperator    Role = "operator"    // show, resolve, cancel, dead, doctor: whoever is on call
	RoleProvisioner Role = "provisioner" // provision: nobody else changes a stream
	RoleMonitor     Role = "monitor"     // renewals status and doctor
)

// Roles are all of them.
var Roles = []Role{RolePublisher, RoleWorker, RoleConsumer, RoleOperator, RoleProvisioner, RoleMonitor}

// A Grant is everything that one user may do; nothing else is allowed.
type Grant struct {
	Role        Role             `json:"role"`
	Account     messages.Account `json:"account,omitempty"` // of a publisher
	InboxPrefix string           `json:"inbox_prefix"`
	Domain      string           `json:"jetstream_domain,omitempty"` // of a monitor, and of everybody where the streams are in one
	Permissions Permissions      `json:"permissions"`
}

// Permissions are as a NATS server reads them.
// https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization
type Permissions struct {
	Publish   Allowed `json:"publish"`
	Subscribe Allowed `json:"subscribe"`
}

type Allowed struct {
	Allow []string `json:"allow"`
}

// marks are the streams that remember how far the journal had come.
var marks = []string{messages.StreamMarks, messages.StreamMarksCopy}

// everyStream is all that provision makes, the bucket's included.
var everyStream = append([]string{messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead, StreamWorkers}, marks...)

// quota asks how much of what the NATS account may store is taken; the official clients ask so whether there is JetStream at all.
var quota = []string{"$JS.API.INFO"}

// ownRights asks the server what oneself may do, and nothing of anybody else.
var ownRights = []string{UserInfo}

// UserInfo is where a server tells a user of its own permissions.
const UserInfo = "$SYS.REQ.USER.INFO"

// MonitorDomain is under what name a monitor reaches JetStream: it has a NATS account of its own, into which the parts of
// the API that it needs are imported. Their usual names answer there that the account has no JetStream.
const MonitorDomain = "monitor"

// GrantsOf lists what a role needs: one grant, or for publishers one for each account. Each has an inbox prefix of its
// own, since whoever may read _INBOX.> reads the answers to everybody, the jobs with their customer tokens among them.
// The lists say what a user may send and receive, not where the answer to a request goes: the server does not check that,
// so that publishers, consumers and monitors belong into NATS accounts apart from the workers'. domain is the JetStream domain in
// which the streams are reached, "" for the server's own; that of a monitor is a way to them, and they are not in it.
func GrantsOf(r Role, accounts []messages.Account, domain string) []Grant {
	if domain == MonitorDomain {
		domain = ""
	}
	switch r {
	case RolePublisher:
		grants := make([]Grant, len(accounts))
		for i, a := range accounts {
			grants[i] = newGrant(r, a, domain, []string{messages.DueSubject(a), messages.CaptureSubject(a)})
		}
		return grants
	case RoleMonitor:
		return []Grant{newGrant(r, "", MonitorDomain, mayMonitor())}
	}
	return []Grant{newGrant(r, "", domain, may[r](accounts))}
}

// inDomain are subjects as whoever reaches the streams in a domain publishes them: the API's prefix has its name, and what is put into a
// bucket goes below that prefix. Acks and answers to flow control go where the server asks for them, in whatever domain.
// https://docs.nats.io/running-a-nats-service/configuration/leafnodes/jetstream_leafnodes
func inDomain(domain string, subjects []string) []string {
	if domain == "" {
		return subjects
	}
	prefix := "$JS." + domain + ".API."
	all := make([]string, len(subjects))
	for i, s := range subjects {
		if call, ok := strings.CutPrefix(s, jetstream.DefaultAPIPrefix); ok {
			s = prefix + call
		} else if strings.HasPrefix(s, "$KV.") {
			s = prefix + s
		}
		all[i] = s
	}
	return all
}

// may is what each other role may publish.
var may = map[Role]func(accounts []messages.Account) []string{
	RoleWorker: mayWork, RoleOperator: mayOperate, RoleProvisioner: mayProvision,
	RoleConsumer: func([]messages.Account) []string {
		var may []string
		for _, stream := range []string{messages.StreamJournal, messages.StreamNews} {
			may = slices.Concat(may, info(stream), read(stream), acks(stream, "*"))
		}
		return append(may, quota...)
	},
}

func mayWork(accounts []messages.Account) []string {
	may := slices.Concat(
		quota, ownRights, info(everyStream...),
		messagesOf(marks...), []string{messages.MarkSubjects},
		messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal),
		follow(messages.StreamJournal),
		info(messages.StreamNews), messagesOf(messages.StreamNews), // open breaks
		presences(),
		[]string{"$KV." + BucketWorkers + ".>", "$JS.API.DIRECT.GET." + StreamWorkers + ".>"},
		recordsOf(accounts, messages.KindCharging, messages.KindPending, messages.KindPaid, messages.KindDunning, messages.KindRejected,
			messages.KindCapturing, messages.KindCaptured, messages.KindCaptureFailed),
		// Of every account: whoever sweeps settles what any worker abandoned.
		records(messages.KindUnresolved), []string{messages.DeadSubject("*", "*")},
		mayList(accounts),
	)
	for _, a := range accounts {
		may = append(may, messages.ParkedFilter(a)) // nobody else: who may write there may empty the stream
	}
	for _, c := range jobConsumers(accounts) {
		may = append(may,
			"$JS.API.CONSUMER.INFO."+c.stream+"."+c.name,
			"$JS.API.CONSUMER.MSG.NEXT."+c.stream+"."+c.name,
		)
		may = append(may, acks(c.stream, c.name)...)
	}
	return may
}

func mayOperate(accounts []messages.Account) []string {
	may := slices.Concat(
		quota, ownRights, info(everyStream...),
		messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal, messages.StreamDead), messagesOf(marks...),
		mayList(accounts),
		api("STREAM.MSG.DELETE", messages.StreamDead),
		read(messages.StreamJournal), read(messages.StreamDead),
		presences(),
		info(messages.StreamNews), messagesOf(messages.StreamNews), []string{messages.BreakSubject("*", "*", "*"), messages.TokenNewsFilter}, // what the settlements say, and cancelled tokens
		records(messages.KindPaid, messages.KindDunning, messages.KindCancelled, messages.KindCaptured, messages.KindCaptureFailed),
	)
	for _, a := range accounts {
		may = append(may, messages.DueSubject(a), messages.CaptureSubject(a)) // dead letters that are replayed
	}
	for _, c := range jobConsumers(accounts) {
		may = append(may, "$JS.API.CONSUMER.INFO."+c.stream+"."+c.name)
	}
	return may
}

func mayProvision(accounts []messages.Account) []string {
	made := append(slices.Clone(everyStream), messages.StreamNews)
	may := slices.Concat(
		quota, api("STREAM.CREATE", made...), api("STREAM.UPDATE", made...), info(made...),
		// A journal that was restored is accepted by a new mark, which names the journal's last record.
		messagesOf(messages.StreamJournal), messagesOf(marks...), []string{messages.MarkSubjects},
		mayList(accounts),
	)
	for _, c := range jobConsumers(accounts) {
		may = append(may, "$JS.API.CONSUMER.CREATE."+c.stream+"."+c.name+"."+c.filter, "$JS.API.CONSUMER.INFO."+c.stream+"."+c.name)
	}
	return may
}

func mayMonitor() []string {
	return slices.Concat(
		quota, ownRights, info(everyStream...),
		messagesOf(messages.StreamJobs, messages.StreamLater, messages.StreamJournal), // the oldest jobs, and what is unresolved
		messagesOf(marks...), info(messages.StreamNews), messagesOf(messages.StreamNews), // open breaks
		presences(),
		[]string{"$JS.API.CONSUMER.INFO." + messages.StreamJobs + ".*", "$JS.API.CONSUMER.INFO." + messages.StreamLater + ".*"},
	)
}

func newGrant(r Role, a messages.Account, domain string, may []string) Grant {
	g := Grant{Role: r, Account: a, InboxPrefix: "_INBOX_" + string(r), Domain: domain}
	if a != "" {
		g.InboxPrefix += "_" + string(a)
	}
	may = inDomain(domain, may)
	slices.Sort(may)
	g.Permissions.Publish.Allow = slices.Compact(may)
	g.Permissions.Subscribe.Allow = []string{g.InboxPrefix + ".>"}
	if r == RoleWorker { // what the server tells of changes: names, no messages
		g.Permissions.Subscribe.Allow = slices.Concat(g.Permissions.Subscribe.Allow, AdvisoryFilters)
	}
	return g
}

// jobConsumer is a durable consumer of jobs.
type jobConsumer struct{ stream, name, filter string }

// jobConsumers are those of all accounts, three for each: charges, those that were parked until they were due, and captures.
func jobConsumers(accounts []messages.Account) (all []jobConsumer) {
	for _, a := range accounts {
		all = append(all,
			jobConsumer{messages.StreamJobs, ConsumerName(a), messages.DueSubject(a)},
			jobConsumer{messages.StreamLater, LaterConsumerName(a), messages.LaterSubject(a)},
			jobConsumer{messages.StreamJobs, CaptureConsumerName(a), messages.CaptureSubject(a)},
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

// mayList is what [List] needs.
func mayList(accounts []messages.Account) []string {
	if len(accounts) <= mostSingly {
		return nil
	}
	return api("CONSUMER.LIST", messages.StreamJobs, messages.StreamLater)
}

// messagesOf reads single messages.
func messagesOf(streams ...string) []string { return api("STREAM.MSG.GET", streams...) }

// read makes consumers of a stream, under any name, and follows it. What nats.go asks for by CONSUMER.CREATE.<stream>.<name>, the
// official JavaScript client asks for by CONSUMER.DURABLE.CREATE, where a durable has several filters, and nats.py for every durable;
// consumers without a name are asked for by the bare subject. The server takes the same of all three. Whoever has messages pushed
// answers flow control.
func read(stream string) []string {
	return append(follow(stream), "$JS.API.CONSUMER.DURABLE.CREATE."+stream+".*")
}

// follow is read without what makes durable consumers, which a worker has no use for.
func follow(stream string) []string {
	return []string{
		"$JS.API.CONSUMER.CREATE." + stream,
		"$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.INFO." + stream + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*",
		"$JS.API.CONSUMER.DELETE." + stream + ".*",
		"$JS.FC." + stream + ".>",
	}
}

// presences watches the workers' bucket.
func presences() []string {
	return []string{
		"$JS.API.CONSUMER.CREATE." + StreamWorkers,
		"$JS.API.CONSUMER.CREATE." + StreamWorkers + ".>",
		"$JS.API.CONSUMER.INFO." + StreamWorkers + ".*",
		"$JS.API.CONSUMER.DELETE." + StreamWorkers + ".*",
		"$JS.FC." + StreamWorkers + ".>",
	}
}

// acks are both forms of acknowledgement: with the server's feature flag js_ack_fc_v2 they begin with domain and account.
func acks(stream, consumer string) []string {
	tail := stream + "." + consumer + ".>"
	return []string{"$JS.ACK." + tail, "$JS.ACK.*.*." + tail}
}

func records(kinds ...messages.Kind) (subjects []string) {
	for _, k := range kinds {
		subjects = append(subjects, messages.RecordFilter(k, "*"))
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
			subjects = append(subjects, messages.RecordFilter(k, a))
		}
	}
	return subjects
}
