package worker

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/messages"
	"github.com/klarna-renewals/renewals/worker/desk"
	"github.com/klarna-renewals/renewals/worker/gate"
	"github.com/klarna-renewals/renewals/worker/topology"
)

// Metrics are what a worker counts. Labels are closed sets: accounts of the
// configuration, kinds, reasons, classes of status codes. Names are contract: dashboards
// and alerts are built on them. The table of deploy/METRICS.md is compared with this list by a test.
type Metrics struct {
	results    *prometheus.CounterVec
	duplicates *prometheus.CounterVec
	requests   *prometheus.CounterVec
	unknown    *prometheus.CounterVec
	panics     *prometheus.CounterVec
	handBacks  *prometheus.CounterVec
	writes     *prometheus.CounterVec
	republish  *prometheus.CounterVec
	records    *prometheus.CounterVec
	stray      *prometheus.CounterVec
	ignored    *prometheus.CounterVec
	warnings   *prometheus.CounterVec
	charge     *prometheus.HistogramVec
	endToEnd   *prometheus.HistogramVec

	inFlight   *prometheus.GaugeVec
	paused     *prometheus.GaugeVec
	breaker    *prometheus.GaugeVec
	rate       *prometheus.GaugeVec
	permits    *prometheus.GaugeVec
	backlog    *prometheus.GaugeVec
	oldest     *prometheus.GaugeVec
	dead       *prometheus.GaugeVec
	unresolved *prometheus.GaugeVec
	openClaim  *prometheus.GaugeVec
	window     *prometheus.GaugeVec
	expiring   *prometheus.GaugeVec
	parked     *prometheus.GaugeVec
	breaks     *prometheus.GaugeVec
	ackPending *prometheus.GaugeVec
	unserved   prometheus.Gauge
	few        prometheus.Gauge
	quota      prometheus.Gauge
	unlogged   prometheus.Counter

	deviation  *prometheus.GaugeVec
	deviating  sync.Mutex
	deviations map[messages.Account]deviationOf // that are told of

	looked map[messages.Account]bool // accounts whose gauges of a deep look were set
	broken map[brokenSeries]bool     // series of open breaks that were set

	zeros *zeros
}

// Label values of our own: closed and append-only, like those of the gate.
const (
	strayNotRecorded = "not_recorded" // an order or a capture that no record tells of
	strayShared      = "order_shared" // one that came back for a second renewal

	committedSingly  = "singly"
	committedInBatch = "batch"

	pauseSetBack   = "journal_set_back"  // the journal has forgotten what it knew; an operator has to accept it
	pauseUnchecked = "journal_unchecked" // the journal was not compared with its mark for a while
)

