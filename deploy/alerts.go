// Package deploy holds what a deployment is made of; to programs it tells which alerts belong to it.
package deploy

import _ "embed"

// Rules is the file of alert rules for Prometheus.
//
//go:embed prometheus/rules.yaml
var Rules []byte
