package cli

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/dunning"
	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker"
)

// AccountSettings describe one Klarna merchant account from the environment, or say where several are. With a
// configuration file that lists accounts, what is set here wins over the entry of KLARNA_ACCOUNT.
type AccountSettings struct {
	Account      string   `name:"klarna-account" setting:"KLARNA_ACCOUNT" group:"Klarna" help:"Name of the account, default \"default\"."`
	Endpoint     string   `name:"klarna-endpoint" setting:"KLARNA_ENDPOINT" group:"Klarna" help:"eu, na, oc, eu-playground, na-playground, oc-playground, kustom, kustom-playground or an https URL."`
	Username     string   `name:"klarna-username" setting:"KLARNA_USERNAME" group:"Klarna" help:"User name of the API key. The key itself is in KLARNA_PASSWORD or a file."`
	MID          string   `name:"klarna-mid" setting:"KLARNA_MID" group:"Klarna" help:"Merchant ID, where the user name does not begin with it and a _; default what stands before the _."`
	PasswordFile string   `name:"klarna-password-file" setting:"KLARNA_PASSWORD_FILE" group:"Klarna" help:"File with the API key, read again when it changes."`
	Rate         *float64 `name:"klarna-rate" setting:"KLARNA_RATE" group:"Klarna" help:"Requests per second over all workers, 0 for no limit; default 180, playground 45, loopback no limit."`
	Concurrency  *int     `name:"klarna-concurrency" setting:"KLARNA_CONCURRENCY" group:"Klarna" help:"Charges in flight of one worker; default as many as the rate needs while charges take as long as they do, 16 to 256, and 64 without a rate."`
	AllowHTTP    bool     `name:"klarna-allow-http" setting:"KLARNA_ALLOW_HTTP" group:"Klarna" help:"Accept http URLs beyond loopback: the API key and customer tokens travel in the clear."`
}

// AccountEntry is one account, as the configuration file has it. The tags are what [structShape] reads.
type AccountEntry struct {
	Name         string       `yaml:"name" required:"" pattern:"^[a-z0-9][a-z0-9-]{0,31}$" expected:"1 to 32 of a-z, 0-9 and -, the first no -" help:"Name of the account, part of its subjects."`
	Endpoint     string       `yaml:"endpoint" help:"eu, na, oc, eu-playground, na-playground, oc-playground, kustom, kustom-playground or an https URL."`
	Username     string       `yaml:"username" help:"User name of the API key."`
	MID          string       `yaml:"mid" help:"Merchant ID, where the user name does not begin with it and a _."`
	PasswordFile string       `yaml:"password_file" help:"File with the API key, read again when it changes."`
	Rate         *float64     `yaml:"rate" min:"0" max:"1000000" help:"Requests per second over all workers, 0 for no limit. Default 180, playground 45, loopback no limit."`
	Concurrency  *int         `yaml:"concurrency" min:"1" max:"4096" help:"Charges in flight of one worker. Default what the rate needs."`
	Dunning      DunningEntry `yaml:"dunning" help:"When an attempt that was refused is to be made again."`

	MinAttemptGap string `yaml:"min_attempt_gap" is:"duration" help:"From one attempt at a renewal to the next, at most 7d; 0s for none. Default 1h."`
	MaxAttempts   *int   `yaml:"max_attempts" min:"1" max:"256" help:"Attempts at one renewal. Default 20."`

	Spacing       string `yaml:"spacing" enum:"hold,off" help:"Whether two periods of one subscription that are too close are both charged: hold (default) for no, off."`
	MixedCadences string `yaml:"mixed_cadences" enum:"allow" help:"allow: an order may recur in several ways."`
	MerchantName  string `yaml:"merchant_name" help:"Warn where it is in a subscription's name."`

	Password string                  `yaml:"-"` // from KLARNA_PASSWORD only: a file that holds keys is a file that gets committed
	Where    func(key string) string `yaml:"-"`
}

type DunningEntry struct {
	SoftDecline    *ScheduleEntry `yaml:"soft_decline" help:"For what passes by itself."`
	CustomerAction *ScheduleEntry `yaml:"customer_action" help:"For what the customer has to do something about."`
}

