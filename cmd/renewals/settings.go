package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// environment looks up one variable, as os.LookupEnv does.
type environment func(name string) (string, bool)

// settings finds what the command line leaves open: in the environment, then in the configuration file. An empty
// variable is one that is not set, as container platforms pass them.
type settings struct {
	env     environment
	grammar *kong.Application
	command string      // as it was typed, without arguments: dead replay
	file    *configFile // nil until the first look

	lost   lostReason        // of the connection, for what the command says in the end
	places map[string]string // where each flag got its value that did not get it on the command line
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
		value, ok := s.file.settings[fileKey(flag)]
		if !ok {
			s.found(flag, place)
			return nil, nil
		}
		place, text = value.place, value.text
	}
	s.found(flag, place)
	if problem := wrongText(flag, text); problem != "" {
		return nil, usagef("%s: %s", place, problem)
	}
	return text, nil
}

func (s *settings) found(flag *kong.Flag, place string) {
	if s.places == nil {
		s.places = map[string]string{}
	}
	s.places[flag.Name] = place
}

// place says where a person has to change what a flag is set to: the flag itself, the variable, or the line of the file. It is
// the variable where nothing sets it.
func (s *settings) place(flag string) string {
	if place, ok := s.places[flag]; ok {
		return place
	}
	return "--" + flag
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
	place, path := "RENEWALS_CONFIG", s.lookup("RENEWALS_CONFIG")
	for _, flag := range context.Flags() {
		if set, ok := context.FlagValue(flag).(string); flag.Name == "config" && ok && set != "" {
			place, path = "--config", set
		}
	}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return usagef("%s: %w", place, err)
	}
	file, err := parseConfig(path, text, settingFlags(s.grammar))
	if err == nil {
		s.file = file
	}
	return err
}

// wrongText says what is wrong with the text of a setting, in the flag's own words; "" when nothing is.
func wrongText(flag *kong.Flag, text string) string {
	scan := kong.ScanFromTokens(kong.Token{Value: text, Type: kong.FlagValueToken})
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return err.Error()
	}
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), text) {
		return fmt.Sprintf("%q, expected one of %s", text, strings.Join(flag.EnumSlice(), ", "))
	}
	return ""
}

// onCommandLine says that a flag is part of what is asked for, and no setting: it decides about money, picks what a decision or an
// answer is about, or confirms. Such a flag is taken from the command line alone. A variable left in a shell profile, or a key in a
// file that all commands read, decides nothing.
func onCommandLine(flag *kong.Flag) bool {
	return flag.Name == "help" || flag.Name == "version" || flag.Tag.Get("from") == "command-line"
}

// settingFlags are the flags that are settings, of all commands, by their key in the file.
func settingFlags(grammar *kong.Application) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	_ = kong.Visit(grammar, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "config" && !onCommandLine(flag) {
			if flags[fileKey(flag)] == nil {
				flags[fileKey(flag)] = flag
			}
		}
		return next(nil)
	})
	return flags
}

// variable names the environment variable of a flag.
func variable(flag *kong.Flag) string {
	if name := flag.Tag.Get("setting"); name != "" {
		return name
	}
	return "RENEWALS_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// fileKey is the variable in lower case, without the prefix that says whose it is.
func fileKey(flag *kong.Flag) string {
	return strings.ToLower(strings.TrimPrefix(variable(flag), "RENEWALS_"))
}

func helpWithVariable(value *kong.Value) string {
	if value.Flag == nil || onCommandLine(value.Flag) {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + variable(value.Flag) + ")."
}
