package klarnasim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a simulator that listens.
type Server struct {
	// URL is the endpoint to give to a client of Klarna.
	URL string
	// Simulator holds the books.
	Simulator *Simulator
	// ClientTLS trusts the server's certificate, after [StartTLS]; nil otherwise.
	ClientTLS *tls.Config
	// CertificatePEM is that certificate for another program, which finds it by SSL_CERT_FILE; nil otherwise.
	CertificatePEM []byte

	server  *http.Server
	serving sync.WaitGroup

	gate   sync.RWMutex // held for reading by whoever answers a request
	closed bool
}

// Start listens on Options.Addr with plain HTTP.
func Start(options Options) (*Server, error) { return start(options, nil, nil) }

// StartTLS listens on Options.Addr with TLS and HTTP/2, and a certificate made for 127.0.0.1 and localhost.
func StartTLS(options Options) (*Server, error) {
	certificate, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	s, err := start(options,
		&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	s.CertificatePEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw})
	return s, nil
}

func start(options Options, serverTLS, clientTLS *tls.Config) (*Server, error) {
	if options.Addr == "" {
		options.Addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", options.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Server{URL: "http://" + listener.Addr().String(), Simulator: New(options), ClientTLS: clientTLS}
	s.server = &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		TLSConfig:         serverTLS,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // cut connections are what it is for
	}
	serve := func() error { return s.server.Serve(listener) }
	if serverTLS != nil {
		s.URL = "https://" + listener.Addr().String()
		serve = func() error { return s.server.ServeTLS(listener, "", "") }
	}
	s.serving.Go(func() { _ = serve() }) // ends with Close
	return s, nil
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		panic(http.ErrAbortHandler)
	}
	s.Simulator.ServeHTTP(w, r)
}

// Close cuts all connections, ends all waiting and returns when nothing is answered any more. The books stay readable.
func (s *Server) Close() {
	s.Simulator.Close()
	_ = s.server.Close()
	s.serving.Wait()
	s.gate.Lock()
	defer s.gate.Unlock()
	s.closed = true
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