// NewMetrics registers the worker's metrics. What is to be shown goes through [Metrics.Gatherer].
func NewMetrics(r prometheus.Registerer) *Metrics {
	vectors := vectors{r, new(zeros)}
	counter, gauge, histogram := vectors.counter, vectors.gauge, vectors.histogram
	m := &Metrics{
		zeros:      vectors.zeros,
		results:    counter("results_total", "Results recorded.", "account", "kind", "reason"),
		duplicates: counter("duplicates_total", "Deliveries whose job had its result already.", "account"),
		requests:   counter("klarna_requests_total", "Tries, by the status code of the answer or what became of them without one.", "account", "code"),
		unknown:    counter("unknown_error_codes_total", "Refusals with an error code that the dunning table does not know.", "account"),
		panics:     counter("panics_total", "Panics in the handling of a job; without an account, of what goes on beside the jobs.", "account"),
		handBacks:  counter("hand_backs_total", "Deliveries given back before they were started.", "account"),
		writes:     counter("write_retries_total", "Deliveries that went back because their state could not be written.", "account"),
		republish:  counter("publish_retries_total", "Publishes that were made again since the stream had not confirmed them.", "stream"),
		records:    counter("journal_records_total", "Records that the journal confirmed, by whether each was committed singly or with others in a batch.", "committed"),
		stray:      counter("stray_orders_total", "Orders and captures of Klarna's that no result names, or that were named for two renewals: somebody has to look at them.", "account", "reason"),
		ignored:    counter("auto_capture_ignored", "Orders that Klarna did not capture although auto_capture asked for it, among those that were looked at.", "account"),
		warnings:   counter("job_warnings_total", "What was odd about jobs that have their result, by kind of warning.", "account", "kind"),
		charge:     histogram("charge_seconds", "From the claim to Klarna's last answer within a delivery.", []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 65}),
		endToEnd:   histogram("end_to_end_seconds", "From the job's arrival in the stream, or from its due_at where that is later, to its recorded result.", []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600, 86400}),
		inFlight:   gauge("in_flight", "Deliveries being handled by this worker.", "account"),
		paused:     gauge("account_paused", "1 while the account's jobs wait, by reason.", "account", "reason"),
		breaker:    gauge("breaker_open", "1 while the account's circuit breaker is open.", "account"),
		rate:       gauge("rate_limit", "This worker's share of the account's rate in requests per second, 0 for no limit.", "account"),
		permits:    gauge("concurrency", "Charges that this worker may have in flight. It follows the rate and how long charges take, unless a setting fixes it.", "account"),
		backlog:    gauge("backlog", "Jobs of the account in the stream, those that wait between deliveries included.", "account"),
		oldest:     gauge("oldest_job_seconds", "Age of the account's oldest job in the stream, 0 without one.", "account"),
		dead:       gauge("dead_letters", "Dead letters of the account.", "account"),
		unresolved: gauge("unresolved", "Renewals of the account that wait for an operator.", "account"),
		openClaim:  gauge("oldest_undecided_seconds", "Age of the account's oldest claim that Klarna was asked under and has not decided, 0 without one.", "account"),
		window:     gauge("key_window_left_seconds", "Time until the first idempotency key of an undecided claim may no longer be used; the whole window without one.", "account"),
		parked:     gauge("parked", "Early jobs of the account that wait outside its queue until they are due.", "account"),
		breaks:     gauge("breaks_open", "Differences between Klarna's settlements and the journal that nobody has closed, by kind of break.", "account", "kind"),
		ackPending: gauge("ack_pending_ratio", "How much of a consumer's max_ack_pending is taken by jobs that are handed out or wait between deliveries; at 1 nothing is handed out any more.", "account", "consumer"),
		expiring:   gauge("uncaptured_expiring", "Orders of the account with money left to capture whose authorisation ends within 3 days.", "account"),
		deviation:  gauge("deviation", "1 while a setting of a stream or consumer is not what the promise rests on.", "stream", "consumer", "setting"),
		deviations: map[messages.Account]deviationOf{},
		looked:     map[messages.Account]bool{},
		broken:     map[brokenSeries]bool{},
		unserved: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "renewals_unserved_jobs", Help: "Jobs in the stream for accounts that no live worker serves.",
		}),
	}
	m.few = prometheus.NewGauge(prometheus.GaugeOpts{Name: "renewals_few_replicas", Help: "Streams in a cluster with fewer than three copies: the loss of a machine may be the loss of a memory."})
	m.quota = prometheus.NewGauge(prometheus.GaugeOpts{Name: "renewals_quota_ratio", Help: "How much of what the NATS account may store is taken, as a share of 1; 0 without a limit. At 1 the broker refuses jobs and records."})
	m.unlogged = prometheus.NewCounter(prometheus.CounterOpts{Name: "renewals_log_lines_dropped_total", Help: "Lines that the log is without, since whatever reads it did not take them."})
	r.MustRegister(m.unserved, m.few, m.quota, m.unlogged)
	m.deviation.WithLabelValues(deviation(jetstream.ErrStreamNotFound)).Set(0)
	m.panics.WithLabelValues("") // see survivor.caught
	for _, stream := range []string{messages.StreamJournal, messages.StreamDead} {
		m.republish.WithLabelValues(stream).Add(0)
	}
	for _, how := range []string{committedSingly, committedInBatch} {
		m.records.WithLabelValues(how).Add(0)
	}
	return m
}

// committed counts records that the journal has.
func (m *Metrics) committed(together bool, records int) {
	how := committedSingly
	if together {
		how = committedInBatch
	}
	m.records.WithLabelValues(how).Add(float64(records))
}

// LogDropped counts lines of the log that could not be written.
func (m *Metrics) LogDropped(lines int) { m.unlogged.Add(float64(lines)) }

// vectors registers metrics under the program's name.
type vectors struct {
	prometheus.Registerer
	zeros *zeros
}

func (r vectors) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "renewals_" + name, Help: help}, labels)
	r.MustRegister(v)
	r.begin(name, help, dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{Value: new(float64)}}, labels)
	return v
}

func (r vectors) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "renewals_" + name, Help: help}, labels)
	r.MustRegister(v)
	r.begin(name, help, dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: new(float64)}}, labels)
	return v
}

func (r vectors) histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{
		Name: "renewals_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
	v := prometheus.NewHistogramVec(opts, []string{"account"})
	r.MustRegister(v)
	var none dto.Metric
	if err := prometheus.NewHistogram(opts).Write(&none); err != nil {
		panic(err) // of what nobody has observed anything in
	}
	r.begin(name, help, dto.MetricType_HISTOGRAM, &none, []string{"account"})
	return v
}

// begin notes the series of a metric that are there from the start.
func (r vectors) begin(name, help string, kind dto.MetricType, none *dto.Metric, labels []string) {
	if values := fromZero(name); values != nil {
		r.zeros.of(name, help, kind, none, labels[1:], values...)
	}
}

