package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/klarna-renewals/renewals/cmd/internal/cli"
	"github.com/klarna-renewals/renewals/worker/desk"
)

// money adds up amounts by verdict and currency.
type money map[desk.Verdict]map[string]int64

func (m *money) add(v desk.Verdict, minor int64, currency string) {
	if *m == nil {
		*m = money{}
	}
	if (*m)[v] == nil {
		(*m)[v] = map[string]int64{}
	}
	(*m)[v][strings.ToUpper(currency)] += minor
}

func (m money) String() string {
	var say []string
	for _, v := range slices.Sorted(maps.Keys(m)) {
		for _, currency := range slices.Sorted(maps.Keys(m[v])) {
			say = append(say, fmt.Sprintf("%s %s", v, cli.Amount(m[v][currency], currency)))
		}
	}
	return strings.Join(say, ", ")
}
