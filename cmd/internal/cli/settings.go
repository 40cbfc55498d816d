package cli

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Environment looks up one variable, as os.LookupEnv does.
type Environment func(name string) (string, bool)

// Settings finds what the command line leaves open: in the environment, then in the configuration file. An empty
// variable is one that is not set, as container platforms pass them.
type Settings struct {
	Env     Environment
	Grammar *kong.Application
	Shared  bool        // the file is another program's, too: what it has beside these settings is checked there
	Command string      // as it was typed, without arguments: dead replay
	File    *ConfigFile // nil until the first look

	lost    lostReason        // of the connection, for what the command says in the end
	program string            // its name
	places  map[string]string // where each flag got its value that did not get it on the command line
}

var _ kong.Resolver = (*Settings)(nil)

// Validate is part of kong.Resolver; there is nothing to check before a command is known.
func (s *Settings) Validate(*kong.Application) error { return nil }

// Resolve gives the text of a flag that is not on the command line, nil where nothing sets it. The flag's own mapper
// tries the text here, so that the error names the place that a person has to change.
func (s *Settings) Resolve(context *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if OnCommandLine(flag) {
		return nil, nil
	}
	if err := s.load(context); err != nil {
		return nil, err
	}
	place, text := variable(flag), s.Lookup(variable(flag))
	if text == "" {
		value, ok := s.File.Settings[FileKey(flag)]
		if !ok {
			s.found(flag, place)
			return nil, nil
		}
		place, text = value.Place, value.Text
	}
	s.found(flag, place)
	if problem := wrongText(flag, text); problem != "" {
		return nil, Usagef("%s: %s", place, problem)
	}
	return text, nil
}

func (s *Settings) found(flag *kong.Flag, place string) {
	if s.places == nil {
		s.places = map[string]string{}
	}
	s.places[flag.Name] = place
}

// place says where a person has to change what a flag is set to: the flag itself, the variable, or the line of the file. It is
// the variable where nothing sets it.
func (s *Settings) Place(flag string) string {
	if place, ok := s.places[flag]; ok {
		return place
	}
	return "--" + flag
}

func (s *Settings) Lookup(variable string) string {
	text, _ := s.Env(variable)
	return text
}

// load reads the file of --config once, whichever flag is asked for first.
func (s *Settings) load(context *kong.Context) error {
	if s.File != nil {
		return nil
	}
	s.File = &ConfigFile{}
	place, path := "RENEWALS_CONFIG", s.Lookup("RENEWALS_CONFIG")
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
		return Usagef("%s: %w", place, err)
	}
	file, err := ParseConfig(path, text, SettingFlags(s.Grammar), s.Shared)
	if err != nil {
		return err
	}
	s.File = file
	return file.check()
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

// OnCommandLine says that a flag is part of what is asked for, and no setting: it decides about money, picks what a decision or an
// answer is about, or confirms. Such a flag is taken from the command line alone. A variable left in a shell profile, or a key in a
// file that all commands read, decides nothing.
func OnCommandLine(flag *kong.Flag) bool {
	return flag.Name == "help" || flag.Name == "version" || flag.Tag.Get("from") == "command-line"
}

// SettingFlags are the flags that are settings, of all commands, by their key in the file.
func SettingFlags(grammar *kong.Application) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	_ = kong.Visit(grammar, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "config" && !OnCommandLine(flag) {
			if flags[FileKey(flag)] == nil {
				flags[FileKey(flag)] = flag
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

// FileKey is the variable in lower case, without the prefix that says whose it is.
func FileKey(flag *kong.Flag) string {
	return strings.ToLower(strings.TrimPrefix(variable(flag), "RENEWALS_"))
}

func HelpWithVariable(value *kong.Value) string {
	if value.Flag == nil || OnCommandLine(value.Flag) {
		return value.Help
	}
	return strings.TrimSuffix(value.Help, ".") + " ($" + variable(value.Flag) + ")."
}
