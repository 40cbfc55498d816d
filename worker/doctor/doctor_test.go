package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A fault is one thing that is broken in a deployment that is safe otherwise.
type fault struct {
	name  string
	check string   // whose finding is not ok any more, and nobody else's
	want  Verdict  // of the worst finding
	says  []string // among its findings
	is    func(w *world, p *Patient)
	mend  func(w *world) // what is() did to the deployment; what it did to the patient needs no mending
}

// TestDoctor breaks one thing after the other: each shows in its own finding, with what to do, and in no other.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	worst, text := verdicts(w.examine(w.patient))
	for _, name := range Checks() {
		if worst[name] != OK {
			t.Errorf("a safe deployment: %s: %s", name, text[name])
		}
	}
	t.Run("denied", func(t *testing.T) { w.on(t).denied() })
	t.Run("system account", func(t *testing.T) { w.on(t).systemAccount() })
	t.Run("the usual port", func(t *testing.T) { w.on(t).guesses() })
	for _, f := range slices.Concat(journalFaults, serverFaults, streamFaults, clockFaults, klarnaFaults, userFaults, workerFaults, alertFaults, waitingFaults) {
		t.Run(f.name, func(t *testing.T) {
			w := w.on(t)
			p := w.patient
			f.is(w, &p)
			found := w.examine(p)
			worst, text := verdicts(found)
			for _, name := range Checks() {
				want := OK
				if name == f.check {
					want = f.want
				}
				if worst[name] != want {
					t.Errorf("%s: %s, want %s: %s", name, worst[name], want, text[name])
				}
			}
			for _, says := range f.says {
				if !strings.Contains(text[f.check], says) {
					t.Errorf("%s does not say %q: %s", f.check, says, text[f.check])
				}
			}
			for _, one := range found {
				if (one.Verdict == NotSafe || one.Verdict == Warn) && (one.Why == "" || one.Do == "") {
					t.Errorf("it is not said why it matters or what to do: %+v", one)
				}
				if strings.Contains(fmt.Sprint(one), testKey) || strings.Contains(fmt.Sprint(one), "hunter3") {
					t.Errorf("a secret is told: %+v", one)
				}
			}
			if f.mend != nil {
				f.mend(w)
			}
		})
	}
}