type ScheduleEntry struct {
	Days        []int `yaml:"days" min:"1" max:"100" help:"Days after the first attempt, ascending."`
	MaxAttempts *int  `yaml:"max_attempts" min:"1" max:"101" help:"Default one more than there are days."`
}

const DefaultAccount = "default"

// entries merges file and environment: at least one, every name valid and there once.
func (a AccountSettings) Entries(s *Settings) ([]AccountEntry, error) {
	var entries []AccountEntry
	if s.File != nil {
		entries = slices.Clone(s.File.Accounts)
	}
	fromFile := len(entries) > 0
	target := 0
	switch {
	case !fromFile:
		entries = []AccountEntry{{Name: cmp.Or(a.Account, DefaultAccount), Where: a.where(s)}}
	case a.Account != "":
		for target < len(entries) && entries[target].Name != a.Account {
			target++
		}
		if target == len(entries) {
			return nil, Usagef("%s: %q is not among the accounts of %s", s.Place("klarna-account"), a.Account, s.File.Path)
		}
	case len(entries) > 1:
		if set := a.set(s); set != "" {
			return nil, Usagef("%s: set while %s lists several accounts, expected KLARNA_ACCOUNT to say which of them it is for", set, s.File.Path)
		}
	}
	e := &entries[target]
	if !fromFile || a.set(s) != "" {
		e.Password = s.Lookup("KLARNA_PASSWORD")
		if e.Password != "" && a.PasswordFile != "" {
			return nil, Usagef("KLARNA_PASSWORD: set beside %s, expected one of them", s.Place("klarna-password-file"))
		}
		if e.Password != "" {
			e.PasswordFile = ""
		}
		e.Endpoint, e.Username, e.PasswordFile = cmp.Or(a.Endpoint, e.Endpoint), cmp.Or(a.Username, e.Username), cmp.Or(a.PasswordFile, e.PasswordFile)
		e.MID = cmp.Or(a.MID, e.MID)
		e.Rate, e.Concurrency = cmp.Or(a.Rate, e.Rate), cmp.Or(a.Concurrency, e.Concurrency)
		inFile := e.Where
		e.Where = func(key string) string {
			if fromFile && !a.overrides(key) {
				return inFile(key)
			}
			return a.where(s)(key)
		}
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if _, err := messages.ParseAccount(e.Name); err != nil {
			if !fromFile {
				return nil, Usagef("%s: %w", s.Place("klarna-account"), err)
			}
			return nil, Usagef("%s: %w", e.Where("name"), err)
		}
		if seen[e.Name] {
			return nil, Usagef("%s: there twice, expected each account once", e.Where("name"))
		}
		seen[e.Name] = true
	}
	return entries, nil
}

// where names the setting of one account that is a key of an entry.
func (a AccountSettings) where(s *Settings) func(key string) string {
	return func(key string) string { return s.Place("klarna-" + strings.ReplaceAll(key, "_", "-")) }
}

// overrides says that a key of an entry has its value from elsewhere.
func (a AccountSettings) overrides(key string) bool {
	return map[string]bool{
		"endpoint": a.Endpoint != "", "username": a.Username != "", "mid": a.MID != "", "password_file": a.PasswordFile != "",
		"rate": a.Rate != nil, "concurrency": a.Concurrency != nil,
	}[key]
}

// set names a setting of the environment or the command line that describes an account, or "".
func (a AccountSettings) set(s *Settings) string {
	if s.Lookup("KLARNA_PASSWORD") != "" {
		return "KLARNA_PASSWORD"
	}
	for _, key := range []string{"endpoint", "username", "mid", "password_file", "rate", "concurrency"} {
		if a.overrides(key) {
			return a.where(s)(key)
		}
	}
	return ""
}

// names are the accounts without their credentials, for commands that never call Klarna.
func (a AccountSettings) Names(s *Settings) ([]messages.Account, error) {
	entries, err := a.Entries(s)
	if err != nil {
		return nil, err
	}
	names := make([]messages.Account, len(entries))
	for i, e := range entries {
		names[i] = messages.Account(e.Name)
	}
	return names, nil
}

