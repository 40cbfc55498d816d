package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// storyPage is the page that tells what the numbers in the comments of tests mean.
const storyPage = "STORIES.md"

var (
	citation   = regexp.MustCompile(`\bS([0-9]{1,3})\b`)
	numberName = regexp.MustCompile(`^(?:Test|Fuzz)(?:\w*[a-z0-9])?S[0-9]`)
	namedTests = regexp.MustCompile("((?:`\\w+`, )*`\\w+`) in `([\\w/]+)`")
	sourced    = regexp.MustCompile(`\]\(https?://[^)\s]+\)|^(?:model search|tried|by hand)$`)
	testName   = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// A storyRow is one row of the page.
type storyRow struct {
	number int
	told   bool // by tests, as the page has it
	source string
	tests  []string // as package.Test
	row    string
}

// TestStories: whatever number a test cites stands on the page, with a link to what happened or how we found it; whatever test
// the page names exists and cites the story that it is said to tell; no story that counts as told is without a test.
func TestStories(t *testing.T) {
	t.Parallel()
	stories := storiesTold(t)
	tests, cited := storiesCited(t)

	known := map[int]bool{}
	for i, s := range stories {
		if i > 0 && stories[i-1].told == s.told && stories[i-1].number >= s.number || known[s.number] {
			t.Errorf("S%d stands twice on the page, or out of its order", s.number)
		}
		known[s.number] = true
		if !sourced.MatchString(s.source) {
			t.Errorf("S%d has the source %q: link the report, or say which of the ways found it that the page begins with", s.number, s.source)
		}
		if named := testName.FindAllString(s.row, -1); len(named) != len(s.tests) {
			t.Errorf("S%d names %q, of which %q are told as `Test` in `package`", s.number, named, s.tests)
		}
		if s.told && len(s.tests) == 0 {
			t.Errorf("S%d counts as told and names no test", s.number)
		}
		for _, name := range s.tests {
			if numbers, exists := tests[name]; !exists {
				t.Errorf("S%d names %s, which is no test", s.number, name)
			} else if s.told && !numbers[s.number] {
				t.Errorf("S%d names %s, which does not cite it", s.number, name)
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(cited)) {
		if !known[n] {
			t.Errorf("S%d is cited in %s and stands not in test/%s", n, cited[n], storyPage)
		}
	}
}

// storiesTold reads the page.
func storiesTold(t *testing.T) (stories []storyRow) {
	t.Helper()
	page, err := os.ReadFile(storyPage)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = heading
		}
		if !strings.HasPrefix(line, "| S") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 4 {
			t.Fatalf("%d cells, want 4: %s", len(cells), line)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(cells[0], "S"))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		s := storyRow{number: n, told: section == "Told by tests", source: strings.TrimSpace(cells[2]), row: line}
		for _, m := range namedTests.FindAllStringSubmatch(cells[3], -1) {
			for _, name := range testName.FindAllStringSubmatch(m[1], -1) {
				s.tests = append(s.tests, m[2]+"."+name[1])
			}
		}
		stories = append(stories, s)
	}
	return stories
}

// storiesCited reads every test of the repository: which stories each cites, and where each story is cited first.
func storiesCited(t *testing.T) (tests map[string]map[int]bool, cited map[int]string) {
	t.Helper()
	tests, cited = map[string]map[int]bool{}, map[int]string{}
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		note := func(n int) {
			if cited[n] == "" {
				cited[n] = name
			}
		}
		for n := range numbersIn(string(text)) {
			note(n)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			from := f.Pos()
			if f.Doc != nil {
				from = f.Doc.Pos()
			}
			numbers := numbersIn(string(text[files.Position(from).Offset:files.Position(f.End()).Offset]))
			if numberName.MatchString(f.Name.Name) {
				t.Errorf("%s: %s is named by a number: name it by its story", name, f.Name.Name)
			}
			tests[fmt.Sprintf("%s.%s", filepath.ToSlash(filepath.Dir(name)), f.Name.Name)] = numbers
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests, cited
}

func numbersIn(text string) map[int]bool {
	found := map[int]bool{}
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		found[n] = true
	}
	return found
}
