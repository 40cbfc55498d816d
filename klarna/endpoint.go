package klarna

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// host of each named endpoint. Klarna's regions: https://docs.klarna.com/api/api-urls. Kustom, which runs the former
// Klarna Checkout, has no regions and keeps Klarna's paths: https://docs.kustom.co/contents/api/customer-token.md
func host(name string) (string, bool) {
	switch name {
	case "eu":
		return "api.klarna.com", true
	case "na":
		return "api-na.klarna.com", true
	case "oc":
		return "api-oc.klarna.com", true
	case "eu-playground":
		return "api.playground.klarna.com", true
	case "na-playground":
		return "api-na.playground.klarna.com", true
	case "oc-playground":
		return "api-oc.playground.klarna.com", true
	case "kustom":
		return "api.kustom.co", true
	case "kustom-playground":
		return "api.playground.kustom.co", true
	}
	return "", false
}

// ResolveEndpoint turns a name (eu, na, oc, eu-playground, na-playground, oc-playground, kustom, kustom-playground) or an
// https URL into the root of Klarna's API. A URL may have a path prefix, but no user info, query or fragment; plain http
// is for loopback, unless allowHTTP. An error says what was expected and never quotes the URL, which may hold a password.
func ResolveEndpoint(name string, allowHTTP bool) (*url.URL, error) {
	if h, ok := host(name); ok {
		return &url.URL{Scheme: "https", Host: h}, nil
	}
	u, err := url.Parse(name)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, errors.New("expected eu, na, oc, eu-playground, na-playground, oc-playground, kustom, kustom-playground or an https URL")
	case u.User != nil:
		return nil, errors.New("expected a URL without user info")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("expected a URL without a query")
	case u.Fragment != "" || strings.Contains(name, "#"):
		return nil, errors.New("expected a URL without a fragment")
	case u.RawPath != "" || slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return nil, errors.New("expected a URL whose path is a plain prefix")
	case u.Scheme == "http" && !allowHTTP && !loopback(u.Hostname()):
		return nil, fmt.Errorf("expected https: plain http is for loopback, and %s is not", u.Hostname())
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// CanonicalEndpoint writes the root of an API as text that is equal for two spellings of the same: scheme and host in
// lower case, without the scheme's own port, the path without a slash at its end.
func CanonicalEndpoint(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && (scheme != "https" || port != "443") && (scheme != "http" || port != "80") {
		host += ":" + port
	}
	return scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/")
}

// Loopback reports whether a URL cannot leave this machine.
func Loopback(u *url.URL) bool { return loopback(u.Hostname()) }

// maxMerchant is far above the length of any merchant ID.
const maxMerchant = 64

// Merchant names the merchant whose user name this is: what stands before the first _, which is the merchant ID in names
// such as K123456_abcdef. Any other user name, a UUID or Kustom's <MID>-<suffix> among them, does not tell its merchant
// apart from its key: it stands for itself, as 12 hex digits of its SHA-256, since it is a part of a credential.
// https://docs.klarna.com/api/authentication
func Merchant(username string) string {
	if id, _, ok := strings.Cut(username, "_"); ok && ValidMerchant(id) {
		return id
	}
	sum := sha256.Sum256([]byte(username))
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// ValidMerchant reports whether s can be a merchant ID: 1 to 64 of A-Z, a-z, 0-9, - and dot.
func ValidMerchant(s string) bool {
	return s != "" && len(s) <= maxMerchant && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.'
	})
}