// accounts makes the clients. timeout is for one try, the reading of the answer included.
func (a AccountSettings) Accounts(s *Settings, timeout time.Duration, log zerolog.Logger) ([]worker.Account, error) {
	entries, err := a.Entries(s)
	if err != nil {
		return nil, err
	}
	accounts := make([]worker.Account, len(entries))
	for i, e := range entries {
		if accounts[i], err = e.Client(timeout, a.AllowHTTP, log); err != nil {
			return nil, Usage(err)
		}
	}
	return accounts, nil
}

// check says what is wrong with an entry whatever is asked of it.
func (e AccountEntry) check() error {
	if e.Endpoint != "" {
		if _, err := klarna.ResolveEndpoint(e.Endpoint, true); err != nil {
			return fmt.Errorf("%s: %w", e.Where("endpoint"), err)
		}
	}
	if e.MID != "" && !klarna.ValidMerchant(e.MID) {
		return fmt.Errorf("%s: %.80q, expected a merchant ID: 1 to 64 of A-Z, a-z, 0-9, - and dot", e.Where("mid"), e.MID)
	}
	if _, err := e.Dunning.policy(); err != nil {
		return fmt.Errorf("%s: %w", e.Where("dunning"), err)
	}
	_, _, err := e.Guards()
	return err
}

func (e AccountEntry) Client(timeout time.Duration, allowHTTP bool, log zerolog.Logger) (worker.Account, error) {
	var none worker.Account
	if e.Endpoint == "" {
		return none, fmt.Errorf("%s: not set, expected eu, na, oc, eu-playground, na-playground, oc-playground, kustom, kustom-playground or an https URL", e.Where("endpoint"))
	}
	endpoint, err := klarna.ResolveEndpoint(e.Endpoint, allowHTTP)
	if err != nil {
		return none, fmt.Errorf("%s: %w", e.Where("endpoint"), err)
	}
	if err := e.check(); err != nil {
		return none, err
	}
	if endpoint.Scheme == "http" && !klarna.Loopback(endpoint) {
		log.Warn().Str("account", e.Name).Str("host", endpoint.Host).Msg("KLARNA_ALLOW_HTTP: the API key and customer tokens travel to this host in the clear")
	}
	rate, err := e.RequestRate(endpoint)
	if err != nil {
		return none, err
	}
	concurrency := 0 // the worker sees how many the rate needs
	if e.Concurrency != nil {
		if concurrency = *e.Concurrency; concurrency < 1 || concurrency > 4096 {
			return none, fmt.Errorf("%s: %d, expected 1 to 4096 charges in flight", e.Where("concurrency"), concurrency)
		}
	}
	policy, err := e.Dunning.policy()
	if err != nil {
		return none, fmt.Errorf("%s: %w", e.Where("dunning"), err)
	}
	gap, attempts, err := e.Guards()
	if err != nil {
		return none, err
	}
	if e.Spacing != "" && e.Spacing != "hold" && e.Spacing != string(worker.SpacingOff) {
		return none, fmt.Errorf("%s: %.40q, expected hold or off", e.Where("spacing"), e.Spacing)
	}
	if e.MixedCadences != "" && e.MixedCadences != "allow" {
		return none, fmt.Errorf("%s: %q, expected allow or nothing", e.Where("mixed_cadences"), e.MixedCadences)
	}
	credentials, err := e.credentials()
	if err != nil {
		return none, err
	}
	client, err := klarna.New(klarna.Config{
		Endpoint: endpoint, Credentials: credentials, Timeout: timeout, Concurrency: cmp.Or(concurrency, worker.MostConcurrency),
		UserAgent: "renewals/" + Version(), Module: "RENEWALS", Version: Version(),
	})
	if err != nil {
		return none, fmt.Errorf("%s: %w", e.Where("endpoint"), err)
	}
	return worker.Account{
		Name: messages.Account(e.Name), Klarna: client, Host: endpoint.Host,
		Endpoint: klarna.CanonicalEndpoint(endpoint), Merchant: cmp.Or(e.MID, klarna.Merchant(e.Username)),
		Rate: rate, Concurrency: concurrency, Policy: policy, MinAttemptGap: gap, MaxAttempts: attempts,
		Spacing: worker.Spacing(strings.TrimPrefix(e.Spacing, "hold")),
		Rules:   messages.Rules{MixedCadences: e.MixedCadences == "allow", MerchantName: e.MerchantName},
	}, nil
}

