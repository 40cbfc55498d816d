package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pair is a key with its value.
type pair struct{ key, value *yaml.Node }

// mergesDeep is how deep `<<` may refer on. A mapping that merges itself would never end.
const mergesDeep = 8

// pairs are those of a mapping, with what `<<` brings in from elsewhere and what stands here does not replace.
func pairs(node *yaml.Node) []pair { return pairsWithin(resolved(node), mergesDeep) }

func pairsWithin(node *yaml.Node, depth int) (all []pair) {
	if node.Kind != yaml.MappingNode || depth == 0 {
		return nil
	}
	at := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.ShortTag() != "!!merge" {
			at[key.Value] = true
			all = append(all, pair{key, value})
			continue
		}
		if value = resolved(value); value.Kind == yaml.SequenceNode {
			merged = append(merged, value.Content...)
		} else {
			merged = append(merged, value)
		}
	}
	for _, from := range merged {
		for _, p := range pairsWithin(resolved(from), depth-1) {
			if !at[p.key.Value] {
				at[p.key.Value] = true
				all = append(all, p)
			}
		}
	}
	return all
}

// resolved is the node that an alias stands for.
func resolved(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// nodeText is a value that has passed the check as a flag takes it: 3 of 0x3, a list with commas.
func nodeText(node *yaml.Node) string {
	node = resolved(node)
	if node.Kind == yaml.SequenceNode {
		parts := make([]string, len(node.Content))
		for i, item := range node.Content {
			parts[i] = nodeText(item)
		}
		return strings.Join(parts, ",")
	}
	var value any
	switch node.ShortTag() {
	case "!!bool", "!!int", "!!float":
		if node.Decode(&value) == nil {
			if f, ok := value.(float64); ok {
				return strconv.FormatFloat(f, 'f', -1, 64)
			}
			return fmt.Sprint(value)
		}
	}
	return node.Value
}

// foundKind says what stands there instead of what was expected.
func foundKind(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.ShortTag() == "!!null":
		return "nothing"
	case node.ShortTag() == "!!str":
		return fmt.Sprintf("%.40q", node.Value)
	}
	return fmt.Sprintf("%.40s", node.Value)
}

var (
	yamlLine = regexp.MustCompile(`^line \d+: `)
	lineKey  = regexp.MustCompile(`^\s*-?\s*([A-Za-z_][A-Za-z0-9_-]*)\s*:`)
)

// syntaxProblem names the line that stops the file from being YAML: the reader itself names the beginning of what it was in the
// middle of. Of what stands there it shows the key alone.
func syntaxProblem(path string, text []byte, err error) error {
	why := yamlLine.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
	lines := bytes.SplitAfter(text, []byte("\n"))
	line := firstBad(len(lines), func(n int) bool {
		var node yaml.Node
		return yaml.Unmarshal(bytes.Join(lines[:n], nil), &node) == nil
	})
	at := ""
	if key := lineKey.FindSubmatch(lines[line-1]); key != nil {
		at = string(key[1]) + ": "
	}
	return Usagef("%s:%d: %sno YAML: %s; look at the indentation and the quotes of this line and the one before", path, line, at, why)
}

// mostLines of one value, a list or a text in quotes, during which a file that is read up to there is not complete.
const mostLines = 50

// firstBad is the line from which on no beginning of the file can be read; 0 lines can. All of it cannot.
func firstBad(lines int, reads func(lines int) bool) int {
	good, bad := 0, lines
	for good+1 < bad {
		middle := (good + bad) / 2
		probe := middle
		for probe < min(bad, middle+mostLines) && !reads(probe) {
			probe++
		}
		if probe < min(bad, middle+mostLines) {
			good = probe
		} else {
			bad = middle
		}
	}
	return bad
}
