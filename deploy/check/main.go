// Command check parses what deploy holds with the tools that will read it: kustomize and the types of the Kubernetes API,
// KEDA's own schema, compose's loader and BuildKit's parser, all of them strictly: an unknown field is an error. What of it
// refers to each other has to fit. It is a module of its own, so that none of this is a dependency of the program.
//
//	check DEPLOY     everything in the folder DEPLOY
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("expected the folder to check")
	}
	dir := args[0]
	return errors.Join(
		kustomizations(dir, "base", "overlays/example", "provision", "nack"),
		prometheusRule(dir),
		compose(dir),
		image(dir),
	)
}

// kinds are the objects that may be among ours.
var kinds = map[string]func() any{
	"v1/ServiceAccount":                       func() any { return new(core.ServiceAccount) },
	"v1/Service":                              func() any { return new(core.Service) },
	"v1/ConfigMap":                            func() any { return new(core.ConfigMap) },
	"apps/v1/Deployment":                      func() any { return new(apps.Deployment) },
	"batch/v1/Job":                            func() any { return new(batch.Job) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
}

// kustomizations builds each and decodes what comes out.
func kustomizations(dir string, names ...string) error {
	keda, err := scaledObject()
	if err != nil {
		return err
	}
	var all cluster
	for _, name := range names {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(dir, "kubernetes", name))
		if err != nil {
			return fmt.Errorf("kubernetes/%s: %w", name, err)
		}
		var seen []string
		for _, r := range built.Resources() {
			kind := r.GetApiVersion() + "/" + r.GetKind()
			seen = append(seen, r.GetKind())
			text, err := r.AsYAML()
			if err != nil {
				return fmt.Errorf("kubernetes/%s: %s: %w", name, kind, err)
			}
			switch object := kinds[kind]; {
			case object != nil:
				typed := object()
				err = strict(text, typed)
				all.add(typed)
			case kind == "keda.sh/v1alpha1/ScaledObject":
				err = keda.check(text)
			case strings.HasPrefix(kind, "jetstream.nats.io/v1beta2/"):
				// A test of the parent module compares them field by field with what provision makes.
			default:
				err = errors.New("a kind that nobody checks")
			}
			if err != nil {
				return fmt.Errorf("kubernetes/%s: %s %s: %w", name, kind, r.GetName(), err)
			}
		}
		slices.Sort(seen)
		fmt.Printf("kubernetes/%s: %s\n", name, strings.Join(seen, ", "))
	}
	return all.fits()
}

// cluster is what refers to each other.
type cluster struct {
	workers  *apps.Deployment
	job      *batch.Job
	service  *core.Service
	budget   *policy.PodDisruptionBudget
	network  *networking.NetworkPolicy
	scraping *monitoring.ServiceMonitor
}

func (c *cluster) add(object any) {
	switch o := object.(type) {
	case *apps.Deployment:
		c.workers = o
	case *batch.Job:
		c.job = o
	case *core.Service:
		c.service = o
	case *policy.PodDisruptionBudget:
		c.budget = o
	case *networking.NetworkPolicy:
		c.network = o
	case *monitoring.ServiceMonitor:
		c.scraping = o
	}
}

// fits says which selector selects something else than it is for, and which port or image is not what it must be.
func (c *cluster) fits() error {
	if c.workers == nil || c.job == nil || c.service == nil || c.budget == nil || c.network == nil || c.scraping == nil || c.budget.Spec.Selector == nil {
		return errors.New("kubernetes: a Deployment, a Job, a Service, a NetworkPolicy, a ServiceMonitor or a PodDisruptionBudget with a selector is missing")
	}
	pod, other := c.workers.Spec.Template, c.job.Spec.Template
	type selection struct {
		what     string
		selector map[string]string
		job      bool // whether it is for the Job's pods, too
	}
	selections := []selection{
		{"Deployment", c.workers.Spec.Selector.MatchLabels, false}, {"Service", c.service.Spec.Selector, false},
		{"PodDisruptionBudget", c.budget.Spec.Selector.MatchLabels, false}, {"NetworkPolicy", c.network.Spec.PodSelector.MatchLabels, true},
	}
	for _, spread := range pod.Spec.TopologySpreadConstraints {
		selections = append(selections, selection{"topologySpreadConstraints", spread.LabelSelector.MatchLabels, false})
	}
	var wrong []error
	for _, s := range selections {
		if !selects(s.selector, pod.Labels) || selects(s.selector, other.Labels) != s.job {
			wrong = append(wrong, fmt.Errorf("kubernetes: the selector of the %s, %v: selects workers %t, the Job %t; want true and %t", s.what, s.selector, selects(s.selector, pod.Labels), selects(s.selector, other.Labels), s.job))
		}
	}
	if !selects(c.scraping.Spec.Selector.MatchLabels, c.service.Labels) || c.service.Labels[c.scraping.Spec.JobLabel] != "renewals" {
		wrong = append(wrong, errors.New("kubernetes: the ServiceMonitor does not select the Service, or its job is not renewals"))
	}
	for _, e := range c.scraping.Spec.Endpoints {
		if !slices.ContainsFunc(c.service.Spec.Ports, func(p core.ServicePort) bool {
			return p.Name == e.Port && slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(c core.ContainerPort) bool { return c.Name == p.TargetPort.String() })
		}) {
			wrong = append(wrong, fmt.Errorf("kubernetes: no worker serves port %s of the ServiceMonitor", e.Port))
		}
	}
	image := pod.Spec.Containers[0].Image
	if _, tag, _ := strings.Cut(image, ":"); tag == "" || tag == "latest" || image != other.Spec.Containers[0].Image {
		wrong = append(wrong, fmt.Errorf("kubernetes: images %s and %s, want the same release", image, other.Spec.Containers[0].Image))
	}
	return errors.Join(wrong...)
}