// guards say which attempts at a renewal are refused although its state would allow them, in the form of [worker.Account].
func (e AccountEntry) Guards() (gap time.Duration, attempts int, err error) {
	if e.MinAttemptGap != "" {
		if gap, err = ParseDuration(e.MinAttemptGap); err != nil || gap > worker.MaxAttemptGap {
			return 0, 0, fmt.Errorf("%s: %.40q, expected a duration of at most %s such as 1h or 30m, 0s for none", e.Where("min_attempt_gap"), e.MinAttemptGap, DurationText(worker.MaxAttemptGap))
		}
		if gap == 0 {
			gap = worker.NoAttemptGap
		}
	}
	if e.MaxAttempts != nil {
		if attempts = *e.MaxAttempts; attempts < 1 || attempts > worker.MostAttempts {
			return 0, 0, fmt.Errorf("%s: %d, expected 1 to %d attempts at a renewal", e.Where("max_attempts"), attempts, worker.MostAttempts)
		}
	}
	return gap, attempts, nil
}

// rate leaves a tenth of Klarna's documented limits (200 requests/s live, 50 in the playground) to other software of the
// same merchant: https://docs.klarna.com/api-reference/rate-limit/. 0 is no limit.
func (e AccountEntry) RequestRate(endpoint *url.URL) (float64, error) {
	switch {
	case e.Rate != nil && (*e.Rate < 0 || *e.Rate > 1e6 || *e.Rate != *e.Rate):
		return 0, fmt.Errorf("%s: %v, expected requests per second, 0 for no limit", e.Where("rate"), *e.Rate)
	case e.Rate != nil:
		return *e.Rate, nil
	case klarna.Loopback(endpoint):
		return 0, nil
	case strings.Contains(endpoint.Hostname(), ".playground."):
		return 45, nil
	}
	return 180, nil
}

func (e AccountEntry) credentials() (klarna.CredentialSource, error) {
	switch {
	case e.Username == "":
		return nil, fmt.Errorf("%s: not set, expected the user name of the API key", e.Where("username"))
	case strings.Contains(e.Username, ":"):
		return nil, fmt.Errorf("%s: found a colon in it, expected the user name alone: the API key has a setting of its own", e.Where("username"))
	case e.Password != "":
		return klarna.StaticCredentials(e.Username, e.Password), nil
	case e.PasswordFile == "":
		return nil, fmt.Errorf("%s: not set, expected the file with the API key, or the key itself in KLARNA_PASSWORD", e.Where("password_file"))
	}
	source, err := klarna.FileCredentials(e.Username, e.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Where("password_file"), err)
	}
	return source, nil
}

func (d DunningEntry) policy() (dunning.Policy, error) {
	p := dunning.DefaultPolicy()
	for _, one := range []struct {
		entry    *ScheduleEntry
		schedule *dunning.Schedule
	}{{d.SoftDecline, &p.SoftDecline}, {d.CustomerAction, &p.CustomerAction}} {
		if one.entry == nil {
			continue
		}
		*one.schedule = dunning.Schedule{Days: one.entry.Days, MaxAttempts: len(one.entry.Days) + 1}
		if one.entry.MaxAttempts != nil {
			one.schedule.MaxAttempts = *one.entry.MaxAttempts
		}
	}
	return p, p.Validate()
}

// configured says that somebody has said anything about Klarna's accounts here.
func (a AccountSettings) Configured(s *Settings) bool {
	return a.Account != "" || a.set(s) != "" || s.File != nil && len(s.File.Accounts) > 0
}
