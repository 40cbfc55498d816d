package cli

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Variables says what ${name} stands for in the defaults and enumerations of a grammar. As [kong.Vars] each of them would be read again for
// every flag of every command, which was most of the time that a command took to start.
func Variables(values map[string]string) kong.Option {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "${"+name+"}", value)
	}
	r := strings.NewReplacer(pairs...)
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model.Node, func(node kong.Visitable, next kong.Next) error {
			if v, ok := node.(*kong.Value); ok {
				v.Default, v.Enum = r.Replace(v.Default), r.Replace(v.Enum)
			}
			return next(nil)
		})
	})
}
