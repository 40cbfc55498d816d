package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// natsContext is a context file of the nats CLI
// (https://docs.nats.io/using-nats/nats-tools/nats_cli#nats-contexts). Fields that would change how we connect and
// that we cannot honour stop the start; the rest is ignored.
type natsContext struct {
	URL      string `json:"url"`
	Token    string `json:"token"`
	User     string `json:"user"`
	Password string `json:"password"`
	Creds    string `json:"creds"`
	NKey     string `json:"nkey"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	Inbox    string `json:"inbox_prefix"`
	Domain   string `json:"jetstream_domain"`
	TLSFirst bool   `json:"tls_first"`

	NSC    string `json:"nsc"`
	Socks  string `json:"socks_proxy"`
	JWT    string `json:"user_jwt"`
	Prefix string `json:"jetstream_api_prefix"`
}

// contextHome is where the nats CLI keeps its contexts, "" where there is no such place.
func contextHome(env Environment) (folder, home string) {
	home, _ = env("HOME")
	config, _ := env("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	if config == "" {
		return "", home
	}
	return filepath.Join(config, "nats"), home
}

// SelectedContext is the one that `nats context select` wrote down in a file, "" where there is none.
func SelectedContext(env Environment) (name, file string) {
	folder, _ := contextHome(env)
	if folder == "" {
		return "", ""
	}
	file = filepath.Join(folder, "context.txt")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", ""
	}
	return strings.TrimSpace(string(text)), file
}

func readContext(name string, env Environment) (natsContext, error) {
	var c natsContext
	folder, home := contextHome(env)
	path := name
	if !filepath.IsAbs(path) {
		if name != filepath.Base(name) {
			return c, fmt.Errorf("%q, expected the name of a context or an absolute path", name)
		}
		if folder == "" {
			return c, fmt.Errorf("%q: HOME is not set, expected the absolute path of a context", name)
		}
		path = filepath.Join(folder, "context", name+".json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	for _, no := range []struct{ field, value string }{{"nsc", c.NSC}, {"socks_proxy", c.Socks}, {"user_jwt", c.JWT}, {"jetstream_api_prefix", c.Prefix}} {
		if no.value != "" {
			return c, fmt.Errorf("%s: %s is not supported, expected url, creds, nkey, user, password, token, ca, cert, key, inbox_prefix, jetstream_domain or tls_first", path, no.field)
		}
	}
	for _, file := range []*string{&c.Creds, &c.NKey, &c.Cert, &c.Key, &c.CA} {
		if rest, ok := strings.CutPrefix(*file, "~/"); ok {
			*file = filepath.Join(home, rest)
		}
	}
	return c, nil
}
