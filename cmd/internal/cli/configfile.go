package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// ConfigFile is the YAML file of --config: accounts, and any setting of any command.
type ConfigFile struct {
	Path     string
	Accounts []AccountEntry
	Settings map[string]FileSetting
}

// FileSetting is a setting as its flag would have it, with where it is: renewals.yaml:3: try_timeout.
type FileSetting struct{ Text, Place string }

// ParseConfig reads the file strictly, whatever the command uses of it: a key that nobody reads is a setting that somebody
// believes in.
func ParseConfig(path string, text []byte, flags map[string]*kong.Flag, shared bool) (*ConfigFile, error) {
	file := &ConfigFile{Path: path, Settings: map[string]FileSetting{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return file, nil
	case err != nil:
		return nil, syntaxProblem(path, text, err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, Usagef("%s:%d: a second document, expected one: what stands there would be read by nobody", path, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(path, text, err)
	}
	root := document.Content[0]
	if root.ShortTag() == "!!null" {
		return file, nil
	}
	c := configCheck{path: path, shared: shared}
	c.value(root, "", fileShape(flags))
	if err := c.problem(); err != nil {
		return nil, err
	}
	for _, p := range pairs(root) {
		if p.key.Value == "accounts" {
			if err := file.readAccounts(resolved(p.value)); err != nil {
				return nil, err
			}
			continue
		}
		if shared && flags[p.key.Value] == nil {
			continue
		}
		file.Settings[p.key.Value] = FileSetting{nodeText(p.value), fmt.Sprintf("%s:%d: %s", path, p.key.Line, p.key.Value)}
	}
	return file, nil
}

// readAccounts takes in what was checked, with the lines for messages.
func (file *ConfigFile) readAccounts(list *yaml.Node) error {
	if err := list.Decode(&file.Accounts); err != nil {
		return Usagef("%s:%d: accounts: %w", file.Path, list.Line, err)
	}
	for i, node := range list.Content {
		lines := map[string]int{}
		for _, p := range pairs(node) {
			lines[p.key.Value] = p.key.Line
		}
		e, line := &file.Accounts[i], node.Line // not the node, which would keep the whole document
		e.Where = func(key string) string {
			return fmt.Sprintf("%s:%d: account %s: %s", file.Path, cmp.Or(lines[key], line), cmp.Or(e.Name, fmt.Sprintf("accounts[%d]", i)), key)
		}
	}
	return nil
}

// check finds what no shape says of accounts, for commands, too, that never ask Klarna. What depends on other settings is left to those
// that do: whether an endpoint may be http, and the credentials.
func (file *ConfigFile) check() error {
	seen := map[string]bool{}
	for _, e := range file.Accounts {
		if seen[e.Name] {
			return Usagef("%s: there twice, expected each account once", e.Where("name"))
		}
		seen[e.Name] = true
		if err := e.check(); err != nil {
			return Usage(err)
		}
	}
	return nil
}

// configCheck collects everything that is wrong with a file, so that it is put right in one go.
type configCheck struct {
	path     string
	shared   bool // keys of the other program are left to it
	problems []configProblem
}

type configProblem struct {
	line int
	text string
}

func (c *configCheck) add(line int, format string, args ...any) {
	c.problems = append(c.problems, configProblem{line, fmt.Sprintf(format, args...)})
}

func (c *configCheck) problem() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b configProblem) int { return cmp.Compare(a.line, b.line) })
	var text []string
	for _, p := range c.problems {
		text = append(text, fmt.Sprintf("%s:%d: %s", c.path, p.line, p.text))
	}
	return Usagef("%s", strings.Join(text, "\n"))
}

// value compares a node with its shape. at is the path of it in the file's own keys, accounts[0].rate, "" for the whole.
func (c *configCheck) value(node *yaml.Node, at string, s *shape) {
	line := node.Line
	node = resolved(node)
	switch {
	case s.is == isMapping && node.Kind == yaml.MappingNode:
		c.mapping(node, at, s)
	case s.is == isList && node.Kind == yaml.SequenceNode:
		before := len(c.problems)
		for i, item := range node.Content {
			c.value(item, fmt.Sprintf("%s[%d]", at, i), s.of)
		}
		if len(c.problems) == before {
			c.byFlag(line, at, s, nodeText(node))
		}
	case s.is == isList && s.alone && node.Kind == yaml.ScalarNode:
		c.scalar(node, line, at, s, s.of)
	case node.Kind != yaml.ScalarNode || s.is == isMapping || s.is == isList:
		c.add(line, "%s, expected %s", named(at, "found "+foundKind(node)), s.wanted())
	default:
		c.scalar(node, line, at, s, s)
	}
}

