package klarna

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"unicode/utf8"
)

const redacted = "[redacted]"

// secret prints, formats, logs and marshals as [redacted]. It is a pointer inside, because package fmt prints the fields
// of a struct that holds a secret in an unexported field without asking the secret's methods, and not comparable, because
// two pointers to the same secret would differ.
type secret struct {
	_ [0]func()
	s *string
}

func newSecret(s string) secret { return secret{s: &s} }

// Reveal returns the secret itself. Its only place is a request to Klarna.
func (s secret) Reveal() string {
	if s.s == nil {
		return ""
	}
	return *s.s
}

func (s secret) equal(other secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// CustomerToken is Klarna's reusable credential of one customer: whoever has it and the merchant's API key can charge.
// It prints and marshals as [redacted] everywhere; Reveal gives it away.
type CustomerToken struct{ secret }

// NewCustomerToken wraps s without checking it.
func NewCustomerToken(s string) CustomerToken { return CustomerToken{newSecret(s)} }

// Secret is an API key or another password. It prints and marshals as [redacted] everywhere; Reveal gives it away.
type Secret struct{ secret }

// NewSecret wraps s without checking it.
func NewSecret(s string) Secret { return Secret{newSecret(s)} }

// Credentials of one merchant account: the user name and the API key that the merchant portal shows together.
// https://docs.klarna.com/api/authentication
type Credentials struct {
	Username string
	Password Secret
}

func (c Credentials) equal(other Credentials) bool {
	return c.Username == other.Username && c.Password.equal(other.Password.secret)
}

func (c Credentials) check() error {
	switch {
	case c.Username == "":
		return errors.New("the user name is empty")
	case strings.Contains(c.Username, ":"):
		return errors.New("the user name contains a colon")
	case c.Password.Reveal() == "":
		return errors.New("the API key is empty")
	}
	return nil
}

// CredentialSource says which credentials to use for the next try. It must be fast and safe for concurrent use. An error
// becomes a [*NotSentError]: the try waits for better times.
type CredentialSource interface {
	Credentials() (Credentials, error)
}

type staticCredentials Credentials

func (s staticCredentials) Credentials() (Credentials, error) {
	return Credentials(s), Credentials(s).check()
}

// StaticCredentials never change.
func StaticCredentials(username, password string) CredentialSource {
	return staticCredentials{Username: username, Password: NewSecret(password)}
}

// CredentialFile is an API key in a file, read again whenever the file has changed, so that a key can be rotated under a
// running worker.
type CredentialFile struct {
	username, path string

	mu      sync.Mutex
	current Credentials
	read    os.FileInfo // the file that current is from
}

var _ CredentialSource = (*CredentialFile)(nil)

// maxKeyFile is far above any API key; a larger file is the wrong file.
const maxKeyFile = 16 << 10

// FileCredentials reads the API key from the file at path; white space around it is dropped. An error means that the file
// cannot be read, is empty or no text.
func FileCredentials(username, path string) (*CredentialFile, error) {
	f := &CredentialFile{username: username, path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Credentials returns the key in the file. While the file is missing or empty, as it can be in the middle of a rotation,
// the last known key stays in use.
func (f *CredentialFile) Credentials() (Credentials, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if info, err := os.Stat(f.path); err == nil && !sameFile(info, f.read) {
		_ = f.reload()
	}
	return f.current, nil
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Reload reads the file now. After an error the last known key stays in use.
func (f *CredentialFile) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reload()
}

func (f *CredentialFile) reload() error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("open API key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read API key: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return fmt.Errorf("read API key: %w", err)
	}
	if len(text) > maxKeyFile || !utf8.Valid(text) {
		return fmt.Errorf("read API key: %s holds no key", f.path)
	}
	read := Credentials{Username: f.username, Password: NewSecret(strings.TrimSpace(string(text)))}
	if err := read.check(); err != nil {
		return fmt.Errorf("read API key: %w", err)
	}
	f.current, f.read = read, info
	return nil
}
