package klarnasim

import (
	"regexp"
	"strings"
	"testing"
)

// Every behaviour that the package comment lists has a case, and every case is one.
func TestCases(t *testing.T) {
	t.Parallel()
	endsIn, named, seen := map[ending]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range Cases() {
		if err := CheckCase(c.Name); err != nil || c.Answers == "" || seen[c.Name] {
			t.Errorf("%s: %v, answers %q, listed before: %t", c.Name, err, c.Answers, seen[c.Name])
		}
		seen[c.Name] = true
		b := parse(c.Name + "-")
		endsIn[b.ending] = true
		for _, f := range faultWords() {
			if len(b.faults) > 0 && b.faults[0].answer.shape == f.answer.shape {
				named[f.text] = true
			}
		}
	}
	for e := accepted; e <= lostCancelled; e++ {
		if !endsIn[e] {
			t.Errorf("no case has the ending %d", e)
		}
	}
	for _, f := range faultWords() {
		if !named[f.text] {
			t.Errorf("no case has the fault %s", f.text)
		}
	}
}

func TestCheckCase(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"503x2-soft-decline": "", "created-cutx3": "", "slow-10-502x1-html-ok": "", "late-900-500-TIMEOUT": "", "ok": "",
		"": `"" is no behaviour`, "nonsense": `"nonsense" is no behaviour of the simulator`, "503x2-nonsense": `from "nonsense" on`, "ok-nonsense": `from "nonsense" on`,
		"slow-fast": `"slow-fast" is no behaviour`, "200": `"200" is no behaviour`,
	} {
		err := CheckCase(name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
	for text, ok := range map[string]bool{"": true, "503": true, "cut": true, "slow-100": true, "created-500": true, "nonsense": false, "ok": false, "503-nonsense": false} {
		if err := CheckOutage(text); (err == nil) != ok {
			t.Errorf("outage %q: got %v", text, err)
		}
	}
}

// A name must fit into a customer token.
func TestCasesFitIntoTokens(t *testing.T) {
	t.Parallel()
	for _, c := range Cases() {
		if !regexp.MustCompile(`^[A-Za-z0-9._~-]{1,40}$`).MatchString(c.Name) {
			t.Errorf("%q", c.Name)
		}
	}
}