// scalar compares a single value with its shape, which is one itself, or that of each of a list of which there is one.
func (c *configCheck) scalar(node *yaml.Node, line int, at string, s, each *shape) {
	if wrong := each.wrong(node); wrong != "" {
		c.add(line, "%s, expected %s", named(at, wrong), s.wanted())
		return
	}
	c.byFlag(line, at, s, nodeText(node))
}

// byFlag has the flag try a text of the right kind: an enum, a number that is too large.
func (c *configCheck) byFlag(line int, at string, s *shape, text string) {
	if s.flag == nil {
		return
	}
	if wrong := wrongText(s.flag, text); wrong != "" {
		c.add(line, "%s", named(at, wrong))
	}
}

func (c *configCheck) mapping(node *yaml.Node, at string, s *shape) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if first := seen[key.Value]; first > 0 && key.ShortTag() != "!!merge" {
			c.add(key.Line, "%s: there twice, first on line %d", below(at, key.Value), first)
		}
		seen[key.Value] = key.Line
	}
	present := map[string]bool{}
	for _, p := range pairs(node) {
		present[p.key.Value] = true
		if one := s.keys[p.key.Value]; one == nil && c.shared && at == "" {
			continue
		} else if one == nil {
			c.unknown(p.key, at, s)
		} else {
			c.value(p.value, below(at, p.key.Value), one)
		}
	}
	for _, key := range s.required {
		if !present[key] {
			c.add(node.Line, "%s: not set, expected %s", below(at, key), s.keys[key].wanted())
		}
	}
}

// unknown says what a key that nobody reads may have been meant for.
func (c *configCheck) unknown(key *yaml.Node, at string, s *shape) {
	known, name := sortedKeys(s.keys), below(at, key.Value)
	switch near := nearest(strings.ReplaceAll(key.Value, "-", "_"), known); {
	case slices.Contains([]string{"password", "klarna_password"}, key.Value):
		c.add(key.Line, "unknown key %s: an API key is not in this file, expected %s, or the key itself in KLARNA_PASSWORD", name, strings.TrimSuffix(key.Value, "password")+"password_file")
	case key.Value == "nats_password" || key.Value == "nats_token":
		c.add(key.Line, "unknown key %s: a secret is not in this file, expected it in %s, or nats_creds or nats_nkey", name, strings.ToUpper(key.Value))
	case near != "":
		c.add(key.Line, "unknown key %s, did you mean %s?", name, near)
	case at == "":
		c.add(key.Line, "unknown key %s, expected accounts or a setting; `renewals schema config` has them all, and what decides about money is a flag and nothing else", name)
	default:
		c.add(key.Line, "unknown key %s, expected some of %s", name, strings.Join(known, ", "))
	}
}

// wrong says what is wrong with a scalar, "" when nothing is.
func (s *shape) wrong(node *yaml.Node) string {
	tag, text := node.ShortTag(), nodeText(node)
	found := "found " + foundKind(node)
	switch s.is {
	case isText:
		switch {
		case tag == "!!int" || tag == "!!float" || tag == "!!bool":
			return fmt.Sprintf("found %s: text that looks like a number or like true or false is written in quotes", node.Value)
		case tag != "!!str" && tag != "!!timestamp":
			return found
		case s.among != nil && !slices.Contains(s.among, text), s.pattern != "" && !regexp.MustCompile(s.pattern).MatchString(text):
			return fmt.Sprintf("found %.40q", text)
		}
	case isYesNo:
		if tag != "!!bool" {
			return found
		}
	case isDuration:
		if text != "0" && (tag != "!!str" || !regexp.MustCompile("^"+durationPattern+"$").MatchString(text)) {
			return found
		}
		if _, err := ParseDuration(text); err != nil {
			return found
		}
	case isNumber, isInteger:
		n, err := strconv.ParseFloat(text, 64)
		if tag != "!!int" && tag != "!!float" || err != nil || math.IsInf(n, 0) || math.IsNaN(n) ||
			s.is == isInteger && n != math.Trunc(n) || s.min != nil && n < *s.min || s.max != nil && n > *s.max {
			return found
		}
	}
	return ""
}

// wanted says what was expected, for a sentence.
func (s *shape) wanted() string {
	switch {
	case s.among != nil:
		return "one of " + strings.Join(s.among, ", ")
	case s.expected != "":
		return s.expected
	case s.min != nil && s.max != nil:
		return fmt.Sprintf("%s from %s to %s", s.is, number(*s.min), number(*s.max))
	case s.min != nil:
		return fmt.Sprintf("%s of at least %s", s.is, number(*s.min))
	case s.is == isList && s.of.is != isMapping:
		return "a list, each " + s.of.wanted()
	}
	return string(s.is)
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

func named(at, text string) string {
	if at == "" {
		return text
	}
	return at + ": " + text
}

func below(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}
