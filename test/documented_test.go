package test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/klarna/klarnasim"
	"github.com/klarna-renewals/renewals/worker"
)

// told is a metric or a log field.
type told struct{ kind, meaning string }

const logField = "log field"

// documented reads the table of METRICS.md of metrics and log fields by name.
func documented(t *testing.T) map[string]told {
	t.Helper()
	text, err := os.ReadFile("../deploy/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, begun := strings.Cut(string(text), "<!-- metrics -->")
	table, _, ended := strings.Cut(table, "<!-- /metrics -->")
	if !begun || !ended {
		t.Fatal("METRICS.md has no table between <!-- metrics --> and <!-- /metrics -->")
	}
	rows := map[string]told{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		name := strings.Trim(cells[0], "` ")
		if len(cells) != 3 || name == "name" {
			continue
		}
		if _, twice := rows[name]; twice {
			t.Errorf("METRICS.md documents %s twice", name)
		}
		rows[name] = told{cells[1], strings.TrimSpace(cells[2])}
	}
	return rows
}

// registered collects metrics with the text that goes out with them.
type registered struct {
	prometheus.Registerer
	t       *testing.T
	metrics map[string]told
}

func (r registered) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		kind := "unknown"
		switch c.(type) {
		case *prometheus.CounterVec, prometheus.Counter:
			kind = "counter"
		case *prometheus.HistogramVec:
			kind = "histogram"
		}
		if _, set := c.(interface{ Set(float64) }); set {
			kind = "gauge"
		} else if _, vec := c.(*prometheus.GaugeVec); vec {
			kind = "gauge"
		}
		described := make(chan *prometheus.Desc, 1)
		c.Describe(described)
		parts := regexp.MustCompile(`fqName: "([^"]*)", help: ("(?:[^"\\]|\\.)*").*variableLabels: {([^{}]*)}`).FindStringSubmatch((<-described).String())
		name, help := parts[1], parts[2]
		if parts[3] != "" {
			name += "{" + parts[3] + "}"
		}
		if meaning, err := strconv.Unquote(help); err == nil && meaning != "" {
			help = meaning
		} else {
			r.t.Errorf("%s has no help: %v", name, err)
		}
		r.metrics[name] = told{kind, help}
	}
}

// logged finds the names of all log fields in the source, as arguments of zerolog's methods.
func logged(t *testing.T, folders ...string) map[string]told {
	t.Helper()
	names := map[string]told{"level": {}, "time": {}, "message": {}, "error": {}} // zerolog's own
	for _, folder := range folders {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s: %v", folder, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(source, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 1 {
					method, called := call.Fun.(*ast.SelectorExpr)
					name, literal := call.Args[0].(*ast.BasicLit)
					if called && literal && name.Kind == token.STRING && addsField(method.Sel.Name) {
						field, _ := strconv.Unquote(name.Value)
						names[field] = told{}
					}
				}
				return true
			})
		}
	}
	return names
}

// addsField says whether a method of that name gives a log line a field whose name comes first.
func addsField(method string) bool {
	m, ok := reflect.TypeFor[*zerolog.Event]().MethodByName(method)
	return ok && m.Type.NumIn() > 2 && m.Type.In(1).Kind() == reflect.String && m.Type.NumOut() == 1
}

// TestMetricsAndLogFieldsAreDocumented compares the table of METRICS.md with what the program can tell, both ways.
func TestMetricsAndLogFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	table := documented(t)
	metrics := map[string]told{}
	worker.NewMetrics(registered{t: t, metrics: metrics})
	fields := logged(t, "../worker", "../cmd/renewals", "../cmd/internal/cli")
	if len(metrics) < 10 || len(fields) < 10 {
		t.Fatalf("found %d metrics and %d log fields: the search is broken", len(metrics), len(fields))
	}
	for name, m := range metrics {
		if got := table[name]; got != m {
			t.Errorf("METRICS.md says of %s %q, want %q", name, got, m)
		}
	}
	for name := range fields {
		if got := table[name]; got.kind != logField || got.meaning == "" {
			t.Errorf("METRICS.md says of log field %s %q, want its meaning", name, got)
		}
	}
	for name, row := range table {
		_, metric := metrics[name]
		_, field := fields[name]
		if !metric && !field {
			t.Errorf("METRICS.md documents a %s %s that the program does not have", row.kind, name)
		}
	}
}

// TestWorkerTellsWhatIsDocumented looks at what a real worker logs and exports on good and bad days.
func TestWorkerTellsWhatIsDocumented(t *testing.T) {
	t.Parallel()
	table := documented(t)
	w := newWorld(t, klarnasim.Options{})
	w.provision()
	tokens := []string{"ok-", "soft-decline-", "created-cut-", "403-SOMETHING_NEW-", "pending-accept-", "401-", "503-"}
	for n, prefix := range tokens {
		w.publish(job(n, prefix+strconv.Itoa(n)))
	}
	w.publish([]byte("not a job"))
	p := w.start([]string{"RENEWALS_LOG_LEVEL=debug"}, "work")
	await(t, 20*time.Second, "all but two jobs to leave the stream", func() bool { return w.left() <= 2 })

	address := ""
	for line := range strings.Lines(p.text()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		if said, ok := fields["address"].(string); ok {
			address = said
		}
		for name := range fields {
			if table[name].kind != logField {
				t.Errorf("log field %s is not documented: %s", name, line)
			}
		}
	}
	answer, err := http.Get(fmt.Sprintf("http://%s/metrics", address))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for name, row := range table {
		plain, _, _ := strings.Cut(name, "{")
		kinds[plain] = row.kind
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		var name, kind string
		if n, _ := fmt.Sscanf(line, "# TYPE %s %s", &name, &kind); n != 2 || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue // of Go's own collectors
		}
		if seen++; kinds[name] != kind {
			t.Errorf("/metrics has %s %s, METRICS.md says %q", kind, name, kinds[name])
		}
	}
	if seen < 10 {
		t.Errorf("metrics of our own: %d, want most of those documented", seen)
	}
}
