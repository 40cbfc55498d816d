package klarnasim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// control adds the paths below /sim/, which Klarna does not have.
func (s *Simulator) control() {
	s.mux.HandleFunc("GET /sim/books", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := s.writeBooks(w); err != nil {
			panic(http.ErrAbortHandler) // half of the books must not look like all of them
		}
	})
	s.mux.HandleFunc("GET /sim/counts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Counts())
	})
	s.mux.HandleFunc("POST /sim/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("POST /sim/advance", command(func(_ *http.Request, c *struct {
		Duration duration `json:"duration"`
	}) error {
		s.Advance(time.Duration(c.Duration))
		return nil
	}))
	s.mux.HandleFunc("PATCH /sim/options", command(func(_ *http.Request, c *changes) error {
		if err := c.check(); err != nil {
			return err
		}
		s.Change(c.apply)
		return nil
	}))
	s.mux.HandleFunc("PUT /sim/tokens/{token}", command(func(r *http.Request, c *TokenState) error {
		s.SetToken(r.PathValue("token"), *c)
		return nil
	}))
	s.mux.HandleFunc("PUT /sim/orders/{order}", command(func(r *http.Request, c *struct {
		FraudStatus string `json:"fraud_status"`
	}) error {
		if !s.SetFraudStatus(r.PathValue("order"), c.FraudStatus) {
			return errors.New("there is no such order")
		}
		return nil
	}))
	s.mux.HandleFunc("DELETE /sim/lies", func(w http.ResponseWriter, _ *http.Request) {
		s.TellTheTruth()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("POST /sim/lies", command(func(_ *http.Request, l *Lie) error { return s.Lie(*l) }))
}

// command decodes a request's body, which must not hold anything unknown, and answers 204, or 400 with what is wrong.
func command[C any](run func(*http.Request, *C) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var c C
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&c)
		if err == nil {
			err = run(r, &c)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// changes to the options; nil leaves one as it is.
type changes struct {
	Latency          *duration   `json:"latency"`
	LatencyP99       *duration   `json:"latency_p99"`
	Rate             *int        `json:"rate"`
	Username         *string     `json:"username"`
	Password         *string     `json:"password"`
	Faults           *float64    `json:"faults"`
	LateBy           *duration   `json:"late_by"`
	Outage           *string     `json:"outage"`
	PendingFor       *duration   `json:"pending_for"`
	AuthorizedFor    *duration   `json:"authorized_for"`
	StrictSchema     *bool       `json:"strict_schema"`
	Report           *ReportForm `json:"report"`
	ForgetErrors     *bool       `json:"forget_errors"`
	ConflictInFlight *bool       `json:"conflict_in_flight"`
}

func (c *changes) check() error {
	if c.Faults != nil && (*c.Faults < 0 || *c.Faults > 1) {
		return fmt.Errorf("faults: %v, expected a share from 0 to 1", *c.Faults)
	}
	if c.Outage != nil {
		if err := CheckOutage(*c.Outage); err != nil {
			return fmt.Errorf("outage: %w", err)
		}
	}
	if c.Report != nil {
		return c.Report.check()
	}
	return nil
}

func (c *changes) apply(o *Options) {
	set(&o.Latency, (*time.Duration)(c.Latency))
	set(&o.LatencyP99, (*time.Duration)(c.LatencyP99))
	set(&o.Rate, c.Rate)
	set(&o.Username, c.Username)
	set(&o.Password, c.Password)
	set(&o.Faults, c.Faults)
	set(&o.LateBy, (*time.Duration)(c.LateBy))
	set(&o.Outage, c.Outage)
	set(&o.PendingFor, (*time.Duration)(c.PendingFor))
	set(&o.AuthorizedFor, (*time.Duration)(c.AuthorizedFor))
	set(&o.StrictSchema, c.StrictSchema)
	set(&o.Report, c.Report)
	set(&o.ForgetErrors, c.ForgetErrors)
	set(&o.ConflictInFlight, c.ConflictInFlight)
}

func set[T any](option, value *T) {
	if value != nil {
		*option = *value
	}
}

// duration is written like "300ms" or "25h".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil && parsed < 0 {
		err = errors.New("a duration is negative")
	}
	*d = duration(parsed)
	return err
}
