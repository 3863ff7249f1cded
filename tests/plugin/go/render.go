// Renders notification templates with Go's own engine, and the functions and methods that Grafana and Alertmanager add.
// Reads {"template": …, "names": […], "data": …} and writes a map from name to text.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
	"text/template"
	"time"
)

type pair struct{ Name, Value string }

type pairs map[string]string

func (all pairs) SortedPairs() (found []pair) {
	for name, value := range all {
		found = append(found, pair{name, value})
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Name < found[j].Name })
	return found
}

type alert struct {
	Status, ValueString, GeneratorURL, SilenceURL, DashboardURL, PanelURL string
	Labels, Annotations                                                  pairs
	StartsAt, EndsAt                                                     time.Time
}

type alerts []alert

func (all alerts) with(status string) (found []alert) {
	for _, item := range all {
		if item.Status == status {
			found = append(found, item)
		}
	}
	return found
}
func (all alerts) Firing() []alert   { return all.with("firing") }
func (all alerts) Resolved() []alert { return all.with("resolved") }

type data struct {
	Receiver, Status, ExternalURL                string
	Alerts                                       alerts
	GroupLabels, CommonLabels, CommonAnnotations pairs
}

func main() {
	var asked struct {
		Template string
		Names    []string
		Data     data
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	functions := template.FuncMap{
		"toUpper": strings.ToUpper, "toLower": strings.ToLower, "title": strings.Title, "trimSpace": strings.TrimSpace,
		"join":  func(sep string, s []string) string { return strings.Join(s, sep) },
		"match": regexp.MatchString,
		"reReplaceAll": func(pattern, replacement, text string) string {
			return regexp.MustCompile(pattern).ReplaceAllString(text, replacement)
		},
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Funcs(functions).Parse(asked.Template))
	written := map[string]string{}
	for _, name := range asked.Names {
		var text strings.Builder
		if err := parsed.ExecuteTemplate(&text, name, asked.Data); err != nil {
			panic(fmt.Sprintf("%s: %v", name, err))
		}
		written[name] = text.String()
	}
	json.NewEncoder(os.Stdout).Encode(written)
}
