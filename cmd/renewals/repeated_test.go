package main

import (
	"strings"
	"testing"

	"github.com/klarna-renewals/renewals/messages"
)

func TestRepeatedReferences(t *testing.T) {
	var r repeated
	for _, c := range []struct {
		renewal, first, second string
		want                   bool
	}{
		{"s1.p1", "ref-1", "", false}, {"s1.p1", "ref-1", "", false}, // the next attempt
		{"s1.p2", "ref-1", "", true}, {"s1.p2", "ref-1", "b", false}, {"s2.p1", "", "", false}, {"s3.p1", "", "", false},
		{"s2.p1", "ref-1", "b", true},
	} {
		if got := r.note(messages.Renewal(c.renewal), c.first, c.second); got != c.want {
			t.Errorf("%+v: found %t", c, got)
		}
	}
	var said strings.Builder
	if r.report(&said); !strings.Contains(said.String(), "warning: 2 jobs have the merchant references of another renewal") || !strings.Contains(said.String(), "--stamp") {
		t.Errorf("found %q", said.String())
	}
}
