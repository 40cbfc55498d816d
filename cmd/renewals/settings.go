package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// environment looks up one variable, as os.LookupEnv does.
type environment func(name string) (string, bool)

// settings finds what the command line leaves open: in the environment, then in the configuration file. An empty
// variable is one that is not set, as container platforms pass them.
type settings struct {
	env     environment
	grammar *kong.Application
	file    *configFile // nil until the first look
}

// configFile is the YAML file of --config. Beside accounts it may hold any flag under its name with underscores,
// try_timeout for --try-timeout, except the KLARNA_ ones, which are what accounts are made of.
type configFile struct {
	Accounts []accountEntry       `yaml:"accounts"`
	Flags    map[string]yaml.Node `yaml:",inline"`
	path     string
}

var _ kong.Resolver = (*settings)(nil)

// Validate is part of kong.Resolver; there is nothing to check before a command is known.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve gives the text of a flag that is not on the command line, nil where nothing sets it. The flag's own mapper
// tries the text here, so that the error names the place that a person has to change.
func (s *settings) Resolve(context *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if onCommandLine(flag) {
		return nil, nil
	}
	if err := s.load(context); err != nil {
		return nil, err
	}
	place, text := variable(flag), s.lookup(variable(flag))
	if text == "" {
		node, ok := s.file.Flags[fileKey(flag)]
		if !ok {
			return nil, nil
		}
		place = fmt.Sprintf("%s:%d: %s", s.file.path, node.Line, fileKey(flag))
		var err error
		if text, err = nodeText(node); err != nil {
			return nil, usagef("%s: %w", place, err)
		}
	}
	scan := kong.ScanFromTokens(kong.Token{Value: text, Type: kong.FlagValueToken})
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, usagef("%s: %w", place, err)
	}
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), text) {
		return nil, usagef("%s: %q, expected one of %s", place, text, strings.Join(flag.EnumSlice(), ", "))
	}
	return text, nil
}

func (s *settings) lookup(variable string) string {
	text, _ := s.env(variable)
	return text
}

// load reads the file of --config once, whichever flag is asked for first.
func (s *settings) load(context *kong.Context) error {
	if s.file != nil {
		return nil
	}
	s.file = &configFile{}
	path := s.lookup("RENEWALS_CONFIG")
	for _, flag := range context.Flags() {
		if flag.Name != "config" {
			continue
		}
		if set, ok := context.FlagValue(flag).(string); ok && set != "" {
			path = set
		}
		if path == "" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return usagef("RENEWALS_CONFIG: %w", err)
		}
		s.file, err = parseConfig(path, text, s.fileKeys())
		if err != nil {
			s.file = &configFile{}
		}
		return err
	}
	return nil
}

func (s *settings) fileKeys() map[string]bool {
	keys := map[string]bool{}
	_ = kong.Visit(s.grammar, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "config" && !onCommandLine(flag) && !strings.HasPrefix(variable(flag), "KLARNA_") {
			keys[fileKey(flag)] = true
		}
		return next(nil)
	})
	return keys
}

// parseConfig reads the file strictly: a key that nobody reads is a setting that somebody believes in.
func parseConfig(path string, text []byte, flags map[string]bool) (*configFile, error) {
	file := &configFile{path: path}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(file); err != nil && !errors.Is(err, io.EOF) {
		var wrong *yaml.TypeError
		if !errors.As(err, &wrong) {
			return nil, usagef("%s:%s", path, strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "line "))
		}
		problems := make([]error, len(wrong.Errors))
		for i, problem := range wrong.Errors {
			problem = strings.TrimPrefix(problem, "line ")
			if line, key, ok := strings.Cut(problem, ": field "); ok {
				key, _, _ = strings.Cut(key, " not found in type")
				problem = line + ": unknown key " + key
			}
			problems[i] = fmt.Errorf("%s:%s", path, problem)
		}
		return nil, usageError{errors.Join(problems...)}
	}
	var unknown []string
	for key, node := range file.Flags {
		if !flags[key] {
			unknown = append(unknown, fmt.Sprintf("%s:%d: unknown key %s, expected accounts or the name of a flag with underscores", path, node.Line, key))
		}
	}
	if slices.Sort(unknown); len(unknown) > 0 {
		return nil, usagef("%s", strings.Join(unknown, "\n"))
	}
	return file, nil
}

func nodeText(node yaml.Node) (string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return node.Value, nil
	case yaml.SequenceNode:
		var parts []string
		if err := node.Decode(&parts); err != nil {
			return "", errors.New("expected a list of values")
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("expected a value or a list of values")
}

// onCommandLine says that a flag decides about money, picks what a decision is about, or confirms it: such a flag is taken from the
// command line alone. A variable left in a shell profile, or a key in a file that all commands read, decides nothing.
func onCommandLine(flag *kong.Flag) bool {
	return flag.Name == "help" || flag.Name == "version" || flag.Tag.Get("from") == "command-line"
}

// variable names the environment variable of a flag.
func variable(flag *kong.Flag) string {
	if name := flag.Tag.Get("setting"); name != "" {
		return name
	}
	return "RENEWALS_" + strings.ToUpper(fileKey(flag))
}

func fileKey(flag *kong.Flag) string { return strings.ReplaceAll(flag.Name, "-", "_") }

func helpWithVariable(value *kong.Value) string {
	if value.Flag == nil || onCommandLine(value.Flag) {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + variable(value.Flag) + ")."
}

// durations reads Go's durations and whole days, 120d.
func durations() kong.Option {
	return kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
			return err
		}
		d, err := parseDuration(text)
		target.SetInt(int64(d))
		return err
	}))
}

func parseDuration(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q, expected a duration such as 500ms, 65s, 1h30m or 120d", text)
	}
	return d, nil
}

// durationText writes a duration as durations reads it, without the units that are zero: 1m5s, 5m, 23h.
func durationText(d time.Duration) string {
	text := d.String()
	for _, zero := range []struct{ tail, keep string }{{"m0s", "m"}, {"h0m", "h"}} {
		if rest, ok := strings.CutSuffix(text, zero.tail); ok {
			text = rest + zero.keep
		}
	}
	return text
}