// startCodes are the classes and the usual status codes of Klarna's answers.
var startCodes = []string{
	"ok", "not_sent", "cut", "unknown", "answered_2xx",
	"400", "401", "403", "404", "408", "409", "429", "500", "502", "503", "504",
}

// fromZero are the label values, beside the account, of the series of a metric that are there before anything happens; nil where none
// is: its first value says more than 0.
func fromZero(name string) (values [][]string) {
	switch name {
	case "duplicates_total", "unknown_error_codes_total", "panics_total", "hand_backs_total", "write_retries_total", "auto_capture_ignored", "breaker_open",
		"charge_seconds", "end_to_end_seconds":
		return [][]string{{}}
	case "results_total":
		for _, k := range []messages.Kind{messages.KindPaid, messages.KindPending, messages.KindCaptured} {
			values = append(values, []string{string(k), ""})
		}
		for _, k := range []messages.Kind{messages.KindDunning, messages.KindUnresolved, messages.KindRejected, messages.KindCaptureFailed} {
			for _, reason := range messages.Reasons(k) {
				values = append(values, []string{string(k), string(reason)})
			}
		}
	case "klarna_requests_total":
		return each(startCodes)
	case "account_paused":
		return each([]string{gate.PauseNotEvaluated, gate.PauseBreaker, gate.PauseSettings, gate.PauseClock, gate.PauseJournal, gate.PauseRateLimited,
			gate.PauseRefusedByConfig, pauseSetBack, pauseUnchecked})
	case "job_warnings_total":
		return each(messages.WarningKinds())
	case "breaks_open":
		return each(messages.BreakKinds())
	case "stray_orders_total":
		return append(each([]messages.Reason{messages.ReasonOrderAfterDunning, messages.ReasonSecondOrder, messages.ReasonCaptureAfterFailure}),
			[]string{strayNotRecorded}, []string{strayShared})
	}
	return values
}

// each are the values of one label.
func each[S ~string](all []S) (values [][]string) {
	for _, value := range all {
		values = append(values, []string{string(value)})
	}
	return values
}

// start begins the series of an account, see [Metrics.Gatherer].
func (m *Metrics) start(a messages.Account) {
	m.zeros.start(string(a))
	for name := range topology.Consumers(a) {
		m.ackPending.WithLabelValues(string(a), name).Set(0)
	}
}

// tried counts a try.
func (m *Metrics) tried(a messages.Account, err error) {
	code := klarna.ClassOf(err).String()
	if answered, ok := errors.AsType[*klarna.Error](err); ok {
		code = strconv.Itoa(answered.StatusCode)
	}
	m.requests.WithLabelValues(string(a), code).Inc()
}

// gauge repeats an overview: for the accounts of the worker, and after a deep
// look for all accounts there are, since one worker looks for everybody.
func (m *Metrics) gauge(o desk.Overview, mine map[messages.Account]bool, keyWindow time.Duration) {
	unserved := 0
	for _, jobs := range o.Misaddressed {
		unserved += jobs.Jobs
	}
	for _, a := range o.Accounts {
		if a.Workers == 0 {
			unserved += a.Backlog
		}
		if !mine[a.Name] {
			continue
		}
		age := 0.0
		if !a.Oldest.IsZero() {
			age = o.At.Sub(a.Oldest).Seconds()
		}
		m.backlog.WithLabelValues(string(a.Name)).Set(float64(a.Backlog))
		m.oldest.WithLabelValues(string(a.Name)).Set(age)
	}
	m.unserved.Set(float64(unserved))
	if !o.Deep {
		return
	}
	found := map[messages.Account]desk.AccountOverview{}
	for _, a := range o.Accounts {
		found[a.Name], m.looked[a.Name] = a, true
	}
	for name := range m.looked { // one that is gone has nothing left to look at
		a, account := found[name], string(name)
		undecided := 0.0
		if !a.Undecided.IsZero() {
			undecided = o.At.Sub(a.Undecided).Seconds()
		}
		m.dead.WithLabelValues(account).Set(float64(a.Dead))
		m.unresolved.WithLabelValues(account).Set(float64(a.Unresolved))
		m.openClaim.WithLabelValues(account).Set(undecided)
		m.window.WithLabelValues(account).Set(keyWindow.Seconds() - undecided)
		m.expiring.WithLabelValues(account).Set(float64(a.Expiring))
		m.parked.WithLabelValues(account).Set(float64(a.Parked))
	}
}

// forget drops what only the leading worker looks at.
func (m *Metrics) forget() {
	for _, g := range []*prometheus.GaugeVec{m.dead, m.unresolved, m.openClaim, m.window, m.expiring, m.parked, m.breaks} {
		g.Reset()
	}
	clear(m.looked)
	clear(m.broken)
}
