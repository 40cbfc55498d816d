package cli

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/klarna-renewals/renewals/klarna"
	"github.com/klarna-renewals/renewals/klarna/settlements"
)

// Merchant is the account's merchant ID; "" where nothing tells it.
func (e AccountEntry) Merchant() string {
	if e.MID != "" || e.Username == "" {
		return e.MID
	}
	if id := klarna.Merchant(e.Username); klarna.ValidMerchant(id) {
		return id
	}
	return ""
}

// Settlements is a client of the account's settlements. An error names the setting that is missing or wrong.
func (e AccountEntry) Settlements(allowHTTP bool, waiting func(err error, pause time.Duration)) (*settlements.Client, error) {
	if e.Endpoint == "" {
		return nil, fmt.Errorf("%s: %w", e.Where("endpoint"), errors.New("not set, expected eu, na, oc, their playgrounds, kustom, kustom-playground or an https URL"))
	}
	endpoint, err := klarna.ResolveEndpoint(e.Endpoint, allowHTTP)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Where("endpoint"), err)
	}
	credentials, err := e.credentials()
	if err != nil {
		return nil, err
	}
	return settlements.New(settlements.Config{Endpoint: endpoint, Credentials: credentials, UserAgent: "renewals/" + Version(), Waiting: waiting})
}

// SettlementsProblem adds to what Klarna refused where to look. Other errors stay as they are.
func (e AccountEntry) SettlementsProblem(err error) error {
	var refused *klarna.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch status := refused.StatusCode; {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the API key of account %s is wrong, or of another region: see %s, its password and %s", err, e.Name, e.Where("username"), e.Where("endpoint"))
	case status == http.StatusForbidden:
		return fmt.Errorf("%w: the API key of account %s may not read settlements: give it that right in Klarna's portal, or download the reports and name them as FILEs", err, e.Name)
	case status == http.StatusNotFound, status < 400:
		return fmt.Errorf("%w: no settlements are there: is %s of account %s right?", err, e.Where("endpoint"), e.Name)
	}
	return err
}
