package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/rs/zerolog"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker"
)

// opsSettings say where the worker can be looked at.
type opsSettings struct {
	OpsAddr *string `help:"Where to serve /metrics, /healthz and /readyz, as host:port; off: nowhere. Default 127.0.0.1:9464."`
	Pprof   bool    `help:"Serve /debug/pprof there as well: where the time and the memory go."`
}

const defaultOpsAddr = "127.0.0.1:9464"

// operations serves what a monitoring system asks a worker. It answers before there is a worker and while it stops.
type operations struct {
	registry *prometheus.Registry
	metrics  *worker.Metrics // that are registered there; nil before there are any
	server   *http.Server
	done     chan struct{}
	ready    atomic.Pointer[func() error]
}

// newOperations has a registry of its own, so that nothing gets into the metrics that is not documented.
func newOperations() *operations {
	o := &operations{registry: prometheus.NewRegistry()}
	o.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	o.setReady(func() error { return errors.New("not connected to NATS yet") })
	return o
}

// setReady says from now on whether the worker charges; nil when it does.
func (o *operations) setReady(ready func() error) { o.ready.Store(&ready) }

// listen opens the address, unless it is off. The error names the setting. Only where nobody has chosen an address does a
// worker do without one that is taken: the second one on a laptop.
func (o *operations) listen(s opsSettings, place string, log zerolog.Logger) error {
	addr, chosen := defaultOpsAddr, s.OpsAddr != nil
	if chosen {
		addr = *s.OpsAddr
	}
	if addr == "" || addr == "off" {
		return nil
	}
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) && !chosen {
		log.Warn().Str("address", addr).Msg("no metrics and no health: the address is taken; set RENEWALS_OPS_ADDR, or to off")
		return nil
	}
	if err != nil {
		return cli.Usagef("%s: %w, expected a free host:port, or off", place, err)
	}
	o.server = &http.Server{
		Handler: o.handler(s.Pprof), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 90 * time.Second, // a profile takes a while
		IdleTimeout:  time.Minute, MaxHeaderBytes: 16 << 10,
	}
	o.done = make(chan struct{})
	go func() {
		defer close(o.done)
		if err := o.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Msg("operations address lost")
		}
	}()
	log.Info().Str("address", listener.Addr().String()).Msg("serving /metrics, /healthz and /readyz")
	return nil
}

func (o *operations) handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	if profiles { // without /debug/pprof/cmdline: a command line may hold a password
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex"} {
			mux.Handle("GET /debug/pprof/"+name, pprof.Handler(name))
		}
	}
	mux.Handle("GET /metrics", o.scraped())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := (*o.ready.Load())(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	return mux
}

// mostScrapes are answered at a time.
const mostScrapes = 4

// scraped answers with the metrics: in text as they are written, in any other form as the library makes it.
func (o *operations) scraped() http.Handler {
	opts := promhttp.HandlerOpts{Timeout: 10 * time.Second, MaxRequestsInFlight: mostScrapes}
	if o.metrics == nil {
		return promhttp.HandlerFor(o.registry, opts)
	}
	whole := promhttp.HandlerFor(o.metrics.Gatherer(o.registry), opts)
	places := make(chan struct{}, mostScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...)
		if format.FormatType() != expfmt.TypeTextPlain {
			whole.ServeHTTP(w, r)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			http.Error(w, fmt.Sprintf("limit of concurrent requests reached (%d), try again later", mostScrapes), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", string(format))
		w.Header().Add("Vary", "Accept-Encoding")
		var to io.Writer = w
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			packed, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a known level
			defer func() { _ = packed.Close() }()               // whoever asked is gone
			to = packed
		}
		if err := o.metrics.WriteText(to, o.registry); err != nil {
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}
	})
}

// close lets answers under way finish for a moment.
func (o *operations) close() {
	if o.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if o.server.Shutdown(ctx) != nil {
		_ = o.server.Close()
	}
	<-o.done
}
