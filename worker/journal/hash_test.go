package journal

import (
	"fmt"
	"testing"
)

func TestHashTellsPartsApart(t *testing.T) {
	seen := map[string]string{}
	for _, parts := range [][]string{{"a", "bc"}, {"ab", "c"}, {"abc"}, {"abc", ""}, {"", "abc"}, {"a", "b", "c"}} {
		h := Hash([]byte(parts[len(parts)-1]), parts[:len(parts)-1]...)
		if other, ok := seen[h]; ok {
			t.Errorf("hash(%q) = hash(%s)", parts, other)
		}
		seen[h] = fmt.Sprintf("%q", parts)
	}
}
