package messages

import "strings"

// localCurrency is the one currency that Klarna sells in in a country; "" where Klarna is not.
// https://docs.klarna.com/klarna-payments/in-depth-knowledge/puchase-countries-currencies-locales/
func localCurrency(country string) string {
	switch country {
	case "AT", "BE", "DE", "ES", "FI", "FR", "GR", "IE", "IT", "NL", "PT", "SK":
		return "EUR"
	case "AU":
		return "AUD"
	case "CA":
		return "CAD"
	case "CH":
		return "CHF"
	case "CZ":
		return "CZK"
	case "DK":
		return "DKK"
	case "GB":
		return "GBP"
	case "HU":
		return "HUF"
	case "MX":
		return "MXN"
	case "NO":
		return "NOK"
	case "NZ":
		return "NZD"
	case "PL":
		return "PLN"
	case "RO":
		return "RON"
	case "SE":
		return "SEK"
	case "US":
		return "USD"
	}
	return ""
}

// country reads a country code and returns it in upper case; "" where it is none.
func (s *scanner) country() string {
	if s.null() {
		return ""
	}
	text, ok := s.str()
	if !ok {
		return ""
	}
	if upper := strings.ToUpper(string(text)); isCountry(upper) {
		return upper
	}
	s.warning(WarnMarket, "found %s, expected an ISO 3166 code such as DE", quote(text))
	return ""
}

// locale reads a locale such as de-DE; "" where it does not have that form.
func (s *scanner) locale() string {
	if s.null() {
		return ""
	}
	text, ok := s.str()
	if !ok {
		return ""
	}
	if len(text) != 5 || text[2] != '-' || !isLower(text[0]) || !isLower(text[1]) || !isCountry(string(text[3:])) {
		s.warning(WarnMarket, "found %s, expected a locale such as de-DE", quote(text))
		return ""
	}
	return string(text)
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

// market warns where currency, country and locale do not go together. Klarna's schema has no country and no locale, its
// samples do; whether they are checked is not documented.
func (s *scanner) market(currency, country, locale string) {
	if local := localCurrency(country); local != "" && currency != "" && local != strings.ToUpper(currency) {
		s.warningAt(WarnMarket, s.at("purchase_country"), "found %s, where Klarna sells in %s, with %s as purchase_currency", country, local, strings.ToUpper(currency))
	}
	if locale != "" && country != "" && locale[3:] != country {
		s.warningAt(WarnMarket, s.at("locale"), "found %s, expected one of %s, the purchase_country", locale, country)
	}
}