// selects reports whether a selector that selects something at all selects these labels.
func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// strict decodes as an API server does that validates fields strictly: names are told apart by case, too.
func strict(text []byte, into any) error {
	object, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	unknown, err := kubejson.UnmarshalStrict(object, into)
	return errors.Join(append(unknown, err)...)
}

// kedaVersion is the release whose schema of a ScaledObject is used.
const kedaVersion = "v2.18.0"

// keda is what KEDA's module says of a ScaledObject: its schema, with every field that it does not name forbidden, and the
// metadata that the nats-jetstream scaler reads, which the schema leaves open.
// https://keda.sh/docs/latest/scalers/nats-jetstream/
type keda struct {
	schema   *jsonschema.Schema
	metadata map[string]bool
}

func scaledObject() (*keda, error) {
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/kedacore/keda/v2@"+kedaVersion).Output()
	if err != nil {
		return nil, fmt.Errorf("download KEDA's schemas: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "config/crd/bases/keda.sh_scaledobjects.yaml"))
	if err != nil {
		return nil, err
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return nil, err
	}
	schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	forbidUnknown(schema["properties"].(map[string]any)["spec"])
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("scaledobject", schema); err != nil {
		return nil, err
	}
	k := &keda{metadata: map[string]bool{}}
	if k.schema, err = compiler.Compile("scaledobject"); err != nil {
		return nil, err
	}
	source, err := os.ReadFile(filepath.Join(module.Dir, "pkg/scalers/nats_jetstream_scaler.go"))
	for _, field := range regexp.MustCompile(`keda:"name=(\w+)`).FindAllSubmatch(source, -1) {
		k.metadata[string(field[1])] = true
	}
	return k, err
}

func (k *keda) check(text []byte) error {
	var object any
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		return err
	}
	if err := k.schema.Validate(object); err != nil {
		return err
	}
	var scaled struct {
		Spec struct {
			Triggers []struct {
				Type     string
				Metadata map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &scaled); err != nil {
		return err
	}
	for _, t := range scaled.Spec.Triggers {
		for name := range t.Metadata {
			if t.Type != "nats-jetstream" || !k.metadata[name] {
				return fmt.Errorf("trigger %s: the scaler nats-jetstream reads no %s", t.Type, name)
			}
		}
	}
	return nil
}

func forbidUnknown(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, ok := s["properties"].(map[string]any); ok && s["additionalProperties"] == nil && s["x-kubernetes-preserve-unknown-fields"] == nil {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			forbidUnknown(v)
		}
	case []any:
		for _, v := range s {
			forbidUnknown(v)
		}
	}
}

// prometheusRule makes of the rules what kubernetes/base/monitoring.yaml tells to make of them.
func prometheusRule(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "prometheus/rules.yaml"))
	if err != nil {
		return err
	}
	whole := "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: renewals}\nspec:\n  " + strings.ReplaceAll(string(text), "\n", "\n  ")
	var rule monitoring.PrometheusRule
	if err := strict([]byte(whole), &rule); err != nil {
		return fmt.Errorf("prometheus/rules.yaml as a PrometheusRule: %w", err)
	}
	fmt.Printf("prometheus/rules.yaml: a PrometheusRule of %d groups\n", len(rule.Spec.Groups))
	return nil
}

func compose(dir string) error {
	options, err := cli.NewProjectOptions([]string{filepath.Join(dir, "compose.yaml")}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return fmt.Errorf("compose.yaml: %w", err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return fmt.Errorf("compose.yaml: %w", err)
	}
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				return fmt.Errorf("compose.yaml: service %s: %w", s.Name, err)
			}
		}
	}
	fmt.Printf("compose.yaml: %s\n", strings.Join(project.ServiceNames(), ", "))
	return nil
}

// image checks what a worker's image promises: nobody's user, no shell, and a version to be stamped.
func image(dir string) error {
	stages, err := dockerfile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		return err
	}
	last := stages[len(stages)-1]
	var user, entrypoint string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entrypoint = strings.Join(c.CmdLine, " ")
			if c.PrependShell {
				return errors.New("Dockerfile: the entry point needs a shell")
			}
		case *instructions.RunCommand:
			return errors.New("Dockerfile: the last stage runs something, and has nothing to run it with")
		}
	}
	if last.BaseName != "scratch" || user != "65532:65532" || entrypoint != "/renewals" {
		return fmt.Errorf("Dockerfile: ends as %s, user %q, entry point %q", last.BaseName, user, entrypoint)
	}
	fmt.Printf("Dockerfile: %d stages, from %s as %s\n", len(stages), last.BaseName, user)
	return nil
}

func dockerfile(path string) ([]instructions.Stage, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return stages, nil
}
